// Ragged attention: softmax(scale · Q Kᵀ) V for each sequence and head, block by block, so that no score matrix is kept
// (FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691).
//
//   forward, for a block of queries, over blocks of keys:
//     S = K Qᵀ, m' = max(m, max S), P = exp(S − m'), l = l·exp(m − m') + ΣP, O = O·exp(m − m') + Pᵀ V;  O / l at the end
//   backward, with L = m + log l saved and δ = Σ dO ∘ O:
//     P = exp(S − L), dP = V dOᵀ, dS = P ∘ (dP − δ);  dV += P dO, dK += scale · dS Q, dQ += scale · dSᵀ K
//
// Blocks above the causal diagonal or outside the window are skipped. Heads that share keys read one packed copy of
// them. The products take bf16 words and add in fp32; statistics are fp32.
//
// On a GPU, in 16 bits, it is ATen's flash attention for sequences that lie one behind the other.

#include "Kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "Attention.h"
#include "ConstData.h"
#include "GPU/GPUKernels.h"
#include "Parallel.h"
#include "SIMD/Variant.h"

#define GRAFT_LOOPS "../AttentionLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

std::vector<AttentionSequence> sequencesOf(const at::Tensor& offsets, int64_t tokens) {
  TORCH_CHECK(
      offsets.device().is_cpu() && offsets.scalar_type() == at::kInt && offsets.dim() == 1 && offsets.numel() > 0,
      "attention: offsets must be an int32 tensor [sequences + 1] on the CPU, not ", offsets.toString(),
      offsets.sizes());
  const auto contiguous = offsets.contiguous();
  const int32_t* offset = constData<int32_t>(contiguous);
  std::vector<AttentionSequence> sequences;
  TORCH_CHECK(offset[0] == 0 && offset[offsets.numel() - 1] == tokens, "attention: offsets run from ", offset[0],
              " to ", offset[offsets.numel() - 1], ", but there are ", tokens, " tokens");
  for (int64_t n = 0; n + 1 < offsets.numel(); ++n) {
    TORCH_CHECK(offset[n] <= offset[n + 1], "attention: offsets must not fall, but ", offset[n], " is followed by ",
                offset[n + 1]);
    const int64_t start = offset[n], count = offset[n + 1] - offset[n];
    sequences.push_back({start, count, start, count});
  }
  return sequences;
}

void checkHeads(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, int64_t window) {
  TORCH_CHECK(query.dim() == 3, "attention: query must be [tokens, heads, headSize], not ", query.sizes());
  TORCH_CHECK(key.dim() == query.dim() && key.sizes() == value.sizes() && key.size(2) == query.size(2) &&
                  key.size(0) == query.size(0),
              "attention: key ", key.sizes(), " and value ", value.sizes(),
              " must be [tokens, keyHeads, headSize] for query ", query.sizes());
  TORCH_CHECK(key.size(1) > 0 && query.size(1) % key.size(1) == 0, "attention: ", query.size(1),
              " query heads cannot share ", key.size(1), " key heads evenly");
  TORCH_CHECK(query.scalar_type() == key.scalar_type() && key.scalar_type() == value.scalar_type(),
              "attention: query, key and value must have one dtype, not ", query.scalar_type(), ", ", key.scalar_type(),
              ", ", value.scalar_type());
  TORCH_CHECK(window >= 0, "attention: a window of ", window, " positions");
}

bool hasKernel(const at::Tensor& query) {
  const int64_t size = query.size(-1);
  return query.device().is_cpu() && (query.scalar_type() == at::kFloat || query.scalar_type() == at::kBFloat16) &&
         size >= 16 && size <= 256 && size % 16 == 0;
}

/// Whether ATen's flash attention computes this. It is there for chips from Ampere (8.0) on.
bool hasFlashAttention(const at::Tensor& query) {
  const int64_t size = query.size(-1);
  if (!query.is_cuda() || !(query.scalar_type() == at::kBFloat16 || query.scalar_type() == at::kHalf) || size > 256 || size % 8 != 0)
    return false;
  const int capability = computeCapability(query.device());
  return capability == 0 || capability >= 80;
}

