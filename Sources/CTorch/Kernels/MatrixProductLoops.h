// The loops of the matrix product (see MatrixProduct.cpp), for each instruction set (see ForEachVariant.h).

#include "SIMD/Products.h"

/// The words that numbers of a type are multiplied in: two bf16, where the processor has dot products of them, or one fp32.
template <class T>
struct ProductUnit {
  using Unit = Single;
};
#if GRAFT_VARIANT >= 3
template <>
struct ProductUnit<c10::BFloat16> {
  using Unit = Pair;
};
#endif

/// Numbers along the depth in a word.
template <class T>
inline int64_t productWordDepth() {
  return ProductUnit<T>::Unit::depth;
}

/// Packs a tile, of rows `stride` apart, with the depth along them: its 16 rows are 16 columns of the result, `count` numbers deep.
template <class Unit, class T>
GRAFT_INLINE void packAlong(const T* tile, int64_t stride, int64_t count, float* to) {
  const int64_t steps = (count + Unit::depth - 1) / Unit::depth;
  if constexpr (Unit::depth == 1 && sizeof(T) == 2) {
    float wide[tileSourceRows * tileSourceColumns];
    for (int64_t row = 0; row < tileSourceRows; ++row)
      for (int64_t i = 0; i < tileSourceColumns; i += lanes)
        store(wide + row * tileSourceColumns + i, load(tile + row * stride + i));
    return packAlong<Unit>(static_cast<const float*>(wide), tileSourceColumns, count, to);
  } else {
    const auto* words = reinterpret_cast<const uint32_t*>(tile);
    const int64_t row = stride / Unit::depth;
    for (int64_t step = 0; step < steps; step += lanes) {
      auto* target = reinterpret_cast<uint32_t*>(to) + step * panelColumns;
      if (step + lanes <= steps) {
        transposeBlock(target, panelColumns, words + step, row);
      } else {
        uint32_t block[lanes * lanes];
        transposeBlock(block, lanes, words + step, row);
        for (int64_t i = 0; step + i < steps; ++i)
          storeBits(target + i * panelColumns, loadBits<Words>(block + i * lanes));
      }
    }
  }
}

