// Rows that several sequences begin with: computed once, and read by the attention of each.
//
//   repeatPrefix: [p | own rows of 1 | own rows of 2 | …] → [p | own 1 | p | own 2 | …]
//     gradient of p: the sum over its copies, added in fp32
//   dropRepeatedPrefix: the reverse, which keeps the first copy
//     gradient of the copies that were dropped: 0
//
// Whole stretches of rows are copied, where gathering by an index would go through them one by one, and its gradient would
// add them up one by one.

#include "Kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "ConstData.h"
#include "Parallel.h"

namespace graft {
namespace {

/// Where the rows of one sequence lie: with the prefix, and without it.
struct Stretch {
  int64_t repeated;  // its copy of the prefix
  int64_t own;       // its own rows where the prefix is once
  int64_t count;     // how many these are
};

std::vector<Stretch> stretchesOf(const at::Tensor& offsets, int64_t prefix) {
  TORCH_CHECK(offsets.device().is_cpu() && offsets.scalar_type() == at::kInt && offsets.dim() == 1 &&
                  offsets.numel() > 1,
              "shared prefix: offsets must be an int32 tensor [sequences + 1] on the CPU, not ", offsets.toString(),
              offsets.sizes());
  const auto contiguous = offsets.contiguous();
  const int32_t* offset = constData<int32_t>(contiguous);
  TORCH_CHECK(prefix >= 0 && offset[0] == 0, "shared prefix: ", prefix, " rows, offsets from ", offset[0]);
  std::vector<Stretch> stretches;
  int64_t own = prefix;
  for (int64_t n = 0; n + 1 < offsets.numel(); ++n) {
    const int64_t count = int64_t(offset[n + 1]) - offset[n] - prefix;
    TORCH_CHECK(count >= 0, "shared prefix: sequence ", n, " has ", count + prefix, " rows and a prefix of ", prefix);
    stretches.push_back({offset[n], own, count});
    own += count;
  }
  return stretches;
}

int64_t repeatedRows(const std::vector<Stretch>& stretches, int64_t prefix) {
  return stretches.back().repeated + prefix + stretches.back().count;
}

int64_t sharedRows(const std::vector<Stretch>& stretches) { return stretches.back().own + stretches.back().count; }

/// Copies `count` rows; without an operation's cost for each stretch where memory lies as it seems.
struct RowCopier {
  const at::Tensor &target, &source;
  const bool isPlain = target.is_contiguous() && source.is_contiguous() && target.device().is_cpu();
  const int64_t bytes = source.numel() / std::max<int64_t>(source.size(0), 1) * source.element_size();

  void operator()(int64_t to, int64_t from, int64_t count) const {
    if (!isPlain) {
      target.narrow(0, to, count).copy_(source.narrow(0, from, count));
    } else if (count > 0) {
      std::memcpy(static_cast<char*>(target.data_ptr()) + to * bytes,
                  static_cast<const char*>(source.const_data_ptr()) + from * bytes, count * bytes);
    }
  }

