// Copies between the host's memory and a GPU's that go on while the GPU computes, as paged optimizers need them (Dettmers et al. 2023,
// arXiv:2305.14314, let unified memory do it by page faults; here the next pages are known).
//
// Two streams of the device's own beside the one that computes, for its two directions. What is ordered after what, is said by events;
// nothing waits on the processor but `synchronize`. CUDA's headers are not needed: c10 has all of it for whichever device.

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "Bridge.h"

using namespace graft;

struct CTCopyQueue {
  explicit CTCopyQueue(c10::Device device)
      : device(device),
        guard(device.type()),
        fetching(guard.getStreamFromGlobalPool(device)),
        storing(guard.getStreamFromGlobalPool(device)) {}

  at::Tensor fetch(const at::Tensor &host) {
    const c10::DeviceGuard onDevice(device);
    // The memory may have been something else's, which what is queued still uses; and what is fetched may be on its way out.
    auto result = at::empty(host.sizes(), host.options().device(device).pinned_memory(false));
    follow(fetching, guard.getStream(device));
    follow(fetching, storing);
    const c10::StreamGuard onStream(fetching);
    result.copy_(host, /*non_blocking=*/true);
    return result;
  }

  void store(at::Tensor host, const at::Tensor &source) {
    const c10::DeviceGuard onDevice(device);
    follow(storing, guard.getStream(device));
    const c10::StreamGuard onStream(storing);
    host.copy_(source, /*non_blocking=*/true);
  }

  void join() {
    const c10::DeviceGuard onDevice(device);
    follow(guard.getStream(device), fetching);
    follow(guard.getStream(device), storing);
  }

  void synchronize() {
    const c10::DeviceGuard onDevice(device);
    fetching.synchronize();
    storing.synchronize();
  }

 private:
  const c10::Device device;
  const c10::impl::VirtualGuardImpl guard;
  const c10::Stream fetching, storing;

  /// What is queued on `stream` from now on begins when what is queued on `other` now is done.
  void follow(const c10::Stream &stream, const c10::Stream &other) const {
    c10::Event event(device.type());
    event.record(other);
    event.block(stream);
  }
};

CTCopyQueue *ct_copy_queue(CTDevice device) {
  return guarded<CTCopyQueue *>(nullptr, [&] { return new CTCopyQueue(device_of(device)); });
}

void ct_copy_queue_free(CTCopyQueue *queue) { delete queue; }

CTTensor *ct_copy_queue_fetch(CTCopyQueue *queue, CTTensor *host) {
  return tensor_or_null([&] { return queue->fetch(borrow(host)); });
}

int ct_copy_queue_store(CTCopyQueue *queue, CTTensor *host, CTTensor *source) {
  return status([&] { queue->store(borrow(host), borrow(source)); });
}

int ct_copy_queue_join(CTCopyQueue *queue) {
  return status([&] { queue->join(); });
}

int ct_copy_queue_synchronize(CTCopyQueue *queue) {
  return status([&] { queue->synchronize(); });
}
