// Every kernel against its ATen twin and against the twin in fp64, outputs and gradients, in each instruction set that
// this processor has. fp32 must be within 1e-5 (relative, in norm) of fp64, bf16 no further from it than ATen's bf16.

#include <torch/torch.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "../../Sources/CTorch/Kernels/FewRowsLinear.h"
#include "../../Sources/CTorch/Kernels/Kernels.h"
#include "../../Sources/CTorch/Kernels/MatrixProduct.h"
#include "../../Sources/CTorch/Kernels/SIMD/Variant.h"
#include "gpu_emulation.h"
#include "random_matrix.h"

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Function = std::function<Tensors(const Tensors&)>;

static int failures = 0, comparisons = 0;

static double distance(const Tensor& x, const Tensor& reference) {
  const auto wide = reference.to(at::kDouble);
  return ((x.to(at::kDouble) - wide).norm() / (wide.norm() + 1e-30)).item<double>();
}

/// Outputs, then the gradients of the floating inputs.
static Tensors evaluate(const Function& function, const Tensors& inputs, const Tensors& gradients,
                        at::ScalarType dtype) {
  Tensors leaves, wanted;
  for (const auto& input : inputs)
    leaves.push_back(input.to(dtype).detach().clone().requires_grad_(!gradients.empty()));
  const auto outputs = function(leaves);
  for (size_t i = 0; i < gradients.size(); ++i) wanted.push_back(gradients[i].to(outputs[i].scalar_type()));
  Tensors result;
  for (const auto& output : outputs) result.push_back(output.detach());
  if (!gradients.empty())
    for (const auto& gradient : torch::autograd::grad(outputs, leaves, wanted)) result.push_back(gradient);
  return result;
}

/// `slack`: how much further than ATen's bf16 a bf16 kernel may be; 1 but for rounding luck.
static void agree(const std::string& name, const Function& kernel, const Function& twin, const Tensors& inputs,
                  const Tensors& gradients, double slack = 1.1) {
  for (int wanted = 3; wanted >= 0; --wanted) {
    const auto variant = static_cast<graft::Variant>(wanted);
    if (graft::setVariant(variant) != variant) continue;
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      Tensors rounded, roundedGradients;
      for (const auto& input : inputs) rounded.push_back(input.to(dtype));
      for (const auto& gradient : gradients) roundedGradients.push_back(gradient.to(dtype));
      const auto reference = evaluate(twin, rounded, roundedGradients, at::kDouble);
      const auto plain = evaluate(twin, rounded, roundedGradients, dtype),
                 ours = evaluate(kernel, rounded, roundedGradients, dtype);
      for (size_t i = 0; i < reference.size(); ++i) {
        const double error = distance(ours[i], reference[i]), plainError = distance(plain[i], reference[i]);
        const double limit = dtype == at::kFloat ? 1e-5 : std::max(plainError * slack, 1e-5);
        ++comparisons;
        if (!(error <= limit)) {
          ++failures;
          std::printf("%s, variant %d, %s, result %zu: %.2e from fp64, ATen %.2e\n", name.c_str(), wanted,
                      at::toString(dtype), i, error, plainError);
        }
      }
    }
  }
}

static void attention() {
  const auto offsets = at::tensor(std::vector<int32_t>{0, 1, 70, 70, 134, 300, 513}, at::kInt);
  for (const int64_t size : {16, 48, 64, 128, 256})
    for (const int64_t window : {0, 37, 100})
      for (const bool causal : {true, false}) {
        const double scale = 1 / std::sqrt(double(size));
        const Function twin = [=](const Tensors& x) -> Tensors {
          return {graft::raggedAttentionTwin(x[0].narrow(1, 0, 6), x[0].narrow(1, 6, 2), x[0].narrow(1, 8, 2), offsets,
                                             scale, causal, window)};
        };
        const Tensors inputs{at::randn({513, 10, size})}, gradients{at::randn({513, 6, size})};
        agree(
            "attention, fused",
            [=](const Tensors& x) -> Tensors {
              return {graft::raggedAttentionFused(x[0], offsets, 2, scale, causal, window)};
            },
            twin, inputs, gradients);
        agree(
            "attention, views",
            [=](const Tensors& x) -> Tensors {
              return {graft::raggedAttention(x[0].narrow(1, 0, 6), x[0].narrow(1, 6, 2), x[0].narrow(1, 8, 2), offsets,
                                             scale, causal, window)};
            },
            twin, inputs, gradients);
      }
  // Long enough that the backward pass cuts a sequence into slices.
  const auto longOffsets = at::tensor(std::vector<int32_t>{0, 3000}, at::kInt);
  agree(
      "attention, long",
      [=](const Tensors& x) -> Tensors { return {graft::raggedAttention(x[0], x[1], x[2], longOffsets, 0.125, true)}; },
      [=](const Tensors& x) -> Tensors {
        return {graft::raggedAttentionTwin(x[0], x[1], x[2], longOffsets, 0.125, true)};
      },
      {at::randn({3000, 4, 64}), at::randn({3000, 1, 64}), at::randn({3000, 1, 64})}, {at::randn({3000, 4, 64})});
  // Decoding (few queries) and prefill with a cache (many).
  for (const int queries : {1, 2, 70})
    for (const int64_t heads : {4, 14}) {
      const auto each = at::tensor(std::vector<int32_t>{0, queries, 2 * queries, 3 * queries}, at::kInt);
      const auto lengths = at::tensor(std::vector<int32_t>{queries, 1500, 513}, at::kInt);
      agree(
          "attention, cached",
          [=](const Tensors& x) -> Tensors {
            return {graft::cachedAttention(x[0], x[1], x[2], each, lengths, 0.125, true, 300)};
          },
          [=](const Tensors& x) -> Tensors {
            return {graft::cachedAttentionTwin(x[0], x[1], x[2], each, lengths, 0.125, true, 300)};
          },
          {at::randn({3 * queries, heads, 64}), at::randn({3, 1600, 2, 64}), at::randn({3, 1600, 2, 64})}, {});
    }
}

