// SPDX-License-Identifier: Apache-2.0
// kernels/core/device.hpp on the executor. Work of streams is queued and runs when somebody waits.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>

#include "host/checker.hpp"
#include "host/graph.hpp"
#include "host/launch_state.hpp"
#include "host/memory.hpp"
#include "host/queue.hpp"
#include "kernels/core/device.hpp"

namespace belfry::simt {

namespace {

using namespace host;

Counters counts;
std::recursive_mutex mutex;  // calls may come from several host threads
using Lock = std::lock_guard<std::recursive_mutex>;

void refuse_in_capture(const char* what) {
  if (queues().capturing)
    throw Error(Fault::capture, std::string(what) + " while a graph is captured");
}

void count_wait(const char* what) {
  refuse_in_capture(what);
  ++counts.synchronisations;
}

void want_device(const void* p, std::int64_t bytes, const char* what) {
  if (bytes < 0) throw Error(Fault::bounds, std::string(what) + ": negative size");
  if (bytes > 0 &&
      !device_region().covers(static_cast<const char*>(p), static_cast<std::size_t>(bytes))) {
    throw Error(Fault::bounds, std::string(what) + ": " + std::to_string(bytes) +
                                   " bytes are not inside of one device buffer");
  }
}
void want_pinned(const void* p, std::int64_t bytes, const char* what) {
  if (!options().require_pinned || bytes == 0) return;
  if (!pinned_region().covers(static_cast<const char*>(p), static_cast<std::size_t>(bytes))) {
    throw Error(Fault::stream,
                std::string(what) + ": an asynchronous copy needs pinned host memory");
  }
}

// Each runs when its turn comes, and checks again: the buffer may be gone by then.
void copy_in(void* to, const void* from, std::int64_t bytes) {
  want_device(to, bytes, "to_device");
  if (bytes == 0) return;
  const DeviceOpen open;
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
  note_host_write(static_cast<const char*>(to), static_cast<std::size_t>(bytes));
}
void copy_out(void* to, const void* from, std::int64_t bytes) {
  want_device(from, bytes, "to_host");
  if (bytes == 0) return;
  const DeviceOpen open;
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}
void copy_across(void* to, const void* from, std::int64_t bytes) {
  want_device(to, bytes, "device_copy");
  want_device(from, bytes, "device_copy");
  if (bytes == 0) return;
  const DeviceOpen open;
  std::memmove(to, from, static_cast<std::size_t>(bytes));
  note_host_write(static_cast<const char*>(to), static_cast<std::size_t>(bytes));
}
void fill(void* data, int byte, std::int64_t bytes) {
  want_device(data, bytes, "device_memset");
  if (bytes == 0) return;
  const DeviceOpen open;
  std::memset(data, byte, static_cast<std::size_t>(bytes));
  note_host_write(static_cast<const char*>(data), static_cast<std::size_t>(bytes));
}

StreamState& state_of(const Stream& s) {
  return *static_cast<StreamState*>(s.native());
}

void push(StreamState& s, const char* what, std::function<void()> run,
          std::function<void()> at_enqueue = nullptr) {
  queues().push(s, {.what = what,
                    .step = [run = std::move(run)] { return run(), true; },
                    .at_enqueue = std::move(at_enqueue)});
}

void push(Stream& s, const char* what, std::function<void()> run,
          std::function<void()> at_enqueue = nullptr) {
  push(state_of(s), what, std::move(run), std::move(at_enqueue));
}

/// A kernel's call with its arguments' bytes, which outlives the caller's frame.
struct OwnedCall {
  Dims dims;
  KernelCall call{};
  std::unique_ptr<std::max_align_t[]> memory;
  std::size_t bytes = 0;

