// Matrix products: C = Σ A·B over a few terms, + bias, summed in fp32.
//
// After Goto & van de Geijn 2008 (https://doi.org/10.1145/1356052.1356053): a group of panels of the right factors,
// 32 columns each, is packed into the second-level cache in the form that the processor's products want; then all rows of
// the left factors go by it, a few at a time, with their sums in registers. Each thread packs and multiplies groups of its
// own. Packing reads tiles of the factor (TileSource.h), so that a factor in few bits is decoded on its way and never exists
// as a whole. A depth of which not even one panel fits the cache, such as a vocabulary, is cut into blocks, between which the
// sums are kept in fp32.
//
// A product of bytes may come first: four at a time, summed in integers, which the processor's instruction wants one factor of
// without a sign. Left ones are stored 128 higher; 128 times the sum of a column, made when it is packed, is taken off again.

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

/// A matrix of a product of bytes, whose rows follow those of the one before.
struct IntegerPart {
  const int8_t* codes;
  int64_t firstRow, rows;
};

/// The product of bytes as the loops read it.
struct IntegerOperand {
  const uint8_t* left;
  int64_t leftRow;
  const float* leftScales;
  const IntegerPart* parts;
  int64_t partCount, rows, columns;
  bool transposed;
  const float* rightScales;  // null: 1

  int64_t depth() const { return transposed ? columns : rows; }

  /// A row of the right factor; null behind the last one.
  const int8_t* row(int64_t index) const {
    for (int64_t i = 0; i < partCount; ++i)
      if (index >= parts[i].firstRow && index < parts[i].firstRow + parts[i].rows)
        return parts[i].codes + (index - parts[i].firstRow) * columns;
    return nullptr;
  }
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

/// Bytes that are multiplied at once.
constexpr int64_t integerDepth = 4;

}  // namespace graft

#define GRAFT_LOOPS "../MatrixProductLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

/// Bytes of packed panels that stay in the second-level cache beside the rows that go by.
constexpr int64_t groupBytes = 384 << 10;

/// A panel of more bytes is cut into blocks of its depth.
constexpr int64_t largestPanelBytes = 400 << 10;

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
  return denseRows({term.right.stride(1) == 1 ? term.right : term.right.contiguous()});
}

void check(const ProductTerm& term, const TileSource& right, const at::Tensor& output) {
  const int64_t columns = output.size(1), depth = term.transposed ? right.columns() : right.rows(),
                width = term.transposed ? right.rows() : right.columns();
  TORCH_CHECK(term.left.dim() == 2 && term.left.size(1) == depth && term.left.size(0) == output.size(0) &&
                  term.firstColumn >= 0 && term.firstColumn + width <= columns,
              "matrix product: ", term.left.sizes(), " by ", depth, " × ", width, " at column ", term.firstColumn,
              " does not fit a result of ", output.size(0), " × ", columns);
  TORCH_CHECK(term.left.device().is_cpu() && term.left.scalar_type() == output.scalar_type() &&
                  (!term.right.defined() || term.right.scalar_type() == output.scalar_type()),
              "matrix product: the terms are of several types");
  TORCH_CHECK(!term.source || term.transposed || (term.firstColumn == 0 && width == columns),
              "matrix product: a decoded factor covers all columns of a result");
}

/// The right factor's matrices, one behind the other.
std::vector<IntegerPart> partsOf(const IntegerTerm& term) {
  std::vector<IntegerPart> parts;
  int64_t rows = 0;
  for (const auto& matrix : term.right) {
    TORCH_CHECK(matrix.device().is_cpu() && matrix.scalar_type() == at::kChar && matrix.dim() == 2 && matrix.is_contiguous() &&
                    matrix.size(1) == term.right[0].size(1),
                "product of bytes: the right factor is int8 [rows, columns] on the CPU, not ", matrix.toString(), matrix.sizes());
    parts.push_back({constData<int8_t>(matrix), rows, matrix.size(0)});
    rows += matrix.size(0);
  }
  TORCH_CHECK(rows > 0, "product of bytes: there is nothing to multiply");
  return parts;
}

IntegerOperand operandOf(const IntegerTerm& term, const std::vector<IntegerPart>& parts, const at::Tensor& output) {
  const int64_t rows = parts.back().firstRow + parts.back().rows, columns = term.right[0].size(1);
  const int64_t depth = term.transposed ? columns : rows, width = term.transposed ? rows : columns;
  TORCH_CHECK(term.left.scalar_type() == at::kByte && term.left.is_contiguous() && term.left.dim() == 2 &&
                  term.left.size(0) == output.size(0) && term.left.size(1) == roundedUp(depth, integerDepth) &&
                  width == output.size(1) && term.leftScales.numel() == output.size(0) &&
                  (!term.rightScales.defined() || (term.rightScales.numel() == width && term.rightScales.is_contiguous() &&
                                                   term.rightScales.scalar_type() == at::kFloat)),
              "product of bytes: ", term.left.sizes(), " by ", depth, " × ", width, " does not fit a result ", output.sizes());
  return {constData<uint8_t>(term.left), term.left.stride(0), constData<float>(term.leftScales), parts.data(),
          static_cast<int64_t>(parts.size()), rows, columns, term.transposed,
          term.rightScales.defined() ? constData<float>(term.rightScales) : nullptr};
}

