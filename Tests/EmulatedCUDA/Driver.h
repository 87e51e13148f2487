#pragma once

// What the emulated driver (NVRTC.cpp) needs of the emulated device, which is another library.

extern "C" {

/// Where the processor finds the device's memory; null when `address` is none of the device's.
__attribute__((visibility("default"))) const void* emulatedDeviceMemory(const void* address);

/// The chip that is emulated: 90, or what EMULATED_CUDA_CAPABILITY says.
__attribute__((visibility("default"))) int emulatedComputeCapability();

/// Before a kernel runs.
__attribute__((visibility("default"))) void emulatedBeginWork();
}
