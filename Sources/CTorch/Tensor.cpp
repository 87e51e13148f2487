// Lifetime, inspection, creation, conversion and shape.

#include <atomic>
#include <cstring>

#include <ATen/CPUGeneratorImpl.h>

#include "Bridge.h"

using namespace graft;

static_assert(CT_UINT8 == (int)c10::ScalarType::Byte && CT_INT8 == (int)c10::ScalarType::Char);
static_assert(CT_INT16 == (int)c10::ScalarType::Short && CT_INT32 == (int)c10::ScalarType::Int);
static_assert(CT_INT64 == (int)c10::ScalarType::Long && CT_FLOAT16 == (int)c10::ScalarType::Half);
static_assert(CT_FLOAT32 == (int)c10::ScalarType::Float && CT_FLOAT64 == (int)c10::ScalarType::Double);
static_assert(CT_BOOL == (int)c10::ScalarType::Bool && CT_BFLOAT16 == (int)c10::ScalarType::BFloat16);
static_assert(CT_FLOAT8_E5M2 == (int)c10::ScalarType::Float8_e5m2);
static_assert(CT_FLOAT8_E4M3 == (int)c10::ScalarType::Float8_e4m3fn);
static_assert(CT_UINT16 == (int)c10::ScalarType::UInt16 && CT_UINT32 == (int)c10::ScalarType::UInt32);
static_assert(CT_UINT64 == (int)c10::ScalarType::UInt64);
static_assert(CT_CPU == (int)c10::DeviceType::CPU && CT_CUDA == (int)c10::DeviceType::CUDA);
static_assert(CT_MPS == (int)c10::DeviceType::MPS && CT_META == (int)c10::DeviceType::Meta);

namespace {
thread_local std::string last_error;
std::atomic<int64_t> live_handles{0};
}  // namespace

namespace graft {
void set_error(std::string message) { last_error = std::move(message); }
void count_handle(int64_t change) { live_handles.fetch_add(change, std::memory_order_relaxed); }
}  // namespace graft

const char *ct_last_error(void) { return last_error.c_str(); }

// MARK: Lifetime and inspection

void ct_retain(CTTensor *tensor) {
  count_handle(1);
  borrow(tensor).unsafeReleaseTensorImpl();
}

void ct_release(CTTensor *tensor) {
  count_handle(-1);
  auto *impl = reinterpret_cast<c10::TensorImpl *>(tensor);
  c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim(impl);
}

int64_t ct_live_handle_count(void) { return live_handles.load(std::memory_order_relaxed); }

int64_t ct_dimension_count(CTTensor *tensor) { return borrow(tensor).dim(); }
int64_t ct_size(CTTensor *tensor, int64_t dimension) {
  return guarded<int64_t>(-1, [&] { return borrow(tensor).size(dimension); });
}
int64_t ct_stride(CTTensor *tensor, int64_t dimension) {
  return guarded<int64_t>(-1, [&] { return borrow(tensor).stride(dimension); });
}
int64_t ct_element_count(CTTensor *tensor) { return borrow(tensor).numel(); }
CTDType ct_dtype(CTTensor *tensor) { return static_cast<CTDType>(borrow(tensor).scalar_type()); }

CTDevice ct_device(CTTensor *tensor) {
  auto device = borrow(tensor).device();
  return {static_cast<CTDeviceType>(device.type()), device.index()};
}

int64_t ct_version(CTTensor *tensor) {
  return guarded<int64_t>(0, [&] { return static_cast<int64_t>(borrow(tensor).unsafeGetTensorImpl()->version_counter().current_version()); });
}

bool ct_is_contiguous(CTTensor *tensor) { return borrow(tensor).is_contiguous(); }

void *ct_data(CTTensor *tensor) {
  return guarded<void *>(nullptr, [&] { return borrow(tensor).data_ptr(); });
}

const void *ct_storage(CTTensor *tensor) {
  return guarded<const void *>(nullptr, [&] { return borrow(tensor).storage().unsafeGetStorageImpl(); });
}

