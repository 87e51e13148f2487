// Whether the emulated device refuses and spoils what it is there to refuse and spoil. Prints what it does not; 0 when it does all.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>

#include "../Driver.h"

namespace {

int failures = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("emulated CUDA: %s\n", what);
  ++failures;
}

/// `body` has to throw an error that says `part`.
void refused(const char* part, const std::function<void()>& body) {
  try {
    body();
    check(false, (std::string("nothing is refused with: ") + part).c_str());
  } catch (const c10::Error& error) {
    check(std::string(error.what()).find(part) != std::string::npos, error.what_without_backtrace());
  }
}

/// The signal that ends `body` in a process of its own.
int signalOf(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    // The sentence of an abort is expected.
    std::freopen("/dev/null", "w", stderr);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

int main() {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    std::printf("%s\n", dlerror());
    return 1;
  }
  at::set_num_threads(1);
  const auto device = at::TensorOptions().device(at::kCUDA);
  const auto synchronize = [] { at::detail::getCUDAHooks().deviceSynchronize(-1); };
  const auto three = at::arange(3, at::kFloat);
  const auto there = three.to(at::kCUDA);

  // Memory.
  check(signalOf([&] { std::printf("%f", *static_cast<volatile float*>(there.data_ptr())); }) == SIGSEGV,
        "the processor reads the device's memory");
  check(std::isnan(at::empty({5}, device).sum().item<float>()), "new memory holds numbers");
  check(signalOf([&] {
          auto tensor = at::empty({3}, device);
          auto* const host = static_cast<float*>(const_cast<void*>(emulatedDeviceMemory(tensor.data_ptr())));
          host[3] = 1;
          tensor.reset();
        }) == SIGABRT,
        "nobody sees what was written behind a tensor");

  // Copies that are not waited for.
  auto pinned = at::empty({3}, at::TensorOptions().pinned_memory(true));
  check(pinned.is_pinned() && !three.is_pinned(), "pinned memory is not told from other memory");
  pinned.copy_(there, /*non_blocking=*/true);
  check(!at::equal(pinned, three), "a copy to the host is there before it was waited for");
  synchronize();
  check(at::equal(pinned, three), "a copy to the host does not arrive");
  auto late = at::empty({3}, device);
  late.copy_(pinned, /*non_blocking=*/true);
  pinned.fill_(7);
  check((late == 7).all().item<bool>(), "a copy from the host is made before it is needed");

  // Copies on a stream of their own.
  {
    const c10::impl::VirtualGuardImpl guard(at::kCUDA);
    const auto compute = guard.getStream(at::Device(at::kCUDA, 0)), other = guard.getNewStream(at::Device(at::kCUDA, 0));
    c10::Event event(at::kCUDA);
    auto fetched = at::empty({3}, device);
    {
      const c10::StreamGuard onOther(other);
      pinned.copy_(there, /*non_blocking=*/true);
      fetched.copy_(pinned, /*non_blocking=*/true);
      event.record(other);
    }
    check(std::isnan(fetched.sum().item<float>()), "a copy on another stream is seen without waiting for it");
    event.block(compute);
    check(at::equal(fetched.cpu(), three), "waiting for an event does not wait for the copies before it");
  }

  // Devices.
  const auto numbers = at::ones({3, 3}, device);
  check(at::equal((numbers + at::scalar_tensor(2)).cpu(), at::full({3, 3}, 3.0f)), "a number of the processor is not added");
  refused("same device", [&] { numbers.add(at::ones({3, 3})); });
  refused("same device", [&] { at::mm(numbers, at::ones({3, 3})); });
  refused("`index`", [&] { numbers.index_select(0, at::zeros({1}, at::kLong)); });
  refused("`tensors`", [&] { at::cat({numbers, at::ones({3, 3})}); });
  refused("'cuda' device type", [&] { at::empty({3}, device).normal_(0, 1, at::detail::createCPUGenerator()); });
  check(at::equal(numbers.index({at::tensor({0, 2}, at::kLong)}).cpu(), at::ones({2, 3})), "indices of the processor are refused");
  refused("invalid device ordinal", [&] { at::empty({3}, at::TensorOptions().device(at::Device(at::kCUDA, 1))); });

  // Results that outgrow or are parts of what there was.
  auto result = at::empty({0}, device);
  at::cat_out(result, {numbers, numbers});
  check(at::equal(result.cpu(), at::ones({6, 3})), "a result does not fit");
  const auto square = at::arange(9, device.dtype(at::kFloat)).view({3, 3});
  square.t().select(0, 1).mul_(10);
  check(at::equal(square.cpu().select(1, 1), at::tensor({10.0f, 40.0f, 70.0f})), "a view is not what it is a view of");

  // Random numbers.
  const auto generator = at::globalContext().defaultGenerator(at::kCUDA);
  const auto state = generator.get_state();
  const auto drawn = at::rand({4}, device).cpu();
  check(state.numel() == 16 && !at::equal(at::rand({4}, device).cpu(), drawn), "the generator stands still");
  at::Generator(generator).set_state(state);
  check(at::equal(at::rand({4}, device).cpu(), drawn), "the generator's state is not taken up");

  // Flash attention.
  const auto attention = [&](const at::Tensor& query, const at::Tensor& offsets) {
    return std::get<0>(at::_flash_attention_forward(query, query, query, offsets, offsets, 3, 3, 0, true, false));
  };
  const auto query = at::ones({3, 2, 8}, device.dtype(at::kHalf));
  const auto offsets = at::tensor({0, 3}, at::kInt);
  check(at::equal(attention(query, offsets.to(at::kCUDA)).cpu(), query.cpu()), "flash attention to equal values");
  refused("cu_seqlens_q must be on CUDA", [&] { attention(query, offsets); });
  refused("int32", [&] { attention(query, offsets.to(at::kCUDA).to(at::kLong)); });
  refused("fp16 and bf16", [&] { attention(query.to(at::kFloat), offsets.to(at::kCUDA)); });
  return failures == 0 ? 0 : 1;
}
