// SPDX-License-Identifier: Apache-2.0
// Algorithms over the whole device, called from host code: queued on the context's stream, scratch from its
// arena, ready to be captured. CUB on a GPU (device_algorithms_cuda.cu); the executor, on which CUB's
// kernels cannot run, has an implementation of its own (tests/simt/device_algorithms_simt.cpp).
#pragma once

#include <cstdint>

#include "kernels/core/context.hpp"

namespace belfry::cuda {

/// Sorts n pairs by the bits begin_bit .. end_bit-1 of their keys; equal ones stay in order. The outputs must
/// not overlap the inputs, which stay as they are.
void sort_pairs(const Context& ctx, const std::uint64_t* keys, const std::uint32_t* values,
                std::int64_t n, int begin_bit, int end_bit, std::uint64_t* sorted_keys,
                std::uint32_t* sorted_values);
void sort_pairs(const Context& ctx, const std::uint32_t* keys, const std::uint32_t* values,
                std::int64_t n, int begin_bit, int end_bit, std::uint32_t* sorted_keys,
                std::uint32_t* sorted_values);

/// out[i] = in[0] + .. + in[i-1] for 0 <= i < n.
void exclusive_sum(const Context& ctx, const std::uint32_t* in, std::int64_t n, std::uint32_t* out);
void exclusive_sum(const Context& ctx, const std::int32_t* in, std::int64_t n, std::int64_t* out);

}  // namespace belfry::cuda
