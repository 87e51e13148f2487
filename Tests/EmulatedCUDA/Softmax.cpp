// Softmax of fp16 with a result in fp32, which CUDA computes without a copy and the CPU refuses.

#include <ATen/ATen.h>
#include <torch/library.h>

#include "HostView.h"
#include "Transfers.h"

namespace emulated {
namespace {

template <at::Tensor (*softmax)(const at::Tensor&, int64_t, bool)>
at::Tensor& forward(const at::Tensor& input, int64_t dimension, bool halfToFloat, at::Tensor& output) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::beginWork();
  TORCH_CHECK(input.is_cuda() && output.is_cuda(), "softmax: ", input.device(), " and ", output.device());
  TORCH_CHECK(!halfToFloat || input.scalar_type() == at::kHalf, "conversion is supported for Half type only");
  HostViews views;
  const auto x = views.of(input);
  views.of(output).copy_(softmax(halfToFloat ? x.to(at::kFloat) : x, dimension, false));
  return output;
}

template <at::Tensor (*softmaxBackward)(const at::Tensor&, const at::Tensor&, int64_t, at::ScalarType)>
at::Tensor& backward(const at::Tensor& gradient, const at::Tensor& output, int64_t dimension, at::ScalarType type,
                     at::Tensor& inputGradient) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::beginWork();
  TORCH_CHECK(gradient.is_cuda() && output.is_cuda() && inputGradient.is_cuda(), "backward of softmax: ", gradient.device(), ", ",
              output.device(), " and ", inputGradient.device());
  TORCH_CHECK(type == gradient.scalar_type() || (type == at::kHalf && gradient.scalar_type() == at::kFloat),
              "expected input and grad types to match, or input to be at::Half and grad to be at::Float");
  HostViews views;
  const auto dy = views.of(gradient);
  views.of(inputGradient).copy_(softmaxBackward(dy, views.of(output), dimension, dy.scalar_type()));
  return inputGradient;
}

}  // namespace
}  // namespace emulated

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("_log_softmax.out", &emulated::forward<&at::_log_softmax>);
  library.impl("_softmax.out", &emulated::forward<&at::_softmax>);
  library.impl("_log_softmax_backward_data.out", &emulated::backward<&at::_log_softmax_backward_data>);
  library.impl("_softmax_backward_data.out", &emulated::backward<&at::_softmax_backward_data>);
}