static void sharedPrefix() {
  const auto offsets = at::tensor(std::vector<int32_t>{0, 40, 53, 60, 130}, at::kInt);
  for (const int64_t prefix : {0, 1, 7}) {
    const int64_t once = 130 - 3 * prefix;
    agree(
        "prefix, repeated", [=](const Tensors& x) -> Tensors { return {graft::repeatPrefix(x[0], prefix, offsets)}; },
        [=](const Tensors& x) -> Tensors { return {graft::repeatPrefixTwin(x[0], prefix, offsets)}; },
        {at::randn({once, 3, 8})}, {at::randn({130, 3, 8})});
    agree(
        "prefix, dropped",
        [=](const Tensors& x) -> Tensors { return {graft::dropRepeatedPrefix(x[0], prefix, offsets)}; },
        [=](const Tensors& x) -> Tensors { return {graft::dropRepeatedPrefixTwin(x[0], prefix, offsets)}; },
        {at::randn({130, 24})}, {at::randn({once, 24})});
  }
}

static void loss() {
  for (const int64_t vocabulary : {7, 5003, 70000}) {
    const auto labels = at::randint(vocabulary, {700}, at::kLong);
    agree(
        "cross-entropy", [=](const Tensors& x) -> Tensors { return {graft::linearCrossEntropy(x[0], x[1], labels)}; },
        [=](const Tensors& x) -> Tensors { return {graft::linearCrossEntropyTwin(x[0], x[1], labels)}; },
        {at::randn({700, 64}) * 2, at::randn({vocabulary, 64}) * 0.5}, {at::scalar_tensor(1)}, 1.25);
    agree(
        "cross-entropy a token",
        [=](const Tensors& x) -> Tensors {
          return {std::get<0>(graft::linearCrossEntropyPerToken(x[0], x[1], labels)).sum()};
        },
        [=](const Tensors& x) -> Tensors { return {graft::linearCrossEntropyTwin(x[0], x[1], labels)}; },
        {at::randn({700, 64}) * 2, at::randn({vocabulary, 64}) * 0.5}, {}, 1.25);
  }
}

/// What devices without kernels compute: here in fp64, which has none either.
static void elsewhere() {
  const auto labels = at::randint(70000, {700}, at::kLong);
  const Tensors inputs{at::randn({700, 64}, at::kDouble), at::randn({70000, 64}, at::kDouble) * 0.5};
  const auto ours = evaluate([=](const Tensors& x) -> Tensors { return {graft::linearCrossEntropy(x[0], x[1], labels)}; }, inputs,
                             {at::scalar_tensor(2)}, at::kDouble);
  const auto twin = evaluate([=](const Tensors& x) -> Tensors { return {graft::linearCrossEntropyTwin(x[0], x[1], labels)}; }, inputs,
                             {at::scalar_tensor(2)}, at::kDouble);
  const auto [losses, predictions] = graft::linearCrossEntropyPerToken(inputs[0], inputs[1], labels);
  const auto logits = at::mm(inputs[0], inputs[1].t());
  comparisons += 5;
  for (size_t i = 0; i < ours.size(); ++i)
    if (!(distance(ours[i], twin[i]) < 1e-12)) ++failures, std::printf("cross-entropy in fp64, result %zu\n", i);
  if (!(std::abs(losses.sum().item<double>() / twin[0].item<double>() - 1) < 1e-5) || !predictions.equal(logits.argmax(-1)))
    ++failures, std::printf("cross-entropy a token in fp64\n");

  Tensors parameters, others, means, squares, otherMeans, otherSquares;
  for (const int64_t count : {1, 3001}) {
    parameters.push_back(at::randn({count}, at::kDouble)), others.push_back(parameters.back().clone());
    for (auto* states : {&means, &squares, &otherMeans, &otherSquares}) states->push_back(at::zeros({count}, at::kDouble));
  }
  for (int step = 1; step <= 5; ++step) {
    Tensors gradients;
    for (const auto& parameter : parameters) gradients.push_back(at::randn_like(parameter));
    graft::adamWStep(parameters, gradients, means, squares, {3e-3, 0.9, 0.999, 1e-8, 0.1}, step);
    graft::adamWStepTwin(others, gradients, otherMeans, otherSquares, {3e-3, 0.9, 0.999, 1e-8, 0.1}, step);
  }
  for (size_t i = 0; i < parameters.size(); ++i)
    if (!(distance(parameters[i], others[i]) < 1e-12)) ++failures, std::printf("AdamW in fp64: %.1e\n", distance(parameters[i], others[i]));
}

