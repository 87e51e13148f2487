#include "FrozenWeight.h"

#include <algorithm>
#include <mutex>

#include "../FewRowsLinear.h"

namespace graft {
namespace {

/// Memory for a decoded weight, which goes back to be used again: the pages of a fresh buffer would have to be zeroed by
/// the system for every layer.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) {
    const std::lock_guard guard(mutex());
    std::swap(buffer_, kept());
    if (!buffer_.defined() || buffer_.numel() < bytes) buffer_ = at::empty({bytes}, at::kByte);
  }

  ~Scratch() {
    // Of two in use at one time the larger is kept.
    const std::lock_guard guard(mutex());
    if (!kept().defined() || kept().numel() < buffer_.numel()) std::swap(buffer_, kept());
  }

  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  at::Tensor matrix(int64_t rows, int64_t columns, at::ScalarType dtype) const {
    return buffer_.narrow(0, 0, rows * columns * static_cast<int64_t>(c10::elementSize(dtype))).view(dtype).view({rows, columns});
  }

 private:
  static std::mutex& mutex() {
    static std::mutex value;
    return value;
  }
  // Never destroyed: the engine's allocator may go first when the process ends.
  static at::Tensor& kept() {
    static auto& value = *new at::Tensor();
    return value;
  }
  at::Tensor buffer_;
};

void add(const std::vector<ProductTerm>& terms, at::Tensor& y) {
  for (const auto& term : terms) {
    const auto right = term.transposed ? term.right.t() : term.right;
    y.narrow(1, term.firstColumn, right.size(1)).addmm_(term.left, right);
  }
}

/// x times a dense weight, or its transpose, and the other terms: in one pass where there is a kernel for that.
at::Tensor product(const at::Tensor& x, const at::Tensor& weight, bool transposed, const std::optional<at::Tensor>& bias,
                   const std::vector<ProductTerm>& terms) {
  std::vector<ProductTerm> all{{x, weight, transposed}};
  all.insert(all.end(), terms.begin(), terms.end());
  if (hasProductKernel(all)) return sumOfProducts(all, weight.size(transposed ? 0 : 1), bias.value_or(at::Tensor()));
  const auto c = bias.value_or(at::Tensor());
  auto y = !transposed                      ? at::mm(x, weight)
           : hasFewRowsKernel(x, weight, c) ? fewRowsLinear(x, weight, c)
                                            : at::linear(x, weight, bias);
  add(terms, y);
  return y;
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

void FrozenWeight::withRows(int64_t first, int64_t count, at::ScalarType dtype,
                            const std::function<void(const at::Tensor&)>& body) const {
  if (parts_.empty()) return body(dense_.narrow(0, first, count));
  const at::NoGradGuard inference;
  const bool decodesInto = parts_[0].codes.device().is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16);
  std::optional<Scratch> scratch;
  at::Tensor matrix;
  if (decodesInto) {
    scratch.emplace(count * columns() * static_cast<int64_t>(c10::elementSize(dtype)));
    matrix = scratch->matrix(count, columns(), dtype);
  } else {
    matrix = at::empty({count, columns()}, parts_[0].codes.options().dtype(dtype));
  }
  int64_t partFirst = 0;  // in the rows of all parts
  for (const auto& part : parts_) {
    const int64_t begin = std::max(first, partFirst), end = std::min(first + count, partFirst + part.rows);
    if (begin < end) {
      const auto target = matrix.narrow(0, begin - first, end - begin);
      if (decodesInto)
        dequantizeRows(part, begin - partFirst, target);
      else
        target.copy_(dequantize(part, dtype).narrow(0, begin - partFirst, end - begin));
    }
    partFirst += part.rows;
  }
  body(matrix);
}

at::Tensor FrozenWeight::linear(const at::Tensor& x, const std::optional<at::Tensor>& bias,
                                const std::vector<ProductTerm>& terms) const {
  const bool isKernelType = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  at::Tensor y;
  if (isQuantized() && x.device().is_cpu() && x.size(0) <= fewTokens && isKernelType) {
    y = fewTokensProduct(x, parts_);
    if (bias) y.add_(*bias);
    add(terms, y);
  } else {
    withRows(0, rows(), x.scalar_type(),
             [&](const at::Tensor& weight) { y = product(x, weight, true, bias, terms); });
  }
  return y;
}

at::Tensor FrozenWeight::inputGradient(const at::Tensor& gradient, const std::vector<ProductTerm>& terms) const {
  at::Tensor result;
  withRows(0, rows(), gradient.scalar_type(),
           [&](const at::Tensor& weight) { result = product(gradient, weight, false, std::nullopt, terms); });
  return result;
}

}  // namespace graft