  OwnedCall(const Dims& d, const KernelCall& from) : dims(d), call(from) {
    const auto n = static_cast<std::size_t>(from.count);
    std::vector<std::size_t> offsets(n);
    bytes = n * sizeof(void*);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t align = from.aligns[i];
      bytes = (bytes + align - 1) / align * align;
      offsets[i] = bytes;
      bytes += from.sizes[i];
    }
    constexpr std::size_t kUnit = sizeof(std::max_align_t);
    memory = std::make_unique<std::max_align_t[]>((bytes + kUnit - 1) / kUnit + 1);
    char* base = begin();
    auto** pointers = reinterpret_cast<void**>(base);
    for (std::size_t i = 0; i < n; ++i) {
      pointers[i] = base + offsets[i];
      std::memcpy(pointers[i], from.arguments[i], from.sizes[i]);
    }
    call.arguments = pointers;
    call.sizes = call.aligns = nullptr;
    call.are_pointers = nullptr;
  }
  char* begin() const { return reinterpret_cast<char*>(memory.get()); }
  void run() const { run_kernel(dims, call, begin(), begin() + bytes); }
};

double now_ms() {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

using EventHandle = std::shared_ptr<EventState>;
const EventHandle& event_of(void* native) {
  return *static_cast<EventHandle*>(native);
}

}  // namespace

int device_count() {
  return 1;
}
DeviceInfo device_info(int number) {
  select_device(number);
  return device_info();
}
void select_device(int number) {
  if (number != 0) {
    throw DeviceFailure(Failure::no_device, "there is no GPU " + std::to_string(number) +
                                                ": the executor simulates one, number 0");
  }
}
std::string built_architectures() {
  return "simulated";
}
std::string matrix_library() {
  // The fake stands for whatever is named, as long as it is there.
  const char* given = std::getenv("BELFRY_CUBLAS");
  if (given != nullptr && !std::filesystem::exists(given)) {
    throw DeviceError("cuBLASLt was not found\nTried:\n  " + std::string(given));
  }
  return "simulated";
}
DeviceInfo device_info() {
  return {.name = "SIMT executor",
          .major = options().architecture / 10,
          .minor = options().architecture % 10,
          .multiprocessors = 132,
          .memory_bytes = options().device_bytes,
          .driver = 13000,
          .runtime = 13000,
          .simulated = true};
}

Counters counters() {
  const Lock lock(mutex);
  Counters c = counts;
  c.live_bytes = static_cast<std::int64_t>(device_region().live_bytes());
  return c;
}

std::int64_t free_memory() {
  return options().device_bytes - counters().live_bytes;
}

void* device_malloc(std::int64_t bytes) {
  const Lock lock(mutex);
  refuse_in_capture("device_malloc");
  if (bytes < 0) throw Error(Fault::memory, "device_malloc: negative size");
  if (bytes == 0) return nullptr;
  const auto live = static_cast<std::int64_t>(device_region().live_bytes());
  char* p = bytes > options().device_bytes - live
                ? nullptr
                : device_region().allocate(static_cast<std::size_t>(bytes));
  if (p == nullptr) {
    throw Error(Fault::memory, "out of device memory: " + std::to_string(bytes) +
                                   " bytes asked for, " + std::to_string(live) + " of " +
                                   std::to_string(options().device_bytes) + " in use");
  }
  ++counts.allocations;
  return p;
}

void device_free(void* data) noexcept {
  const Lock lock(mutex);
  if (data == nullptr) return;
  // cudaFree waits for the device: work that is queued may still use the buffer.
  try {
    if (!queues().capturing) queues().run_until([] { return queues().idle(); }, nullptr);
  } catch (const Error&) {  // its owner has been told, or will be at the next wait
  }
  if (!device_region().free(static_cast<char*>(data))) {
    std::fputs("simt: device_free of an address that is not allocated\n", stderr);
    std::abort();
  }
}

void* pinned_malloc(std::int64_t bytes) {
  const Lock lock(mutex);
  refuse_in_capture("pinned_malloc");
  if (bytes == 0) return nullptr;
  char* p = bytes < 0 ? nullptr : pinned_region().allocate(static_cast<std::size_t>(bytes));
  if (p == nullptr) throw Error(Fault::memory, "pinned_malloc: no such size");
  ++counts.allocations;
  return p;
}

void pinned_free(void* data) noexcept {
  const Lock lock(mutex);
  if (data != nullptr && !pinned_region().free(static_cast<char*>(data))) {
    std::fputs("simt: pinned_free of an address that is not allocated\n", stderr);
    std::abort();
  }
}

void enqueue(Stream* stream, const char* what, std::function<void()> work) {
  const Lock lock(mutex);
  if (stream != nullptr) {
    push(*stream, what, std::move(work));
  } else {
    count_wait(what);  // done on return
    work();
  }
}

void enqueue_native(void* stream, const char* what, std::function<void()> work) {
  const Lock lock(mutex);
  if (stream == nullptr) return enqueue(nullptr, what, std::move(work));
  const auto& all = queues().streams();
  auto* state = static_cast<StreamState*>(stream);
  if (std::find(all.begin(), all.end(), state) == all.end()) {
    throw Error(Fault::stream, std::string(what) + ": on a stream that does not exist");
  }
  push(*state, what, std::move(work));
}

void launch_kernel(const Dims& dims, const KernelCall& call) {
  const Lock lock(mutex);
  check_launch(dims, call);
  ++counts.launches;
  const auto owned = std::make_shared<OwnedCall>(dims, call);
  enqueue(dims.stream, "kernel", [owned] { owned->run(); });
}

void to_device(void* device, const void* host, std::int64_t bytes) {
  const Lock lock(mutex);
  count_wait("a synchronous copy");
  copy_in(device, host, bytes);
}
void to_device(void* device, const void* host, std::int64_t bytes, Stream& stream) {
  const Lock lock(mutex);
  want_device(device, bytes, "to_device");
  want_pinned(host, bytes, "to_device");
  push(stream, "to_device", [=] { copy_in(device, host, bytes); });
}
void to_host(void* host, const void* device, std::int64_t bytes) {
  const Lock lock(mutex);
  count_wait("a synchronous copy");
  copy_out(host, device, bytes);
}
void to_host(void* host, const void* device, std::int64_t bytes, Stream& stream) {
  const Lock lock(mutex);
  want_device(device, bytes, "to_host");
  want_pinned(host, bytes, "to_host");
  // Whoever reads the target before waiting reads 0xFF.
  push(
      stream, "to_host", [=] { copy_out(host, device, bytes); },
      [=] {
        if (bytes > 0) std::memset(host, 0xff, static_cast<std::size_t>(bytes));
      });
}
void device_copy(void* to, const void* from, std::int64_t bytes, Stream& stream) {
  const Lock lock(mutex);
  want_device(to, bytes, "device_copy");
  want_device(from, bytes, "device_copy");
  push(stream, "device_copy", [=] { copy_across(to, from, bytes); });
}
void device_memset(void* data, int byte, std::int64_t bytes) {
  const Lock lock(mutex);
  count_wait("a synchronous memset");
  fill(data, byte, bytes);
}
void device_memset(void* data, int byte, std::int64_t bytes, Stream& stream) {
  const Lock lock(mutex);
  want_device(data, bytes, "device_memset");
  push(stream, "device_memset", [=] { fill(data, byte, bytes); });
}

void device_sync() {
  const Lock lock(mutex);
  count_wait("device_sync");
  queues().run_until([] { return queues().idle(); }, nullptr);
}

Stream::Stream() {
  const Lock lock(mutex);
  auto* state = new StreamState;
  queues().add(state);
  native_ = state;
}
Stream::~Stream() {
  const Lock lock(mutex);
  StreamState& s = state_of(*this);
  try {
    queues().run_until([&] { return s.queue.empty(); }, &s);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "simt: lost with its stream: %s\n", e.what());
  }
  queues().remove(&s);
  delete &s;
}
void Stream::sync() {
  const Lock lock(mutex);
  count_wait("a stream's sync");
  StreamState& s = state_of(*this);
  queues().run_until([&] { return s.queue.empty(); }, &s);
}

