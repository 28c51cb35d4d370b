/* The words of texts, in lower case: for flat_map. Of ASCII letters, digits and bytes from 128 on, or of letters only. */
#include "actorflow.h"

/* What a byte is in a word; 0 where it is in none. */
static uint8_t any[256], letter[256];

static void prepare(void) {
  if (any['a']) return;
  for (int byte = 0; byte < 256; byte++) {
    bool is_letter = (byte | 32) >= 'a' && (byte | 32) <= 'z';
    letter[byte] = is_letter ? byte | 32 : 0;
    any[byte] = is_letter ? byte | 32 : byte >= 128 || (byte >= '0' && byte <= '9') ? byte : 0;
  }
}

static void words(af_writer *out, af_value text, const uint8_t *in_word) {
  const uint8_t *at = text.bytes, *end = at + text.length;
  uint32_t count = 0;
  for (uint8_t before = 0; at < end; at++) {
    uint8_t byte = in_word[*at];
    count += byte && !before;
    before = byte;
  }
  if (!count) return af_nil(out);
  af_verb(out, AF_ITEMS);
  af_array(out, count);
  af_room(out, (uint64_t)text.length + 6ull * count);
  for (at = text.bytes; count--;) {
    while (!in_word[*at]) at++;
    uint8_t *to = out->at + 1, byte;
    while (at < end && (byte = in_word[*at])) *to++ = byte, at++;
    uint32_t length = to - out->at - 1;
    if (length < 32) *out->at = 0xa0 | length, out->at = to; /* af_text would copy it */
    else {
      uint8_t *word = out->at + 1, *kept = af_take(length);
      __builtin_memcpy(kept, word, length);
      af_text(out, kept, length);
    }
  }
}

static int64_t each_text(const uint8_t *batch, uint32_t length, const uint8_t *in_word) {
  prepare();
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) words(&out, af_read(&in), in_word);
  return af_give(&out);
}

AF_EXPORT("tokenise") int64_t tokenise(const uint8_t *batch, uint32_t length) { return each_text(batch, length, any); }
AF_EXPORT("letters") int64_t letters(const uint8_t *batch, uint32_t length) { return each_text(batch, length, letter); }
