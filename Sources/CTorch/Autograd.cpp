// Gradients: switches, backward, and nodes whose backward is a Swift function.

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include "Bridge.h"

using namespace graft;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {
thread_local std::string callback_error;

/// A Swift closure, released when the last owner goes.
struct Callback : c10::intrusive_ptr_target {
  void *context;
  CTCallback function;
  void (*release)(void *);

  Callback(void *context, CTCallback function, void (*release)(void *))
      : context(context), function(function), release(release) {}
  ~Callback() override { release(context); }

  std::vector<at::Tensor> operator()(const std::vector<at::Tensor> &arguments, int32_t result_count) const {
    std::vector<CTTensor *> handles;
    for (const auto &argument : arguments)
      handles.push_back(reinterpret_cast<CTTensor *>(argument.unsafeGetTensorImpl()));
    std::vector<CTTensor *> results(result_count, nullptr);
    callback_error.clear();
    RECORD_USER_SCOPE("swift");
    if (function(context, handles.data(), static_cast<int32_t>(handles.size()), results.data(), result_count) != 0)
      TORCH_CHECK(false, callback_error);
    std::vector<at::Tensor> tensors;
    for (auto *result : results) {
      tensors.push_back(borrow(result));
      ct_release(result);
    }
    return tensors;
  }
};

using SharedCallback = c10::intrusive_ptr<Callback>;

struct RandomState {
  std::vector<std::pair<c10::Device, at::Tensor>> states;

  static RandomState capture(c10::Device device) {
    RandomState saved;
    saved.add(c10::Device(c10::kCPU));
    if (device.is_cuda()) saved.add(device);
    return saved;
  }
  void add(c10::Device device) {
    states.emplace_back(device, at::globalContext().defaultGenerator(device).get_state());
  }
  void restore() const {
    for (const auto &[device, state] : states) {
      auto generator = at::globalContext().defaultGenerator(device);
      generator.set_state(state);
    }
  }
};

/// Puts the random state back at the end of a scope.
struct RandomStateGuard {
  RandomState state;
  explicit RandomStateGuard(c10::Device device) : state(RandomState::capture(device)) {}
  RandomStateGuard(const RandomStateGuard &) = delete;
  ~RandomStateGuard() { state.restore(); }
};

struct SavedFunction : torch::CustomClassHolder {
  SharedCallback callback;
  RandomState random;
  /// Copies of the inputs that are kept in their place; empty when they are kept themselves.
  std::vector<at::Tensor> kept;
  /// Which of the inputs want a gradient, and where they were, when copies are kept.
  std::vector<bool> wantGradient;
  std::vector<c10::Device> devices;
};

// The functions below take a `TensorList`: of a `std::vector`, `Function::apply` sees no tensors, and the graph would end.

/// Checkpointing: forward without a graph; backward builds the graph of the one piece and walks it.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static at::Tensor forward(
      AutogradContext *ctx, at::TensorList inputs, const c10::intrusive_ptr<SavedFunction> &saved) {
    ctx->saved_data["function"] = c10::IValue::make_capsule(saved);
    if (saved->kept.empty()) {
      ctx->save_for_backward(inputs.vec());
    } else {
      for (const auto &input : inputs) {
        saved->wantGradient.push_back(input.requires_grad());
        saved->devices.push_back(input.device());
      }
    }
    at::NoGradGuard no_gradient;
    return (*saved->callback)(inputs.vec(), 1).front();
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &gradients) {
    auto saved = c10::static_intrusive_pointer_cast<SavedFunction>(ctx->saved_data["function"].toCapsule());

    std::vector<at::Tensor> detached;
    for (const auto &input : ctx->get_saved_variables())
      detached.push_back(input.detach().set_requires_grad(input.requires_grad()));
    for (size_t i = 0; i < saved->kept.size(); ++i) {
      // In the order of the device's stream, on which the copy was made; on the CPU nothing is copied.
      const auto there = saved->kept[i].to(saved->devices[i], saved->kept[i].scalar_type(), /*non_blocking=*/true);
      detached.push_back(there.detach().set_requires_grad(saved->wantGradient[i]));
    }
    // The graph is walked once: what was kept may go when the gradient is made.
    saved->kept.clear();

    at::Tensor output;
    {
      // The random numbers of the first run, and after it, however it ends, those that the caller would have got next.
      RandomStateGuard current(detached.front().device());
      saved->random.restore();
      at::AutoGradMode with_gradient(true);
      output = (*saved->callback)(detached, 1).front();
    }

    torch::autograd::backward({output}, {gradients.front()});
    variable_list results;
    for (const auto &input : detached) results.push_back(input.grad());
    results.emplace_back();  // the function has no gradient
    return results;
  }
};

