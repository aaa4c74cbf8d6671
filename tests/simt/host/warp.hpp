// SPDX-License-Identifier: Apache-2.0
// The executor's face towards kernels, part 2: warp intrinsics. Each lane leaves a frame with its
// operands; the last lane to arrive computes all results (warp.cpp). __activemask() is left out on
// purpose: what it returns is never a promise.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "host/builtins.hpp"

namespace belfry::simt::host {

enum class WarpOp : std::uint8_t {
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  any,
  all,
  match_any,
  match_all,
  reduce_add,
  reduce_min,
  reduce_max,
  reduce_and,
  reduce_or,
  reduce_xor,
  mma,
  load_matrix,
  converge,
};

struct WarpFrame {
  WarpOp op;
  bool is_signed = false;   // reductions
  int bytes = 4;            // of value
  int width = 32;           // of shuffles; of load_matrix: matrices, negative when transposed
  unsigned operand = 0;     // lane or distance
  std::uint64_t value = 0;  // in
  std::uint64_t result = 0;
  int predicate = 0;       // out, of match_all
  const void* in[3] = {};  // mma: a, b, c; load_matrix: the row
  void* out = nullptr;     // mma: d; load_matrix: registers
};
/// Meets the lanes of `mask` and fills the frame's results.
void warp_meet(unsigned mask, WarpFrame& frame, Where where);

template <class T>
T shuffle(WarpOp op, unsigned mask, T value, unsigned operand, int width, Where where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffles move up to 8 bytes");
  WarpFrame frame{.op = op, .bytes = sizeof(T), .width = width, .operand = operand};
  std::memcpy(&frame.value, &value, sizeof(T));
  warp_meet(mask, frame, where);
  std::memcpy(&value, &frame.result, sizeof(T));
  return value;
}
inline std::uint64_t vote(WarpOp op, unsigned mask, std::uint64_t value, Where where) {
  WarpFrame frame{.op = op, .value = value};
  warp_meet(mask, frame, where);
  return frame.result;
}
template <class T>
T reduce(WarpOp op, unsigned mask, T value, Where where) {
  static_assert(std::is_same_v<T, unsigned> || std::is_same_v<T, int>);
  WarpFrame frame{
      .op = op, .is_signed = std::is_signed_v<T>, .value = static_cast<unsigned>(value)};
  warp_meet(mask, frame, where);
  return static_cast<T>(static_cast<unsigned>(frame.result));
}
template <class T>
std::uint64_t bits_of(T value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

}  // namespace belfry::simt::host

#define SIMT_WHERE std::source_location where = std::source_location::current()

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_WHERE) {
  belfry::simt::host::vote(belfry::simt::host::WarpOp::sync, mask, 0, where);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return belfry::simt::host::shuffle(WarpOp::shuffle, mask, value, static_cast<unsigned>(lane),
                                     width, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return belfry::simt::host::shuffle(WarpOp::shuffle_up, mask, value, delta, width, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return belfry::simt::host::shuffle(WarpOp::shuffle_down, mask, value, delta, width, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return belfry::simt::host::shuffle(WarpOp::shuffle_xor, mask, value,
                                     static_cast<unsigned>(lane_mask), width, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return static_cast<unsigned>(
      belfry::simt::host::vote(WarpOp::ballot, mask, predicate != 0, where));
}
inline int __any_sync(unsigned mask, int predicate, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return static_cast<int>(belfry::simt::host::vote(WarpOp::any, mask, predicate != 0, where));
}
inline int __all_sync(unsigned mask, int predicate, SIMT_WHERE) {
  using belfry::simt::host::WarpOp;
  return static_cast<int>(belfry::simt::host::vote(WarpOp::all, mask, predicate != 0, where));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, SIMT_WHERE) {
  using namespace belfry::simt::host;
  return static_cast<unsigned>(vote(WarpOp::match_any, mask, bits_of(value), where));
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* predicate, SIMT_WHERE) {
  using namespace belfry::simt::host;
  WarpFrame frame{.op = WarpOp::match_all, .value = bits_of(value)};
  warp_meet(mask, frame, where);
  *predicate = frame.predicate;
  return static_cast<unsigned>(frame.result);
}

#define SIMT_REDUCE(name, T)                                                                  \
  inline T __reduce_##name##_sync(unsigned mask, T value, SIMT_WHERE) {                       \
    return belfry::simt::host::reduce(belfry::simt::host::WarpOp::reduce_##name, mask, value, \
                                      where);                                                 \
  }
SIMT_REDUCE(add, unsigned)
SIMT_REDUCE(add, int)
SIMT_REDUCE(min, unsigned)
SIMT_REDUCE(min, int)
SIMT_REDUCE(max, unsigned)
SIMT_REDUCE(max, int)
SIMT_REDUCE(and, unsigned)
SIMT_REDUCE(or, unsigned)
SIMT_REDUCE(xor, unsigned)
#undef SIMT_REDUCE
