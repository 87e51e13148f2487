#pragma once

#include <ATen/core/Generator.h>

namespace emulated {

/// The device's generator, which programs get by `defaultGenerator(cuda)`. Its state is CUDA's: a seed and an offset, 16 bytes.
const at::Generator& defaultGenerator();
at::Generator newGenerator();

/// A generator of the CPU that gives the next numbers of `generator`, or of the default one, and moves that on.
at::Generator drawFrom(const std::optional<at::Generator>& generator);

}  // namespace emulated
