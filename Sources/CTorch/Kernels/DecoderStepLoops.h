// The phases of a decoder's layer on single tokens (see DecoderStep.cpp), for each instruction set (see ForEachVariant.h).

#include "RMSNormLoops.h"
#include "RotaryEmbeddingLoops.h"
#include "SIMD/RowProducts.h"

#include "SIMD/PackedRowProducts.h"

/// Sums of `count` ≤ rowBlock rows from `first` on with all inputs into `sums` [N, rowBlock], with the bias, rounded as a tensor of T
/// would be.
template <class T>
inline void project(const typename DecoderStepProblem<T>::Projection& projection, int64_t first, int64_t count,
                    const T* input, int64_t inputSize, int64_t sequences, float* sums) {
  rowProducts(projection.weight, projection.row, projection.packed, first, count, input, inputSize, sequences, inputSize, sums,
              rowBlock);
  for (int64_t n = 0; n < sequences; ++n)
    for (int64_t i = 0; i < count; i += lanes) {
      Floats value = load(sums + n * rowBlock + i);
      if (projection.bias) value += load(projection.bias + first + i);
      store(sums + n * rowBlock + i, rounded<T>(value));
    }
}

/// Calls `body(begin, count, sums)` for the blocks of the rows of one task.
template <class T, class Body>
inline void projectRows(const typename DecoderStepProblem<T>::Projection& projection, int64_t begin, int64_t end,
                        const T* input, int64_t inputSize, int64_t sequences, const Body& body) {
  float sums[mostRows * rowBlock];
  for (int64_t first = begin; first < end; first += rowBlock) {
    const int64_t count = end - first < rowBlock ? end - first : rowBlock;
    project<T>(projection, first, count, input, inputSize, sequences, sums);
    body(first, count, sums);
  }
}

// MARK: Attention

/// Attention of the queries that share a key head to one part of the keys. The part that ends with the new token adds its key
/// and value to the cache before.
template <class T>
void attendPart(const DecoderStepProblem<T>& problem, int64_t index, const DecoderStepScratch<T>& scratch) {
  const auto& part = problem.parts[index];
  const int64_t size = problem.headSize, group = problem.group(), row = problem.keyHeads * size;
  const T* projected = problem.projected + part.sequence * problem.columns();
  const float *cosines = problem.cosines + part.sequence * size, *sines = problem.sines + part.sequence * size;
  const int64_t place = (part.sequence * problem.capacity * problem.keyHeads + part.keyHead) * size;
  T *keys = problem.keys + place, *values = problem.values + place;
  if (part.end == problem.lengths[part.sequence] + 1) {
    T* const key = keys + (part.end - 1) * row;
    __builtin_memcpy(key, projected + (problem.heads + part.keyHead) * size, size * sizeof(T));
    rotateRows(key, 0, 0, 1, 1, size, cosines, sines, size, false);
    __builtin_memcpy(values + (part.end - 1) * row,
                     projected + (problem.heads + problem.keyHeads + part.keyHead) * size, size * sizeof(T));
  }
  __builtin_memcpy(scratch.query, projected + part.keyHead * group * size, group * size * sizeof(T));
  rotateRows(scratch.query, 0, 0, 1, group, size, cosines, sines, size, false);

  const int64_t count = part.end - part.begin, padded = (count + lanes - 1) / lanes * lanes;
  rowProducts(DenseRows<T>{keys + part.begin * row, row}, count, scratch.query, size, group, size, scratch.scores,
              keysPerPart);
  const Floats toLog2 = splat(problem.scale * log2e);
  for (int64_t head = 0; head < group; ++head) {
    float* const scores = scratch.scores + head * keysPerPart;
    for (int64_t key = count; key < padded; ++key) scores[key] = -__builtin_inff();
    Floats peaks = splat(-__builtin_inff());
    for (int64_t key = 0; key < padded; key += lanes) peaks = maximum(peaks, load(scores + key) * toLog2);
    const float peak = largest(peaks);
    Floats totals = {};
    for (int64_t key = 0; key < padded; key += lanes) {
      const Floats weight = exp2(load(scores + key) * toLog2 - splat(peak));
      totals += weight;
      store(scores + key, weight);
    }
    float* const result = problem.partial + (index * group + head) * problem.partialSize();
    constexpr int64_t together = 2;
    for (int64_t i = 0; i < size; i += together * lanes) {
      Floats sums[2][together] = {};
      const T* value = values + part.begin * row + i;
      int64_t key = 0;
      for (; key + 2 <= count; key += 2, value += 2 * row)
        for (int step = 0; step < 2; ++step) {
          const Floats weight = splat(scores[key + step]);
          for (int v = 0; v < together; ++v) sums[step][v] += weight * load(value + step * row + v * lanes);
        }
      if (key < count)
        for (int v = 0; v < together; ++v) sums[0][v] += splat(scores[key]) * load(value + v * lanes);
      for (int v = 0; v < together; ++v) store(result + i + v * lanes, sums[0][v] + sums[1][v]);
    }
    result[size] = peak;
    result[size + 1] = sum(totals);
  }
}

