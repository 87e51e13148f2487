// Low-rank adapters around a frozen linear layer (Hu et al. 2021, https://arxiv.org/abs/2106.09685):
//
//   y = x Wᵀ + c,  y[:, outputs of i] += sᵢ (x ∘ mask) Aᵢᵀ Bᵢᵀ     for each adapter i
//   hᵢ = sᵢ dy[:, outputs of i] Bᵢ,  dx = dy W + mask ∘ Σ hᵢ Aᵢ,  dAᵢ = hᵢᵀ (x ∘ mask),  dBᵢ = sᵢ dy[:, outputs of i]ᵀ ((x ∘ mask) Aᵢᵀ)
//
// Adapters that share an input (q, k and v of one fused projection) are stacked: one product with all Aᵢ, and one with
// all hᵢ. The frozen weight gets no gradient, the low-rank terms are added by the products themselves (addmm), and beside x only the
// [tokens, Σ rank] products are kept. Where there is a kernel for it (MatrixProduct.h), the frozen product and the low-rank
// ones are one pass; few rows go through FewRowsLinear.h. A and B may be fp32 masters of a bf16 layer: they are cast here, and get their gradients in their own
// dtype. Everything else is ATen, so every device has it. The weight may be quantized: it is then decoded once in each
// direction, and what is kept for the backward pass are its codes, which lie in memory anyhow.

#include "FewRowsLinear.h"
#include "Kernels.h"
#include "MatrixProduct.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "Quantized/FrozenWeight.h"

namespace graft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Where an adapter's rank and outputs lie in the stacked matrices.
struct Place {
  int64_t firstRank, rank, firstOutput, outputs;
};

std::vector<Place> placesOf(at::TensorList a, at::TensorList b, const std::vector<int64_t>& firstOutputs) {
  std::vector<Place> places;
  int64_t rank = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    places.push_back({rank, a[i].size(0), firstOutputs[i], b[i].size(0)});
    rank += a[i].size(0);
  }
  return places;
}

at::Tensor stack(at::TensorList a, c10::ScalarType dtype) {
  std::vector<at::Tensor> cast;
  for (const auto& part : a) cast.push_back(part.to(dtype));
  return cast.size() == 1 ? cast[0] : at::cat(cast);
}

at::Tensor masked(const at::Tensor& x, const at::Tensor& mask) { return mask.defined() ? x * mask : x; }

struct LoRALinearFunction : torch::autograd::Function<LoRALinearFunction> {
  /// `factors`: all A, then all B.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<FrozenWeight>& weight,
                            const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& mask,
                            at::TensorList factors, std::vector<int64_t> firstOutputs, std::vector<double> scales) {
    const size_t count = scales.size();
    const auto a = factors.slice(0, count), b = factors.slice(count, count);
    const auto places = placesOf(a, b, firstOutputs);
    const auto dropout = mask.value_or(at::Tensor());
    const auto dtype = x.scalar_type();
    at::Tensor low;  // [tokens, Σ rank]
    if (count > 0) low = at::linear(masked(x, dropout), stack(a, dtype));
    std::vector<ProductTerm> terms;
    for (size_t i = 0; i < count; ++i)
      terms.push_back({low.narrow(1, places[i].firstRank, places[i].rank), (b[i] * scales[i]).to(dtype), true,
                       places[i].firstOutput});
    auto y = weight->linear(x, bias, terms);

    // Without adapters nothing of x is needed.
    variable_list saved{count > 0 ? x : at::Tensor(), dropout, low};
    saved.insert(saved.end(), factors.begin(), factors.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["weight"] = c10::IValue::make_capsule(weight);
    context->saved_data["firstOutputs"] = std::move(firstOutputs);
    context->saved_data["scales"] = std::move(scales);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto scales = context->saved_data["scales"].toDoubleVector();
    const size_t count = scales.size();
    const auto weight = c10::static_intrusive_pointer_cast<FrozenWeight>(context->saved_data["weight"].toCapsule());
    if (count == 0) return {weight->inputGradient(gradients[0]), {}, {}, {}, {}, {}};
    const auto &x = saved[0], &mask = saved[1], &low = saved[2];
    const at::TensorList a(saved.data() + 3, count), b(saved.data() + 3 + count, count);
    const auto places = placesOf(a, b, context->saved_data["firstOutputs"].toIntVector());
    const auto& gradient = gradients[0];
    const auto dtype = gradient.scalar_type();

    // hᵢ side by side, [tokens, Σ rank]
    const auto lowGradient = at::empty(low.sizes(), low.options());
    variable_list factorGradients(2 * count);
    for (size_t i = 0; i < count; ++i) {
      const auto part = gradient.narrow(1, places[i].firstOutput, places[i].outputs);
      auto target = lowGradient.narrow(1, places[i].firstRank, places[i].rank);
      at::addmm_out(target, target, part, b[i].to(dtype), 0, scales[i]);
      const auto lowPart = low.narrow(1, places[i].firstRank, places[i].rank);
      factorGradients[count + i] = at::mm(part.t(), lowPart).to(b[i].scalar_type()).mul_(scales[i]);
    }
    const auto aGradient = at::mm(lowGradient.t(), masked(x, mask));  // [Σ rank, inputs]
    for (size_t i = 0; i < count; ++i)
      factorGradients[i] = aGradient.narrow(0, places[i].firstRank, places[i].rank).to(a[i].scalar_type());

    at::Tensor xGradient;
    if (context->needs_input_grad(0)) {
      std::vector<ProductTerm> terms;
      if (!mask.defined()) terms.push_back({lowGradient, stack(a, dtype), false});
      xGradient = weight->inputGradient(gradient, terms);
      if (mask.defined()) xGradient.add_(at::mm(lowGradient, stack(a, dtype)).mul_(mask));
    }
    // x, weight, bias, mask, A and B, outputs, scales
    variable_list result{xGradient, {}, {}, {}};
    result.insert(result.end(), factorGradients.begin(), factorGradients.end());
    result.resize(result.size() + 2);
    return result;
  }
};

