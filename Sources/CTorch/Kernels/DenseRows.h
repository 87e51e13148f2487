#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "ConstData.h"
#include "TileSource.h"

namespace graft {

/// The tiles of matrices whose numbers lie in memory, fp32 or bf16 `[rows, columns]` with a contiguous last axis, and whose rows
/// count behind one another.
template <class Number>
class DenseRows final : public DecodedTiles<DenseRows<Number>> {
 public:
  /// At least one matrix; all have as many columns.
  explicit DenseRows(const std::vector<at::Tensor>& matrices) : columns_(matrices.at(0).size(1)) {
    for (const auto& matrix : matrices) {
      parts_.push_back({matrix, constData<Number>(matrix), matrix.stride(0), rows_, rows_ + matrix.size(0)});
      rows_ = parts_.back().end;
    }
  }

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }

  TileSource::Memory memory(int64_t row, int64_t rows) const override {
    for (const auto& part : parts_)
      if (row >= part.begin && row + rows <= part.end)
        return {part.numbers + (row - part.begin) * part.stride, part.stride, part.matrix.scalar_type()};
    return {};
  }

 private:
  friend DecodedTiles<DenseRows>;
  struct Part {
    at::Tensor matrix;
    const Number* numbers;
    int64_t stride, begin, end;
  };
  std::vector<Part> parts_;
  int64_t rows_ = 0, columns_;

  template <class T>
  void decode(int64_t row, int64_t rows, int64_t column, int64_t columns, T* to) const {
    for (const auto& part : parts_) {
      const int64_t begin = std::max(row, part.begin), end = std::min(row + rows, part.end);
      for (int64_t i = begin; i < end; ++i)
        copy(part.numbers + (i - part.begin) * part.stride + column, columns, to + (i - row) * tileSourceColumns);
    }
  }

  template <class T>
  static void copy(const Number* from, int64_t count, T* to) {
    if constexpr (!std::is_same_v<T, Number>)
      for (int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(static_cast<float>(from[i]));
    else if (count == tileSourceColumns)
      std::memcpy(to, from, tileSourceColumns * sizeof(T));
    else
      std::memcpy(to, from, count * sizeof(T));
  }
};

/// The rows of fp32 or bf16 matrices, behind one another.
inline std::shared_ptr<const TileSource> denseRows(const std::vector<at::Tensor>& matrices) {
  if (matrices.at(0).scalar_type() == at::kFloat) return std::make_shared<DenseRows<float>>(matrices);
  return std::make_shared<DenseRows<at::BFloat16>>(matrices);
}

}  // namespace graft