/// The arithmetic of the kernels for GPUs beside the twins.
static void gpuKernels() {
  const auto expectSame = [](const char* name, const Tensor& found, const Tensor& wanted, double limit) {
    ++comparisons;
    const double error = distance(found, wanted);
    if (!(error <= limit)) ++failures, std::printf("GPU kernel %s, %s: %.2e from the twin\n", name, found.toString().c_str(), error);
  };
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    using emulated::BFloat16;
    const bool isFloat = dtype == at::kFloat;
    const double limit = isFloat ? 1e-6 : 3e-3;
    const auto pointer = []<class T>(const Tensor& tensor, T*) { return static_cast<T*>(tensor.data_ptr()); };
    const auto both = [&](const auto& float32, const auto& bfloat16, const auto& call) {
      isFloat ? call(float32, static_cast<float*>(nullptr)) : call(bfloat16, static_cast<BFloat16*>(nullptr));
    };

    const auto gateUp = (at::randn({37, 2 * 45}) * 3).to(dtype), gradient = at::randn({37, 45}).to(dtype);
    const auto output = at::empty({37, 45}, gateUp.options()), gateUpGradient = at::empty_like(gateUp);
    both(emulated::swiGLUFloat, emulated::swiGLUBFloat16, [&](auto* kernel, auto* type) {
      emulated::launch(kernel, pointer(gateUp, type), pointer(output, type), 37, 45);
    });
    both(emulated::swiGLUBackwardFloat, emulated::swiGLUBackwardBFloat16, [&](auto* kernel, auto* type) {
      emulated::launch(kernel, pointer(gateUp, type), pointer(gradient, type), pointer(gateUpGradient, type), 37, 45);
    });
    const auto twin = evaluate([](const Tensors& x) -> Tensors { return {graft::swiGLUTwin(x[0].narrow(1, 0, 45), x[0].narrow(1, 45, 45))}; },
                               {gateUp}, {gradient}, at::kDouble);
    expectSame("SwiGLU", output, twin[0], limit);
    expectSame("SwiGLU, backward", gateUpGradient, twin[1], limit);

    for (const int64_t turned : {64, 20}) {
      const auto cosines = at::randn({29, turned}), sines = at::randn({29, turned});
      const auto x = at::randn({29, 5 * 64}).to(dtype), direction = at::randn({29, 5 * 64}).to(dtype);
      const auto forward = x.clone(), backward = direction.clone();
      both(emulated::rotateFloat, emulated::rotateBFloat16, [&](auto* kernel, auto* type) {
        emulated::launch(kernel, pointer(forward, type), cosines.data_ptr<float>(), sines.data_ptr<float>(), 29, 320, 4, 64, turned, 0);
        emulated::launch(kernel, pointer(backward, type), cosines.data_ptr<float>(), sines.data_ptr<float>(), 29, 320, 4, 64, turned, 1);
      });
      const auto turnedTwin = evaluate(
          [&](const Tensors& x) -> Tensors { return {graft::rotaryEmbeddingTwin(x[0], cosines.to(at::kDouble), sines.to(at::kDouble), 64, 4)}; },
          {x}, {direction}, at::kDouble);
      expectSame("rotary embedding", forward, turnedTwin[0], limit);
      expectSame("rotary embedding, backward", backward, turnedTwin[1], limit);
    }

    for (const auto encoding : {graft::Encoding::nf4, graft::Encoding::fp4, graft::Encoding::int8})
      for (const bool isNested : {false, true}) {
        if (isNested && encoding == graft::Encoding::int8) continue;
        const auto matrix = randomMatrix(encoding, 39, 130, isNested);
        const auto decoded = at::empty({39, 130}, at::TensorOptions(dtype));
        // The codes 0 to 15 decoded with the constant 1 are the type's values.
        graft::QuantizedMatrix all{encoding, 1, 16, at::arange(0, 256, 34, at::kByte) + 1, 64, at::ones({1})};
        const auto values = encoding == graft::Encoding::int8 ? Tensor() : graft::dequantizeTwin(all, at::kFloat).flatten();
        const auto bytes = [](const Tensor& tensor) { return static_cast<const unsigned char*>(tensor.data_ptr()); };
        const auto floats = [](const Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; };
        if (encoding == graft::Encoding::int8)
          both(emulated::decodeInt8Float, emulated::decodeInt8BFloat16, [&](auto* kernel, auto* type) {
            emulated::launch(kernel, static_cast<const signed char*>(matrix.codes.data_ptr()), floats(matrix.constants), 39, 130,
                             pointer(decoded, type));
          });
        else
          both(emulated::decodeFourBitFloat, emulated::decodeFourBitBFloat16, [&](auto* kernel, auto* type) {
            emulated::launch(kernel, bytes(matrix.codes), floats(values), isNested ? nullptr : floats(matrix.constants),
                             isNested ? bytes(matrix.constants) : nullptr, floats(matrix.nestedTable), floats(matrix.nestedConstants),
                             matrix.nestedOffset, matrix.nestedBlockSize, matrix.blockSize, 39 * 130, pointer(decoded, type));
          });
        expectSame("decoding", decoded, graft::dequantizeTwin(matrix, dtype), isFloat ? 1e-6 : 1e-3);
      }
  }
}

