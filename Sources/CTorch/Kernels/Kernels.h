#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <tuple>
#include <vector>

#include "PackedMatrix.h"
#include "Quantized/QuantizedMatrix.h"

/// Graft's fused CPU kernels. Each is one file, with its formula, and a plain ATen *twin* beside it that says the same
/// in operations everyone knows: the twin serves other devices, dtypes and shapes, and the tests compare the two.
/// All functions throw `c10::Error` (through TORCH_CHECK) on shapes that do not fit.
namespace graft {

// MARK: Attention

/// Attention over ragged sequences, without mask or padding; differentiable.
///
/// - query `[T, heads, headSize]`, key and value `[T, keyHeads, headSize]`: views with contiguous last axis will do;
///   query head h reads key head h / (heads / keyHeads).
/// - offsets int32 `[N + 1]`, on the CPU: sequence n is the rows offsets[n] ..< offsets[n + 1].
/// - window: a query sees the last `window` positions up to its own; 0: all.
/// Returns `[T, heads, headSize]`.
at::Tensor raggedAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const at::Tensor& offsets, double scale, bool causal, int64_t window = 0);

/// The same on one fused projection `[T, heads + 2·keyHeads, headSize]` (queries, keys, values): its gradient comes as
/// one tensor, where slices would cost three zero-filled ones and two sums.
at::Tensor raggedAttentionFused(const at::Tensor& queryKeyValue, const at::Tensor& offsets, int64_t keyHeads,
                                double scale, bool causal, int64_t window = 0);

/// Attention of new queries to cached keys and values; not differentiable.
///
/// - query `[T, heads, headSize]` with offsets int32 `[N + 1]`; caches `[N, capacity, keyHeads, headSize]`, whose first
///   lengths[n] rows (int32 `[N]`, on the CPU) count, the new tokens' own included: the queries of sequence n are its
///   last positions.
at::Tensor cachedAttention(const at::Tensor& query, const at::Tensor& keyCache, const at::Tensor& valueCache,
                           const at::Tensor& offsets, const at::Tensor& lengths, double scale, bool causal,
                           int64_t window = 0);

/// The twin of `raggedAttention`: one dense masked softmax a sequence.
at::Tensor raggedAttentionTwin(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                               const at::Tensor& offsets, double scale, bool causal, int64_t window = 0);

/// The twin of `cachedAttention`.
at::Tensor cachedAttentionTwin(const at::Tensor& query, const at::Tensor& keyCache, const at::Tensor& valueCache,
                               const at::Tensor& offsets, const at::Tensor& lengths, double scale, bool causal,
                               int64_t window = 0);

// MARK: Shared prefixes

/// Rows `[P + Σ sₙ, …]`, P of them a prefix that N sequences share and sₙ of sequence n's own → `[T, …]`, with a copy of the prefix
/// before each sequence's own rows; differentiable.
///
/// - offsets int32 `[N + 1]`, on the CPU: sequence n is the rows offsets[n] ..< offsets[n + 1] of the result.
at::Tensor repeatPrefix(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets);

/// The reverse, `[T, …]` → `[P + Σ sₙ, …]`, of which the first sequence's copy is kept; differentiable.
at::Tensor dropRepeatedPrefix(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets);

at::Tensor repeatPrefixTwin(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets);
at::Tensor dropRepeatedPrefixTwin(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets);

// MARK: Low-rank adapters

/// A LoRA pair on a part of a linear layer's outputs: rows firstOutput ..< firstOutput + b.size(0) of its weight.
struct LowRankAdapter {
  at::Tensor a;  // [rank, inputs]
  at::Tensor b;  // [outputs, rank]
  double scale = 1;
  int64_t firstOutput = 0;
};

