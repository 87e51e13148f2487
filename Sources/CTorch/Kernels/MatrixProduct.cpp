// Matrix products: C = Σ A·B over a few terms, + bias, summed in fp32.
//
// After Goto & van de Geijn 2008 (https://doi.org/10.1145/1356052.1356053): a group of panels of the right factors,
// 32 columns each, is packed into the second-level cache in the form that the processor's products want; then all rows of
// the left factors go by it, a few at a time, with their sums in registers. Each thread packs and multiplies groups of its
// own. Packing reads tiles of the factor (TileSource.h), so that a factor in few bits is decoded on its way and never exists
// as a whole. A depth of which not even one panel fits the cache, such as a vocabulary, is cut into blocks, between which the
// sums are kept in fp32.

#include "MatrixProduct.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "DenseRows.h"
#include "FewRowsLinear.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

namespace graft {

/// A term as the loops read it.
template <class T>
struct ProductOperand {
  const T* left;
  int64_t leftRow;
  const TileSource* right;
  bool transposed;
  int64_t depth, firstColumn;
};

/// Numbers `begin ..< end` of an operand's depth.
struct DepthRange {
  int64_t begin, end;
};

/// What stands in a result before a product is added, and where the sum goes: whole sums in the type of the result, parts
/// of them in fp32.
template <class T>
struct ProductTarget {
  T* numbers;
  int64_t numbersRow;
  const T* bias;  // null: none
  float* sums;
  int64_t sumsRow;
  bool isFirst, isLast;
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

/// A panel of more bytes is cut into blocks of its depth.
constexpr int64_t largestPanelBytes = 768 << 10;

/// Below this the reading of the weight takes the time (FewRowsLinear.h).
constexpr int64_t fewestRows = mostRows + 1;

int64_t roundedUp(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

bool fits(const at::Tensor& matrix) {
  return matrix.defined() && matrix.device().is_cpu() && matrix.scalar_type() == at::kBFloat16 && matrix.dim() == 2 &&
         matrix.stride(1) == 1;
}

/// Contiguous along the rows and, as the loops read words of `depth` numbers, of rows that are whole words.
at::Tensor inWords(const at::Tensor& left, int64_t depth) {
  if (left.size(1) % depth != 0) return at::constant_pad_nd(left, {0, depth - left.size(1) % depth});
  return left.stride(1) == 1 ? left : left.contiguous();
}

std::shared_ptr<const TileSource> sourceOf(const ProductTerm& term) {
  if (term.source) return term.source;
  const auto matrix = term.right.stride(1) == 1 ? term.right : term.right.contiguous();
  if (matrix.scalar_type() == at::kFloat) return std::make_shared<DenseRows<float>>(matrix);
  return std::make_shared<DenseRows<at::BFloat16>>(matrix);
}

void check(const ProductTerm& term, const TileSource& right, const at::Tensor& first, int64_t columns) {
  const int64_t depth = term.transposed ? right.columns() : right.rows(),
                width = term.transposed ? right.rows() : right.columns();
  TORCH_CHECK(term.left.dim() == 2 && term.left.size(1) == depth && term.left.size(0) == first.size(0) &&
                  term.firstColumn >= 0 && term.firstColumn + width <= columns,
              "matrix product: ", term.left.sizes(), " by ", depth, " × ", width, " at column ", term.firstColumn,
              " does not fit a result of ", first.size(0), " × ", columns);
  TORCH_CHECK(term.left.device().is_cpu() && term.left.scalar_type() == first.scalar_type() &&
                  (!term.right.defined() || term.right.scalar_type() == first.scalar_type()),
              "matrix product: the terms are of several types");
  TORCH_CHECK(!term.source || term.transposed || (term.firstColumn == 0 && width == columns),
              "matrix product: a decoded factor covers all columns of a result");
}

template <class T>
void multiply(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias, at::Tensor& output) {
  const int64_t wordDepth = GRAFT_DISPATCH(productWordDepth<T>);
  const int64_t rows = terms[0].left.size(0), threads = threadCount();
  std::vector<at::Tensor> lefts;
  std::vector<std::shared_ptr<const TileSource>> rights;
  std::vector<ProductOperand<T>> operands;
  for (const auto& term : terms) {
    rights.push_back(sourceOf(term));
    check(term, *rights.back(), terms[0].left, columns);
    lefts.push_back(inWords(term.left, wordDepth));
    operands.push_back({constData<T>(lefts.back()), lefts.back().stride(0), rights.back().get(),
                        term.transposed, term.left.size(1), term.firstColumn});
  }
  const auto wordsOf = [&](int64_t depth) { return roundedUp(depth, wordDepth) / wordDepth * panelColumns; };

  // Groups of panels, as many for each thread, that fit the cache; with few panels the rows are divided too.
  const int64_t panels = roundedUp(columns, panelColumns) / panelColumns;
  int64_t panelWords = 0;
  for (const auto& operand : operands) panelWords += wordsOf(operand.depth);
  int64_t blocks = 1, most = std::max<int64_t>(1, groupBytes / std::max<int64_t>(4, panelWords * 4));
  if (panelWords * 4 > largestPanelBytes) {
    most = std::clamp<int64_t>((panels + threads - 1) / threads, 1, 16);
    blocks = (panelWords * 4 * most + groupBytes - 1) / groupBytes;
  }
  const int64_t rounds = (panels + threads * most - 1) / (threads * most);
  const int64_t groupPanels = std::max<int64_t>(1, (panels + threads * rounds - 1) / (threads * rounds));
  const int64_t groups = (panels + groupPanels - 1) / groupPanels;
  const int64_t parts = std::clamp<int64_t>((threads + groups - 1) / groups, 1, std::max<int64_t>(1, rows / 96));

  // A shallow term belongs to the first block.
  const auto rangeOf = [&](const ProductOperand<T>& operand, int64_t block) {
    const int64_t step = roundedUp((operand.depth + blocks - 1) / blocks, tileSourceColumns);
    return DepthRange{std::min(block * step, operand.depth), std::min((block + 1) * step, operand.depth)};
  };
  int64_t packedPanel = 0;
  for (const auto& operand : operands) packedPanel += wordsOf(rangeOf(operand, 0).end);
  const int64_t mostRows = (rows + parts - 1) / parts, sumsRow = groupPanels * panelColumns;
  const int64_t packedWords = groupPanels * packedPanel, sumWords = blocks > 1 ? mostRows * sumsRow : 0;
  const auto buffer = at::empty({threads, packedWords + sumWords}, terms[0].left.options().dtype(at::kFloat));
  auto* const words = buffer.template data_ptr<float>();
  parallelTasks(groups * parts, [&](int64_t task, int64_t thread) {
    const int64_t group = task / parts, part = task % parts;
    const int64_t firstRow = rows * part / parts, lastRow = rows * (part + 1) / parts;
    const int64_t first = group * groupPanels, size = std::min(groupPanels, panels - first);
    float* const packed = words + thread * (packedWords + sumWords);
    std::vector<DepthRange> ranges(operands.size());
    for (int64_t block = 0; block < blocks; ++block) {
      float* to = packed;
      for (size_t i = 0; i < operands.size(); ++i) {
        ranges[i] = rangeOf(operands[i], block);
        GRAFT_DISPATCH(packPanels<T>, operands[i], ranges[i], first * panelColumns, size, to, packedPanel);
        to += wordsOf(ranges[i].end - ranges[i].begin);
      }
      const ProductTarget<T> target{output.template data_ptr<T>(),
                                    output.stride(0),
                                    bias.defined() ? constData<T>(bias) : nullptr,
                                    packed + packedWords,
                                    sumsRow,
                                    block == 0,
                                    block == blocks - 1};
      GRAFT_DISPATCH(multiplyPanels<T>, operands.data(), ranges.data(), static_cast<int64_t>(operands.size()), packed,
                     packedPanel, firstRow, lastRow, first * panelColumns, size, columns, target);
    }
  });
}

}  // namespace

bool hasProductKernel(const std::vector<ProductTerm>& terms) {
  if (variant() != Variant::avx512bf16 || terms.empty() || terms[0].left.dim() != 2) return false;
  const int64_t rows = terms[0].left.size(0);
  return rows >= fewestRows && std::all_of(terms.begin(), terms.end(), [&](const ProductTerm& term) {
           return fits(term.left) && term.left.size(0) == rows && term.left.size(1) > 0 && fits(term.right);
         });
}

at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias,
                         at::Tensor output) {
  RECORD_FUNCTION("graft::sum_of_products", c10::ArrayRef<const c10::IValue>{});
  TORCH_CHECK(!terms.empty() && terms[0].left.dim() == 2, "matrix product: there is nothing to multiply");
  const auto type = terms[0].left.scalar_type();
  const int64_t rows = terms[0].left.size(0);
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, "matrix product: the types are fp32 and bf16, not ", type);
  if (!output.defined()) output = at::empty({rows, columns}, terms[0].left.options());
  TORCH_CHECK(output.dim() == 2 && output.stride(1) == 1 && output.size(0) == rows && output.size(1) == columns &&
                  output.scalar_type() == type,
              "matrix product: the result must be ", type, " [", rows, ", ", columns, "] with contiguous rows, not ",
              output.toString(), output.sizes());
  TORCH_CHECK(!bias.defined() || bias.numel() == columns, "matrix product: a bias ", bias.sizes(), " for ", columns,
              " columns");
  const auto contiguousBias = bias.defined() ? bias.to(type).contiguous() : bias;
  if (rows == 0 || columns == 0) return output;
  if (type == at::kFloat)
    multiply<float>(terms, columns, contiguousBias, output);
  else
    multiply<at::BFloat16>(terms, columns, contiguousBias, output);
  return output;
}

}  // namespace graft
