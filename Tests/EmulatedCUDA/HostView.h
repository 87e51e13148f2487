#pragma once

#include <ATen/core/Tensor.h>

#include <map>

namespace emulated {

/// Tensors of the device as the processor sees them: the same memory, sizes and strides, of the CPU. Tensors that share a storage share one
/// here, too.
class HostViews {
 public:
  /// `tensor` has to be the device's. Its storage here may be resized, which leaves the device's behind; see `settle`.
  at::Tensor of(const at::Tensor& tensor);

  /// A tensor on the device with the numbers of `result`; a view of an argument when `result` is one.
  at::Tensor onDevice(const at::Tensor& result) const;

  /// After an operator wrote to `view = of(tensor)`: gives `tensor` its sizes, and its numbers when it outgrew its memory.
  void settle(const at::Tensor& tensor, const at::Tensor& view) const;

 private:
  std::map<c10::StorageImpl*, c10::Storage> storages_;
  std::map<c10::StorageImpl*, c10::Storage> origins_;
};

inline at::Tensor hostView(const at::Tensor& tensor) { return HostViews().of(tensor); }

/// An uninitialised tensor of the device.
at::Tensor emptyOnDevice(at::IntArrayRef sizes, at::ScalarType type);

/// Gives `tensor` a storage of at least so many bytes, with what it held.
void growStorage(const at::Tensor& tensor, size_t bytes);

}  // namespace emulated