void Stream::wait(const Event& event) {
  const Lock lock(mutex);
  StreamState& s = state_of(*this);
  const EventHandle& e = event_of(event.native_);
  if (e->capture) {
    if (e->capture != queues().capturing) {
      throw Error(Fault::capture, "a wait for an event that was recorded in a finished capture");
    }
    if (!s.capture) {
      s.capture = e->capture;
      s.tail.clear();
      s.capture->streams.push_back(&s);
    }
    s.tail.insert(s.tail.end(), e->captured.begin(), e->captured.end());
    return;
  }
  if (s.capture)
    throw Error(Fault::capture, "a captured stream waits for an event outside of the capture");
  if (e->recorded == e->done) return;
  queues().push(s, {.what = "wait", .step = nullptr, .waits_for = e, .ticket = e->recorded});
}

Event::Event(bool) : native_(new EventHandle(std::make_shared<EventState>())) {}
Event::~Event() {
  delete static_cast<EventHandle*>(native_);
}

void Event::record(Stream& stream) {
  const Lock lock(mutex);
  StreamState& s = state_of(stream);
  const EventHandle e = event_of(native_);
  e->capture = s.capture;
  if (s.capture) {
    e->captured = s.tail;
    return;
  }
  e->recorder = &s;
  const std::uint64_t ticket = ++e->recorded;
  push(stream, "record", [e, ticket] {
    e->done = std::max(e->done, ticket);
    e->milliseconds = now_ms();
  });
}
void Event::sync() {
  const Lock lock(mutex);
  count_wait("an event's sync");
  const EventHandle& e = event_of(native_);
  if (e->capture)
    throw Error(Fault::capture, "a host wait for an event that was recorded in a capture");
  queues().run_until([&] { return e->done == e->recorded; }, e->recorder);
}
bool Event::done() const {
  const Lock lock(mutex);
  refuse_in_capture("an event's query");
  const EventHandle& e = event_of(native_);
  // Whoever polls must see the device move.
  if (e->done != e->recorded) {
    int steps = 1;
    queues().run_until([&] { return e->done == e->recorded || steps-- == 0; }, e->recorder);
  }
  return e->done == e->recorded;
}
float TimedEvent::since(const TimedEvent& start) const {
  const Lock lock(mutex);
  return static_cast<float>(event_of(native_)->milliseconds -
                            event_of(start.native_)->milliseconds);
}

