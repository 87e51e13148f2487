#pragma once

#include <cstring>
#include <type_traits>

#include "ConstData.h"
#include "TileSource.h"

namespace graft {

/// The tiles of a matrix whose numbers lie in memory: fp32 or bf16 `[rows, columns]` with a contiguous last axis.
template <class Number>
class DenseRows final : public DecodedTiles<DenseRows<Number>> {
 public:
  explicit DenseRows(at::Tensor matrix)
      : matrix_(std::move(matrix)), numbers_(constData<Number>(matrix_)), stride_(matrix_.stride(0)) {}

  int64_t rows() const override { return matrix_.size(0); }
  int64_t columns() const override { return matrix_.size(1); }
  TileSource::Memory memory() const override { return {numbers_, stride_, matrix_.scalar_type()}; }

 private:
  friend DecodedTiles<DenseRows>;
  at::Tensor matrix_;
  const Number* numbers_;
  int64_t stride_;

  template <class T>
  void decode(int64_t row, int64_t rows, int64_t column, int64_t columns, T* to) const {
    for (int64_t i = 0; i < rows; ++i, to += tileSourceColumns) {
      const Number* from = numbers_ + (row + i) * stride_ + column;
      if constexpr (!std::is_same_v<T, Number>)
        for (int64_t j = 0; j < columns; ++j) to[j] = static_cast<T>(static_cast<float>(from[j]));
      else if (columns == tileSourceColumns)
        std::memcpy(to, from, tileSourceColumns * sizeof(T));
      else
        std::memcpy(to, from, columns * sizeof(T));
    }
  }
};

}  // namespace graft
