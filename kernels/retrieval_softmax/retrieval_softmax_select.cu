// SPDX-License-Identifier: Apache-2.0
// The steps of the radix select of hard negatives between its counting passes: a thread a query.
#include "kernels/retrieval_softmax/softmax_prepare.cuh"
#include "kernels/retrieval_softmax/softmax_select.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

__global__ void start_searches(Searches searches, std::int64_t batch, std::int32_t wanted) {
  for (std::int64_t i = grid_thread(); i < batch; i += grid_threads()) {
    searches.key[i] = 0;
    searches.last_tie[i] = 0;
    searches.wanted[i] = wanted;
    searches.phase[i] = Search::score;
    for (int x = 0; x < kDigits; ++x) searches.counts[i * kDigits + x] = 0;
  }
}

/// Takes the digit that the counts decide: best scores first, of equal ones the smaller column. A search ends
/// where all of the digit's columns are wanted.
__global__ void decide_digit(Searches searches, std::int64_t batch, Digit digit) {
  constexpr std::int32_t kAllTies = 0x7fffffff;
  for (std::int64_t i = grid_thread(); i < batch; i += grid_threads()) {
    if (searches.phase[i] != digit.of) continue;
    std::uint32_t* counts = searches.counts + i * kDigits;
    const bool scores = digit.of == Search::score;
    const int digits = 1 << digit.bits;
    std::int32_t wanted = searches.wanted[i];
    int taken = -1;
    bool all = false;
    for (int n = 0; n < digits; ++n) {
      const int x = scores ? digits - 1 - n : n;
      const auto here = static_cast<std::int32_t>(counts[x]);
      counts[x] = 0;
      if (taken >= 0) continue;  // the rest is only cleared
      if (here >= wanted) {
        taken = x;
        all = here == wanted;
      } else {
        wanted -= here;
      }
    }
    searches.wanted[i] = wanted;
    if (scores) {
      if (taken > 0) searches.key[i] |= static_cast<std::uint32_t>(taken) << digit.shift;
      if (taken < 0 || all) {  // fewer columns than wanted: the key is below all scores'
        searches.last_tie[i] = kAllTies;
        searches.phase[i] = Search::done;
      } else if (digit.last) {
        searches.phase[i] = Search::column;
      }
      searches.threshold[i] = float_of_key(searches.key[i]);
    } else {
      std::int32_t last = searches.last_tie[i] | taken << digit.shift;
      if (all) {
        last |= (1 << digit.shift) - 1;
        searches.phase[i] = Search::done;
      }
      searches.last_tie[i] = last;
    }
  }
}

void begin_searches(const Context& ctx, const Searches& searches, std::int64_t batch,
                    std::int64_t wanted) {
  launch_loop(ctx, batch, start_searches, searches, batch, static_cast<std::int32_t>(wanted));
}
void take_digit(const Context& ctx, const Searches& searches, std::int64_t batch, Digit digit) {
  launch_loop(ctx, batch, decide_digit, searches, batch, digit);
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
