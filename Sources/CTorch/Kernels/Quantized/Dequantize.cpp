// Decoding quantized weights: as a whole, by rows, or by tiles, which a matrix product asks for on its way (TileSource.h). For
// a handful of tokens each row is decoded into the first cache level and multiplied there.

#include <ATen/core/grad_mode.h>

#include "../ConstData.h"
#include "../GPU/GPUKernels.h"
#include "../Parallel.h"
#include "../SIMD/Variant.h"
#include "CodeTables.h"
#include "Decoder.h"
#include "QuantizedMatrix.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define GRAFT_LOOPS "../Quantized/DequantizeLoops.h"
#include "../SIMD/ForEachVariant.h"

namespace graft {
namespace {

bool hasKernel(const QuantizedMatrix& m, at::ScalarType dtype) {
  return m.codes.device().is_cpu() && (dtype == at::kFloat || dtype == at::kBFloat16);
}

/// Decodes whole rows into those of `output` from `place` on.
void decodeRows(const QuantizedView& view, int64_t row, int64_t rows, const at::Tensor& output, int64_t place) {
  const int64_t columns = view.columns;
  if (output.scalar_type() == at::kFloat)
    decodeTile(view, row, rows, 0, columns, output.data_ptr<float>() + place * columns, columns);
  else
    decodeTile(view, row, rows, 0, columns, output.data_ptr<at::BFloat16>() + place * columns, columns);
}

/// Rows whose elements are worth a thread's start.
int64_t rowGrain(int64_t columns) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, columns)); }

}  // namespace

QuantizedView::QuantizedView(const QuantizedMatrix& m)
    : encoding(m.encoding),
      rows(m.rows),
      columns(m.columns),
      codes(static_cast<const uint8_t*>(m.codes.const_data_ptr())),
      blockIndex(m.blockSize),
      constants(m.constants.defined() && !m.nestedConstants.defined() ? constData<float>(m.constants) : nullptr),
      constantCodes(m.nestedConstants.defined() ? constData<uint8_t>(m.constants) : nullptr),
      nestedConstants(m.nestedConstants.defined() ? constData<float>(m.nestedConstants) : nullptr),
      nestedTable(m.nestedConstants.defined() ? constData<float>(m.nestedTable) : nullptr),
      nestedOffset(static_cast<float>(m.nestedOffset)),
      nestedIndex(m.nestedBlockSize) {}

void decodeTile(const QuantizedView& matrix, int64_t row, int64_t rows, int64_t column, int64_t columns, float* to,
                int64_t toRow) {
  GRAFT_DISPATCH(decodeTileFloat, matrix, row, rows, column, columns, to, toRow);
}

void decodeTile(const QuantizedView& matrix, int64_t row, int64_t rows, int64_t column, int64_t columns,
                at::BFloat16* to, int64_t toRow) {
  GRAFT_DISPATCH(decodeTileBFloat16, matrix, row, rows, column, columns, to, toRow);
}

void check(const QuantizedMatrix& m) {
  const auto block = blockShape(m.encoding);
  const int64_t count = m.rows * m.columns;
  TORCH_CHECK(block.elements > 0, "there is no encoding ", static_cast<int>(m.encoding));
  TORCH_CHECK(m.rows > 0 && m.columns > 0, "a quantized matrix cannot be [", m.rows, ", ", m.columns, "]");
  const auto holds = [&](const at::Tensor& part, at::ScalarType type, int64_t size, const char* what) {
    TORCH_CHECK(part.defined() && part.scalar_type() == type && part.numel() == size && part.is_contiguous(),
                "a quantized matrix [", m.rows, ", ", m.columns, "] needs ", size, " contiguous ", type, " ", what,
                part.defined() ? ", not " : "; there are none",
                part.defined() ? std::to_string(part.numel()) + " " + part.toString() : std::string());
  };
  if (block.elements > 1) {
    TORCH_CHECK(m.columns % block.elements == 0, "rows of ", m.columns, " elements are not whole blocks of ",
                block.elements);
    holds(m.codes, at::kByte, count / block.elements * block.bytes, "bytes of blocks");
    return;
  }
  if (m.encoding == Encoding::int8) {
    holds(m.codes, at::kChar, count, "codes");
    holds(m.constants, at::kFloat, m.rows, "constants");
    return;
  }
  TORCH_CHECK(m.blockSize > 0 && m.blockSize % 2 == 0, "a block cannot have ", m.blockSize, " elements");
  holds(m.codes, at::kByte, (count + 1) / 2, "bytes of codes");
  const int64_t blocks = (count + m.blockSize - 1) / m.blockSize;
  if (!m.nestedConstants.defined()) return holds(m.constants, at::kFloat, blocks, "constants");
  TORCH_CHECK(m.nestedBlockSize > 0, "a block of constants cannot have ", m.nestedBlockSize, " elements");
  holds(m.constants, at::kByte, blocks, "quantized constants");
  holds(m.nestedConstants, at::kFloat, (blocks + m.nestedBlockSize - 1) / m.nestedBlockSize, "nested constants");
  holds(m.nestedTable, at::kFloat, 256, "values of the nested table");
}

void dequantizeRows(const QuantizedMatrix& m, int64_t firstRow, const at::Tensor& output) {
  TORCH_CHECK(output.dim() == 2 && output.size(1) == m.columns && output.is_contiguous() && firstRow >= 0 &&
                  firstRow + output.size(0) <= m.rows && hasKernel(m, output.scalar_type()),
              "decoding rows ", firstRow, " and on of [", m.rows, ", ", m.columns, "] into ", output.toString(),
              output.sizes());
  const QuantizedView view(m);
  parallelFor(output.size(0), rowGrain(m.columns), [&](int64_t begin, int64_t end) {
    decodeRows(view, firstRow + begin, end - begin, output, begin);
  });
}

