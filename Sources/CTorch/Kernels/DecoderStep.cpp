// A decoder's layer on one new token of each sequence, as generation runs it:
//
//   a = RMSNorm(x),  q, k, v = a Wqkvᵀ + b;  q and k turned by their position, k and v added to the cache
//   x' = x + attention(q, cache) Woᵀ,  m = RMSNorm(x')
//   y = x' + (silu(m Wgᵀ) ∘ (m Wuᵀ)) Wdᵀ
//
// As single operations these are eighteen calls of a few microseconds, beside weights that are read in a hundred. Here they are five
// phases of one parallel loop, each a reading of one weight (or of the cache) with what lies before and behind it: the norms, the
// rotation, the gate, the residual. The norms are computed by every thread for itself, which takes less than waiting for one.
//
// Attention goes over parts of the keys; each gives the sums of its values by weights relative to its own largest score, which are put
// together where they are read (FlashDecoding, Dao et al. 2023, https://crfm.stanford.edu/2023/10/12/flashdecoding.html).

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "FewRowsLinear.h"
#include "Kernels.h"
#include "SIMD/Variant.h"

namespace graft {

/// Keys of a sequence and key head that one task attends to.
struct DecoderStepPart {
  int64_t sequence, keyHead, begin, end;
};

/// What all threads share, in numbers of type T.
template <class T>
struct DecoderStepProblem {
  struct Projection {
    const T *weight, *bias;  // bias may be null
    int64_t row;             // distance between rows of the weight
    PackedRows packed;
  };
  Projection queryKeyValue, output, gateUp, down;
  const T *inputNorm, *attentionNorm;
  double inputEpsilon, attentionEpsilon;
  int64_t sequences, hidden, heads, keyHeads, headSize, size;
  float scale;
  const float *cosines, *sines;
  const T* x;
  T *keys, *values;
  int64_t capacity;
  const int32_t* lengths;
  std::vector<DecoderStepPart> parts;
  std::vector<int64_t> firstPart;  // of each sequence and key head, and one more

  T *projected;     // [N, (heads + 2·keyHeads)·headSize]
  float* partial;   // [parts, heads / keyHeads, headSize + 2]: sums, largest score, total weight
  T* attended;      // [N, hidden]
  T* activations;   // [N, size]
  T* y;             // [N, hidden]

  int64_t group() const { return heads / keyHeads; }
  int64_t columns() const { return (heads + 2 * keyHeads) * headSize; }
  int64_t partialSize() const { return headSize + 2; }
};

/// Keys of a part.
constexpr int64_t keysPerPart = 512;

/// What a thread has for itself.
template <class T>
struct DecoderStepScratch {
  T* input;      // [N, max(hidden, heads·headSize)]: what the phase multiplies
  T* query;      // [heads / keyHeads, headSize]
  float* scores; // [heads / keyHeads, keysPerPart]
};

}  // namespace graft

#define GRAFT_LOOPS "../DecoderStepLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

int64_t headSizeOf(const DecoderLayerCache& cache) { return cache.keys.size(3); }

int64_t headsOf(const DecoderLayerWeights& layer, const DecoderLayerCache& cache) {
  return layer.queryKeyValue.size(0) / headSizeOf(cache) - 2 * layer.keyHeads;
}

template <class T>
typename DecoderStepProblem<T>::Projection projection(const at::Tensor& weight, const at::Tensor& bias,
                                                      const std::optional<PackedMatrix>& packed) {
  return {constData<T>(weight), bias.defined() ? constData<T>(bias) : nullptr, weight.stride(0),
          packed ? PackedRows(*packed) : PackedRows()};
}

/// The parts of the keys that the new tokens see, the new ones included.
template <class T>
void addParts(DecoderStepProblem<T>& problem, int64_t window) {
  for (int64_t n = 0; n < problem.sequences; ++n)
    for (int64_t head = 0; head < problem.keyHeads; ++head) {
      problem.firstPart.push_back(static_cast<int64_t>(problem.parts.size()));
      const int64_t end = problem.lengths[n] + 1, first = window > 0 ? std::max<int64_t>(0, end - window) : 0;
      for (int64_t begin = first; begin < end; begin += keysPerPart)
        problem.parts.push_back({n, head, begin, std::min(end, begin + keysPerPart)});
    }
  problem.firstPart.push_back(static_cast<int64_t>(problem.parts.size()));
}

int64_t taskCount(int64_t rows, int64_t each) { return (rows + each - 1) / each; }

