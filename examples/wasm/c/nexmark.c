/* Two queries of NEXMark over bids, which come as maps: another currency, and every 123rd auction. */
#include "actorflow.h"

typedef struct { int64_t auction, bidder, price, ts; } bid;

static bid read_bid(af_reader *in) {
  bid found = {0};
  for (uint32_t left = af_read(in).length; left--;) {
    af_value name = af_read(in);
    int64_t *field = af_is(name, "auction") ? &found.auction
                     : af_is(name, "bidder") ? &found.bidder
                     : af_is(name, "price")  ? &found.price
                     : af_is(name, "ts")     ? &found.ts
                                             : 0;
    if (field) *field = af_read(in).integer;
    else af_skip(in);
  }
  return found;
}

static void row(af_writer *out, const int64_t *fields, uint32_t count) {
  af_verb(out, AF_ITEMS);
  af_array(out, 1);
  af_array(out, count);
  while (count--) af_int(out, *fields++);
}

/* (auction, bidder, price in thousandths of a cent, time) of each bid */
AF_EXPORT("convert") int64_t convert(const uint8_t *batch, uint32_t length) {
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) {
    bid each = read_bid(&in);
    row(&out, (int64_t[]){each.auction, each.bidder, 908 * each.price, each.ts}, 4);
  }
  return af_give(&out);
}

/* (auction, price, time) of the bids on every 123rd auction, and nothing of the others */
AF_EXPORT("select") int64_t select(const uint8_t *batch, uint32_t length) {
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) {
    bid each = read_bid(&in);
    if (each.auction % 123) af_nil(&out);
    else row(&out, (int64_t[]){each.auction, each.price, each.ts}, 3);
  }
  return af_give(&out);
}
