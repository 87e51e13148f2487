// The fused operations of Kernels/ behind the C interface.

#include "Bridge.h"
#include "Kernels/DynamicMap.h"
#include "Kernels/FewRowsLinear.h"
#include "Kernels/Kernels.h"
#include "Kernels/MatrixProduct.h"

using namespace graft;

CTTensor *ct_ragged_attention(
    CTTensor *query, CTTensor *key, CTTensor *value, CTTensor *offsets, double scale, bool causal, int64_t window) {
  return tensor_or_null([&] {
    return raggedAttention(borrow(query), borrow(key), borrow(value), borrow(offsets), scale, causal, window);
  });
}

CTTensor *ct_ragged_attention_fused(
    CTTensor *query_key_value, CTTensor *offsets, int64_t key_heads, double scale, bool causal, int64_t window) {
  return tensor_or_null([&] {
    return raggedAttentionFused(borrow(query_key_value), borrow(offsets), key_heads, scale, causal, window);
  });
}

CTTensor *ct_repeat_prefix(CTTensor *rows, int64_t prefix, CTTensor *offsets) {
  return tensor_or_null([&] { return repeatPrefix(borrow(rows), prefix, borrow(offsets)); });
}

CTTensor *ct_drop_repeated_prefix(CTTensor *rows, int64_t prefix, CTTensor *offsets) {
  return tensor_or_null([&] { return dropRepeatedPrefix(borrow(rows), prefix, borrow(offsets)); });
}

CTTensor *ct_cached_attention(
    CTTensor *query, CTTensor *key_cache, CTTensor *value_cache, CTTensor *offsets, CTTensor *lengths, double scale,
    bool causal, int64_t window) {
  return tensor_or_null([&] {
    return cachedAttention(
        borrow(query), borrow(key_cache), borrow(value_cache), borrow(offsets), borrow(lengths), scale, causal,
        window);
  });
}

CTTensor *ct_linear_cross_entropy(CTTensor *hidden, CTTensor *weight, CTTensor *labels) {
  return tensor_or_null([&] { return linearCrossEntropy(borrow(hidden), borrow(weight), borrow(labels)); });
}

int ct_linear_cross_entropy_per_token(
    CTTensor *hidden, CTTensor *weight, CTTensor *labels, CTTensor **losses, CTTensor **predictions) {
  return status([&] {
    auto [loss, prediction] = linearCrossEntropyPerToken(borrow(hidden), borrow(weight), borrow(labels));
    *losses = hand_out(loss);
    *predictions = hand_out(prediction);
  });
}

CTTensor *ct_rms_norm(CTTensor *input, CTTensor *weight, double epsilon) {
  return tensor_or_null([&] { return rmsNorm(borrow(input), borrow(weight), epsilon); });
}

CTTensor *ct_swiglu(CTTensor *gate, CTTensor *up) {
  return tensor_or_null([&] { return swiGLU(borrow(gate), borrow(up)); });
}

CTTensor *ct_swiglu_fused(CTTensor *gate_up) {
  return tensor_or_null([&] { return swiGLUFused(borrow(gate_up)); });
}

CTTensor *ct_rotary(CTTensor *projection, CTTensor *cosines, CTTensor *sines, int64_t head_size, int64_t heads) {
  return tensor_or_null(
      [&] { return rotaryEmbedding_(borrow(projection), borrow(cosines), borrow(sines), head_size, heads); });
}

CTTensor *ct_lora_linear(
    CTTensor *input, CTTensor *const *weights, int32_t weight_count, CTTensor *bias, CTTensor *const *a,
    CTTensor *const *b, const double *scales, const int64_t *first_outputs, int32_t count, CTTensor *mask) {
  return tensor_or_null([&] {
    std::vector<at::Tensor> frozen;
    for (int32_t i = 0; i < weight_count; ++i) frozen.push_back(borrow(weights[i]));
    std::vector<LowRankAdapter> adapters;
    for (int32_t i = 0; i < count; ++i)
      adapters.push_back({borrow(a[i]), borrow(b[i]), scales[i], first_outputs[i]});
    return loraLinear(
        borrow(input), frozen, borrow_or_undefined(bias), adapters, borrow_or_undefined(mask));
  });
}

bool ct_has_bfloat16_products(void) { return hasBFloat16Products(); }

static PackedMatrix borrow(const CTPackedMatrix &matrix) {
  return {matrix.rows, matrix.columns, borrow_or_undefined(matrix.bytes), borrow_or_undefined(matrix.bases),
          borrow_or_undefined(matrix.exceptions)};
}

static std::optional<PackedMatrix> borrow_optional(const CTPackedMatrix &matrix) {
  return matrix.bytes ? std::optional<PackedMatrix>(borrow(matrix)) : std::nullopt;
}

bool ct_has_packed_products(void) { return hasPackedProducts(); }

