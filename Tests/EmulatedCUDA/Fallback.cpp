// Every operator that the device has no own kernel for: the processor's, on views of the device's memory. What CUDA refuses is refused here:
// operands on different devices, and random numbers of another device's generator.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <set>

#include "Generator.h"
#include "HostView.h"
#include "Transfers.h"

namespace emulated {
namespace {

using c10::IValue;

/// Operators among whose operands a number of the CPU may be, a tensor without dimensions: those that go element by element.
bool takesNumbersOfCPU(const std::string& name) {
  const auto stem = [](std::string name) {
    if (name.back() == '_') name.pop_back();
    return name;
  };
  // Not every form of an operator has the tag.
  static const std::set<std::string> names = [&] {
    std::set<std::string> names{"aten::fill", "aten::index_put", "aten::_index_put_impl"};
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const auto& each : dispatcher.getAllOpNames()) {
      const auto operation = dispatcher.findOp(each);
      if (operation && operation->hasSchema() && operation->hasTag(at::Tag::pointwise)) names.insert(stem(each.name));
    }
    return names;
  }();
  return names.count(stem(name)) > 0;
}

/// Operators whose indices may stay on the CPU, as CUDA's may.
bool takesIndicesOfCPU(const std::string& name) {
  return name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
}

/// The arguments of one call.
class Call {
 public:
  explicit Call(const c10::OperatorHandle& operation) : operation_(operation), name_(operation.operator_name().name) {}

  IValue here(const IValue& value, const c10::Argument& argument) {
    const bool isWritten = argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    if (value.isTensor()) return here(value.toTensor(), argument.name(), isWritten);
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const auto& tensor : value.toTensorVector()) list.push_back(here(tensor, argument.name(), isWritten));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const auto& tensor : value.toOptionalTensorVector())
        list.push_back(tensor ? std::optional<at::Tensor>(here(*tensor, argument.name(), isWritten)) : std::nullopt);
      return list;
    }
    if (value.isDevice()) return c10::Device(c10::kCPU);
    if (argument.type()->str() == "Generator?" || argument.type()->str() == "Generator") {
      hasGenerator_ = true;
      return drawFrom(value.isNone() ? std::nullopt : std::optional<at::Generator>(value.toGenerator()));
    }
    return value;
  }

  IValue onDevice(const IValue& value) const {
    if (value.isTensor()) return views_.onDevice(value.toTensor());
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const auto& tensor : value.toTensorVector()) list.push_back(views_.onDevice(tensor));
      return list;
    }
    return value;
  }

  void check() const {
    TORCH_CHECK(operation_.hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
                    operation_.hasComputedKernelForDispatchKey(c10::DispatchKey::CPU),
                "the emulated CUDA device has no ", name_);
    TORCH_CHECK(hasGenerator_ || !operation_.hasTag(at::Tag::nondeterministic_seeded), "the emulated CUDA device has no ", name_,
                ", which draws random numbers");
  }

  void settle() const {
    for (const auto& [tensor, view] : written_) views_.settle(tensor, view);
  }

 private:
  at::Tensor here(const at::Tensor& tensor, const std::string& argument, bool isWritten) {
    if (!tensor.defined()) return tensor;
    if (tensor.is_cuda()) {
      auto view = views_.of(tensor);
      if (isWritten) written_.emplace_back(tensor, view);
      return view;
    }
    const bool mayStay = tensor.dim() == 0 ? takesNumbersOfCPU(name_) : argument == "indices" && takesIndicesOfCPU(name_);
    TORCH_CHECK(tensor.is_cpu() && !isWritten && mayStay, name_,
                ": expected all tensors to be on the same device, but `", argument, "` ", tensor.sizes(), " is on ", tensor.device(),
                " beside others on cuda:0");
    return tensor;
  }

  const c10::OperatorHandle& operation_;
  std::string name_;
  HostViews views_;
  std::vector<std::pair<at::Tensor, at::Tensor>> written_;
  bool hasGenerator_ = false;
};

/// Which argument a return value is, when the operator writes to one and returns it.
std::optional<size_t> argumentOf(const c10::Argument& returned, const c10::FunctionSchema& schema) {
  if (returned.alias_info() == nullptr || !returned.alias_info()->isWrite()) return std::nullopt;
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const auto* const alias = schema.arguments()[i].alias_info();
    if (alias != nullptr && alias->isWrite() && alias->beforeSets() == returned.alias_info()->beforeSets()) return i;
  }
  return std::nullopt;
}

void fallback(const c10::OperatorHandle& operation, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::beginWork();
  const auto& schema = operation.schema();
  const size_t count = schema.arguments().size();
  const std::vector<IValue> originals(stack->end() - static_cast<int64_t>(count), stack->end());
  Call call(operation);
  for (size_t i = 0; i < count; ++i) (*stack)[stack->size() - count + i] = call.here(originals[i], schema.arguments()[i]);
  call.check();
  operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.settle();
  const size_t results = schema.returns().size();
  for (size_t i = 0; i < results; ++i) {
    auto& result = (*stack)[stack->size() - results + i];
    const auto argument = argumentOf(schema.returns()[i], schema);
    result = argument ? originals[*argument] : call.onDevice(result);
  }
}

}  // namespace
}  // namespace emulated

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&emulated::fallback>());
}
