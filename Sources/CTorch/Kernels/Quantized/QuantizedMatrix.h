#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace graft {

/// How the elements of a quantized matrix are encoded.
enum class Encoding : int32_t {
  // Four bits an element, two elements a byte with the first in the upper half; a table gives the value, which the
  // constant of its block multiplies (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314).
  nf4 = 0,
  fp4 = 1,
  /// Signed bytes, with the largest magnitude of the row (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339).
  int8 = 2,
  // The blocks of GGML, scales and numbers together.
  q4_0 = 3,
  q4_1 = 4,
  q5_0 = 5,
  q5_1 = 6,
  q8_0 = 7,
  q2_K = 8,
  q3_K = 9,
  q4_K = 10,
  q5_K = 11,
  q6_K = 12,
};

/// A weight matrix `[rows, columns]` in few bits an element. It is never trained; products decode it on their way.
struct QuantizedMatrix {
  Encoding encoding;
  int64_t rows, columns;
  /// uint8 (int8 for that encoding), contiguous. GGML's blocks may lie in a mapped file, at any address.
  at::Tensor codes;
  /// nf4 and fp4: elements of the flattened matrix that share a constant.
  int64_t blockSize = 64;
  /// The constants: fp32, one for each block or, for int8, each row; with double quantization uint8 codes of them.
  at::Tensor constants;
  // Double quantization: constant i is nestedTable[constants[i]] · nestedConstants[i / nestedBlockSize] + nestedOffset.
  at::Tensor nestedConstants, nestedTable;
  double nestedOffset = 0;
  int64_t nestedBlockSize = 256;
  /// int8: products with many tokens quantize these too and multiply bytes, instead of decoding the weight (SwitchBack, Wortsman et
  /// al. 2023, https://arxiv.org/abs/2304.13013): half the time, where the processor has such products.
  bool multipliesBytes = false;
};

/// Elements and bytes of a block of GGML's; `{1, 1}` for the others, `{0, 0}` for none of these.
struct BlockShape {
  int64_t elements, bytes;
};
constexpr BlockShape blockShape(Encoding encoding) {
  switch (encoding) {
    case Encoding::nf4:
    case Encoding::fp4:
    case Encoding::int8: return {1, 1};
    case Encoding::q4_0: return {32, 18};
    case Encoding::q4_1: return {32, 20};
    case Encoding::q5_0: return {32, 22};
    case Encoding::q5_1: return {32, 24};
    case Encoding::q8_0: return {32, 34};
    case Encoding::q2_K: return {256, 84};
    case Encoding::q3_K: return {256, 110};
    case Encoding::q4_K: return {256, 144};
    case Encoding::q5_K: return {256, 176};
    case Encoding::q6_K: return {256, 210};
  }
  return {0, 0};
}

/// Throws unless sizes and types of all parts fit each other.
void check(const QuantizedMatrix& matrix);

/// The matrix `[rows, columns]` in `dtype`: every element is computed in fp32 and rounded once.
at::Tensor dequantize(const QuantizedMatrix& matrix, at::ScalarType dtype);

/// The rows from `firstRow` on into `output` `[count, columns]`, fp32 or bf16, contiguous, on the CPU.
void dequantizeRows(const QuantizedMatrix& matrix, int64_t firstRow, const at::Tensor& output);

/// The rows that `indices` (int64 `[n]`) name, `[n, columns]`: an embedding's look-up.
at::Tensor selectRows(const QuantizedMatrix& matrix, const at::Tensor& indices, at::ScalarType dtype);

/// The twin of `dequantize` for nf4, fp4 and int8, in plain operations: also for other devices. GGML's blocks have theirs in Swift.
at::Tensor dequantizeTwin(const QuantizedMatrix& matrix, at::ScalarType dtype);

/// x `[tokens, columns]`, fp32 or bf16, by each row of the parts: `[tokens, Σ rows]`, for so few tokens that writing the
/// decoded matrix to memory would take longer than the product. Not differentiable.
at::Tensor fewTokensProduct(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts);

/// Up to how many tokens `fewTokensProduct` is the faster way.
constexpr int64_t fewTokens = 8;

// MARK: Quantization

/// Codes and fp32 constants of blocks of `blockSize` elements of the flattened weight: `code` is `Encoding::nf4` or `fp4`.
std::tuple<at::Tensor, at::Tensor> quantizeFourBit(const at::Tensor& weight, Encoding code, int64_t blockSize);

/// Codes, uint8, into the ascending `table` (fp32 `[256]`), and fp32 constants of blocks.
std::tuple<at::Tensor, at::Tensor> quantizeBlockwise(const at::Tensor& values, const at::Tensor& table,
                                                     int64_t blockSize);

/// The signed dynamic 8-bit type (Dettmers 2016, https://arxiv.org/abs/1511.04561): an exponent of ten in unary, and in the bits
/// that it leaves a linear fraction. fp32 `[256]`, ascending from near −1 to 1.
at::Tensor dynamicTable();

/// int8 `[rows, columns]` and the fp32 largest magnitude of each row.
std::tuple<at::Tensor, at::Tensor> quantizeRows(const at::Tensor& weight);

}  // namespace graft
