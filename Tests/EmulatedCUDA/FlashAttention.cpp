// ATen's flash attention for sequences that lie one behind the other, which the CPU has not: the definition, sequence by sequence in fp32, on
// what ATen's own accepts and nothing else.
//
//   S = scale · Q Kᵀ,  L = log Σ exp S,  P = exp(S − L),  O = P V
//   dP = dO Vᵀ,  dS = P ∘ (dP − Σ dO ∘ O),  dQ = scale · dS K,  dK = scale · dSᵀ Q,  dV = Pᵀ dO

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>
#include <functional>

#include "Driver.h"
#include "HostView.h"
#include "Transfers.h"

namespace emulated {
namespace {

void checkNumbers(const char* name, const at::Tensor& tensor, const at::Tensor& query) {
  TORCH_CHECK(tensor.is_cuda(), "flash attention: ", name, " must be on CUDA");
  TORCH_CHECK(tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16,
              "FlashAttention only support fp16 and bf16 data type, not ", tensor.scalar_type());
  TORCH_CHECK(tensor.scalar_type() == query.scalar_type(), "query and ", name, " must have the same dtype");
  TORCH_CHECK(tensor.dim() == 3, name, " must be [tokens, heads, headSize], not ", tensor.sizes());
  TORCH_CHECK(tensor.stride(-1) == 1, "Input tensor must have contiguous last dimension: ", name);
}

void checkCounts(const char* name, const at::Tensor& tensor, int64_t count) {
  TORCH_CHECK(tensor.is_cuda(), name, " must be on CUDA");
  TORCH_CHECK(tensor.scalar_type() == at::kInt, name, " must have dtype int32, not ", tensor.scalar_type());
  TORCH_CHECK(tensor.is_contiguous() && tensor.dim() == 1 && tensor.size(0) == count, name, " must be contiguous and have shape [", count,
              "], not ", tensor.sizes());
}

struct Window {
  double scale;
  bool isCausal;
  int64_t left, right;  // negative: no bound

