// The C interface over libtorch: the only way into the engine.
//
// Rules that hold for every function:
// - A tensor is a counted reference (`CTTensor *`). Functions return a new reference, which the caller releases with
//   `ct_release`; arguments are borrowed.
// - No C++ exception leaves. A function that returns a tensor gives NULL on failure, one that returns `int` gives 0
//   on success; `ct_last_error` then holds the engine's message, for this thread, until the next failure.
// - Sizes are element counts, shapes are `int64_t` arrays of the stated length, dtypes and devices as below.

#ifndef GRAFT_CTORCH_H
#define GRAFT_CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

typedef struct CTTensor CTTensor;

/// Values are those of `c10::ScalarType`, checked at compile time.
typedef enum CTDType {
  CT_UINT8 = 0,
  CT_INT8 = 1,
  CT_INT16 = 2,
  CT_INT32 = 3,
  CT_INT64 = 4,
  CT_FLOAT16 = 5,
  CT_FLOAT32 = 6,
  CT_FLOAT64 = 7,
  CT_BOOL = 11,
  CT_BFLOAT16 = 15,
  CT_FLOAT8_E5M2 = 23,
  CT_FLOAT8_E4M3 = 24,
  CT_UINT16 = 27,
  CT_UINT32 = 28,
  CT_UINT64 = 29,
} CTDType;

/// Values are those of `c10::DeviceType`, checked at compile time.
typedef enum CTDeviceType { CT_CPU = 0, CT_CUDA = 1, CT_MPS = 13, CT_META = 14 } CTDeviceType;

typedef struct CTDevice {
  CTDeviceType type;
  int32_t index;  // -1: the current one
} CTDevice;

/// The message of the last failure on this thread. Never NULL.
const char *ct_last_error(void);

// MARK: Lifetime and inspection

void ct_retain(CTTensor *tensor);
void ct_release(CTTensor *tensor);
/// Tensors alive in this process that were handed out through this interface and not yet released.
int64_t ct_live_handle_count(void);

int64_t ct_dimension_count(CTTensor *tensor);
int64_t ct_size(CTTensor *tensor, int64_t dimension);
int64_t ct_stride(CTTensor *tensor, int64_t dimension);
int64_t ct_element_count(CTTensor *tensor);
CTDType ct_dtype(CTTensor *tensor);
CTDevice ct_device(CTTensor *tensor);
bool ct_is_contiguous(CTTensor *tensor);
void *_Nullable ct_data(CTTensor *tensor);
/// Identity of the storage: equal for views of the same memory.
const void *_Nullable ct_storage(CTTensor *tensor);
/// Counts the changes of the elements in place, through whichever view.
int64_t ct_version(CTTensor *tensor);

// MARK: Creation

CTTensor *_Nullable ct_empty(const int64_t *shape, int32_t rank, CTDType dtype, CTDevice device);
CTTensor *_Nullable ct_full(
    const int64_t *shape, int32_t rank, double value, CTDType dtype, CTDevice device);
CTTensor *_Nullable ct_arange(int64_t start, int64_t end, int64_t step, CTDType dtype, CTDevice device);
CTTensor *_Nullable ct_uniform(
    const int64_t *shape, int32_t rank, double low, double high, CTDType dtype, CTDevice device);
/// The state of a CPU generator that has just been seeded, as `torch.Generator().manual_seed(seed)` has it.
CTTensor *_Nullable ct_seeded_state(uint64_t seed);
/// Drawn on the CPU in fp32 from a generator in `state`, which is moved on.
CTTensor *_Nullable ct_uniform_from(CTTensor *state, const int64_t *shape, int32_t rank, double low, double high);
CTTensor *_Nullable ct_normal_from(CTTensor *state, const int64_t *shape, int32_t rank);
CTTensor *_Nullable ct_normal(
    const int64_t *shape, int32_t rank, double mean, double deviation, CTDType dtype, CTDevice device);
