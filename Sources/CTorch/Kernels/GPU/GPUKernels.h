#pragma once

#include "../Quantized/QuantizedMatrix.h"

namespace graft {

/// Whether the kernels below run on this tensor: fp32 or bf16 on a CUDA device, with NVRTC, which belongs to PyTorch's builds for CUDA.
/// Where it is missing, a warning says so once, and plain operations are used.
bool hasGPUKernels(const at::Tensor& tensor);

/// The chip's compute capability, 90 for 9.0; 0 when the driver's library cannot be asked.
int computeCapability(at::Device device);

/// SwiGLU of contiguous `[rows, 2 · size]` into contiguous `[rows, size]`, and its gradient.
void gpuSwiGLU(const at::Tensor& gateUp, const at::Tensor& output);
void gpuSwiGLUBackward(const at::Tensor& gateUp, const at::Tensor& gradient, const at::Tensor& gateUpGradient);

/// The rotary embedding of RotaryEmbedding.cpp on rows with a contiguous last axis, in place; tables fp32 and contiguous.
void gpuRotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines, int64_t headSize, int64_t heads,
               bool inverse);

/// An NF4, FP4 or int8 matrix on the device into contiguous `[rows, columns]`; `values` are the four-bit type's 16.
void gpuDecode(const QuantizedMatrix& matrix, const at::Tensor& values, const at::Tensor& output);

}  // namespace graft
