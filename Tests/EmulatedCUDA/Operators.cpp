// The operators that a device must have by itself: making, viewing, resizing and copying tensors, and random masks.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include "DeviceMemory.h"
#include "Generator.h"
#include "HostView.h"
#include "Transfers.h"

namespace emulated {
namespace {

constexpr c10::DispatchKeySet keys(c10::DispatchKey::CUDA);

void checkOptions(std::optional<at::Layout> layout, std::optional<at::Device> device, std::optional<bool> isPinned) {
  TORCH_CHECK(layout.value_or(at::kStrided) == at::kStrided && !isPinned.value_or(false), "Only dense CPU tensors can be pinned");
  TORCH_CHECK(!device || device->index() <= 0, "CUDA error: invalid device ordinal");
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout> layout,
                 std::optional<at::Device> device, std::optional<bool> isPinned, std::optional<at::MemoryFormat> format) {
  checkOptions(layout, device, isPinned);
  return at::detail::empty_generic(sizes, memory::allocator(), keys, c10::dtype_or_default(type), format);
}

at::Tensor emptyStrided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> type,
                        std::optional<at::Layout> layout, std::optional<at::Device> device, std::optional<bool> isPinned) {
  checkOptions(layout, device, isPinned);
  return at::detail::empty_strided_generic(sizes, strides, memory::allocator(), keys, c10::dtype_or_default(type));
}

at::Tensor asStrided(const at::Tensor& self, at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, offset);
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef sizes, std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!format || *format == at::MemoryFormat::Contiguous, "the emulated CUDA device has no other memory format");
  auto* const implementation = self.unsafeGetTensorImpl();
  if (self.sizes() == sizes) return self;
  implementation->set_sizes_contiguous(sizes);
  growStorage(self, (self.storage_offset() + self.numel()) * self.element_size());
  return self;
}

at::Tensor& copy(at::Tensor& self, const at::Tensor& source, bool isNonBlocking) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  if (self.is_cuda() && source.is_cuda()) {
    transfers::beginWork();
    // One set of views: the two may be parts of one storage.
    HostViews views;
    views.of(self).copy_(views.of(source));
    return self;
  }
  const auto& host = self.is_cuda() ? source : self;
  TORCH_CHECK(host.is_cpu(), "a copy between ", self.device(), " and ", source.device());
  const bool isLate = isNonBlocking && pinned::contains(host.storage().data()) && self.sizes() == source.sizes() &&
                      self.scalar_type() == source.scalar_type();
  if (self.is_cuda()) {
    if (isLate) {
      transfers::upload(source, self);
    } else {
      // Of other memory than pinned, what is not waited for is taken at once all the same.
      isNonBlocking ? transfers::beginWork() : transfers::synchronize();
      hostView(self).copy_(source);
    }
  } else if (isLate) {
    transfers::download(source, self);
  } else {
    transfers::synchronize();
    self.copy_(hostView(source));
  }
  return self;
}

at::Scalar item(const at::Tensor& self) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::synchronize();
  return at::_local_scalar_dense(hostView(self));
}

/// The CPU's has no generator among its arguments.
std::tuple<at::Tensor, at::Tensor> dropout(const at::Tensor& input, double probability, std::optional<bool> isTraining) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::beginWork();
  HostViews views;
  const auto here = views.of(input);
  if (!isTraining.value_or(true) || probability == 0)
    return {views.onDevice(here.clone()), views.onDevice(at::ones_like(here, here.options().dtype(at::kBool)))};
  const auto mask = at::empty_like(here, here.options().dtype(at::kBool)).bernoulli_(1 - probability, drawFrom(std::nullopt));
  const double scale = probability == 1 ? 0 : 1 / (1 - probability);
  return {views.onDevice(here.mul(mask).mul_(scale)), views.onDevice(mask)};
}

void recordStream(at::Tensor&, at::Stream) {}

}  // namespace
}  // namespace emulated

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", &emulated::empty);
  library.impl("empty_strided", &emulated::emptyStrided);
  library.impl("as_strided", &emulated::asStrided);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("unfold", &at::native::unfold);
  library.impl("resize_", &emulated::resize);
  library.impl("copy_", &emulated::copy);
  library.impl("_local_scalar_dense", &emulated::item);
  library.impl("native_dropout", &emulated::dropout);
  library.impl("record_stream", &emulated::recordStream);
}
