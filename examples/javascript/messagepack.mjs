// MessagePack, as much of it as JSON has, and binary data: null, booleans, numbers, strings, Uint8Array, arrays, objects.
// Integers beyond 2^53 arrive as BigInt. Maps arrive as objects without a prototype, since their keys are the peer's choice.

const utf8 = new TextEncoder(), text = new TextDecoder("utf-8", { fatal: true });

export function encode(value) {
  let view = new DataView(new ArrayBuffer(1024)), at = 0;
  const room = (count) => {
    if (at + count > view.byteLength) {
      const grown = new Uint8Array(2 * (at + count));
      grown.set(new Uint8Array(view.buffer, 0, at));
      view = new DataView(grown.buffer);
    }
    at += count;
    return at - count;
  };
  const byte = (code) => view.setUint8(room(1), code);
  const head = (size, fixed, fixedMax, codes) => {
    if (size <= fixedMax) byte(fixed | size);
    else if (size < 0x100 && codes[0]) { byte(codes[0]); byte(size); }
    else if (size < 0x10000) { byte(codes[1]); view.setUint16(room(2), size); }
    else { byte(codes[2]); view.setUint32(room(4), size); }
  };
  const raw = (bytes) => {
    const start = room(bytes.length);
    new Uint8Array(view.buffer).set(bytes, start);
  };
  const write = (value) => {
    if (value === null || value === undefined) byte(0xc0);
    else if (value === false || value === true) byte(value ? 0xc3 : 0xc2);
    else if (Number.isSafeInteger(value)) {
      if (value >= 0 && value < 0x80) byte(value);
      else if (value < 0 && value >= -0x20) byte(0x100 + value);
      else if (value >= -0x80000000 && value < 0x80000000) { byte(0xd2); view.setInt32(room(4), value); }
      else { byte(0xd3); view.setBigInt64(room(8), BigInt(value)); }
    } else if (typeof value === "number") { byte(0xcb); view.setFloat64(room(8), value); }
    else if (typeof value === "bigint") {
      if (value < -(2n ** 63n) || value >= 2n ** 64n) throw new RangeError(`${value} has more than 64 bits`);
      byte(value < 0n ? 0xd3 : 0xcf);
      view.setBigUint64(room(8), BigInt.asUintN(64, value));
    } else if (typeof value === "string") {
      const bytes = utf8.encode(value);
      head(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb]);
      raw(bytes);
    } else if (value instanceof Uint8Array) { head(value.length, 0, -1, [0xc4, 0xc5, 0xc6]); raw(value); }
    else if (Array.isArray(value)) { head(value.length, 0x90, 15, [0, 0xdc, 0xdd]); value.forEach(write); }
    else if (typeof value === "object") {
      const pairs = Object.entries(value);
      head(pairs.length, 0x80, 15, [0, 0xde, 0xdf]);
      for (const [key, part] of pairs) { write(key); write(part); }
    } else throw new TypeError(`a ${typeof value} cannot travel`);
  };
  write(value);
  return new Uint8Array(view.buffer, 0, at);
}

export function decode(buffer) {
  const view = new DataView(buffer);
  let at = 0;
  const take = (count) => (at += count) - count;
  const whole = (number) => (Number.isSafeInteger(Number(number)) ? Number(number) : number);
  const bytes = (size) => new Uint8Array(buffer, take(size), size);
  const array = (size) => Array.from({ length: size }, read);
  const map = (size) => {
    const made = Object.create(null);
    for (let pair = 0; pair < size; pair++) { const key = read(); made[key] = read(); }
    return made;
  };
  const size = (width) =>
    width === 1 ? view.getUint8(take(1)) : width === 2 ? view.getUint16(take(2)) : view.getUint32(take(4));
  function read() {
    const code = view.getUint8(take(1));
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 15);
    if (code < 0xa0) return array(code & 15);
    if (code < 0xc0) return text.decode(bytes(code & 31));
    if (code >= 0xe0) return code - 0x100;
    switch (code) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return bytes(size(1 << (code - 0xc4))).slice();
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: case 0xcd: case 0xce: return size(1 << (code - 0xcc));
      case 0xcf: return whole(view.getBigUint64(take(8)));
      case 0xd0: return view.getInt8(take(1));
      case 0xd1: return view.getInt16(take(2));
      case 0xd2: return view.getInt32(take(4));
      case 0xd3: return whole(view.getBigInt64(take(8)));
      case 0xd9: case 0xda: case 0xdb: return text.decode(bytes(size(1 << (code - 0xd9))));
      case 0xdc: case 0xdd: return array(size(2 << (code - 0xdc)));
      case 0xde: case 0xdf: return map(size(2 << (code - 0xde)));
      default: throw new TypeError(`MessagePack of kind 0x${code.toString(16)} is not understood here`);
    }
  }
  const value = read();
  if (at !== buffer.byteLength) throw new RangeError(`${buffer.byteLength - at} bytes follow the value`);
  return value;
}
