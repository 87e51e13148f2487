#include "Variant.h"

#include <algorithm>
#include <atomic>

namespace graft {

static Variant best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  // Every processor with dot products of bf16 has those of bytes.
  if (avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) return Variant::avx512bf16;
  if (avx512) return Variant::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Variant::avx2;
#endif
  return Variant::portable;
}

static std::atomic<Variant>& current() {
  static std::atomic<Variant> value{best()};
  return value;
}

Variant variant() { return current().load(std::memory_order_relaxed); }

Variant setVariant(Variant wanted) {
  const auto chosen = std::min(wanted, best());
  current().store(chosen, std::memory_order_relaxed);
  return chosen;
}

}  // namespace graft