static void elementwise() {
  agree(
      "RMSNorm", [](const Tensors& x) -> Tensors { return {graft::rmsNorm(x[0], x[1], 1e-5)}; },
      [](const Tensors& x) -> Tensors { return {graft::rmsNormTwin(x[0], x[1], 1e-5)}; },
      {at::randn({301, 576}), at::rand({576}) + 0.5}, {at::randn({301, 576})});
  agree(
      "RMSNorm with residual",
      [](const Tensors& x) -> Tensors {
        const auto [sum, y] = graft::addRMSNorm(x[0], x[1], x[2], 1e-5);
        return {sum, y};
      },
      [](const Tensors& x) -> Tensors {
        const auto sum = x[0] + x[1];
        return {sum, graft::rmsNormTwin(sum, x[2], 1e-5)};
      },
      {at::randn({301, 576}), at::randn({301, 576}), at::rand({576}) + 0.5},
      {at::randn({301, 576}), at::randn({301, 576})});
  agree(
      "SwiGLU", [](const Tensors& x) -> Tensors { return {graft::swiGLU(x[0], x[1])}; },
      [](const Tensors& x) -> Tensors { return {graft::swiGLUTwin(x[0], x[1])}; },
      {at::randn({77, 203}) * 3, at::randn({77, 203})}, {at::randn({77, 203})});
  agree(
      "SwiGLU, fused", [](const Tensors& x) -> Tensors { return {graft::swiGLUFused(x[0])}; },
      [](const Tensors& x) -> Tensors { return {graft::swiGLUTwin(x[0].narrow(1, 0, 203), x[0].narrow(1, 203, 203))}; },
      {at::randn({77, 406}) * 3}, {at::randn({77, 203})});
  for (const int64_t turned : {64, 32}) {
    const auto cosines = at::randn({99, turned}), sines = at::randn({99, turned});
    agree(
        "rotary embedding",
        [=](const Tensors& x) -> Tensors { return {graft::rotaryEmbedding_(x[0] * 1, cosines, sines, 64, 4)}; },
        [=](const Tensors& x) -> Tensors { return {graft::rotaryEmbeddingTwin(x[0] * 1, cosines, sines, 64, 4)}; },
        {at::randn({99, 320})}, {at::randn({99, 320})});
  }
}

/// A row of a product is the same, to the bit, however many others there are and whatever tiles they make.
static void productRows() {
  const auto x = at::randn({170, 70}), w = at::randn({75, 70});
  for (int wanted = 3; wanted >= 0; --wanted) {
    const auto variant = static_cast<graft::Variant>(wanted);
    if (graft::setVariant(variant) != variant) continue;
    for (const auto dtype : {at::kFloat, at::kBFloat16})
      for (const bool transposed : {true, false}) {
        const auto left = x.to(dtype), right = (transposed ? w : w.t().contiguous()).to(dtype);
        const auto whole = graft::sumOfProducts({{left, right, transposed}}, 75);
        for (int64_t rows = 1; rows < 170; ++rows) {
          ++comparisons;
          if (!at::equal(graft::sumOfProducts({{left.narrow(0, 0, rows), right, transposed}}, 75), whole.narrow(0, 0, rows)))
            ++failures, std::printf("product of %d rows, variant %d: rows differ\n", static_cast<int>(rows), wanted);
        }
      }
  }
  graft::setVariant(graft::Variant::avx512bf16);
}

