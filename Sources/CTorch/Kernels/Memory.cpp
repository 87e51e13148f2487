// Memory between steps. The engine takes every buffer from malloc, and glibc returns large ones to the kernel, which has to
// zero their pages again for the next layer: a third of the time of eager training on a CPU can be page faults. Keeping
// them in malloc's heap instead fragments it, because ragged batches ask for other sizes at every step.
//
// Here freed blocks are kept by size for the next buffer of about that size, and given back to the kernel, the longest
// unused first, before the process would hold more than the tensors alone ever needed at once.

#include "Kernels.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <unordered_map>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define GRAFT_HAS_MMAP 1
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace graft {

#if defined(GRAFT_HAS_MMAP)

namespace {

class CachingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t count) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (count < smallestBlock) {
      void* data = c10::alloc_cpu(count);
      return {data, data, &c10::free_cpu, cpu};
    }
    void* data = take(roundedSize(count));
    return {data, data, &giveBack, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &giveBack; }

  void copy_data(void* destination, const void* source, size_t count) const final {
    std::memcpy(destination, source, count);
  }

  /// Returns all that is free to the kernel, and forgets how much was ever needed.
  void release() {
    const std::lock_guard guard(mutex);
    while (!idle.empty()) evictOldest();
    mostWanted = wantedBytes;
  }

  static CachingAllocator& shared() {
    // Never destroyed: tensors in static storage outlive everything.
    static auto* const allocator = new CachingAllocator;
    return *allocator;
  }

 private:
  /// Smaller buffers stay malloc's: it keeps them anyway.
  static constexpr size_t smallestBlock = 64 << 10;
  static constexpr size_t hugePage = 2 << 20;

  struct Block {
    void* data;
    size_t size;
  };

  struct Use {
    /// The block's size, and how much of it was asked for.
    size_t size, wanted;
  };

  std::mutex mutex;
  std::unordered_map<void*, Use> used;
  /// Free blocks, the longest unused first, and the same by size.
  std::list<Block> idle;
  std::multimap<size_t, std::list<Block>::iterator> bySize;
  size_t usedBytes = 0, idleBytes = 0;
  /// What is asked for now, and the most that ever was. Not the sum of the blocks: these may be larger than what was asked
  /// for, and a bound that counted them would rise with every such use.
  size_t wantedBytes = 0, mostWanted = 0;

  /// Up to the next eighth of a power of two, so that batches of nearly the same length share blocks.
  static size_t roundedSize(size_t count) {
    const size_t step = std::max(std::bit_floor(count) / 8, size_t(64 << 10));
    return (count + step - 1) / step * step;
  }

  void* take(size_t wanted) {
    const std::lock_guard guard(mutex);
    const auto found = bySize.lower_bound(wanted);
    Block block{nullptr, wanted};
    if (found != bySize.end() && found->first <= wanted + wanted / 4) {
      block = *found->second;
      idle.erase(found->second);
      bySize.erase(found);
      idleBytes -= block.size;
    }
    usedBytes += block.size;
    wantedBytes += wanted;
    mostWanted = std::max(mostWanted, wantedBytes);
    while (!idle.empty() && usedBytes + idleBytes > mostWanted + mostWanted / 32) evictOldest();
    if (block.data == nullptr) block.data = map(wanted);
    if (block.data == nullptr) {
      // Address space or memory is short: what is free goes first.
      while (!idle.empty()) evictOldest();
      block.data = map(wanted);
    }
    if (block.data == nullptr) {
      usedBytes -= wanted;
      wantedBytes -= wanted;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "the system has no ", wanted, " bytes of memory left");
    }
    used.emplace(block.data, Use{block.size, wanted});
    return block.data;
  }

  void put(void* data) {
    const std::lock_guard guard(mutex);
    const auto found = used.find(data);
    if (found == used.end()) return c10::free_cpu(data);
    const auto [size, wanted] = found->second;
    used.erase(found);
    usedBytes -= size;
    wantedBytes -= wanted;
    idleBytes += size;
    bySize.emplace(size, idle.insert(idle.end(), {data, size}));
  }

  static void giveBack(void* data) {
    if (data != nullptr) shared().put(data);
  }

  void evictOldest() {
    const auto block = idle.begin();
    auto [begin, end] = bySize.equal_range(block->size);
    while (begin->second != block) ++begin;
    bySize.erase(begin);
    idleBytes -= block->size;
    munmap(block->data, block->size);
    idle.erase(block);
  }

  /// Fresh zero pages, huge ones where the block has room for them.
  static void* map(size_t size) {
    const size_t slack = size >= hugePage ? hugePage : 0;
    void* const whole =
        mmap(nullptr, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) return nullptr;
    auto* const start = static_cast<char*>(whole);
    if (slack == 0) return start;
    const size_t skipped = (hugePage - reinterpret_cast<uintptr_t>(start) % hugePage) % hugePage;
    if (skipped > 0) munmap(start, skipped);
    if (skipped < slack) munmap(start + skipped + size, slack - skipped);
#if defined(MADV_HUGEPAGE)
    madvise(start + skipped, size / hugePage * hugePage, MADV_HUGEPAGE);
#endif
    return start + skipped;
  }
};

/// oneDNN keeps the programs that it makes, one for each shape of a product and 1,024 of them by default, twice over: in its own cache and
/// in the engine's. Ragged batches have new shapes at every step, so that these come to 20 MB a step of a 0.5B model. What is
/// asked for again are the shapes of one pass, a few dozen. Both are read from the environment when they are first used.
void limitShapeCaches() {
  for (const char* name : {"ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"}) setenv(name, "32", /*overwrite=*/0);
}

}  // namespace

bool configureAllocator() {
  static const bool once = [] {
    limitShapeCaches();
    c10::SetCPUAllocator(&CachingAllocator::shared(), /*priority=*/100);
    return true;
  }();
  return once;
}

void releaseFreedMemory() {
  CachingAllocator::shared().release();
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

#else

bool configureAllocator() { return false; }
void releaseFreedMemory() {}

#endif

}  // namespace graft