/// x `[tokens, inputs]` through frozen weights `[outputs, inputs]`, whose outputs count behind one another (and a bias for all, which may
/// be undefined), with all `adapters` added; differentiable in x and the adapters. `mask`, when defined, is x's dropout mask for the
/// adapters, 0 or 1 / (1 − p).
at::Tensor loraLinear(const at::Tensor& x, at::TensorList weights, const at::Tensor& bias,
                      const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask = {});

/// The twin of `loraLinear` with one weight, in the adapters' own dtype as PEFT computes it; also serves weights that are not frozen.
at::Tensor loraLinearTwin(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask = {});

/// The same around quantized weights that share their input, whose outputs lie behind one another; differentiable in x and the adapters.
at::Tensor quantizedLinear(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts, const at::Tensor& bias,
                           const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask = {});

/// x Wᵀ + bias as `at::linear`; a frozen bf16 weight goes through the product kernel where there is one, few rows through that of FewRowsLinear.h.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

// MARK: Generation

/// A layer of a decoder as Llama shaped it, with frozen dense weights and without adapters.
struct DecoderLayerWeights {
  at::Tensor inputNorm, attentionNorm;          // [hidden], before attention and before the feed-forward part
  at::Tensor queryKeyValue, queryKeyValueBias;  // [(heads + 2·keyHeads)·headSize, hidden]; biases may be undefined
  at::Tensor output, outputBias;                // [hidden, heads·headSize]
  at::Tensor gateUp, gateUpBias;                // [2·size, hidden]
  at::Tensor down, downBias;                    // [hidden, size]
  double inputEpsilon, attentionEpsilon, scale;
  int64_t keyHeads, window;  // window: as in `raggedAttention`
  /// The same matrices in fewer bytes, where there are any, to be read instead by processors that can.
  struct {
    std::optional<PackedMatrix> queryKeyValue, output, gateUp, down;
  } packed;
};

/// Keys and values of the sequences that are generated, `[N, capacity, keyHeads, headSize]`.
struct DecoderLayerCache {
  at::Tensor keys, values;
  /// Tokens of each sequence that are there, `[N]`.
  const int32_t* lengths;
};

/// Whether `decoderLayerStep` computes this: fp32 or bf16 on the CPU, of at most 47 sequences and of sizes that fill vectors.
bool hasDecoderStepKernel(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
                          const at::Tensor& cosines);

/// One new token of each sequence through a whole layer, x `[N, hidden]`, in one parallel loop; its keys and values are added to the
/// cache. Not differentiable.
///
/// - cosines, sines: fp32 `[N, headSize]`, of the tokens' positions.
/// Rounds where the layer's parts would.
at::Tensor decoderLayerStep(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
                            const at::Tensor& cosines, const at::Tensor& sines);

/// The twin of `decoderLayerStep`, of the parts' twins.
at::Tensor decoderLayerStepTwin(const at::Tensor& x, const DecoderLayerWeights& layer, const DecoderLayerCache& cache,
                                const at::Tensor& cosines, const at::Tensor& sines);

// MARK: Loss

/// The sum of the cross-entropies of hidden states `[S, hidden]` projected by `[vocabulary, hidden]`, against labels
/// int64 `[S]` (the supervised positions alone): a fp32 scalar; differentiable in both. The logits are never whole.
at::Tensor linearCrossEntropy(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels);

/// The same with a quantized weight, decoded in slices of the vocabulary; differentiable in the hidden states.
at::Tensor linearCrossEntropy(const at::Tensor& hidden, const QuantizedMatrix& weight, const at::Tensor& labels);
std::tuple<at::Tensor, at::Tensor> linearCrossEntropyPerToken(const at::Tensor& hidden, const QuantizedMatrix& weight,
                                                              const at::Tensor& labels);

/// For evaluation: each position's loss, fp32 `[S]`, and most likely token, int64 `[S]`; not differentiable.
std::tuple<at::Tensor, at::Tensor> linearCrossEntropyPerToken(const at::Tensor& hidden, const at::Tensor& weight,
                                                              const at::Tensor& labels);

