#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace graft {

/// The dynamic 8-bit data type for optimizer states (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861, section 2.1):
/// 256 numbers in [-1, 1] or, unsigned, in [0, 1], whose leading bits choose a decade and whose others divide it, so that the
/// relative precision is highest where the numbers are large. Equal to `bitsandbytes.functional.create_dynamic_map`.
class DynamicMap {
 public:
  static const DynamicMap& of(bool isSigned);

  /// Ascending, fp32 `[256]`.
  const at::Tensor& values() const { return values_; }
  /// Halfway between neighbours, fp32 `[255]`.
  const at::Tensor& boundaries() const { return boundaries_; }

  float decode(uint8_t code) const { return value_[code]; }

  /// The nearest number's code; of two that are equally near, the lower.
  ///
  /// Without a sign, only zero becomes zero: in a block with an outlier the square of a small gradient would, and the step
  /// divided by its root would go anywhere.
  uint8_t encode(float number) const {
    // The upper half of a float's bits tells its neighbourhood, in which there is seldom more than one boundary.
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    uint32_t code = start_[bits >> 16];
    while (code < 255 && number > boundary_[code]) ++code;
    return static_cast<uint8_t>(std::max(code, number > 0 ? smallestAboveZero_ : 0u));
  }

 private:
  explicit DynamicMap(bool isSigned);

  at::Tensor values_, boundaries_;
  const float *value_, *boundary_;
  /// By the upper 16 bits of a float: the code of the smallest number that has them.
  std::vector<uint8_t> start_;
  /// The least code of a number above zero: 1 without a sign; with one it makes no difference.
  uint32_t smallestAboveZero_;
};

}  // namespace graft