void check(const at::Tensor& x, at::IntArrayRef weight, const std::vector<LowRankAdapter>& adapters,
           const at::Tensor& mask) {
  TORCH_CHECK(x.dim() == 2 && weight.size() == 2 && x.size(1) == weight[1], "LoRA: input ", x.sizes(), " and weight ",
              weight);
  TORCH_CHECK(!mask.defined() || mask.sizes() == x.sizes(), "LoRA: a dropout mask ", mask.sizes(), " for an input ",
              x.sizes());
  for (const auto& adapter : adapters)
    TORCH_CHECK(adapter.a.dim() == 2 && adapter.b.dim() == 2 && adapter.a.size(1) == x.size(1) &&
                    adapter.a.size(0) == adapter.b.size(1) && adapter.firstOutput >= 0 &&
                    adapter.firstOutput + adapter.b.size(0) <= weight[0],
                "LoRA: A ", adapter.a.sizes(), " and B ", adapter.b.sizes(), " at output ", adapter.firstOutput,
                " do not fit a weight ", weight);
}

at::Tensor run(const at::Tensor& x, const c10::intrusive_ptr<FrozenWeight>& weight, const at::Tensor& bias,
                 const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask) {
  std::vector<at::Tensor> factors;
  std::vector<int64_t> firstOutputs;
  std::vector<double> scales;
  for (const auto& adapter : adapters) factors.push_back(adapter.a);
  for (const auto& adapter : adapters) {
    factors.push_back(adapter.b);
    firstOutputs.push_back(adapter.firstOutput);
    scales.push_back(adapter.scale);
  }
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
  };
  return LoRALinearFunction::apply(x, weight, optional(bias), optional(mask), at::TensorList(factors), firstOutputs,
                                   scales);
}

}  // namespace

at::Tensor loraLinearTwin(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask) {
  check(x, weight.sizes(), adapters, mask);
  auto y = at::linear(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
  for (const auto& adapter : adapters) {
    const auto low = at::linear(masked(x, mask).to(adapter.a.scalar_type()), adapter.a);
    const auto delta = (at::linear(low, adapter.b) * adapter.scale).to(y.scalar_type());
    const int64_t rest = y.size(1) - adapter.firstOutput - adapter.b.size(0);
    y = y + at::constant_pad_nd(delta, {adapter.firstOutput, rest});
  }
  return y;
}

at::Tensor loraLinear(const at::Tensor& x, at::TensorList weights, const at::Tensor& bias,
                      const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask) {
  const auto weight = c10::make_intrusive<FrozenWeight>(weights.vec());
  check(x, {weight->rows(), weight->columns()}, adapters, mask);
  const auto isTrained = [](const at::Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); };
  const bool frozen = std::none_of(weights.begin(), weights.end(), isTrained) && !isTrained(bias);
  const bool hasKernel = weight->hasKernel(x) || hasFewRowsKernel(x, weights[0], bias);
  if ((adapters.empty() && !hasKernel) || (at::GradMode::is_enabled() && !frozen) ||
      x.scalar_type() != weights[0].scalar_type())
    return loraLinearTwin(x, weights.size() == 1 ? weights[0] : at::cat(weights), bias, adapters, mask);
  return run(x, weight, bias, adapters, mask);
}

at::Tensor quantizedLinear(const at::Tensor& x, const std::vector<QuantizedMatrix>& parts, const at::Tensor& bias,
                           const std::vector<LowRankAdapter>& adapters, const at::Tensor& mask) {
  const auto weight = c10::make_intrusive<FrozenWeight>(parts);
  check(x, {weight->rows(), weight->columns()}, adapters, mask);
  TORCH_CHECK(!(at::GradMode::is_enabled() && bias.defined() && bias.requires_grad()),
              "a quantized linear layer with a trained bias: add the bias apart");
  return run(x, weight, bias, adapters, mask);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  // In generation: no node of the graph is made.
  if (!at::GradMode::is_enabled() && hasFewRowsKernel(x, weight, bias)) return fewRowsLinear(x, weight, bias);
  if (x.dim() == 2 && x.scalar_type() == weight.scalar_type()) return loraLinear(x, weight, bias, {});
  return at::linear(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
}

}  // namespace graft
