// SPDX-License-Identifier: Apache-2.0
// Warp intrinsics: lanes of one mask meet, and the last one to arrive computes for all.
#include "host/warp.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "host/checker.hpp"
#include "host/launch_state.hpp"
#include "host/memory.hpp"
#include "host/symbols.hpp"

namespace belfry::simt::host {

namespace {

const char* name_of(WarpOp op) {
  static constexpr const char* kNames[] = {"__syncwarp",
                                           "__shfl_sync",
                                           "__shfl_up_sync",
                                           "__shfl_down_sync",
                                           "__shfl_xor_sync",
                                           "__ballot_sync",
                                           "__any_sync",
                                           "__all_sync",
                                           "__match_any_sync",
                                           "__match_all_sync",
                                           "__reduce_add_sync",
                                           "__reduce_min_sync",
                                           "__reduce_max_sync",
                                           "__reduce_and_sync",
                                           "__reduce_or_sync",
                                           "__reduce_xor_sync",
                                           "mma",
                                           "ldmatrix",
                                           "converge"};
  return kNames[static_cast<int>(op)];
}

template <class F>
void for_lanes(unsigned lanes, F&& f) {
  for (; lanes != 0; lanes &= lanes - 1) f(std::countr_zero(lanes));
}

/// The lane that `lane` reads from; itself where the source lies outside of its segment.
int source_lane(const WarpFrame& f, int lane) {
  const int first = lane & ~(f.width - 1);
  const int last = first + f.width - 1;
  const int n = static_cast<int>(f.operand);
  switch (f.op) {
    case WarpOp::shuffle:
      return first + (n & (f.width - 1));
    case WarpOp::shuffle_up:
      return n <= lane - first ? lane - n : lane;
    case WarpOp::shuffle_down:
      return n <= last - lane ? lane + n : lane;
    default:
      return (lane ^ n) <= last ? lane ^ n : lane;
  }
}

/// Empty, or what is wrong with one lane's shuffle.
std::string shuffle_fault(const Meeting& m, const WarpFrame& f, int lane) {
  if (f.width < 1 || f.width > 32 || (f.width & (f.width - 1)) != 0)
    return "width is not 1, 2, 4 .. 32";
  const int from = source_lane(f, lane);
  if (from < 0 || from > 31) return "source lane out of the warp";
  if (m.arrived >> from & 1) return "";
  return "lane " + std::to_string(lane) + " reads lane " + std::to_string(from) +
         (m.mask >> from & 1 ? ", which has returned" : ", which is not in mask");
}

void combine_reduction(const Meeting& m) {
  const WarpFrame* first = m.frames[std::countr_zero(m.arrived)];
  auto sum = static_cast<std::uint32_t>(first->value);
  for_lanes(m.arrived & (m.arrived - 1), [&](int lane) {
    const auto v = static_cast<std::uint32_t>(m.frames[lane]->value);
    const bool below =
        first->is_signed ? static_cast<std::int32_t>(v) < static_cast<std::int32_t>(sum) : v < sum;
    switch (m.op) {
      case WarpOp::reduce_add:
        sum += v;
        break;
      case WarpOp::reduce_min:
        sum = below ? v : sum;
        break;
      case WarpOp::reduce_max:
        sum = below ? sum : v;
        break;
      case WarpOp::reduce_and:
        sum &= v;
        break;
      case WarpOp::reduce_or:
        sum |= v;
        break;
      default:
        sum ^= v;
        break;
    }
  });
  for_lanes(m.arrived, [&](int lane) { m.frames[lane]->result = sum; });
}

void combine_votes(const Meeting& m) {
  unsigned ballot = 0;
  for_lanes(m.arrived, [&](int lane) { ballot |= (m.frames[lane]->value != 0 ? 1u : 0u) << lane; });
  for_lanes(m.arrived, [&](int lane) {
    WarpFrame& f = *m.frames[lane];
    unsigned equal = 0;
    for_lanes(m.arrived, [&](int other) {
      if (m.frames[other]->value == f.value) equal |= 1u << other;
    });
    switch (m.op) {
      case WarpOp::ballot:
        f.result = ballot;
        break;
      case WarpOp::any:
        f.result = ballot != 0;
        break;
      case WarpOp::all:
        f.result = ballot == m.arrived;
        break;
      case WarpOp::match_any:
        f.result = equal;
        break;
      default:
        f.predicate = equal == m.arrived;
        f.result = f.predicate != 0 ? m.arrived : 0;
    }
  });
}

float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// Fragments of mma.m16n8k16 (PTX ISA): lane = 4 g + t.
///   a: register r, half h holds row g + 8 (r % 2), column 2 t + h + 8 (r / 2)
///   b: register r, half h holds row 2 t + h + 8 r, column g
///   c, d: element e holds row g + 8 (e / 2), column 2 t + e % 2
void combine_mma(const Meeting& m) {
  float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const WarpFrame& f = *m.frames[lane];
    const int g = lane / 4, t = lane % 4;
    const auto half = [&](int operand, int r, int h) {
      const std::uint32_t word = static_cast<const std::uint32_t*>(f.in[operand])[r];
      return bf16_to_float(static_cast<std::uint16_t>(word >> (16 * h)));
    };
    for (int h = 0; h < 2; ++h) {
      for (int r = 0; r < 4; ++r) a[g + 8 * (r % 2)][2 * t + h + 8 * (r / 2)] = half(0, r, h);
      for (int r = 0; r < 2; ++r) b[2 * t + h + 8 * r][g] = half(1, r, h);
    }
    for (int e = 0; e < 4; ++e) {
      c[g + 8 * (e / 2)][2 * t + e % 2] = static_cast<const float*>(f.in[2])[e];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int e = 0; e < 4; ++e) {
      const int row = g + 8 * (e / 2), column = 2 * t + e % 2;
      double sum = c[row][column];  // products of bf16 are exact in it
      for (int k = 0; k < 16; ++k) sum += double{a[row][k]} * b[k][column];
      static_cast<float*>(m.frames[lane]->out)[e] = static_cast<float>(sum);
    }
  }
}

/// Matrix j: rows named by lanes 8 j .. 8 j + 7; lane 4 g + t gets elements 2 t, 2 t + 1 of row g,
/// or, transposed, of column g.
void combine_load(const Meeting& m) {
  const int width = m.frames[0]->width;
  const bool transposed = width < 0;
  const int matrices = transposed ? -width : width;
  for (int j = 0; j < matrices; ++j) {
    std::uint16_t matrix[8][8];
    for (int row = 0; row < 8; ++row) std::memcpy(matrix[row], m.frames[8 * j + row]->in[0], 16);
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = 2 * (lane % 4);
      const std::uint32_t low = transposed ? matrix[t][g] : matrix[g][t];
      const std::uint32_t high = transposed ? matrix[t + 1][g] : matrix[g][t + 1];
      static_cast<std::uint32_t*>(m.frames[lane]->out)[j] = high << 16 | low;
    }
  }
}