/// Copies `byte_count` bytes of contiguous elements from host memory.
CTTensor *_Nullable ct_from_bytes(
    const void *_Nullable bytes, size_t byte_count, const int64_t *shape, int32_t rank, CTDType dtype,
    CTDevice device);
/// Wraps host memory without a copy; `release(context)` runs when the last tensor over it goes.
CTTensor *_Nullable ct_wrap_bytes(
    void *bytes, const int64_t *shape, int32_t rank, CTDType dtype, void *_Nullable context,
    void (*release)(void *_Nullable context));
/// Copies the elements, made contiguous on the host, to `destination`, which holds `byte_count` bytes.
int ct_copy_bytes(CTTensor *tensor, void *_Nullable destination, size_t byte_count);

// MARK: Conversion and shape

CTTensor *_Nullable ct_to(CTTensor *tensor, CTDType dtype, CTDevice device);
/// A copy in the host's memory, pinned where the tensor is a CUDA device's. Without `waits` it is complete only for what comes later on the
/// device's stream.
CTTensor *_Nullable ct_copy_to_host(CTTensor *tensor, bool waits);

/// Copies between pinned memory and a GPU's that go on while it computes; see CopyQueue.cpp.
typedef struct CTCopyQueue CTCopyQueue;
CTCopyQueue *_Nullable ct_copy_queue(CTDevice device);
void ct_copy_queue_free(CTCopyQueue *queue);
/// Begins a copy on the device: it may be used, and let go of, behind the next `ct_copy_queue_join`.
CTTensor *_Nullable ct_copy_queue_fetch(CTCopyQueue *queue, CTTensor *host);
/// Begins to copy `source` into `host` when what the device has been told to compute is done; `source` may be let go of behind the next
/// `ct_copy_queue_join`, `host` be read by the processor behind `ct_copy_queue_synchronize`.
int ct_copy_queue_store(CTCopyQueue *queue, CTTensor *host, CTTensor *source);
/// What the device computes from now on begins behind the copies so far.
int ct_copy_queue_join(CTCopyQueue *queue);
/// Returns when the copies so far are done.
int ct_copy_queue_synchronize(CTCopyQueue *queue);

CTTensor *_Nullable ct_contiguous(CTTensor *tensor);
CTTensor *_Nullable ct_clone(CTTensor *tensor);
CTTensor *_Nullable ct_detach(CTTensor *tensor);
CTTensor *_Nullable ct_reshape(CTTensor *tensor, const int64_t *shape, int32_t rank);
CTTensor *_Nullable ct_expand(CTTensor *tensor, const int64_t *shape, int32_t rank);
CTTensor *_Nullable ct_transpose(CTTensor *tensor, int64_t first, int64_t second);
CTTensor *_Nullable ct_permute(CTTensor *tensor, const int64_t *order, int32_t rank);
CTTensor *_Nullable ct_narrow(CTTensor *tensor, int64_t dimension, int64_t start, int64_t length);
CTTensor *_Nullable ct_unsqueeze(CTTensor *tensor, int64_t dimension);
CTTensor *_Nullable ct_squeeze(CTTensor *tensor, int64_t dimension);
CTTensor *_Nullable ct_concatenate(CTTensor *const _Nonnull *_Nonnull tensors, int32_t count, int64_t dimension);
CTTensor *_Nullable ct_stack(CTTensor *const _Nonnull *_Nonnull tensors, int32_t count, int64_t dimension);
CTTensor *_Nullable ct_repeat_interleave(CTTensor *tensor, int64_t repeats, int64_t dimension);

// MARK: Arithmetic

