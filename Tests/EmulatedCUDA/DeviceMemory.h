#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>

namespace emulated {

/// The memory of the emulated device: every byte has two addresses. Tensors are given the one that nobody may read or write, so that code
/// that takes the device's memory for the processor's ends as it would with a GPU, in a segmentation fault. The emulation itself uses the
/// other one.
namespace memory {

/// Bytes in which every float is a NaN, as new memory of a GPU may hold anything. Throws `c10::OutOfMemoryError`.
void* allocate(size_t bytes);
void free(void* address);

/// Whether `address` belongs to the device.
bool contains(const void* address);

/// Where the processor finds what the device has at `address`; null of null.
void* host(const void* address);

c10::Allocator* allocator();

}  // namespace memory

/// Host memory that the device may read and write by itself ("pinned").
namespace pinned {

c10::Allocator* allocator();
bool contains(const void* address);

}  // namespace pinned

}  // namespace emulated
