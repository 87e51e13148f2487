#include "DeviceMemory.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>


namespace emulated {
namespace {

/// What the device has, of which only what is used costs anything.
constexpr size_t capacity = size_t{16} << 30;
constexpr size_t alignment = 512;
/// What new and freed memory is full of: as floats, NaN.
constexpr unsigned char rubbish = 0xff;
/// Freed stretches that are at least so large go back to the system.
constexpr size_t returned = size_t{1} << 20;

class Arena {
 public:
  Arena() {
    file_ = memfd_create("emulated CUDA device", MFD_CLOEXEC);
    TORCH_CHECK(file_ >= 0 && ftruncate(file_, capacity) == 0, "the emulated device gets no memory: ", std::strerror(errno));
    device_ = map(PROT_NONE);
    host_ = map(PROT_READ | PROT_WRITE);
    free_[0] = capacity;
  }

  void* allocate(size_t bytes) {
    if (bytes == 0) return nullptr;
    // At least one byte behind the numbers, which `free` looks at.
    const size_t size = (bytes / alignment + 1) * alignment;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto stretch = free_.begin(); stretch != free_.end(); ++stretch) {
      if (stretch->second < size) continue;
      const auto [offset, available] = *stretch;
      free_.erase(stretch);
      if (available > size) free_[offset + size] = available - size;
      used_[offset] = {size, bytes};
      std::memset(host_ + offset, rubbish, size);
      return device_ + offset;
    }
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", bytes, " bytes on the emulated device.");
  }

  void free(void* address) {
    if (address == nullptr) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto block = used_.find(static_cast<char*>(address) - device_);
    TORCH_INTERNAL_ASSERT(block != used_.end(), "memory that the emulated device did not give is freed");
    const size_t offset = block->first, bytes = block->second.bytes;
    size_t size = block->second.size;
    used_.erase(block);
    for (size_t i = bytes; i < size; ++i) {
      if (static_cast<unsigned char>(host_[offset + i]) == rubbish) continue;
      // Freeing happens in destructors, which cannot throw.
      std::fprintf(stderr, "emulated CUDA: byte %zu behind a tensor of %zu bytes was written\n", i - bytes, bytes);
      std::abort();
    }
    if (size >= returned)
      fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size);
    else
      std::memset(host_ + offset, rubbish, size);
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + size) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        before->second += size;
        return;
      }
    }
    free_[offset] = size;
  }

  bool contains(const void* address) const { return address >= device_ && address < device_ + capacity; }
  void* host(const void* address) const { return host_ + (static_cast<const char*>(address) - device_); }

 private:
  char* map(int protection) const {
    void* const address = mmap(nullptr, capacity, protection, MAP_SHARED | MAP_NORESERVE, file_, 0);
    TORCH_CHECK(address != MAP_FAILED, "the emulated device gets no address: ", std::strerror(errno));
    return static_cast<char*>(address);
  }

  int file_ = -1;
  char *device_ = nullptr, *host_ = nullptr;
  std::mutex mutex_;
  struct Block {
    size_t size, bytes;
  };
  /// Offset and size of what is free, and of what is not the bytes that were asked for, too.
  std::map<size_t, size_t> free_;
  std::map<size_t, Block> used_;
};

/// Never destroyed: tensors of other libraries may live longer.
Arena& arena() {
  static Arena* const arena = new Arena;
  return *arena;
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* const address = memory::allocate(bytes);
    return {address, address, &memory::free, c10::Device(c10::kCUDA, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &memory::free; }
  void copy_data(void* to, const void* from, size_t count) const override {
    if (count > 0) std::memcpy(memory::host(to), memory::host(from), count);
  }
};

class PinnedBlocks {
 public:
  void* allocate(size_t bytes) {
    if (bytes == 0) return nullptr;
    void* const address = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (address == nullptr) throw std::bad_alloc();
    const std::lock_guard<std::mutex> lock(mutex_);
    sizes_[static_cast<char*>(address)] = bytes;
    return address;
  }

  void free(void* address) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      sizes_.erase(static_cast<char*>(address));
    }
    ::free(address);
  }

  bool contains(const void* address) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto next = sizes_.upper_bound(static_cast<char*>(const_cast<void*>(address)));
    if (next == sizes_.begin()) return false;
    const auto& [start, size] = *std::prev(next);
    return address < start + size;
  }

 private:
  std::mutex mutex_;
  std::map<char*, size_t> sizes_;
};

PinnedBlocks& pinnedBlocks() {
  static PinnedBlocks* const blocks = new PinnedBlocks;
  return *blocks;
}

struct PinnedAllocator final : c10::Allocator {
  static void release(void* address) { pinnedBlocks().free(address); }
  c10::DataPtr allocate(size_t bytes) override {
    void* const address = pinnedBlocks().allocate(bytes);
    return {address, address, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }
};

}  // namespace

namespace memory {

void* allocate(size_t bytes) { return arena().allocate(bytes); }
void free(void* address) { arena().free(address); }
bool contains(const void* address) { return arena().contains(address); }

void* host(const void* address) {
  if (address == nullptr) return nullptr;
  TORCH_INTERNAL_ASSERT(contains(address), "an address of the host is used as the device's");
  return arena().host(address);
}

c10::Allocator* allocator() {
  static DeviceAllocator allocator;
  return &allocator;
}

}  // namespace memory

namespace pinned {

c10::Allocator* allocator() {
  static PinnedAllocator allocator;
  return &allocator;
}

bool contains(const void* address) { return pinnedBlocks().contains(address); }

}  // namespace pinned

}  // namespace emulated