typedef enum CTUnary {
  CT_NEGATE, CT_ABSOLUTE, CT_EXP, CT_LOG, CT_SQRT, CT_RSQRT, CT_SIN, CT_COS, CT_TANH, CT_SIGMOID,
  CT_RELU, CT_SILU, CT_GELU, CT_GELU_TANH, CT_RECIPROCAL, CT_SQUARE, CT_IS_FINITE, CT_LOGICAL_NOT,
} CTUnary;
CTTensor *_Nullable ct_unary(CTUnary operation, CTTensor *tensor);

typedef enum CTBinary {
  CT_ADD, CT_SUBTRACT, CT_MULTIPLY, CT_DIVIDE, CT_MATMUL, CT_MAXIMUM, CT_MINIMUM, CT_EQUAL, CT_LESS,
  CT_LESS_OR_EQUAL, CT_GREATER, CT_GREATER_OR_EQUAL, CT_POWER,
} CTBinary;
CTTensor *_Nullable ct_binary(CTBinary operation, CTTensor *left, CTTensor *right);
CTTensor *_Nullable ct_binary_scalar(CTBinary operation, CTTensor *left, double right);

/// x Wᵀ + b, with W [out, in].
CTTensor *_Nullable ct_linear(CTTensor *input, CTTensor *weight, CTTensor *_Nullable bias);
CTTensor *_Nullable ct_where(CTTensor *condition, CTTensor *left, CTTensor *right);
CTTensor *_Nullable ct_masked_fill(CTTensor *tensor, CTTensor *mask, double value);
CTTensor *_Nullable ct_clamp(CTTensor *tensor, double low, double high);

// MARK: Reductions and selection

typedef enum CTReduction { CT_SUM, CT_MEAN, CT_MAX, CT_MIN, CT_ARGMAX, CT_NORM, CT_LOGSUMEXP } CTReduction;
/// Over one dimension; `whole` reduces all elements to a scalar and ignores the dimension.
CTTensor *_Nullable ct_reduce(
    CTReduction operation, CTTensor *tensor, int64_t dimension, bool keep, bool whole);
CTTensor *_Nullable ct_softmax(CTTensor *tensor, int64_t dimension, bool logarithm);
CTTensor *_Nullable ct_cumulative_sum(CTTensor *tensor, int64_t dimension);
int ct_top_k(
    CTTensor *tensor, int64_t count, int64_t dimension, CTTensor *_Nullable *_Nonnull values,
    CTTensor *_Nullable *_Nonnull indices);
int ct_sort(
    CTTensor *tensor, int64_t dimension, bool descending, CTTensor *_Nullable *_Nonnull values,
    CTTensor *_Nullable *_Nonnull indices);
CTTensor *_Nullable ct_multinomial(CTTensor *probabilities, int64_t count);
CTTensor *_Nullable ct_index_select(CTTensor *tensor, int64_t dimension, CTTensor *indices);
CTTensor *_Nullable ct_gather(CTTensor *tensor, int64_t dimension, CTTensor *indices);
CTTensor *_Nullable ct_embedding(CTTensor *weight, CTTensor *indices);

// MARK: In place (no gradient is recorded through these)

int ct_copy_into(CTTensor *destination, CTTensor *source);
int ct_fill(CTTensor *tensor, double value);
int ct_add_in_place(CTTensor *tensor, CTTensor *other, double scale);
int ct_scale_in_place(CTTensor *tensor, double factor);
int ct_index_copy_in_place(CTTensor *tensor, int64_t dimension, CTTensor *indices, CTTensor *source);

// MARK: Layers of the field

CTTensor *_Nullable ct_layer_norm(
    CTTensor *input, CTTensor *_Nullable weight, CTTensor *_Nullable bias, double epsilon);