/// The attention of all heads, [N, heads·headSize], out of the parts.
template <class T>
void combineParts(const DecoderStepProblem<T>& problem, T* output) {
  const int64_t size = problem.headSize, group = problem.group(), stride = group * problem.partialSize();
  for (int64_t n = 0; n < problem.sequences; ++n)
    for (int64_t head = 0; head < problem.heads; ++head, output += size) {
      const int64_t* first = problem.firstPart.data() + n * problem.keyHeads + head / group;
      const float* const results = problem.partial + first[0] * stride + head % group * problem.partialSize();
      const int64_t count = first[1] - first[0];
      float peak = results[size];
      for (int64_t part = 1; part < count; ++part) peak = std::max(peak, results[part * stride + size]);
      float total = 0;
      for (int64_t part = 0; part < count; ++part)
        total += results[part * stride + size + 1] * exp2(splat(results[part * stride + size] - peak))[0];
      for (int64_t i = 0; i < size; i += lanes) {
        Floats value = {};
        for (int64_t part = 0; part < count; ++part)
          value += load(results + part * stride + i) * exp2(splat(results[part * stride + size] - peak));
        store(output + i, value * splat(1 / total));
      }
    }
}

// MARK: Phases

template <class T>
void decoderStep(const DecoderStepProblem<T>& problem, int phase, int64_t task, int64_t each,
                 const DecoderStepScratch<T>& scratch, bool isFirst) {
  const int64_t n = problem.sequences, hidden = problem.hidden;
  const auto rows = [&](int64_t count) { return (task + 1) * each < count ? (task + 1) * each : count; };
  const auto norm = [&](const T* x, const T* weight, double epsilon) {
    if (isFirst) rmsNormForward<T>(x, nullptr, nullptr, weight, scratch.input, n, hidden, epsilon);
  };
  /// residual + the projection's rows, into `y` [N, hidden].
  const auto add = [&](const typename DecoderStepProblem<T>::Projection& projection, const T* input, int64_t inputSize,
                       const T* residual, T* y) {
    projectRows<T>(projection, task * each, rows(hidden), input, inputSize, n,
                   [&](int64_t first, int64_t count, const float* sums) {
                     for (int64_t row = 0; row < n; ++row)
                       for (int64_t i = 0; i < count; i += lanes) {
                         const int64_t at = row * hidden + first + i;
                         store(y + at, load(residual + at) + load(sums + row * rowBlock + i));
                       }
                   });
  };
  switch (phase) {
    case 0:
      norm(problem.x, problem.inputNorm, problem.inputEpsilon);
      projectRows<T>(problem.queryKeyValue, task * each, rows(problem.columns()), scratch.input, hidden, n,
                     [&](int64_t first, int64_t count, const float* sums) {
                       for (int64_t row = 0; row < n; ++row)
                         for (int64_t i = 0; i < count; i += lanes)
                           store(problem.projected + row * problem.columns() + first + i, load(sums + row * rowBlock + i));
                     });
      break;
    case 1:
      attendPart(problem, task, scratch);
      break;
    case 2:
      if (isFirst) combineParts(problem, scratch.input);
      add(problem.output, scratch.input, problem.heads * problem.headSize, problem.x, problem.attended);
      break;
    case 3:
      norm(problem.attended, problem.attentionNorm, problem.attentionEpsilon);
      projectRows<T>(problem.gateUp, task * each, rows(problem.size), scratch.input, hidden, n,
                     [&](int64_t first, int64_t count, const float* gates) {
                       float ups[mostRows * rowBlock];
                       project<T>(problem.gateUp, problem.size + first, count, scratch.input, hidden, n, ups);
                       for (int64_t row = 0; row < n; ++row)
                         for (int64_t i = 0; i < count; i += lanes) {
                           const Floats gate = load(gates + row * rowBlock + i);
                           store(problem.activations + row * problem.size + first + i,
                                 gate * sigmoid(gate) * load(ups + row * rowBlock + i));
                         }
                     });
      break;
    case 4:
      add(problem.down, problem.activations, problem.size, problem.attended, problem.y);
      break;
  }
}

inline void decoderStepFloat(const DecoderStepProblem<float>& problem, int phase, int64_t task, int64_t each,
                             const DecoderStepScratch<float>& scratch, bool isFirst) {
  decoderStep(problem, phase, task, each, scratch, isFirst);
}
inline void decoderStepBFloat16(const DecoderStepProblem<c10::BFloat16>& problem, int phase, int64_t task, int64_t each,
                                const DecoderStepScratch<c10::BFloat16>& scratch, bool isFirst) {
  decoderStep(problem, phase, task, each, scratch, isFirst);
}
