// SPDX-License-Identifier: Apache-2.0
// Branches: independent work of one op side by side. Between fork and join the branches run in any order;
// what comes after the join comes after all of them. Works the same inside of a graph capture, where
// branches become parallel paths of the graph.
#pragma once

#include <array>
#include <vector>

#include "kernels/core/device.hpp"

namespace belfry::simt {

class Branches {
 public:
  /// More than this many pieces of work share streams: a GPU is full long before.
  static constexpr int kMost = 4;

  /// The side streams of `main`, which must outlive this. Made once and kept, since making them costs
  /// more than what they save in a step.
  explicit Branches(Stream& main) : main_(main) {}

  /// Open branches. Where an exception ends them they are joined too: what then frees memory on main, or ends
  /// a capture, still waits for the work of all.
  class [[nodiscard]] Fork {
   public:
    ~Fork();
    Fork(const Fork&) = delete;
    Fork& operator=(const Fork&) = delete;
    /// The stream of piece i; piece 0 goes to main itself.
    Stream& branch(int i) const;
    /// Main goes on when all branches are done.
    void join();

   private:
    friend class Branches;
    Fork(Branches& owner, int pieces);
    Branches& owner_;
  };

  /// Opens up to kMost branches for `pieces` pieces of work; each starts after main's work so far.
  Fork fork(int pieces) { return Fork(*this, pieces); }

 private:
  Stream& main_;
  std::array<Stream, kMost - 1> side_;
  Event forked_;
  std::array<Event, kMost - 1> joined_;
  int open_ = 0;  // branches, main included
};

}  // namespace belfry::simt
