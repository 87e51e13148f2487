// SwiGLU: silu(gate) ∘ up, the gated unit of Llama's and Qwen's feed-forward layers (Shazeer 2020,
// https://arxiv.org/abs/2002.05202).
//
//   σ = 1 / (1 + e^−gate),  y = gate·σ·up
//   d up = dy·gate·σ,  d gate = dy·up·σ·(1 + gate·(1 − σ))
//
// Keeps gate and up alone, which the projection made anyway; σ is computed again. All in fp32, rounded once.

#include "Kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "GPU/GPUKernels.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

namespace graft {

/// Rows of two matrices and their gradients, each with its own distance between rows.
template <class T>
struct GatedRows {
  const T *gate, *up;
  int64_t stride;
  T* output;          // forward
  const T* gradient;  // backward, of the output
  T *gateGradient, *upGradient;
  int64_t gradientStride;
  int64_t size;
};

}  // namespace graft

#define GRAFT_LOOPS "../SwiGLULoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

bool hasKernel(const at::Tensor& gate) {
  return gate.device().is_cpu() && (gate.scalar_type() == at::kFloat || gate.scalar_type() == at::kBFloat16);
}

template <class T>
void run(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& output, const at::Tensor& gradient,
         const at::Tensor& gateGradient, const at::Tensor& upGradient) {
  const bool backward = gradient.defined();
  const GatedRows<T> rows{constData<T>(gate),
                          constData<T>(up),
                          gate.stride(0),
                          backward ? nullptr : output.data_ptr<T>(),
                          backward ? constData<T>(gradient) : nullptr,
                          backward ? gateGradient.data_ptr<T>() : nullptr,
                          backward ? upGradient.data_ptr<T>() : nullptr,
                          backward ? gateGradient.stride(0) : 0,
                          gate.size(1)};
  parallelFor(gate.size(0), 8, [&](int64_t begin, int64_t end) {
    if constexpr (sizeof(T) == 4)
      GRAFT_DISPATCH(swiGLUFloat, rows, begin, end);
    else
      GRAFT_DISPATCH(swiGLUBFloat16, rows, begin, end);
  });
}

void dispatch(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& output, const at::Tensor& gradient = {},
              const at::Tensor& gateGradient = {}, const at::Tensor& upGradient = {}) {
  if (gate.scalar_type() == at::kFloat)
    run<float>(gate, up, output, gradient, gateGradient, upGradient);
  else
    run<at::BFloat16>(gate, up, output, gradient, gateGradient, upGradient);
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SwiGLU : torch::autograd::Function<SwiGLU> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    const auto output = at::empty(gate.sizes(), gate.options());
    dispatch(gate, up, output);
    context->save_for_backward({gate, up});
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto gateGradient = at::empty(saved[0].sizes(), saved[0].options()),
               upGradient = at::empty_like(gateGradient);
    dispatch(saved[0], saved[1], {}, gradients[0].contiguous(), gateGradient, upGradient);
    return {gateGradient, upGradient};
  }
};

struct SwiGLUFused : torch::autograd::Function<SwiGLUFused> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gateUp) {
    const int64_t size = gateUp.size(1) / 2;
    const auto output = at::empty({gateUp.size(0), size}, gateUp.options());
    if (gateUp.is_cuda())
      gpuSwiGLU(gateUp, output);
    else
      dispatch(gateUp.narrow(1, 0, size), gateUp.narrow(1, size, size), output);
    context->save_for_backward({gateUp});
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto gateUp = context->get_saved_variables()[0];
    const int64_t size = gateUp.size(1) / 2;
    const auto gradient = at::empty(gateUp.sizes(), gateUp.options());
    if (gateUp.is_cuda())
      gpuSwiGLUBackward(gateUp, gradients[0].contiguous(), gradient);
    else
      dispatch(gateUp.narrow(1, 0, size), gateUp.narrow(1, size, size), {}, gradients[0].contiguous(),
             gradient.narrow(1, 0, size), gradient.narrow(1, size, size));
    return {gradient};
  }
};

}  // namespace

at::Tensor swiGLUTwin(const at::Tensor& gate, const at::Tensor& up) { return at::silu(gate) * up; }

at::Tensor swiGLU(const at::Tensor& gate, const at::Tensor& up) {
  TORCH_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "SwiGLU: gate ", gate.toString(),
              gate.sizes(), " and up ", up.toString(), up.sizes());
  if (!hasKernel(gate) || gate.dim() != 2) return swiGLUTwin(gate, up);
  return SwiGLU::apply(gate.contiguous(), up.contiguous());
}

at::Tensor swiGLUFused(const at::Tensor& gateUp) {
  TORCH_CHECK(gateUp.dim() == 2 && gateUp.size(1) % 2 == 0,
              "SwiGLU: gate and up together must be [tokens, 2·size], not ", gateUp.sizes());
  if (!hasKernel(gateUp) && !hasGPUKernels(gateUp)) {
    const int64_t size = gateUp.size(1) / 2;
    return swiGLUTwin(gateUp.narrow(1, 0, size), gateUp.narrow(1, size, size));
  }
  return SwiGLUFused::apply(gateUp.contiguous());
}

}  // namespace graft
