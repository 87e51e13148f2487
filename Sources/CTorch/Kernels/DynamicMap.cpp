#include "DynamicMap.h"

#include <cmath>

#include "ConstData.h"

namespace graft {

const DynamicMap& DynamicMap::of(bool isSigned) {
  static const DynamicMap withSign(true), withoutSign(false);
  return isSigned ? withSign : withoutSign;
}

DynamicMap::DynamicMap(bool isSigned) : smallestAboveZero_(isSigned ? 0 : 1) {
  // The decades from 1e-6 to 1, each divided twice as finely as the one below; without a sign, twice as finely again.
  constexpr int decades = 7;
  std::vector<at::Tensor> parts = {at::zeros({1}), at::ones({1})};
  for (int decade = 0; decade < decades; ++decade) {
    const int64_t count = (int64_t{1} << decade) * (isSigned ? 1 : 2);
    const auto edges = at::linspace(0.1, 1, count + 1, at::kFloat);
    const auto means = (edges.slice(0, 0, count) + edges.slice(0, 1)) / 2.0;
    const auto numbers = means * std::pow(10.0, decade - (decades - 1));
    parts.push_back(numbers);
    if (isSigned) parts.push_back(-numbers);
  }
  values_ = std::get<0>(at::cat(parts).sort());
  TORCH_CHECK(values_.numel() == 256, "the dynamic map has ", values_.numel(), " numbers, not 256");
  boundaries_ = (values_.slice(0, 0, 255) + values_.slice(0, 1)) / 2.0;
  value_ = constData<float>(values_);
  boundary_ = constData<float>(boundaries_);

  start_.resize(1 << 16);
  for (uint32_t upper = 0; upper < start_.size(); ++upper) {
    // Of numbers below zero, the smallest has the largest magnitude.
    const uint32_t bits = upper << 16 | (upper >> 15 ? 0xffff : 0);
    float number;
    std::memcpy(&number, &bits, sizeof number);
    start_[upper] = std::isnan(number)
                        ? 0
                        : static_cast<uint8_t>(std::lower_bound(boundary_, boundary_ + 255, number) - boundary_);
  }
}

}  // namespace graft
