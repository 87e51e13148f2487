// ATen's RMSNorm of CUDA, which the CPU has not: statistics in fp32, rounded once.
//
//   r = 1 / √(mean x² + ε),  y = w ∘ x·r;   dx = r·(g − x̂·mean(g ∘ x̂)) with g = w ∘ dy,  dw = Σ dy ∘ x̂

#include <ATen/ATen.h>
#include <torch/library.h>

#include <limits>

#include "HostView.h"
#include "Transfers.h"

namespace emulated {
namespace {

at::ScalarType wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

void check(const at::Tensor& input, at::IntArrayRef shape, const std::optional<at::Tensor>& weight) {
  TORCH_CHECK(shape.size() == 1 && input.dim() > 0 && input.size(-1) == shape[0], "RMSNorm over ", shape, " of an input ", input.sizes());
  TORCH_CHECK(!weight || (weight->is_cuda() && weight->sizes() == shape && weight->scalar_type() == input.scalar_type()),
              "RMSNorm: a weight that fits not");
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& input, at::IntArrayRef shape, const std::optional<at::Tensor>& weight,
                                           std::optional<double> epsilon) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  check(input, shape, weight);
  transfers::beginWork();
  HostViews views;
  const auto x = views.of(input).to(wide(input));
  const double smallest = input.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  const auto r = at::rsqrt(x.pow(2).mean(-1, true) + epsilon.value_or(smallest));
  auto y = x * r;
  if (weight) y = y * views.of(*weight).to(wide(input));
  return {views.onDevice(y.to(input.scalar_type())), views.onDevice(r)};
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& outputGradient, const at::Tensor& input, at::IntArrayRef shape,
                                            const at::Tensor& rstd, const std::optional<at::Tensor>& weight, std::array<bool, 2> wanted) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  check(input, shape, weight);
  TORCH_CHECK(outputGradient.is_cuda() && rstd.is_cuda() && outputGradient.sizes() == input.sizes(), "RMSNorm: a gradient ",
              outputGradient.sizes(), " for an input ", input.sizes());
  transfers::beginWork();
  HostViews views;
  const auto dy = views.of(outputGradient).to(wide(input)), r = views.of(rstd);
  const auto normalized = views.of(input).to(wide(input)) * r;
  const auto g = weight ? dy * views.of(*weight).to(wide(input)) : dy;
  at::Tensor dx, dw;
  if (wanted[0]) dx = (r * (g - normalized * (g * normalized).mean(-1, true))).to(input.scalar_type());
  if (wanted[1] && weight) dw = (dy * normalized).flatten(0, -2).sum(0).to(weight->scalar_type());
  return {views.onDevice(dx), views.onDevice(dw)};
}

}  // namespace
}  // namespace emulated

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("_fused_rms_norm", &emulated::forward);
  library.impl("_fused_rms_norm_backward", &emulated::backward);
}