  /// Which keys a query sees, [queries, keys]; positions are counted from the sequence's end.
  at::Tensor visible(int64_t queries, int64_t keys) const {
    const auto distance = at::arange(keys).unsqueeze(0) - (at::arange(queries) + (keys - queries)).unsqueeze(1);
    auto visible = at::ones({queries, keys}, at::kBool);
    const int64_t after = isCausal ? 0 : right;
    if (left >= 0) visible = visible & (distance >= -left);
    if (after >= 0) visible = visible & (distance <= after);
    return visible;
  }
};

struct Sequence {
  int64_t queryStart, queries, keyStart, keys;
};

std::vector<Sequence> sequencesOf(const at::Tensor& queryOffsets, const at::Tensor& keyOffsets, const at::Tensor& keyCounts,
                                  const at::Tensor& query, const at::Tensor& key, int64_t mostQueries, int64_t mostKeys) {
  const auto *const q = queryOffsets.const_data_ptr<int>(), *const k = keyOffsets.const_data_ptr<int>();
  std::vector<Sequence> sequences;
  for (int64_t n = 0; n + 1 < queryOffsets.size(0); ++n) {
    const int64_t keys = keyCounts.defined() ? keyCounts.const_data_ptr<int>()[n] : k[n + 1] - k[n];
    sequences.push_back({q[n], q[n + 1] - q[n], k[n], keys});
    const auto& last = sequences.back();
    // What a GPU would read or leave out without a word.
    TORCH_CHECK(last.queries >= 0 && last.keys >= 0 && last.queries <= mostQueries && last.keys <= mostKeys &&
                    last.queryStart + last.queries <= query.size(0) && last.keyStart + last.keys <= key.size(0),
                "flash attention: sequence ", n, " has ", last.queries, " queries and ", last.keys, " keys, of at most ", mostQueries,
                " and ", mostKeys);
  }
  return sequences;
}

/// Rows `[start, start + count)` in fp32 as [heads, rows, headSize], each head for `group` heads of the query.
at::Tensor headsOf(const at::Tensor& x, int64_t start, int64_t count, int64_t group) {
  return x.narrow(0, start, count).to(at::kFloat).transpose(0, 1).repeat_interleave(group, 0);
}

/// P and L of one sequence.
std::pair<at::Tensor, at::Tensor> weights(const at::Tensor& q, const at::Tensor& k, const Window& window) {
  const auto scores = (at::matmul(q, k.transpose(1, 2)) * window.scale)
                          .masked_fill(window.visible(q.size(1), k.size(1)).logical_not(), -INFINITY);
  const auto logSum = at::logsumexp(scores, -1);
  // A query that sees nothing gets zeros.
  const auto shift = logSum.masked_fill(logSum == -INFINITY, 0);
  return {at::exp(scores - shift.unsqueeze(-1)), logSum.masked_fill(logSum == -INFINITY, INFINITY)};
}

at::Tensor optional(const c10::IValue& value) { return value.isNone() ? at::Tensor() : value.toTensor(); }

std::optional<int64_t> optionalCount(const c10::IValue& value) {
  return value.isNone() ? std::nullopt : std::optional<int64_t>(value.toInt());
}

void checkOperands(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& queryOffsets,
                   const at::Tensor& keyOffsets, double dropout) {
  TORCH_CHECK(emulatedComputeCapability() >= 80, "FlashAttention only supports Ampere GPUs or newer.");
  TORCH_CHECK(queryOffsets.defined() && keyOffsets.defined(), "the emulated flash attention takes sequences by their offsets");
  TORCH_CHECK(dropout == 0, "the emulated flash attention has no dropout");
  checkNumbers("query", query, query);
  checkNumbers("key", key, query);
  checkNumbers("value", value, query);
  const int64_t sequences = queryOffsets.numel() - 1;
  TORCH_CHECK(sequences > 0, "batch size must be positive");
  checkCounts("cu_seqlens_q", queryOffsets, sequences + 1);
  checkCounts("cu_seqlens_k", keyOffsets, sequences + 1);
  TORCH_CHECK(query.size(2) <= 256 && query.size(2) % 8 == 0,
              "FlashAttention forward only supports head dimension at most 256 that is a multiple of 8, not ", query.size(2));
  TORCH_CHECK(key.sizes() == value.sizes() && key.size(2) == query.size(2), "flash attention: key ", key.sizes(), " and value ",
              value.sizes(), " for query ", query.sizes());
  TORCH_CHECK(query.size(1) % key.size(1) == 0, "Number of heads in key/value must divide number of heads in query");
}

/// The arguments of one call, by name. Boxed, since later versions of the operators have more of them.
class Call {
 public:
  const at::Tensor query, key, value, queryOffsets, keyOffsets;

  Call(const c10::OperatorHandle& operation, const torch::jit::Stack& stack)
      : query(of(operation, stack, "query").toTensor()),
        key(of(operation, stack, "key").toTensor()),
        value(of(operation, stack, "value").toTensor()),
        queryOffsets(optional(of(operation, stack, "cum_seq_q"))),
        keyOffsets(optional(of(operation, stack, "cum_seq_k"))),
        operation_(operation),
        stack_(stack) {
    checkOperands(query, key, value, queryOffsets, keyOffsets, argument("dropout_p").toDouble());
  }

  const c10::IValue& argument(const char* name) const { return of(operation_, stack_, name); }
  int64_t count(const char* name) const { return argument(name).toInt(); }

  Window window() const {
    const auto& scale = argument("scale");
    return {scale.isNone() ? 1 / std::sqrt(static_cast<double>(query.size(2))) : scale.toDouble(), argument("is_causal").toBool(),
            optionalCount(argument("window_size_left")).value_or(-1), optionalCount(argument("window_size_right")).value_or(-1)};
  }

 private:
  const c10::OperatorHandle& operation_;
  const torch::jit::Stack& stack_;

