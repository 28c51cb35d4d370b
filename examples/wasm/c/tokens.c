/* The words of texts, in lower case, or numbers that stand for them: for flat_map. A word is of ASCII letters, digits and
 * bytes from 128 on; in `letters` of ASCII letters only. */
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

/* Begin the outcome of a text with as many items as it has words; return how many. */
static uint32_t begin(af_writer *out, af_value text, const uint8_t *in_word) {
  uint32_t count = 0;
  for (uint32_t at = 0, before = 0; at < text.length; at++) {
    uint8_t byte = in_word[text.bytes[at]];
    count += byte && !before;
    before = byte;
  }
  if (!count) return af_nil(out), 0;
  af_verb(out, AF_ITEMS);
  af_array(out, count);
  af_room(out, (uint64_t)text.length + 6ull * count);
  return count;
}

static void words(af_writer *out, af_value text, const uint8_t *in_word) {
  const uint8_t *at = text.bytes, *end = at + text.length;
  for (uint32_t count = begin(out, text, in_word); count--;) {
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

/* Instead of each word a number that stands for it: the FNV-1a hash of its bytes, 32 bits. */
static void numbers(af_writer *out, af_value text, const uint8_t *in_word) {
  const uint8_t *at = text.bytes, *end = at + text.length;
  for (uint32_t count = begin(out, text, in_word); count--;) {
    while (!in_word[*at]) at++;
    uint32_t hash = 2166136261u;
    for (uint8_t byte; at < end && (byte = in_word[*at]); at++) hash = (hash ^ byte) * 16777619u;
    af_uint(out, hash);
  }
}

typedef void make(af_writer *, af_value, const uint8_t *);

static int64_t each_text(const uint8_t *batch, uint32_t length, const uint8_t *in_word, make *of) {
  prepare();
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) of(&out, af_read(&in), in_word);
  return af_give(&out);
}

AF_EXPORT("tokenise") int64_t tokenise(const uint8_t *batch, uint32_t length) {
  return each_text(batch, length, any, words);
}
AF_EXPORT("letters") int64_t letters(const uint8_t *batch, uint32_t length) {
  return each_text(batch, length, letter, words);
}
AF_EXPORT("ids") int64_t ids(const uint8_t *batch, uint32_t length) {
  return each_text(batch, length, any, numbers);
}
