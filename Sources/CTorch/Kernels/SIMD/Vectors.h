// Vectors of 16 numbers, the only vocabulary of the kernels' loops. Included by ForEachVariant.h, once in the namespace
// of each instruction set: no include guard, no #include, and GRAFT_VARIANT says which set it is (0 portable, 1 AVX2,
// 2 AVX-512, 3 AVX-512 with bf16 dot products). The compiler splits a vector into as many registers as the set needs.

#define GRAFT_INLINE inline __attribute__((always_inline))

/// Numbers in a vector.
constexpr int lanes = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

// Less zero, not plus: −0 + 0 is +0.
GRAFT_INLINE Floats splat(float x) { return x - Floats{}; }
GRAFT_INLINE Ints splatInt(int32_t x) { return Ints{} + x; }

/// 0, 1, … 15.
GRAFT_INLINE Ints laneIndex() { return Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

template <class V, class P>
GRAFT_INLINE V loadBits(const P* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(V));
  return value;
}

template <class V, class P>
GRAFT_INLINE void storeBits(P* to, V value) {
  __builtin_memcpy(to, &value, sizeof(V));
}

GRAFT_INLINE Floats select(Ints mask, Floats yes, Floats no) {
  return reinterpret_cast<Floats>((mask & reinterpret_cast<Ints>(yes)) | (~mask & reinterpret_cast<Ints>(no)));
}

GRAFT_INLINE bool any(Ints mask) { return __builtin_reduce_or(mask) != 0; }

GRAFT_INLINE Floats maximum(Floats a, Floats b) {
#if GRAFT_VARIANT >= 2
  return reinterpret_cast<Floats>(_mm512_max_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#else
  return select(a > b, a, b);
#endif
}

GRAFT_INLINE Floats squareRoot(Floats x) {
#if __has_builtin(__builtin_elementwise_sqrt)
  return __builtin_elementwise_sqrt(x);
#else
  for (int i = 0; i < lanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

/// bf16 is the upper half of a float.
GRAFT_INLINE Floats widen(Halves bits) { return reinterpret_cast<Floats>(__builtin_convertvector(bits, Words) << 16); }

/// To bf16, nearest, ties to even; a NaN stays a NaN.
GRAFT_INLINE Halves narrow(Floats x) {
#if GRAFT_VARIANT >= 3
  return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(x)));
#else
  const Words bits = reinterpret_cast<Words>(x);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words isNaN = reinterpret_cast<Words>(x != x);
  return __builtin_convertvector((isNaN & 0x7fc0u) | (~isNaN & rounded), Halves);
#endif
}

GRAFT_INLINE Floats load(const float* from) { return loadBits<Floats>(from); }
GRAFT_INLINE Floats load(const c10::BFloat16* from) { return widen(loadBits<Halves>(from)); }
GRAFT_INLINE void store(float* to, Floats x) { storeBits(to, x); }
GRAFT_INLINE void store(c10::BFloat16* to, Floats x) { storeBits(to, narrow(x)); }

/// The first `count` numbers, zeros behind them.
template <class T>
GRAFT_INLINE Floats loadFirst(const T* from, int64_t count) {
  T part[lanes] = {};
  __builtin_memcpy(part, from, count * sizeof(T));
  return load(part);
}

template <class T>
GRAFT_INLINE void storeFirst(T* to, Floats x, int64_t count) {
  T part[lanes];
  store(part, x);
  __builtin_memcpy(to, part, count * sizeof(T));
}

/// As it would be after being stored as a `T` and loaded again.
template <class T>
GRAFT_INLINE Floats rounded(Floats x) {
  if constexpr (sizeof(T) == 2) return widen(narrow(x));
  return x;
}

GRAFT_INLINE float sum(Floats x) {
  typedef float Eight __attribute__((vector_size(32)));
  typedef float Four __attribute__((vector_size(16)));
  const Eight a = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                  __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  const Four b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}

GRAFT_INLINE float largest(Floats x) {
  float result = x[0];
  for (int i = 1; i < lanes; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

/// 2^x, to about 1 unit in the last place; 0 below 2^-126 (also for -∞), +∞ above 2^127.
GRAFT_INLINE Floats exp2(Floats x) {
  // x = n + r, |r| ≤ ½. Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
  const Floats magic = splat(12582912.0f);
  const Floats shifted = x + magic;
  const Floats r = x - (shifted - magic);
  Floats p = splat(1.5469107e-4f);
  p = p * r + splat(1.3400432e-3f);
  p = p * r + splat(9.6181291e-3f);
  p = p * r + splat(5.5503324e-2f);
  p = p * r + splat(2.4022651e-1f);
  p = p * r + splat(6.9314718e-1f);
  p = p * r + splat(1.0f);
  const Words power = (reinterpret_cast<Words>(shifted) + 127u) << 23;
  const Floats result = p * reinterpret_cast<Floats>(power);
  const Floats above = splat(__builtin_inff());
  return select(x < splat(-126.0f), splat(0.0f), select(x > splat(127.0f), above, result));
}

constexpr float log2e = 1.4426950408889634f;
constexpr float ln2 = 0.6931471805599453f;

/// e^x; the product with log₂e is split so that large |x| keeps its accuracy.
GRAFT_INLINE Floats exp(Floats x) {
  const Floats magic = splat(12582912.0f);
  const Floats shifted = x * splat(log2e) + magic;
  const Floats n = shifted - magic;
  Floats r = x - n * splat(0.693359375f);
  r = r + n * splat(2.12194440e-4f);
  Floats p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * (r * r) + r + splat(1.0f);
  const Words power = (reinterpret_cast<Words>(shifted) + 127u) << 23;
  const Floats result = p * reinterpret_cast<Floats>(power);
  const Floats above = splat(__builtin_inff());
  return select(x < splat(-87.3f), splat(0.0f), select(x > splat(88.0f), above, result));
}

GRAFT_INLINE Floats sigmoid(Floats x) { return splat(1) / (splat(1) + exp(-x)); }
