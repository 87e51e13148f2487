// bf16 in twelve bits, without loss. A token that is generated costs a reading of all weights, and of a weight's sixteen bits the eight of
// the exponent say little: nearly all numbers of a row lie within fifteen powers of two below its largest (their entropy is below three
// bits; Zhang et al. 2025, arXiv:2504.11651, code it with that many, which costs more to decode than memory costs to read here).
//
// A number is a byte of sign and mantissa, and a code of four bits: 0 for the exponent 0, c for the exponent base + c with the base of its
// row. Numbers that are smaller than that, about one in ten thousand, are packed as 0 and kept in a list, whose products are added.
//
// 128 numbers lie together: 64 bytes, 64 bytes, 64 pairs of codes, the first half's codes in the lower bits. Within 64 numbers the order
// is that in which two instructions that interleave bytes give numbers in their own order again. 64 numbers that are left over: 64 bytes, 32
// pairs of codes, the codes of the first 32 bytes in the lower bits.

#include "PackedMatrix.h"

#include <algorithm>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

namespace graft {

/// Numbers that are packed in one order.
constexpr int64_t packedGroup = 64;

/// What one task packs: some rows, one after the other.
struct PackingProblem {
  const uint16_t* weight;
  int64_t weightRow, columns;
  uint8_t *bytes, *bases;
};

}  // namespace graft

#define GRAFT_LOOPS "../PackedMatrixLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

constexpr int64_t rowsAtATime = 64;

/// Where among a group's bytes its number i lies.
int64_t packedPlace(int64_t i) { return i % 32 / 8 * 16 + i / 32 * 8 + i % 8; }

}  // namespace

PackedRows::PackedRows(const PackedMatrix& matrix)
    : bytes(constData<uint8_t>(matrix.bytes)),
      bases(constData<uint8_t>(matrix.bases)),
      exceptions(constData<int32_t>(matrix.exceptions)),
      rows(matrix.rows),
      columns(matrix.columns) {}

bool hasPackedProducts() { return variant() == Variant::avx512bf16; }

std::optional<PackedMatrix> pack(const at::Tensor& weight) {
  TORCH_CHECK(weight.device().is_cpu() && weight.scalar_type() == at::kBFloat16 && weight.dim() == 2 && weight.stride(1) == 1,
              "packing: ", weight.sizes(), " in ", weight.scalar_type(), " is no bf16 matrix on the CPU");
  const int64_t rows = weight.size(0), columns = weight.size(1);
  // A column has sixteen bits in the list of exceptions.
  if (rows == 0 || columns == 0 || columns % packedGroup != 0 || columns > 1 << 16) return std::nullopt;
  PackedMatrix result{rows, columns, at::empty({rows, columns / 2 * 3}, weight.options().dtype(at::kByte)),
                      at::empty({rows}, weight.options().dtype(at::kByte)), {}};
  const PackingProblem problem{reinterpret_cast<const uint16_t*>(constData<at::BFloat16>(weight)), weight.stride(0), columns,
                               result.bytes.data_ptr<uint8_t>(), result.bases.data_ptr<uint8_t>()};
  const int64_t tasks = (rows + rowsAtATime - 1) / rowsAtATime, most = rows * columns / 128;
  std::vector<std::vector<int32_t>> found(tasks);  // of each task
  std::vector<int32_t> starts(rows + 1);           // first the number of each row, then where they begin
  std::atomic<int64_t> total{0};
  parallelTasks(tasks, [&](int64_t task, int64_t) {
    for (int64_t row = task * rowsAtATime; row < std::min(rows, (task + 1) * rowsAtATime); ++row) {
      if (total.load(std::memory_order_relaxed) > most) return;
      const auto before = found[task].size();
      GRAFT_DISPATCH(packRow, problem, row, found[task]);
      starts[row] = static_cast<int32_t>(found[task].size() - before);
      total.fetch_add(starts[row], std::memory_order_relaxed);
    }
  });
  if (total > most) return std::nullopt;
  result.exceptions = at::empty({rows + 1 + total.load()}, weight.options().dtype(at::kInt));
  int32_t* const list = result.exceptions.data_ptr<int32_t>();
  int32_t begin = 0;
  for (int64_t row = 0; row <= rows; ++row) {
    list[row] = begin;
    if (row < rows) begin += starts[row];
  }
  int32_t* to = list + rows + 1;
  for (const auto& part : found) to = std::copy(part.begin(), part.end(), to);
  return result;
}

at::Tensor unpack(const PackedMatrix& matrix) {
  const PackedRows packed(matrix);
  auto result = at::empty({packed.rows, packed.columns}, matrix.bytes.options().dtype(at::kBFloat16));
  auto* const numbers = reinterpret_cast<uint16_t*>(result.data_ptr<at::BFloat16>());
  for (int64_t row = 0; row < packed.rows; ++row) {
    uint16_t* const to = numbers + row * packed.columns;
    for (int64_t column = 0; column < packed.columns; ++column) {
      const int64_t pair = column / 128 * 128, half = (column - pair) / packedGroup, place = packedPlace(column % packedGroup);
      const uint8_t* const from = packed.bytes + row * packed.rowBytes() + pair / 2 * 3;
      const bool isWhole = pair + 128 <= packed.columns;
      const int codes = isWhole ? from[128 + place] >> 4 * half : from[64 + place % 32] >> place / 32 * 4;
      const int byte = from[packedGroup * half + place], code = codes & 15;
      const int exponent = code == 0 ? 0 : packed.bases[row] + code;
      to[column] = static_cast<uint16_t>((byte & 0x80) << 8 | exponent << 7 | (byte & 0x7f));
    }
    for (int32_t i = packed.exceptions[row]; i < packed.exceptions[row + 1]; ++i) {
      const auto exception = static_cast<uint32_t>(packed.exceptions[packed.rows + 1 + i]);
      to[exception >> 16] = static_cast<uint16_t>(exception);
    }
  }
  return result;
}

}  // namespace graft
