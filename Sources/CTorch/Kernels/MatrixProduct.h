#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace graft {

/// One product of a sum of products.
struct ProductTerm {
  /// bf16 `[rows, depth]`.
  at::Tensor left;
  /// bf16 `[columns, depth]` (a linear layer's weight) or, unless `transposed`, `[depth, columns]`.
  at::Tensor right;
  bool transposed = true;
  /// The column of the result that the right factor's first one belongs to: it may cover a part of them.
  int64_t firstColumn = 0;
};

/// Whether `sumOfProducts` computes such terms here: bf16 on a processor with bf16 dot products, and enough rows that the
/// products and not the reading of the right factors take the time.
bool hasProductKernel(const std::vector<ProductTerm>& terms);

/// Σ left · right over the terms, plus a bias `[columns]` that may be undefined: bf16 `[rows, columns]`, summed in fp32 and
/// rounded once. Only for terms that `hasProductKernel`. Written into `output` when it is given.
///
/// Unlike oneDNN behind `at::linear`, which reorders the whole weight in memory on each call, it packs the right factors
/// panel by panel in the cache: a pass of few hundred tokens runs at the rate of one of thousands, and a low-rank
/// term is added without another pass over the result.
at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias = {},
                         at::Tensor output = {});

}  // namespace graft
