#pragma once

// The kernels for GPUs, compiled as C++ and run thread by thread: what they compute can be tested without a GPU, how they are launched cannot.

#include <bit>
#include <cmath>

namespace emulated {

struct Index {
  unsigned x;
};
inline Index blockIdx, threadIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
using ::expf;

#define __device__
#define __global__
#define GRAFT_GPU_SOURCE(...) __VA_ARGS__
#include "../../Sources/CTorch/Kernels/GPU/GPUSource.h"
#undef GRAFT_GPU_SOURCE
#undef __global__
#undef __device__

/// Runs a kernel in a grid that is smaller than the work, so that every thread takes several steps.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Arguments... arguments) {
  blockDim = {32}, gridDim = {3};
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) kernel(static_cast<Parameters>(arguments)...);
}

}  // namespace emulated
