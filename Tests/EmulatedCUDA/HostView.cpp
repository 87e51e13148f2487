#include "HostView.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/CPUAllocator.h>

#include <cstring>

#include "DeviceMemory.h"

namespace emulated {
namespace {

at::Tensor wrap(const c10::Storage& storage, at::DispatchKey key, const at::Tensor& like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(key), like.dtype());
  auto* const implementation = tensor.unsafeGetTensorImpl();
  implementation->set_storage_offset(like.storage_offset());
  implementation->set_sizes_and_strides(like.sizes(), like.strides());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) implementation->set_wrapped_number(true);
  return tensor;
}

}  // namespace

at::Tensor HostViews::of(const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(tensor.is_cuda() && tensor.layout() == at::kStrided && !tensor.is_conj() && !tensor.is_neg());
  auto* const storage = tensor.storage().unsafeGetStorageImpl();
  auto& view = storages_[storage];
  if (!view) {
    // Not `data()`, which a copy-on-write storage would answer with a copy.
    void* const address = memory::host(storage->_mutable_data_ptr_no_checks().get());
    view = c10::Storage(c10::Storage::use_byte_size_t(), storage->nbytes(), at::DataPtr(address, c10::Device(c10::kCPU)),
                        c10::GetCPUAllocator(), /*resizable=*/true);
    origins_[view.unsafeGetStorageImpl()] = tensor.storage();
  }
  return wrap(view, at::DispatchKey::CPU, tensor);
}

at::Tensor HostViews::onDevice(const at::Tensor& result) const {
  if (!result.defined()) return result;
  const auto origin = origins_.find(result.storage().unsafeGetStorageImpl());
  if (origin != origins_.end()) return wrap(origin->second, at::DispatchKey::CUDA, result);
  auto copy = result.is_non_overlapping_and_dense()
                  ? at::Tensor(at::detail::empty_strided_generic(result.sizes(), result.strides(), memory::allocator(),
                                                                 c10::DispatchKeySet(c10::DispatchKey::CUDA), result.scalar_type()))
                  : emptyOnDevice(result.sizes(), result.scalar_type());
  if (copy.numel() > 0) hostView(copy).copy_(result);
  return copy;
}

void HostViews::settle(const at::Tensor& tensor, const at::Tensor& view) const {
  const auto& storage = tensor.storage();
  const bool hasMoved = view.storage().data() != memory::host(storage.unsafeGetStorageImpl()->_mutable_data_ptr_no_checks().get());
  if (!hasMoved && view.sizes() == tensor.sizes() && view.strides() == tensor.strides()) return;
  if (hasMoved) {
    growStorage(tensor, view.storage().nbytes());
    std::memcpy(memory::host(storage.unsafeGetStorageImpl()->_mutable_data_ptr_no_checks().get()), view.storage().data(),
                view.storage().nbytes());
  }
  tensor.unsafeGetTensorImpl()->set_storage_offset(view.storage_offset());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(view.sizes(), view.strides());
}

at::Tensor emptyOnDevice(at::IntArrayRef sizes, at::ScalarType type) {
  return at::detail::empty_generic(sizes, memory::allocator(), c10::DispatchKeySet(c10::DispatchKey::CUDA), type, std::nullopt);
}

void growStorage(const at::Tensor& tensor, size_t bytes) {
  auto* const storage = tensor.storage().unsafeGetStorageImpl();
  if (storage->nbytes() >= bytes) return;
  auto larger = memory::allocator()->allocate(bytes);
  memory::allocator()->copy_data(larger.get(), storage->_mutable_data_ptr_no_checks().get(), storage->nbytes());
  storage->set_data_ptr_noswap(std::move(larger));
  storage->set_nbytes(bytes);
}

}  // namespace emulated