CTTensor *_Nullable ct_dropout(CTTensor *input, double probability);
/// Cross-entropy of logits [n, classes] with labels [n], summed; -100 is ignored.
CTTensor *_Nullable ct_cross_entropy_sum(CTTensor *logits, CTTensor *labels);
/// Economy QR decomposition of a matrix: Q [m, k] with orthonormal columns, R [k, n] upper triangular.
int ct_qr(CTTensor *matrix, CTTensor *_Nullable *_Nonnull q, CTTensor *_Nullable *_Nonnull r);
/// Economy singular value decomposition of a matrix: U [m, k], S [k], Vᵀ [k, n].
int ct_svd(
    CTTensor *matrix, CTTensor *_Nullable *_Nonnull u, CTTensor *_Nullable *_Nonnull s,
    CTTensor *_Nullable *_Nonnull vt);
/// X with X · matrix = right, for square matrices [..., n, n]. Differentiable.
CTTensor *_Nullable ct_solve_right(CTTensor *matrix, CTTensor *right);

// MARK: Fused operations (Kernels/): with an own kernel where there is one, in plain operations elsewhere

/// Attention inside each sequence of a ragged batch: query [T, heads, d], key and value [T, kvHeads, d], offsets int32
/// [N + 1] on the CPU; window 0 is all. Differentiable.
CTTensor *_Nullable ct_ragged_attention(
    CTTensor *query, CTTensor *key, CTTensor *value, CTTensor *offsets, double scale, bool causal, int64_t window);
/// The same on one fused projection [T, heads + 2 · key_heads, d]: queries, keys, values.
CTTensor *_Nullable ct_ragged_attention_fused(
    CTTensor *query_key_value, CTTensor *offsets, int64_t key_heads, double scale, bool causal, int64_t window);
/// Attention of new queries [T, heads, d] to caches [N, capacity, kvHeads, d] whose first lengths[n] rows count.
CTTensor *_Nullable ct_cached_attention(
    CTTensor *query, CTTensor *key_cache, CTTensor *value_cache, CTTensor *offsets, CTTensor *lengths, double scale,
    bool causal, int64_t window);
/// Rows [prefix + own rows of all sequences, …] with the prefix before each sequence, [T, …]; offsets int32 [N + 1] on the CPU, of
/// the result. Differentiable.
CTTensor *_Nullable ct_repeat_prefix(CTTensor *rows, int64_t prefix, CTTensor *offsets);
/// The reverse: the first sequence's copy of the prefix stays. Differentiable.
CTTensor *_Nullable ct_drop_repeated_prefix(CTTensor *rows, int64_t prefix, CTTensor *offsets);
/// Summed cross-entropy of hidden [S, width] projected by weight [vocabulary, width] against labels [S].
CTTensor *_Nullable ct_linear_cross_entropy(CTTensor *hidden, CTTensor *weight, CTTensor *labels);
/// Each position's loss and most likely token; no gradient.
int ct_linear_cross_entropy_per_token(
    CTTensor *hidden, CTTensor *weight, CTTensor *labels, CTTensor *_Nullable *_Nonnull losses,
    CTTensor *_Nullable *_Nonnull predictions);
CTTensor *_Nullable ct_rms_norm(CTTensor *input, CTTensor *weight, double epsilon);
/// silu(gate) · up
CTTensor *_Nullable ct_swiglu(CTTensor *gate, CTTensor *up);
/// The same on [T, 2 · size], gate before up.
CTTensor *_Nullable ct_swiglu_fused(CTTensor *gate_up);
/// Rotates the heads of a projection [T, heads · head_size] by tables [T, head_size], in place where it can.
CTTensor *_Nullable ct_rotary(CTTensor *projection, CTTensor *cosines, CTTensor *sines, int64_t head_size, int64_t heads);
/// x Wᵀ + b + Σ scale · (mask · x Aᵀ) Bᵀ with frozen weights [out, in], whose outputs count behind one another: adapter i has
/// A [r, in] and B [n, r] and adds to the outputs from first_outputs[i] on; `count` may be 0.
CTTensor *_Nullable ct_lora_linear(
    CTTensor *input, CTTensor *const _Nonnull *_Nonnull weights, int32_t weight_count, CTTensor *_Nullable bias,
    CTTensor *const _Nonnull *_Nonnull a, CTTensor *const _Nonnull *_Nonnull b, const double *scales,
    const int64_t *first_outputs, int32_t count, CTTensor *_Nullable mask);
