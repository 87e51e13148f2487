// Each kernel beside the ATen operations that it replaces, alternating in one process, medians of seven, forward and
// backward. In processor time on one thread, so that other work on the machine disturbs little.

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "../../Sources/CTorch/Kernels/Kernels.h"
#include "random_matrix.h"

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(const Tensors&)>;

static double seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

static double once(const Function& function, const Tensors& inputs) {
  Tensors leaves;
  for (const auto& input : inputs) leaves.push_back(input.detach().requires_grad_());
  const double begin = seconds();
  const auto output = function(leaves);
  const auto ones = at::ones_like(output);
  const auto gradients = torch::autograd::grad({output}, leaves, {ones});
  return seconds() - begin;
}

static void compare(const std::string& name, double gigaflops, const Function& kernel, const Function& plain,
                    Tensors inputs) {
  for (auto& input : inputs) input = input.to(at::kBFloat16);
  std::vector<double> ours, theirs;
  for (int i = 0; i < 7; ++i) {
    ours.push_back(once(kernel, inputs));
    theirs.push_back(once(plain, inputs));
  }
  std::printf("%-44s %8.2f ms, ATen %8.2f ms, %5.1f x", name.c_str(), 1e3 * median(ours), 1e3 * median(theirs),
              median(theirs) / median(ours));
  if (gigaflops > 0) std::printf(", %.0f GFLOP/s, ATen %.0f", gigaflops / median(ours), gigaflops / median(theirs));
  std::printf("\n");
}

static void attention(int64_t heads, int64_t keyHeads, int64_t size, int64_t sequences, int64_t length) {
  const int64_t tokens = sequences * length;
  const auto offsets = at::arange(0, tokens + 1, length, at::kInt);
  const double scale = 1 / std::sqrt(double(size));
  const auto ours = [=](const Tensors& x) { return graft::raggedAttention(x[0], x[1], x[2], offsets, scale, true); };
  const auto plain = [=](const Tensors& x) {
    const auto batched = [&](const Tensor& rows) {
      return rows.view({sequences, length, rows.size(1), size}).transpose(1, 2);
    };
    const auto key = batched(x[1]).repeat_interleave(heads / keyHeads, 1),
               value = batched(x[2]).repeat_interleave(heads / keyHeads, 1);
    return at::scaled_dot_product_attention(batched(x[0]), key, value, {}, 0, true, scale)
        .transpose(1, 2)
        .reshape({tokens, heads, size});
  };
  compare("attention " + std::to_string(heads) + "/" + std::to_string(keyHeads) + " x " + std::to_string(size) + ", " +
              std::to_string(sequences) + " x " + std::to_string(length),
          3.5e-9 * 2 * sequences * length * (length + 1) * size * heads, ours, plain,
          {at::randn({tokens, heads, size}), at::randn({tokens, keyHeads, size}), at::randn({tokens, keyHeads, size})});
}

/// Frozen layers, forward and input gradient, beside ATen's product with the decoded matrix.
static void frozenLayers(int64_t tokens, int64_t inputs, int64_t outputs) {
  const double gigaflops = 4e-9 * tokens * inputs * outputs;
  const auto size = std::to_string(tokens) + " x " + std::to_string(inputs) + " -> " + std::to_string(outputs);
  const auto dense = (at::randn({outputs, inputs}) * 0.05).to(at::kBFloat16);
  const auto plain = [=](const Tensors& x) { return at::linear(x[0], dense); };
  compare("frozen, bf16, " + size, gigaflops, [=](const Tensors& x) { return graft::linear(x[0], dense); }, plain,
          {at::randn({tokens, inputs})});
  using graft::Encoding;
  const std::pair<const char*, Encoding> encodings[] = {
      {"NF4", Encoding::nf4}, {"int8", Encoding::int8}, {"Q4_K", Encoding::q4_K}, {"Q6_K", Encoding::q6_K},
      {"Q5_0", Encoding::q5_0}, {"Q8_0", Encoding::q8_0}};
  for (const auto& [name, encoding] : encodings) {
    if (inputs % graft::blockShape(encoding).elements != 0) continue;
    const auto matrix = randomMatrix(encoding, outputs, inputs);
    compare(std::string("frozen, ") + name + ", " + size, gigaflops,
            [=](const Tensors& x) { return graft::quantizedLinear(x[0], {matrix}, {}, {}); }, plain,
            {at::randn({tokens, inputs})});
  }
  auto bytes = randomMatrix(Encoding::int8, outputs, inputs);
  bytes.multipliesBytes = true;
  compare("frozen, int8 by bytes, " + size, gigaflops,
          [=](const Tensors& x) { return graft::quantizedLinear(x[0], {bytes}, {}, {}); }, plain,
          {at::randn({tokens, inputs})});
}

