// The last projection and the cross-entropy in one, so that the logits [tokens, vocabulary] never exist:
//
//   z = h Wᵀ,  loss = Σ (log Σ exp z − z[label]),  dz = softmax(z) − onehot(label),  dh = dz W,  dW = dzᵀ h
//
// Rows are taken in chunks. The forward pass overwrites a chunk's logits by their gradient and multiplies it at once;
// the backward pass only scales. Products are in the dtype of the hidden states, statistics in fp32, the sum in fp64.
//
// A quantized weight is decoded on its way into the products, twice for each chunk of rows: once for the logits, once for dh.
//
// The rows of a chunk have a kernel on the CPU. Elsewhere they are a few operations of ATen's, on a chunk that is as small.

#include "Kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "Parallel.h"
#include "Quantized/FrozenWeight.h"
#include "SIMD/Variant.h"

namespace graft {

/// One row of logits, of the kernel.
struct CrossEntropyRow {
  float loss;
  int64_t prediction;
};

}  // namespace graft

#define GRAFT_LOOPS "../LinearCrossEntropyLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

/// Bytes of logits in a chunk. A chunk reads the whole weight matrix, so larger ones are faster; memory grows with them.
constexpr int64_t chunkBytes = int64_t{64} << 20;

/// Rows of the vocabulary whose weight gradient is computed at once.
constexpr int64_t vocabularySlice = 8192;

using Weight = c10::intrusive_ptr<FrozenWeight>;

bool hasKernel(const at::Tensor& hidden) {
  return hidden.device().is_cpu() && (hidden.scalar_type() == at::kFloat || hidden.scalar_type() == at::kBFloat16);
}

/// Whether the logits are made chunk by chunk. Not in fp16: its gradients need the loss's scale before they are rounded, and here they
/// are made without it.
bool hasChunks(const at::Tensor& hidden) { return hidden.is_floating_point() && hidden.scalar_type() != at::kHalf; }

bool hasChunks(const at::Tensor& hidden, const at::Tensor& weight) {
  return hasChunks(hidden) && hidden.scalar_type() == weight.scalar_type();
}

void check(const at::Tensor& hidden, at::IntArrayRef weight, const at::Tensor& labels) {
  TORCH_CHECK(hidden.dim() == 2 && weight.size() == 2 && hidden.size(1) == weight[1],
              "cross-entropy: hidden states must be [tokens, hidden] and weights [vocabulary, hidden], not ",
              hidden.sizes(), " and ", weight);
  TORCH_CHECK(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong,
              "cross-entropy: labels must be int64 [", hidden.size(0), "], not ", labels.toString(), labels.sizes());
}

/// What a chunk of rows gives, on its device.
struct ChunkRows {
  at::Tensor losses;       // fp32 [rows], fp64 of fp64
  at::Tensor predictions;  // int64 [rows]; with a gradient only of the kernel, which has them for nothing
};

/// Loss and prediction of each row; with `gradient`, logits are overwritten by softmax − onehot.
ChunkRows crossEntropyRows(at::Tensor& logits, const at::Tensor& labels, bool gradient) {
  const int64_t count = logits.size(0), vocabulary = logits.size(1);
  const auto type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  if (!hasKernel(logits)) {
    const auto target = labels.unsqueeze(1);
    const auto logProbabilities = at::log_softmax(logits, -1, type);
    ChunkRows rows{logProbabilities.gather(1, target).squeeze(1).neg(),
                   gradient ? at::Tensor() : logits.argmax(-1)};
    if (gradient) {
      // softmax − onehot is rounded once.
      const auto probabilities = logProbabilities.exp();
      probabilities.scatter_add_(1, target, at::full_like(target, -1, probabilities.options()));
      logits.copy_(probabilities);
    }
    return rows;
  }
  ChunkRows rows{at::empty({count}, logits.options().dtype(type)), at::empty({count}, logits.options().dtype(at::kLong))};
  auto* const loss = rows.losses.data_ptr<float>();
  auto* const prediction = rows.predictions.data_ptr<int64_t>();
  const auto* const label = constData<int64_t>(labels);
  parallelFor(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const CrossEntropyRow row =
          logits.scalar_type() == at::kFloat
              ? GRAFT_DISPATCH(crossEntropyRowFloat, logits.data_ptr<float>() + i * vocabulary, vocabulary, label[i], gradient)
              : GRAFT_DISPATCH(crossEntropyRowBFloat16, logits.data_ptr<at::BFloat16>() + i * vocabulary, vocabulary, label[i],
                               gradient);
      loss[i] = row.loss;
      prediction[i] = row.prediction;
    }
  });
  return rows;
}

/// Calls `body(firstRow, logits, rows)` for chunks of rows.
template <class Body>
void forEachChunk(const at::Tensor& hidden, const FrozenWeight& weight, const at::Tensor& labels, bool gradient,
                  const Body& body) {
  const int64_t count = hidden.size(0), vocabulary = weight.rows();
  const auto there = labels.to(hidden.device()).contiguous(), here = labels.to(at::kCPU).contiguous();
  const int64_t* label = constData<int64_t>(here);
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK(label[i] >= 0 && label[i] < vocabulary, "cross-entropy: label ", label[i], " of token ", i,
                " is not in the vocabulary of ", vocabulary, "; leave unsupervised positions out");
  const int64_t most = std::max<int64_t>(1, chunkBytes / (vocabulary * static_cast<int64_t>(hidden.element_size())));
  const int64_t chunks = (count + most - 1) / most;
  const auto logits =
      chunks == 0 ? at::Tensor() : at::empty({(count + chunks - 1) / chunks, vocabulary}, hidden.options());
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = count * chunk / chunks, size = count * (chunk + 1) / chunks - first;
    auto part = logits.narrow(0, 0, size);
    weight.linear(hidden.narrow(0, first, size), std::nullopt, {}, part);
    body(first, part, crossEntropyRows(part, there.narrow(0, first, size), gradient));
  }
}