/// A value computed elsewhere whose gradient a callback knows.
struct CustomFunction : torch::autograd::Function<CustomFunction> {
  static at::Tensor forward(
      AutogradContext *ctx, at::TensorList inputs, const at::Tensor &output,
      const c10::intrusive_ptr<SavedFunction> &saved) {
    ctx->saved_data["function"] = c10::IValue::make_capsule(saved);
    ctx->saved_data["count"] = static_cast<int64_t>(inputs.size());
    return output.detach().view_as(output);
  }

  static variable_list backward(AutogradContext *ctx, const variable_list &gradients) {
    auto saved = c10::static_intrusive_pointer_cast<SavedFunction>(ctx->saved_data["function"].toCapsule());
    auto count = static_cast<int32_t>(ctx->saved_data["count"].toInt());
    variable_list results = (*saved->callback)({gradients.front()}, count);
    results.emplace_back();
    results.emplace_back();
    return results;
  }
};
}  // namespace

bool ct_requires_gradient(CTTensor *tensor) { return borrow(tensor).requires_grad(); }

int ct_set_requires_gradient(CTTensor *tensor, bool requires_gradient) {
  return status([&] { borrow(tensor).set_requires_grad(requires_gradient); });
}

CTTensor *ct_gradient(CTTensor *tensor) {
  return guarded<CTTensor *>(nullptr, [&]() -> CTTensor * {
    auto gradient = borrow(tensor).grad();
    return gradient.defined() ? hand_out(gradient) : nullptr;
  });
}

int ct_set_gradient(CTTensor *tensor, CTTensor *gradient) {
  return status([&] {
    auto target = borrow(tensor);
    auto value = borrow_or_undefined(gradient);
    TORCH_CHECK(!value.defined() || (value.sizes() == target.sizes() && value.device() == target.device()), "a gradient ",
                value.sizes(), " for a tensor ", target.sizes());
    target.mutable_grad() = value;
  });
}

bool ct_gradient_enabled(void) { return at::GradMode::is_enabled(); }
void ct_set_gradient_enabled(bool enabled) { at::GradMode::set_enabled(enabled); }

int ct_backward(CTTensor *tensor, CTTensor *gradient) {
  return status([&] {
    variable_list gradients;
    if (gradient) gradients.push_back(borrow(gradient));
    torch::autograd::backward({borrow(tensor)}, gradients);
  });
}

void ct_set_callback_error(const char *message) { callback_error = message; }

CTTensor *ct_checkpoint(
    CTTensor *const *inputs, int32_t count, CTTensor *const *kept, void *context, CTCallback forward,
    void (*release)(void *)) {
  auto callback = c10::make_intrusive<Callback>(context, forward, release);
  return tensor_or_null([&] {
    auto arguments = borrow_all(inputs, count);
    auto saved = c10::make_intrusive<SavedFunction>();
    saved->callback = callback;
    saved->random = RandomState::capture(arguments.front().device());
    if (kept) saved->kept = borrow_all(kept, count);
    return Checkpoint::apply(at::TensorList(arguments), saved);
  });
}

CTTensor *ct_custom_function(
    CTTensor *output, CTTensor *const *inputs, int32_t count, void *context, CTCallback backward,
    void (*release)(void *)) {
  auto callback = c10::make_intrusive<Callback>(context, backward, release);
  return tensor_or_null([&] {
    auto saved = c10::make_intrusive<SavedFunction>();
    saved->callback = callback;
    auto arguments = borrow_all(inputs, count);
    return CustomFunction::apply(at::TensorList(arguments), borrow(output), saved);
  });
}