/// Packs a tile, of rows `stride` apart, with the depth down them, of which there are `count`: its 32 columns are those of a panel.
template <class Unit, class T>
GRAFT_INLINE void packDownwards(const T* tile, int64_t stride, int64_t count, float* to) {
  if constexpr (Unit::depth == 1) {
    for (int64_t row = 0; row < count; ++row)
      for (int64_t i = 0; i < panelColumns; i += lanes)
        store(to + row * panelColumns + i, load(tile + row * stride + i));
  } else {
    for (int64_t row = 0; row < count; row += 2, to += panelColumns) {
      const Words a = loadBits<Words>(tile + row * stride),
                  b = loadBits<Words>(tile + (row + 1) * stride);
      const Words even = (a & 0xffffu) | (b << 16), odd = (a >> 16) | (b & 0xffff0000u);
      storeBits(to, __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
      storeBits(to + lanes,
                __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
    }
  }
}

#include "IntegerPanels.h"

/// A part of a tile's axis that a factor of `size` covers, when the tile begins at `first`.
struct TileAxis {
  int64_t skipped, count;
  TileAxis(int64_t first, int64_t length, int64_t size) {
    const int64_t begin = first < 0 ? -first : 0, end = size - first < length ? size - first : length;
    skipped = begin < length ? begin : length;
    count = end > begin ? end - begin : 0;
  }
};

/// Packs columns `first ..< first + 32 · panels` of the depth `range` of a right factor: a panel holds 32 words for each word
/// of the depth. Zeros stand where the factor has no columns.
template <class T>
inline void packPanels(const ProductOperand<T>& operand, DepthRange range, int64_t first, int64_t panels, float* to,
                       int64_t toPanel) {
  using Unit = typename ProductUnit<T>::Unit;
  alignas(64) T tile[tileSourceRows * tileSourceColumns];
  const auto& right = *operand.right;
  // Numbers that can be used in place: words begin where rows do.
  const auto numbersOf = [](const TileSource::Memory& memory) {
    const bool fits = memory.type == c10::CppTypeToScalarType<T>::value && memory.stride % Unit::depth == 0;
    return fits ? static_cast<const T*>(memory.numbers) : nullptr;
  };
  const int64_t begin = first - operand.firstColumn;
  const int64_t steps = (range.end - range.begin + Unit::depth - 1) / Unit::depth;
  if (operand.transposed) {
    for (int64_t panel = 0; panel < panels; ++panel)
      for (int64_t half = 0; half < panelColumns; half += lanes) {
        const int64_t row = begin + panel * panelColumns + half;
        const TileAxis axis(row, tileSourceRows, right.rows());
        float* target = to + panel * toPanel + half;
        if (axis.count == 0) {
          for (int64_t step = 0; step < steps; ++step) store(target + step * panelColumns, Floats{});
          continue;
        }
        const auto memory = right.memory(row, tileSourceRows);
        const T* const numbers = numbersOf(memory);
        for (int64_t k = range.begin; k < range.end; k += tileSourceColumns, target += tileSourceColumns / Unit::depth * panelColumns) {
          const int64_t count = range.end - k < tileSourceColumns ? range.end - k : tileSourceColumns;
          if (numbers && count == tileSourceColumns) {
            packAlong<Unit>(numbers + k, memory.stride, count, target);
            continue;
          }
          if (axis.count < tileSourceRows || count < tileSourceColumns) __builtin_memset(tile, 0, sizeof tile);
          right.read(row + axis.skipped, axis.count, k, count, tile + axis.skipped * tileSourceColumns);
          packAlong<Unit>(static_cast<const T*>(tile), tileSourceColumns, count, target);
        }
      }
    return;
  }
  // Rows of the factor are read where they lie: all panels of 16 of them before the next.
  for (int64_t k = range.begin; k < range.end; k += tileSourceRows) {
    const int64_t count = range.end - k < tileSourceRows ? range.end - k : tileSourceRows;
    const auto memory = right.memory(k, count);
    const T* const numbers = numbersOf(memory);
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t column = begin + panel * panelColumns;
      const TileAxis axis(column, tileSourceColumns, right.columns());
      float* const target = to + panel * toPanel + (k - range.begin) / Unit::depth * panelColumns;
      if (numbers && count == tileSourceRows && axis.count == tileSourceColumns) {
        packDownwards<Unit>(numbers + column, memory.stride, count, target);
        continue;
      }
      if (count < tileSourceRows || axis.count < tileSourceColumns) __builtin_memset(tile, 0, sizeof tile);
      if (axis.count > 0) right.read(k, count, column + axis.skipped, axis.count, tile + axis.skipped);
      packDownwards<Unit>(static_cast<const T*>(tile), tileSourceColumns, count, target);
    }
  }
}

#if GRAFT_VARIANT >= 2
constexpr int panelTileRows = 12, fewerTileRows = 4, panelTileVectors = 2;  // 24 of the 32 registers hold sums
#elif GRAFT_VARIANT == 1
constexpr int panelTileRows = 6, fewerTileRows = 2, panelTileVectors = 1;  // a vector is two registers: 12 of 16
#else
constexpr int panelTileRows = 2, fewerTileRows = 1, panelTileVectors = 1;
#endif

/// A word of a left factor in all lanes.
template <class Unit, class T>
GRAFT_INLINE typename Unit::Vector leftWord(const T* from) {
  if constexpr (Unit::depth == 1)
    return splat(static_cast<float>(*from));
  else
    return Words{} + loadBits<uint32_t>(from);
}

/// `rows` rows of the result in some vectors of a panel, of which `columns` numbers are the result's: the sums stay in registers.
template <int rows, bool hasIntegers, class T>
GRAFT_INLINE void panelTile(const IntegerOperand* integers, DepthRange integerRange, const ProductOperand<T>* operands, const DepthRange* ranges, int64_t count, int64_t row,
                            const float* panel, const ProductTarget<T>& target, int64_t firstRow, int64_t column,
                            int64_t sumsColumn, int64_t columns) {
  using Unit = typename ProductUnit<T>::Unit;
  constexpr int vectors = panelTileVectors;
  Floats sums[rows][vectors];
  if constexpr (hasIntegers)
    panel = integerTile<rows, vectors>(*integers, integerRange, row, panel, column, columns, sums);
  float* const partial = target.sums + (row - firstRow) * target.sumsRow + sumsColumn;
  if (target.isFirst) {
    Floats start[vectors];
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) {
      const int64_t left = columns - n * lanes;
      start[n] = !target.bias || left <= 0 ? Floats{}
                 : left >= lanes           ? load(target.bias + column + n * lanes)
                                           : loadFirst(target.bias + column + n * lanes, left);
    }
#pragma clang loop unroll(full)
    for (int m = 0; m < rows; ++m)
#pragma clang loop unroll(full)
      for (int n = 0; n < vectors; ++n) sums[m][n] = hasIntegers ? sums[m][n] + start[n] : start[n];
  } else {
#pragma clang loop unroll(full)
    for (int m = 0; m < rows; ++m)
#pragma clang loop unroll(full)
      for (int n = 0; n < vectors; ++n) {
        const Floats before = load(partial + m * target.sumsRow + n * lanes);
        sums[m][n] = hasIntegers ? sums[m][n] + before : before;
      }
  }
  for (int64_t i = 0; i < count; ++i) {
    const auto& operand = operands[i];
    const int64_t stride = operand.leftRow, steps = (ranges[i].end - ranges[i].begin + Unit::depth - 1) / Unit::depth;
    const T* a = operand.left + row * stride + ranges[i].begin;
    for (int64_t step = 0; step < steps; ++step, panel += panelColumns) {
      typename Unit::Vector right[vectors];
#pragma clang loop unroll(full)
      for (int n = 0; n < vectors; ++n) right[n] = loadBits<typename Unit::Vector>(panel + n * lanes);
#pragma clang loop unroll(full)
      for (int m = 0; m < rows; ++m) {
        const auto x = leftWord<Unit>(a + m * stride + step * Unit::depth);
#pragma clang loop unroll(full)
        for (int n = 0; n < vectors; ++n) Unit::multiplyAdd(sums[m][n], x, right[n]);
      }
    }
  }
  T* to = target.numbers + row * target.numbersRow + column;
#pragma clang loop unroll(full)
  for (int m = 0; m < rows; ++m)
#pragma clang loop unroll(full)
    for (int n = 0; n < vectors; ++n) {
      const int64_t left = columns - n * lanes;
      if (!target.isLast)
        store(partial + m * target.sumsRow + n * lanes, sums[m][n]);
      else if (left >= lanes)
        store(to + m * target.numbersRow + n * lanes, sums[m][n]);
      else if (left > 0)
        storeFirst(to + m * target.numbersRow + n * lanes, sums[m][n], left);
    }
}