/// Empty, or what is wrong; results go into the frames.
std::string combine(const Meeting& m) {
  switch (m.op) {
    case WarpOp::sync:
    case WarpOp::converge:
      return "";
    case WarpOp::shuffle:
    case WarpOp::shuffle_up:
    case WarpOp::shuffle_down:
    case WarpOp::shuffle_xor: {
      std::string fault;
      for_lanes(m.arrived, [&](int lane) {
        WarpFrame& f = *m.frames[lane];
        if (fault.empty()) fault = shuffle_fault(m, f, lane);
        if (fault.empty()) f.result = m.frames[source_lane(f, lane)]->value;
      });
      return fault;
    }
    case WarpOp::ballot:
    case WarpOp::any:
    case WarpOp::all:
    case WarpOp::match_any:
    case WarpOp::match_all:
      combine_votes(m);
      return "";
    case WarpOp::mma:
    case WarpOp::load_matrix:
      if (m.arrived != 0xffffffffu) return "needs all 32 lanes";
      if (m.op == WarpOp::mma) {
        combine_mma(m);
      } else {
        combine_load(m);
      }
      return "";
    default:
      combine_reduction(m);
      return "";
  }
}

bool complete(const Warp& warp, const Meeting& m) {
  return m.arrived == (m.mask & warp.lanes & ~warp.exited);
}

