/* The words of lines of text, in lower case: for flat_map. A word is a run of ASCII letters, digits and bytes from 128 on. */
#include "actorflow.h"

static bool is_letter(uint8_t byte) { return (byte | 32) >= 'a' && (byte | 32) <= 'z'; }
static bool in_word(uint8_t byte) { return byte >= 0x80 || (byte >= '0' && byte <= '9') || is_letter(byte); }

/* Return where the next word ends, having moved *at to where it begins. */
static inline const uint8_t *next(const uint8_t **at, const uint8_t *end, bool (*belongs)(uint8_t)) {
  while (*at < end && !belongs(**at)) ++*at;
  const uint8_t *to = *at;
  while (to < end && belongs(*to)) ++to;
  return to;
}

static inline void words(af_writer *out, af_value line, bool (*belongs)(uint8_t)) {
  const uint8_t *at = line.bytes, *end = at + line.length, *to;
  uint32_t count = 0;
  while ((to = next(&at, end, belongs)) > at) count++, at = to;
  if (!count) return af_nil(out);
  af_verb(out, AF_ITEMS);
  af_array(out, count);
  for (at = line.bytes; (to = next(&at, end, belongs)) > at; at = to) {
    af_text(out, at, to - at);
    for (uint8_t *byte = out->at - (to - at); byte < out->at; byte++)
      if (*byte >= 'A' && *byte <= 'Z') *byte |= 32;
  }
}

static inline int64_t each_line(const uint8_t *batch, uint32_t length, bool (*belongs)(uint8_t)) {
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) words(&out, af_read(&in), belongs);
  return af_give(&out);
}

AF_EXPORT("tokenise") int64_t tokenise(const uint8_t *batch, uint32_t length) {
  return each_line(batch, length, in_word);
}

/* The same with words of ASCII letters only. */
AF_EXPORT("letters") int64_t letters(const uint8_t *batch, uint32_t length) {
  return each_line(batch, length, is_letter);
}
