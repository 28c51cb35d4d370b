// A client in plain JavaScript, for browsers and for Node 22 or later; `actorflow/wire.py` describes the frames.
//
//   const client = await Client.connect("http://127.0.0.1:7700");
//   await client.request("hello", "world", { timeout_s: 2, signal });
//   for await (const reply of client.stream("squares", [1, 2, 3])) console.log(reply);
import { decode, encode } from "./messagepack.mjs";

const [HELLO, REQUEST, ITEMS, END, CREDIT, CANCEL] = [0, 1, 2, 3, 4, 5], VERSION = 3;
const [WELCOME, REPLY, VALUES, DONE, ERROR, ACCEPTED, ROOM] = [16, 17, 18, 19, 20, 21, 22];

/** How a request ended badly: `type` says it, such as "DeadlineExceededError"; whatever else the host said is there. */
export class ActorflowError extends Error {
  constructor(said) { super(said.message); Object.assign(this, said); }
}

class Exchange { // one request, as the client sees it
  values = []; room = 0; ended = false; #waiting = [];
  constructor(number) { this.number = number; }
  receive(kind, content) {
    if (kind === VALUES) this.values.push(...content);
    else if (kind === ROOM) this.room += content;
    else if (kind === ACCEPTED) this.id = content;
    else if (kind === ERROR) this.error = new ActorflowError(content);
    else if (kind === REPLY) this.value = content;
    this.ended ||= kind === REPLY || kind === DONE || kind === ERROR;
    for (const wake of this.#waiting.splice(0)) wake();
  }
  async until(ready) { // or until the end, which is thrown if it is a bad one
    while (!ready() && !this.ended) await new Promise((wake) => this.#waiting.push(wake));
    if (!ready() && this.error) throw this.error;
  }
}

export class Client {
  #socket; #open = new Map(); #count = 0;

  static async connect(url, headers = {}) { // headers, such as Authorization, are sent by Node only
    const client = new Client(), options = globalThis.document ? [] : { headers };
    const socket = (client.#socket = new WebSocket(url.replace(/^http/, "ws") + "/wire", options));
    socket.binaryType = "arraybuffer";
    await new Promise((welcome, refuse) => {
      let message = `${url} closed the connection, or no host is there`;
      socket.onopen = () => client.#put([HELLO, VERSION, "plain"]);
      socket.onclose = socket.onerror = () => {
        const lost = { type: "ConnectionLostError", message };
        for (const exchange of client.#open.values()) exchange.receive(ERROR, lost);
        refuse(new ActorflowError(lost));
      };
      socket.onmessage = ({ data }) => {
        for (const [kind, number, content] of decode(data)) {
          if (kind === WELCOME) welcome();
          else if (number === null) message = content.message; // the connection's own error, and its end
          else client.#open.get(number)?.receive(kind, content);
        }
      };
    });
    return client;
  }

  close() { this.#socket.close(); }

  /** Send one item and await the reply. Options: timeout_s, attributes, key (who asks again with it gets the one answer),
   *  signal (of an AbortController, which cancels). */
  async request(stream, item, options = {}) {
    const exchange = this.#begin("one", stream, item, options), { signal } = options;
    const cancel = () => this.#cancel(exchange.number);
    try {
      if (signal?.aborted) cancel();
      signal?.addEventListener("abort", cancel);
      await exchange.until(() => false);
      return exchange.value;
    } finally {
      signal?.removeEventListener("abort", cancel);
      this.#open.delete(exchange.number);
    }
  }

  /** Send one item and await that it is accepted: the id of its request. Its errors become dead letters of the host. */
  async send(stream, item, options = {}) {
    const exchange = this.#begin("send", stream, item, options);
    await exchange.until(() => exchange.id).finally(() => this.#open.delete(exchange.number));
    return exchange.id;
  }

  /** Send the items of any iterable as there is room for them, and iterate over the replies. To leave early cancels. */
  async *stream(stream, items, options = {}) {
    const exchange = this.#begin("stream", stream, null, options), { number } = exchange;
    this.#feed(exchange, items).catch((error) => exchange.receive(ERROR, { type: error.name, message: `${error}` }));
    try {
      for (;;) {
        await exchange.until(() => exchange.values.length);
        const values = exchange.values.splice(0);
        if (!values.length) return;
        this.#put([CREDIT, number, values.length]);
        yield* values;
      }
    } finally {
      this.#open.delete(number);
      exchange.receive(DONE); // also ends the feeding
      this.#cancel(number); // which means nothing to a request that has ended
    }
  }

  async #feed(exchange, items) {
    for await (const item of items) {
      await exchange.until(() => exchange.room);
      if (exchange.ended) return;
      exchange.room -= 1;
      this.#put([ITEMS, exchange.number, [item]]);
    }
    this.#put([END, exchange.number]);
  }

  #begin(mode, stream, item, { timeout_s = null, attributes = null, key = null }) {
    const exchange = new Exchange(++this.#count);
    this.#put([REQUEST, exchange.number, stream, item, timeout_s, attributes, mode, key]);
    this.#open.set(exchange.number, exchange);
    return exchange;
  }

  #cancel(number) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#put([CANCEL, number]);
  }

  #put(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) return this.#socket.send(encode([frame]));
    throw new ActorflowError({ type: "ConnectionLostError", message: "the connection to the host is closed" });
  }
}
