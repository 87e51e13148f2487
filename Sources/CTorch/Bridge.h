// What every file behind the C interface uses: handles and the exception barrier.

#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include <exception>
#include <string>

#include "CUDALibrary.h"
#include "ctorch.h"

namespace graft {

void set_error(std::string message);
void count_handle(int64_t change);

/// A counted C++ tensor over a borrowed handle.
inline at::Tensor borrow(CTTensor *handle) {
  auto *impl = reinterpret_cast<c10::TensorImpl *>(handle);
  return at::Tensor(c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim_copy(impl));
}

inline at::Tensor borrow_or_undefined(CTTensor *handle) { return handle ? borrow(handle) : at::Tensor(); }

inline std::optional<at::Tensor> borrow_optional(CTTensor *handle) {
  return handle ? std::optional<at::Tensor>(borrow(handle)) : std::nullopt;
}

/// Hands a reference to the caller of the C interface.
inline CTTensor *hand_out(at::Tensor tensor) {
  TORCH_CHECK(tensor.defined(), "the engine returned no tensor");
  count_handle(1);
  return reinterpret_cast<CTTensor *>(tensor.unsafeReleaseTensorImpl());
}

inline c10::Device device_of(CTDevice device) {
  TORCH_CHECK(device.type != CT_CUDA || isCUDALoaded(), "CUDA is not in use yet; call Engine.prepare(.cuda) at the start of the program");
  return c10::Device(static_cast<c10::DeviceType>(device.type), static_cast<c10::DeviceIndex>(device.index));
}

inline c10::ScalarType dtype_of(CTDType dtype) { return static_cast<c10::ScalarType>(dtype); }

inline std::vector<at::Tensor> borrow_all(CTTensor *const *handles, int32_t count) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(count);
  for (int32_t i = 0; i < count; ++i) tensors.push_back(borrow(handles[i]));
  return tensors;
}

/// Runs `body`, turning every exception into an error message and `failure`. Profiles see it under `name`, the calling
/// function's.
template <typename Result, typename Body>
Result guarded(Result failure, Body &&body, const char *name = __builtin_FUNCTION()) noexcept {
  try {
    RECORD_FUNCTION(name, c10::ArrayRef<const c10::IValue>{});
    return body();
  } catch (const c10::Error &error) {
    set_error(error.what_without_backtrace());
  } catch (const std::bad_alloc &) {
    set_error("out of memory");
  } catch (const std::exception &error) {
    set_error(error.what());
  } catch (...) {
    set_error("an unknown C++ exception");
  }
  return failure;
}

/// Runs `body`, which gives a tensor.
template <typename Body>
CTTensor *tensor_or_null(Body &&body, const char *name = __builtin_FUNCTION()) noexcept {
  return guarded<CTTensor *>(nullptr, [&] { return hand_out(body()); }, name);
}

/// Runs `body`, which gives nothing: 0 on success.
template <typename Body>
int status(Body &&body, const char *name = __builtin_FUNCTION()) noexcept {
  return guarded<int>(
      1,
      [&] {
        body();
        return 0;
      },
      name);
}

}  // namespace graft
