// SPDX-License-Identifier: Apache-2.0
// Which interactions train, validate and test. A pure function of the data and the seed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/config.hpp"

namespace belfry {

/// Row numbers, ascending in `train` and `validation` except for method shuffle, where all three keep the
/// shuffled order (TFRS: ratings.shuffle(seed).take(n), .skip(n).take(m)).
struct Split {
  std::vector<std::int64_t> train, validation, test;
};

/// users: code of each row's user; times: time of each row, empty when there is no time column (then
/// temporal is Error(usage), and leave-last-out takes the last row in file order). Fractions are rounded
/// down. Defaults: random and temporal test 0.1, shuffle trains 0.8; the part that is not given is the
/// rest. With both given the rest is unused (temporal: the oldest rows). Amounts for the other methods
/// are Error(usage). Validation rows are drawn by seed from train, at random, with a key of their own.
/// An empty train part, or amounts that ask for more rows than there are: Error(usage) naming the key;
/// no row at all, or a NaN time: Error(bad_data).
Split make_split(const SplitConfig& config, bool early_stop, std::span<const std::uint32_t> users,
                 std::span<const double> times, std::int64_t rows);

/// The rows 0 .. rows-1 in the order that method shuffle of this seed cuts.
std::vector<std::int64_t> shuffled_rows(std::uint64_t seed, std::int64_t rows);

}  // namespace belfry
