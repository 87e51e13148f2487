// One row of logits (see LinearCrossEntropy.cpp), for each instruction set (see ForEachVariant.h).

/// Numbers between two checks of the running maximum: they stay in the first cache level.
constexpr int64_t stride = 2048;

template <class T>
CrossEntropyRow crossEntropyRow(T* logits, int64_t count, int64_t label, bool gradient) {
  const float atLabel = static_cast<float>(logits[label]);
  const int64_t whole = count / lanes * lanes;
  float peak = -__builtin_inff();
  Floats total = {};
  int64_t peakBlock = 0;
  for (int64_t begin = 0; begin < count; begin += stride) {
    const int64_t end = std::min(begin + stride, whole);
    Floats largestOf[4] = {splat(peak), splat(peak), splat(peak), splat(peak)};
    int64_t i = begin;
    for (; i + 4 * lanes <= end; i += 4 * lanes)
      for (int v = 0; v < 4; ++v) largestOf[v] = maximum(largestOf[v], load(logits + i + v * lanes));
    for (; i < end; i += lanes) largestOf[0] = maximum(largestOf[0], load(logits + i));
    float newPeak = largest(maximum(maximum(largestOf[0], largestOf[1]), maximum(largestOf[2], largestOf[3])));
    for (i = std::max(begin, whole); i < std::min(begin + stride, count); ++i)
      newPeak = std::max(newPeak, static_cast<float>(logits[i]));
    if (newPeak > peak) {
      total = total * splat(std::exp(peak - newPeak));
      peak = newPeak;
      peakBlock = begin;
    }
    Floats partial[2] = {};
    for (i = begin; i + 2 * lanes <= end; i += 2 * lanes)
      for (int v = 0; v < 2; ++v) partial[v] += exp(load(logits + i + v * lanes) - splat(peak));
    for (; i < end; i += lanes) partial[0] += exp(load(logits + i) - splat(peak));
    total += partial[0] + partial[1];
    for (i = std::max(begin, whole); i < std::min(begin + stride, count); ++i)
      total[0] += std::exp(static_cast<float>(logits[i]) - peak);
  }
  const float sumOfExp = sum(total);
  CrossEntropyRow row;
  row.loss = std::log(sumOfExp) + peak - atLabel;
  row.prediction = peakBlock;
  while (row.prediction + 1 < count && static_cast<float>(logits[row.prediction]) != peak) ++row.prediction;

  if (gradient) {
    const Floats inverse = splat(1 / sumOfExp);
    for (int64_t i = 0; i < whole; i += lanes) store(logits + i, exp(load(logits + i) - splat(peak)) * inverse);
    for (int64_t i = whole; i < count; ++i) logits[i] = std::exp(static_cast<float>(logits[i]) - peak) / sumOfExp;
    // From fp32: the probability of a well-learnt label is near 1, where bf16 would round the difference away.
    logits[label] = static_cast<T>(std::exp(atLabel - peak) / sumOfExp - 1);
  }
  return row;
}

inline CrossEntropyRow crossEntropyRowFloat(float* logits, int64_t count, int64_t label, bool gradient) {
  return crossEntropyRow(logits, count, label, gradient);
}
inline CrossEntropyRow crossEntropyRowBFloat16(c10::BFloat16* logits, int64_t count, int64_t label, bool gradient) {
  return crossEntropyRow(logits, count, label, gradient);
}
