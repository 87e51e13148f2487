#include "FrozenWeight.h"

#include "../FewRowsLinear.h"
#include "ByteProduct.h"
#include "DecodedRows.h"

namespace graft {
namespace {

bool hasKernel(const at::Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

void add(const std::vector<ProductTerm>& terms, at::Tensor& y) {
  for (const auto& term : terms) {
    const auto right = term.transposed ? term.right.t() : term.right;
    y.narrow(1, term.firstColumn, right.size(1)).addmm_(term.left, right);
  }
}

}  // namespace

FrozenWeight::FrozenWeight(std::vector<QuantizedMatrix> parts) : parts_(std::move(parts)) {
  TORCH_CHECK(!parts_.empty(), "a quantized weight without a part");
  for (const auto& part : parts_) {
    check(part);
    TORCH_CHECK(part.columns == parts_[0].columns, "quantized weights of ", part.columns, " and ", parts_[0].columns,
                " inputs cannot share an input");
  }
}

int64_t FrozenWeight::rows() const {
  if (parts_.empty()) return dense_.size(0);
  int64_t sum = 0;
  for (const auto& part : parts_) sum += part.rows;
  return sum;
}

int64_t FrozenWeight::columns() const { return parts_.empty() ? dense_.size(1) : parts_[0].columns; }

at::Tensor FrozenWeight::dense(at::ScalarType dtype) const {
  if (parts_.empty()) return dense_;
  std::vector<at::Tensor> matrices;
  for (const auto& part : parts_) matrices.push_back(dequantize(part, dtype));
  return matrices.size() == 1 ? matrices[0] : at::cat(matrices);
}

at::Tensor FrozenWeight::product(const at::Tensor& x, bool transposed, const std::optional<at::Tensor>& bias,
                                 const std::vector<ProductTerm>& terms, at::Tensor output) const {
  if (isQuantized() && multipliesBytes(x, parts_))
    return byteProduct(x, parts_, transposed, bias.value_or(at::Tensor()), terms, std::move(output));
  const int64_t outputs = transposed ? rows() : columns();
  const bool decodes = isQuantized() && hasKernel(x);
  std::vector<ProductTerm> all{{x, dense_, transposed, 0, nullptr}};
  if (decodes) all[0].source = std::make_shared<DecodedRows>(parts_);
  all.insert(all.end(), terms.begin(), terms.end());
  if (decodes || hasProductKernel(all)) return sumOfProducts(all, outputs, bias.value_or(at::Tensor()), output);

  const auto weight = dense(x.scalar_type());
  if (!output.defined()) {
    const auto c = bias.value_or(at::Tensor());
    output = !transposed                      ? at::mm(x, weight)
             : hasFewRowsKernel(x, weight, c) ? fewRowsLinear(x, weight, c)
                                              : at::linear(x, weight, bias);
  } else {
    at::mm_out(output, x, transposed ? weight.t() : weight);
    if (bias) output.add_(*bias);
  }
  add(terms, output);
  return output;
}

at::Tensor FrozenWeight::linear(const at::Tensor& x, const std::optional<at::Tensor>& bias,
                                const std::vector<ProductTerm>& terms, at::Tensor output) const {
  if (!isQuantized() || x.size(0) > fewTokens || output.defined() || !hasKernel(x))
    return product(x, true, bias, terms, output);
  auto y = fewTokensProduct(x, parts_);
  if (bias) y.add_(*bias);
  add(terms, y);
  return y;
}

at::Tensor FrozenWeight::inputGradient(const at::Tensor& gradient, const std::vector<ProductTerm>& terms,
                                       at::Tensor output) const {
  return product(gradient, false, std::nullopt, terms, output);
}

}  // namespace graft
