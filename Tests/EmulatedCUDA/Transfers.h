#pragma once

#include <ATen/core/Tensor.h>

namespace emulated {

/// Copies between the device and pinned memory that were asked for without waiting. A GPU makes them at some time before the next
/// synchronisation; the emulation makes them as late as a GPU could, so that whoever does not wait sees what he might see there.
namespace transfers {

/// The device's numbers will be in pinned memory after the next synchronisation; until then there is rubbish.
void download(const at::Tensor& from, const at::Tensor& to);

/// The device reads pinned memory when it needs the numbers, not now.
void upload(const at::Tensor& from, const at::Tensor& to);

/// Before anything runs on the device: what was uploaded has arrived.
void beginWork();

/// Everything that was asked for has happened.
void synchronize();

}  // namespace transfers

}  // namespace emulated
