#include "Transfers.h"

#include <ATen/ATen.h>

#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "HostView.h"

namespace emulated::transfers {
namespace {

struct Transfer {
  at::Tensor from, to;
};

struct Queue {
  std::recursive_mutex mutex;
  std::vector<Transfer> uploads, downloads;
};

Queue& queue() {
  static Queue* const queue = new Queue;
  return *queue;
}

void copy(std::vector<Transfer>& transfers) {
  for (const auto& transfer : std::exchange(transfers, {})) transfer.to.copy_(transfer.from);
}

}  // namespace

void download(const at::Tensor& from, const at::Tensor& to) {
  const std::lock_guard<std::recursive_mutex> lock(queue().mutex);
  queue().downloads.push_back({hostView(from).clone(), to});
  if (to.is_non_overlapping_and_dense() && to.nbytes() > 0) std::memset(to.data_ptr(), 0xff, to.nbytes());
}

void upload(const at::Tensor& from, const at::Tensor& to) {
  const std::lock_guard<std::recursive_mutex> lock(queue().mutex);
  // `to` holds the device's memory as the caching allocator's streams do: until the copy was made.
  queue().uploads.push_back({from, to});
}

void beginWork() {
  const std::lock_guard<std::recursive_mutex> lock(queue().mutex);
  const at::AutoDispatchBelowADInplaceOrView plain;
  for (const auto& transfer : std::exchange(queue().uploads, {})) hostView(transfer.to).copy_(transfer.from);
}

void synchronize() {
  beginWork();
  const std::lock_guard<std::recursive_mutex> lock(queue().mutex);
  const at::AutoDispatchBelowADInplaceOrView plain;
  copy(queue().downloads);
}

}  // namespace emulated::transfers
