// The rows of RMSNorm (see RMSNorm.cpp), for each instruction set (see ForEachVariant.h).

template <class T>
void rmsNormForward(const T* x, const T* residual, T* sums, const T* weight, T* y, int64_t rows, int64_t size,
                    double epsilon) {
  for (int64_t row = 0; row < rows; ++row, x += size, y += size) {
    Floats squares[2] = {};
    const T* from = x;
    if (residual) {
      for (int64_t i = 0; i < size; i += lanes) {
        const Floats value = rounded<T>(load(x + i) + load(residual + i));
        store(sums + i, value);
        squares[0] += value * value;
      }
      from = sums;
      residual += size;
      sums += size;
    } else {
      for (int64_t i = 0; i < size; i += lanes) {
        const Floats value = load(x + i);
        squares[i / lanes % 2] += value * value;
      }
    }
    const float inverse =
        1 / std::sqrt(sum(squares[0] + squares[1]) / static_cast<float>(size) + static_cast<float>(epsilon));
    for (int64_t i = 0; i < size; i += lanes)
      store(y + i, load(weight + i) * rounded<T>(load(from + i) * splat(inverse)));
  }
}

template <class T>
void rmsNormBackward(const T* x, const T* weight, const T* gradient, const T* past, T* xGradient, float* weightGradient,
                     int64_t rows, int64_t size, double epsilon) {
  for (int64_t row = 0; row < rows; ++row, x += size, gradient += size, xGradient += size) {
    Floats squares = {}, dots = {};
    for (int64_t i = 0; i < size; i += lanes) {
      const Floats value = load(x + i);
      squares += value * value;
      dots += value * (load(gradient + i) * load(weight + i));
    }
    const float mean = sum(squares) / static_cast<float>(size) + static_cast<float>(epsilon);
    const float inverse = 1 / std::sqrt(mean);
    // mean(dx̂ ∘ x̂)·r, to be multiplied by x̂ = x·r
    const float slope = sum(dots) / static_cast<float>(size) * inverse * inverse * inverse;
    for (int64_t i = 0; i < size; i += lanes) {
      const Floats value = load(x + i), dy = load(gradient + i);
      Floats result = dy * load(weight + i) * splat(inverse) - value * splat(slope);
      if (weightGradient) store(weightGradient + i, load(weightGradient + i) + dy * rounded<T>(value * splat(inverse)));
      if (past) result += load(past + i);
      store(xGradient + i, result);
    }
    if (past) past += size;
  }
}

inline void rmsNormForwardFloat(const float* x, const float* residual, float* sums, const float* weight, float* y,
                                int64_t rows, int64_t size, double epsilon) {
  rmsNormForward(x, residual, sums, weight, y, rows, size, epsilon);
}
inline void rmsNormForwardBFloat16(const c10::BFloat16* x, const c10::BFloat16* residual, c10::BFloat16* sums,
                                   const c10::BFloat16* weight, c10::BFloat16* y, int64_t rows, int64_t size,
                                   double epsilon) {
  rmsNormForward(x, residual, sums, weight, y, rows, size, epsilon);
}
inline void rmsNormBackwardFloat(const float* x, const float* weight, const float* gradient, const float* past,
                                 float* xGradient, float* weightGradient, int64_t rows, int64_t size, double epsilon) {
  rmsNormBackward(x, weight, gradient, past, xGradient, weightGradient, rows, size, epsilon);
}
inline void rmsNormBackwardBFloat16(const c10::BFloat16* x, const c10::BFloat16* weight, const c10::BFloat16* gradient,
                                    const c10::BFloat16* past, c10::BFloat16* xGradient, float* weightGradient,
                                    int64_t rows, int64_t size, double epsilon) {
  rmsNormBackward(x, weight, gradient, past, xGradient, weightGradient, rows, size, epsilon);
}