/// `keyOffsets` int32 on the CPU, where each sequence's keys begin; of these it has `keyLengths` or, when undefined, all. Differentiable
/// without `keyLengths`.
at::Tensor flashAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const at::Tensor& offsets, const at::Tensor& keyOffsets, const at::Tensor& keyLengths,
                          double scale, bool causal, int64_t window) {
  const auto largest = [](const at::Tensor& bounds) { return bounds.numel() > 1 ? at::diff(bounds).max().item<int64_t>() : 0; };
  // In the order of the device's stream: every layer does this, and none needs to wait for it.
  const auto there = [&](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional<at::Tensor>(tensor.to(query.device(), tensor.scalar_type(), /*non_blocking=*/true))
                            : std::nullopt;
  };
  const auto queryBounds = there(offsets), keyBounds = keyOffsets.is_same(offsets) ? queryBounds : there(keyOffsets);
  const auto before = window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt;
  const auto after = window > 0 && causal ? std::optional<int64_t>(0) : std::nullopt;
  return std::get<0>(at::_flash_attention_forward(query, key, value, queryBounds, keyBounds, largest(offsets),
                                                  largest(keyOffsets), 0, causal, false, scale, before, after, there(keyLengths)));
}

/// With a contiguous last axis.
at::Tensor rows(const at::Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

template <class T, class Data = std::remove_const_t<T>>
HeadRows<T> headRows(const at::Tensor& x) {
  return {x.data_ptr<Data>(), x.stride(0), x.stride(1)};
}

struct AttentionOptions {
  double scale;
  bool causal;
  int64_t window;
};

template <class T>
AttentionProblem<T> makeProblem(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                at::Tensor& output, const at::Tensor& logSumExp,
                                const std::vector<AttentionSequence>& sequences, const AttentionOptions& options) {
  AttentionProblem<T> problem;
  problem.sequences = sequences.data();
  problem.sequenceCount = static_cast<int64_t>(sequences.size());
  problem.heads = query.size(1);
  problem.keyHeads = key.size(1);
  problem.headSize = query.size(2);
  problem.scale = static_cast<float>(options.scale);
  problem.causal = options.causal;
  problem.window = options.window;
  problem.query = headRows<const T>(query);
  problem.key = headRows<const T>(key);
  problem.value = headRows<const T>(value);
  problem.output = headRows<T>(output);
  problem.logSumExp = logSumExp.defined() ? logSumExp.data_ptr<float>() : nullptr;
  problem.tokens = query.size(0);
  return problem;
}

/// Output, and into `logSumExp` (when defined) what the backward pass needs.
at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                   const std::vector<AttentionSequence>& sequences, const AttentionOptions& options,
                   const at::Tensor& logSumExp) {
  auto output = at::empty(query.sizes(), query.options());
  if (query.scalar_type() == at::kFloat) {
    const auto problem = makeProblem<float>(query, key, value, output, logSumExp, sequences, options);
    GRAFT_DISPATCH(attentionForwardFloat, problem);
  } else {
    const auto problem = makeProblem<at::BFloat16>(query, key, value, output, logSumExp, sequences, options);
    GRAFT_DISPATCH(attentionForwardBFloat16, problem);
  }
  return output;
}

template <class T>
AttentionProblem<T> makeBackward(AttentionProblem<T> problem, const at::Tensor& outputGradient,
                                 const at::Tensor& queryGradient, const at::Tensor& keyGradient,
                                 const at::Tensor& valueGradient) {
  problem.outputGradient = headRows<const T>(outputGradient);
  problem.queryGradient = headRows<T>(queryGradient);
  problem.keyGradient = headRows<T>(keyGradient);
  problem.valueGradient = headRows<T>(valueGradient);
  return problem;
}

