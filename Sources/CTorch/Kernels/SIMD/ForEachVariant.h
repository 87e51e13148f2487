// Compiles the file that GRAFT_LOOPS names once for each instruction set, each time in a namespace of its own
// (`graft::portable`, `graft::avx2`, …). Include it once in a .cpp file, after all other headers.
//
// SwiftPM gives a package no per-file compiler flags, so the instruction set is an attribute of the functions.

#pragma clang diagnostic push
// Vectors wider than a register change the calling convention. None is ever passed: their functions are inlined.
#pragma clang diagnostic ignored "-Wpsabi"

namespace graft::portable {
#define GRAFT_VARIANT 0
#include "Vectors.h"
#include GRAFT_LOOPS
#undef GRAFT_VARIANT
}  // namespace graft::portable

#if defined(__x86_64__)

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
namespace graft::avx2 {
#define GRAFT_VARIANT 1
#include "Vectors.h"
#include GRAFT_LOOPS
#undef GRAFT_VARIANT
}  // namespace graft::avx2
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq"))), \
                             apply_to = function)
namespace graft::avx512 {
#define GRAFT_VARIANT 2
#include "Vectors.h"
#include GRAFT_LOOPS
#undef GRAFT_VARIANT
}  // namespace graft::avx512
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni"))), \
                             apply_to = function)
namespace graft::avx512bf16 {
#define GRAFT_VARIANT 3
#include "Vectors.h"
#include GRAFT_LOOPS
#undef GRAFT_VARIANT
}  // namespace graft::avx512bf16
#pragma clang attribute pop

#endif

#pragma clang diagnostic pop
