// The device itself, as the rest of the engine asks for it: hooks, guards, streams and events.

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>
#include <cstdlib>

#include "DeviceMemory.h"
#include "Driver.h"
#include "Generator.h"
#include "HostView.h"
#include "Transfers.h"

namespace emulated {
namespace {

using at::Device;
using at::DeviceIndex;
using c10::Stream;

constexpr DeviceIndex devices = 1;

void checkIndex(DeviceIndex index) {
  TORCH_CHECK(index >= -1 && index < devices, "CUDA error: invalid device ordinal ", static_cast<int>(index));
}

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  std::string showConfig() const override { return "  - an emulated CUDA device\n"; }
  int getNumGPUs() const override { return devices; }
  DeviceIndex deviceCount() const override { return devices; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex index) const override { checkIndex(index); }
  DeviceIndex exchangeDevice(DeviceIndex index) const override {
    checkIndex(index);
    return 0;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override { return exchangeDevice(index); }
  const at::Generator& getDefaultGenerator(DeviceIndex index) const override {
    checkIndex(index);
    return defaultGenerator();
  }
  at::Generator getNewGenerator(DeviceIndex index) const override {
    checkIndex(index);
    return newGenerator();
  }
  Device getDeviceFromPtr(void* address) const override {
    TORCH_CHECK(memory::contains(address), "the pointer does not belong to a CUDA device");
    return {c10::kCUDA, 0};
  }
  bool isPinnedPtr(const void* address) const override { return pinned::contains(address); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return pinned::allocator(); }
  c10::Allocator* getCUDADeviceAllocator() const override { return memory::allocator(); }
  void deviceSynchronize(DeviceIndex) const override { transfers::synchronize(); }
};

/// Stream 0 is the default one.
std::atomic<c10::StreamId> nextStream{1};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  at::DeviceType type() const override { return at::kCUDA; }
  Device getDevice() const override { return {at::kCUDA, 0}; }
  Device exchangeDevice(Device device) const override {
    setDevice(device);
    return getDevice();
  }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.is_cuda(), "Expected a CUDA device, but got ", device);
    checkIndex(device.index());
  }
  void uncheckedSetDevice(Device) const noexcept override {}
  DeviceIndex deviceCount() const noexcept override { return devices; }

  Stream getStream(Device) const override { return stream(transfers::currentStream()); }
  Stream getDefaultStream(Device) const override { return stream(0); }
  Stream getStreamFromGlobalPool(Device, bool) const override { return stream(nextStream++); }
  Stream getNewStream(Device, int) const override { return stream(nextStream++); }
  Stream exchangeStream(Stream next) const override {
    TORCH_CHECK(next.device_type() == at::kCUDA, "a stream of ", next.device());
    return stream(transfers::exchangeStream(next.id()));
  }
  // The default stream's handle is null.
  void* getStreamNativeHandle(const Stream stream) const override { return reinterpret_cast<void*>(stream.id()); }
  bool queryStream(const Stream& stream) const override {
    transfers::synchronize(stream.id());
    return true;
  }
  void synchronizeStream(const Stream& stream) const override { transfers::synchronize(stream.id()); }
  void synchronizeDevice(const DeviceIndex) const override { transfers::synchronize(); }

  // Computations are done when they are asked for; copies when somebody waits for them, or for an event behind them.
  void record(void** event, const Stream& stream, const DeviceIndex, const c10::EventFlag) const override {
    if (*event == nullptr) *event = new transfers::Mark;
    *static_cast<transfers::Mark*>(*event) = transfers::mark(stream.id());
  }
  void block(void* event, const Stream& stream) const override {
    if (event != nullptr) transfers::wait(stream.id(), *static_cast<transfers::Mark*>(event));
  }
  bool queryEvent(void* event) const override {
    synchronizeEvent(event);
    return true;
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) transfers::synchronize(static_cast<transfers::Mark*>(event)->stream);
  }
  void destroyEvent(void* event, const DeviceIndex) const noexcept override { delete static_cast<transfers::Mark*>(event); }

 private:
  static Stream stream(c10::StreamId id) { return Stream(Stream::UNSAFE, Device(at::kCUDA, 0), id); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard);

const bool isRegistered = [] {
  c10::SetAllocator(c10::kCUDA, memory::allocator());
  return true;
}();

}  // namespace
}  // namespace emulated

namespace at {
// The name under which ATen looks for the hooks.
using CUDAHooks = emulated::Hooks;
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at

const void* emulatedDeviceMemory(const void* address) {
  return emulated::memory::contains(address) ? emulated::memory::host(address) : nullptr;
}

int emulatedComputeCapability() {
  static const char* const text = std::getenv("EMULATED_CUDA_CAPABILITY");
  static const int capability = text ? std::atoi(text) : 90;
  return capability;
}

void emulatedBeginWork() { emulated::transfers::beginWork(); }
