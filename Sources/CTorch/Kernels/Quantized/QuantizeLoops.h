// Encoding one block (see Quantize.cpp), for each instruction set (see ForEachVariant.h).

GRAFT_INLINE Floats magnitude(Floats x) {
  return reinterpret_cast<Floats>(reinterpret_cast<Words>(x) & 0x7fffffffu);
}

template <class T>
GRAFT_INLINE float largestMagnitude(const T* x, int64_t count) {
  Floats peak = {};
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) peak = maximum(peak, magnitude(load(x + i)));
  if (i < count) peak = maximum(peak, magnitude(loadFirst(x + i, count - i)));
  return largest(peak);
}

/// How many of the ascending `bounds` are below each number, for `count` numbers of a block.
template <class T>
GRAFT_INLINE void rank(const T* x, int64_t count, float peak, bool isWhole, const float* bounds, int64_t boundCount,
                       uint8_t* ranks) {
  // The field's software multiplies whole blocks by the reciprocal and divides a last, shorter one.
  const float least = 1e-38f;
  const float divisor = peak < least ? least : peak;
  const Floats factor = splat(1.0f / divisor);
  for (int64_t i = 0; i < count; i += lanes) {
    const int64_t size = count - i < lanes ? count - i : lanes;
    const Floats numbers = size == lanes ? load(x + i) : loadFirst(x + i, size);
    const Floats scaled = isWhole ? numbers * factor : numbers / splat(divisor);
    Ints below = {};
    for (int64_t bound = 0; bound < boundCount; ++bound) below -= scaled > splat(bounds[bound]);
    for (int64_t lane = 0; lane < size; ++lane) ranks[i + lane] = static_cast<uint8_t>(below[lane]);
  }
}

template <class T>
GRAFT_INLINE float encodeBlock(const T* x, int64_t count, bool isWhole, const float* bounds, int64_t boundCount,
                               uint8_t* ranks) {
  const float peak = largestMagnitude(x, count);
  rank(x, count, peak, isWhole, bounds, boundCount, ranks);
  return isWhole || peak > 1e-38f ? peak : 1e-38f;
}

inline float encodeBlockFloat(const float* x, int64_t count, bool isWhole, const float* bounds, int64_t boundCount,
                              uint8_t* ranks) {
  return encodeBlock(x, count, isWhole, bounds, boundCount, ranks);
}
inline float encodeBlockBFloat16(const c10::BFloat16* x, int64_t count, bool isWhole, const float* bounds,
                                 int64_t boundCount, uint8_t* ranks) {
  return encodeBlock(x, count, isWhole, bounds, boundCount, ranks);
}
