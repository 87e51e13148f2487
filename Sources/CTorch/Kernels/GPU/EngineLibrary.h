#pragma once

#include <string>

namespace graft {

/// Loads a library that lies beside libtorch_cpu, with `dlopen`'s `flags`. Null with the reason in `problem` when it cannot be.
void* openBesideEngine(const char* name, int flags, std::string& problem);

}  // namespace graft
