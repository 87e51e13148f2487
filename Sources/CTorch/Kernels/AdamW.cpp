// One step of AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) on a list of fp32 parameters, as
// torch.optim.AdamW:
//
//   p ← p·(1 − lr·λ),  m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²
//   p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//
// One pass over all parameters: LoRA has hundreds of small ones, for which the dozen operations of the plain form cost
// more in calls than in arithmetic. On a GPU ATen has such a pass.

#include "Kernels.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

namespace graft {

/// A part of one parameter and its state.
struct AdamWSlice {
  float* parameter;
  const float* gradient;
  float *mean, *square;
  int64_t count;
};

/// What is the same for all numbers of a step.
struct AdamWFactors {
  float decay, meanWeight, beta2, squareWeight, step, squareCorrection, epsilon;
};

}  // namespace graft

#define GRAFT_LOOPS "../AdamWLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {

void adamWStepTwin(at::TensorList parameters, at::TensorList gradients, at::TensorList means, at::TensorList squares,
                   const AdamWOptions& options, int64_t step) {
  const at::NoGradGuard update;
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i].mul_(1 - options.learningRate * options.weightDecay);
    means[i].lerp_(gradients[i], 1 - options.beta1);
    squares[i].mul_(options.beta2).addcmul_(gradients[i], gradients[i], 1 - options.beta2);
    const double correction1 = 1 - std::pow(options.beta1, step), correction2 = 1 - std::pow(options.beta2, step);
    parameters[i].addcdiv_(means[i], (squares[i].sqrt() / std::sqrt(correction2)).add_(options.epsilon),
                           -options.learningRate / correction1);
  }
}

/// All contiguous, of one type and on one device, as both passes want them.
static bool areAlike(at::TensorList parameters, at::TensorList gradients, at::TensorList means, at::TensorList squares) {
  for (const auto& list : {parameters, gradients, means, squares})
    for (const auto& tensor : list)
      if (tensor.device() != parameters[0].device() || tensor.scalar_type() != parameters[0].scalar_type() ||
          !tensor.is_contiguous())
        return false;
  return true;
}

/// The pass that ATen has for parameters on a GPU, and for fp64.
static void adamWStepFused(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
                           at::TensorList squares, const AdamWOptions& options, int64_t step) {
  const at::NoGradGuard update;
  const std::vector<at::Tensor> steps(
      parameters.size(), at::full({}, static_cast<double>(step), parameters[0].options().dtype(at::kFloat)));
  at::_fused_adamw_(parameters, gradients, means, squares, {}, steps, options.learningRate, options.beta1, options.beta2,
                    options.weightDecay, options.epsilon, false, false);
}

void adamWStep(at::TensorList parameters, at::TensorList gradients, at::TensorList means, at::TensorList squares,
               const AdamWOptions& options, int64_t step) {
  TORCH_CHECK(
      gradients.size() == parameters.size() && means.size() == parameters.size() && squares.size() == parameters.size(),
      "AdamW: ", parameters.size(), " parameters, ", gradients.size(), " gradients, ", means.size(), " and ",
      squares.size(), " states");
  TORCH_CHECK(step >= 1, "AdamW: steps are counted from 1, not ", step);
  // Equal pieces, so that one large parameter does not keep the other threads waiting.
  constexpr int64_t piece = 16384;
  std::vector<AdamWSlice> slices;
  for (size_t i = 0; i < parameters.size(); ++i)
    for (const auto& tensor : {gradients[i], means[i], squares[i]})
      TORCH_CHECK(tensor.sizes() == parameters[i].sizes(), "AdamW: a gradient or state ", tensor.sizes(),
                  " for a parameter ", parameters[i].sizes());
  if (parameters.empty()) return;
  if (!areAlike(parameters, gradients, means, squares))
    return adamWStepTwin(parameters, gradients, means, squares, options, step);
  if (!parameters[0].device().is_cpu() || parameters[0].scalar_type() != at::kFloat)
    return adamWStepFused(parameters, gradients, means, squares, options, step);
  for (size_t i = 0; i < parameters.size(); ++i)
    for (int64_t first = 0; first < parameters[i].numel(); first += piece)
      slices.push_back({parameters[i].data_ptr<float>() + first, constData<float>(gradients[i]) + first,
                        means[i].data_ptr<float>() + first, squares[i].data_ptr<float>() + first,
                        std::min(piece, parameters[i].numel() - first)});
  const double correction1 = 1 - std::pow(options.beta1, step), correction2 = 1 - std::pow(options.beta2, step);
  const AdamWFactors factors{static_cast<float>(1 - options.learningRate * options.weightDecay),
                             static_cast<float>(1 - options.beta1),
                             static_cast<float>(options.beta2),
                             static_cast<float>(1 - options.beta2),
                             static_cast<float>(options.learningRate / correction1),
                             static_cast<float>(std::sqrt(correction2)),
                             static_cast<float>(options.epsilon)};
  parallelFor(static_cast<int64_t>(slices.size()), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) GRAFT_DISPATCH(adamWSlice, slices[i], factors);
  });
  for (const auto& tensor : parameters) tensor.unsafeGetTensorImpl()->bump_version();
}

}  // namespace graft
