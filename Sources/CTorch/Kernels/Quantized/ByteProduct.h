#pragma once

#include "../MatrixProduct.h"
#include "QuantizedMatrix.h"

namespace graft {

/// Whether `byteProduct` computes this: the matrices ask for it (`QuantizedMatrix::multipliesBytes`), the processor has the instructions,
/// and x, fp32 or bf16 on the CPU, has so many tokens that the products take the time.
bool multipliesBytes(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts);

/// x Wᵀ or, unless `transposed`, x W for the int8 matrices `parts`, one behind the other; plus `terms` and a bias that may be undefined; into
/// `output` when it is given. x is quantized token by token.
at::Tensor byteProduct(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts, bool transposed,
                       const at::Tensor& bias, const std::vector<ProductTerm>& terms, at::Tensor output);

}  // namespace graft