template <class T, class Dispatch>
at::Tensor run(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
               const at::Tensor& cosines, const at::Tensor& sines, const Dispatch& dispatch) {
  DecoderStepProblem<T> problem;
  problem.queryKeyValue = projection<T>(layer.queryKeyValue, layer.queryKeyValueBias, layer.packed.queryKeyValue);
  problem.output = projection<T>(layer.output, layer.outputBias, layer.packed.output);
  problem.gateUp = projection<T>(layer.gateUp, layer.gateUpBias, layer.packed.gateUp);
  problem.down = projection<T>(layer.down, layer.downBias, layer.packed.down);
  problem.inputNorm = constData<T>(layer.inputNorm);
  problem.attentionNorm = constData<T>(layer.attentionNorm);
  problem.inputEpsilon = layer.inputEpsilon;
  problem.attentionEpsilon = layer.attentionEpsilon;
  problem.sequences = x.size(0);
  problem.hidden = x.size(1);
  problem.heads = headsOf(layer, cache);
  problem.keyHeads = layer.keyHeads;
  problem.headSize = headSizeOf(cache);
  problem.size = layer.down.size(1);
  problem.scale = static_cast<float>(layer.scale);
  problem.cosines = constData<float>(cosines);
  problem.sines = constData<float>(sines);
  problem.x = constData<T>(x);
  problem.keys = cache.keys.data_ptr<T>();
  problem.values = cache.values.data_ptr<T>();
  problem.capacity = cache.keys.size(1);
  problem.lengths = cache.lengths;
  addParts(problem, layer.window);

  const int64_t n = problem.sequences, group = problem.group();
  const auto y = at::empty_like(x);
  const auto floats = at::empty(
      {static_cast<int64_t>(problem.parts.size()) * group * problem.partialSize() + threadCount() * group * keysPerPart},
      x.options().dtype(at::kFloat));
  const int64_t inputSize = n * std::max(problem.hidden, problem.heads * problem.headSize);
  const int64_t threadSize = inputSize + group * problem.headSize;
  const auto numbers = at::empty({n * (problem.columns() + problem.hidden + problem.size) + threadCount() * threadSize},
                                 x.options());
  problem.partial = floats.template data_ptr<float>();
  float* const scores = problem.partial + problem.parts.size() * group * problem.partialSize();
  problem.projected = numbers.template data_ptr<T>();
  problem.attended = problem.projected + n * problem.columns();
  problem.activations = problem.attended + n * problem.hidden;
  T* const own = problem.activations + n * problem.size;
  problem.y = y.template data_ptr<T>();

  const int64_t hiddenBytes = problem.hidden * x.element_size();
  const int64_t projectedRows = rowsPerTask(problem.columns(), hiddenBytes);
  const int64_t outputRows = rowsPerTask(problem.hidden, problem.heads * problem.headSize * x.element_size());
  // A row of the gate and one of the way up are read together.
  const int64_t gatedRows = rowsPerTask(problem.size, 2 * hiddenBytes);
  const int64_t downRows = rowsPerTask(problem.hidden, problem.size * x.element_size());
  const int64_t each[] = {projectedRows, 1, outputRows, gatedRows, downRows};
  parallelPhases({taskCount(problem.columns(), projectedRows), static_cast<int64_t>(problem.parts.size()),
                  taskCount(problem.hidden, outputRows), taskCount(problem.size, gatedRows),
                  taskCount(problem.hidden, downRows)},
                 [&](size_t phase, int64_t task, int64_t thread, bool isFirst) {
                   T* const input = own + thread * threadSize;
                   const DecoderStepScratch<T> scratch{input, input + inputSize, scores + thread * group * keysPerPart};
                   dispatch(problem, static_cast<int>(phase), task, each[phase], scratch, isFirst);
                 });
  return y;
}

bool isMatrix(const at::Tensor& weight, const at::Tensor& bias, int64_t rows, int64_t columns, at::ScalarType dtype) {
  return weight.device().is_cpu() && weight.scalar_type() == dtype && weight.dim() == 2 && weight.size(0) == rows &&
         weight.size(1) == columns && weight.stride(1) == 1 &&
         (!bias.defined() || (bias.scalar_type() == dtype && bias.is_contiguous() && bias.numel() == rows));
}

bool isPacked(const std::optional<PackedMatrix>& packed, int64_t rows, int64_t columns) {
  return !packed || (packed->rows == rows && packed->columns == columns);
}

bool isNorm(const at::Tensor& weight, int64_t size, at::ScalarType dtype) {
  return weight.scalar_type() == dtype && weight.is_contiguous() && weight.numel() == size;
}

bool isTable(const at::Tensor& table, int64_t rows, int64_t columns) {
  return table.device().is_cpu() && table.scalar_type() == at::kFloat && table.is_contiguous() && table.dim() == 2 &&
         table.size(0) == rows && table.size(1) == columns;
}

}  // namespace