/// Each position's loss and most likely token.
std::tuple<at::Tensor, at::Tensor> perToken(const at::Tensor& hidden, const FrozenWeight& weight,
                                            const at::Tensor& labels) {
  auto losses = at::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat));
  auto predictions = at::empty({hidden.size(0)}, hidden.options().dtype(at::kLong));
  forEachChunk(hidden.contiguous(), weight, labels, false,
               [&](int64_t first, const at::Tensor&, const ChunkRows& rows) {
                 losses.narrow(0, first, rows.losses.size(0)).copy_(rows.losses);
                 predictions.narrow(0, first, rows.predictions.size(0)).copy_(rows.predictions);
               });
  return {losses, predictions};
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  /// `trained` is the weight itself when it gets a gradient.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const Weight& weight,
                            const std::optional<at::Tensor>& trained, const at::Tensor& labels,
                            bool hiddenGradientNeeded) {
    const bool weightGradientNeeded = trained.has_value();
    at::Tensor hiddenGradient, weightGradient;
    if (hiddenGradientNeeded) hiddenGradient = at::empty(hidden.sizes(), hidden.options());
    const auto sumType = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    // fp32: the sum over chunks.
    if (weightGradientNeeded) weightGradient = at::zeros(trained->sizes(), trained->options().dtype(sumType));
    const auto total = at::zeros({}, hidden.options().dtype(at::kDouble));
    const auto body = [&](int64_t first, const at::Tensor& logits, const ChunkRows& rows) {
      total.add_(rows.losses.sum(at::kDouble));
      if (hiddenGradientNeeded) weight->inputGradient(logits, {}, hiddenGradient.narrow(0, first, logits.size(0)));
      if (weightGradientNeeded)
        for (int64_t slice = 0; slice < weight->rows(); slice += vocabularySlice) {
          const int64_t size = std::min(vocabularySlice, weight->rows() - slice);
          weightGradient.narrow(0, slice, size)
              .add_(at::mm(logits.narrow(1, slice, size).t(), hidden.narrow(0, first, logits.size(0))));
        }
    };
    forEachChunk(hidden, *weight, labels, hiddenGradientNeeded || weightGradientNeeded, body);
    if (weightGradientNeeded) weightGradient = weightGradient.to(trained->scalar_type());
    context->save_for_backward({hiddenGradient, weightGradient});
    return total.to(sumType);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto scaled = [&](const at::Tensor& gradient) {
      return gradient.defined() ? at::mul(gradient, gradients[0]) : at::Tensor();
    };
    // hidden, weight, trained, labels, whether a gradient is needed
    return {scaled(saved[0]), {}, scaled(saved[1]), {}, {}};
  }
};

}  // namespace

at::Tensor linearCrossEntropyTwin(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  check(hidden, weight.sizes(), labels);
  const auto logits = at::matmul(hidden, weight.t());
  return at::nll_loss(at::log_softmax(logits, -1, logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat),
                      labels, {}, at::Reduction::Sum);
}

at::Tensor linearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  check(hidden, weight.sizes(), labels);
  if (!hasChunks(hidden, weight)) return linearCrossEntropyTwin(hidden, weight, labels);
  const bool recording = at::GradMode::is_enabled();
  const bool isTrained = recording && weight.requires_grad();
  return LinearCrossEntropy::apply(hidden.contiguous(), c10::make_intrusive<FrozenWeight>(weight.detach()),
                                   isTrained ? std::optional<at::Tensor>(weight) : std::nullopt, labels,
                                   recording && hidden.requires_grad());
}

at::Tensor linearCrossEntropy(const at::Tensor& hidden, const QuantizedMatrix& weight, const at::Tensor& labels) {
  const auto frozen = c10::make_intrusive<FrozenWeight>(std::vector<QuantizedMatrix>{weight});
  check(hidden, {weight.rows, weight.columns}, labels);
  if (!hasChunks(hidden)) return linearCrossEntropyTwin(hidden, dequantize(weight, hidden.scalar_type()), labels);
  return LinearCrossEntropy::apply(hidden.contiguous(), frozen, std::optional<at::Tensor>(), labels,
                                   at::GradMode::is_enabled() && hidden.requires_grad());
}

std::tuple<at::Tensor, at::Tensor> linearCrossEntropyPerToken(const at::Tensor& hidden, const at::Tensor& weight,
                                                              const at::Tensor& labels) {
  check(hidden, weight.sizes(), labels);
  const at::NoGradGuard inference;
  if (!hasChunks(hidden, weight)) {
    const auto logits = at::matmul(hidden, weight.t()).to(at::kFloat);
    return {at::nll_loss(at::log_softmax(logits, -1), labels, {}, at::Reduction::None), logits.argmax(-1)};
  }
  return perToken(hidden, FrozenWeight(weight), labels);
}

std::tuple<at::Tensor, at::Tensor> linearCrossEntropyPerToken(const at::Tensor& hidden, const QuantizedMatrix& weight,
                                                              const at::Tensor& labels) {
  const FrozenWeight frozen(std::vector<QuantizedMatrix>{weight});
  check(hidden, {weight.rows, weight.columns}, labels);
  const at::NoGradGuard inference;
  if (!hasChunks(hidden)) return linearCrossEntropyPerToken(hidden, dequantize(weight, hidden.scalar_type()), labels);
  return perToken(hidden, frozen, labels);
}

}  // namespace graft
