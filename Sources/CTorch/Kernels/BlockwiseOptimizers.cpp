// Optimizer steps whose states are held in 8 bits a number: codes of the dynamic map, relative to the largest magnitude of
// each block of 256 numbers (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861). A block is decoded, updated in fp32 and
// encoded again, so that no state is ever whole in fp32.

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "ConstData.h"
#include "DynamicMap.h"
#include "Kernels.h"
#include "Parallel.h"

namespace graft {

namespace {

constexpr int64_t blockSize = 256;

int64_t blockCount(int64_t count) { return (count + blockSize - 1) / blockSize; }

void check(const at::Tensor& parameter, const at::Tensor& gradient, std::initializer_list<BlockwiseState> states) {
  TORCH_CHECK(gradient.sizes() == parameter.sizes(), "8-bit optimizer: a gradient ", gradient.sizes(),
              " for a parameter ", parameter.sizes());
  for (const auto& state : states) {
    TORCH_CHECK(state.codes.sizes() == parameter.sizes() && state.codes.scalar_type() == at::kByte &&
                    state.codes.is_contiguous(),
                "8-bit optimizer: codes ", state.codes.sizes(), " for a parameter ", parameter.sizes());
    TORCH_CHECK(state.absmax.numel() == blockCount(parameter.numel()) && state.absmax.scalar_type() == at::kFloat,
                "8-bit optimizer: ", state.absmax.numel(), " scales for ", blockCount(parameter.numel()), " blocks");
  }
}

bool isPlain(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
}

/// One block of a state, in fp32 while it is updated.
struct Block {
  float numbers[blockSize];

  void load(const DynamicMap& map, const uint8_t* codes, float absmax, int64_t count) {
    for (int64_t i = 0; i < count; ++i) numbers[i] = map.decode(codes[i]) * absmax;
  }

  void store(const DynamicMap& map, uint8_t* codes, float& absmax, int64_t count) const {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(numbers[i]));
    absmax = largest;
    // A block of zeros has no scale; any will do.
    const float factor = largest > 0 ? 1 / largest : 0;
    for (int64_t i = 0; i < count; ++i) codes[i] = map.encode(numbers[i] * factor);
  }
};

/// A state in fp32, for devices without the kernel.
at::Tensor decoded(const BlockwiseState& state, bool isSigned) {
  const auto values = DynamicMap::of(isSigned).values().to(state.codes.device());
  const auto scales = state.absmax.repeat_interleave(blockSize).slice(0, 0, state.codes.numel());
  return values.index_select(0, state.codes.flatten().to(at::kInt)).mul_(scales).view(state.codes.sizes());
}

void encode(const BlockwiseState& state, const at::Tensor& numbers, bool isSigned) {
  const auto boundaries = DynamicMap::of(isSigned).boundaries().to(state.codes.device());
  const int64_t count = numbers.numel(), blocks = blockCount(count);
  const auto padded = at::constant_pad_nd(numbers.flatten(), {0, blocks * blockSize - count}).view({blocks, blockSize});
  state.absmax.copy_(padded.abs().amax(1));
  const auto factors = at::where(state.absmax > 0, state.absmax.reciprocal(), at::zeros_like(state.absmax));
  const auto relative = (padded * factors.unsqueeze(1)).flatten().slice(0, 0, count).contiguous();
  auto codes = at::bucketize(relative, boundaries);
  // As DynamicMap::encode: a square that is not zero stays so.
  if (!isSigned) codes = at::where(relative > 0, codes.clamp_min(1), codes);
  state.codes.copy_(codes.view(state.codes.sizes()));
}

}  // namespace

void adamW8BitStepTwin(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                       const BlockwiseState& square, const AdamWOptions& options, int64_t step) {
  const at::NoGradGuard update;
  const auto means = decoded(mean, true), squares = decoded(square, false), wide = gradient.to(at::kFloat);
  auto numbers = parameter.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  adamWStepTwin({numbers}, {wide}, {means}, {squares}, options, step);
  parameter.copy_(numbers);
  encode(mean, means, true);
  encode(square, squares, false);
}