/// `integers` may be null.
template <class T>
void multiply(const IntegerOperand* integers, const std::vector<ProductTerm>& terms, const at::Tensor& bias,
              at::Tensor& output) {
  const int64_t wordDepth = GRAFT_DISPATCH(productWordDepth<T>);
  const int64_t rows = output.size(0), columns = output.size(1), threads = threadCount();
  std::vector<at::Tensor> lefts;
  std::vector<std::shared_ptr<const TileSource>> rights;
  std::vector<ProductOperand<T>> operands;
  for (const auto& term : terms) {
    rights.push_back(sourceOf(term));
    check(term, *rights.back(), output);
    lefts.push_back(inWords(term.left, wordDepth));
    operands.push_back({constData<T>(lefts.back()), lefts.back().stride(0), rights.back().get(),
                        term.transposed, term.left.size(1), term.firstColumn});
  }
  const auto wordsOf = [&](int64_t depth) { return roundedUp(depth, wordDepth) / wordDepth * panelColumns; };
  // The sums of the columns lie before them.
  const auto integerWordsOf = [&](int64_t depth) {
    return (1 + roundedUp(depth, integerDepth) / integerDepth) * panelColumns;
  };
  const int64_t integerPartDepth = integers ? integers->depth() : 0;

  // Groups of panels, as many for each thread, that fit the cache; with few panels the rows are divided too.
  const int64_t panels = roundedUp(columns, panelColumns) / panelColumns;
  int64_t panelWords = integers ? integerWordsOf(integerPartDepth) : 0;
  for (const auto& operand : operands) panelWords += wordsOf(operand.depth);
  int64_t blocks = 1, most = std::max<int64_t>(1, groupBytes / std::max<int64_t>(4, panelWords * 4));
  if (panelWords * 4 > largestPanelBytes) {
    most = std::clamp<int64_t>((panels + threads - 1) / threads, 1, 16);
    blocks = (panelWords * 4 * most + groupBytes - 1) / groupBytes;
  }
  const int64_t rounds = (panels + threads * most - 1) / (threads * most);
  const int64_t groups = std::min(panels, threads * rounds), groupPanels = (panels + groups - 1) / groups;
  const int64_t parts = std::clamp<int64_t>((threads + groups - 1) / groups, 1, std::max<int64_t>(1, rows / 96));

  // A shallow term belongs to the first block.
  const auto rangeOf = [&](int64_t depth, int64_t block) {
    const int64_t step = roundedUp((depth + blocks - 1) / blocks, tileSourceColumns);
    return DepthRange{std::min(block * step, depth), std::min((block + 1) * step, depth)};
  };
  int64_t packedPanel = integers ? integerWordsOf(rangeOf(integerPartDepth, 0).end) : 0;
  for (const auto& operand : operands) packedPanel += wordsOf(rangeOf(operand.depth, 0).end);
  const int64_t mostRows = (rows + parts - 1) / parts, sumsRow = groupPanels * panelColumns;
  const int64_t packedWords = groupPanels * packedPanel, sumWords = blocks > 1 ? mostRows * sumsRow : 0;
  const auto buffer = at::empty({threads, packedWords + sumWords}, output.options().dtype(at::kFloat));
  auto* const words = buffer.template data_ptr<float>();
  parallelTasks(groups * parts, [&](int64_t task, int64_t thread) {
    const int64_t group = task / parts, part = task % parts;
    const int64_t firstRow = rows * part / parts, lastRow = rows * (part + 1) / parts;
    const int64_t first = panels * group / groups, size = panels * (group + 1) / groups - first;
    float* const packed = words + thread * (packedWords + sumWords);
    std::vector<DepthRange> ranges(operands.size());
    for (int64_t block = 0; block < blocks; ++block) {
      float* to = packed;
      const DepthRange integerRange = rangeOf(integerPartDepth, block);
      if (integers) {
        GRAFT_DISPATCH(packBytes, *integers, integerRange, first * panelColumns, size, to, packedPanel);
        to += integerWordsOf(integerRange.end - integerRange.begin);
      }
      for (size_t i = 0; i < operands.size(); ++i) {
        ranges[i] = rangeOf(operands[i].depth, block);
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
      GRAFT_DISPATCH(multiplyPanels<T>, integers, integerRange, operands.data(), ranges.data(), static_cast<int64_t>(operands.size()), packed,
                     packedPanel, firstRow, lastRow, first * panelColumns, size, columns, target);
    }
  });
}

}  // namespace

bool hasBFloat16Products() { return variant() == Variant::avx512bf16; }

bool hasProductKernel(const at::Tensor& left, at::TensorList rights) {
  return hasBFloat16Products() && left.dim() == 2 && left.size(0) >= fewestRows && left.size(1) > 0 && fits(left) &&
         std::all_of(rights.begin(), rights.end(), fits);
}

