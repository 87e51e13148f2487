// Quantized weights behind the C interface.

#include "Bridge.h"
#include "Kernels/Kernels.h"
#include "Kernels/MatrixProduct.h"
#include "Kernels/SIMD/Variant.h"

using namespace graft;

static_assert(static_cast<int>(Encoding::nf4) == CT_NF4 && static_cast<int>(Encoding::fp4) == CT_FP4 &&
              static_cast<int>(Encoding::int8) == CT_ROWWISE_INT8 && static_cast<int>(Encoding::q4_0) == CT_Q4_0 &&
              static_cast<int>(Encoding::q4_1) == CT_Q4_1 && static_cast<int>(Encoding::q5_0) == CT_Q5_0 &&
              static_cast<int>(Encoding::q5_1) == CT_Q5_1 && static_cast<int>(Encoding::q8_0) == CT_Q8_0 &&
              static_cast<int>(Encoding::q2_K) == CT_Q2_K && static_cast<int>(Encoding::q3_K) == CT_Q3_K &&
              static_cast<int>(Encoding::q4_K) == CT_Q4_K && static_cast<int>(Encoding::q5_K) == CT_Q5_K &&
              static_cast<int>(Encoding::q6_K) == CT_Q6_K);

static QuantizedMatrix borrow(const CTQuantizedMatrix &matrix) {
  QuantizedMatrix result;
  result.encoding = static_cast<Encoding>(matrix.encoding);
  result.rows = matrix.rows;
  result.columns = matrix.columns;
  result.codes = borrow(matrix.codes);
  result.blockSize = matrix.block_size;
  result.constants = borrow_or_undefined(matrix.constants);
  result.nestedConstants = borrow_or_undefined(matrix.nested_constants);
  result.nestedTable = borrow_or_undefined(matrix.nested_table);
  result.nestedOffset = matrix.nested_offset;
  result.nestedBlockSize = matrix.nested_block_size;
  result.multipliesBytes = matrix.multiplies_bytes;
  return result;
}

static void hand_out_pair(std::tuple<at::Tensor, at::Tensor> pair, CTTensor **first, CTTensor **second) {
  *first = hand_out(std::get<0>(pair));
  *second = hand_out(std::get<1>(pair));
}

int ct_quantized_check(const CTQuantizedMatrix *matrix) {
  return status([&] { check(borrow(*matrix)); });
}

CTTensor *ct_dequantize(const CTQuantizedMatrix *matrix, CTDType dtype) {
  return tensor_or_null([&] { return dequantize(borrow(*matrix), dtype_of(dtype)); });
}

CTTensor *ct_quantized_rows(const CTQuantizedMatrix *matrix, CTTensor *indices, CTDType dtype) {
  return tensor_or_null([&] { return selectRows(borrow(*matrix), borrow(indices), dtype_of(dtype)); });
}

CTTensor *ct_quantized_linear(
    CTTensor *input, const CTQuantizedMatrix *parts, int32_t part_count, CTTensor *bias, CTTensor *const *a,
    CTTensor *const *b, const double *scales, const int64_t *first_outputs, int32_t count, CTTensor *mask) {
  return tensor_or_null([&] {
    std::vector<QuantizedMatrix> matrices;
    for (int32_t i = 0; i < part_count; ++i) matrices.push_back(borrow(parts[i]));
    std::vector<LowRankAdapter> adapters;
    for (int32_t i = 0; i < count; ++i)
      adapters.push_back({borrow(a[i]), borrow(b[i]), scales[i], first_outputs[i]});
    return quantizedLinear(
        borrow(input), matrices, borrow_or_undefined(bias), adapters, borrow_or_undefined(mask));
  });
}

CTTensor *ct_quantized_cross_entropy(CTTensor *hidden, const CTQuantizedMatrix *weight, CTTensor *labels) {
  return tensor_or_null([&] { return linearCrossEntropy(borrow(hidden), borrow(*weight), borrow(labels)); });
}

int ct_quantized_cross_entropy_per_token(
    CTTensor *hidden, const CTQuantizedMatrix *weight, CTTensor *labels, CTTensor **losses, CTTensor **predictions) {
  return status([&] {
    hand_out_pair(linearCrossEntropyPerToken(borrow(hidden), borrow(*weight), borrow(labels)), losses, predictions);
  });
}

int ct_quantize_four_bit(
    CTTensor *weight, CTEncoding encoding, int64_t block_size, CTTensor **codes, CTTensor **constants) {
  return status([&] {
    hand_out_pair(quantizeFourBit(borrow(weight), static_cast<Encoding>(encoding), block_size), codes, constants);
  });
}

int ct_quantize_blockwise(
    CTTensor *values, CTTensor *table, int64_t block_size, CTTensor **codes, CTTensor **constants) {
  return status(
      [&] { hand_out_pair(quantizeBlockwise(borrow(values), borrow(table), block_size), codes, constants); });
}

CTTensor *ct_dynamic_table(void) {
  return tensor_or_null([] { return dynamicTable(); });
}

int ct_quantize_rows(CTTensor *weight, CTTensor **codes, CTTensor **constants) {
  return status([&] { hand_out_pair(quantizeRows(borrow(weight)), codes, constants); });
}

bool ct_has_byte_products(void) { return hasByteProducts(); }

int32_t ct_kernel_variant(void) { return static_cast<int32_t>(variant()); }

int32_t ct_set_kernel_variant(int32_t wanted) {
  return static_cast<int32_t>(setVariant(static_cast<Variant>(wanted)));
}
