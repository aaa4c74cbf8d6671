// SPDX-License-Identifier: Apache-2.0
#include "host/queue.hpp"

#include <algorithm>

namespace belfry::simt::host {

Queues& queues() {
  static Queues q;
  return q;
}

void Queues::remove(StreamState* s) {
  streams_.erase(std::find(streams_.begin(), streams_.end(), s));
}

void Queues::push(StreamState& s, Work work) {
  if (s.capture) {
    s.capture->nodes.push_back({std::move(work), s.tail});
    s.tail = {static_cast<int>(s.capture->nodes.size()) - 1};
    return;
  }
  work.order = ++pushed_;
  if (work.at_enqueue) work.at_enqueue();
  s.queue.push_back(std::move(work));
  if (options().order != Order::random) return;
  // A device may be ahead of its host: now and then something runs at once.
  if (seed_ != options().seed) random_.seed(seed_ = options().seed);
  for (int i = 0; i < 8 && random_() % 4 == 0; ++i) {
    StreamState* next = choose(nullptr);
    if (next == nullptr) break;
    run_one(*next);
  }
}

bool Queues::runnable(const StreamState& s) const {
  if (s.queue.empty()) return false;
  const Work& w = s.queue.front();
  return !w.waits_for || w.waits_for->done >= w.ticket;
}

StreamState* Queues::choose(StreamState* wanted) {
  std::vector<StreamState*> able;
  for (StreamState* s : streams_) {
    if (runnable(*s)) able.push_back(s);
  }
  if (able.empty()) return nullptr;
  switch (options().order) {
    case Order::fifo:  // as queued
      return *std::min_element(able.begin(), able.end(), [](auto* a, auto* b) {
        return a->queue.front().order < b->queue.front().order;
      });
    case Order::lifo:  // only what the wait needs
      for (StreamState* s = wanted; s != nullptr && !s->queue.empty();) {
        if (runnable(*s)) return s;
        s = s->queue.front().waits_for->recorder;
      }
      return able.back();
    default:
      return able[random_() % able.size()];
  }
}

void Queues::run_one(StreamState& s) {
  bool done = true;
  try {
    Work& w = s.queue.front();
    if (w.step) done = w.step();
  } catch (...) {
    forget_all();
    throw;
  }
  if (done) s.queue.pop_front();
}

/// After a fault nothing that was queued will run; events count as done, so that nobody waits for ever.
void Queues::forget_all() {
  for (StreamState* s : streams_) {
    for (const Work& w : s->queue) {
      if (w.waits_for) w.waits_for->done = w.waits_for->recorded;
    }
    s->queue.clear();
  }
}

void Queues::run_until(const std::function<bool()>& done, StreamState* wanted) {
  if (seed_ != options().seed) random_.seed(seed_ = options().seed);
  while (!done()) {
    StreamState* next = choose(wanted);
    if (next == nullptr) throw Error(Fault::stream, "a wait that no queued work will ever end");
    run_one(*next);
  }
}

bool Queues::idle() const {
  return std::all_of(streams_.begin(), streams_.end(), [](auto* s) { return s->queue.empty(); });
}

}  // namespace belfry::simt::host
