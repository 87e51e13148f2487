#pragma once

namespace graft {

/// An instruction set that the CPU kernels are compiled for.
///
/// Each kernel's loops are written once, over vectors of 16 floats (`Vectors.h`), and compiled once for each variant by
/// `ForEachVariant.h`; the best one that the processor has is chosen when the program runs.
enum class Variant { portable = 0, avx2 = 1, avx512 = 2, avx512bf16 = 3 };

/// The variant in use: the best that this processor has, unless `setVariant` chose a lesser one.
Variant variant();

/// Chooses a variant, for the tests that compare them; one that the processor lacks is replaced by its best.
/// Returns the variant that is now in use.
Variant setVariant(Variant wanted);

}  // namespace graft

/// Calls `function(arguments…)` of the variant in use. Every variant is a namespace of its own, so that the linker
/// cannot replace one's inline functions by another's.
#if defined(__x86_64__)
#define GRAFT_DISPATCH(function, ...)                      \
  [&] {                                                    \
    switch (::graft::variant()) {                          \
      case ::graft::Variant::avx512bf16:                   \
        return ::graft::avx512bf16::function(__VA_ARGS__); \
      case ::graft::Variant::avx512:                       \
        return ::graft::avx512::function(__VA_ARGS__);     \
      case ::graft::Variant::avx2:                         \
        return ::graft::avx2::function(__VA_ARGS__);       \
      case ::graft::Variant::portable:                     \
        return ::graft::portable::function(__VA_ARGS__);   \
    }                                                      \
    __builtin_unreachable();                               \
  }()
#else
#define GRAFT_DISPATCH(function, ...) ::graft::portable::function(__VA_ARGS__)
#endif