int main(int count, char** arguments) {
  at::set_num_threads(1);
  at::manual_seed(0);
  for (const int64_t tokens : {425, 850}) {
    frozenLayers(tokens, 576, 3072);
    frozenLayers(tokens, 896, 9728);
    frozenLayers(tokens, 4864, 896);
  }
  if (count > 1 && std::string(arguments[1]) == "frozen") return 0;
  attention(9, 3, 64, 8, 425);
  attention(14, 2, 64, 8, 190);
  attention(14, 2, 64, 8, 512);
  attention(14, 2, 64, 1, 4096);
  attention(32, 8, 128, 1, 2048);

  for (const auto& [rows, hidden, vocabulary] :
       {std::tuple<int64_t, int64_t, int64_t>{1000, 576, 49152}, {300, 896, 151936}}) {
    const auto labels = at::randint(vocabulary, {rows}, at::kLong);
    const auto weight = (at::randn({vocabulary, hidden}) * 0.05).to(at::kBFloat16);
    compare(
        "cross-entropy " + std::to_string(rows) + " of " + std::to_string(vocabulary),
        4e-9 * rows * hidden * vocabulary,
        [=](const Tensors& x) { return graft::linearCrossEntropy(x[0], weight, labels); },
        [=](const Tensors& x) { return graft::linearCrossEntropyTwin(x[0], weight, labels); },
        {at::randn({rows, hidden})});
  }

  compare(
      "RMSNorm with residual 3400 x 576", 0,
      [](const Tensors& x) {
        const auto [sum, y] = graft::addRMSNorm(x[0], x[1], x[2], 1e-5);
        return sum + y;
      },
      [](const Tensors& x) {
        const auto sum = x[0] + x[1];
        return sum + graft::rmsNormTwin(sum, x[2], 1e-5);
      },
      {at::randn({3400, 576}), at::randn({3400, 576}), at::rand({576})});
  compare(
      "SwiGLU 3400 x 1536", 0, [](const Tensors& x) { return graft::swiGLUFused(x[0]); },
      [](const Tensors& x) { return graft::swiGLUTwin(x[0].narrow(1, 0, 1536), x[0].narrow(1, 1536, 1536)); },
      {at::randn({3400, 3072})});
  const auto cosines = at::randn({3400, 64}), sines = at::randn({3400, 64});
  compare(
      "rotary embedding 3400 x 12 x 64", 0,
      [=](const Tensors& x) { return graft::rotaryEmbedding_(x[0] * 1, cosines, sines, 64, 12); },
      [=](const Tensors& x) { return graft::rotaryEmbeddingTwin(x[0] * 1, cosines, sines, 64, 12); },
      {at::randn({3400, 960})});

  const auto weight = (at::randn({960, 576}) * 0.04).to(at::kBFloat16);
  const auto adapters = [](const Tensors& x) {
    return std::vector<graft::LowRankAdapter>{{x[1], x[2], 2, 0}, {x[3], x[4], 2, 576}, {x[5], x[6], 2, 768}};
  };
  compare(
      "LoRA q, k, v 3400 x 576 -> 960", 0,
      [=](const Tensors& x) { return graft::loraLinear(x[0], weight, {}, adapters(x)); },
      [=](const Tensors& x) { return graft::loraLinearTwin(x[0], weight, {}, adapters(x)); },
      {at::randn({3400, 576}), at::randn({8, 576}), at::randn({576, 8}), at::randn({8, 576}), at::randn({192, 8}),
       at::randn({8, 576}), at::randn({192, 8})});
  compare(
      "the same without adapters", 4e-9 * 3400 * 960 * 576, [=](const Tensors& x) { return at::linear(x[0], weight); },
      [=](const Tensors& x) { return at::linear(x[0], weight); }, {at::randn({3400, 576})});
}
