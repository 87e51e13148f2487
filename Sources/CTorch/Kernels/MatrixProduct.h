#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "TileSource.h"

namespace graft {

/// One product of a sum of products.
struct ProductTerm {
  /// fp32 or bf16 `[rows, depth]`.
  at::Tensor left;
  /// In the same type, `[columns, depth]` (a linear layer's weight) or, unless `transposed`, `[depth, columns]`. Undefined when
  /// `source` is given.
  at::Tensor right;
  bool transposed = true;
  /// The column of the result that the right factor's first one belongs to: it may cover a part of them.
  int64_t firstColumn = 0;
  /// The right factor when it does not lie in memory as it is multiplied. It covers all columns unless `transposed`.
  std::shared_ptr<const TileSource> source = nullptr;
};

/// Whether `sumOfProducts` is the faster way for terms that lie in memory: bf16 on a processor with bf16 dot products, and
/// enough rows that the products and not the reading of the right factors take the time.
bool hasProductKernel(const std::vector<ProductTerm>& terms);

/// Σ left · right over the terms, plus a bias `[columns]` that may be undefined: `[rows, columns]` in the terms' type, fp32 or
/// bf16, on the CPU, summed in fp32 and rounded once. Written into `output` when it is given, whose last axis is contiguous.
///
/// Unlike oneDNN behind `at::linear`, which reorders the whole weight in memory on each call, it packs the right factors
/// panel by panel in the cache: a pass of few hundred tokens runs at the rate of one of thousands, a low-rank
/// term is added without another pass over the result, and a factor in few bits is decoded on its way into the panel.
at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias = {},
                         at::Tensor output = {});

}  // namespace graft