/// Rows `firstRow ..< lastRow` of columns `first ..< first + 32 · panels` of the result, over the packed ranges of the depths.
template <class T>
inline void multiplyPanels(const IntegerOperand* integers, DepthRange integerRange, const ProductOperand<T>* operands, const DepthRange* ranges, int64_t count,
                           const float* packed, int64_t toPanel, int64_t firstRow, int64_t lastRow, int64_t first,
                           int64_t panels, int64_t columns, const ProductTarget<T>& target) {
  const auto tiles = [&]<int size>(int64_t row) {
    for (int64_t panel = 0; panel < panels; ++panel)
      for (int64_t vector = 0; vector < panelColumns; vector += panelTileVectors * lanes) {
        const int64_t sumsColumn = panel * panelColumns + vector, column = first + sumsColumn;
        if (column >= columns) break;
        const float* right = packed + panel * toPanel + vector;
        if (integers)
          panelTile<size, true>(integers, integerRange, operands, ranges, count, row, right, target, firstRow, column,
                                sumsColumn, columns - column);
        else
          panelTile<size, false>(integers, integerRange, operands, ranges, count, row, right, target, firstRow, column,
                                 sumsColumn, columns - column);
      }
  };
  // Tiles of one size and of one row less, as long as there are enough of them: tiles of few rows run at a fraction of the rate.
  const int64_t rows = lastRow - firstRow, whole = (rows + panelTileRows - 1) / panelTileRows;
  const int64_t smaller = whole * panelTileRows - rows;
  int64_t row = firstRow;
  if (smaller <= whole) {
    const int64_t firstSmaller = lastRow - smaller * (panelTileRows - 1);
    for (; row < firstSmaller; row += panelTileRows) tiles.template operator()<panelTileRows>(row);
    for (; row < lastRow; row += panelTileRows - 1) tiles.template operator()<panelTileRows - 1>(row);
    return;
  }
  for (; row + panelTileRows <= lastRow; row += panelTileRows) tiles.template operator()<panelTileRows>(row);
  for (; row + fewerTileRows <= lastRow; row += fewerTileRows) tiles.template operator()<fewerTileRows>(row);
  for (; row < lastRow; ++row) tiles.template operator()<1>(row);
}
