#include "EngineLibrary.h"

#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace graft {

void* openBesideEngine(const char* name, int flags, std::string& problem) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&aoti_torch_abi_version), &info) == 0) {
    problem = "libtorch cannot be found";
    return nullptr;
  }
  const std::string engine(info.dli_fname);
  void* const library = dlopen((engine.substr(0, engine.rfind('/') + 1) + name).c_str(), flags);
  if (library == nullptr) {
    const char* const reason = dlerror();
    problem = reason ? reason : std::string(name) + " is missing";
  }
  return library;
}

}  // namespace graft
