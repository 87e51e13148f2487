// AdamW on one piece (see AdamW.cpp), for each instruction set (see ForEachVariant.h).

inline void adamWSlice(const AdamWSlice& slice, const AdamWFactors& factors) {
  for (int64_t i = 0; i < slice.count; i += lanes) {
    const int64_t count = slice.count - i < lanes ? slice.count - i : lanes;
    const bool partial = count < lanes;
    const Floats gradient = partial ? loadFirst(slice.gradient + i, count) : load(slice.gradient + i);
    Floats mean = partial ? loadFirst(slice.mean + i, count) : load(slice.mean + i);
    Floats square = partial ? loadFirst(slice.square + i, count) : load(slice.square + i);
    Floats parameter = partial ? loadFirst(slice.parameter + i, count) : load(slice.parameter + i);
    mean = mean + (gradient - mean) * splat(factors.meanWeight);
    square = square * splat(factors.beta2) + gradient * gradient * splat(factors.squareWeight);
    const Floats denominator = squareRoot(square) / splat(factors.squareCorrection) + splat(factors.epsilon);
    parameter = parameter * splat(factors.decay) - splat(factors.step) * (mean / denominator);
    if (partial) {
      storeFirst(slice.mean + i, mean, count);
      storeFirst(slice.square + i, square, count);
      storeFirst(slice.parameter + i, parameter, count);
    } else {
      store(slice.mean + i, mean);
      store(slice.square + i, square);
      store(slice.parameter + i, parameter);
    }
  }
}
