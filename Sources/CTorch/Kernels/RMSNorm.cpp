// RMSNorm: scales by the root mean square; no mean is subtracted (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467).
//
//   r = 1 / √(mean x² + ε),  x̂ = x·r,  y = w ∘ x̂
//   dx̂ = w ∘ dy,  dx = r·(dx̂ − x̂·mean(dx̂ ∘ x̂)),  dw = Σ dy ∘ x̂
//
// Rounds as Hugging Face's LlamaRMSNorm and Qwen2RMSNorm: x̂ in fp32, then to the dtype of x, then times w. Only x is
// kept for the backward pass: one sweep over a row gives both Σ x² and Σ dx̂ ∘ x.

#include "Kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

#define GRAFT_LOOPS "../RMSNormLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

/// Rows whose weight gradients are summed together; fixed, so that the order of the sum is the same on any number of threads.
constexpr int64_t rowsPerPart = 128;

bool hasKernel(const at::Tensor& x, const at::Tensor& weight) {
  return x.device().is_cpu() && weight.device().is_cpu() && x.scalar_type() == weight.scalar_type() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.size(-1) % 16 == 0;
}

void check(const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0), "RMSNorm: a weight ", weight.sizes(),
              " for an input ", x.sizes());
}

/// y = norm(x); with a residual, x + residual goes to `sum` and is normalised.
template <class T>
void forwardRows(const at::Tensor& x, const T* residual, T* sum, const at::Tensor& weight, double epsilon,
                 const at::Tensor& y) {
  const int64_t size = x.size(-1), rows = x.numel() / size;
  const T *from = constData<T>(x), *w = constData<T>(weight);
  T* to = y.data_ptr<T>();
  parallelFor(rows, 16, [&](int64_t begin, int64_t end) {
    const auto rest = residual ? residual + begin * size : nullptr;
    const auto added = sum ? sum + begin * size : nullptr;
    if constexpr (sizeof(T) == 4)
      GRAFT_DISPATCH(rmsNormForwardFloat, from + begin * size, rest, added, w, to + begin * size, end - begin, size,
                     epsilon);
    else
      GRAFT_DISPATCH(rmsNormForwardBFloat16, from + begin * size, rest, added, w, to + begin * size, end - begin, size,
                     epsilon);
  });
}

void forward(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& sum, const at::Tensor& weight,
             double epsilon, const at::Tensor& y) {
  if (x.scalar_type() == at::kFloat)
    forwardRows<float>(x, residual.defined() ? constData<float>(residual) : nullptr,
                       sum.defined() ? sum.data_ptr<float>() : nullptr, weight, epsilon, y);
  else
    forwardRows<at::BFloat16>(x, residual.defined() ? constData<at::BFloat16>(residual) : nullptr,
                              sum.defined() ? sum.data_ptr<at::BFloat16>() : nullptr, weight, epsilon, y);
}

/// dx (plus `sumGradient`, the gradient that reaches x past the norm, when defined), and dw when `weightGradient` is
/// defined ([parts, size], fp32).
template <class T>
void backwardRows(const at::Tensor& x, const at::Tensor& weight, double epsilon, const at::Tensor& gradient,
                  const at::Tensor& sumGradient, const at::Tensor& xGradient, const at::Tensor& weightGradient) {
  const int64_t size = x.size(-1), rows = x.numel() / size;
  const T *from = constData<T>(x), *w = constData<T>(weight), *dy = constData<T>(gradient);
  const T* past = sumGradient.defined() ? constData<T>(sumGradient) : nullptr;
  T* dx = xGradient.data_ptr<T>();
  float* dw = weightGradient.defined() ? weightGradient.data_ptr<float>() : nullptr;
  parallelFor((rows + rowsPerPart - 1) / rowsPerPart, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t first = part * rowsPerPart, count = std::min(rowsPerPart, rows - first), at = first * size;
      const auto pastPart = past ? past + at : nullptr;
      const auto dwPart = dw ? dw + part * size : nullptr;
      if constexpr (sizeof(T) == 4)
        GRAFT_DISPATCH(rmsNormBackwardFloat, from + at, w, dy + at, pastPart, dx + at, dwPart, count, size, epsilon);
      else
        GRAFT_DISPATCH(rmsNormBackwardBFloat16, from + at, w, dy + at, pastPart, dx + at, dwPart, count, size, epsilon);
    }
  });
}

