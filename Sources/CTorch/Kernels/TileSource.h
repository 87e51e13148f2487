#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace graft {

/// Rows and columns of a tile, the piece of a matrix that is read at once: it lies in the first cache level.
constexpr int64_t tileSourceRows = 16, tileSourceColumns = 32;

/// Where a matrix product takes a right factor from, tile by tile: numbers that lie in memory, or codes that are decoded.
/// A factor in few bits is multiplied without a copy of it in whole numbers.
class TileSource {
 public:
  virtual ~TileSource() = default;

  virtual int64_t rows() const = 0;
  virtual int64_t columns() const = 0;

  /// Rows that lie in memory, and how far they are apart: whole tiles are then used in place.
  struct Memory {
    const void* numbers = nullptr;
    int64_t stride = 0;
    at::ScalarType type = at::kFloat;
  };
  /// Where `rows` rows, from `row` on, lie; nowhere when they are decoded, or lie in several places.
  virtual Memory memory(int64_t /*row*/, int64_t /*rows*/) const { return {}; }

  /// Writes `columns` numbers, from `column` on, of `rows` rows, from `row` on, to rows of `to` that are
  /// `tileSourceColumns` apart. All lie within the matrix and a tile; `column` is a multiple of `tileSourceColumns`
  /// unless the numbers lie in memory.
  virtual void read(int64_t row, int64_t rows, int64_t column, int64_t columns, float* to) const = 0;
  /// The same, rounded to bf16.
  virtual void read(int64_t row, int64_t rows, int64_t column, int64_t columns, at::BFloat16* to) const = 0;
};

/// A source whose `decode` writes either type of number.
template <class Source>
class DecodedTiles : public TileSource {
 public:
  void read(int64_t row, int64_t rows, int64_t column, int64_t columns, float* to) const final {
    static_cast<const Source*>(this)->decode(row, rows, column, columns, to);
  }
  void read(int64_t row, int64_t rows, int64_t column, int64_t columns, at::BFloat16* to) const final {
    static_cast<const Source*>(this)->decode(row, rows, column, columns, to);
  }
};

}  // namespace graft
