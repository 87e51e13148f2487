#include "Transfers.h"

#include <ATen/ATen.h>

#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <variant>
#include <vector>

#include "HostView.h"

namespace emulated::transfers {
namespace {

/// Holds the device's memory as the caching allocator's streams do: until the copy was made.
struct Transfer {
  at::Tensor from, to;
  bool isUpload;
};

using Work = std::variant<Transfer, Mark>;

struct Streams {
  std::recursive_mutex mutex;
  std::map<c10::StreamId, std::vector<Work>> works;
  std::map<c10::StreamId, size_t> done;
  /// Downloads that the device has made, and that the processor does not see before it waits.
  std::vector<std::pair<at::Tensor, at::Tensor>> underway;

  void deliver() {
    for (const auto& [numbers, to] : std::exchange(underway, {})) to.copy_(numbers);
  }

  void run(c10::StreamId stream, size_t end) {
    while (done[stream] < end) {
      const Work work = std::exchange(works[stream][done[stream]], Mark{stream, 0});
      ++done[stream];
      if (const auto* mark = std::get_if<Mark>(&work)) {
        run(mark->stream, mark->position);
        continue;
      }
      const auto& transfer = std::get<Transfer>(work);
      if (transfer.isUpload) {
        // It may read what was downloaded just before.
        deliver();
        hostView(transfer.to).copy_(transfer.from);
      } else {
        underway.emplace_back(hostView(transfer.from).clone(), transfer.to);
      }
    }
  }
  void run(c10::StreamId stream) { run(stream, works[stream].size()); }
};

Streams& streams() {
  static Streams* const streams = new Streams;
  return *streams;
}

thread_local c10::StreamId current = 0;

void add(c10::StreamId stream, Work work) {
  const std::lock_guard<std::recursive_mutex> lock(streams().mutex);
  streams().works[stream].push_back(std::move(work));
}

template <class Body>
void locked(const Body& body) {
  const std::lock_guard<std::recursive_mutex> lock(streams().mutex);
  const at::AutoDispatchBelowADInplaceOrView plain;
  body();
}

}  // namespace

c10::StreamId currentStream() { return current; }
c10::StreamId exchangeStream(c10::StreamId stream) { return std::exchange(current, stream); }

void download(const at::Tensor& from, const at::Tensor& to) {
  add(current, Transfer{from, to, false});
  if (to.is_non_overlapping_and_dense() && to.nbytes() > 0) std::memset(to.data_ptr(), 0xff, to.nbytes());
}

void upload(const at::Tensor& from, const at::Tensor& to) { add(current, Transfer{from, to, true}); }

void beginWork() {
  locked([] { streams().run(current); });
}

void synchronize(c10::StreamId stream) {
  locked([&] {
    streams().run(stream);
    streams().deliver();
  });
}

void synchronize() {
  locked([] {
    for (const auto& [stream, _] : streams().works) streams().run(stream);
    streams().deliver();
  });
}

Mark mark(c10::StreamId stream) {
  const std::lock_guard<std::recursive_mutex> lock(streams().mutex);
  return {stream, streams().works[stream].size()};
}

void wait(c10::StreamId stream, const Mark& mark) {
  if (mark.stream != stream) add(stream, mark);
}

}  // namespace emulated::transfers
