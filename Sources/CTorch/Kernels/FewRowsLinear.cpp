// y = x Wᵀ + b for few rows of x, as in generation, where the time is that of reading W from memory.
//
// `at::linear` reorders a bf16 weight on each call, or reads it by one thread at half of what memory gives. Here every
// row of W is read once, by whichever thread is free, and multiplied with all rows of x, which lie in the first-level cache.

#include "FewRowsLinear.h"

#include <bit>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ConstData.h"
#include "SIMD/Variant.h"

namespace graft {

/// ATen's fp32 products are good from here on.
constexpr int64_t mostFloatRows = 8;

template <class T>
struct FewRowsProblem {
  const T *x, *weight, *bias;  // bias may be null
  int64_t weightRow, rows, inputs, outputs;
  T* y;
  PackedRows packed;
};

}  // namespace graft

#define GRAFT_LOOPS "../FewRowsLinearLoops.h"
#include "SIMD/ForEachVariant.h"

namespace graft {
namespace {

template <class T>
FewRowsProblem<T> problemOf(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, at::Tensor& y) {
  return {constData<T>(x), constData<T>(weight), bias.defined() ? constData<T>(bias) : nullptr,
          weight.stride(0),      x.size(0),                  x.size(1),
          weight.size(0),        y.data_ptr<T>(),            {}};
}

}  // namespace

bool hasFewRowsKernel(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto dtype = x.scalar_type();
  if (!(dtype == at::kBFloat16 || dtype == at::kFloat) || x.dim() != 2 || weight.dim() != 2) return false;
  const int64_t most = dtype == at::kFloat ? mostFloatRows : mostRows;
  return x.device().is_cpu() && weight.device().is_cpu() && weight.scalar_type() == dtype && x.size(0) > 0 &&
         x.size(0) <= most && x.size(1) > 0 && x.size(1) == weight.size(1) && weight.stride(1) == 1 &&
         (!bias.defined() || (bias.scalar_type() == dtype && bias.dim() == 1 && bias.size(0) == weight.size(0)));
}

at::Tensor fewRowsLinear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                         const PackedMatrix* packed) {
  TORCH_CHECK(hasFewRowsKernel(input, weight, bias), "linear layer: an input ", input.sizes(), " and a weight ",
              weight.sizes(), " are no case for the kernel of few rows");
  TORCH_CHECK(packed == nullptr || (packed->rows == weight.size(0) && packed->columns == weight.size(1)),
              "linear layer: a weight ", weight.sizes(), " is packed in another shape");
  const auto x = input.contiguous(), c = bias.defined() ? bias.contiguous() : bias;
  auto y = at::empty({x.size(0), weight.size(0)}, x.options());
  const int64_t outputs = weight.size(0), each = rowsPerTask(outputs, x.size(1) * x.element_size());
  const auto run = [&](const auto& body) {
    parallelTasks((outputs + each - 1) / each,
                  [&](int64_t task, int64_t) { body(task * each, std::min(outputs, (task + 1) * each)); });
  };
  if (x.scalar_type() == at::kFloat) {
    const auto problem = problemOf<float>(x, weight, c, y);
    run([&](int64_t begin, int64_t end) { GRAFT_DISPATCH(fewRowsFloat, problem, begin, end); });
  } else {
    auto problem = problemOf<at::BFloat16>(x, weight, c, y);
    if (packed != nullptr) problem.packed = PackedRows(*packed);
    run([&](int64_t begin, int64_t end) { GRAFT_DISPATCH(fewRowsBFloat16, problem, begin, end); });
  }
  return y;
}

}  // namespace graft
