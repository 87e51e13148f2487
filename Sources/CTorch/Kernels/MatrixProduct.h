#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace graft {

/// Reads a part of a row of a matrix that is kept in another form, such as a quantized weight, as bf16.
struct RowReader {
  const void* context;
  void (*read)(const void* context, int64_t row, int64_t first, int64_t count, at::BFloat16* to);
};

/// One product of a sum of products.
struct ProductTerm {
  /// bf16 `[rows, depth]`.
  at::Tensor left;
  /// bf16 `[columns, depth]` (a linear layer's weight) or, unless `transposed`, `[depth, columns]`. Undefined when
  /// there is a `reader`.
  at::Tensor right;
  bool transposed = true;
  /// The column of the result that the right factor's first one belongs to: it may cover a part of them.
  int64_t firstColumn = 0;
  /// Reads the right factor, whose sizes are `readerRows` and `readerColumns`.
  const RowReader* reader = nullptr;
  int64_t readerRows = 0, readerColumns = 0;
};

/// Whether `sumOfProducts` computes such terms here: bf16 on a processor with bf16 dot products, and enough rows that the
/// products and not the reading of the right factors take the time.
bool hasProductKernel(const std::vector<ProductTerm>& terms);

/// Σ left · right over the terms, plus a bias `[columns]` that may be undefined: bf16 `[rows, columns]`, summed in fp32 and
/// rounded once. Only for terms that `hasProductKernel`. Written into `output` when it is given.
///
/// Unlike oneDNN behind `at::linear`, which reorders the whole weight in memory on each call, it packs the right factors
/// panel by panel in the cache: a pass of few hundred tokens runs at the rate of one of thousands, a low-rank
/// term is added without another pass over the result, and a quantized weight is never whole.
at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias = {},
                         at::Tensor output = {});

}  // namespace graft