/// The twin of `linearCrossEntropy`: the logits whole.
at::Tensor linearCrossEntropyTwin(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels);

// MARK: Element-wise

/// RMSNorm over the last axis, rounding as Hugging Face's; differentiable in x and weight.
at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

/// (x + residual, RMSNorm of it); differentiable in all three.
std::tuple<at::Tensor, at::Tensor> addRMSNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                              double epsilon);

at::Tensor rmsNormTwin(const at::Tensor& x, const at::Tensor& weight, double epsilon);

/// silu(gate) ∘ up on `[tokens, size]`; differentiable.
at::Tensor swiGLU(const at::Tensor& gate, const at::Tensor& up);

/// The same on `[tokens, 2·size]`, gate before up, as one fused projection makes them; its gradient is one tensor too.
at::Tensor swiGLUFused(const at::Tensor& gateUp);

at::Tensor swiGLUTwin(const at::Tensor& gate, const at::Tensor& up);

/// Rotates, in place, the first `heads` heads of each row of a projection `[tokens, columns]`; differentiable.
///
/// - cosines, sines: fp32 `[tokens, R]`, R ≤ headSize: the first R numbers of a head are rotated.
/// Returns x itself where there is a kernel, otherwise a new tensor: use what is returned. For autograd's sake x should
/// not be a view: pass the projection `[tokens, (heads + 2·keyHeads)·headSize]` as it was made and reshape afterwards.
at::Tensor rotaryEmbedding_(at::Tensor x, const at::Tensor& cosines, const at::Tensor& sines, int64_t headSize,
                            int64_t heads);

at::Tensor rotaryEmbeddingTwin(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines,
                               int64_t headSize, int64_t heads);

// MARK: Optimizer

struct AdamWOptions {
  double learningRate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 1e-2;
};

/// Rounds fp32 `source` into bf16 `target` up or down by chance, so that the mean is the number.
void roundStochastically(const at::Tensor& target, const at::Tensor& source);
void roundStochasticallyTwin(const at::Tensor& target, const at::Tensor& source);

/// One step of torch.optim.AdamW on all parameters, in place; `step` counts from 1.
void adamWStep(at::TensorList parameters, at::TensorList gradients, at::TensorList means, at::TensorList squares,
               const AdamWOptions& options, int64_t step);

void adamWStepTwin(at::TensorList parameters, at::TensorList gradients, at::TensorList means, at::TensorList squares,
                   const AdamWOptions& options, int64_t step);

/// An optimizer state in 8 bits a number, codes of the dynamic map for blocks of 256 numbers.
struct BlockwiseState {
  at::Tensor codes;   // uint8, in the parameter's shape
  at::Tensor absmax;  // fp32 [⌈count / 256⌉]: the largest magnitude of each block
};

/// The same on one parameter with states in 8 bits: the mean signed, the square unsigned.
void adamW8BitStep(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                   const BlockwiseState& square, const AdamWOptions& options, int64_t step);

void adamW8BitStepTwin(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                       const BlockwiseState& square, const AdamWOptions& options, int64_t step);

struct LionOptions {
  double learningRate = 1e-4, beta1 = 0.9, beta2 = 0.99, weightDecay = 0;
};

/// One step of Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675) on one parameter, in place.
void lionStep(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& mean,
              const LionOptions& options);

/// The same with the state in 8 bits, signed.
void lion8BitStep(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                  const LionOptions& options);

void lion8BitStepTwin(const at::Tensor& parameter, const at::Tensor& gradient, const BlockwiseState& mean,
                      const LionOptions& options);

// MARK: Memory

/// Makes the engine keep freed buffers on the CPU for the next step instead of returning them to the system, up to what
/// its tensors needed at once so far. To be called before the first large allocation; false where the system has no mmap.
bool configureAllocator();

/// Returns buffers that are kept but not in use to the system.
void releaseFreedMemory();

}  // namespace graft
