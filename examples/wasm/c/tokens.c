/* The words of lines of text, in lower case: for flat_map. A word is a run of ASCII letters, digits and bytes from 128 on. */
#include "actorflow.h"

static bool in_word(uint8_t byte) {
  return byte >= 0x80 || (byte >= '0' && byte <= '9') || ((byte | 32) >= 'a' && (byte | 32) <= 'z');
}

/* Return where the next word ends, having moved *at to where it begins. */
static const uint8_t *next(const uint8_t **at, const uint8_t *end) {
  while (*at < end && !in_word(**at)) ++*at;
  const uint8_t *to = *at;
  while (to < end && in_word(*to)) ++to;
  return to;
}

static void words(af_writer *out, af_value line) {
  const uint8_t *at = line.bytes, *end = at + line.length, *to;
  uint32_t count = 0;
  while ((to = next(&at, end)) > at) count++, at = to;
  if (!count) return af_nil(out);
  af_verb(out, AF_ITEMS);
  af_array(out, count);
  for (at = line.bytes; (to = next(&at, end)) > at; at = to) {
    af_text(out, at, to - at);
    for (uint8_t *byte = out->at - (to - at); byte < out->at; byte++)
      if (*byte >= 'A' && *byte <= 'Z') *byte |= 32;
  }
}

AF_EXPORT("tokenise") int64_t tokenise(const uint8_t *batch, uint32_t length) {
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) words(&out, af_read(&in));
  return af_give(&out);
}
