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

/// A product of bytes, the first of a sum: `left`[m, k] · `right`[k, n] · `leftScales`[m] · `rightScales`[n], exact but for the scales.
struct IntegerTerm {
  /// Of the bytes `[rows, depth]`: see `quantizeTokens`.
  at::Tensor left, leftScales;
  /// int8 matrices `[rows, columns]` whose rows lie behind one another, as linear layers that share their input have them.
  std::vector<at::Tensor> right;
  bool transposed = true;
  /// fp32 `[columns of the result]`; undefined: 1.
  at::Tensor rightScales;
};

/// Rows of x, fp32 or bf16 `[rows, depth]`, as bytes with the largest magnitude of each row at 127 (Dettmers et al. 2022, LLM.int8(),
/// https://arxiv.org/abs/2208.07339): uint8 `[rows, depth rounded up to words]`, 128 more than the signed number, and the scales,
/// fp32 `[rows]`. Column k is multiplied by `columnScales`[k], fp32, before, where these are given.
std::tuple<at::Tensor, at::Tensor> quantizeTokens(const at::Tensor& x, const at::Tensor& columnScales = {});

/// The largest magnitude in each column of x, fp32 or bf16 `[rows, columns]`: fp32 `[columns]`.
at::Tensor largestMagnitudes(const at::Tensor& x);

/// Whether this processor has dot products of bytes, so that these take half the time of bf16's.
bool hasByteProducts();

/// Whether `sumOfProducts` is the faster way for matrices that lie in memory: bf16 on a processor with bf16 dot products, and
/// enough rows that the products and not the reading of the right factors take the time.
bool hasProductKernel(const at::Tensor& left, at::TensorList rights);

/// Whether this processor has dot products of bf16, so that weights in it are multiplied where they lie.
bool hasBFloat16Products();

/// Σ left · right over the terms, plus a bias `[columns]` that may be undefined: `[rows, columns]` in the terms' type, fp32 or
/// bf16, on the CPU, summed in fp32 and rounded once. Written into `output` when it is given, whose last axis is contiguous.
///
/// Unlike oneDNN behind `at::linear`, which reorders the whole weight in memory on each call, it packs the right factors
/// panel by panel in the cache: a pass of few hundred tokens runs at the rate of one of thousands, a low-rank
/// term is added without another pass over the result, and a factor in few bits is decoded on its way into the panel.
at::Tensor sumOfProducts(const std::vector<ProductTerm>& terms, int64_t columns, const at::Tensor& bias = {},
                         at::Tensor output = {});

/// The same with a product of bytes before the others, of which there may be none; `output` is `[rows, columns]`.
void sumOfProducts(const IntegerTerm& integers, const std::vector<ProductTerm>& terms, const at::Tensor& bias,
                   at::Tensor& output);

}  // namespace graft
