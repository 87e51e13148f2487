#include "Generator.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GeneratorImpl.h>

#include <cstring>

namespace emulated {
namespace {

class Philox final : public c10::GeneratorImpl {
 public:
  Philox() : GeneratorImpl(c10::Device(c10::kCUDA, 0), c10::DispatchKeySet(c10::DispatchKey::CUDA)) {}

  void set_current_seed(uint64_t seed) override {
    seed_ = seed;
    offset_ = 0;
  }
  void set_offset(uint64_t offset) override { offset_ = offset; }
  uint64_t get_offset() const override { return offset_; }
  uint64_t current_seed() const override { return seed_; }
  uint64_t seed() override {
    set_current_seed(c10::detail::getNonDeterministicRandom(true));
    return seed_;
  }

  void set_state(const c10::TensorImpl& state) override {
    at::detail::check_rng_state(state);
    TORCH_CHECK(state.numel() == 2 * sizeof(uint64_t), "RNG state is wrong size");
    const auto* const bytes = static_cast<const char*>(state.data());
    std::memcpy(&seed_, bytes, sizeof seed_);
    std::memcpy(&offset_, bytes + sizeof seed_, sizeof offset_);
  }

  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    auto state = at::empty({2 * sizeof(uint64_t)}, at::kByte);
    auto* const bytes = static_cast<char*>(state.data_ptr());
    std::memcpy(bytes, &seed_, sizeof seed_);
    std::memcpy(bytes + sizeof seed_, &offset_, sizeof offset_);
    return state.getIntrusivePtr();
  }

  /// For each draw other numbers, which seed and offset determine.
  at::Generator next() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t mixed = (seed_ ^ (offset_ * 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    offset_ += 4;
    return at::detail::createCPUGenerator(mixed ^ (mixed >> 31));
  }

 private:
  Philox* clone_impl() const override {
    auto* const copy = new Philox;
    copy->seed_ = seed_;
    copy->offset_ = offset_;
    return copy;
  }

  uint64_t seed_ = c10::default_rng_seed_val, offset_ = 0;
};

}  // namespace

const at::Generator& defaultGenerator() {
  static const auto* const generator = new at::Generator(c10::make_intrusive<Philox>());
  return *generator;
}

at::Generator newGenerator() { return at::Generator(c10::make_intrusive<Philox>()); }

at::Generator drawFrom(const std::optional<at::Generator>& generator) {
  const auto& used = generator && generator->defined() ? *generator : defaultGenerator();
  TORCH_CHECK(used.device().is_cuda(), "Expected a 'cuda' device type for generator but found '", used.device().type(), "'");
  return static_cast<Philox*>(used.unsafeGetGeneratorImpl())->next();
}

}  // namespace emulated
