// The last projection and the cross-entropy in one, so that the logits [tokens, vocabulary] never exist:
//
//   z = h Wᵀ,  loss = Σ (log Σ exp z − z[label]),  dz = softmax(z) − onehot(label),  dh = dz W,  dW = dzᵀ h
//
// Rows are taken in chunks. The forward pass overwrites a chunk's logits by their gradient and multiplies it at once;
// the backward pass only scales. Products are in the dtype of the hidden states, statistics in fp32, the sum in fp64.
//
// A quantized weight is decoded on its way into the products, twice for each chunk of rows: once for the logits, once for dh.

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

/// One row of logits.
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

bool hasKernel(const at::Tensor& hidden, const at::Tensor& weight) {
  return hasKernel(hidden) && hidden.scalar_type() == weight.scalar_type();
}

void check(const at::Tensor& hidden, at::IntArrayRef weight, const at::Tensor& labels) {
  TORCH_CHECK(hidden.dim() == 2 && weight.size() == 2 && hidden.size(1) == weight[1],
              "cross-entropy: hidden states must be [tokens, hidden] and weights [vocabulary, hidden], not ",
              hidden.sizes(), " and ", weight);
  TORCH_CHECK(labels.dim() == 1 && labels.size(0) == hidden.size(0) && labels.scalar_type() == at::kLong,
              "cross-entropy: labels must be int64 [", hidden.size(0), "], not ", labels.toString(), labels.sizes());
}

/// Loss and prediction of each row; with `gradient`, logits are overwritten by softmax − onehot.
void crossEntropyRows(const at::Tensor& logits, const int64_t* labels, CrossEntropyRow* rows, bool gradient) {
  const int64_t vocabulary = logits.size(1);
  parallelFor(logits.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (logits.scalar_type() == at::kFloat)
        rows[row] = GRAFT_DISPATCH(crossEntropyRowFloat, logits.data_ptr<float>() + row * vocabulary, vocabulary,
                                   labels[row], gradient);
      else
        rows[row] = GRAFT_DISPATCH(crossEntropyRowBFloat16, logits.data_ptr<at::BFloat16>() + row * vocabulary,
                                   vocabulary, labels[row], gradient);
    }
  });
}

/// Calls `body(firstRow, logits, rows)` for chunks of rows.
template <class Body>
void forEachChunk(const at::Tensor& hidden, const FrozenWeight& weight, const at::Tensor& labels, bool gradient,
                  const Body& body) {
  const int64_t count = hidden.size(0), vocabulary = weight.rows();
  const auto contiguousLabels = labels.contiguous();
  const int64_t* label = constData<int64_t>(contiguousLabels);
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK(label[i] >= 0 && label[i] < vocabulary, "cross-entropy: label ", label[i], " of token ", i,
                " is not in the vocabulary of ", vocabulary, "; leave unsupervised positions out");
  const int64_t most = std::max<int64_t>(1, chunkBytes / (vocabulary * static_cast<int64_t>(hidden.element_size())));
  const int64_t chunks = (count + most - 1) / most;
  const auto logits =
      chunks == 0 ? at::Tensor() : at::empty({(count + chunks - 1) / chunks, vocabulary}, hidden.options());
  std::vector<CrossEntropyRow> rows;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = count * chunk / chunks, size = count * (chunk + 1) / chunks - first;
    auto part = logits.narrow(0, 0, size);
    weight.linear(hidden.narrow(0, first, size), std::nullopt, {}, part);
    rows.resize(size);
    crossEntropyRows(part, label + first, rows.data(), gradient);
    body(first, part, rows);
  }
}

/// Each position's loss and most likely token.
std::tuple<at::Tensor, at::Tensor> perToken(const at::Tensor& hidden, const FrozenWeight& weight,
                                            const at::Tensor& labels) {
  auto losses = at::empty({hidden.size(0)}, hidden.options().dtype(at::kFloat));
  auto predictions = at::empty({hidden.size(0)}, hidden.options().dtype(at::kLong));
  float* loss = losses.data_ptr<float>();
  int64_t* prediction = predictions.data_ptr<int64_t>();
  forEachChunk(hidden.contiguous(), weight, labels, false,
               [&](int64_t first, const at::Tensor&, const std::vector<CrossEntropyRow>& rows) {
                 for (size_t i = 0; i < rows.size(); ++i) {
                   loss[first + i] = rows[i].loss;
                   prediction[first + i] = rows[i].prediction;
                 }
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
    // fp32: the sum over chunks.
    if (weightGradientNeeded) weightGradient = at::zeros(trained->sizes(), trained->options().dtype(at::kFloat));
    double total = 0;
    const auto body = [&](int64_t first, const at::Tensor& logits, const std::vector<CrossEntropyRow>& rows) {
      for (const auto& row : rows) total += row.loss;
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
    return at::scalar_tensor(total, hidden.options().dtype(at::kFloat));
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
  if (!hasKernel(hidden, weight)) return linearCrossEntropyTwin(hidden, weight, labels);
  const bool recording = at::GradMode::is_enabled();
  const bool isTrained = recording && weight.requires_grad();
  return LinearCrossEntropy::apply(hidden.contiguous(), c10::make_intrusive<FrozenWeight>(weight.detach()),
                                   isTrained ? std::optional<at::Tensor>(weight) : std::nullopt, labels,
                                   recording && hidden.requires_grad());
}

at::Tensor linearCrossEntropy(const at::Tensor& hidden, const QuantizedMatrix& weight, const at::Tensor& labels) {
  const auto frozen = c10::make_intrusive<FrozenWeight>(std::vector<QuantizedMatrix>{weight});
  check(hidden, {weight.rows, weight.columns}, labels);
  if (!hasKernel(hidden)) return linearCrossEntropyTwin(hidden, dequantize(weight, hidden.scalar_type()), labels);
  return LinearCrossEntropy::apply(hidden.contiguous(), frozen, std::optional<at::Tensor>(), labels,
                                   at::GradMode::is_enabled() && hidden.requires_grad());
}

std::tuple<at::Tensor, at::Tensor> linearCrossEntropyPerToken(const at::Tensor& hidden, const at::Tensor& weight,
                                                              const at::Tensor& labels) {
  check(hidden, weight.sizes(), labels);
  const at::NoGradGuard inference;
  if (!hasKernel(hidden, weight)) {
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
  if (!hasKernel(hidden)) return linearCrossEntropyPerToken(hidden, dequantize(weight, hidden.scalar_type()), labels);
  return perToken(hidden, frozen, labels);
}

}  // namespace graft