void backward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, at::Tensor output,
              const at::Tensor& logSumExp, const std::vector<AttentionSequence>& sequences,
              const AttentionOptions& options, const at::Tensor& outputGradient, const at::Tensor& queryGradient,
              const at::Tensor& keyGradient, const at::Tensor& valueGradient) {
  if (query.scalar_type() == at::kFloat) {
    const auto problem = makeBackward(makeProblem<float>(query, key, value, output, logSumExp, sequences, options),
                                      outputGradient, queryGradient, keyGradient, valueGradient);
    GRAFT_DISPATCH(attentionBackwardFloat, problem);
  } else {
    const auto problem =
        makeBackward(makeProblem<at::BFloat16>(query, key, value, output, logSumExp, sequences, options),
                     outputGradient, queryGradient, keyGradient, valueGradient);
    GRAFT_DISPATCH(attentionBackwardBFloat16, problem);
  }
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

AttentionOptions optionsOf(AutogradContext* context) {
  return {context->saved_data["scale"].toDouble(), context->saved_data["causal"].toBool(),
          context->saved_data["window"].toInt()};
}

void save(AutogradContext* context, const AttentionOptions& options) {
  context->saved_data["scale"] = options.scale;
  context->saved_data["causal"] = options.causal;
  context->saved_data["window"] = options.window;
}

struct RaggedAttention : torch::autograd::Function<RaggedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& query, const at::Tensor& key,
                            const at::Tensor& value, const at::Tensor& offsets, double scale, bool causal,
                            int64_t window) {
    const AttentionOptions options{scale, causal, window};
    const auto logSumExp = at::empty({query.size(1), query.size(0)}, query.options().dtype(at::kFloat));
    const auto output = graft::forward(query, key, value, sequencesOf(offsets, query.size(0)), options, logSumExp);
    context->save_for_backward({query, key, value, output, logSumExp, offsets});
    save(context, options);
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto &query = saved[0], &key = saved[1], &value = saved[2];
    const auto queryGradient = at::empty(query.sizes(), query.options());
    const auto keyGradient = at::empty(key.sizes(), key.options());
    const auto valueGradient = at::empty(value.sizes(), value.options());
    graft::backward(query, key, value, saved[3], saved[4], sequencesOf(saved[5], query.size(0)), optionsOf(context),
                    rows(gradients[0]), queryGradient, keyGradient, valueGradient);
    return {queryGradient, keyGradient, valueGradient, {}, {}, {}, {}};
  }
};

/// The three parts of a fused projection, as views.
std::tuple<at::Tensor, at::Tensor, at::Tensor> parts(const at::Tensor& fused, int64_t keyHeads) {
  const int64_t heads = fused.size(1) - 2 * keyHeads;
  return {fused.narrow(1, 0, heads), fused.narrow(1, heads, keyHeads), fused.narrow(1, heads + keyHeads, keyHeads)};
}

struct RaggedAttentionFused : torch::autograd::Function<RaggedAttentionFused> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& fused, const at::Tensor& offsets,
                            int64_t keyHeads, double scale, bool causal, int64_t window) {
    const auto [query, key, value] = parts(fused, keyHeads);
    const AttentionOptions options{scale, causal, window};
    const auto logSumExp = at::empty({query.size(1), query.size(0)}, query.options().dtype(at::kFloat));
    const auto output = graft::forward(query, key, value, sequencesOf(offsets, query.size(0)), options, logSumExp);
    context->save_for_backward({fused, output, logSumExp, offsets});
    save(context, options);
    context->saved_data["keyHeads"] = keyHeads;
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const int64_t keyHeads = context->saved_data["keyHeads"].toInt();
    const auto [query, key, value] = parts(saved[0], keyHeads);
    const auto gradient = at::empty(saved[0].sizes(), saved[0].options());
    const auto [queryGradient, keyGradient, valueGradient] = parts(gradient, keyHeads);
    graft::backward(query, key, value, saved[1], saved[2], sequencesOf(saved[3], query.size(0)), optionsOf(context),
                    rows(gradients[0]), queryGradient, keyGradient, valueGradient);
    return {gradient, {}, {}, {}, {}, {}};
  }
};

