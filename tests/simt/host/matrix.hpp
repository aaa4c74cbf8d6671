// SPDX-License-Identifier: Apache-2.0
// The executor's face towards kernels, part 5: the wrappers of PTX, same signatures as simt_cuda.hpp.
#pragma once

#include <cstdint>
#include <source_location>

#include "host/warp.hpp"

namespace belfry::simt {

namespace host {
/// Remembers the copy and destroys the target; the copy is made by the wait (copies.cpp).
void start_copy(void* shared, const void* global, int bytes, int valid, const void* caller);
void commit_copies();
void wait_copies(int newest);

template <int N>
void load_matrix(std::uint32_t (&r)[N], const void* row, bool transposed, Where where) {
  WarpFrame frame{.op = WarpOp::load_matrix, .width = transposed ? -N : N, .in = {row}, .out = r};
  warp_meet(0xffffffffu, frame, where);
}
}  // namespace host

/// A meeting, so that lanes which miss it are noticed; no order, so that races which it hides are too.
inline void converge(SIMT_WHERE) {
  host::WarpFrame frame{.op = host::WarpOp::converge};
  host::warp_meet(0xffffffffu, frame, where);
}
inline void mma_m16n8k16_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                              const std::uint32_t (&b)[2], const float (&c)[4], SIMT_WHERE) {
  host::WarpFrame frame{.op = host::WarpOp::mma, .in = {a, b, c}, .out = d};
  host::warp_meet(0xffffffffu, frame, where);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, SIMT_WHERE) {
  host::load_matrix(r, row, false, where);
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, SIMT_WHERE) {
  host::load_matrix(r, row, true, where);
}
inline void ldmatrix_x2(std::uint32_t (&r)[2], const void* row, SIMT_WHERE) {
  host::load_matrix(r, row, false, where);
}
inline void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row, SIMT_WHERE) {
  host::load_matrix(r, row, true, where);
}

template <int Bytes>
SIMT_UNCHECKED void cp_async(void* shared, const void* global, int valid = Bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  host::start_copy(shared, global, Bytes, valid, __builtin_return_address(0));
}
inline void cp_async_commit() {
  host::commit_copies();
}
template <int N>
void cp_async_wait() {
  host::wait_copies(N);
}

}  // namespace belfry::simt
