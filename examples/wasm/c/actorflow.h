/* A function for actorflow, in C: batches in, outcomes out. The contract: docs/contract.md.
 *
 * Memory is an arena: what af_take gives lives until the next batch, and the next begins where this one began. So memory
 * is as large as the largest batch needs, and nothing is freed. What is no MessagePack ends in a trap.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef AF_COMPONENT /* component/component.h has an export and imports of its own */
#define AF_EXPORT(name) static
#include "../component/component.h"
#else
#define AF_EXPORT(name) __attribute__((export_name(name)))
#define AF_IMPORT(name) extern __attribute__((import_module("actorflow"), import_name(name)))

/* -- what the host offers */

AF_IMPORT("get") int32_t af_host_get(const void *cell, uint32_t, const void *key, uint32_t, void *into, uint32_t room);
AF_IMPORT("put") void af_host_put(const void *cell, uint32_t, const void *key, uint32_t, const void *value, uint32_t);
AF_IMPORT("delete") void af_host_delete(const void *cell, uint32_t, const void *key, uint32_t);
AF_IMPORT("add") void af_host_add(const void *cell, uint32_t, const void *key, uint32_t, const void *value, uint32_t);
AF_IMPORT("remove") void af_host_remove(const void *cell, uint32_t, const void *key, uint32_t, const void *value, uint32_t);
AF_IMPORT("clock_s") double af_clock_s(void);
AF_IMPORT("deadline_s") double af_deadline_s(void);
AF_IMPORT("round") int32_t af_round(void);
AF_IMPORT("request_id") int32_t af_request_id(void *into, uint32_t room);
AF_IMPORT("log") void af_log(const void *text, uint32_t length);
#endif

/* -- memory */

extern uint8_t __heap_base; /* from the linker: what lies behind is nobody's */
static uint8_t *af_top;

static void *af_take(uint64_t bytes) {
  uint8_t *room = af_top;
  uint64_t end = (uintptr_t)room + ((bytes + 15) & ~15ull), have = (uint64_t)__builtin_wasm_memory_size(0) << 16;
  if (end > have && (end >> 32 || __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (uintptr_t)-1))
    __builtin_trap();
  af_top = (uint8_t *)(uintptr_t)end;
  return room;
}