int ct_pack(CTTensor *weight, CTPackedMatrix *result) {
  return status([&] {
    *result = {};
    if (const auto packed = pack(borrow(weight)))
      *result = {packed->rows, packed->columns, hand_out(packed->bytes), hand_out(packed->bases), hand_out(packed->exceptions)};
  });
}

CTTensor *ct_unpack(const CTPackedMatrix *matrix) {
  return tensor_or_null([&] { return unpack(borrow(*matrix)); });
}

int ct_packed_linear(
    CTTensor *x, CTTensor *weight, const CTPackedMatrix *packed, CTTensor *bias, CTTensor **result) {
  return status([&] {
    const auto input = borrow(x), matrix = borrow(weight), added = borrow_or_undefined(bias);
    const auto numbers = borrow(*packed);
    *result = !at::GradMode::is_enabled() && hasFewRowsKernel(input, matrix, added)
                  ? hand_out(fewRowsLinear(input, matrix, added, &numbers))
                  : nullptr;
  });
}

int ct_decoder_layer_step(
    CTTensor *x, const CTDecoderLayer *layer, CTTensor *keys, CTTensor *values, const int32_t *lengths, int32_t count,
    CTTensor *cosines, CTTensor *sines, CTTensor **result) {
  return status([&] {
    const DecoderLayerWeights weights{
        borrow(layer->input_norm),
        borrow(layer->attention_norm),
        borrow(layer->query_key_value),
        borrow_or_undefined(layer->query_key_value_bias),
        borrow(layer->output),
        borrow_or_undefined(layer->output_bias),
        borrow(layer->gate_up),
        borrow_or_undefined(layer->gate_up_bias),
        borrow(layer->down),
        borrow_or_undefined(layer->down_bias),
        layer->input_epsilon,
        layer->attention_epsilon,
        layer->scale,
        layer->key_heads,
        layer->window,
        {borrow_optional(layer->packed_query_key_value), borrow_optional(layer->packed_output),
         borrow_optional(layer->packed_gate_up), borrow_optional(layer->packed_down)}};
    const DecoderLayerCache cache{borrow(keys), borrow(values), lengths};
    const auto input = borrow(x), cosine = borrow(cosines);
    TORCH_CHECK(input.size(0) == count, "a decoder's layer: ", input.size(0), " tokens and ", count, " lengths");
    *result = hasDecoderStepKernel(input, weights, cache, cosine)
                  ? hand_out(decoderLayerStep(input, weights, cache, cosine, borrow(sines)))
                  : nullptr;
  });
}

int ct_round_stochastically(CTTensor *target, CTTensor *source, bool twin) {
  return status([&] { (twin ? roundStochasticallyTwin : roundStochastically)(borrow(target), borrow(source)); });
}

int ct_adamw_step(
    CTTensor *const *parameters, CTTensor *const *gradients, CTTensor *const *means, CTTensor *const *squares,
    int32_t count, double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
    int64_t step) {
  return status([&] {
    AdamWOptions options;
    options.learningRate = learning_rate;
    options.beta1 = beta1;
    options.beta2 = beta2;
    options.epsilon = epsilon;
    options.weightDecay = weight_decay;
    adamWStep(
        borrow_all(parameters, count), borrow_all(gradients, count), borrow_all(means, count),
        borrow_all(squares, count), options, step);
  });
}

CTTensor *ct_dynamic_map(bool is_signed) {
  return tensor_or_null([&] { return DynamicMap::of(is_signed).values().clone(); });
}

int ct_adamw_8bit_step(
    CTTensor *parameter, CTTensor *gradient, CTTensor *mean_codes, CTTensor *mean_scales, CTTensor *square_codes,
    CTTensor *square_scales, double learning_rate, double beta1, double beta2, double epsilon, double weight_decay,
    int64_t step, bool twin) {
  return status([&] {
    AdamWOptions options;
    options.learningRate = learning_rate;
    options.beta1 = beta1;
    options.beta2 = beta2;
    options.epsilon = epsilon;
    options.weightDecay = weight_decay;
    const auto update = twin ? adamW8BitStepTwin : adamW8BitStep;
    update(
        borrow(parameter), borrow(gradient), {borrow(mean_codes), borrow(mean_scales)},
        {borrow(square_codes), borrow(square_scales)}, options, step);
  });
}

int ct_lion_step(
    CTTensor *parameter, CTTensor *gradient, CTTensor *mean, CTTensor *scales, double learning_rate, double beta1,
    double beta2, double weight_decay, bool twin) {
  return status([&] {
    const LionOptions options{learning_rate, beta1, beta2, weight_decay};
    if (!scales) return lionStep(borrow(parameter), borrow(gradient), borrow(mean), options);
    const auto update = twin ? lion8BitStepTwin : lion8BitStep;
    update(borrow(parameter), borrow(gradient), {borrow(mean), borrow(scales)}, options);
  });
}
