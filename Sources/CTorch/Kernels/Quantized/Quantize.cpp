// Quantization by blocks (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861; 2023, https://arxiv.org/abs/2305.14314):
// a block's numbers are divided by its largest magnitude, and each becomes the code of the nearest value of a table; a
// number in the middle of two becomes the lower.

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "../ConstData.h"
#include "../Parallel.h"
#include "../SIMD/Variant.h"
#include "CodeTables.h"
#include "QuantizedMatrix.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define GRAFT_LOOPS "../Quantized/QuantizeLoops.h"
#include "../SIMD/ForEachVariant.h"

namespace graft {
namespace {

/// The middles between neighbours of ascending values.
std::vector<float> middles(const float* values, int64_t count) {
  std::vector<float> result;
  for (int64_t i = 0; i + 1 < count; ++i) result.push_back((values[i] + values[i + 1]) / 2);
  return result;
}

/// fp32 or bf16, contiguous, on the CPU.
at::Tensor readable(const at::Tensor& weight) {
  TORCH_CHECK(at::isFloatingType(weight.scalar_type()), "quantization works on floating-point weights, not ",
              weight.toString());
  const auto host = weight.detach().to(at::kCPU);
  return (host.scalar_type() == at::kBFloat16 ? host : host.to(at::kFloat)).contiguous();
}

/// Calls `store(first, count, ranks)` for every block, and gives the constants.
template <class Store>
at::Tensor encodeBlocks(const at::Tensor& values, int64_t blockSize, const std::vector<float>& bounds, const Store& store) {
  const int64_t count = values.numel(), blocks = (count + blockSize - 1) / blockSize;
  const auto constants = at::empty({blocks}, at::kFloat);
  float* constant = constants.data_ptr<float>();
  parallelFor(blocks, std::max<int64_t>(1, 16384 / blockSize), [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> ranks(blockSize);
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * blockSize, size = std::min(blockSize, count - first);
      constant[block] =
          values.scalar_type() == at::kFloat
              ? GRAFT_DISPATCH(encodeBlockFloat, constData<float>(values) + first, size, size == blockSize,
                               bounds.data(), static_cast<int64_t>(bounds.size()), ranks.data())
              : GRAFT_DISPATCH(encodeBlockBFloat16, constData<at::BFloat16>(values) + first, size,
                               size == blockSize, bounds.data(), static_cast<int64_t>(bounds.size()), ranks.data());
      store(first, size, ranks.data());
    }
  });
  return constants;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> quantizeFourBit(const at::Tensor& weight, Encoding code, int64_t blockSize) {
  const at::NoGradGuard inference;
  TORCH_CHECK(code == Encoding::nf4 || code == Encoding::fp4, "four bits are NF4 or FP4");
  TORCH_CHECK(blockSize > 0 && blockSize % 2 == 0, "a block cannot have ", blockSize, " elements");
  float ascending[16];
  uint8_t order[16];
  for (int i = 0; i < 16; ++i) {
    order[i] = code == Encoding::nf4 ? i : fp4Order[i];
    ascending[i] = code == Encoding::nf4 ? nf4Values[i] : fp4Values[order[i]];
  }
  const auto values = readable(weight);
  const auto codes = at::empty({(values.numel() + 1) / 2}, at::kByte);
  uint8_t* bytes = codes.data_ptr<uint8_t>();
  // The half byte behind an odd number of elements stands for zero.
  const uint8_t zero = static_cast<uint8_t>(std::find(ascending, ascending + 16, 0.0f) - ascending);
  const auto constants =
      encodeBlocks(values, blockSize, middles(ascending, 16), [&](int64_t first, int64_t count, const uint8_t* ranks) {
        for (int64_t i = 0; i < count; i += 2)
          bytes[(first + i) / 2] = static_cast<uint8_t>(order[ranks[i]] << 4 | order[i + 1 < count ? ranks[i + 1] : zero]);
      });
  return {codes, constants};
}

std::tuple<at::Tensor, at::Tensor> quantizeBlockwise(const at::Tensor& values, const at::Tensor& table,
                                                     int64_t blockSize) {
  const at::NoGradGuard inference;
  TORCH_CHECK(table.scalar_type() == at::kFloat && table.numel() == 256 && table.is_contiguous(),
              "the table must be fp32 [256], not ", table.toString(), table.sizes());
  TORCH_CHECK(blockSize > 0, "a block cannot have ", blockSize, " elements");
  const auto numbers = readable(values);
  const auto codes = at::empty({numbers.numel()}, at::kByte);
  uint8_t* bytes = codes.data_ptr<uint8_t>();
  const auto constants = encodeBlocks(
      numbers, blockSize, middles(constData<float>(table), 256),
      [&](int64_t first, int64_t count, const uint8_t* ranks) { std::copy(ranks, ranks + count, bytes + first); });
  return {codes, constants};
}

at::Tensor dynamicTable() {
  const at::NoGradGuard inference;
  std::vector<at::Tensor> parts{at::tensor({0.0f, 1.0f})};
  const double powers[7] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1};
  for (int exponent = 0; exponent < 7; ++exponent) {
    // By the engine: its sequence differs in the last bit from one processor to another, and files hold its numbers.
    const auto bounds = at::linspace(0.1, 1, (1 << exponent) + 1, at::kFloat);
    const auto means = (bounds.slice(0, 0, -1) + bounds.slice(0, 1)) / 2.0 * powers[exponent];
    parts.push_back(means);
    parts.push_back(-means);
  }
  return std::get<0>(at::cat(parts).sort());
}

std::tuple<at::Tensor, at::Tensor> quantizeRows(const at::Tensor& weight) {
  const at::NoGradGuard inference;
  TORCH_CHECK(weight.dim() == 2, "rows of a matrix are quantized, not ", weight.sizes());
  // LLM.int8 starts from fp16.
  const auto values = readable(weight).to(at::kHalf).to(at::kFloat);
  const auto largest = values.abs().amax(1);
  // A row of zeros: 0 · ∞ is no number.
  const auto factor = at::where(largest == 0, at::zeros_like(largest), largest.reciprocal() * 127.0);
  return {(values * factor.unsqueeze(1)).round_().to(at::kChar), largest};
}

}  // namespace graft
