/* The same program as a component: what wit/function.wit says, in the canonical ABI, by which components call one another.
 *
 * Lists and strings are a pointer and a length; what is given to us is put where cabi_realloc says. The arena begins anew
 * when the host has read the outcomes.
 */
#define AF_HOST(name) extern __attribute__((import_module("actorflow:function/host"), import_name(name)))

typedef struct { uint8_t there; const uint8_t *bytes; uint32_t length; } af_optional;
typedef struct { const uint8_t *bytes; uint32_t length; } af_list;

AF_HOST("get") void af_wit_get(const void *cell, uint32_t, const void *key, uint32_t, af_optional *found);
AF_HOST("put") void af_host_put(const void *cell, uint32_t, const void *key, uint32_t, const void *value, uint32_t);
AF_HOST("delete") void af_host_delete(const void *cell, uint32_t, const void *key, uint32_t);
AF_HOST("add") void af_host_add(const void *cell, uint32_t, const void *key, uint32_t, const void *value, uint32_t);
AF_HOST("remove") void af_host_remove(const void *cell, uint32_t, const void *key, uint32_t, const void *value, uint32_t);
AF_HOST("clock-s") double af_clock_s(void);
AF_HOST("deadline-s") double af_deadline_s(void);
AF_HOST("round") int32_t af_round(void);
AF_HOST("request-id") void af_wit_request_id(af_list *id);
AF_HOST("log") void af_log(const void *text, uint32_t length);

static int32_t af_fit(const uint8_t *bytes, uint32_t length, uint8_t *into, uint32_t room) {
  if (length <= room) __builtin_memcpy(into, bytes, length);
  return length;
}

static int32_t af_host_get(const void *cell, uint32_t a, const void *key, uint32_t b, void *into, uint32_t room) {
  af_optional found;
  af_wit_get(cell, a, key, b, &found);
  return found.there ? af_fit(found.bytes, found.length, into, room) : -1;
}

static int32_t af_request_id(void *into, uint32_t room) {
  af_list id;
  af_wit_request_id(&id);
  return af_fit(id.bytes, id.length, into, room);
}
