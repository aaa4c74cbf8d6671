// SPDX-License-Identifier: Apache-2.0
// Streams as queues that run only when somebody waits, interleaved as the options say.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "host/options.hpp"
#include "kernels/core/device.hpp"

namespace belfry::simt {

/// Queues host work that stands for a library's device work (a fake of cuBLASLt, say).
void enqueue(Stream* stream, const char* what, std::function<void()> work);
/// The same by Stream::native(), which is what libraries get.
void enqueue_native(void* stream, const char* what, std::function<void()> work);

namespace host {

struct StreamState;
struct EventState;
struct Capture;

/// A piece of queued work. `step` returns true once done; a graph takes several steps.
struct Work {
  std::string what;
  std::function<bool()> step;
  std::function<void()> at_enqueue = nullptr;  // what the caller's call itself does: spoil a target
  std::shared_ptr<EventState> waits_for = nullptr;
  std::uint64_t ticket = 0;  // of the event's record
  std::uint64_t order = 0;
};

struct EventState {
  std::uint64_t recorded = 0, done = 0;  // tickets
  StreamState* recorder = nullptr;
  double milliseconds = 0;
  std::shared_ptr<Capture> capture;
  std::vector<int> captured;  // nodes that it stands for
};

struct StreamState {
  std::deque<Work> queue;
  std::shared_ptr<Capture> capture;
  std::vector<int> tail;  // nodes that the next captured work depends on
};

struct Node {
  Work work;
  std::vector<int> after;
};
/// A graph being captured, and later the graph.
struct Capture {
  std::vector<Node> nodes;
  std::vector<StreamState*> streams;
};

class Queues {
 public:
  void add(StreamState* s) { streams_.push_back(s); }
  void remove(StreamState* s);
  /// Queues work, or records it into the stream's capture.
  void push(StreamState& s, Work work);
  /// Runs queued work, of any stream, until `done`.
  void run_until(const std::function<bool()>& done, StreamState* wanted);
  bool idle() const;
  const std::vector<StreamState*>& streams() const { return streams_; }

  std::shared_ptr<Capture> capturing;  // one at a time

 private:
  bool runnable(const StreamState& s) const;
  StreamState* choose(StreamState* wanted);
  void run_one(StreamState& s);
  void forget_all();

  std::vector<StreamState*> streams_;
  std::uint64_t pushed_ = 0;
  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
};
Queues& queues();

}  // namespace host
}  // namespace belfry::simt
