// Compiles GPUSource.h with NVRTC for a device that needs it first, and launches its kernels on the engine's stream.
//
// Graft is built without CUDA's headers and libraries, which only machines with a GPU need. PyTorch's libcaffe2_nvrtc.so brings NVRTC
// and the driver's library along; of both a few functions are looked up by name. Their signatures are those of nvrtc.h and cuda.h.

#include "GPUKernels.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include "EngineLibrary.h"

#define GRAFT_GPU_SOURCE(...) static const char* const gpuSource = #__VA_ARGS__;
#include "GPUSource.h"
#undef GRAFT_GPU_SOURCE

namespace graft {
namespace {

struct Libraries {
  // nvrtc.h
  int (*createProgram)(void** program, const char* source, const char* name, int headers, const char* const*, const char* const*);
  int (*compileProgram)(void* program, int options, const char* const*);
  int (*getCUBINSize)(void* program, size_t*);
  int (*getCUBIN)(void* program, char*);
  int (*getProgramLogSize)(void* program, size_t*);
  int (*getProgramLog)(void* program, char*);
  int (*destroyProgram)(void** program);
  // cuda.h
  int (*deviceGet)(int* device, int ordinal);
  int (*deviceGetAttribute)(int* value, int attribute, int device);
  int (*primaryContextRetain)(void** context, int device);
  int (*contextGetCurrent)(void** context);
  int (*contextSetCurrent)(void* context);
  int (*moduleLoadData)(void** module, const void* image);
  int (*moduleGetFunction)(void** function, void* module, const char* name);
  int (*launchKernel)(void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned shared, void* stream,
                      void** arguments, void** extra);
  int (*getErrorString)(int error, const char** text);

  /// Why they cannot be used; empty when they can.
  std::string problem;

  Libraries() {
#if defined(__linux__)
    void* const library = openBesideEngine("libcaffe2_nvrtc.so", RTLD_NOW | RTLD_LOCAL, problem);
    if (library == nullptr) return;
    const auto find = [&](auto& function, const char* name) {
      // In the library or in those that it needs.
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr && problem.empty()) problem = std::string(name) + " is missing beside libcaffe2_nvrtc.so";
    };
    find(createProgram, "nvrtcCreateProgram");
    find(compileProgram, "nvrtcCompileProgram");
    find(getCUBINSize, "nvrtcGetCUBINSize");
    find(getCUBIN, "nvrtcGetCUBIN");
    find(getProgramLogSize, "nvrtcGetProgramLogSize");
    find(getProgramLog, "nvrtcGetProgramLog");
    find(destroyProgram, "nvrtcDestroyProgram");
    find(deviceGet, "cuDeviceGet");
    find(deviceGetAttribute, "cuDeviceGetAttribute");
    find(primaryContextRetain, "cuDevicePrimaryCtxRetain");
    find(contextGetCurrent, "cuCtxGetCurrent");
    find(contextSetCurrent, "cuCtxSetCurrent");
    find(moduleLoadData, "cuModuleLoadData");
    find(moduleGetFunction, "cuModuleGetFunction");
    find(launchKernel, "cuLaunchKernel");
    find(getErrorString, "cuGetErrorString");
#else
    problem = "CUDA is there on Linux only";
#endif
  }

  void check(int status, const char* what) const {
    if (status == 0) return;
    const char* text = nullptr;
    getErrorString(status, &text);
    TORCH_CHECK(false, "a kernel for the GPU: ", what, " failed with ", text ? text : "an unknown error", " (", status, ")");
  }
};

const Libraries& libraries() {
  static const Libraries libraries;
  return libraries;
}

int queriedCapability(int ordinal) {
  const auto& cuda = libraries();
  if (!cuda.problem.empty()) return 0;
  int device = 0, major = 0, minor = 0;
  cuda.check(cuda.deviceGet(&device, ordinal), "cuDeviceGet");
  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
  cuda.check(cuda.deviceGetAttribute(&major, 75, device), "cuDeviceGetAttribute");
  cuda.check(cuda.deviceGetAttribute(&minor, 76, device), "cuDeviceGetAttribute");
  return 10 * major + minor;
}

/// The driver's functions work in the context of the calling thread. The engine's runtime shares the device's primary one, but a thread has
/// it only after the runtime was called there, which a thread of backward need not have done.
void ensureContext(int ordinal) {
  const auto& cuda = libraries();
  void* context = nullptr;
  cuda.check(cuda.contextGetCurrent(&context), "cuCtxGetCurrent");
  if (context != nullptr) return;
  int device = 0;
  cuda.check(cuda.deviceGet(&device, ordinal), "cuDeviceGet");
  cuda.check(cuda.primaryContextRetain(&context, device), "cuDevicePrimaryCtxRetain");
  cuda.check(cuda.contextSetCurrent(context), "cuCtxSetCurrent");
}

/// The compiled kernels of one device.
class Module {
 public:
  explicit Module(int ordinal) {
    const auto& cuda = libraries();
    // Code of this very device. A driver that is older than NVRTC cannot read its PTX.
    const auto image = compiled("--gpu-architecture=sm_" + std::to_string(queriedCapability(ordinal)));
    cuda.check(cuda.moduleLoadData(&module_, image.data()), "cuModuleLoadData");
  }

  void* function(const char* name) {
    auto& function = functions_[name];
    if (function == nullptr) libraries().check(libraries().moduleGetFunction(&function, module_, name), name);
    return function;
  }