/// One sequence, [queries, heads, headSize] against [keys, keyHeads, headSize].
at::Tensor denseAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, double scale,
                          bool causal, int64_t window) {
  const int64_t group = query.size(1) / key.size(1);
  const auto q = query.transpose(0, 1);                            // [heads, queries, headSize]
  const auto k = key.transpose(0, 1).repeat_interleave(group, 0);  // [heads, keys, headSize]
  const auto v = value.transpose(0, 1).repeat_interleave(group, 0);
  auto scores = at::matmul(q, k.transpose(1, 2)) * scale;  // [heads, queries, keys]
  const auto options = query.options().dtype(at::kLong);
  const auto queryPosition = (at::arange(query.size(0), options) + (key.size(0) - query.size(0))).unsqueeze(1);
  const auto keyPosition = at::arange(key.size(0), options).unsqueeze(0);
  if (causal) scores = scores.masked_fill(keyPosition > queryPosition, -INFINITY);
  if (window > 0) scores = scores.masked_fill(keyPosition <= queryPosition - window, -INFINITY);
  const auto weights =
      at::softmax(scores, -1, query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).to(query.scalar_type());
  return at::matmul(weights, v).transpose(0, 1);
}

}  // namespace

at::Tensor raggedAttentionTwin(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                               const at::Tensor& offsets, double scale, bool causal, int64_t window) {
  checkHeads(query, key, value, window);
  std::vector<at::Tensor> outputs;
  for (const auto& sequence : sequencesOf(offsets, query.size(0)))
    outputs.push_back(denseAttention(query.narrow(0, sequence.queryStart, sequence.queryCount),
                                     key.narrow(0, sequence.keyStart, sequence.keyCount),
                                     value.narrow(0, sequence.keyStart, sequence.keyCount), scale, causal, window));
  return outputs.empty() ? at::empty_like(query) : at::cat(outputs);
}

/// Where there is no kernel.
static at::Tensor raggedAttentionElsewhere(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                           const at::Tensor& offsets, double scale, bool causal, int64_t window) {
  if (!hasFlashAttention(query)) return raggedAttentionTwin(query, key, value, offsets, scale, causal, window);
  sequencesOf(offsets, query.size(0));  // checks them
  return flashAttention(rows(query), rows(key), rows(value), offsets, offsets, {}, scale, causal, window);
}

at::Tensor raggedAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const at::Tensor& offsets, double scale, bool causal, int64_t window) {
  checkHeads(query, key, value, window);
  if (!hasKernel(query)) return raggedAttentionElsewhere(query, key, value, offsets, scale, causal, window);
  return RaggedAttention::apply(rows(query), rows(key), rows(value), offsets, scale, causal, window);
}

at::Tensor raggedAttentionFused(const at::Tensor& queryKeyValue, const at::Tensor& offsets, int64_t keyHeads,
                                double scale, bool causal, int64_t window) {
  TORCH_CHECK(queryKeyValue.dim() == 3 && keyHeads > 0 && queryKeyValue.size(1) > 2 * keyHeads,
              "attention: a fused projection must be [tokens, heads + 2·keyHeads, headSize], not ",
              queryKeyValue.sizes(), " with ", keyHeads, " key heads");
  const auto [query, key, value] = parts(queryKeyValue, keyHeads);
  checkHeads(query, key, value, window);
  if (!hasKernel(query)) return raggedAttentionElsewhere(query, key, value, offsets, scale, causal, window);
  return RaggedAttentionFused::apply(rows(queryKeyValue), offsets, keyHeads, scale, causal, window);
}

// MARK: Cached

