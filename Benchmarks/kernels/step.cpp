// A whole training step made of the kernels: forward and backward of a Llama-shaped model with random weights, LoRA of
// rank 8 on q, k, v and o, in bf16. Prints what a step costs and its parts' ceiling.
//
//   step [smollm2|qwen] [sequences] [length] [supervised fraction] [anything: the allocator left as it is]

#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../../Sources/CTorch/Kernels/Kernels.h"

using at::Tensor;

struct Shape {
  int64_t hidden, heads, keyHeads, headSize, inner, vocabulary, layers;
};

struct Layer {
  Tensor norm1, norm2, qkv, o, gateUp, down;
  std::vector<graft::LowRankAdapter> qkvAdapters, oAdapters;
};

static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void cpuSeconds(double& user, double& system) {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  user = usage.ru_utime.tv_sec + 1e-6 * usage.ru_utime.tv_usec;
  system = usage.ru_stime.tv_sec + 1e-6 * usage.ru_stime.tv_usec;
}

int main(int count, char** arguments) {
  const std::string model = count > 1 ? arguments[1] : "smollm2";
  const int64_t sequences = count > 2 ? std::atoll(arguments[2]) : 8,
                length = count > 3 ? std::atoll(arguments[3]) : 425;
  const double supervised = count > 4 ? std::atof(arguments[4]) : 0.5;
  const Shape shape = model == "qwen" ? Shape{896, 14, 2, 64, 4864, 151936, 24} : Shape{576, 9, 3, 64, 1536, 49152, 30};
  if (count <= 5) graft::configureAllocator();
  at::manual_seed(0);
  const auto bf16 = at::TensorOptions().dtype(at::kBFloat16);
  const int64_t qkvSize = (shape.heads + 2 * shape.keyHeads) * shape.headSize,
                attentionSize = shape.heads * shape.headSize;
  std::vector<Layer> layers;
  std::vector<Tensor> trainable;
  const auto weight = [&](int64_t out, int64_t in) {
    return at::randn({out, in}, bf16).mul_(1 / std::sqrt(double(in)));
  };
  const auto adapter = [&](int64_t out, int64_t in, int64_t first) {
    trainable.push_back((at::randn({8, in}) / std::sqrt(double(in))).requires_grad_());
    trainable.push_back((at::randn({out, 8}) * 0.01).requires_grad_());
    return graft::LowRankAdapter{trainable[trainable.size() - 2], trainable.back(), 2.0, first};
  };
  for (int64_t i = 0; i < shape.layers; ++i) {
    const int64_t keySize = shape.keyHeads * shape.headSize;
    layers.push_back({at::ones({shape.hidden}, bf16),
                      at::ones({shape.hidden}, bf16),
                      weight(qkvSize, shape.hidden),
                      weight(shape.hidden, attentionSize),
                      weight(2 * shape.inner, shape.hidden),
                      weight(shape.hidden, shape.inner),
                      {adapter(attentionSize, shape.hidden, 0), adapter(keySize, shape.hidden, attentionSize),
                       adapter(keySize, shape.hidden, attentionSize + keySize)},
                      {adapter(shape.hidden, attentionSize, 0)}});
  }
  const auto embedding = weight(shape.vocabulary, shape.hidden), finalNorm = at::ones({shape.hidden}, bf16);
  const int64_t tokens = sequences * length;
  std::vector<int32_t> offsets;
  for (int64_t n = 0; n <= sequences; ++n) offsets.push_back(int32_t(n * length));
  const auto offset = at::tensor(offsets, at::kInt);
  const auto ids = at::randint(shape.vocabulary, {tokens}, at::kLong);
  const auto angle = at::outer(at::arange(length, at::kFloat).repeat({sequences}),
                               at::pow(10000.0, -at::arange(0, 64, 2, at::kFloat) / 64));
  const auto cosines = at::cat({angle, angle}, 1).cos(), sines = at::cat({angle, angle}, 1).sin();
  const auto rows = at::arange(int64_t(tokens * supervised), at::kLong) * int64_t(1 / supervised);
  const auto labels = ids.index_select(0, rows);
  const double scale = 1 / std::sqrt(double(shape.headSize));

  const auto step = [&] {
    Tensor residual = at::embedding(embedding, ids);
    Tensor x = graft::rmsNorm(residual, layers[0].norm1, 1e-5);
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto& layer = layers[i];
      auto qkv = graft::loraLinear(x, layer.qkv, {}, layer.qkvAdapters);
      qkv = graft::rotaryEmbedding_(qkv, cosines, sines, shape.headSize, shape.heads + shape.keyHeads);
      const auto attended =
          graft::raggedAttentionFused(qkv.view({tokens, -1, shape.headSize}), offset, shape.keyHeads, scale, true);
      const auto projected = graft::loraLinear(attended.view({tokens, attentionSize}), layer.o, {}, layer.oAdapters);
      std::tie(residual, x) = graft::addRMSNorm(projected, residual, layer.norm2, 1e-5);
      const auto hidden = graft::swiGLUFused(graft::loraLinear(x, layer.gateUp, {}, {}));
      const auto& next = i + 1 < layers.size() ? layers[i + 1].norm1 : finalNorm;
      std::tie(residual, x) = graft::addRMSNorm(graft::loraLinear(hidden, layer.down, {}, {}), residual, next, 1e-5);
    }
    const auto loss = graft::linearCrossEntropy(x.index_select(0, rows), embedding, labels) / double(rows.size(0));
    const auto gradients = torch::autograd::grad({loss}, trainable);
    return loss.item<float>();
  };

  const double layerWeights =
      double(qkvSize * shape.hidden + attentionSize * shape.hidden + 3 * shape.inner * shape.hidden);
  const double flops = 4 * tokens * layerWeights * shape.layers + 4.0 * rows.size(0) * shape.vocabulary * shape.hidden +
                       3.5 * 2.0 * sequences * length * (length + 1) * attentionSize * shape.layers;
  float loss = step();
  std::vector<double> wall, user, system;
  for (int i = 0; i < 3; ++i) {
    double user0, system0, user1, system1;
    cpuSeconds(user0, system0);
    const double begin = seconds();
    loss = step();
    wall.push_back(seconds() - begin);
    cpuSeconds(user1, system1);
    user.push_back(user1 - user0);
    system.push_back(system1 - system0);
  }
  const auto middle = [](std::vector<double> x) {
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
  };
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "%s, %lld tokens: loss %.3f, step %.2f s, %.0f tokens/s, user %.2f s, system %.2f s, %.0f GFLOP/s, peak %.2f "
      "GB\n",
      model.c_str(), (long long)tokens, loss, middle(wall), tokens / middle(wall), middle(user), middle(system),
      flops / middle(wall) / 1e9, usage.ru_maxrss / 1e6);
}
