#pragma once

#include <torch/csrc/stable/c/shim.h>

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <thread>
#include <vector>

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

/// Runs `body(phase, task, thread, isFirst)` for every task of every phase, `counts[phase]` of them: all tasks of a phase are done before one
/// of the next begins. `isFirst` marks a thread's first task of the phase. `body` must not throw.
///
/// One loop of the engine for all of them: waiting for the others between two phases takes a fraction of what beginning
/// another loop does. No thread is waited for that has taken no task, so that it does not matter how many there are.
template <class Body>
void parallelPhases(std::initializer_list<int64_t> counts, const Body& body) {
  struct alignas(64) Phase {
    std::atomic<int64_t> next{0};
    alignas(64) std::atomic<int64_t> done{0};
  };
  std::vector<Phase> phases(counts.size());
  parallelFor(threadCount(), 1, [&](int64_t thread, int64_t) {
    for (size_t phase = 0; phase < phases.size(); ++phase) {
      const int64_t count = counts.begin()[phase];
      int64_t finished = 0;
      for (int64_t task; (task = phases[phase].next.fetch_add(1, std::memory_order_relaxed)) < count; ++finished)
        body(phase, task, thread, finished == 0);
      phases[phase].done.fetch_add(finished, std::memory_order_acq_rel);
      for (int turns = 0; phases[phase].done.load(std::memory_order_acquire) < count; ++turns) {
        // The last tasks of a phase take microseconds, unless the machine does other work: then that may go on here.
        if (turns > 4096) std::this_thread::yield();
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
    }
  });
}

}  // namespace graft
