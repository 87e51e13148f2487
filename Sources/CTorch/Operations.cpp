// Arithmetic, reductions, selection, in-place updates and the layers of the field.

#include "Bridge.h"
#include "Kernels/Kernels.h"

using namespace graft;

// MARK: Arithmetic

CTTensor *ct_unary(CTUnary operation, CTTensor *handle) {
  return tensor_or_null([&]() -> at::Tensor {
    auto x = borrow(handle);
    switch (operation) {
      case CT_NEGATE: return x.neg();
      case CT_ABSOLUTE: return x.abs();
      case CT_EXP: return x.exp();
      case CT_LOG: return x.log();
      case CT_SQRT: return x.sqrt();
      case CT_RSQRT: return x.rsqrt();
      case CT_SIN: return x.sin();
      case CT_COS: return x.cos();
      case CT_TANH: return x.tanh();
      case CT_SIGMOID: return x.sigmoid();
      case CT_RELU: return x.relu();
      case CT_SILU: return at::silu(x);
      case CT_GELU: return at::gelu(x);
      case CT_GELU_TANH: return at::gelu(x, "tanh");
      case CT_RECIPROCAL: return x.reciprocal();
      case CT_SQUARE: return x.square();
      case CT_IS_FINITE: return x.isfinite();
      case CT_LOGICAL_NOT: return x.logical_not();
    }
    TORCH_CHECK(false, "no unary operation has the number ", static_cast<int>(operation));
  });
}

CTTensor *ct_binary(CTBinary operation, CTTensor *left, CTTensor *right) {
  return tensor_or_null([&]() -> at::Tensor {
    auto a = borrow(left);
    auto b = borrow(right);
    switch (operation) {
      case CT_ADD: return a.add(b);
      case CT_SUBTRACT: return a.sub(b);
      case CT_MULTIPLY: return a.mul(b);
      case CT_DIVIDE: return a.div(b);
      case CT_MATMUL: return a.matmul(b);
      case CT_MAXIMUM: return at::maximum(a, b);
      case CT_MINIMUM: return at::minimum(a, b);
      case CT_EQUAL: return a.eq(b);
      case CT_LESS: return a.lt(b);
      case CT_LESS_OR_EQUAL: return a.le(b);
      case CT_GREATER: return a.gt(b);
      case CT_GREATER_OR_EQUAL: return a.ge(b);
      case CT_POWER: return a.pow(b);
    }
    TORCH_CHECK(false, "no binary operation has the number ", static_cast<int>(operation));
  });
}

CTTensor *ct_binary_scalar(CTBinary operation, CTTensor *left, double b) {
  return tensor_or_null([&]() -> at::Tensor {
    auto a = borrow(left);
    switch (operation) {
      case CT_ADD: return a.add(b);
      case CT_SUBTRACT: return a.sub(b);
      case CT_MULTIPLY: return a.mul(b);
      case CT_DIVIDE: return a.div(b);
      case CT_MAXIMUM: return a.clamp_min(b);
      case CT_MINIMUM: return a.clamp_max(b);
      case CT_EQUAL: return a.eq(b);
      case CT_LESS: return a.lt(b);
      case CT_LESS_OR_EQUAL: return a.le(b);
      case CT_GREATER: return a.gt(b);
      case CT_GREATER_OR_EQUAL: return a.ge(b);
      case CT_POWER: return a.pow(b);
      case CT_MATMUL: break;
    }
    TORCH_CHECK(false, "no operation with a scalar has the number ", static_cast<int>(operation));
  });
}

CTTensor *ct_linear(CTTensor *input, CTTensor *weight, CTTensor *bias) {
  return tensor_or_null([&] { return graft::linear(borrow(input), borrow(weight), borrow_or_undefined(bias)); });
}

CTTensor *ct_where(CTTensor *condition, CTTensor *left, CTTensor *right) {
  return tensor_or_null([&] { return at::where(borrow(condition), borrow(left), borrow(right)); });
}

CTTensor *ct_masked_fill(CTTensor *tensor, CTTensor *mask, double value) {
  return tensor_or_null([&] { return borrow(tensor).masked_fill(borrow(mask), value); });
}

CTTensor *ct_clamp(CTTensor *tensor, double low, double high) {
  return tensor_or_null([&] { return borrow(tensor).clamp(low, high); });
}

// MARK: Reductions and selection

CTTensor *ct_reduce(CTReduction operation, CTTensor *handle, int64_t dimension, bool keep, bool whole) {
  return tensor_or_null([&]() -> at::Tensor {
    auto x = borrow(handle);
    switch (operation) {
      case CT_SUM: return whole ? x.sum() : x.sum(dimension, keep);
      case CT_MEAN: return whole ? x.mean() : x.mean(dimension, keep);
      case CT_MAX: return whole ? x.max() : x.amax(dimension, keep);
      case CT_MIN: return whole ? x.min() : x.amin(dimension, keep);
      case CT_ARGMAX: return whole ? x.argmax() : x.argmax(dimension, keep);
      case CT_NORM: return whole ? x.norm() : at::norm(x, 2, dimension, keep);
      case CT_LOGSUMEXP: return whole ? at::logsumexp(x.flatten(), 0) : at::logsumexp(x, dimension, keep);
    }
    TORCH_CHECK(false, "no reduction has the number ", static_cast<int>(operation));
  });
}

