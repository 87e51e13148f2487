#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace graft {

/// A bf16 matrix without loss in three quarters of its bytes, for what reads it at the speed of memory (see PackedMatrix.cpp).
struct PackedMatrix {
  int64_t rows, columns;
  at::Tensor bytes;       // uint8 [rows, columns · 3/2]
  at::Tensor bases;       // uint8 [rows]: a code c > 0 of the row is the exponent base + c
  at::Tensor exceptions;  // int32 [rows + 1 + n]: where each row's begin and end among the n, then these: column << 16 | bits
};

/// The same for the loops.
struct PackedRows {
  const uint8_t *bytes = nullptr, *bases;
  const int32_t* exceptions;
  int64_t rows, columns;

  PackedRows() = default;
  explicit PackedRows(const PackedMatrix& matrix);
  int64_t rowBytes() const { return columns / 2 * 3; }
};

/// Whether products with packed rows have a kernel on this processor.
bool hasPackedProducts();

/// Packs a bf16 matrix on the CPU; nothing when its columns are not a multiple of 64, or when more than one number in 128 would be an
/// exception.
std::optional<PackedMatrix> pack(const at::Tensor& weight);

/// The matrix as it was, to the bit.
at::Tensor unpack(const PackedMatrix& matrix);

}  // namespace graft
