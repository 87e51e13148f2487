#pragma once

#include <algorithm>
#include <vector>

#include "../TileSource.h"
#include "Decoder.h"

namespace graft {

/// The tiles of quantized matrices whose rows lie behind one another, decoded as they are read.
class DecodedRows final : public DecodedTiles<DecodedRows> {
 public:
  /// The matrices must outlive the rows.
  explicit DecodedRows(const std::vector<QuantizedMatrix>& matrices) : columns_(matrices.at(0).columns) {
    for (const auto& matrix : matrices) {
      parts_.push_back({rows_, QuantizedView(matrix)});
      rows_ += matrix.rows;
    }
  }

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }

 private:
  friend DecodedTiles;
  struct Part {
    int64_t firstRow;
    QuantizedView matrix;
  };
  std::vector<Part> parts_;
  int64_t rows_ = 0, columns_;

  template <class T>
  void decode(int64_t row, int64_t rows, int64_t column, int64_t columns, T* to) const {
    for (const auto& part : parts_) {
      const int64_t begin = std::max(row, part.firstRow), end = std::min(row + rows, part.firstRow + part.matrix.rows);
      if (begin < end)
        decodeTile(part.matrix, begin - part.firstRow, end - begin, column, columns,
                   to + (begin - row) * tileSourceColumns, tileSourceColumns);
    }
  }
};

}  // namespace graft