/// (dx, dw or undefined)
std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                                            const at::Tensor& gradient, const at::Tensor& sumGradient,
                                            bool weightGradientNeeded) {
  const int64_t size = x.size(-1), rows = x.numel() / size;
  const auto xGradient = at::empty(x.sizes(), x.options());
  at::Tensor weightParts;
  if (weightGradientNeeded)
    weightParts = at::zeros({(rows + rowsPerPart - 1) / rowsPerPart, size}, x.options().dtype(at::kFloat));
  if (x.scalar_type() == at::kFloat)
    backwardRows<float>(x, weight, epsilon, gradient, sumGradient, xGradient, weightParts);
  else
    backwardRows<at::BFloat16>(x, weight, epsilon, gradient, sumGradient, xGradient, weightParts);
  return {xGradient, weightGradientNeeded ? weightParts.sum(0).to(weight.scalar_type()) : at::Tensor()};
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RMSNorm : torch::autograd::Function<RMSNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double epsilon) {
    const auto y = at::empty(x.sizes(), x.options());
    graft::forward(x, {}, {}, weight, epsilon, y);
    context->save_for_backward({x, weight});
    context->saved_data["epsilon"] = epsilon;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto [x, weight] = graft::backward(saved[0], saved[1], context->saved_data["epsilon"].toDouble(),
                                             gradients[0].contiguous(), {}, context->needs_input_grad(1));
    return {x, weight, {}};
  }
};

struct AddRMSNorm : torch::autograd::Function<AddRMSNorm> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& residual,
                               const at::Tensor& weight, double epsilon) {
    const auto sum = at::empty(x.sizes(), x.options()), y = at::empty(x.sizes(), x.options());
    graft::forward(x, residual, sum, weight, epsilon, y);
    context->save_for_backward({sum, weight});
    context->saved_data["epsilon"] = epsilon;
    context->set_materialize_grads(false);
    return {sum, y};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    if (!gradients[1].defined()) return {gradients[0], gradients[0], {}, {}};
    const auto past = gradients[0].defined() ? gradients[0].contiguous() : at::Tensor();
    const auto [sum, weight] = graft::backward(saved[0], saved[1], context->saved_data["epsilon"].toDouble(),
                                               gradients[1].contiguous(), past, context->needs_input_grad(2));
    return {sum, sum, weight, {}};
  }
};

}  // namespace

at::Tensor rmsNormTwin(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check(x, weight);
  const auto wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  const auto normalized = wide * at::rsqrt(wide.pow(2).mean(-1, true) + epsilon);
  return weight * normalized.to(x.scalar_type());
}

/// Where there is no kernel: ATen's own on a GPU, which rounds once where the twin rounds twice.
static at::Tensor rmsNormElsewhere(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  if (x.is_cuda() && x.scalar_type() == weight.scalar_type()) return at::rms_norm(x, {x.size(-1)}, weight, epsilon);
  return rmsNormTwin(x, weight, epsilon);
}

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  check(x, weight);
  if (!hasKernel(x, weight)) return rmsNormElsewhere(x, weight, epsilon);
  return RMSNorm::apply(x.contiguous(), weight.contiguous(), epsilon);
}

std::tuple<at::Tensor, at::Tensor> addRMSNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                              double epsilon) {
  check(x, weight);
  TORCH_CHECK(x.sizes() == residual.sizes() && x.scalar_type() == residual.scalar_type(), "RMSNorm: a residual ",
              residual.toString(), residual.sizes(), " for an input ", x.toString(), x.sizes());
  if (!hasKernel(x, weight)) {
    const auto sum = x + residual;
    return {sum, rmsNormElsewhere(sum, weight, epsilon)};
  }
  const auto outputs = AddRMSNorm::apply(x.contiguous(), residual.contiguous(), weight.contiguous(), epsilon);
  return {outputs[0], outputs[1]};
}

}  // namespace graft