/// Sizes that fill the product kernel's panels and vectors, and sizes that leave rests of both.
static void lora() {
  struct Size {
    int64_t tokens, inputs, outputs, firstOutput, rank;
  };
  for (const Size size : {Size{340, 192, 256, 192, 8}, {101, 190, 250, 147, 6}, {49, 34, 33, 7, 2}, {60, 48, 20, 3, 1}, {1, 192, 250, 147, 8},
                        {5, 131, 33, 7, 2}, {8, 64, 256, 192, 4}, {47, 190, 77, 3, 2}})
    for (const bool dropout : {false, true}) {
      const auto adapters = [=](const Tensors& x) {
        return std::vector<graft::LowRankAdapter>{{x[1], x[2], 2.0, 0}, {x[3], x[4], 0.5, size.firstOutput}};
      };
      const auto weight = at::randn({size.outputs, size.inputs}) * 0.05, bias = at::randn({size.outputs});
      const auto mask = dropout ? (at::rand({size.tokens, size.inputs}) > 0.1).to(at::kFloat) / 0.9 : Tensor();
      const auto arguments = [=](const Tensors& x) {
        return std::make_tuple(weight.to(x[0].scalar_type()), bias.to(x[0].scalar_type()),
                               dropout ? mask.to(x[0].scalar_type()) : Tensor());
      };
      const int64_t rest = size.outputs - size.firstOutput;
      const Function twin = [=](const Tensors& x) -> Tensors {
        const auto [w, c, m] = arguments(x);
        return {graft::loraLinearTwin(x[0], w, c, adapters(x), m)};
      };
      const Tensors inputs{at::randn({size.tokens, size.inputs}), at::randn({size.rank, size.inputs}) * 0.05,
                           at::randn({size.firstOutput, size.rank}) * 0.05, at::randn({4, size.inputs}) * 0.05,
                           at::randn({rest, 4}) * 0.05};
      const Tensors gradients{at::randn({size.tokens, size.outputs})};
      agree(
          "LoRA",
          [=](const Tensors& x) -> Tensors {
            const auto [w, c, m] = arguments(x);
            return {graft::loraLinear(x[0], w, c, adapters(x), m)};
          },
          twin, inputs, gradients);
      // Two matrices in two places instead of one.
      agree(
          "LoRA around two weights",
          [=](const Tensors& x) -> Tensors {
            const auto [w, c, m] = arguments(x);
            const Tensors parts{w.narrow(0, 0, size.firstOutput).clone(), w.narrow(0, size.firstOutput, rest).clone()};
            return {graft::loraLinear(x[0], parts, c, adapters(x), m)};
          },
          twin, inputs, gradients);
      agree(
          "frozen linear",
          [=](const Tensors& x) -> Tensors {
            const auto [w, c, m] = arguments(x);
            return {graft::linear(x[0], w, c)};
          },
          [=](const Tensors& x) -> Tensors {
            const auto [w, c, m] = arguments(x);
            return {at::linear(x[0], w, c)};
          },
          {inputs[0]}, gradients);
    }
}