/// Whether this processor has dot products of bf16, so that weights in it are multiplied where they lie.
bool ct_has_bfloat16_products(void);

/// A bf16 matrix [rows, columns] in three quarters of its bytes; `PackedMatrix` of Kernels/PackedMatrix.h. The parts are borrowed for the call.
typedef struct CTPackedMatrix {
  int64_t rows, columns;
  CTTensor *_Nullable bytes;  // null: there is none
  CTTensor *_Nullable bases, *_Nullable exceptions;
} CTPackedMatrix;

/// Whether this processor multiplies such matrices.
bool ct_has_packed_products(void);
/// Packs a bf16 matrix on the CPU; `result` gets parts to own, or null where packing does not pay.
int ct_pack(CTTensor *weight, CTPackedMatrix *result);
CTTensor *_Nullable ct_unpack(const CTPackedMatrix *matrix);
/// x Wᵀ + b for few rows of x, from the packed form of `weight`; `result` is null where there is no kernel for that.
int ct_packed_linear(
    CTTensor *x, CTTensor *weight, const CTPackedMatrix *packed, CTTensor *_Nullable bias,
    CTTensor *_Nullable *_Nonnull result);

/// A layer of a decoder with frozen dense weights; `DecoderLayerWeights` of Kernels/Kernels.h. The tensors are borrowed for the call.
typedef struct CTDecoderLayer {
  CTTensor *input_norm, *attention_norm;
  CTTensor *query_key_value;
  CTTensor *_Nullable query_key_value_bias;
  CTTensor *output;
  CTTensor *_Nullable output_bias;
  CTTensor *gate_up;
  CTTensor *_Nullable gate_up_bias;
  CTTensor *down;
  CTTensor *_Nullable down_bias;
  double input_epsilon, attention_epsilon, scale;
  int64_t key_heads, window;
  CTPackedMatrix packed_query_key_value, packed_output, packed_gate_up, packed_down;
} CTDecoderLayer;

/// One new token of each sequence through a whole layer, x [N, hidden]; keys and values [N, capacity, key_heads, d], which hold
/// lengths[n] tokens, get one more. `result` is null where there is no kernel for these shapes and types.
int ct_decoder_layer_step(
    CTTensor *x, const CTDecoderLayer *layer, CTTensor *keys, CTTensor *values, const int32_t *lengths, int32_t count,
    CTTensor *cosines, CTTensor *sines, CTTensor *_Nullable *_Nonnull result);

// MARK: Quantized weights

/// How elements are encoded; `Encoding` of Kernels/Quantized/QuantizedMatrix.h, checked at compile time.
typedef enum CTEncoding {
  CT_NF4, CT_FP4, CT_ROWWISE_INT8, CT_Q4_0, CT_Q4_1, CT_Q5_0, CT_Q5_1, CT_Q8_0, CT_Q2_K, CT_Q3_K, CT_Q4_K, CT_Q5_K,
  CT_Q6_K,
} CTEncoding;

/// A matrix [rows, columns] in codes; the parts are borrowed for the call.
typedef struct CTQuantizedMatrix {
  CTEncoding encoding;
  int64_t rows, columns;
  CTTensor *codes;                      // uint8, or int8 [rows, columns]
  int64_t block_size;                   // NF4 and FP4
  CTTensor *_Nullable constants;        // fp32 by block or row; uint8 codes with double quantization
  CTTensor *_Nullable nested_constants; // fp32
  CTTensor *_Nullable nested_table;     // fp32 [256]
  double nested_offset;
  int64_t nested_block_size;
  bool multiplies_bytes;                // int8: products quantize the tokens too
} CTQuantizedMatrix;

/// Whether this processor has dot products of bytes.
bool ct_has_byte_products(void);

