// Frozen int8 layers that multiply bytes, forward and for the gradient of their input (SwitchBack, Wortsman et al. 2023,
// https://arxiv.org/abs/2304.13013), with Wₒᵢ = sₒ Cₒᵢ, C of signed bytes:
//
//   y[t, o] = sₒ aₜ Σᵢ X[t, i] C[o, i] + Σ over few i of x[t, i] W[o, i],   X[t, i] = round(x[t, i] / aₜ) or 0 for those i
//   dx[t, i] = bₜ Σₒ G[t, o] C[o, i],                                        G[t, o] = round(sₒ dy[t, o] / bₜ)
//
// with aₜ and bₜ such that the largest byte of a token is 127. A few inputs of a layer are often much larger than all others, and
// would leave these few values. They are kept out, and multiplied as they are (LLM.int8(), Dettmers et al. 2022,
// https://arxiv.org/abs/2208.07339, which goes by a threshold for all models; here it is a fixed share of a layer's inputs: those of the
// largest magnitude in the batch). Measured in docs/quantization.md.

#include "ByteProduct.h"

#include <ATen/record_function.h>

#include <algorithm>

#include "../ConstData.h"
#include "../FewRowsLinear.h"

namespace graft {
namespace {

/// One of so many inputs is kept out.
constexpr int64_t inputsForEachKept = 64;

/// Columns of int8 matrices that lie one behind the other, decoded.
class KeptColumns final : public DecodedTiles<KeptColumns> {
 public:
  /// All must outlive the object. `indices` are int64.
  KeptColumns(const std::vector<QuantizedMatrix>& parts, const at::Tensor& indices, const at::Tensor& scales)
      : indices_(constData<int64_t>(indices)), count_(indices.numel()), scales_(constData<float>(scales)),
        columns_(parts[0].columns) {
    for (const auto& part : parts) {
      parts_.push_back({constData<int8_t>(part.codes), rows_});
      rows_ += part.rows;
    }
  }

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return count_; }

 private:
  friend DecodedTiles;
  struct Part {
    const int8_t* codes;
    int64_t firstRow;
  };
  std::vector<Part> parts_;
  const int64_t* indices_;
  int64_t count_;
  const float* scales_;
  int64_t rows_ = 0, columns_;

  template <class T>
  void decode(int64_t row, int64_t rows, int64_t column, int64_t columns, T* to) const {
    for (int64_t i = row; i < row + rows; ++i, to += tileSourceColumns) {
      const auto& part = *std::find_if(parts_.rbegin(), parts_.rend(), [&](const Part& part) { return part.firstRow <= i; });
      const int8_t* const codes = part.codes + (i - part.firstRow) * columns_;
      for (int64_t j = 0; j < columns; ++j) to[j] = static_cast<T>(static_cast<float>(codes[indices_[column + j]]) * scales_[i]);
    }
  }
};

/// The columns of the largest magnitudes, int64.
at::Tensor largestColumns(const at::Tensor& x, int64_t count) {
  return std::get<1>(largestMagnitudes(x).topk(count, 0, true, false));
}

}  // namespace

bool multipliesBytes(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts) {
  return hasByteProducts() && x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
         x.size(0) > mostRows &&
         std::all_of(parts.begin(), parts.end(), [](const auto& part) { return part.multipliesBytes; });
}

at::Tensor byteProduct(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts, bool transposed,
                       const at::Tensor& bias, const std::vector<ProductTerm>& terms, at::Tensor output) {
  RECORD_FUNCTION("graft::byte_product", c10::ArrayRef<const c10::IValue>{});
  std::vector<at::Tensor> codes, constants;
  for (const auto& part : parts) {
    codes.push_back(part.codes.view({part.rows, part.columns}));
    constants.push_back(part.constants.flatten());
  }
  const auto scales = (constants.size() == 1 ? constants[0] : at::cat(constants)) / 127;
  if (!output.defined()) output = at::empty({x.size(0), transposed ? scales.numel() : parts[0].columns}, x.options());
  if (!transposed) {
    const auto [bytes, tokenScales] = quantizeTokens(x, scales);
    sumOfProducts({bytes, tokenScales, codes, false}, terms, bias, output);
    return output;
  }
  const int64_t kept = parts[0].columns / inputsForEachKept;
  auto all = terms;
  at::Tensor indices, others;
  if (kept > 0) {
    indices = largestColumns(x, kept);
    others = at::ones({x.size(1)}, scales.options()).index_fill_(0, indices, 0);
    all.push_back({x.index_select(1, indices), {}, true, 0, std::make_shared<KeptColumns>(parts, indices, scales)});
  }
  const auto [bytes, tokenScales] = quantizeTokens(x, others);
  sumOfProducts({bytes, tokenScales, codes, true, scales}, all, bias, output);
  return output;
}

}  // namespace graft
