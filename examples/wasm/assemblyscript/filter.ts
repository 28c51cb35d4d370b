// Which words stay: those of at least three letters that are not in a short list. For filter.

import { Kind, Reader, Writer } from "./actorflow";
export { actorflow_alloc } from "./actorflow";

const STOP: StaticArray<string> = ["the", "and", "for", "are", "was", "not", "you", "with", "that", "this", "from"];

const batch = new Reader();
const out = new Writer();

/** How many letters UTF-8 text has: bytes that continue one are none. */
function letters(from: usize, length: u32): u32 {
  let count: u32 = 0;
  for (let at = from; at < from + length; at++) count += u32((load<u8>(at) & 0xc0) != 0x80);
  return count;
}

function stays(): bool {
  if (letters(batch.bytes, batch.length) < 3) return false;
  for (let i = 0; i < STOP.length; i++) if (batch.is(STOP[i])) return false;
  return true;
}

export function keep(pointer: usize, length: u32): u64 {
  batch.over(pointer, length).read();
  out.begin().array(batch.length);
  for (let left = batch.length; left; left--) {
    if (batch.read() != Kind.Text) unreachable();
    out.bool(stays());
  }
  return out.give();
}