  /// Calls `copy` for each stretch, side by side where that is allowed.
  void all(const std::vector<Stretch>& stretches, const std::function<void(const Stretch&)>& copy) const {
    // On other devices the copies queue up by themselves.
    if (!isPlain) {
      for (const auto& stretch : stretches) copy(stretch);
      return;
    }
    const int64_t each = std::max<int64_t>(target.numel() * target.element_size() / int64_t(stretches.size()), 1);
    parallelFor(int64_t(stretches.size()), std::max<int64_t>((1 << 17) / each, 1), [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) copy(stretches[n]);
    });
  }
};

at::Tensor withRows(const at::Tensor& like, int64_t rows) {
  auto sizes = like.sizes().vec();
  sizes[0] = rows;
  return at::empty(sizes, like.options());
}

at::Tensor repeat(const at::Tensor& rows, const std::vector<Stretch>& stretches, int64_t prefix) {
  TORCH_CHECK(rows.dim() > 0 && rows.size(0) == sharedRows(stretches), "shared prefix: ", sharedRows(stretches),
              " rows are needed, not ", rows.sizes());
  const auto result = withRows(rows, repeatedRows(stretches, prefix));
  const RowCopier copy{result, rows};
  copy.all(stretches, [&](const Stretch& stretch) {
    copy(stretch.repeated, 0, prefix);
    copy(stretch.repeated + prefix, stretch.own, stretch.count);
  });
  return result;
}

at::Tensor drop(const at::Tensor& rows, const std::vector<Stretch>& stretches, int64_t prefix) {
  TORCH_CHECK(rows.dim() > 0 && rows.size(0) == repeatedRows(stretches, prefix), "shared prefix: ",
              repeatedRows(stretches, prefix), " rows are needed, not ", rows.sizes());
  const auto result = withRows(rows, sharedRows(stretches));
  const RowCopier copy{result, rows};
  copy(0, 0, prefix);
  copy.all(stretches, [&](const Stretch& stretch) { copy(stretch.own, stretch.repeated + prefix, stretch.count); });
  return result;
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void save(AutogradContext* context, int64_t prefix, const at::Tensor& offsets) {
  context->saved_data["prefix"] = prefix;
  context->saved_data["offsets"] = offsets;
}

std::pair<int64_t, std::vector<Stretch>> saved(AutogradContext* context) {
  const int64_t prefix = context->saved_data["prefix"].toInt();
  return {prefix, stretchesOf(context->saved_data["offsets"].toTensor(), prefix)};
}

struct RepeatPrefix : torch::autograd::Function<RepeatPrefix> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, int64_t prefix,
                            const at::Tensor& offsets) {
    save(context, prefix, offsets);
    return repeat(rows, stretchesOf(offsets, prefix), prefix);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto [prefix, stretches] = saved(context);
    const auto& repeated = gradients[0];
    const auto gradient = drop(repeated, stretches, prefix);
    const bool isHalf = repeated.scalar_type() == at::kBFloat16 || repeated.scalar_type() == at::kHalf;
    const auto sum = gradient.narrow(0, 0, prefix).to(isHalf ? at::kFloat : repeated.scalar_type());
    for (size_t n = 1; n < stretches.size(); ++n) sum.add_(repeated.narrow(0, stretches[n].repeated, prefix));
    if (isHalf) gradient.narrow(0, 0, prefix).copy_(sum);
    return {gradient, {}, {}};
  }
};

struct DropRepeatedPrefix : torch::autograd::Function<DropRepeatedPrefix> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, int64_t prefix,
                            const at::Tensor& offsets) {
    save(context, prefix, offsets);
    return drop(rows, stretchesOf(offsets, prefix), prefix);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto [prefix, stretches] = saved(context);
    const auto gradient = repeat(gradients[0], stretches, prefix);
    for (size_t n = 1; n < stretches.size(); ++n) gradient.narrow(0, stretches[n].repeated, prefix).zero_();
    return {gradient, {}, {}};
  }
};

/// For each row with the prefix before each sequence, where it lies when the prefix is once.
at::Tensor sourcesOf(const at::Tensor& offsets, int64_t prefix, at::Device device) {
  std::vector<int64_t> sources;
  for (const auto& stretch : stretchesOf(offsets, prefix)) {
    for (int64_t row = 0; row < prefix; ++row) sources.push_back(row);
    for (int64_t row = 0; row < stretch.count; ++row) sources.push_back(stretch.own + row);
  }
  return at::tensor(sources, at::kLong).to(device);
}

}  // namespace

at::Tensor repeatPrefix(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets) {
  return RepeatPrefix::apply(rows, prefix, offsets);
}

at::Tensor dropRepeatedPrefix(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets) {
  return DropRepeatedPrefix::apply(rows, prefix, offsets);
}

at::Tensor repeatPrefixTwin(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets) {
  return rows.index_select(0, sourcesOf(offsets, prefix, rows.device()));
}

at::Tensor dropRepeatedPrefixTwin(const at::Tensor& rows, int64_t prefix, const at::Tensor& offsets) {
  const auto sources = sourcesOf(offsets, prefix, at::kCPU);
  const int64_t* source = constData<int64_t>(sources);
  std::vector<int64_t> kept;
  for (int64_t row = 0; row < sources.size(0); ++row)
    if (source[row] == static_cast<int64_t>(kept.size())) kept.push_back(row);
  return rows.index_select(0, at::tensor(kept, at::kLong).to(rows.device()));
}

}  // namespace graft
