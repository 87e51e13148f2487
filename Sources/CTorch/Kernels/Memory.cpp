// Memory between steps. glibc gives every large buffer back to the kernel when it is freed, which then has to zero its
// pages again for the next layer: a third of the time of eager training on a CPU can be page faults.

#include "Kernels.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace graft {

bool configureAllocator() {
#if defined(__GLIBC__)
  // Not M_MMAP_THRESHOLD: glibc caps it at 32 MB, and a chunk of logits or a gate and up projection is larger.
  const bool noMaps = mallopt(M_MMAP_MAX, 0) == 1;
  const bool noTrim = mallopt(M_TRIM_THRESHOLD, -1) == 1;
  return noMaps && noTrim;
#else
  return false;
#endif
}

}  // namespace graft