 private:
  void* module_ = nullptr;
  std::map<std::string, void*> functions_;

  static std::string compiled(const std::string& architecture) {
    const auto& nvrtc = libraries();
    void* program = nullptr;
    TORCH_CHECK(nvrtc.createProgram(&program, gpuSource, "graft.cu", 0, nullptr, nullptr) == 0,
                "a kernel for the GPU: nvrtcCreateProgram failed");
    const char* const options[] = {architecture.c_str(), "--std=c++17"};
    const int status = nvrtc.compileProgram(program, 2, options);
    const bool isCompiled = status == 0;
    size_t size = 0;
    std::string text;
    if ((isCompiled ? nvrtc.getCUBINSize : nvrtc.getProgramLogSize)(program, &size) == 0) {
      text.resize(size);
      (isCompiled ? nvrtc.getCUBIN : nvrtc.getProgramLog)(program, text.data());
    }
    nvrtc.destroyProgram(&program);
    TORCH_CHECK(isCompiled && !text.empty(), "a kernel for the GPU: NVRTC (", status, ") says: ", text);
    return text;
  }
};

std::mutex& mutex() {
  static std::mutex mutex;
  return mutex;
}

Module& moduleOf(at::Device device) {
  static std::map<int, Module> modules;
  const int ordinal = device.index();
  const auto found = modules.find(ordinal);
  return found != modules.end() ? found->second : modules.emplace(std::piecewise_construct, std::forward_as_tuple(ordinal),
                                                                 std::forward_as_tuple(ordinal)).first->second;
}

/// Runs a kernel over `count` elements. The arguments have exactly the types of its parameters.
template <class... Arguments>
void launch(const std::string& kernel, const at::Tensor& on, int64_t count, Arguments... arguments) {
  if (count == 0) return;
  const c10::DeviceGuard guard(on.device());
  const std::string name = kernel + (on.scalar_type() == at::kFloat ? "Float" : "BFloat16");
  void* pointers[] = {static_cast<void*>(&arguments)...};
  constexpr int64_t threads = 256, mostBlocks = 1 << 20;
  const auto blocks = static_cast<unsigned>(std::min(mostBlocks, (count + threads - 1) / threads));
  const auto stream = c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).getStream(on.device());
  const std::lock_guard<std::mutex> lock(mutex());
  ensureContext(on.device().index());
  const auto& cuda = libraries();
  cuda.check(cuda.launchKernel(moduleOf(on.device()).function(name.c_str()), blocks, 1, 1, threads, 1, 1, 0,
                               stream.native_handle(), pointers, nullptr),
             name.c_str());
}

template <class T>
const T* numbers(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}

using Number = const void*;
using Target = void*;
using Count = long long;

}  // namespace

int computeCapability(at::Device device) {
  static std::map<int, int> capabilities;
  const std::lock_guard<std::mutex> lock(mutex());
  const auto [place, isNew] = capabilities.try_emplace(device.index());
  if (isNew) place->second = queriedCapability(device.index());
  return place->second;
}

bool hasGPUKernels(const at::Tensor& tensor) {
  if (!tensor.is_cuda() || !(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16)) return false;
  if (libraries().problem.empty()) return true;
  TORCH_WARN_ONCE("kernels for the GPU cannot be compiled, and plain operations are used: ", libraries().problem);
  return false;
}

void gpuSwiGLU(const at::Tensor& gateUp, const at::Tensor& output) {
  launch("swiGLU", output, output.numel(), Number(gateUp.const_data_ptr()), Target(output.data_ptr()), Count(output.size(0)),
         Count(output.size(1)));
}

void gpuSwiGLUBackward(const at::Tensor& gateUp, const at::Tensor& gradient, const at::Tensor& gateUpGradient) {
  launch("swiGLUBackward", gradient, gradient.numel(), Number(gateUp.const_data_ptr()), Number(gradient.const_data_ptr()),
         Target(gateUpGradient.data_ptr()), Count(gradient.size(0)), Count(gradient.size(1)));
}

void gpuRotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines, int64_t headSize, int64_t heads,
               bool inverse) {
  launch("rotate", x, x.size(0) * heads * cosines.size(1) / 2, Target(x.data_ptr()), numbers<float>(cosines),
         numbers<float>(sines), Count(x.size(0)), Count(x.stride(0)), Count(heads), Count(headSize), Count(cosines.size(1)),
         static_cast<int>(inverse));
}

void gpuDecode(const QuantizedMatrix& matrix, const at::Tensor& values, const at::Tensor& output) {
  const Count rows = matrix.rows, columns = matrix.columns;
  if (matrix.encoding == Encoding::int8) {
    launch("decodeInt8", output, rows * columns, numbers<signed char>(matrix.codes), numbers<float>(matrix.constants), rows, columns,
           Target(output.data_ptr()));
    return;
  }
  const bool isNested = matrix.nestedConstants.defined();
  launch("decodeFourBit", output, rows * columns, numbers<unsigned char>(matrix.codes), numbers<float>(values),
         isNested ? nullptr : numbers<float>(matrix.constants), isNested ? numbers<unsigned char>(matrix.constants) : nullptr,
         numbers<float>(matrix.nestedTable), numbers<float>(matrix.nestedConstants), static_cast<float>(matrix.nestedOffset),
         Count(isNested ? matrix.nestedBlockSize : 1), Count(matrix.blockSize), rows * columns, Target(output.data_ptr()));
}

}  // namespace graft
