// SPDX-License-Identifier: Apache-2.0
// Who is ordered after whom, by CUDA's rules. Each thread has a clock that moves on at barriers, at
// __syncwarp and at fences; an access is stamped with it (checker.cpp). An access of thread A at clock c
// comes before thread B's next one if
//   - A is B, or the launch (or grid barrier) of A's access is over,
//   - both are of one block, and a barrier lies between: c < the block's barrier clock,
//   - both are of one warp, and B's row of the warp's clocks knows c: a chain of __syncwarp,
//   - B knows of it through fences and atomics: A fenced, then touched a word with an atomic, that B
//     touched with an atomic later.
// Shuffles and votes order nothing.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace belfry::simt::host {

struct Thread;
struct Warp;
struct Block;

/// What is known of one block: all its accesses below a clock, and of single warps' lanes more.
struct Known {
  std::uint32_t below = 0;
  std::map<std::uint32_t, std::array<std::uint32_t, 32>> lanes;
  void join(const Known& other);
};
using Knowledge = std::map<std::uint64_t, Known>;  // by block
void join(Knowledge& to, const Knowledge& from);

/// What a thread publishes with its next atomics.
struct Release {
  Knowledge knowledge;
  bool block_only;
};

struct ThreadClock {
  std::uint32_t now = 1;
  std::uint32_t segment = 0;  // stamp of the current clock, 0: not yet made
  std::unique_ptr<Knowledge> knowledge;
  std::unique_ptr<Knowledge> acquired;  // strict: becomes knowledge at the next fence
  std::unique_ptr<Release> release;
};
struct WarpClocks {
  std::unique_ptr<std::array<std::array<std::uint32_t, 32>, 32>> known;  // [lane][of lane]
};
struct BlockClock {
  std::uint32_t barrier = 0;
  std::unique_ptr<Knowledge> knowledge;
};

// Called by the executor in the check build.
void order_barrier(Block& block);
void order_warp(Block& block, Warp& warp, unsigned lanes);
void order_fence(Thread& t, bool block_only);
void order_atomic(Thread& t, const void* word);
/// A new launch or a grid barrier: everything before it is in order.
void new_phase();

/// Number of the thread's current (thread, clock); never 0.
std::uint32_t current_segment(Thread& t);
/// True if what `segment` stamps comes before the thread's next access.
bool ordered_before(std::uint32_t segment, const Thread& t);
/// One number per warp of the launch; 0 for segments of earlier phases.
std::uint64_t warp_of(std::uint32_t segment);
/// The thread of a segment of the current phase, as text.
std::string thread_of(std::uint32_t segment, const Thread& reader);

}  // namespace belfry::simt::host
