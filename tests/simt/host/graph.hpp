// SPDX-License-Identifier: Apache-2.0
// Graphs: what a capture must be, and how a launch runs it.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/options.hpp"
#include "host/queue.hpp"

namespace belfry::simt::host {

/// One launch of a graph: nodes run one a step, in any order that their edges allow.
class GraphRun {
 public:
  explicit GraphRun(std::shared_ptr<const Capture> graph)
      : graph_(std::move(graph)), done_(graph_->nodes.size()) {
    random_.seed(options().seed + graph_->nodes.size());
  }
  bool step() {
    std::vector<std::size_t> able;
    for (std::size_t i = 0; i < done_.size(); ++i) {
      if (done_[i]) continue;
      bool ready = true;
      for (const int before : graph_->nodes[i].after) ready &= static_cast<bool>(done_[before]);
      if (ready) able.push_back(i);
    }
    if (able.empty()) return true;
    const Order order = options().order;
    const std::size_t i = order == Order::fifo   ? able.front()
                          : order == Order::lifo ? able.back()
                                                 : able[random_() % able.size()];
    graph_->nodes[i].work.step();
    done_[i] = 1;
    return ++finished_ == done_.size();
  }

 private:
  std::shared_ptr<const Capture> graph_;
  std::vector<char> done_;
  std::size_t finished_ = 0;
  std::mt19937_64 random_;
};

/// The streams of a capture run again.
inline void end_capture(Capture& capture) {
  for (StreamState* s : capture.streams) {
    s->capture.reset();
    s->tail.clear();
  }
  queues().capturing.reset();
}

/// Every node must come before the origin stream's end, else a joined stream was left behind.
inline void check_joined(const Capture& capture, const std::vector<int>& tail) {
  std::vector<char> reached(capture.nodes.size());
  std::vector<int> stack = tail;
  while (!stack.empty()) {
    const int n = stack.back();
    stack.pop_back();
    if (reached[n]) continue;
    reached[n] = 1;
    stack.insert(stack.end(), capture.nodes[n].after.begin(), capture.nodes[n].after.end());
  }
  for (std::size_t i = 0; i < reached.size(); ++i) {
    if (!reached[i]) {
      throw Error(Fault::capture, "a stream joined the capture and was not joined back: its " +
                                      capture.nodes[i].work.what + " is left");
    }
  }
}

}  // namespace belfry::simt::host