static void fill(const IntegerOperand* integers, const std::vector<ProductTerm>& terms, const at::Tensor& bias,
                 at::Tensor& output) {
  const auto type = output.scalar_type();
  const int64_t columns = output.size(1);
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, "matrix product: the types are fp32 and bf16, not ", type);
  TORCH_CHECK(!bias.defined() || bias.numel() == columns, "matrix product: a bias ", bias.sizes(), " for ", columns,
              " columns");
  const auto contiguousBias = bias.defined() ? bias.to(type).contiguous() : bias;
  if (output.numel() == 0) return;
  if (type == at::kFloat)
    multiply<float>(integers, terms, contiguousBias, output);
  else
    multiply<at::BFloat16>(integers, terms, contiguousBias, output);
}

at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias,
                         at::Tensor output) {
  RECORD_FUNCTION("graft::sum_of_products", c10::ArrayRef<const c10::IValue>{});
  TORCH_CHECK(!terms.empty() && terms[0].left.dim() == 2, "matrix product: there is nothing to multiply");
  const auto type = terms[0].left.scalar_type();
  const int64_t rows = terms[0].left.size(0);
  if (!output.defined()) output = at::empty({rows, columns}, terms[0].left.options());
  TORCH_CHECK(output.dim() == 2 && output.stride(1) == 1 && output.size(0) == rows && output.size(1) == columns &&
                  output.scalar_type() == type,
              "matrix product: the result must be ", type, " [", rows, ", ", columns, "] with contiguous rows, not ",
              output.toString(), output.sizes());
  fill(nullptr, terms, bias, output);
  return output;
}

void sumOfProducts(const IntegerTerm& integers, const std::vector<ProductTerm>& terms, const at::Tensor& bias,
                   at::Tensor& output) {
  RECORD_FUNCTION("graft::sum_of_products", c10::ArrayRef<const c10::IValue>{});
  TORCH_CHECK(output.dim() == 2 && output.stride(1) == 1 && output.device().is_cpu(),
              "product of bytes: the result must have contiguous rows, on the CPU");
  const auto parts = partsOf(integers);
  const auto operand = operandOf(integers, parts, output);
  fill(&operand, terms, bias, output);
}

bool hasByteProducts() { return variant() == Variant::avx512bf16; }

at::Tensor largestMagnitudes(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 2 && x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16),
              "largest magnitudes of ", x.toString(), x.sizes(), ": fp32 or bf16 [rows, columns] is expected");
  const auto from = x.stride(1) == 1 ? x : x.contiguous();
  const int64_t parts = std::max<int64_t>(1, std::min(threadCount(), x.size(0) / 16));
  auto found = at::zeros({parts, x.size(1)}, x.options().dtype(at::kFloat));
  auto* const to = found.data_ptr<float>();
  const auto run = [&]<class T>(const T* numbers) {
    parallelTasks(parts, [&](int64_t part, int64_t) {
      for (int64_t row = x.size(0) * part / parts; row < x.size(0) * (part + 1) / parts; ++row)
        GRAFT_DISPATCH(raiseMagnitudes<T>, numbers + row * from.stride(0), x.size(1), to + part * x.size(1));
    });
  };
  if (x.scalar_type() == at::kFloat)
    run(constData<float>(from));
  else
    run(constData<at::BFloat16>(from));
  return parts == 1 ? found[0] : found.amax(0);
}

std::tuple<at::Tensor, at::Tensor> quantizeTokens(const at::Tensor& x, const at::Tensor& columnScales) {
  TORCH_CHECK(x.dim() == 2 && x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
                  (!columnScales.defined() || (columnScales.numel() == x.size(1) && columnScales.is_contiguous() &&
                                               columnScales.scalar_type() == at::kFloat)),
              "bytes of ", x.toString(), x.sizes(), ": fp32 or bf16 [rows, depth] is expected, and as many scales as columns");
  const auto from = x.stride(1) == 1 ? x : x.contiguous();
  const int64_t rows = x.size(0), depth = x.size(1), width = roundedUp(depth, integerDepth);
  auto bytes = at::empty({rows, width}, x.options().dtype(at::kByte)), scales = at::empty({rows}, x.options().dtype(at::kFloat));
  const float* by = columnScales.defined() ? constData<float>(columnScales) : nullptr;
  auto* const to = bytes.data_ptr<uint8_t>();
  auto* const scale = scales.data_ptr<float>();
  const auto run = [&]<class T>(const T* numbers) {
    parallelFor(rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> scaled(roundedUp(depth, 16));
      for (int64_t row = begin; row < end; ++row)
        GRAFT_DISPATCH(quantizeToken<T>, numbers + row * from.stride(0), depth, by, scaled.data(), to + row * width, width,
                       scale + row);
    });
  };
  if (x.scalar_type() == at::kFloat)
    run(constData<float>(from));
  else
    run(constData<at::BFloat16>(from));
  return {bytes, scales};
}

}  // namespace graft