// MARK: Creation

namespace {
at::TensorOptions options(CTDType dtype, CTDevice device) {
  return at::TensorOptions().dtype(dtype_of(dtype)).device(device_of(device));
}

size_t byte_count(at::IntArrayRef shape, c10::ScalarType dtype) {
  uint64_t count = c10::elementSize(dtype);
  for (auto size : shape) {
    TORCH_CHECK(size >= 0, "a size is negative: ", shape);
    TORCH_CHECK(!__builtin_mul_overflow(count, static_cast<uint64_t>(size), &count), "shape ", shape, " is too large");
  }
  return count;
}
}  // namespace

CTTensor *ct_empty(const int64_t *shape, int32_t rank, CTDType dtype, CTDevice device) {
  return tensor_or_null([&] { return at::empty(at::IntArrayRef(shape, rank), options(dtype, device)); });
}

CTTensor *ct_full(const int64_t *shape, int32_t rank, double value, CTDType dtype, CTDevice device) {
  return tensor_or_null([&] { return at::full(at::IntArrayRef(shape, rank), value, options(dtype, device)); });
}

CTTensor *ct_arange(int64_t start, int64_t end, int64_t step, CTDType dtype, CTDevice device) {
  return tensor_or_null([&] { return at::arange(start, end, step, options(dtype, device)); });
}

CTTensor *ct_uniform(
    const int64_t *shape, int32_t rank, double low, double high, CTDType dtype, CTDevice device) {
  return tensor_or_null(
      [&] { return at::empty(at::IntArrayRef(shape, rank), options(dtype, device)).uniform_(low, high); });
}

CTTensor *ct_normal(
    const int64_t *shape, int32_t rank, double mean, double deviation, CTDType dtype, CTDevice device) {
  return tensor_or_null(
      [&] { return at::empty(at::IntArrayRef(shape, rank), options(dtype, device)).normal_(mean, deviation); });
}

CTTensor *ct_seeded_state(uint64_t seed) {
  return tensor_or_null([&] { return at::detail::createCPUGenerator(seed).get_state(); });
}

/// Fills an fp32 tensor by `draw(tensor, generator)` with a generator in `state`, which is moved on.
template <typename Draw>
static CTTensor *drawn_from(CTTensor *state, const int64_t *shape, int32_t rank, Draw draw) {
  return tensor_or_null([&] {
    auto generator = at::detail::createCPUGenerator();
    generator.set_state(borrow(state));
    auto drawn = at::empty(at::IntArrayRef(shape, rank), at::TensorOptions().dtype(at::kFloat));
    draw(drawn, generator);
    borrow(state).copy_(generator.get_state());
    return drawn;
  });
}

CTTensor *ct_uniform_from(CTTensor *state, const int64_t *shape, int32_t rank, double low, double high) {
  return drawn_from(state, shape, rank, [&](auto &drawn, auto &generator) { drawn.uniform_(low, high, generator); });
}

CTTensor *ct_normal_from(CTTensor *state, const int64_t *shape, int32_t rank) {
  return drawn_from(state, shape, rank, [](auto &drawn, auto &generator) { drawn.normal_(0, 1, generator); });
}

CTTensor *ct_from_bytes(
    const void *bytes, size_t count, const int64_t *shape, int32_t rank, CTDType dtype, CTDevice device) {
  return tensor_or_null([&] {
    auto sizes = at::IntArrayRef(shape, rank);
    auto expected = byte_count(sizes, dtype_of(dtype));
    TORCH_CHECK(count == expected, "shape ", sizes, " takes ", expected, " bytes, not ", count);
    auto tensor = at::empty(sizes, at::TensorOptions().dtype(dtype_of(dtype)));
    if (count > 0) std::memcpy(tensor.data_ptr(), bytes, count);
    return device.type == CT_CPU ? tensor : tensor.to(device_of(device));
  });
}

