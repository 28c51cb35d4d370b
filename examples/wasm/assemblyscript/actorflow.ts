// A function for actorflow, in AssemblyScript: batches in, outcomes out. The contract: docs/contract.md.
//
// Compiled with `--runtime stub`, whose allocator only goes forward, and nothing here allocates by it: memory is an arena
// of our own. What `take` gives lives until the next batch, and the next begins where this one began. So memory is as
// large as the largest batch needs; objects of classes and strings that are made while working would not be. Readers and
// writers are made once for that reason. What is no MessagePack ends in a trap.

// -- what the host offers; text, bytes, keys and values are a pointer and a length

export namespace host {
  // prettier-ignore
  @external("actorflow", "get")
  export declare function get(cell: usize, cellLength: u32, key: usize, keyLength: u32, into: usize, room: u32): i32;
  @external("actorflow", "put")
  export declare function put(cell: usize, cellLength: u32, key: usize, keyLength: u32, value: usize, length: u32): void;
  @external("actorflow", "delete")
  export declare function remove_row(cell: usize, cellLength: u32, key: usize, keyLength: u32): void;
  @external("actorflow", "add")
  export declare function add(cell: usize, cellLength: u32, key: usize, keyLength: u32, value: usize, length: u32): void;
  @external("actorflow", "remove")
  export declare function remove(cell: usize, cellLength: u32, key: usize, keyLength: u32, value: usize, length: u32): void;
  @external("actorflow", "clock_s")
  export declare function clock_s(): f64;
  @external("actorflow", "deadline_s")
  export declare function deadline_s(): f64;
  @external("actorflow", "round")
  export declare function round(): i32;
  @external("actorflow", "request_id")
  export declare function request_id(into: usize, room: u32): i32;
  @external("actorflow", "log")
  export declare function log(text: usize, length: u32): void;
}

// -- memory

let base: usize = 0; // where the arena begins: behind all that was made at the start
let top: usize = 0;

export function take(bytes: u64): usize {
  const from = top;
  const end = <u64>from + ((bytes + 15) & ~15);
  const have = <u64>memory.size() << 16;
  if (end > have && (end >> 32 != 0 || memory.grow(<i32>((end - have + 65535) >> 16)) < 0)) unreachable();
  top = <usize>end;
  return from;
}

export function actorflow_alloc(bytes: u32): usize {
  if (!base) base = (heap.alloc(16) + 15) & ~15;
  top = base;
  return take(bytes);
}

// -- reading

export const enum Kind { Nil, Bool, Int, Positive, Float, Text, Bytes, Array, Map }

/** Reads values one after another; what was read last is in its fields. */
export class Reader {
  at: usize = 0;
  end: usize = 0;
  bytes: usize = 0; // where text and bytes lie
  length: u32 = 0; // of text and bytes; of arrays and maps how many items, or pairs, come next
  integer: i64 = 0; // Int and Bool; of Positive the bits: above what an i64 holds
  number: f64 = 0;

  over(at: usize, length: u32): this {
    this.at = at;
    this.end = at + length;
    return this;
  }

  /** Read one value; of an array or a map its head only. */
  read(): Kind {
    const tag = <u32>this.big(1);
    if (tag < 0x80) return this.int(tag);
    if (tag < 0x90) return this.head(Kind.Map, tag & 15);
    if (tag < 0xa0) return this.head(Kind.Array, tag & 15);
    if (tag < 0xc0) return this.span(Kind.Text, tag & 31);
    if (tag >= 0xe0) return this.int(<i8>tag);
    switch (tag) {
      case 0xc0: return Kind.Nil;
      case 0xc2: case 0xc3: { this.integer = tag & 1; return Kind.Bool; }
      case 0xc4: case 0xc5: case 0xc6: return this.span(Kind.Bytes, <u32>this.big(1 << (tag - 0xc4)));
      case 0xca: { this.number = reinterpret<f32>(<u32>this.big(4)); return Kind.Float; }
      case 0xcb: { this.number = reinterpret<f64>(this.big(8)); return Kind.Float; }
      case 0xcc: case 0xcd: case 0xce: case 0xcf: {
        this.integer = this.big(1 << (tag - 0xcc));
        return this.integer < 0 ? Kind.Positive : Kind.Int;
      }
      case 0xd0: return this.int(<i8>this.big(1));
      case 0xd1: return this.int(<i16>this.big(2));
      case 0xd2: return this.int(<i32>this.big(4));
      case 0xd3: return this.int(this.big(8));
      case 0xd9: case 0xda: case 0xdb: return this.span(Kind.Text, <u32>this.big(1 << (tag - 0xd9)));
      case 0xdc: case 0xdd: return this.head(Kind.Array, <u32>this.big(2 << (tag - 0xdc)));
      case 0xde: case 0xdf: return this.head(Kind.Map, <u32>this.big(2 << (tag - 0xde)));
      default: unreachable(); return Kind.Nil;
    }
  }

