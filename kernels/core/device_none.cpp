// SPDX-License-Identifier: Apache-2.0
// device.hpp in a build without CUDA: whatever asks for a device is told so.
#include "kernels/core/device.hpp"

namespace belfry::simt {

namespace {
[[noreturn]] void refuse() {
  throw DeviceFailure(Failure::not_built, "this build has no CUDA backend");
}
}  // namespace

int device_count() {
  refuse();
}
DeviceInfo device_info(int) {
  refuse();
}
DeviceInfo device_info() {
  refuse();
}
void select_device(int) {
  refuse();
}
std::string built_architectures() {
  return "none";
}
std::string matrix_library() {
  return "none";
}
Counters counters() {
  return {};
}
std::int64_t free_memory() {
  refuse();
}
void* device_malloc(std::int64_t) {
  refuse();
}
void device_free(void*) noexcept {}
void* pinned_malloc(std::int64_t) {
  refuse();
}
void pinned_free(void*) noexcept {}

Stream::Stream() {
  refuse();
}
Stream::~Stream() = default;
void Stream::sync() {
  refuse();
}
void Stream::wait(const Event&) {
  refuse();
}

Event::Event(bool) {
  refuse();
}
Event::~Event() = default;
void Event::record(Stream&) {
  refuse();
}
void Event::sync() {
  refuse();
}
bool Event::done() const {
  refuse();
}
float TimedEvent::since(const TimedEvent&) const {
  refuse();
}

Graph Graph::capture(Stream&, const std::function<void()>&) {
  refuse();
}
Graph::~Graph() = default;
void Graph::launch(Stream&) const {
  refuse();
}

void to_device(void*, const void*, std::int64_t) {
  refuse();
}
void to_device(void*, const void*, std::int64_t, Stream&) {
  refuse();
}
void to_host(void*, const void*, std::int64_t) {
  refuse();
}
void to_host(void*, const void*, std::int64_t, Stream&) {
  refuse();
}
void device_copy(void*, const void*, std::int64_t, Stream&) {
  refuse();
}
void device_memset(void*, int, std::int64_t) {
  refuse();
}
void device_memset(void*, int, std::int64_t, Stream&) {
  refuse();
}
void device_sync() {
  refuse();
}
void launch_kernel(const Dims&, const KernelCall&) {
  refuse();
}

}  // namespace belfry::simt
