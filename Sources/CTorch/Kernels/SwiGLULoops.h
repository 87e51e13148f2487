// The rows of SwiGLU (see SwiGLU.cpp), for each instruction set (see ForEachVariant.h).

template <class T>
void swiGLURows(const GatedRows<T>& rows, int64_t begin, int64_t end) {
  const int64_t size = rows.size, whole = size / lanes * lanes;
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = rows.gate + row * rows.stride, *up = rows.up + row * rows.stride;
    if (rows.gradient == nullptr) {
      T* output = rows.output + row * size;
      for (int64_t i = 0; i < whole; i += lanes) {
        const Floats g = load(gate + i);
        store(output + i, g * sigmoid(g) * load(up + i));
      }
      if (whole < size) {
        const Floats g = loadFirst(gate + whole, size - whole);
        storeFirst(output + whole, g * sigmoid(g) * loadFirst(up + whole, size - whole), size - whole);
      }
    } else {
      const T* gradient = rows.gradient + row * size;
      T *gateGradient = rows.gateGradient + row * rows.gradientStride,
        *upGradient = rows.upGradient + row * rows.gradientStride;
      for (int64_t i = 0; i < size; i += lanes) {
        const int64_t count = size - i < lanes ? size - i : lanes;
        const bool partial = count < lanes;
        const Floats g = partial ? loadFirst(gate + i, count) : load(gate + i);
        const Floats u = partial ? loadFirst(up + i, count) : load(up + i);
        const Floats dy = partial ? loadFirst(gradient + i, count) : load(gradient + i);
        const Floats s = sigmoid(g);
        const Floats du = dy * g * s, dg = dy * u * s * (splat(1) + g * (splat(1) - s));
        if (partial) {
          storeFirst(upGradient + i, du, count);
          storeFirst(gateGradient + i, dg, count);
        } else {
          store(upGradient + i, du);
          store(gateGradient + i, dg);
        }
      }
    }
  }
}

inline void swiGLUFloat(const GatedRows<float>& rows, int64_t begin, int64_t end) { swiGLURows(rows, begin, end); }
inline void swiGLUBFloat16(const GatedRows<c10::BFloat16>& rows, int64_t begin, int64_t end) {
  swiGLURows(rows, begin, end);
}
