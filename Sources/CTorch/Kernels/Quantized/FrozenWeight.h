#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <vector>

#include "../MatrixProduct.h"
#include "QuantizedMatrix.h"

namespace graft {

/// A linear layer's weight that is only read: matrices that share their input and whose outputs count behind one another, all dense
/// or all quantized.
///
/// An object that autograd can hold for the backward pass.
class FrozenWeight : public torch::CustomClassHolder {
 public:
  /// Throws when there is none, or columns or types differ.
  explicit FrozenWeight(std::vector<at::Tensor> dense);
  explicit FrozenWeight(at::Tensor dense) : FrozenWeight(std::vector<at::Tensor>{std::move(dense)}) {}
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

  bool isQuantized() const { return dense_.empty(); }
  /// Whether there is a kernel for the products with x, which reads the matrices where they lie.
  bool hasKernel(const at::Tensor& x) const;

 private:
  at::Tensor product(const at::Tensor& x, bool transposed, const std::optional<at::Tensor>& bias,
                     const std::vector<ProductTerm>& terms, at::Tensor output) const;
  /// The whole matrix; `dtype` is that of quantized ones.
  at::Tensor dense(at::ScalarType dtype) const;

  std::vector<at::Tensor> dense_;
  std::vector<QuantizedMatrix> quantized_;
};

}  // namespace graft