/// Checks that the parts of a matrix fit each other.
int ct_quantized_check(const CTQuantizedMatrix *matrix);
CTTensor *_Nullable ct_dequantize(const CTQuantizedMatrix *matrix, CTDType dtype);
/// The rows that int64 `indices` [n] name: [n, columns].
CTTensor *_Nullable ct_quantized_rows(const CTQuantizedMatrix *matrix, CTTensor *indices, CTDType dtype);
/// As `ct_lora_linear`, with weights that share the input and whose outputs lie behind one another; `count` may be 0.
CTTensor *_Nullable ct_quantized_linear(
    CTTensor *input, const CTQuantizedMatrix *parts, int32_t part_count, CTTensor *_Nullable bias,
    CTTensor *const _Nonnull *_Nonnull a, CTTensor *const _Nonnull *_Nonnull b, const double *scales,
    const int64_t *first_outputs, int32_t count, CTTensor *_Nullable mask);
CTTensor *_Nullable ct_quantized_cross_entropy(CTTensor *hidden, const CTQuantizedMatrix *weight, CTTensor *labels);
int ct_quantized_cross_entropy_per_token(
    CTTensor *hidden, const CTQuantizedMatrix *weight, CTTensor *labels, CTTensor *_Nullable *_Nonnull losses,
    CTTensor *_Nullable *_Nonnull predictions);
/// uint8 codes, two elements each, and fp32 constants of blocks of the flattened weight; NF4 or FP4.
int ct_quantize_four_bit(
    CTTensor *weight, CTEncoding encoding, int64_t block_size, CTTensor *_Nullable *_Nonnull codes,
    CTTensor *_Nullable *_Nonnull constants);
/// uint8 codes into the ascending fp32 `table` [256], and fp32 constants of blocks.
int ct_quantize_blockwise(
    CTTensor *values, CTTensor *table, int64_t block_size, CTTensor *_Nullable *_Nonnull codes,
    CTTensor *_Nullable *_Nonnull constants);
/// The values of the signed dynamic 8-bit type, fp32 [256].
CTTensor *_Nullable ct_dynamic_table(void);
/// int8 [rows, columns] and the fp32 largest magnitude of each row.
int ct_quantize_rows(
    CTTensor *weight, CTTensor *_Nullable *_Nonnull codes, CTTensor *_Nullable *_Nonnull constants);

/// Compiled forms of the CPU kernels: 0 portable, 1 AVX2, 2 AVX-512, 3 AVX-512 with bf16 products.
int32_t ct_kernel_variant(void);
/// Chooses one, for tests that compare them; a form that the processor lacks is replaced by its best. Returns the one in use.
int32_t ct_set_kernel_variant(int32_t variant);

/// Rounds fp32 `source` into bf16 `target` up or down by chance, so that the mean is the number. `twin` does so in plain operations, as other
/// devices do.
int ct_round_stochastically(CTTensor *target, CTTensor *source, bool twin);
/// One AdamW step over all parameters, in place; `step` counts from 1.
int ct_adamw_step(
    CTTensor *const _Nonnull *_Nonnull parameters, CTTensor *const _Nonnull *_Nonnull gradients,
    CTTensor *const _Nonnull *_Nonnull means, CTTensor *const _Nonnull *_Nonnull squares, int32_t count,
    double learning_rate, double beta1, double beta2, double epsilon, double weight_decay, int64_t step);
/// The numbers of the dynamic 8-bit data type, ascending, fp32 [256].
CTTensor *_Nullable ct_dynamic_map(bool is_signed);
/// One AdamW step on one parameter with states in 8 bits: codes uint8 in its shape, a scale fp32 for each block of 256.
/// `twin` computes in plain operations, as other devices do.
int ct_adamw_8bit_step(
    CTTensor *parameter, CTTensor *gradient, CTTensor *mean_codes, CTTensor *mean_scales, CTTensor *square_codes,
    CTTensor *square_scales, double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
    int64_t step, bool twin);
