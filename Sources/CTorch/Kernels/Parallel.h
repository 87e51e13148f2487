#pragma once

#include <torch/csrc/stable/c/shim.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>

namespace graft {

/// The number of threads that libtorch uses inside one operation.
inline int64_t threadCount() {
  uint32_t count = 1;
  torch_get_num_threads(&count);
  return count;
}

/// Runs `body(begin, end)` over parts of `0..<count` on libtorch's own threads.
///
/// `at::parallel_for` is a header template over OpenMP: in a file compiled without `-fopenmp`, as SwiftPM compiles this
/// one, it runs serially and says nothing. `torch_parallel_for` is the same loop, instantiated inside libtorch.
template <class Body>
void parallelFor(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  auto call = [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); };
  if (torch_parallel_for(0, count, grain, call, const_cast<Body*>(&body)) != 0)
    throw std::runtime_error("a parallel loop of a CPU kernel failed");
}

/// Runs `body(task, thread)` for every task in `0..<count`, each taken by the first thread that is free: for tasks of
/// unequal cost. `thread` is in `0..<threadCount()` and no two tasks share one at the same time.
template <class Body>
void parallelTasks(int64_t count, const Body& body) {
  std::atomic<int64_t> next{0};
  parallelFor(threadCount(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread)
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(task, thread);
  });
}

}  // namespace graft
