// The loops of the matrix product (see MatrixProduct.cpp), for each instruction set (see ForEachVariant.h). Only the one with
// bf16 dot products is ever called.

#include "SIMD/Products.h"

/// Packs columns `first ..< first + 32 · panels` of a right factor: a panel holds, for each pair of k, 32 words of two bf16.
inline void packPanels(const ProductOperand& operand, int64_t first, int64_t panels, uint32_t* to, int64_t toPanel,
                       uint32_t* scratch) {
  using Number = c10::BFloat16;
  // The factor's own columns that fall in, others are zero.
  const int64_t begin = first - operand.firstColumn, width = panels * panelColumns;
  const int64_t from = begin < 0 ? 0 : begin,
                end = begin + width < operand.columns ? begin + width : operand.columns;
  const int64_t steps = operand.depth / 2;
  if (from >= end || from > begin || end < begin + width)
    for (int64_t panel = 0; panel < panels; ++panel)
      __builtin_memset(to + panel * toPanel, 0, steps * panelColumns * sizeof(uint32_t));
  if (from >= end) return;

  if (operand.transposed) {
    // 16 rows of the factor are 16 columns here: blocks of 16 × 16 words are transposed.
    const int64_t row32 = (steps + lanes - 1) / lanes * lanes;
    for (int64_t column = from; column < end; column += lanes - (column - begin) % lanes) {
      const int64_t place = (column - begin) % lanes;  // not 0 where the factor begins within a vector
      const int64_t count = end - column < lanes - place ? end - column : lanes - place;
      const uint32_t* rows = nullptr;
      int64_t stride = 0;
      const bool direct = count == lanes && operand.rightRow % 2 == 0 && steps % lanes == 0;
      if (direct) {
        rows = reinterpret_cast<const uint32_t*>(operand.right + column * operand.rightRow);
        stride = operand.rightRow / 2;
      } else {
        __builtin_memset(scratch, 0, lanes * row32 * sizeof(uint32_t));
        for (int64_t i = 0; i < count; ++i)
          __builtin_memcpy(scratch + (place + i) * row32, operand.right + (column + i) * operand.rightRow,
                           operand.depth * sizeof(Number));
        rows = scratch;
        stride = row32;
      }
      const int64_t vector = (column - begin) / lanes;
      uint32_t* panel = to + vector / 2 * toPanel + vector % 2 * lanes;
      int64_t step = 0;
      for (; step + lanes <= steps; step += lanes)
        transposeBlock(panel + step * panelColumns, panelColumns, rows + step, stride);
      if (step < steps) {
        uint32_t block[lanes * lanes];
        transposeBlock(block, lanes, rows + step, stride);
        for (int64_t i = 0; step + i < steps; ++i)
          storeBits(panel + (step + i) * panelColumns, loadBits<Words>(block + i * lanes));
      }
    }
    return;
  }

  // Pairs of rows are interleaved.
  auto* upper = reinterpret_cast<Number*>(scratch);
  auto* lower = upper + width;
  __builtin_memset(scratch, 0, 2 * width * sizeof(Number));
  const bool whole = from == begin && end == begin + width;
  for (int64_t step = 0; step < steps; ++step) {
    const Number *one = upper, *other = lower;
    if (whole) {
      one = operand.right + 2 * step * operand.rightRow + begin;
      other = one + operand.rightRow;
    } else {
      const Number* row = operand.right + 2 * step * operand.rightRow + from;
      __builtin_memcpy(upper + (from - begin), row, (end - from) * sizeof(Number));
      __builtin_memcpy(lower + (from - begin), row + operand.rightRow, (end - from) * sizeof(Number));
    }
    for (int64_t panel = 0; panel < panels; ++panel) {
      const Words a = loadBits<Words>(one + panel * panelColumns), b = loadBits<Words>(other + panel * panelColumns);
      const Words even = (a & 0xffffu) | (b << 16), odd = (a >> 16) | (b & 0xffff0000u);
      uint32_t* target = to + panel * toPanel + step * panelColumns;
      storeBits(target, __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
      storeBits(target + lanes,
                __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
    }
  }
}

#if GRAFT_VARIANT >= 3

/// `rows` rows of the result in one panel: 2 · rows vectors of sums stay in registers.
template <int rows>
GRAFT_INLINE void panelTile(const ProductOperand* operands, int64_t count, int64_t row, const uint32_t* panel,
                            const c10::BFloat16* bias, c10::BFloat16* to, int64_t toRow, int64_t columns) {
  Floats sums[rows][2];
  Floats left{}, right{};
  if (bias) {
    left = columns >= lanes ? load(bias) : loadFirst(bias, columns);
    if (columns > lanes) right = columns == panelColumns ? load(bias + lanes) : loadFirst(bias + lanes, columns - lanes);
  }
#pragma clang loop unroll(full)
  for (int m = 0; m < rows; ++m) {
    sums[m][0] = left;
    sums[m][1] = right;
  }
  for (int64_t i = 0; i < count; ++i) {
    const auto& operand = operands[i];
    const int64_t stride = operand.leftRow / 2, steps = operand.depth / 2;
    const auto* a = reinterpret_cast<const uint32_t*>(operand.left) + row * stride;
    for (int64_t step = 0; step < steps; ++step, panel += panelColumns) {
      const Words b0 = loadBits<Words>(panel), b1 = loadBits<Words>(panel + lanes);
#pragma clang loop unroll(full)
      for (int m = 0; m < rows; ++m) {
        const Words x = Words{} + a[m * stride + step];
        Pair::multiplyAdd(sums[m][0], x, b0);
        Pair::multiplyAdd(sums[m][1], x, b1);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int m = 0; m < rows; ++m, to += toRow) {
    if (columns == panelColumns) {
      store(to, sums[m][0]);
      store(to + lanes, sums[m][1]);
    } else {
      storeFirst(to, sums[m][0], columns < lanes ? columns : lanes);
      if (columns > lanes) storeFirst(to + lanes, sums[m][1], columns - lanes);
    }
  }
}

#endif

/// Rows `rows.begin ..< rows.end` of columns `first ..< first + 32 · panels` of the result.
inline void multiplyPanels(const ProductOperand* operands, int64_t count, const uint32_t* packed, int64_t toPanel,
                           int64_t firstRow, int64_t lastRow, int64_t first, int64_t panels, int64_t columns,
                           const c10::BFloat16* bias, c10::BFloat16* output) {
#if GRAFT_VARIANT >= 3
  const auto tiles = [&]<int size>(int64_t row) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t column = first + panel * panelColumns;
      const int64_t width = columns - column < panelColumns ? columns - column : panelColumns;
      panelTile<size>(operands, count, row, packed + panel * toPanel, bias ? bias + column : nullptr,
                      output + row * columns + column, columns, width);
    }
  };
  int64_t row = firstRow;
  for (; row + 12 <= lastRow; row += 12) tiles.template operator()<12>(row);
  for (; row + 4 <= lastRow; row += 4) tiles.template operator()<4>(row);
  for (; row < lastRow; ++row) tiles.template operator()<1>(row);
#endif
}
