// A frozen weight in oneDNN's own blocked layout. `at::linear` on bf16 reorders a plain weight on each call: hardly visible
// with thousands of tokens, half of the time with four or eight, as in batched generation.
//
// The wheel does not export oneDNN, but registers the operators that torch.compile calls; they are looked up by name, so that an engine
// without them (arm64, macOS) falls back to the plain weight.

#include "Kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

namespace graft {
namespace {

std::optional<c10::OperatorHandle> find(const char* name) {
  return c10::Dispatcher::singleton().findSchema({name, ""});
}

}  // namespace

at::Tensor packLinearWeight(const at::Tensor& weight, int64_t tokens) {
  TORCH_CHECK(weight.dim() == 2, "packing a linear weight: it must be [outputs, inputs], not ", weight.sizes());
  static const auto reorder = find("mkldnn::_reorder_linear_weight"), multiply = find("mkldnn::_linear_pointwise");
  if (!reorder || !multiply || !weight.device().is_cpu() || weight.scalar_type() != at::kBFloat16) return {};
  try {
    const at::NoGradGuard inference;
    c10::Stack stack{weight.contiguous(), tokens};
    reorder->callBoxed(stack);
    return stack.back().toTensor();
  } catch (const c10::Error&) {
    // oneDNN has no bf16 on this processor.
    return {};
  }
}

at::Tensor packedLinear(const at::Tensor& x, const at::Tensor& packedWeight, const at::Tensor& bias) {
  TORCH_CHECK(packedWeight.defined() && packedWeight.is_mkldnn(),
              "packed linear: the weight must come from packLinearWeight");
  static const auto multiply = find("mkldnn::_linear_pointwise");
  TORCH_CHECK(multiply.has_value(), "packed linear: this engine has no mkldnn::_linear_pointwise");
  const at::NoGradGuard inference;
  c10::Stack stack{x,
                   packedWeight,
                   bias.defined() ? c10::IValue(bias) : c10::IValue(),
                   "none",
                   c10::List<std::optional<at::Scalar>>(),
                   ""};
  multiply->callBoxed(stack);
  return stack.back().toTensor();
}

}  // namespace graft
