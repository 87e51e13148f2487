#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

#include "../MatrixProduct.h"
#include "QuantizedMatrix.h"

namespace graft {

/// A linear layer's weight that is only read: a dense tensor, or quantized matrices that share their input and whose
/// outputs lie behind one another.
///
/// An object that autograd can hold for the backward pass.
class FrozenWeight : public torch::CustomClassHolder {
 public:
  explicit FrozenWeight(at::Tensor dense) : dense_(std::move(dense)) {}
  /// Throws when a part is damaged or the parts' columns differ.
  explicit FrozenWeight(std::vector<QuantizedMatrix> parts);

  int64_t rows() const;
  int64_t columns() const;

  /// x Wᵀ + b, and `terms` on parts of the outputs added, such as low-rank ones; into `output` when it is given.
  ///
  /// A quantized weight is decoded on its way into the product: no dense copy of it is made, except on other devices and in
  /// other types than fp32 and bf16. With `QuantizedMatrix::multipliesBytes` x is quantized instead, token by token.
  at::Tensor linear(const at::Tensor& x, const std::optional<at::Tensor>& bias,
                    const std::vector<ProductTerm>& terms = {}, at::Tensor output = {}) const;
  /// dy W, and `terms` added.
  at::Tensor inputGradient(const at::Tensor& gradient, const std::vector<ProductTerm>& terms = {},
                           at::Tensor output = {}) const;

  bool isQuantized() const { return !parts_.empty(); }

 private:
  at::Tensor product(const at::Tensor& x, bool transposed, const std::optional<at::Tensor>& bias,
                     const std::vector<ProductTerm>& terms, at::Tensor output) const;
  /// The whole matrix; `dtype` is that of a quantized one.
  at::Tensor dense(at::ScalarType dtype) const;

  at::Tensor dense_;
  std::vector<QuantizedMatrix> parts_;
};

}  // namespace graft