  static const c10::IValue& of(const c10::OperatorHandle& operation, const torch::jit::Stack& stack, const char* name) {
    const auto& schema = operation.schema();
    return stack[stack.size() - schema.arguments().size() + *schema.argumentIndexWithName(name)];
  }
};

void forward(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::beginWork();
  const Call call(operation, *stack);
  const auto keyCounts = optional(call.argument("seqused_k"));
  if (keyCounts.defined()) checkCounts("seqused_k", keyCounts, call.queryOffsets.numel() - 1);
  TORCH_CHECK(!call.argument("return_debug_mask").toBool() && call.argument("alibi_slopes").isNone(), "the emulated flash attention has no such option");
  const auto window = call.window();

  HostViews views;
  const auto q = views.of(call.query), k = views.of(call.key), v = views.of(call.value);
  const auto output = at::empty(q.sizes(), q.options());
  const auto logSumExp = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
  const int64_t group = q.size(1) / k.size(1);
  for (const auto& s : sequencesOf(views.of(call.queryOffsets), views.of(call.keyOffsets),
                                   keyCounts.defined() ? views.of(keyCounts) : keyCounts, q, k, call.count("max_q"), call.count("max_k"))) {
    if (s.queries == 0) continue;
    const auto [p, logSum] =
        weights(headsOf(q, s.queryStart, s.queries, 1), headsOf(k, s.keyStart, s.keys, group), window);
    output.narrow(0, s.queryStart, s.queries).copy_(at::matmul(p, headsOf(v, s.keyStart, s.keys, group)).transpose(0, 1));
    logSumExp.narrow(1, s.queryStart, s.queries).copy_(logSum);
  }
  torch::jit::drop(*stack, operation.schema().arguments().size());
  torch::jit::push(*stack, views.onDevice(output), views.onDevice(logSumExp), emptyOnDevice({2}, at::kLong), emptyOnDevice({}, at::kLong),
                   emptyOnDevice({0}, q.scalar_type()));
}

void backward(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  transfers::beginWork();
  const Call call(operation, *stack);
  const at::Tensor& query = call.query;
  const auto outputGradient = call.argument("grad_out").toTensor(), output = call.argument("out").toTensor();
  const auto logSumExp = call.argument("logsumexp").toTensor();
  TORCH_CHECK(outputGradient.is_cuda() && output.is_cuda() && logSumExp.is_cuda() && outputGradient.scalar_type() == query.scalar_type() &&
                  outputGradient.sizes() == query.sizes() && output.sizes() == query.sizes(),
              "flash attention: a gradient ", outputGradient.toString(), outputGradient.sizes(), " for query ", query.toString(),
              query.sizes());
  const auto window = call.window();

  HostViews views;
  const auto q = views.of(call.query), k = views.of(call.key), v = views.of(call.value), o = views.of(output), dO = views.of(outputGradient);
  const auto dQ = at::zeros(q.sizes(), q.options()), dK = at::zeros(k.sizes(), k.options()), dV = at::zeros(v.sizes(), v.options());
  const int64_t group = q.size(1) / k.size(1);
  // Of the heads that share keys, [heads, rows, headSize] → [rows, keyHeads, headSize].
  const auto summed = [&](const at::Tensor& x) {
    return x.view({k.size(1), group, x.size(1), x.size(2)}).sum(1).transpose(0, 1);
  };
  for (const auto& s : sequencesOf(views.of(call.queryOffsets), views.of(call.keyOffsets), {}, q, k, call.count("max_q"),
                                   call.count("max_k"))) {
    if (s.queries == 0 || s.keys == 0) continue;
    const auto query = headsOf(q, s.queryStart, s.queries, 1), key = headsOf(k, s.keyStart, s.keys, group);
    const auto gradient = headsOf(dO, s.queryStart, s.queries, 1);
    const auto p = weights(query, key, window).first;
    const auto delta = (gradient * headsOf(o, s.queryStart, s.queries, 1)).sum(-1, true);
    const auto dP = at::matmul(gradient, headsOf(v, s.keyStart, s.keys, group).transpose(1, 2));
    const auto dS = p * (dP - delta) * window.scale;
    dQ.narrow(0, s.queryStart, s.queries).copy_(at::matmul(dS, key).transpose(0, 1));
    dK.narrow(0, s.keyStart, s.keys).copy_(summed(at::matmul(dS.transpose(1, 2), query)));
    dV.narrow(0, s.keyStart, s.keys).copy_(summed(at::matmul(p.transpose(1, 2), gradient)));
  }
  torch::jit::drop(*stack, operation.schema().arguments().size());
  torch::jit::push(*stack, views.onDevice(dQ), views.onDevice(dK), views.onDevice(dV));
}

}  // namespace
}  // namespace emulated

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("_flash_attention_forward", torch::CppFunction::makeFromBoxedFunction<&emulated::forward>());
  library.impl("_flash_attention_backward", torch::CppFunction::makeFromBoxedFunction<&emulated::backward>());
}
