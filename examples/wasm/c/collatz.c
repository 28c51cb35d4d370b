/* One step of a walk (steps, start, number): round again until it arrives at 1. For then(…, feedback=True). */
#include "actorflow.h"

enum { STEPS_MAX = 1000 };

AF_EXPORT("step") int64_t step(const uint8_t *batch, uint32_t length) {
  af_reader in = {batch, batch + length};
  af_writer out = {0};
  uint32_t count = af_read(&in).length;
  af_array(&out, count);
  while (count--) {
    af_read(&in); /* an array of three */
    int64_t steps = af_read(&in).integer + 1, start = af_read(&in).integer, number = af_read(&in).integer;
    number = number & 1 ? 3 * number + 1 : number >> 1;
    bool goes_on = number > 1 && steps < STEPS_MAX;
    af_verb(&out, goes_on ? AF_FEEDBACK : AF_ITEMS);
    if (!goes_on) af_array(&out, 1);
    af_array(&out, 3);
    af_int(&out, steps);
    af_int(&out, start);
    af_int(&out, number);
  }
  return af_give(&out);
}
