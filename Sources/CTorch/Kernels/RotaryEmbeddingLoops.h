// The rows of the rotary embedding (see RotaryEmbedding.cpp), for each instruction set (see ForEachVariant.h).

template <class T>
void rotateRows(T* x, int64_t stride, int64_t begin, int64_t end, int64_t heads, int64_t headSize, const float* cosines,
                const float* sines, int64_t size, bool inverse) {
  const int64_t half = size / 2;
  for (int64_t row = begin; row < end; ++row) {
    const float *cosine = cosines + row * size, *sine = sines + row * size;
    for (int64_t i = 0; i < half; i += lanes) {
      const Floats lowerCosine = load(cosine + i), upperCosine = load(cosine + half + i);
      const Floats lowerSine = load(sine + i), upperSine = load(sine + half + i);
      // The transpose exchanges the two sines and their signs.
      const Floats toLower = inverse ? upperSine : -lowerSine, toUpper = inverse ? -lowerSine : upperSine;
      for (int64_t head = 0; head < heads; ++head) {
        T* from = x + row * stride + head * headSize + i;
        const Floats lower = load(from), upper = load(from + half);
        store(from, lower * lowerCosine + upper * toLower);
        store(from + half, upper * upperCosine + lower * toUpper);
      }
    }
  }
}

inline void rotateFloat(float* x, int64_t stride, int64_t begin, int64_t end, int64_t heads, int64_t headSize,
                        const float* cosines, const float* sines, int64_t size, bool inverse) {
  rotateRows(x, stride, begin, end, heads, headSize, cosines, sines, size, inverse);
}
inline void rotateBFloat16(c10::BFloat16* x, int64_t stride, int64_t begin, int64_t end, int64_t heads,
                           int64_t headSize, const float* cosines, const float* sines, int64_t size, bool inverse) {
  rotateRows(x, stride, begin, end, heads, headSize, cosines, sines, size, inverse);
}
