// The engine's CUDA part is a library of its own, which a program without a GPU neither has nor pays for. ATen learns of it through hooks,
// which it looks up when they are first asked for and then never again: so the library has to be open before anything asks. This file alone
// asks; a seed, random state and the rest go through it.

#include "CUDALibrary.h"

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <atomic>
#include <mutex>
#include <string>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include "Kernels/GPU/EngineLibrary.h"

namespace graft {

namespace {

std::atomic<bool> isLoaded{false};

/// The generator of one device, seeded as `torch.manual_seed` does it.
void seed(at::Device device, uint64_t value) {
  auto generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(value);
}

}  // namespace

bool isCUDALoaded() { return isLoaded.load(std::memory_order_acquire); }

void loadCUDA() {
#if defined(__linux__)
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (isCUDALoaded()) return;
  // Its initialisers register operators and hooks.
  std::string problem;
  TORCH_CHECK(openBesideEngine("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL, problem) != nullptr,
              "the engine's CUDA part cannot be loaded (", problem,
              "); let GRAFT_TORCH name an installed PyTorch that is built for CUDA");
  const auto& hooks = at::detail::getCUDAHooks();
  TORCH_CHECK(hooks.isBuilt(),
              "the engine was asked about CUDA before its CUDA part was loaded, and takes no second look; make the device usable at the "
              "start of the program, before a backward pass and before other code that uses libtorch");
  TORCH_CHECK(hooks.hasCUDA() && hooks.deviceCount() > 0,
              "no CUDA device is visible; `nvidia-smi` lists what the driver finds, CUDA_VISIBLE_DEVICES may hide it");
  isLoaded.store(true, std::memory_order_release);
#else
  TORCH_CHECK(false, "CUDA is there on Linux only");
#endif
}

int32_t cudaDeviceCount() { return isCUDALoaded() ? at::detail::getCUDAHooks().deviceCount() : 0; }

void synchronizeCUDA() {
  if (isCUDALoaded()) at::detail::getCUDAHooks().deviceSynchronize(-1);
}

void seedGenerators(uint64_t value) {
  seed(at::kCPU, value);
  for (int32_t index = 0; index < cudaDeviceCount(); ++index) seed(at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index)), value);
  if (at::hasMPS()) seed(at::kMPS, value);
}

}  // namespace graft