void adamW8BitStep(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                   const BlockwiseState& square, const AdamWOptions& options, int64_t step) {
  TORCH_CHECK(step >= 1, "AdamW: steps are counted from 1, not ", step);
  check(parameter, gradient, {mean, square});
  if (!isPlain(parameter) || !isPlain(gradient) || !mean.codes.device().is_cpu())
    return adamW8BitStepTwin(parameter, gradient, mean, square, options, step);

  const auto& withSign = DynamicMap::of(true);
  const auto& withoutSign = DynamicMap::of(false);
  const float decay = static_cast<float>(1 - options.learningRate * options.weightDecay);
  const float meanWeight = static_cast<float>(1 - options.beta1);
  const float beta2 = static_cast<float>(options.beta2), squareWeight = static_cast<float>(1 - options.beta2);
  const float rate = static_cast<float>(options.learningRate / (1 - std::pow(options.beta1, step)));
  const float correction = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, step)));
  const float epsilon = static_cast<float>(options.epsilon);
  const int64_t count = parameter.numel();
  float* p = parameter.data_ptr<float>();
  const float* g = constData<float>(gradient);
  uint8_t *meanCodes = mean.codes.data_ptr<uint8_t>(), *squareCodes = square.codes.data_ptr<uint8_t>();
  float *meanScales = mean.absmax.data_ptr<float>(), *squareScales = square.absmax.data_ptr<float>();
  parallelFor(blockCount(count), 16, [&](int64_t begin, int64_t end) {
    Block m, v;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * blockSize, size = std::min(blockSize, count - first);
      m.load(withSign, meanCodes + first, meanScales[block], size);
      v.load(withoutSign, squareCodes + first, squareScales[block], size);
      for (int64_t i = 0; i < size; ++i) {
        const float gradient = g[first + i];
        m.numbers[i] += (gradient - m.numbers[i]) * meanWeight;
        v.numbers[i] = v.numbers[i] * beta2 + gradient * gradient * squareWeight;
        p[first + i] = p[first + i] * decay - rate * (m.numbers[i] / (std::sqrt(v.numbers[i]) / correction + epsilon));
      }
      m.store(withSign, meanCodes + first, meanScales[block], size);
      v.store(withoutSign, squareCodes + first, squareScales[block], size);
    }
  });
  parameter.unsafeGetTensorImpl()->bump_version();
}

void lionStep(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& mean,
              const LionOptions& options) {
  const at::NoGradGuard update;
  TORCH_CHECK(gradient.sizes() == parameter.sizes() && mean.sizes() == parameter.sizes(), "Lion: a gradient ",
              gradient.sizes(), " and a state ", mean.sizes(), " for a parameter ", parameter.sizes());
  const auto wide = gradient.to(at::kFloat);
  const auto direction = mean.mul(options.beta1).add_(wide, 1 - options.beta1).sign_();
  parameter.mul_(1 - options.learningRate * options.weightDecay).add_(direction, -options.learningRate);
  mean.mul_(options.beta2).add_(wide, 1 - options.beta2);
}

void lion8BitStepTwin(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                      const LionOptions& options) {
  const at::NoGradGuard update;
  const auto means = decoded(mean, true);
  lionStep(parameter, gradient, means, options);
  encode(mean, means, true);
}

void lion8BitStep(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                  const LionOptions& options) {
  check(parameter, gradient, {mean});
  if (!isPlain(parameter) || !isPlain(gradient) || !mean.codes.device().is_cpu())
    return lion8BitStepTwin(parameter, gradient, mean, options);

  const auto& map = DynamicMap::of(true);
  const float decay = static_cast<float>(1 - options.learningRate * options.weightDecay);
  const float rate = static_cast<float>(options.learningRate);
  const float beta1 = static_cast<float>(options.beta1), weight1 = static_cast<float>(1 - options.beta1);
  const float beta2 = static_cast<float>(options.beta2), weight2 = static_cast<float>(1 - options.beta2);
  const int64_t count = parameter.numel();
  float* p = parameter.data_ptr<float>();
  const float* g = constData<float>(gradient);
  uint8_t* codes = mean.codes.data_ptr<uint8_t>();
  float* scales = mean.absmax.data_ptr<float>();
  parallelFor(blockCount(count), 16, [&](int64_t begin, int64_t end) {
    Block m;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * blockSize, size = std::min(blockSize, count - first);
      m.load(map, codes + first, scales[block], size);
      for (int64_t i = 0; i < size; ++i) {
        const float gradient = g[first + i], direction = m.numbers[i] * beta1 + gradient * weight1;
        const float sign = static_cast<float>((direction > 0) - (direction < 0));
        p[first + i] = p[first + i] * decay - rate * sign;
        m.numbers[i] = m.numbers[i] * beta2 + gradient * weight2;
      }
      m.store(map, codes + first, scales[block], size);
    }
  });
  parameter.unsafeGetTensorImpl()->bump_version();
}

}  // namespace graft