Graph Graph::capture(Stream& stream, const std::function<void()>& body) {
  const Lock lock(mutex);
  refuse_in_capture("a capture");
  const auto capture = std::make_shared<Capture>();
  StreamState& s = state_of(stream);
  s.capture = capture;
  s.tail.clear();
  capture->streams.push_back(&s);
  queues().capturing = capture;
  try {
    body();
    check_joined(*capture, s.tail);
  } catch (...) {
    end_capture(*capture);
    throw;
  }
  end_capture(*capture);
  Graph graph;
  graph.native_ = new std::shared_ptr<const Capture>(capture);
  return graph;
}

Graph::~Graph() {
  delete static_cast<std::shared_ptr<const Capture>*>(native_);
}

void Graph::launch(Stream& stream) const {
  const Lock lock(mutex);
  refuse_in_capture("a graph's launch");
  if (native_ == nullptr) throw Error(Fault::stream, "launch of an empty graph");
  ++counts.graph_launches;
  const auto& graph = *static_cast<std::shared_ptr<const Capture>*>(native_);
  const auto run = std::make_shared<GraphRun>(graph);
  queues().push(state_of(stream), {.what = "graph",
                                   .step = [run] { return run->step(); },
                                   .at_enqueue =
                                       [graph] {
                                         for (const Node& n : graph->nodes) {
                                           if (n.work.at_enqueue) n.work.at_enqueue();
                                         }
                                       }});
}

}  // namespace belfry::simt