CTTensor *ct_wrap_bytes(
    void *bytes, const int64_t *shape, int32_t rank, CTDType dtype, void *context, void (*release)(void *)) {
  return tensor_or_null([&] {
    auto sizes = at::IntArrayRef(shape, rank);
    byte_count(sizes, dtype_of(dtype));
    return at::from_blob(
        bytes, sizes, [context, release](void *) { release(context); },
        at::TensorOptions().dtype(dtype_of(dtype)));
  });
}

int ct_copy_bytes(CTTensor *tensor, void *destination, size_t count) {
  return status([&] {
    auto source = borrow(tensor).detach().to(at::kCPU).contiguous();
    TORCH_CHECK(count == source.nbytes(), "the destination holds ", count, " bytes, the tensor ", source.nbytes());
    if (count > 0) std::memcpy(destination, source.data_ptr(), count);
  });
}

// MARK: Conversion and shape

CTTensor *ct_to(CTTensor *tensor, CTDType dtype, CTDevice device) {
  return tensor_or_null([&] { return borrow(tensor).to(device_of(device), dtype_of(dtype)); });
}

CTTensor *ct_copy_to_host(CTTensor *tensor, bool waits) {
  return tensor_or_null([&] {
    const auto source = borrow(tensor);
    auto copy = at::empty(source.sizes(), source.options().device(at::kCPU).pinned_memory(source.is_cuda()));
    copy.copy_(source, /*non_blocking=*/!waits);
    return copy;
  });
}

CTTensor *ct_contiguous(CTTensor *tensor) {
  return tensor_or_null([&] { return borrow(tensor).contiguous(); });
}

CTTensor *ct_clone(CTTensor *tensor) {
  return tensor_or_null([&] { return borrow(tensor).clone(); });
}

CTTensor *ct_detach(CTTensor *tensor) {
  return tensor_or_null([&] { return borrow(tensor).detach(); });
}

CTTensor *ct_reshape(CTTensor *tensor, const int64_t *shape, int32_t rank) {
  return tensor_or_null([&] { return borrow(tensor).reshape(at::IntArrayRef(shape, rank)); });
}

CTTensor *ct_expand(CTTensor *tensor, const int64_t *shape, int32_t rank) {
  return tensor_or_null([&] { return borrow(tensor).expand(at::IntArrayRef(shape, rank)); });
}

CTTensor *ct_transpose(CTTensor *tensor, int64_t first, int64_t second) {
  return tensor_or_null([&] { return borrow(tensor).transpose(first, second); });
}

CTTensor *ct_permute(CTTensor *tensor, const int64_t *order, int32_t rank) {
  return tensor_or_null([&] { return borrow(tensor).permute(at::IntArrayRef(order, rank)); });
}

CTTensor *ct_narrow(CTTensor *tensor, int64_t dimension, int64_t start, int64_t length) {
  return tensor_or_null([&] { return borrow(tensor).narrow(dimension, start, length); });
}

CTTensor *ct_unsqueeze(CTTensor *tensor, int64_t dimension) {
  return tensor_or_null([&] { return borrow(tensor).unsqueeze(dimension); });
}

CTTensor *ct_squeeze(CTTensor *tensor, int64_t dimension) {
  return tensor_or_null([&] { return borrow(tensor).squeeze(dimension); });
}

CTTensor *ct_concatenate(CTTensor *const *tensors, int32_t count, int64_t dimension) {
  return tensor_or_null([&] { return at::cat(borrow_all(tensors, count), dimension); });
}

CTTensor *ct_stack(CTTensor *const *tensors, int32_t count, int64_t dimension) {
  return tensor_or_null([&] { return at::stack(borrow_all(tensors, count), dimension); });
}

CTTensor *ct_repeat_interleave(CTTensor *tensor, int64_t repeats, int64_t dimension) {
  return tensor_or_null([&] { return borrow(tensor).repeat_interleave(repeats, dimension); });
}
