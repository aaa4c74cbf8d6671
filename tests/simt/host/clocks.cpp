// SPDX-License-Identifier: Apache-2.0
#include "host/clocks.hpp"

#include <algorithm>
#include <unordered_map>

#include "host/launch_state.hpp"

namespace belfry::simt::host {

namespace {

struct Segment {
  std::uint64_t block;
  std::uint32_t index, clock;
};
struct PublishedWord {
  Knowledge device;
  std::map<std::uint64_t, Knowledge> of_block;  // by block-wide fences
};

struct Phase {
  std::uint32_t first = 1;  // segments below are of earlier phases
  std::vector<Segment> segments;
  std::unordered_map<const void*, PublishedWord> words;
};
Phase phase;

Knowledge& made(std::unique_ptr<Knowledge>& knowledge) {
  if (!knowledge) knowledge = std::make_unique<Knowledge>();
  return *knowledge;
}

bool knows(const Knowledge* knowledge, const Segment& s) {
  if (knowledge == nullptr) return false;
  const auto known = knowledge->find(s.block);
  if (known == knowledge->end()) return false;
  if (s.clock < known->second.below) return true;
  const auto warp = known->second.lanes.find(s.index / 32);
  return warp != known->second.lanes.end() && s.clock <= warp->second[s.index % 32];
}

void advance(Thread& t, std::uint32_t clock) {
  t.clock.now = clock;
  t.clock.segment = 0;
}

}  // namespace

void Known::join(const Known& other) {
  below = std::max(below, other.below);
  for (const auto& [warp, row] : other.lanes) {
    auto& mine = lanes.try_emplace(warp).first->second;
    for (int i = 0; i < 32; ++i) mine[i] = std::max(mine[i], row[i]);
  }
}

void join(Knowledge& to, const Knowledge& from) {
  for (const auto& [block, known] : from) to[block].join(known);
}

void order_barrier(Block& block) {
  std::uint32_t latest = 0;
  for (const Thread& t : block.threads) latest = std::max(latest, t.clock.now);
  block.clock.barrier = latest + 1;
  for (Thread& t : block.threads) {
    advance(t, latest + 1);
    if (t.clock.knowledge) {
      join(made(block.clock.knowledge), *t.clock.knowledge);
      t.clock.knowledge.reset();
    }
  }
}

void order_warp(Block& block, Warp& warp, unsigned lanes) {
  if (!warp.clocks.known) {
    warp.clocks.known = std::make_unique<std::array<std::array<std::uint32_t, 32>, 32>>();
  }
  auto& known = *warp.clocks.known;
  const std::size_t first = static_cast<std::size_t>(&warp - block.warps.data()) * 32;
  std::array<std::uint32_t, 32> joined{};
  Knowledge gathered;
  for (int l = 0; l < 32; ++l) {
    if (!(lanes >> l & 1)) continue;
    const Thread& t = block.threads[first + l];
    for (int i = 0; i < 32; ++i) joined[i] = std::max(joined[i], known[l][i]);
    joined[l] = std::max(joined[l], t.clock.now);
    if (t.clock.knowledge) join(gathered, *t.clock.knowledge);
  }
  for (int l = 0; l < 32; ++l) {
    if (!(lanes >> l & 1)) continue;
    Thread& t = block.threads[first + l];
    known[l] = joined;
    advance(t, t.clock.now + 1);
    if (!gathered.empty()) made(t.clock.knowledge) = gathered;
  }
}

void order_fence(Thread& t, bool block_only) {
  Block& block = *t.block;
  if (t.clock.acquired) {
    join(made(t.clock.knowledge), *t.clock.acquired);
    t.clock.acquired.reset();
  }
  auto release = std::make_unique<Release>();
  release->block_only = block_only;
  if (block.clock.knowledge) join(release->knowledge, *block.clock.knowledge);
  if (t.clock.knowledge) join(release->knowledge, *t.clock.knowledge);
  Known own;
  own.below = block.clock.barrier;
  auto& row = own.lanes[t.index / 32];
  if (const auto& known = block.warp_of(t).clocks.known) row = (*known)[t.lane()];
  row[t.lane()] = t.clock.now;
  release->knowledge[block.number].join(own);
  t.clock.release = std::move(release);
  advance(t, t.clock.now + 1);
}

void order_atomic(Thread& t, const void* word) {
  auto found = phase.words.find(word);
  if (found != phase.words.end()) {
    Knowledge& into = made(options().strict_acquire ? t.clock.acquired : t.clock.knowledge);
    join(into, found->second.device);
    const auto own = found->second.of_block.find(t.block->number);
    if (own != found->second.of_block.end()) join(into, own->second);
  }
  if (!t.clock.release) return;
  if (found == phase.words.end()) found = phase.words.try_emplace(word).first;
  join(t.clock.release->block_only ? found->second.of_block[t.block->number] : found->second.device,
       t.clock.release->knowledge);
}

void new_phase() {
  phase.first += static_cast<std::uint32_t>(phase.segments.size());
  phase.segments.clear();
  phase.words.clear();
}

std::uint32_t current_segment(Thread& t) {
  if (t.clock.segment == 0) {
    t.clock.segment = phase.first + static_cast<std::uint32_t>(phase.segments.size());
    phase.segments.push_back({t.block->number, t.index, t.clock.now});
  }
  return t.clock.segment;
}

bool ordered_before(std::uint32_t segment, const Thread& t) {
  if (segment < phase.first) return true;
  const Segment& s = phase.segments[segment - phase.first];
  Block& block = *t.block;
  if (s.block == block.number) {
    if (s.index == t.index || s.clock < block.clock.barrier) return true;
    const auto& known = block.warps[t.index / 32].clocks.known;
    if (s.index / 32 == t.index / 32 && known && s.clock <= (*known)[t.lane()][s.index % 32]) {
      return true;
    }
  }
  return knows(t.clock.knowledge.get(), s) || knows(block.clock.knowledge.get(), s);
}

std::uint64_t warp_of(std::uint32_t segment) {
  if (segment < phase.first) return 0;
  const Segment& s = phase.segments[segment - phase.first];
  return 1 + s.block * 32 + s.index / 32;  // a block has at most 32 warps
}

std::string thread_of(std::uint32_t segment, const Thread& reader) {
  const Segment& s = phase.segments[segment - phase.first];
  const Dims& dims = reader.block->launch->dims;
  const auto text = [](const Extent& e, std::uint64_t n) {
    return "(" + std::to_string(n % e.x) + "," + std::to_string(n / e.x % e.y) + "," +
           std::to_string(n / e.x / e.y) + ")";
  };
  return "block " + text(dims.grid, s.block) + " thread " + text(dims.block, s.index);
}

}  // namespace belfry::simt::host
