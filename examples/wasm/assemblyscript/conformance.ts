// The commands of examples/wasm/conformance.md.

import { host, Kind, Reader, take, Verb, Writer } from "./actorflow";
export { actorflow_alloc } from "./actorflow";

const batch = new Reader(); // stands behind the item when an item is worked on
const command = new Reader();
const parts = new Reader();
const other = new Reader();
const out = new Writer();
const small = new Writer();

let cell: usize, cellLength: u32, key: usize, keyLength: u32; // of the command at hand
let found: usize, foundLength: u32; // what `get` gave

export function process(pointer: usize, length: u32): u64 {
  batch.over(pointer, length).read();
  out.begin().array(batch.length);
  for (let left = batch.length; left; left--) answer();
  return out.give();
}

function answer(): void {
  batch.read(); // an array of two
  command.over(batch.at, <u32>(batch.end - batch.at)).read();
  batch.skip();
  batch.skip();
  const argument = batch.bytes, length = batch.length;
  parts.over(argument, length);
  if (command.is("reply")) verb(Verb.Reply);
  else if (command.is("typed_error")) verb(Verb.Error);
  else if (command.is("log")) verb(Verb.Log);
  else if (command.is("put")) verb(Verb.Put);
  else if (command.is("delete")) verb(Verb.Delete);
  else if (command.is("add")) verb(Verb.Add);
  else if (command.is("remove")) verb(Verb.Remove);
  else if (command.is("echo")) { item(); copy(); }
  else if (command.is("bare")) copy();
  else if (command.is("nothing")) out.nil();
  else if (command.is("several")) several(int());
  else if (command.is("collatz")) { parts.read(); const n = int(); collatz(n, int()); }
  else if (command.is("trips")) trips(int());
  else if (command.is("clock")) { item(); out.float(host.clock_s()); }
  else if (command.is("deadline")) { item(); out.float(host.deadline_s()); }
  else if (command.is("request_id")) {
    const into = take(256);
    item();
    out.text(into, host.request_id(into, 256));
  } else if (command.is("error")) {
    out.array(4); out.int(Verb.Items); out.array(1); out.ascii("dropped");
    out.int(Verb.Error); out.raw(argument, length);
  } else if (command.is("host_log")) {
    parts.read();
    host.log(parts.bytes, parts.length);
    out.nil();
  } else if (command.is("trap")) unreachable();
  else if (command.is("spin")) while (true) {}
  else if (parts.read() == Kind.Array) ofCell(argument, length);
  else unknown();
}

/** The commands about a cell: its name, a key, and mostly a value. */
function ofCell(argument: usize, length: u32): void {
  parts.read();
  cell = parts.bytes; cellLength = parts.length;
  parts.skip();
  key = parts.bytes; keyLength = parts.length;
  const value = parts.at, valueLength = <u32>(argument + length - value);
  if (command.is("host_put")) { host.put(cell, cellLength, key, keyLength, value, valueLength); out.nil(); }
  else if (command.is("host_delete")) { host.remove_row(cell, cellLength, key, keyLength); out.nil(); }
  else if (command.is("host_add")) { host.add(cell, cellLength, key, keyLength, value, valueLength); out.nil(); }
  else if (command.is("host_remove")) { host.remove(cell, cellLength, key, keyLength, value, valueLength); out.nil(); }
  else if (command.is("get")) {
    const there = get();
    item();
    if (there) out.raw(found, foundLength);
    else out.ascii("absent");
  } else if (command.is("room")) room(int());
  else if (command.is("sum")) sum(int());
  else if (command.is("put_then_error")) {
    host.put(cell, cellLength, key, keyLength, value, valueLength);
    out.array(4); out.int(Verb.Put); out.raw(argument, length);
    out.int(Verb.Error); out.ascii("after");
  } else unknown();
}

/** Read a value of `parts` and write it anew. */
function copy(): void {
  let inside: u64 = 0;
  switch (parts.read()) {
    case Kind.Nil: return out.nil();
    case Kind.Bool: return out.bool(parts.integer != 0);
    case Kind.Int: return out.int(parts.integer);
    case Kind.Positive: return out.positive(parts.integer);
    case Kind.Float: return out.float(parts.number);
    case Kind.Text: return out.text(parts.bytes, parts.length);
    case Kind.Bytes: return out.bytes(parts.bytes, parts.length);
    case Kind.Array: { inside = parts.length; out.array(parts.length); break; }
    case Kind.Map: { inside = 2 * <u64>parts.length; out.map(parts.length); break; }
  }
  for (; inside; inside--) copy();
}

function int(): i64 { parts.read(); return parts.integer; }

/** Begin an outcome of one item. */
function item(): void { out.verb(Verb.Items); out.array(1); }

function verb(what: Verb): void { out.verb(what); out.raw(batch.bytes, batch.length); }

function unknown(): void { out.verb(Verb.Error); out.ascii("no such command"); }

function several(count: i64): void {
  out.verb(Verb.Items);
  out.array(<u32>count);
  for (let n: i64 = 0; n < count; n++) out.int(n);
}

function collatz(n: i64, soFar: i64): void {
  if (n == 1) { item(); return out.int(soFar); }
  out.verb(Verb.Feedback); out.array(2); out.ascii("collatz");
  out.array(2); out.int(n % 2 ? 3 * n + 1 : n / 2); out.int(soFar + 1);
}

function trips(n: i64): void {
  if (host.round() >= n) { item(); return out.int(host.round()); }
  out.verb(Verb.Feedback); out.array(2); out.ascii("trips"); out.int(n);
}

/** Look for what the cell has under the key: it is in `found`, if it is there. */
function get(): bool {
  let room: u32 = 16;
  while (true) {
    found = take(room);
    const length = host.get(cell, cellLength, key, keyLength, found, room);
    if (length < 0) return false;
    foundLength = length;
    if (foundLength <= room) return true;
    room = foundLength;
  }
}

function room(size: i64): void {
  const into = take(size);
  memory.fill(into, 0xc1, <usize>size); // in no MessagePack
  const length = host.get(cell, cellLength, key, keyLength, into, <u32>size);
  let filled = false;
  for (let at = into; at < into + <usize>size; at++) filled = filled || load<u8>(at) != 0xc1;
  item(); out.array(2); out.int(length); out.bool(filled);
}

function sum(more: i64): void {
  if (get()) { other.over(found, foundLength).read(); more += other.integer; }
  small.begin().int(more);
  host.put(cell, cellLength, key, keyLength, small.start, small.length);
  item(); out.array(2); out.raw(key, keyLength); out.raw(small.start, small.length);
}
