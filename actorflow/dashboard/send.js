// The form that sends a request, and the answers, each with its replies as they come.

import { byId, el, say } from "./element.js";
import { Problem, call, events } from "./host.js";
import { linkTo } from "./requests.js";
import { count, cut, indented, latency } from "./text.js";

const ANSWERS_MAX = 10, REPLIES_MAX = 200, REPLY_CHARACTERS_MAX = 20_000; // what a page can show and stay quick

const form = byId("send"), item = byId("item"), lines = byId("lines"), timeout = byId("timeout");
const drafts = new Map(); // what was typed for each stream
let stream = null;

/** Have the form send to a stream. */
export function sendTo(chosen) {
  if (stream) drafts.set(stream.name, item.value);
  stream = chosen;
  item.value = drafts.get(stream.name) ?? JSON.stringify(stream.example ?? null, null, 2);
  timeout.value = "";
  timeout.placeholder = stream.timeout_s;
  form.elements.how.value = stream.replies === "many" ? "stream" : "reply";
  lines.checked = false; // what is filled in is one item
  check();
}

/** Say at once what is wrong with the text; returns whether it can be sent. */
function check() {
  const texts = lines.checked ? item.value.split("\n").filter((line) => line.trim()) : [item.value];
  let fault = "";
  texts.some((text, number) => {
    try {
      JSON.parse(text);
    } catch (error) {
      fault = (lines.checked ? `line ${number + 1}: ` : "") + error.message.replace(" in JSON", "");
    }
    return fault;
  });
  say(byId("item-fault"), fault);
  item.setAttribute("aria-invalid", Boolean(fault));
  return !fault;
}

item.addEventListener("input", check);
lines.addEventListener("change", check);
item.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (check()) send();
  else item.focus();
});

async function send() {
  const how = form.elements.how.value;
  const answer = begin(stream.name);
  const query = timeout.value ? `?timeout_s=${timeout.value}` : "";
  const path = `/streams/${encodeURIComponent(stream.name)}${how === "send" ? "/send" : ""}${query}`;
  try {
    const response = await call("POST", path, {
      headers: {
        "Content-Type": lines.checked ? "application/x-ndjson" : "application/json",
        Accept: how === "stream" ? "text/event-stream" : "application/json",
      },
      body: item.value,
      signal: answer.signal,
    });
    answer.requestIs(response.headers.get("X-Request-Id"));
    if (how === "stream") await show(response, answer);
    else if (how === "send") answer.requestIs((await response.json()).request_id);
    else answer.reply(await response.text());
    answer.end(`${response.status} ${how === "send" ? "sent" : "done"}`);
  } catch (problem) {
    if (problem.name === "AbortError") answer.end("stopped by you");
    else answer.end([problem.status || "failed", problem.kind].join(" "), problem.message);
  }
}

async function show(response, answer) {
  for await (const { event, data } of events(response)) {
    if (event === "reply") answer.reply(data);
    else if (event === "error") throw new Problem(JSON.parse(data).status, JSON.parse(data));
    else if (event === "end") return;
  }
  throw new Problem(0, { detail: "the host went away before the end" });
}

/** Begin an answer, on top of the others; returns what fills it. */
function begin(name) {
  const began = performance.now();
  const stopping = new AbortController();
  const status = el("span", { class: "status" }, "waiting …"), id = el("a"), text = el("p", { class: "fault" });
  const stop = el("button", { type: "button", onclick: () => stopping.abort() }, "Stop");
  const replies = el("ol", { class: "replies" }), more = el("p", { class: "quiet" });
  const head = el("div", { class: "row" }, el("strong", {}, name), status, id, stop);
  byId("answers").prepend(el("li", { "data-state": "open" }, head, replies, more, text));
  while (byId("answers").childElementCount > ANSWERS_MAX) byId("answers").lastChild.remove();
  let came = 0;
  return {
    signal: stopping.signal,
    requestIs(request) {
      if (!request) return;
      id.href = linkTo(name, request);
      say(id, request);
    },
    reply(json) {
      came += 1;
      say(status, `${count(came)} ${came === 1 ? "reply" : "replies"} after ${latency(performance.now() - began)}`);
      if (came > REPLIES_MAX) return say(more, `… and ${count(came - REPLIES_MAX)} more`);
      replies.append(el("li", {}, el("pre", {}, indented(cut(json, REPLY_CHARACTERS_MAX)))));
    },
    end(how, why = "") {
      say(status, `${how} · ${latency(performance.now() - began)}`);
      say(text, why);
      stop.remove();
      head.parentNode.dataset.state = why ? "failed" : "done";
    },
  };
}