/// Layers on one new token of each sequence: fresh sequences, long ones in several parts, with biases and without.
static void decoding() {
  struct Sizes {
    int64_t hidden, heads, keyHeads, headSize, size, window;
    std::vector<int32_t> lengths;
    bool biases;
  };
  for (const Sizes& sizes : {Sizes{192, 3, 1, 64, 256, 0, {0}, false}, {64, 4, 2, 32, 176, 0, {17, 0, 1100}, true},
                             {144, 14, 2, 64, 272, 600, {5, 900, 1023, 511, 512, 1, 2, 3}, true}}) {
    const int64_t n = static_cast<int64_t>(sizes.lengths.size()), head = sizes.headSize;
    const int64_t columns = (sizes.heads + 2 * sizes.keyHeads) * head;
    const auto angles = at::rand({n, head}) * 6;
    const auto cosines = at::cos(angles), sines = at::sin(angles);
    const auto layer = [=](const Tensors& x) {
      const auto bias = [&](int64_t i) { return sizes.biases ? x[i] : Tensor(); };
      return graft::DecoderLayerWeights{x[1], x[2], x[3], bias(4), x[5], bias(6), x[7], bias(8), x[9], bias(10),
                                        1e-5, 1e-6, 1 / std::sqrt(double(head)), sizes.keyHeads, sizes.window};
    };
    const auto weight = [](int64_t outputs, int64_t inputs) { return at::randn({outputs, inputs}) / std::sqrt(double(inputs)); };
    const Function kernel = [=](const Tensors& x) -> Tensors {
      return {graft::decoderLayerStep(x[0], layer(x), {x[11], x[12], sizes.lengths.data()}, cosines, sines), x[11], x[12]};
    };
    const Function twin = [=](const Tensors& x) -> Tensors {
      return {graft::decoderLayerStepTwin(x[0], layer(x), {x[11], x[12], sizes.lengths.data()}, cosines, sines), x[11], x[12]};
    };
    const Function ofPacked = [=](const Tensors& x) -> Tensors {
      auto weights = layer(x);
      const auto packed = [](const Tensor& weight) {
        return weight.scalar_type() == at::kBFloat16 ? graft::pack(weight) : std::nullopt;
      };
      weights.packed = {packed(x[3]), packed(x[5]), packed(x[7]), packed(x[9])};
      return {graft::decoderLayerStep(x[0], weights, {x[11], x[12], sizes.lengths.data()}, cosines, sines), x[11], x[12]};
    };
    const Tensors inputs{at::randn({n, sizes.hidden}), at::rand({sizes.hidden}) + 0.5, at::rand({sizes.hidden}) + 0.5,
                         weight(columns, sizes.hidden), at::randn({columns}), weight(sizes.hidden, sizes.heads * head),
                         at::randn({sizes.hidden}), weight(2 * sizes.size, sizes.hidden), at::randn({2 * sizes.size}),
                         weight(sizes.hidden, sizes.size), at::randn({sizes.hidden}),
                         at::randn({n, 1200, sizes.keyHeads, head}), at::randn({n, 1200, sizes.keyHeads, head})};
    agree("decoder step", kernel, twin, inputs, {});
    agree("decoder step, packed weights", ofPacked, twin, inputs, {});
  }
}

/// Packed matrices are unpacked to the bit, whatever their numbers are; products with them are those with the matrix: to the bit where
/// a row has no exceptions, else within the rounding of its sum.
static void packing() {
  const auto check = [](bool isRight, const char* what, int64_t rows, int64_t columns) {
    ++comparisons;
    if (!isRight) ++failures, std::printf("packing, %lld x %lld: %s\n", (long long)rows, (long long)columns, what);
  };
  for (int wanted = 3; wanted >= 0; --wanted) {
    const auto variant = static_cast<graft::Variant>(wanted);
    if (graft::setVariant(variant) != variant) continue;
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 64}, {5, 128}, {70, 576}, {131, 896}, {33, 4864}}) {
      auto numbers = at::randn({rows, columns}).to(at::kBFloat16);
      numbers.narrow(1, 3, 2).zero_().neg_();
      auto plain = numbers.clone();
      const auto largest = plain.abs().amax(1, true).to(at::kFloat);
      plain.masked_fill_(plain.to(at::kFloat).abs() < largest * std::pow(2.0, -13), 0.25);
      auto odd = numbers.clone();
      odd[0][7] = 1e-39;  // without an exponent
      odd[rows / 2][columns - 1] = 1e-30;
      odd[rows - 1][0] = -3e-20;
      for (const auto& matrix : {plain, odd}) {
        const bool isPlain = matrix.is_same(plain);
        const auto packed = graft::pack(matrix);
        // One row of 64 has more exceptions than are taken.
        check(packed.has_value() || (!isPlain && rows == 1), "not packed", rows, columns);
        if (!packed) continue;
        check(at::equal(graft::unpack(*packed).view(at::kShort), matrix.view(at::kShort)), "unpacked to others", rows, columns);
        check((packed->exceptions.numel() > rows + 1) == !isPlain, "exceptions", rows, columns);
        for (const int64_t vectors : {1, 2, 7, 8, 13, 47}) {
          const auto x = at::randn({vectors, columns}).to(at::kBFloat16), bias = at::randn({rows}).to(at::kBFloat16);
          const auto expected = graft::fewRowsLinear(x, matrix, bias), found = graft::fewRowsLinear(x, matrix, bias, &*packed);
          const auto reference = at::linear(x.to(at::kDouble), matrix.to(at::kDouble), bias.to(at::kDouble));
          check(isPlain ? at::equal(found, expected) : distance(found, reference) <= 1.01 * distance(expected, reference),
                "product", rows, columns);
        }
      }
    }
    const auto wide = at::randn({64, 256}).to(at::kBFloat16) * at::exp(20 * at::randn({64, 256})).to(at::kBFloat16);
    check(!graft::pack(wide).has_value(), "packed with too many exceptions", 64, 256);
    check(!graft::pack(wide.narrow(1, 0, 96)).has_value(), "packed without whole groups", 64, 96);
  }
}

