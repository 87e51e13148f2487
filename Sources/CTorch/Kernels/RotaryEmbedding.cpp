// Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864) in Hugging Face's "rotate half" form: the
// first R of a head's numbers are turned in pairs (i, i + R/2) by the angle of the token's position,
//
//   y[i] = x[i]·cos[i] − x[i + R/2]·sin[i],   y[i + R/2] = x[i + R/2]·cos[i + R/2] + x[i]·sin[i + R/2]
//
// In place, on all heads of a token that take it. The backward pass is the transpose of the same map, in place on the gradient
// when nobody else holds it. fp32 tables and arithmetic, rounded once.

#include "Kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "GPU/GPUKernels.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

#define GRAFT_LOOPS "../RotaryEmbeddingLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

bool hasKernel(const at::Tensor& x, int64_t rotated) {
  if (hasGPUKernels(x)) return x.stride(-1) == 1;
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
         x.stride(-1) == 1 && rotated % 32 == 0;
}

/// x [tokens, columns], the last axis contiguous: rotates the first `heads` heads of each row in place.
void rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines, int64_t headSize, int64_t heads,
            bool inverse) {
  if (x.is_cuda()) return gpuRotate(x, cosines, sines, headSize, heads, inverse);
  const int64_t size = cosines.size(1), stride = x.stride(0);
  const float *cosine = constData<float>(cosines), *sine = constData<float>(sines);
  parallelFor(x.size(0), 16, [&](int64_t begin, int64_t end) {
    if (x.scalar_type() == at::kFloat)
      GRAFT_DISPATCH(rotateFloat, x.data_ptr<float>(), stride, begin, end, heads, headSize, cosine, sine, size,
                     inverse);
    else
      GRAFT_DISPATCH(rotateBFloat16, x.data_ptr<at::BFloat16>(), stride, begin, end, heads, headSize, cosine, sine,
                     size, inverse);
  });
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct RotaryEmbedding : torch::autograd::Function<RotaryEmbedding> {
  static at::Tensor forward(AutogradContext* context, at::Tensor x, const at::Tensor& cosines, const at::Tensor& sines,
                            int64_t headSize, int64_t heads) {
    rotate(x, cosines, sines, headSize, heads, false);
    context->mark_dirty({x});
    context->save_for_backward({cosines, sines});
    context->saved_data["headSize"] = headSize;
    context->saved_data["heads"] = heads;
    return x;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    at::Tensor gradient = std::move(gradients[0]);
    // Ours alone: the engine moved it here, and no view shares its memory.
    const bool unshared = gradient.use_count() == 1 && gradient.is_contiguous() && gradient.storage().use_count() == 1;
    if (!unshared) gradient = gradient.clone(at::MemoryFormat::Contiguous);
    rotate(gradient, saved[0], saved[1], context->saved_data["headSize"].toInt(), context->saved_data["heads"].toInt(),
           true);
    return {gradient, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor rotaryEmbeddingTwin(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines,
                               int64_t headSize, int64_t heads) {
  const int64_t size = cosines.size(1);
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto grouped = x.narrow(1, 0, heads * headSize).unflatten(1, {heads, headSize});  // [tokens, heads, headSize]
  const auto turning = grouped.narrow(2, 0, size).to(wide);
  const auto half = at::cat({-turning.narrow(2, size / 2, size / 2), turning.narrow(2, 0, size / 2)}, 2);
  const auto turned =
      (turning * cosines.to(wide).unsqueeze(1) + half * sines.to(wide).unsqueeze(1)).to(x.scalar_type());
  const auto rest = grouped.narrow(2, size, headSize - size);
  return at::cat(
      {at::cat({turned, rest}, 2).flatten(1, 2), x.narrow(1, heads * headSize, x.size(1) - heads * headSize)}, 1);
}

at::Tensor rotaryEmbedding_(at::Tensor x, const at::Tensor& cosines, const at::Tensor& sines, int64_t headSize,
                            int64_t heads) {
  TORCH_CHECK(x.dim() == 2 && headSize > 0 && heads >= 0 && heads * headSize <= x.size(1), "rotary embedding: ", heads,
              " heads of size ", headSize, " in rows of ", x.sizes());
  TORCH_CHECK(cosines.dim() == 2 && cosines.sizes() == sines.sizes() && cosines.size(0) == x.size(0) &&
                  cosines.size(1) <= headSize && cosines.size(1) % 2 == 0 && cosines.scalar_type() == at::kFloat &&
                  sines.scalar_type() == at::kFloat,
              "rotary embedding: tables must be fp32 [tokens, at most headSize], not ", cosines.toString(),
              cosines.sizes(), " and ", sines.toString(), sines.sizes(), " for ", x.sizes());
  if (!hasKernel(x, cosines.size(1))) return rotaryEmbeddingTwin(x, cosines, sines, headSize, heads);
  return RotaryEmbedding::apply(x, cosines.contiguous(), sines.contiguous(), headSize, heads);
}

}  // namespace graft