/// One step of Lion on one parameter, in place; with `scales` the mean is codes in 8 bits.
int ct_lion_step(
    CTTensor *parameter, CTTensor *gradient, CTTensor *mean, CTTensor *_Nullable scales, double learning_rate,
    double beta1, double beta2, double weight_decay, bool twin);

// MARK: Gradients

bool ct_requires_gradient(CTTensor *tensor);
int ct_set_requires_gradient(CTTensor *tensor, bool requires_gradient);
CTTensor *_Nullable ct_gradient(CTTensor *tensor);
int ct_set_gradient(CTTensor *tensor, CTTensor *_Nullable gradient);
bool ct_gradient_enabled(void);
void ct_set_gradient_enabled(bool enabled);
/// Backpropagates from `tensor`; `gradient` is needed unless it is a scalar.
int ct_backward(CTTensor *tensor, CTTensor *_Nullable gradient);

/// A function of Swift's, for `ct_custom_function`: given `count` tensors it writes `result_count` references into
/// `results` and returns 0, or writes nothing and returns non-zero after `ct_set_callback_error`.
typedef int (*CTCallback)(
    void *context, CTTensor *const _Nonnull *_Nonnull tensors, int32_t count,
    CTTensor *_Nullable *_Nonnull results, int32_t result_count);
void ct_set_callback_error(const char *message);

/// Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): runs `forward` on `inputs` without keeping what it
/// computes, and again, with the same random state, when the gradient is wanted. Gradients of tensors that `forward`
/// captures are accumulated into them. `kept`, where given, holds copies of the inputs, which the backward pass takes from
/// wherever they are; the inputs themselves can then go.
CTTensor *_Nullable ct_checkpoint(
    CTTensor *const _Nonnull *_Nonnull inputs, int32_t count, CTTensor *const _Nonnull *_Nullable kept, void *context,
    CTCallback forward, void (*release)(void *context));

/// A node of the graph whose value is `output` and whose backward is a callback: it gets the gradient of the output
/// and returns one gradient per input.
CTTensor *_Nullable ct_custom_function(
    CTTensor *output, CTTensor *const _Nonnull *_Nonnull inputs, int32_t count, void *context,
    CTCallback backward, void (*release)(void *context));

// MARK: Random state

int ct_seed(uint64_t seed);
CTTensor *_Nullable ct_random_state(CTDevice device);
int ct_set_random_state(CTDevice device, CTTensor *state);

// MARK: The engine

/// The version whose headers this was compiled against, for instance "2.15.0".
const char *ct_compiled_version(void);
/// The version of the library that was loaded, as far as it says; empty if it does not.
const char *ct_loaded_version(void);
/// Build settings of the loaded library (several lines).
const char *ct_build_configuration(void);
/// What the processor's fast paths are built for, for instance "AVX512".
const char *ct_cpu_capability(void);
int32_t ct_thread_count(void);
void ct_set_thread_count(int32_t count);
/// Loads the CUDA part of libtorch that lies beside the loaded libtorch_cpu. 0 when CUDA can be used.
int ct_load_cuda(void);
int32_t ct_cuda_device_count(void);
int ct_cuda_synchronize(void);
/// Keeps freed buffers in the process instead of returning them to the kernel after every step.
void ct_keep_freed_memory(void);
/// Returns what the process holds but does not use.
void ct_release_freed_memory(void);

// MARK: Profiles

/// Begins, or goes on, to record where this thread's time in the engine goes.
int ct_profile_start(void);
void ct_profile_pause(void);
/// What was recorded since the last call: a line for each place, `outer;…;inner<TAB>calls<TAB>nanoseconds`, without the time in
/// the places inside it. The caller frees it. NULL on failure.
char *_Nullable ct_profile_take(void);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif

#endif
