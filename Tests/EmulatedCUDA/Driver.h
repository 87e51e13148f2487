#pragma once

// What the emulated driver (NVRTC.cpp) needs of the emulated device, which is another library.

extern "C" {

/// Where the processor finds the device's memory; null when `address` is none of the device's.
__attribute__((visibility("default"))) const void* emulatedDeviceMemory(const void* address);

/// Before a kernel runs.
__attribute__((visibility("default"))) void emulatedBeginWork();
}
