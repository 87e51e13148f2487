// What GPUKernels.cpp looks up of NVRTC and of the driver. A program is compiled as C++ by clang++ when it is given, and its kernels are run
// thread by thread. Their parameters are known to the compiler, which thus reads the arguments as a GPU would: addresses have to be the
// device's.

#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>

#include "Driver.h"

namespace {

// Their numbers in nvrtc.h and cuda.h.
enum NVRTCResult { nvrtcSuccess = 0, nvrtcInvalidInput = 3, nvrtcInvalidProgram = 4, nvrtcInvalidOption = 5, nvrtcCompilation = 6 };
enum CUResult {
  cudaSuccess = 0,
  cudaInvalidValue = 1,
  cudaInvalidDevice = 101,
  cudaInvalidImage = 200,
  cudaInvalidContext = 201,
  cudaInvalidHandle = 400,
  cudaNotFound = 500,
  cudaIllegalAddress = 700,
};

/// What CUDA C++ has and C++ has not.
constexpr const char* prelude = R"(
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#define __device__
#define __global__
struct GridIndex { unsigned x, y, z; };
static GridIndex blockIdx, threadIdx, blockDim, gridDim;
static inline float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, sizeof x); return x; }
static inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, sizeof bits); return bits; }
)";

/// How a kernel gets its arguments: an address of the device becomes that of the same memory for the processor.
constexpr const char* launcher = R"(
template <class T>
static T argumentAt(void* place, const void* (*host)(const void*), bool& isLegal) {
  T value = *static_cast<T*>(place);
  if constexpr (std::is_pointer_v<T>) {
    if (value == nullptr) return value;
    const void* const there = host(value);
    if (there == nullptr) isLegal = false;
    return reinterpret_cast<T>(const_cast<void*>(there));
  } else {
    return value;
  }
}
template <class... Parameters, std::size_t... I>
static bool launch(void (*kernel)(Parameters...), void** arguments, const void* (*host)(const void*), unsigned blocks, unsigned threads,
                   std::index_sequence<I...>) {
  bool isLegal = true;
  const std::tuple<Parameters...> values{argumentAt<Parameters>(arguments[I], host, isLegal)...};
  if (!isLegal) return false;
  gridDim = {blocks, 1, 1}, blockDim = {threads, 1, 1};
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) std::apply(kernel, values);
  return true;
}
template <class... Parameters>
static bool launch(void (*kernel)(Parameters...), void** arguments, const void* (*host)(const void*), unsigned blocks, unsigned threads) {
  return launch(kernel, arguments, host, blocks, threads, std::index_sequence_for<Parameters...>());
}
)";

using Function = bool (*)(void** arguments, const void* (*host)(const void*), unsigned blocks, unsigned threads);

struct Program {
  std::string source, log, image;
};

/// Launches are one after the other, as the indices of a thread are one for all.
std::mutex launching;

thread_local void* currentContext = nullptr;
char primaryContext;

