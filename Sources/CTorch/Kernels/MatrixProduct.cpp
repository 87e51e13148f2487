// bf16 matrix products: C = Σ A·B over a few terms, + bias, summed in fp32.
//
// After Goto & van de Geijn 2008 (https://doi.org/10.1145/1356052.1356053): a group of panels of the right factors,
// 32 columns each, is packed into the second-level cache in the form that the bf16 dot product wants; then all rows of
// the left factors go by it, 12 at a time, with 12 × 32 sums in registers. Each thread packs and multiplies groups of its own.

#include "MatrixProduct.h"

#include <ATen/record_function.h>

#include <algorithm>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "FewRowsLinear.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

namespace graft {

/// A term as the loops read it. The right factor has `columns` columns of the result, from `firstColumn` on.
struct ProductOperand {
  const at::BFloat16* left;
  int64_t leftRow;
  const at::BFloat16* right;
  int64_t rightRow;
  bool transposed;
  int64_t depth, firstColumn, columns;
};

/// Columns of the result that are multiplied together.
constexpr int64_t panelColumns = 32;

}  // namespace graft

#define GRAFT_LOOPS "../MatrixProductLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

/// Bytes of packed panels that stay in the second-level cache beside the rows that go by.
constexpr int64_t groupBytes = 384 << 10;

/// Below this the reading of the weight takes the time (FewRowsLinear.h).
constexpr int64_t fewestRows = mostRows + 1;

int64_t depthOf(const ProductTerm& term) { return term.left.size(1); }

bool fits(const at::Tensor& matrix) {
  return matrix.device().is_cpu() && matrix.scalar_type() == at::kBFloat16 && matrix.dim() == 2 &&
         matrix.stride(1) == 1;
}

ProductOperand operandOf(const ProductTerm& term) {
  const int64_t rows = term.right.size(0), columns = term.right.size(1);
  TORCH_CHECK((term.transposed ? columns : rows) == depthOf(term), "matrix product: ", term.left.sizes(),
              " does not fit a factor of ", rows, " × ", columns);
  return {term.left.const_data_ptr<at::BFloat16>(),
          term.left.stride(0),
          term.right.const_data_ptr<at::BFloat16>(),
          term.right.stride(0),
          term.transposed,
          depthOf(term),
          term.firstColumn,
          term.transposed ? rows : columns};
}

}  // namespace

bool hasProductKernel(const std::vector<ProductTerm>& terms) {
  if (variant() != Variant::avx512bf16 || terms.empty() || terms[0].left.dim() != 2) return false;
  const int64_t rows = terms[0].left.size(0);
  return rows >= fewestRows && std::all_of(terms.begin(), terms.end(), [&](const ProductTerm& term) {
           // Words of two numbers: rows of the left factors must begin on one.
           return fits(term.left) && term.left.size(0) == rows && depthOf(term) % 2 == 0 && depthOf(term) > 0 &&
                  term.left.stride(0) % 2 == 0 && term.left.storage_offset() % 2 == 0 &&
                  fits(term.right);
         });
}

at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias,
                         at::Tensor output) {
  RECORD_FUNCTION("graft::sum_of_products", c10::ArrayRef<const c10::IValue>{});
  std::vector<ProductOperand> operands;
  int64_t depth = 0, deepest = 0;
  for (const auto& term : terms) {
    operands.push_back(operandOf(term));
    depth += depthOf(term);
    deepest = std::max(deepest, depthOf(term));
  }
  const int64_t rows = terms[0].left.size(0), threads = threadCount();
  if (!output.defined()) output = at::empty({rows, columns}, terms[0].left.options());
  TORCH_CHECK(output.is_contiguous() && output.size(0) == rows && output.size(1) == columns &&
                  output.scalar_type() == at::kBFloat16,
              "matrix product: the result must be contiguous bf16 [", rows, ", ", columns, "], not ",
              output.toString(), output.sizes());
  const auto contiguousBias = bias.defined() ? bias.to(at::kBFloat16).contiguous() : bias;

  // Groups of panels, as many for each thread, that fit the cache; with few panels the rows are divided too.
  const int64_t panels = (columns + panelColumns - 1) / panelColumns, panelWords = depth / 2 * panelColumns;
  const int64_t most = std::max<int64_t>(1, groupBytes / (panelWords * 4));
  const int64_t rounds = (panels + threads * most - 1) / (threads * most);
  const int64_t groupPanels = std::max<int64_t>(1, (panels + threads * rounds - 1) / (threads * rounds));
  const int64_t groups = (panels + groupPanels - 1) / groupPanels;
  const int64_t parts = std::clamp<int64_t>((threads + groups - 1) / groups, 1, std::max<int64_t>(1, rows / 96));

  const int64_t scratchWords = std::max(16 * (deepest / 2 + 16), groupPanels * panelColumns);
  const int64_t threadWords = groupPanels * panelWords + scratchWords;
  const auto buffer = at::empty({threads, threadWords}, terms[0].left.options().dtype(at::kInt));
  auto* const words = reinterpret_cast<uint32_t*>(buffer.data_ptr<int32_t>());
  parallelTasks(groups * parts, [&](int64_t task, int64_t thread) {
    const int64_t group = task / parts, part = task % parts;
    const int64_t first = group * groupPanels, size = std::min(groupPanels, panels - first);
    uint32_t* const packed = words + thread * threadWords;
    uint32_t* to = packed;
    for (const auto& operand : operands) {
      GRAFT_DISPATCH(packPanels, operand, first * panelColumns, size, to, panelWords, packed + groupPanels * panelWords);
      to += operand.depth / 2 * panelColumns;
    }
    GRAFT_DISPATCH(multiplyPanels, operands.data(), static_cast<int64_t>(operands.size()), packed, panelWords,
                  rows * part / parts, rows * (part + 1) / parts, first * panelColumns, size, columns,
                  contiguousBias.defined() ? contiguousBias.const_data_ptr<at::BFloat16>() : nullptr,
                  output.data_ptr<at::BFloat16>());
  });
  return output;
}

}  // namespace graft
