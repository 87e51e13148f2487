// Rounding fp32 to bf16 up or down by chance, so that the mean over many roundings is the number itself (Gupta et al. 2015,
// https://arxiv.org/abs/1502.02551; for bf16 training Zamirai et al. 2020, https://arxiv.org/abs/2010.06192): updates smaller than half a step of bf16,
// which rounding to the nearest drops every time, arrive in the mean.
//
// bf16 is the upper half of fp32's bits: a random number below 2^16 is added to the lower half, and what is then there is dropped. The
// sum carries over with the probability that the lower half is of the whole.
//
// Each number's bits come from its place and one number of the engine's generator, so that a seed gives the same roundings on any
// number of threads.

#include "Kernels.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>

#include "ConstData.h"
#include "Parallel.h"

namespace graft {

namespace {

/// SplitMix64 (Steele et al. 2014): number `index` of the sequence that begins at `seed`.
inline uint64_t randomBits(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

inline uint16_t rounded(float value, uint32_t noise) {
  const auto bits = std::bit_cast<uint32_t>(value);
  // Infinite, or no number: the noise would make another of it.
  if ((bits & 0x7F800000U) == 0x7F800000U)
    return static_cast<uint16_t>(bits >> 16 | ((bits & 0x7FFFFFU) != 0 ? 0x40U : 0U));
  return static_cast<uint16_t>((bits + noise) >> 16);
}

}  // namespace

void roundStochasticallyTwin(const at::Tensor& target, const at::Tensor& source) {
  const at::NoGradGuard copying;
  const auto noise = at::randint(0, 1 << 16, source.sizes(), source.options().dtype(at::kInt));
  const auto up = source.contiguous().view(at::kInt).add(noise).bitwise_and_(~0xFFFF).view(at::kFloat);
  target.copy_(at::where(source.isfinite(), up, source));
}

void roundStochastically(const at::Tensor& target, const at::Tensor& source) {
  TORCH_CHECK(target.sizes() == source.sizes() && target.scalar_type() == at::kBFloat16 && source.scalar_type() == at::kFloat,
              "stochastic rounding: ", source.sizes(), " ", source.scalar_type(), " into ", target.sizes(), " ",
              target.scalar_type());
  if (!target.device().is_cpu() || !source.device().is_cpu() || !target.is_contiguous() || !source.is_contiguous())
    return roundStochasticallyTwin(target, source);
  const auto seed = static_cast<uint64_t>(at::empty({1}, at::kLong).random_().item<int64_t>());
  const float* const from = constData<float>(source);
  auto* const to = static_cast<uint16_t*>(target.mutable_data_ptr());
  const int64_t count = source.numel(), quads = (count + 3) / 4;
  parallelFor(quads, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t quad = begin; quad < end; ++quad) {
      uint64_t noise = randomBits(seed, static_cast<uint64_t>(quad));
      for (int64_t i = 4 * quad; i < std::min(4 * quad + 4, count); ++i, noise >>= 16)
        to[i] = rounded(from[i], static_cast<uint32_t>(noise & 0xFFFF));
    }
  });
  target.unsafeGetTensorImpl()->bump_version();
}

}  // namespace graft