/// The 16 values of a four-bit type, on the device of the codes.
static at::Tensor valuesOf(const QuantizedMatrix& m) {
  const auto values = at::tensor(at::ArrayRef<float>(m.encoding == Encoding::nf4 ? nf4Values : fp4Values, 16));
  // In the order of the device's stream: nobody needs to wait for it.
  return values.to(m.codes.device(), at::kFloat, /*non_blocking=*/true);
}

/// On other devices than the CPU.
static at::Tensor dequantizedElsewhere(const QuantizedMatrix& m, at::ScalarType dtype) {
  if (blockShape(m.encoding).elements == 1 && m.codes.is_cuda()) {
    const auto output = at::empty({m.rows, m.columns}, m.codes.options().dtype(dtype == at::kBFloat16 ? dtype : at::kFloat));
    if (hasGPUKernels(output)) {
      gpuDecode(m, m.encoding == Encoding::int8 ? at::Tensor() : valuesOf(m), output);
      return output.to(dtype);
    }
  }
  return dequantizeTwin(m, dtype);
}

at::Tensor dequantize(const QuantizedMatrix& m, at::ScalarType dtype) {
  const at::NoGradGuard inference;
  if (!m.codes.device().is_cpu()) return dequantizedElsewhere(m, dtype);
  const auto output = at::empty({m.rows, m.columns}, m.codes.options().dtype(dtype == at::kBFloat16 ? dtype : at::kFloat));
  dequantizeRows(m, 0, output);
  return output.to(dtype);
}

at::Tensor selectRows(const QuantizedMatrix& m, const at::Tensor& indices, at::ScalarType dtype) {
  const at::NoGradGuard inference;
  TORCH_CHECK(indices.dim() == 1 && indices.scalar_type() == at::kLong && indices.device() == m.codes.device(),
              "rows are chosen by int64 [n] on ", m.codes.device(), ", not ", indices.toString(), indices.sizes());
  if (!m.codes.device().is_cpu()) return dequantizedElsewhere(m, dtype).index_select(0, indices);
  const auto chosen = indices.contiguous();
  const int64_t* index = constData<int64_t>(chosen);
  for (int64_t i = 0; i < chosen.numel(); ++i)
    TORCH_CHECK_INDEX(index[i] >= 0 && index[i] < m.rows, "there is no row ", index[i], " in a table of ", m.rows);
  const auto output =
      at::empty({chosen.numel(), m.columns}, m.codes.options().dtype(dtype == at::kBFloat16 ? dtype : at::kFloat));
  const QuantizedView view(m);
  parallelFor(chosen.numel(), rowGrain(m.columns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) decodeRows(view, index[i], 1, output, i);
  });
  return output.to(dtype);
}

at::Tensor dequantizeTwin(const QuantizedMatrix& m, at::ScalarType dtype) {
  TORCH_CHECK(blockShape(m.encoding).elements == 1,
              "blocks of GGML are decoded on the processor only; load the model without keeping them packed");
  if (m.encoding == Encoding::int8)
    return (m.codes.to(at::kFloat).view({m.rows, m.columns}) * m.constants.view({-1, 1}) * 7.874015718698502e-3).to(dtype);
  const int64_t count = m.rows * m.columns;
  const auto table = valuesOf(m);
  const auto bytes = m.codes.flatten().to(at::kLong);
  const auto values =
      table.index_select(0, at::stack({bytes.bitwise_right_shift(4), bytes.bitwise_and(15)}, 1).flatten()).narrow(0, 0, count);
  auto constants = m.constants.flatten();
  if (m.nestedConstants.defined())
    constants = m.nestedTable.index_select(0, constants.to(at::kLong)) *
                    m.nestedConstants.repeat_interleave(m.nestedBlockSize).narrow(0, 0, constants.numel()) +
                m.nestedOffset;
  return (values * constants.repeat_interleave(m.blockSize).narrow(0, 0, count)).view({m.rows, m.columns}).to(dtype);
}

at::Tensor fewTokensProduct(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts) {
  const at::NoGradGuard inference;
  int64_t rows = 0;
  for (const auto& part : parts) {
    TORCH_CHECK(x.dim() == 2 && x.size(1) == part.columns && hasKernel(part, x.scalar_type()), "quantized product: input ",
                x.toString(), x.sizes(), " and weight [", part.rows, ", ", part.columns, "]");
    rows += part.rows;
  }
  const int64_t tokens = x.size(0), columns = x.size(1);
  const auto wide = x.to(at::kFloat).contiguous();
  const float* vectors = constData<float>(wide);
  const auto output = at::empty({tokens, rows}, x.options());
  const auto buffers = at::empty({threadCount(), columns}, x.options());
  int64_t first = 0;
  for (const auto& part : parts) {
    const QuantizedView view(part);
    const int64_t grain = rowGrain(columns), tasks = (part.rows + grain - 1) / grain;
    parallelTasks(tasks, [&](int64_t task, int64_t thread) {
      const int64_t begin = task * grain, end = std::min(part.rows, begin + grain);
      if (x.scalar_type() == at::kFloat)
        GRAFT_DISPATCH(productRowsFloat, view, begin, end, vectors, tokens, buffers.data_ptr<float>() + thread * columns,
                       output.data_ptr<float>() + first, rows);
      else
        GRAFT_DISPATCH(productRowsBFloat16, view, begin, end, vectors, tokens,
                       buffers.data_ptr<at::BFloat16>() + thread * columns, output.data_ptr<at::BFloat16>() + first, rows);
    });
    first += part.rows;
  }
  return output;
}

}  // namespace graft