namespace {

std::vector<AttentionSequence> cachedSequences(const at::Tensor& query, const at::Tensor& keyCache,
                                               const at::Tensor& valueCache, const at::Tensor& offsets,
                                               const at::Tensor& lengths) {
  TORCH_CHECK(query.dim() == 3 && keyCache.dim() == 4 && keyCache.sizes() == valueCache.sizes() &&
                  keyCache.size(3) == query.size(2),
              "attention: caches ", keyCache.sizes(), " and ", valueCache.sizes(),
              " must be [sequences, capacity, keyHeads, headSize] for query ", query.sizes());
  TORCH_CHECK(keyCache.size(2) > 0 && query.size(1) % keyCache.size(2) == 0, "attention: ", query.size(1),
              " query heads cannot share ", keyCache.size(2), " key heads evenly");
  TORCH_CHECK(query.scalar_type() == keyCache.scalar_type() && query.scalar_type() == valueCache.scalar_type(),
              "attention: query and caches must have one dtype, not ", query.scalar_type(), ", ",
              keyCache.scalar_type(), ", ", valueCache.scalar_type());
  auto sequences = sequencesOf(offsets, query.size(0));
  TORCH_CHECK(lengths.device().is_cpu() && lengths.scalar_type() == at::kInt && lengths.dim() == 1 &&
                  lengths.size(0) == static_cast<int64_t>(sequences.size()) && keyCache.size(0) >= lengths.size(0),
              "attention: ", sequences.size(), " sequences with lengths ", lengths.sizes(), " and a cache for ",
              keyCache.size(0));
  const auto contiguous = lengths.contiguous();
  const int32_t* length = constData<int32_t>(contiguous);
  for (size_t n = 0; n < sequences.size(); ++n) {
    TORCH_CHECK(length[n] >= sequences[n].queryCount && length[n] <= keyCache.size(1), "attention: sequence ", n,
                " has ", sequences[n].queryCount, " new tokens and a length of ", length[n], " in a cache of capacity ",
                keyCache.size(1));
    sequences[n].keyStart = static_cast<int64_t>(n) * keyCache.size(1);
    sequences[n].keyCount = length[n];
  }
  return sequences;
}

}  // namespace

at::Tensor cachedAttentionTwin(const at::Tensor& query, const at::Tensor& keyCache, const at::Tensor& valueCache,
                               const at::Tensor& offsets, const at::Tensor& lengths, double scale, bool causal,
                               int64_t window) {
  std::vector<at::Tensor> outputs;
  int64_t n = 0;
  for (const auto& sequence : cachedSequences(query, keyCache, valueCache, offsets, lengths)) {
    outputs.push_back(denseAttention(query.narrow(0, sequence.queryStart, sequence.queryCount),
                                     keyCache[n].narrow(0, 0, sequence.keyCount),
                                     valueCache[n].narrow(0, 0, sequence.keyCount), scale, causal, window));
    ++n;
  }
  return outputs.empty() ? at::empty_like(query) : at::cat(outputs);
}

at::Tensor cachedAttention(const at::Tensor& query, const at::Tensor& keyCache, const at::Tensor& valueCache,
                           const at::Tensor& offsets, const at::Tensor& lengths, double scale, bool causal,
                           int64_t window) {
  const auto sequences = cachedSequences(query, keyCache, valueCache, offsets, lengths);
  const at::NoGradGuard inference;
  if (hasFlashAttention(query)) {
    const auto starts = at::arange(static_cast<int64_t>(sequences.size()) + 1, at::kInt) * keyCache.size(1);
    return flashAttention(rows(query), keyCache.flatten(0, 1), valueCache.flatten(0, 1), offsets, starts, lengths, scale, causal,
                          window);
  }
  if (!hasKernel(query) || !keyCache.is_contiguous() || !valueCache.is_contiguous())
    return cachedAttentionTwin(query, keyCache, valueCache, offsets, lengths, scale, causal, window);
  // [sequences · capacity, keyHeads, headSize]
  return forward(rows(query), keyCache.flatten(0, 1), valueCache.flatten(0, 1), sequences, {scale, causal, window}, {});
}

}  // namespace graft
