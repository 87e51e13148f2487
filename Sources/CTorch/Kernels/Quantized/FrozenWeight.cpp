#include "FrozenWeight.h"

#include "../DenseRows.h"
#include "../FewRowsLinear.h"
#include "ByteProduct.h"
#include "DecodedRows.h"

namespace graft {
namespace {

bool decodesFor(const at::Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

void add(const std::vector<ProductTerm>& terms, at::Tensor& y) {
  for (const auto& term : terms) {
    const auto right = term.transposed ? term.right.t() : term.right;
    y.narrow(1, term.firstColumn, right.size(1)).addmm_(term.left, right);
  }
}

/// x Wᵀ + b for few rows of x: every matrix is read once, where it lies.
at::Tensor fewRows(const at::Tensor& x, const std::vector<at::Tensor>& matrices, const at::Tensor& bias) {
  std::vector<at::Tensor> outputs;
  int64_t first = 0;
  for (const auto& matrix : matrices) {
    outputs.push_back(fewRowsLinear(x, matrix, bias.defined() ? bias.narrow(0, first, matrix.size(0)) : bias));
    first += matrix.size(0);
  }
  return outputs.size() == 1 ? outputs[0] : at::cat(outputs, 1);
}

}  // namespace

FrozenWeight::FrozenWeight(std::vector<at::Tensor> dense) : dense_(std::move(dense)) {
  TORCH_CHECK(!dense_.empty(), "a weight without a matrix");
  for (const auto& matrix : dense_)
    TORCH_CHECK(matrix.dim() == 2 && matrix.size(1) == dense_[0].size(1) && matrix.scalar_type() == dense_[0].scalar_type() &&
                    matrix.device() == dense_[0].device(),
                "weights ", matrix.toString(), matrix.sizes(), " and ", dense_[0].toString(), dense_[0].sizes(),
                " cannot share an input");
}

FrozenWeight::FrozenWeight(std::vector<QuantizedMatrix> parts) : quantized_(std::move(parts)) {
  TORCH_CHECK(!quantized_.empty(), "a quantized weight without a part");
  for (const auto& part : quantized_) {
    check(part);
    TORCH_CHECK(part.columns == quantized_[0].columns, "quantized weights of ", part.columns, " and ",
                quantized_[0].columns, " inputs cannot share an input");
  }
}

int64_t FrozenWeight::rows() const {
  int64_t sum = 0;
  for (const auto& matrix : dense_) sum += matrix.size(0);
  for (const auto& part : quantized_) sum += part.rows;
  return sum;
}

int64_t FrozenWeight::columns() const { return isQuantized() ? quantized_[0].columns : dense_[0].size(1); }

at::Tensor FrozenWeight::dense(at::ScalarType dtype) const {
  auto matrices = dense_;
  for (const auto& part : quantized_) matrices.push_back(dequantize(part, dtype));
  return matrices.size() == 1 ? matrices[0] : at::cat(matrices);
}

bool FrozenWeight::hasKernel(const at::Tensor& x) const {
  return isQuantized() ? decodesFor(x) : hasProductKernel(x, dense_);
}

at::Tensor FrozenWeight::product(const at::Tensor& x, bool transposed, const std::optional<at::Tensor>& bias,
                                 const std::vector<ProductTerm>& terms, at::Tensor output) const {
  const auto c = bias.value_or(at::Tensor());
  if (isQuantized() && multipliesBytes(x, quantized_))
    return byteProduct(x, quantized_, transposed, c, terms, std::move(output));
  if (hasKernel(x)) {
    std::vector<ProductTerm> all{{x, {}, transposed}};
    all[0].source = isQuantized() ? std::make_shared<DecodedRows>(quantized_) : denseRows(dense_);
    all.insert(all.end(), terms.begin(), terms.end());
    return sumOfProducts(all, transposed ? rows() : columns(), c, output);
  }
  const bool biasFits = !c.defined() || (c.scalar_type() == x.scalar_type() && c.dim() == 1 && c.size(0) == rows());
  if (!output.defined() && transposed && !isQuantized() && biasFits && hasFewRowsKernel(x, dense_[0])) {
    output = fewRows(x, dense_, c);
  } else {
    const auto weight = dense(x.scalar_type());
    if (!output.defined()) {
      output = transposed ? at::linear(x, weight, bias) : at::mm(x, weight);
    } else {
      at::mm_out(output, x, transposed ? weight.t() : weight);
      if (bias) output.add_(*bias);
    }
  }
  add(terms, output);
  return output;
}

at::Tensor FrozenWeight::linear(const at::Tensor& x, const std::optional<at::Tensor>& bias,
                                const std::vector<ProductTerm>& terms, at::Tensor output) const {
  if (!isQuantized() || x.size(0) > fewTokens || output.defined() || !decodesFor(x))
    return product(x, true, bias, terms, output);
  auto y = fewTokensProduct(x, quantized_);
  if (bias) y.add_(*bias);
  add(terms, y);
  return y;
}

at::Tensor FrozenWeight::inputGradient(const at::Tensor& gradient, const std::vector<ProductTerm>& terms,
                                       at::Tensor output) const {
  return product(gradient, false, std::nullopt, terms, output);
}

}  // namespace graft
