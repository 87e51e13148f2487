// The engine itself: versions, threads, devices, random state and memory.

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/version.h>

#include "Bridge.h"
#include "Kernels/Kernels.h"

using namespace graft;

// MARK: Random state

int ct_seed(uint64_t seed) {
  return status([&] { seedGenerators(seed); });
}

CTTensor *ct_random_state(CTDevice device) {
  return tensor_or_null([&] { return at::globalContext().defaultGenerator(device_of(device)).get_state(); });
}

int ct_set_random_state(CTDevice device, CTTensor *state) {
  return status([&] { auto generator = at::globalContext().defaultGenerator(device_of(device));
    generator.set_state(borrow(state)); });
}

// MARK: The engine

const char *ct_compiled_version(void) { return TORCH_VERSION; }

const char *ct_loaded_version(void) {
  static const std::string version = [] {
    // The stable interface encodes the version as bytes: major, minor, patch.
    uint64_t number = aoti_torch_abi_version();
    return std::to_string(number >> 56) + "." + std::to_string((number >> 48) & 0xff) + "." +
           std::to_string((number >> 40) & 0xff);
  }();
  return version.c_str();
}

const char *ct_build_configuration(void) {
  // As at::show_config(), which asks about CUDA, loaded or not.
  static const std::string text = "PyTorch " + std::string(ct_loaded_version()) + "\n" + at::get_openmp_version() + "\n" +
                                  at::get_mkl_version() + "\n" + at::get_mkldnn_version() + "\nC++ flags:" + at::get_cxx_flags();
  return text.c_str();
}

const char *ct_cpu_capability(void) {
  static const std::string text = at::get_cpu_capability();
  return text.c_str();
}

int32_t ct_thread_count(void) { return at::get_num_threads(); }
void ct_set_thread_count(int32_t count) { at::set_num_threads(count); }

int ct_load_cuda(void) {
  return status([] { loadCUDA(); });
}

int32_t ct_cuda_device_count(void) {
  return guarded<int32_t>(0, [] { return cudaDeviceCount(); });
}

int ct_cuda_synchronize(void) {
  return status([] { synchronizeCUDA(); });
}

void ct_keep_freed_memory(void) { configureAllocator(); }

void ct_release_freed_memory(void) { releaseFreedMemory(); }
