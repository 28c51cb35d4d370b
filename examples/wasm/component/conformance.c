/* The commands of examples/wasm/conformance.md, as a component. */
#define AF_COMPONENT
#include "../c/conformance.c"

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, uint32_t had, uint32_t align, uint32_t bytes) {
  if (!af_top) return actorflow_alloc(bytes);
  void *room = af_take(bytes);
  if (had) __builtin_memcpy(room, old, had < bytes ? had : bytes);
  return room;
}

__attribute__((export_name("process"))) af_list *component_process(const uint8_t *batch, uint32_t length) {
  static af_list given;
  uint64_t packed = process(batch, length);
  given = (af_list){(const uint8_t *)(uintptr_t)(packed >> 32), packed};
  return &given;
}

__attribute__((export_name("cabi_post_process"))) void component_done(af_list *given) { actorflow_alloc(0); }