  /** Pass over one value with all that is in it; where it lies is in `bytes` and `length`. */
  skip(): void {
    const from = this.at;
    for (let left: u64 = 1; left; left--) {
      const kind = this.read();
      if (kind == Kind.Array) left += this.length;
      else if (kind == Kind.Map) left += 2 * <u64>this.length;
    }
    this.bytes = from;
    this.length = <u32>(this.at - from);
  }

  /** Whether the text that was read last is a word, which is given as a string of ASCII. */
  is(word: string): bool {
    if (<u32>word.length != this.length) return false;
    for (let i = 0; i < word.length; i++)
      if (load<u8>(this.bytes + i) != <u8>load<u16>(changetype<usize>(word) + 2 * i)) return false;
    return true;
  }

  private int(value: i64): Kind { this.integer = value; return Kind.Int; }
  private head(kind: Kind, length: u32): Kind { this.length = length; return kind; }

  private span(kind: Kind, length: u32): Kind {
    if (length > <u32>(this.end - this.at)) unreachable();
    this.bytes = this.at;
    this.length = length;
    this.at += length;
    return kind;
  }

  private big(bytes: u32): u64 {
    if (bytes > <u32>(this.end - this.at)) unreachable();
    let value: u64 = 0;
    for (; bytes; bytes--) value = (value << 8) | load<u8>(this.at++);
    return value;
  }
}

// -- writing: everything in its shortest form

export const enum Verb { Items, Reply, Feedback, Error, Log, Put, Delete, Add, Remove }

export class Writer {
  start: usize = 0;
  at: usize = 0;
  end: usize = 0;

  /** Begin anew, in memory of this batch. */
  begin(): this {
    this.start = this.at = this.end = 0;
    return this;
  }

  get length(): u32 { return <u32>(this.at - this.start); }

  nil(): void { this.head(0xc0, 0, 0); }
  bool(value: bool): void { this.head(value ? 0xc3 : 0xc2, 0, 0); }

  positive(value: u64): void {
    if (value < 0x80) this.head(<u32>value, 0, 0);
    else this.sized(0xcc, value, 1);
  }

  int(value: i64): void {
    if (value >= 0) this.positive(value);
    else if (value >= -32) this.head(<u8>value, 0, 0);
    else if (value >= -0x80) this.head(0xd0, value, 1);
    else if (value >= -0x8000) this.head(0xd1, value, 2);
    else if (value >= -0x80000000) this.head(0xd2, value, 4);
    else this.head(0xd3, value, 8);
  }

  float(value: f64): void { this.head(0xcb, reinterpret<u64>(value), 8); }

  raw(bytes: usize, length: u32): void {
    this.room(length);
    memory.copy(this.at, bytes, length);
    this.at += length;
  }

  text(bytes: usize, length: u32): void {
    if (length < 32) this.head(0xa0 | length, 0, 0);
    else this.sized(0xd9, length, 1);
    this.raw(bytes, length);
  }

  bytes(bytes: usize, length: u32): void {
    this.sized(0xc4, length, 1);
    this.raw(bytes, length);
  }

  /** Write a string of ASCII as text. */
  ascii(word: string): void {
    this.head(0xa0 | word.length, 0, 0); // below 32 letters
    this.room(word.length);
    for (let i = 0; i < word.length; i++) store<u8>(this.at++, load<u16>(changetype<usize>(word) + 2 * i));
  }

  array(count: u32): void {
    if (count < 16) this.head(0x90 | count, 0, 0);
    else this.sized(0xdc, count, 2);
  }

  map(count: u32): void {
    if (count < 16) this.head(0x80 | count, 0, 0);
    else this.sized(0xde, count, 2);
  }

  /** Begin an outcome with one verb; its argument is written next. */
  verb(what: Verb): void {
    this.array(2);
    this.int(what);
  }

  /** What a function returns: where its outcomes lie. */
  give(): u64 { return (<u64>this.start << 32) | this.length; }

  /** A tag of the first of the sizes that come after one another: 1, 2, 4 and 8 bytes, or from 2 on. */
  private sized(tag: u32, value: u64, size: u32): void {
    for (; size < 8 && value >> (8 * size) != 0; size *= 2) tag++;
    this.head(tag, value, size);
  }

  private head(tag: u32, value: u64, size: u32): void {
    this.room(9);
    store<u8>(this.at++, tag);
    while (size--) store<u8>(this.at++, value >> (8 * size));
  }

  private room(more: u32): void {
    if (more <= <u32>(this.end - this.at)) return;
    const used = this.length;
    const size = 2 * used + more + 256;
    const start = take(size);
    memory.copy(start, this.start, used);
    this.start = start;
    this.at = start + used;
    this.end = start + size;
  }
}