CTTensor *ct_softmax(CTTensor *tensor, int64_t dimension, bool logarithm) {
  return tensor_or_null([&] {
    auto x = borrow(tensor);
    return logarithm ? at::log_softmax(x, dimension) : at::softmax(x, dimension);
  });
}

CTTensor *ct_cumulative_sum(CTTensor *tensor, int64_t dimension) {
  return tensor_or_null([&] { return borrow(tensor).cumsum(dimension); });
}

namespace {
int hand_out_two(CTTensor **first, CTTensor **second, const std::tuple<at::Tensor, at::Tensor> &pair) {
  *first = hand_out(std::get<0>(pair));
  *second = hand_out(std::get<1>(pair));
  return 0;
}
}  // namespace

int ct_top_k(CTTensor *tensor, int64_t count, int64_t dimension, CTTensor **values, CTTensor **indices) {
  return guarded<int>(1, [&] { return hand_out_two(values, indices, borrow(tensor).topk(count, dimension)); });
}

int ct_sort(CTTensor *tensor, int64_t dimension, bool descending, CTTensor **values, CTTensor **indices) {
  return guarded<int>(1, [&] {
    return hand_out_two(values, indices, borrow(tensor).sort(/*stable=*/true, dimension, descending));
  });
}

CTTensor *ct_multinomial(CTTensor *probabilities, int64_t count) {
  return tensor_or_null([&] { return borrow(probabilities).multinomial(count); });
}

CTTensor *ct_index_select(CTTensor *tensor, int64_t dimension, CTTensor *indices) {
  return tensor_or_null([&] { return borrow(tensor).index_select(dimension, borrow(indices)); });
}

CTTensor *ct_gather(CTTensor *tensor, int64_t dimension, CTTensor *indices) {
  return tensor_or_null([&] { return borrow(tensor).gather(dimension, borrow(indices)); });
}

CTTensor *ct_embedding(CTTensor *weight, CTTensor *indices) {
  return tensor_or_null([&] { return at::embedding(borrow(weight), borrow(indices)); });
}

// MARK: In place

int ct_copy_into(CTTensor *destination, CTTensor *source) {
  return status([&] {
    at::NoGradGuard no_gradient;
    auto target = borrow(destination);
    auto values = borrow(source);
    TORCH_CHECK(target.sizes() == values.sizes(), "cannot copy ", values.sizes(), " into ", target.sizes());
    target.copy_(values);
  });
}

int ct_fill(CTTensor *tensor, double value) {
  return status([&] {
    at::NoGradGuard no_gradient;
    borrow(tensor).fill_(value);
  });
}

int ct_add_in_place(CTTensor *tensor, CTTensor *other, double scale) {
  return status([&] {
    at::NoGradGuard no_gradient;
    borrow(tensor).add_(borrow(other), scale);
  });
}

int ct_scale_in_place(CTTensor *tensor, double factor) {
  return status([&] {
    at::NoGradGuard no_gradient;
    borrow(tensor).mul_(factor);
  });
}

int ct_index_copy_in_place(CTTensor *tensor, int64_t dimension, CTTensor *indices, CTTensor *source) {
  return status([&] {
    at::NoGradGuard no_gradient;
    borrow(tensor).index_copy_(dimension, borrow(indices), borrow(source));
  });
}

// MARK: Layers of the field

CTTensor *ct_layer_norm(CTTensor *input, CTTensor *weight, CTTensor *bias, double epsilon) {
  return tensor_or_null([&] {
    auto x = borrow(input);
    return at::layer_norm(x, {x.size(-1)}, borrow_optional(weight), borrow_optional(bias), epsilon);
  });
}

CTTensor *ct_dropout(CTTensor *input, double probability) {
  return tensor_or_null([&] { return at::dropout(borrow(input), probability, /*train=*/true); });
}

CTTensor *ct_cross_entropy_sum(CTTensor *logits, CTTensor *labels) {
  return tensor_or_null([&] {
    return at::cross_entropy_loss(
        borrow(logits), borrow(labels), std::nullopt, at::Reduction::Sum, /*ignore_index=*/-100);
  });
}

int ct_qr(CTTensor *matrix, CTTensor **q, CTTensor **r) {
  return status([&] {
    auto [orthogonal, triangular] = at::linalg_qr(borrow(matrix), /*mode=*/"reduced");
    *q = hand_out(orthogonal);
    *r = hand_out(triangular);
  });
}

int ct_svd(CTTensor *matrix, CTTensor **u, CTTensor **s, CTTensor **vt) {
  return status([&] {
    auto [left, values, right] = at::linalg_svd(borrow(matrix), /*full_matrices=*/false);
    *u = hand_out(left);
    *s = hand_out(values);
    *vt = hand_out(right);
  });
}

CTTensor *ct_solve_right(CTTensor *matrix, CTTensor *right) {
  return tensor_or_null([&] { return at::linalg_solve(borrow(matrix), borrow(right), /*left=*/false); });
}
