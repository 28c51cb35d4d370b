/* The commands of examples/wasm/conformance.md. */
#include "actorflow.h"

#define TEXT(text) text, sizeof(text) - 1

/* Read a value and write it anew. */
static void copy(af_writer *out, af_reader *in) {
  af_value value = af_read(in);
  uint32_t inside = 0;
  switch (value.kind) {
  case AF_NIL: return af_nil(out);
  case AF_BOOL: return af_bool(out, value.integer);
  case AF_INT: return af_int(out, value.integer);
  case AF_UINT: return af_uint(out, value.positive);
  case AF_FLOAT: return af_float(out, value.number);
  case AF_TEXT: return af_text(out, value.bytes, value.length);
  case AF_BYTES: return af_bytes(out, value.bytes, value.length);
  case AF_ARRAY: af_array(out, value.length), inside = value.length; break;
  case AF_MAP: af_map(out, value.length), inside = 2 * value.length; break;
  }
  while (inside--) copy(out, in);
}

/* Begin an outcome of one item. */
static void item(af_writer *out) {
  af_verb(out, AF_ITEMS);
  af_array(out, 1);
}

/* Return what a cell has under a key, in memory of this batch; of length 0 where it has nothing. */
static af_value get(af_value cell, af_value key) {
  uint32_t room = 16;
  for (;;) {
    uint8_t *into = af_take(room);
    int32_t length = af_host_get(cell.bytes, cell.length, key.bytes, key.length, into, room);
    if (length < 0) return (af_value){.kind = AF_NIL};
    if ((uint32_t)length <= room) return (af_value){.kind = AF_BYTES, .bytes = into, .length = length};
    room = length;
  }
}

static void room(af_writer *out, af_value cell, af_value key, uint32_t size) {
  uint8_t *into = af_take(size);
  bool filled = false;
  for (uint32_t at = 0; at < size; at++) into[at] = 0xc1; /* in no MessagePack */
  int32_t length = af_host_get(cell.bytes, cell.length, key.bytes, key.length, into, size);
  for (uint32_t at = 0; at < size; at++) filled |= into[at] != 0xc1;
  item(out), af_array(out, 2), af_int(out, length), af_bool(out, filled);
}

static void sum(af_writer *out, af_value cell, af_value key, int64_t more) {
  af_value before = get(cell, key);
  af_reader in = {before.bytes, before.bytes + before.length};
  af_writer total = {0};
  af_int(&total, more + (before.length ? af_read(&in).integer : 0));
  uint32_t length = total.at - total.start;
  af_host_put(cell.bytes, cell.length, key.bytes, key.length, total.start, length);
  item(out), af_array(out, 2), af_raw(out, key.bytes, key.length), af_raw(out, total.start, length);
}

static void collatz(af_writer *out, int64_t n, int64_t trips) {
  if (n == 1) {
    item(out), af_int(out, trips);
    return;
  }
  af_verb(out, AF_FEEDBACK), af_array(out, 2), af_text(out, TEXT("collatz"));
  af_array(out, 2), af_int(out, n % 2 ? 3 * n + 1 : n / 2), af_int(out, trips + 1);
}

static void trips(af_writer *out, int64_t n) {
  if (af_round() >= n) {
    item(out), af_int(out, af_round());
    return;
  }
  af_verb(out, AF_FEEDBACK), af_array(out, 2), af_text(out, TEXT("trips")), af_int(out, n);
}

static const char *const VERBS[] = {0, "reply", 0, "typed_error", "log", "put", "delete", "add", "remove"};

static void answer(af_writer *out, af_reader *in) {
  af_read(in); /* an array of two */
  af_value command = af_read(in), cell, key;
  af_reader argument = *in, parts = *in;
  af_value whole = af_skip(in);
  for (int verb = 0; verb <= AF_REMOVE; verb++)
    if (VERBS[verb] && af_is(command, VERBS[verb])) {
      af_verb(out, verb), af_raw(out, whole.bytes, whole.length);
      return;
    }
  if (af_is(command, "echo")) {
    item(out), copy(out, &argument);
  } else if (af_is(command, "bare")) {
    copy(out, &argument);
  } else if (af_is(command, "nothing")) {
    af_nil(out);
  } else if (af_is(command, "several")) {
    int64_t count = af_read(&parts).integer;
    af_verb(out, AF_ITEMS), af_array(out, count);
    for (int64_t n = 0; n < count; n++) af_int(out, n);
  } else if (af_is(command, "error")) {
    af_array(out, 4), af_int(out, AF_ITEMS), af_array(out, 1), af_text(out, TEXT("dropped"));
    af_int(out, AF_ERROR), copy(out, &argument);
  } else if (af_is(command, "host_log")) {
    af_value text = af_read(&parts);
    af_log(text.bytes, text.length), af_nil(out);
  } else if (af_is(command, "clock")) {
    item(out), af_float(out, af_clock_s());
  } else if (af_is(command, "deadline")) {
    item(out), af_float(out, af_deadline_s());
  } else if (af_is(command, "request_id")) {
    uint8_t *into = af_take(256);
    item(out), af_text(out, into, af_request_id(into, 256));
  } else if (af_is(command, "trips")) {
    trips(out, af_read(&parts).integer);
  } else if (af_is(command, "collatz")) {
    af_read(&parts);
    int64_t n = af_read(&parts).integer;
    collatz(out, n, af_read(&parts).integer);
  } else if (af_is(command, "trap")) {
    __builtin_trap();
  } else if (af_is(command, "spin")) {
    for (volatile int n = 0;; n++) {}
  } else if (af_read(&parts).kind == AF_ARRAY) { /* what is left is about cells */
    cell = af_read(&parts), key = af_skip(&parts);
    const uint8_t *value = parts.at;
    uint32_t length = whole.bytes + whole.length - value;
    if (af_is(command, "host_put")) {
      af_host_put(cell.bytes, cell.length, key.bytes, key.length, value, length), af_nil(out);
    } else if (af_is(command, "host_delete")) {
      af_host_delete(cell.bytes, cell.length, key.bytes, key.length), af_nil(out);
    } else if (af_is(command, "host_add")) {
      af_host_add(cell.bytes, cell.length, key.bytes, key.length, value, length), af_nil(out);
    } else if (af_is(command, "host_remove")) {
      af_host_remove(cell.bytes, cell.length, key.bytes, key.length, value, length), af_nil(out);
    } else if (af_is(command, "get")) {
      af_value found = get(cell, key);
      item(out);
      if (found.length) af_raw(out, found.bytes, found.length);
      else af_text(out, TEXT("absent"));
    } else if (af_is(command, "room")) {
      room(out, cell, key, af_read(&parts).integer);
    } else if (af_is(command, "sum")) {
      sum(out, cell, key, af_read(&parts).integer);
    } else if (af_is(command, "put_then_error")) {
      af_host_put(cell.bytes, cell.length, key.bytes, key.length, value, length);
      af_array(out, 4), af_int(out, AF_PUT), copy(out, &argument), af_int(out, AF_ERROR), af_text(out, TEXT("after"));
    } else {
      af_verb(out, AF_ERROR), af_text(out, TEXT("no such command"));
    }
  } else {
    af_verb(out, AF_ERROR), af_text(out, TEXT("no such command"));
  }
}

AF_EXPORT("process") int64_t process(const uint8_t *batch, uint32_t length) {
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) answer(&out, &in);
  return af_give(&out);
}