/// Decoding on the way into a product gives the very numbers of a decoded matrix, in each direction; products, gradients
/// and the loss agree with those of a decoded one.
static void quantizedProducts() {
  using graft::Encoding;
  for (int32_t code = 0; code <= static_cast<int32_t>(Encoding::q6_K) + 1; ++code) {
    const bool isDoubled = code > static_cast<int32_t>(Encoding::q6_K);
    const auto encoding = isDoubled ? Encoding::nf4 : static_cast<Encoding>(code);
    const auto name = "quantized " + std::to_string(code);
    const bool isFree = graft::blockShape(encoding).elements == 1;
    // Rows that end within a tile; columns too, in encodings that allow it.
    const std::vector<graft::QuantizedMatrix> parts{randomMatrix(encoding, 149, isFree ? 333 : 512, isDoubled),
                                                    randomMatrix(encoding, 32, isFree ? 333 : 512, isDoubled)};
    const int64_t rows = 181, columns = parts[0].columns;
    const auto decoded = [=](at::ScalarType dtype) {
      return at::cat({graft::dequantize(parts[0], dtype), graft::dequantize(parts[1], dtype)});
    };
    for (int wanted = 3; wanted >= 0; --wanted) {
      const auto variant = static_cast<graft::Variant>(wanted);
      if (graft::setVariant(variant) != variant) continue;
      for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const auto ones = at::eye(columns, at::TensorOptions().dtype(dtype)).requires_grad_();
        const auto output = graft::quantizedLinear(ones, parts, {}, {});
        const auto gradient = torch::autograd::grad({output}, {ones}, {at::eye(columns, rows, output.options())})[0];
        comparisons += 2;
        const auto dense = decoded(dtype);
        if (!at::equal(output.detach(), dense.t()) || !at::equal(gradient.narrow(0, 0, rows), dense))
          ++failures, std::printf("%s, variant %d: tiles differ from the decoded matrix\n", name.c_str(), wanted);
      }
    }
    const auto labels = at::randint(149, {70}, at::kLong), bias = at::randn({rows});
    for (const int64_t tokens : {9, 70}) {
      const auto adapters = [=](const Tensors& x) {
        return std::vector<graft::LowRankAdapter>{{x[1], x[2], 2.0, 0}, {x[3], x[4], 0.5, 149}};
      };
      agree(
          name,
          [=](const Tensors& x) -> Tensors {
            return {graft::quantizedLinear(x[0], parts, bias.to(x[0].scalar_type()), adapters(x))};
          },
          [=](const Tensors& x) -> Tensors {
            // What is computed is defined by the codes decoded in the type of the product.
            const auto type = x[0].scalar_type();
            return {graft::loraLinearTwin(x[0], decoded(at::kFloat).to(type), bias.to(type), adapters(x), {})};
          },
          {at::randn({tokens, columns}), at::randn({6, columns}) * 0.05, at::randn({149, 6}) * 0.05,
           at::randn({3, columns}) * 0.05, at::randn({32, 3}) * 0.05},
          {at::randn({tokens, rows})});
    }
    agree(
        name + ", cross-entropy",
        [=](const Tensors& x) -> Tensors { return {graft::linearCrossEntropy(x[0], parts[0], labels)}; },
        [=](const Tensors& x) -> Tensors {
          return {graft::linearCrossEntropyTwin(x[0], graft::dequantize(parts[0], at::kFloat).to(x[0].scalar_type()), labels)};
        },
        {at::randn({70, columns})}, {at::scalar_tensor(1)}, 1.25);
  }
}

/// A depth that is cut into blocks, and results whose rows are apart.
static void deepProducts() {
  for (int wanted = 3; wanted >= 0; --wanted) {
    const auto variant = static_cast<graft::Variant>(wanted);
    if (graft::setVariant(variant) != variant) continue;
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const auto left = at::randn({61, 30001}).to(dtype), right = at::randn({30001, 83}).to(dtype);
      const auto wide = at::zeros({61, 200}, left.options());
      graft::sumOfProducts({{left, right, false}, {left, right.t().contiguous(), true}}, 83, {}, wide.narrow(1, 50, 83));
      const auto reference = 2 * at::mm(left.to(at::kDouble), right.to(at::kDouble));
      const double error = distance(wide.narrow(1, 50, 83), reference), limit = dtype == at::kFloat ? 1e-5 : 3e-3;
      const double beside = (wide.narrow(1, 0, 50).norm() + wide.narrow(1, 133, 67).norm()).item<double>();
      comparisons += 2;
      if (!(error <= limit) || beside != 0)
        ++failures, std::printf("deep product, variant %d: %.2e from fp64, %.1e beside it\n", wanted, error, beside);
    }
  }
}

