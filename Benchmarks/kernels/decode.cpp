// The decoding of a token: layers of SmolLM2's and the 0.5B model's shape by single operations over `at::linear`, over the kernel of few
// rows, and by the kernel of whole layers, of weights as they are and packed, for one and for eight sequences. Wall time, medians, beside
// the rate at which this machine's memory can be read: that rate is the ceiling of weights as they are.

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "../../Sources/CTorch/Kernels/FewRowsLinear.h"
#include "../../Sources/CTorch/Kernels/Kernels.h"
#include "../../Sources/CTorch/Kernels/Parallel.h"

using at::Tensor;

static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body>
static double median(int rounds, const Body& body) {
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) {
    const double begin = seconds();
    body();
    times.push_back(seconds() - begin);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Shape {
  const char* name;
  int64_t layers, hidden, heads, keyHeads, size, vocabulary;
  bool biases;
};

/// Bytes per second of a plain sum over all weights, by all threads.
static double readRate(const std::vector<graft::DecoderLayerWeights>& layers) {
  std::vector<Tensor> matrices;
  for (const auto& layer : layers) matrices.insert(matrices.end(), {layer.gateUp, layer.down});
  int64_t bytes = 0;
  for (const auto& matrix : matrices) bytes += static_cast<int64_t>(matrix.nbytes());
  volatile uint64_t sink = 0;
  const double time = median(7, [&] {
    for (const auto& matrix : matrices) {
      const auto* words = static_cast<const uint64_t*>(matrix.data_ptr());
      constexpr int64_t piece = 128 << 10;
      graft::parallelTasks(static_cast<int64_t>(matrix.nbytes()) / 8 / piece, [&](int64_t task, int64_t) {
        uint64_t sums[16] = {};
        for (int64_t i = task * piece; i < (task + 1) * piece; i += 16)
          for (int j = 0; j < 16; ++j) sums[j] ^= words[i + j];
        for (const uint64_t sum : sums) sink = sink ^ sum;
      });
    }
  });
  return static_cast<double>(bytes) / time;
}

static void decode(const Shape& shape, int64_t sequences, int32_t length) {
  constexpr int64_t headSize = 64;
  const auto weight = [](int64_t outputs, int64_t inputs) {
    return (at::randn({outputs, inputs}) / std::sqrt(double(inputs))).to(at::kBFloat16);
  };
  const int64_t columns = (shape.heads + 2 * shape.keyHeads) * headSize;
  const auto ones = at::ones({shape.hidden}, at::kBFloat16);
  std::vector<graft::DecoderLayerWeights> layers;
  std::vector<Tensor> keys, values;
  for (int64_t i = 0; i < shape.layers; ++i) {
    layers.push_back({ones, ones, weight(columns, shape.hidden), shape.biases ? at::randn({columns}).to(at::kBFloat16) : Tensor(),
                      weight(shape.hidden, shape.heads * headSize), {}, weight(2 * shape.size, shape.hidden), {},
                      weight(shape.hidden, shape.size), {}, 1e-5, 1e-5, 0.125, shape.keyHeads, 0});
    keys.push_back(at::randn({sequences, 1024, shape.keyHeads, headSize}).to(at::kBFloat16));
    values.push_back(at::randn({sequences, 1024, shape.keyHeads, headSize}).to(at::kBFloat16));
  }
  const auto head = weight(shape.vocabulary, shape.hidden);
  const std::vector<int32_t> lengths(sequences, length);
  const auto x = at::randn({sequences, shape.hidden}).to(at::kBFloat16);
  const auto cosines = at::rand({sequences, headSize}), sines = at::rand({sequences, headSize});
  const auto offsets = at::arange(sequences + 1, at::kInt), ends = at::full({sequences}, length + 1, at::kInt);
  const auto rows = at::arange(sequences, at::kLong) * 1024 + length;

  /// The layers by single operations.
  const auto single = [&](const auto& linear) {
    Tensor state = x;
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto& layer = layers[i];
      auto projected = linear(graft::rmsNorm(state, layer.inputNorm, 1e-5), layer.queryKeyValue, layer.queryKeyValueBias);
      projected = graft::rotaryEmbedding_(projected, cosines, sines, headSize, shape.heads + shape.keyHeads)
                      .view({sequences, -1, headSize});
      keys[i].flatten(0, 1).index_copy_(0, rows, projected.narrow(1, shape.heads, shape.keyHeads));
      values[i].flatten(0, 1).index_copy_(0, rows, projected.narrow(1, shape.heads + shape.keyHeads, shape.keyHeads));
      const auto attention = graft::cachedAttention(projected.narrow(1, 0, shape.heads), keys[i], values[i], offsets, ends, 0.125, true);
      const auto attended = state + linear(attention.view({sequences, -1}), layer.output, Tensor());
      const auto gateUp = linear(graft::rmsNorm(attended, layer.attentionNorm, 1e-5), layer.gateUp, Tensor());
      state = attended + linear(graft::swiGLUFused(gateUp), layer.down, Tensor());
    }
    return linear(state, head, Tensor());
  };
  const auto plain = [](const Tensor& x, const Tensor& w, const Tensor& bias) {
    return at::linear(x, w, bias.defined() ? std::optional<Tensor>(bias) : std::nullopt);
  };
  const auto few = [](const Tensor& x, const Tensor& w, const Tensor& bias) { return graft::fewRowsLinear(x, w, bias); };
  const auto whole = [&] {
    Tensor state = x;
    for (size_t i = 0; i < layers.size(); ++i)
      state = graft::decoderLayerStep(state, layers[i], {keys[i], values[i], lengths.data()}, cosines, sines);
    return few(state, head, Tensor());
  };
  auto packedLayers = layers;
  std::optional<graft::PackedMatrix> packedHead;
  if (graft::hasPackedProducts()) {
    for (auto& layer : packedLayers)
      layer.packed = {graft::pack(layer.queryKeyValue), graft::pack(layer.output), graft::pack(layer.gateUp), graft::pack(layer.down)};
    packedHead = graft::pack(head);
  }
  const auto wholePacked = [&] {
    Tensor state = x;
    for (size_t i = 0; i < layers.size(); ++i)
      state = graft::decoderLayerStep(state, packedLayers[i], {keys[i], values[i], lengths.data()}, cosines, sines);
    return graft::fewRowsLinear(state, head, Tensor(), packedHead ? &*packedHead : nullptr);
  };
  double bytes = static_cast<double>(head.nbytes());
  for (const auto& layer : layers)
    bytes += static_cast<double>(layer.queryKeyValue.nbytes() + layer.output.nbytes() + layer.gateUp.nbytes() + layer.down.nbytes());
  const double rate = readRate(layers);
  std::printf("%s, %lld sequences of %d tokens, %.0f MB of weights; memory is read at %.1f GB/s\n", shape.name,
              (long long)sequences, length, bytes / 1e6, rate / 1e9);
  const auto report = [&](const char* name, double time) {
    std::printf("  %-34s %7.2f ms, %6.1f tokens/s, %5.1f GB/s, %3.0f %% of the rate\n", name, 1e3 * time, sequences / time,
                bytes / time / 1e9, 100 * bytes / time / rate);
  };
  report("at::linear, single operations", median(7, [&] { single(plain); }));
  report("few rows, single operations", median(15, [&] { single(few); }));
  report("whole layers", median(15, [&] { whole(); }));
  report("whole layers of packed weights", median(15, [&] { wholePacked(); }));
}

int main(int count, char** arguments) {
  at::manual_seed(0);
  graft::configureAllocator();
  const at::NoGradGuard inference;
  for (const auto& shape : {Shape{"SmolLM2-135M", 30, 576, 9, 3, 1536, 49152, false}, {"0.5B", 24, 896, 14, 2, 4864, 151936, true}})
    for (const int64_t sequences : {1, 8})
      if (count < 2 || std::string(shape.name).find(arguments[1]) != std::string::npos) decode(shape, sequences, 100);
}