std::string folder() {
  Dl_info info;
  dladdr(&primaryContext, &info);
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

/// The shared object of a program; what was compiled once is there for the next process.
std::string compiled(const std::string& source, std::string& log) {
  std::string text = prelude + source + launcher;
  const std::regex kernel(R"(__global__\s+void\s+(\w+)\s*\()");
  for (std::sregex_iterator match(source.begin(), source.end(), kernel), end; match != end; ++match) {
    const auto name = (*match)[1].str();
    text += "extern \"C\" bool launch_" + name +
            "(void** arguments, const void* (*host)(const void*), unsigned blocks, unsigned threads) { return launch(" + name +
            ", arguments, host, blocks, threads); }\n";
  }
  const std::string name = folder() + "kernels-" + std::to_string(std::hash<std::string>()(text));
  const std::string library = name + ".so", mine = name + "." + std::to_string(getpid());
  if (access(library.c_str(), R_OK) == 0) return library;
  std::ofstream(mine + ".cpp") << text;
  const std::string command = EMULATED_CUDA_COMPILER " -std=c++17 -O2 -ffp-contract=off -shared -fPIC " + mine + ".cpp -o " + mine +
                              ".so > " + mine + ".log 2>&1";
  const bool isCompiled = std::system(command.c_str()) == 0;
  std::ostringstream messages;
  messages << std::ifstream(mine + ".log").rdbuf();
  log = messages.str();
  if (isCompiled) std::rename((mine + ".so").c_str(), library.c_str());
  for (const char* const ending : {".cpp", ".log"}) std::remove((mine + ending).c_str());
  return isCompiled ? library : "";
}

int copyOut(const std::string& text, char* to) {
  std::memcpy(to, text.c_str(), text.size() + 1);
  return nvrtcSuccess;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// MARK: NVRTC

EXPORTED int nvrtcCreateProgram(void** program, const char* source, const char*, int headers, const char* const*, const char* const*) {
  if (source == nullptr || headers != 0) return nvrtcInvalidInput;
  *program = new Program{source, "", ""};
  return nvrtcSuccess;
}

EXPORTED int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
  auto& program = *static_cast<Program*>(handle);
  const std::string expected = "--gpu-architecture=sm_" + std::to_string(emulatedComputeCapability());
  for (int i = 0; i < count; ++i)
    if (options[i] != expected && std::string(options[i]) != "--std=c++17") {
      program.log = std::string("the emulated NVRTC does not know ") + options[i];
      return nvrtcInvalidOption;
    }
  program.image = compiled(program.source, program.log);
  return program.image.empty() ? nvrtcCompilation : nvrtcSuccess;
}

EXPORTED int nvrtcGetCUBINSize(void* program, size_t* size) {
  *size = static_cast<Program*>(program)->image.size() + 1;
  return nvrtcSuccess;
}
EXPORTED int nvrtcGetCUBIN(void* program, char* image) { return copyOut(static_cast<Program*>(program)->image, image); }
EXPORTED int nvrtcGetProgramLogSize(void* program, size_t* size) {
  *size = static_cast<Program*>(program)->log.size() + 1;
  return nvrtcSuccess;
}
EXPORTED int nvrtcGetProgramLog(void* program, char* log) { return copyOut(static_cast<Program*>(program)->log, log); }

EXPORTED int nvrtcDestroyProgram(void** program) {
  if (*program == nullptr) return nvrtcInvalidProgram;
  delete static_cast<Program*>(*program);
  *program = nullptr;
  return nvrtcSuccess;
}

// MARK: The driver

EXPORTED int cuDeviceGet(int* device, int ordinal) {
  if (ordinal != 0) return cudaInvalidDevice;
  *device = ordinal;
  return cudaSuccess;
}

EXPORTED int cuDeviceGetAttribute(int* value, int attribute, int) {
  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
  if (attribute != 75 && attribute != 76) return cudaInvalidValue;
  *value = attribute == 75 ? emulatedComputeCapability() / 10 : emulatedComputeCapability() % 10;
  return cudaSuccess;
}

EXPORTED int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (device != 0) return cudaInvalidDevice;
  *context = &primaryContext;
  return cudaSuccess;
}

// A thread has no context until it is given one: the runtime gives it one when it is called there, which nobody may count on.
EXPORTED int cuCtxGetCurrent(void** context) {
  *context = currentContext;
  return cudaSuccess;
}

EXPORTED int cuCtxSetCurrent(void* context) {
  if (context != nullptr && context != &primaryContext) return cudaInvalidContext;
  currentContext = context;
  return cudaSuccess;
}

EXPORTED int cuModuleLoadData(void** module, const void* image) {
  if (currentContext == nullptr) return cudaInvalidContext;
  *module = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
  return *module != nullptr ? cudaSuccess : cudaInvalidImage;
}

EXPORTED int cuModuleGetFunction(void** function, void* module, const char* name) {
  if (currentContext == nullptr) return cudaInvalidContext;
  *function = dlsym(module, (std::string("launch_") + name).c_str());
  return *function != nullptr ? cudaSuccess : cudaNotFound;
}

EXPORTED int cuLaunchKernel(void* function, unsigned blocks, unsigned blocksY, unsigned blocksZ, unsigned threads, unsigned threadsY,
                            unsigned threadsZ, unsigned shared, void* stream, void** arguments, void** extra) {
  if (currentContext == nullptr) return cudaInvalidContext;
  if (function == nullptr || stream != nullptr) return cudaInvalidHandle;
  if (blocks == 0 || blocks > 0x7fffffff || blocksY != 1 || blocksZ != 1 || threads == 0 || threads > 1024 || threadsY != 1 ||
      threadsZ != 1 || shared > 48 << 10 || extra != nullptr)
    return cudaInvalidValue;
  const std::lock_guard<std::mutex> lock(launching);
  emulatedBeginWork();
  return reinterpret_cast<Function>(function)(arguments, emulatedDeviceMemory, blocks, threads) ? cudaSuccess : cudaIllegalAddress;
}

EXPORTED int cuGetErrorString(int error, const char** text) {
  switch (error) {
    case cudaSuccess: *text = "no error"; break;
    case cudaInvalidValue: *text = "invalid argument"; break;
    case cudaInvalidDevice: *text = "invalid device ordinal"; break;
    case cudaInvalidImage: *text = "device kernel image is invalid"; break;
    case cudaInvalidContext: *text = "invalid device context"; break;
    case cudaInvalidHandle: *text = "invalid resource handle"; break;
    case cudaNotFound: *text = "named symbol not found"; break;
    case cudaIllegalAddress: *text = "an illegal memory access was encountered"; break;
    default: *text = nullptr; return cudaInvalidValue;
  }
  return cudaSuccess;
}