AF_EXPORT("actorflow_alloc") void *actorflow_alloc(uint32_t bytes) {
  af_top = (uint8_t *)(((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15);
  return af_take(bytes);
}

/* -- reading */

typedef enum { AF_NIL, AF_BOOL, AF_INT, AF_UINT, AF_FLOAT, AF_TEXT, AF_BYTES, AF_ARRAY, AF_MAP } af_kind;

typedef struct {
  af_kind kind;
  uint32_t length;      /* of text and bytes; of arrays and maps how many items, or pairs, follow */
  const uint8_t *bytes; /* of text and bytes */
  union {
    int64_t integer;   /* AF_INT, and AF_BOOL */
    uint64_t positive; /* AF_UINT: above what an int64_t holds */
    double number;
  };
} af_value;

typedef struct { const uint8_t *at, *end; } af_reader;

static uint64_t af_big_endian(af_reader *in, uint32_t bytes) {
  uint64_t value = 0;
  if (bytes > (uint64_t)(in->end - in->at)) __builtin_trap();
  while (bytes--) value = value << 8 | *in->at++;
  return value;
}

static af_value af_span(af_reader *in, af_kind kind, uint32_t length) {
  af_value value = {.kind = kind, .length = length, .bytes = in->at};
  if (length > (uint64_t)(in->end - in->at)) __builtin_trap();
  in->at += length;
  return value;
}

/* Read one value; of an array or a map its head only: what is in it comes next. */
static af_value af_read(af_reader *in) {
  uint8_t tag = af_big_endian(in, 1);
  if (tag < 0x80) return (af_value){.kind = AF_INT, .integer = tag};
  if (tag < 0x90) return (af_value){.kind = AF_MAP, .length = tag & 15};
  if (tag < 0xa0) return (af_value){.kind = AF_ARRAY, .length = tag & 15};
  if (tag < 0xc0) return af_span(in, AF_TEXT, tag & 31);
  if (tag >= 0xe0) return (af_value){.kind = AF_INT, .integer = (int8_t)tag};
  switch (tag) {
  case 0xc0: return (af_value){.kind = AF_NIL};
  case 0xc2: case 0xc3: return (af_value){.kind = AF_BOOL, .integer = tag & 1};
  case 0xc4: case 0xc5: case 0xc6: return af_span(in, AF_BYTES, af_big_endian(in, 1 << (tag - 0xc4)));
  case 0xca: { uint32_t bits = af_big_endian(in, 4); return (af_value){.kind = AF_FLOAT, .number = *(float *)&bits}; }
  case 0xcb: { uint64_t bits = af_big_endian(in, 8); return (af_value){.kind = AF_FLOAT, .number = *(double *)&bits}; }
  case 0xcc: case 0xcd: case 0xce: case 0xcf: {
    uint64_t value = af_big_endian(in, 1 << (tag - 0xcc));
    return (af_value){.kind = value >> 63 ? AF_UINT : AF_INT, .positive = value};
  }
  case 0xd0: return (af_value){.kind = AF_INT, .integer = (int8_t)af_big_endian(in, 1)};
  case 0xd1: return (af_value){.kind = AF_INT, .integer = (int16_t)af_big_endian(in, 2)};
  case 0xd2: return (af_value){.kind = AF_INT, .integer = (int32_t)af_big_endian(in, 4)};
  case 0xd3: return (af_value){.kind = AF_INT, .integer = (int64_t)af_big_endian(in, 8)};
  case 0xd9: case 0xda: case 0xdb: return af_span(in, AF_TEXT, af_big_endian(in, 1 << (tag - 0xd9)));
  case 0xdc: case 0xdd: return (af_value){.kind = AF_ARRAY, .length = af_big_endian(in, 2 << (tag - 0xdc))};
  case 0xde: case 0xdf: return (af_value){.kind = AF_MAP, .length = af_big_endian(in, 2 << (tag - 0xde))};
  default: __builtin_trap();
  }
}

/* Pass over one value with all that is in it, and return where it lies: bytes and length. */
static af_value af_skip(af_reader *in) {
  const uint8_t *from = in->at;
  for (uint64_t left = 1; left; left--) {
    af_value value = af_read(in);
    left += value.kind == AF_ARRAY ? value.length : value.kind == AF_MAP ? 2ull * value.length : 0;
  }
  return (af_value){.kind = AF_BYTES, .bytes = from, .length = in->at - from};
}

static bool af_is(af_value text, const char *word) {
  uint32_t at = 0;
  while (at < text.length && word[at] && text.bytes[at] == (uint8_t)word[at]) at++;
  return at == text.length && !word[at];
}

/* -- writing: everything in its shortest form */

typedef struct { uint8_t *start, *at, *end; } af_writer;

static void af_copy(uint8_t *to, const uint8_t *from, uint32_t length) { __builtin_memcpy(to, from, length); }

static void af_room(af_writer *out, uint64_t bytes) {
  if (bytes <= (uint64_t)(out->end - out->at)) return;
  uint64_t used = out->at - out->start, size = 2 * used + bytes + 256;
  if (out->end == af_top && out->start) { /* nobody took memory since: it grows where it is */
    af_take(size - (out->end - out->start));
    out->end = af_top;
    return;
  }
  uint8_t *start = af_take(size);
  if (used) af_copy(start, out->start, used);
  *out = (af_writer){start, start + used, af_top};
}

static void af_head(af_writer *out, uint8_t tag, uint64_t value, uint32_t bytes) {
  af_room(out, 9);
  *out->at++ = tag;
  while (bytes--) *out->at++ = value >> 8 * bytes;
}

static void af_nil(af_writer *out) { af_head(out, 0xc0, 0, 0); }
static void af_bool(af_writer *out, bool value) { af_head(out, 0xc2 | value, 0, 0); }

static void af_uint(af_writer *out, uint64_t value) {
  if (value < 0x80) af_head(out, value, 0, 0);
  else if (value <= 0xff) af_head(out, 0xcc, value, 1);
  else if (value <= 0xffff) af_head(out, 0xcd, value, 2);
  else if (value <= 0xffffffff) af_head(out, 0xce, value, 4);
  else af_head(out, 0xcf, value, 8);
}

static void af_int(af_writer *out, int64_t value) {
  if (value >= 0) af_uint(out, value);
  else if (value >= -32) af_head(out, value, 0, 0);
  else if (value >= INT8_MIN) af_head(out, 0xd0, value, 1);
  else if (value >= INT16_MIN) af_head(out, 0xd1, value, 2);
  else if (value >= INT32_MIN) af_head(out, 0xd2, value, 4);
  else af_head(out, 0xd3, value, 8);
}

static void af_float(af_writer *out, double value) { af_head(out, 0xcb, *(uint64_t *)&value, 8); }

static void af_raw(af_writer *out, const uint8_t *bytes, uint32_t length) {
  af_room(out, length);
  af_copy(out->at, bytes, length);
  out->at += length;
}

static void af_text(af_writer *out, const void *text, uint32_t length) {
  if (length < 32) af_head(out, 0xa0 | length, 0, 0);
  else if (length <= 0xff) af_head(out, 0xd9, length, 1);
  else if (length <= 0xffff) af_head(out, 0xda, length, 2);
  else af_head(out, 0xdb, length, 4);
  af_raw(out, text, length);
}

static void af_bytes(af_writer *out, const void *bytes, uint32_t length) {
  if (length <= 0xff) af_head(out, 0xc4, length, 1);
  else if (length <= 0xffff) af_head(out, 0xc5, length, 2);
  else af_head(out, 0xc6, length, 4);
  af_raw(out, bytes, length);
}

static void af_array(af_writer *out, uint32_t count) {
  if (count < 16) af_head(out, 0x90 | count, 0, 0);
  else if (count <= 0xffff) af_head(out, 0xdc, count, 2);
  else af_head(out, 0xdd, count, 4);
}

static void af_map(af_writer *out, uint32_t count) {
  if (count < 16) af_head(out, 0x80 | count, 0, 0);
  else if (count <= 0xffff) af_head(out, 0xde, count, 2);
  else af_head(out, 0xdf, count, 4);
}

/* -- outcomes: an array of verbs, each with its argument behind it */

enum { AF_ITEMS, AF_REPLY, AF_FEEDBACK, AF_ERROR, AF_LOG, AF_PUT, AF_DELETE, AF_ADD, AF_REMOVE };

/* Begin an outcome with one verb; its argument is written next. */
static void af_verb(af_writer *out, int verb) {
  af_array(out, 2);
  af_int(out, verb);
}

/* What a function returns: where its outcomes lie. */
static int64_t af_give(const af_writer *out) {
  return (int64_t)((uint64_t)(uintptr_t)out->start << 32 | (uint32_t)(out->at - out->start));
}
