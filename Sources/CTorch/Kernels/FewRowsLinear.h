#pragma once

#include <ATen/ATen.h>

#include <algorithm>

#include "PackedMatrix.h"
#include "Parallel.h"

namespace graft {

/// The most rows that count as few: from here on the products take the time, which the kernel of MatrixProduct.h is better at.
constexpr int64_t mostRows = 47;

/// Rows of weights that one task of `rowTasks` takes at a time, and that its scratch holds the sums of.
constexpr int64_t rowBlock = 32;

/// How many of a weight's rows a task has: pieces large enough to be read at full speed, small enough that the threads end together. A
/// multiple of 16.
inline int64_t rowsPerTask(int64_t rows, int64_t rowBytes) {
  constexpr int64_t taskBytes = 1 << 20, tasksPerThread = 4, lanes = 16;
  const int64_t most = std::min(taskBytes / rowBytes, rows / (tasksPerThread * threadCount()));
  return std::max(lanes, most / lanes * lanes);
}

/// Whether `fewRowsLinear` computes this: fp32 or bf16 on the CPU, of so few rows that reading the weight takes the time.
bool hasFewRowsKernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

/// x Wᵀ + bias for x `[rows, inputs]`, W `[outputs, inputs]` and a bias that may be undefined; not differentiable.
///
/// The weight is read once, as it lies, so that it may be the mapping of a file. Summed in fp32 and rounded once. A row of the result
/// does not depend on how many others there are, to the bit.
///
/// - packed: the same weight in fewer bytes, to be read instead by processors that can; null is none.
at::Tensor fewRowsLinear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {},
                         const PackedMatrix* packed = nullptr);

}  // namespace graft