/// Computes, and makes all lanes ready but `last`, which runs already (or has returned).
void finish(Thread& last, Warp& warp, std::size_t index) {
  Meeting m = warp.meetings[index];
  warp.meetings.erase(warp.meetings.begin() + static_cast<std::ptrdiff_t>(index));
  const std::string fault = combine(m);
  if (!fault.empty()) {
    fail(last, Fault::warp,
         std::string(name_of(m.op)) + " of mask " + std::to_string(m.mask) + " at " +
             place_of(m.where) + " in the warp of " + name_of(last) + ": " + fault);
  }
  if (checking() && m.op == WarpOp::sync) order_warp(*last.block, warp, m.arrived);
  progress(last);
  Thread* first = last.block->threads.data() + (last.index & ~31u);
  for_lanes(m.arrived, [&](int lane) {
    if (first + lane != &last) make_ready(first[lane]);
  });
}

}  // namespace

void warp_meet(unsigned mask, WarpFrame& frame, Where where) {
  const AsHost host;
  Thread& t = host.thread();
  Warp& warp = t.block->warp_of(t);
  const auto refuse = [&](const std::string& why) {
    fail(t, Fault::warp,
         std::string(name_of(frame.op)) + " at " + place_of(where) + " by " + name_of(t) + ": " +
             why);
  };
  if (!(mask >> t.lane() & 1)) refuse("the caller is not in its own mask");
  if (frame.op == WarpOp::mma && options().architecture < 80) {
    fail(t, Fault::trap, "mma of bf16 at " + place_of(where) + ": needs sm_80");
  }
  if (frame.op == WarpOp::load_matrix) {
    const int matrices = std::abs(frame.width);
    const bool reads = static_cast<int>(t.lane()) < 8 * matrices;
    if (reads && reinterpret_cast<std::uintptr_t>(frame.in[0]) % 16 != 0)
      refuse("row is misaligned");
    if (reads && device_region().holds(frame.in[0])) {
      check_access(t, frame.in[0], 16, Access::read, 0);
    }
  }
  auto m = std::find_if(warp.meetings.begin(), warp.meetings.end(),
                        [&](const Meeting& other) { return other.mask == mask; });
  if (m == warp.meetings.end()) {
    m = warp.meetings.insert(m, Meeting{});
    m->mask = mask;
    m->op = frame.op;
    m->where = where;
  } else if (m->op != frame.op) {
    refuse("other lanes of the mask are at " + std::string(name_of(m->op)) + " at " +
           place_of(m->where));
  }
  m->arrived |= 1u << t.lane();
  m->frames[t.lane()] = &frame;
  if (complete(warp, *m)) {
    finish(t, warp, static_cast<std::size_t>(m - warp.meetings.begin()));
    maybe_yield(t);
    return;
  }
  t.state = State::at_warp;
  t.where = where;
  t.mask = mask;
  switch_away(t);
}

void on_warp_exit(Thread& t) {
  Warp& warp = t.block->warp_of(t);
  warp.exited |= 1u << t.lane();
  for (std::size_t i = warp.meetings.size(); i-- > 0;) {
    if ((warp.meetings[i].mask >> t.lane() & 1) && complete(warp, warp.meetings[i]))
      finish(t, warp, i);
  }
}

}  // namespace belfry::simt::host
