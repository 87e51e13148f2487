#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

namespace emulated {

/// Copies between the device and pinned memory that were asked for without waiting, each on the stream that was current. A GPU makes them at
/// some time before somebody waits for that stream; the emulation makes them as late as a GPU could, so that whoever does not wait sees what he
/// might see there.
namespace transfers {

/// The current stream of this thread; 0 is the device's default one.
c10::StreamId currentStream();
/// Makes another stream the current one, and returns the one that was.
c10::StreamId exchangeStream(c10::StreamId stream);

/// The device's numbers will be in pinned memory after the next synchronisation; until then there is rubbish.
void download(const at::Tensor& from, const at::Tensor& to);

/// The device reads pinned memory when it needs the numbers, not now.
void upload(const at::Tensor& from, const at::Tensor& to);

/// Before anything runs on the current stream: what was asked for on it, or on streams that it was told to wait for, has happened.
void beginWork();

/// Everything that was asked for has happened, on one stream or on all.
void synchronize(c10::StreamId stream);
void synchronize();

/// What has been asked for on a stream when an event was recorded.
struct Mark {
  c10::StreamId stream;
  size_t position;
};
Mark mark(c10::StreamId stream);
/// What is asked for on `stream` from now on happens behind the mark.
void wait(c10::StreamId stream, const Mark& mark);

}  // namespace transfers

}  // namespace emulated
