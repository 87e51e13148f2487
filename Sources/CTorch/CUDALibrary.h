#pragma once

#include <cstdint>

namespace graft {

/// Whether the engine's CUDA part is loaded and found a device. Nothing may ask ATen about CUDA, not even whether it is there, while this
/// is false: ATen keeps the first answer for good, and it would be no.
bool isCUDALoaded();

/// Loads the engine's CUDA part, once. Throws what is missing, and what to do about it.
void loadCUDA();

/// CUDA devices that may be used; none while the CUDA part is not loaded.
int32_t cudaDeviceCount();

/// Waits for everything queued on CUDA devices.
void synchronizeCUDA();

/// Seeds the generators of every device that may be used.
void seedGenerators(uint64_t seed);

}  // namespace graft