bool hasDecoderStepKernel(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
                          const at::Tensor& cosines) {
  const auto dtype = x.scalar_type();
  const auto& keys = cache.keys;
  if (!x.device().is_cpu() || !(dtype == at::kFloat || dtype == at::kBFloat16) || x.dim() != 2 || !x.is_contiguous() ||
      keys.dim() != 4 || layer.queryKeyValue.dim() != 2 || layer.down.dim() != 2)
    return false;
  const int64_t n = x.size(0), hidden = x.size(1), headSize = keys.size(3), size = layer.down.size(1);
  const int64_t columns = layer.queryKeyValue.size(0), headColumns = columns - 2 * layer.keyHeads * headSize;
  return n > 0 && n <= (dtype == at::kFloat ? 8 : mostRows) && hidden % 16 == 0 && size % 16 == 0 && headSize % 32 == 0 &&
         headSize <= 256 && headColumns > 0 && headColumns % (layer.keyHeads * headSize) == 0 &&
         isPacked(layer.packed.queryKeyValue, columns, hidden) && isPacked(layer.packed.output, hidden, headColumns) &&
         isPacked(layer.packed.gateUp, 2 * size, hidden) && isPacked(layer.packed.down, hidden, size) &&
         isMatrix(layer.queryKeyValue, layer.queryKeyValueBias, columns, hidden, dtype) &&
         isMatrix(layer.output, layer.outputBias, hidden, headColumns, dtype) &&
         isMatrix(layer.gateUp, layer.gateUpBias, 2 * size, hidden, dtype) &&
         isMatrix(layer.down, layer.downBias, hidden, size, dtype) && isNorm(layer.inputNorm, hidden, dtype) &&
         isNorm(layer.attentionNorm, hidden, dtype) && keys.scalar_type() == dtype && keys.is_contiguous() &&
         cache.values.scalar_type() == dtype && cache.values.is_contiguous() && cache.values.sizes() == keys.sizes() &&
         keys.size(0) == n && keys.size(2) == layer.keyHeads && isTable(cosines, n, headSize) &&
         std::all_of(cache.lengths, cache.lengths + n, [&](int32_t length) { return length >= 0 && length < keys.size(1); });
}

at::Tensor decoderLayerStep(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
                            const at::Tensor& cosines, const at::Tensor& sines) {
  TORCH_CHECK(hasDecoderStepKernel(x, layer, cache, cosines) && isTable(sines, cosines.size(0), cosines.size(1)),
              "a decoder's layer: tokens ", x.sizes(), " and a cache ", cache.keys.sizes(),
              " are no case for the kernel of single tokens");
  const at::NoGradGuard inference;
  if (x.scalar_type() == at::kFloat)
    return run<float>(x, layer, cache, cosines, sines,
                      [](const DecoderStepProblem<float>& problem, int phase, int64_t task, int64_t each,
                         const DecoderStepScratch<float>& scratch, bool isFirst) {
                        GRAFT_DISPATCH(decoderStepFloat, problem, phase, task, each, scratch, isFirst);
                      });
  return run<at::BFloat16>(x, layer, cache, cosines, sines,
                           [](const DecoderStepProblem<at::BFloat16>& problem, int phase, int64_t task, int64_t each,
                              const DecoderStepScratch<at::BFloat16>& scratch, bool isFirst) {
                             GRAFT_DISPATCH(decoderStepBFloat16, problem, phase, task, each, scratch, isFirst);
                           });
}

at::Tensor decoderLayerStepTwin(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
                                const at::Tensor& cosines, const at::Tensor& sines) {
  const at::NoGradGuard inference;
  const auto optional = [](const at::Tensor& bias) {
    return bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt;
  };
  const int64_t n = x.size(0), headSize = headSizeOf(cache), heads = headsOf(layer, cache), keyHeads = layer.keyHeads;
  const auto read = rmsNormTwin(x, layer.inputNorm, layer.inputEpsilon);
  auto projected = at::linear(read, layer.queryKeyValue, optional(layer.queryKeyValueBias));
  projected = rotaryEmbeddingTwin(projected, cosines, sines, headSize, heads + keyHeads).view({n, -1, headSize});
  std::vector<int32_t> offsets{0}, lengths;
  for (int64_t i = 0; i < n; ++i) {
    cache.keys[i][cache.lengths[i]].copy_(projected[i].narrow(0, heads, keyHeads));
    cache.values[i][cache.lengths[i]].copy_(projected[i].narrow(0, heads + keyHeads, keyHeads));
    offsets.push_back(static_cast<int32_t>(i + 1));
    lengths.push_back(cache.lengths[i] + 1);
  }
  const auto attention =
      cachedAttentionTwin(projected.narrow(1, 0, heads), cache.keys, cache.values, at::tensor(offsets, at::kInt),
                          at::tensor(lengths, at::kInt), layer.scale, true, layer.window);
  const auto attended = x + at::linear(attention.reshape({n, -1}), layer.output, optional(layer.outputBias));
  const auto gateUp = at::linear(rmsNormTwin(attended, layer.attentionNorm, layer.attentionEpsilon), layer.gateUp,
                                 optional(layer.gateUpBias));
  const int64_t size = layer.down.size(1);
  return attended +
         at::linear(swiGLUTwin(gateUp.narrow(1, 0, size), gateUp.narrow(1, size, size)), layer.down, optional(layer.downBias));
}

}  // namespace graft
