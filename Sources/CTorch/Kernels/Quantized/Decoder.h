#pragma once

#include <bit>

#include "QuantizedMatrix.h"

namespace graft {

/// The index of an element's block: a division by the block's size, which is nearly always a power of two.
struct BlockIndex {
  int64_t size;
  int shift;  // −1: no power of two

  explicit BlockIndex(int64_t size)
      : size(size), shift(std::has_single_bit(static_cast<uint64_t>(size)) ? std::countr_zero(static_cast<uint64_t>(size)) : -1) {}

  int64_t operator()(int64_t element) const { return shift >= 0 ? element >> shift : element / size; }
};

/// A `QuantizedMatrix` as the decoding loops read it; it owns nothing.
struct QuantizedView {
  explicit QuantizedView(const QuantizedMatrix& matrix);

  Encoding encoding;
  int64_t rows, columns;
  const uint8_t* codes;
  BlockIndex blockIndex;
  const float* constants;  // null with double quantization
  const uint8_t* constantCodes;
  const float *nestedConstants, *nestedTable;
  float nestedOffset;
  BlockIndex nestedIndex;
};

/// Decodes `columns` elements, from `column` on, of `rows` rows, from `row` on, to rows of `to` that are `toRow` apart.
/// In blocks of GGML's, `column` and `columns` are multiples of 32.
void decodeTile(const QuantizedView& matrix, int64_t row, int64_t rows, int64_t column, int64_t columns, float* to,
                int64_t toRow);
void decodeTile(const QuantizedView& matrix, int64_t row, int64_t rows, int64_t column, int64_t columns,
                at::BFloat16* to, int64_t toRow);

}  // namespace graft