/// Products of bytes with further terms, in both directions, of several matrices behind one another and with a depth of several blocks, beside
/// the same numbers in fp64; and the bytes beside the numbers that they stand for.
static void byteProducts() {
  struct Size {
    int64_t tokens, inputs;
    std::vector<int64_t> outputs;
  };
  for (int wanted = 3; wanted >= 0; --wanted) {
    const auto variant = static_cast<graft::Variant>(wanted);
    if (graft::setVariant(variant) != variant) continue;
    for (const Size& size : {Size{61, 192, {64, 32}}, {50, 190, {77, 5, 19}}, {97, 30001, {83}}, {13, 7, {3}}})
      for (const auto dtype : {at::kFloat, at::kBFloat16})
        for (const bool transposed : {true, false}) {
          std::vector<Tensor> codes, constants;
          for (const int64_t outputs : size.outputs) {
            const auto matrix = randomMatrix(graft::Encoding::int8, outputs, size.inputs);
            codes.push_back(matrix.codes.view({outputs, size.inputs}));
            constants.push_back(matrix.constants.flatten());
          }
          const auto scales = at::cat(constants) / 127, right = at::cat(codes).to(at::kDouble);
          const int64_t outputs = right.size(0), depth = transposed ? size.inputs : outputs,
                        columns = transposed ? outputs : size.inputs;
          const auto x = at::randn({size.tokens, depth}).to(dtype);
          const auto [bytes, tokenScales] = graft::quantizeTokens(x, transposed ? Tensor() : scales);
          const auto low = at::randn({size.tokens, 5}).to(dtype), b = at::randn({columns, 5}).to(dtype),
                     bias = at::randn({columns}).to(dtype);
          const auto wide = at::zeros({size.tokens, columns + 9}, x.options());
          auto output = wide.narrow(1, 4, columns);
          graft::sumOfProducts({bytes, tokenScales, codes, transposed, transposed ? scales : Tensor()}, {{low, b}}, bias, output);

          const auto scaled = transposed ? x.to(at::kDouble) : x.to(at::kDouble) * scales;
          const auto whole = (bytes.narrow(1, 0, depth).to(at::kDouble) - 128), size64 = tokenScales.to(at::kDouble).unsqueeze(1);
          const double furthest = (whole - scaled / size64).abs().max().item<double>();
          auto reference = at::mm(whole * size64, transposed ? (right * scales.unsqueeze(1)).t() : right);
          reference = reference + at::mm(low.to(at::kDouble), b.to(at::kDouble).t()) + bias.to(at::kDouble);
          const double error = distance(output, reference), limit = dtype == at::kFloat ? 1e-5 : 3e-3;
          const double beside = (wide.narrow(1, 0, 4).norm() + wide.narrow(1, columns + 4, 5).norm()).item<double>();
          comparisons += 3;
          if (!(error <= limit) || beside != 0 || !(furthest <= 0.5001))
            ++failures, std::printf("product of bytes, variant %d, %lld x %lld%s: %.2e from fp64, %.1e beside it, bytes %.4f off\n", wanted,
                                    (long long)depth, (long long)columns, transposed ? "" : ", not transposed", error, beside, furthest);
        }
  }
  auto broken = at::randn({3, 40});
  broken[1][5] = std::nan("");
  const auto scales = std::get<1>(graft::quantizeTokens(broken));
  comparisons += 1;
  if (!std::isnan(scales[1].item<float>()) || !std::isfinite(scales[0].item<float>()))
    ++failures, std::printf("product of bytes: a NaN is lost\n");
}

static void optimizer() {
  Tensors ours, means, squares, theirs;
  for (const int64_t count : {1, 37, 20001, 40007}) {
    ours.push_back(at::randn({count}));
    theirs.push_back(ours.back().clone().requires_grad_());
    means.push_back(at::zeros({count}));
    squares.push_back(at::zeros({count}));
  }
  torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(3e-3).weight_decay(0.1));
  for (int step = 1; step <= 20; ++step) {
    Tensors gradients;
    for (size_t i = 0; i < ours.size(); ++i) {
      gradients.push_back(at::randn_like(ours[i]) * 1e-3);
      theirs[i].mutable_grad() = gradients[i].clone();
    }
    graft::adamWStep(ours, gradients, means, squares, {3e-3, 0.9, 0.999, 1e-8, 0.1}, step);
    reference.step();
  }
  for (size_t i = 0; i < ours.size(); ++i) {
    ++comparisons;
    const double error = distance(ours[i], theirs[i].detach());
    if (!(error < 1e-6)) ++failures, std::printf("AdamW: %.2e from torch::optim\n", error);
  }
}

int main() {
  at::manual_seed(0);
  attention();
  sharedPrefix();
  loss();
  elementwise();
  elsewhere();
  gpuKernels();
  productRows();
  lora();
  decoding();
  packing();
  quantizedProducts();
  deepProducts();
  byteProducts();
  optimizer();
  std::printf("%d comparisons, %d failures\n", comparisons, failures);
  return failures == 0 ? 0 : 1;
}
