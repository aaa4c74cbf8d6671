// SPDX-License-Identifier: Apache-2.0
#include "engine/split.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include "engine/error.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry {
namespace {

constexpr double kDefaultTest = 0.1;          // random, temporal
constexpr double kDefaultShuffleTrain = 0.8;  // TFRS's tutorials; the rest tests
constexpr double kDefaultValidation = 0.05;

[[noreturn]] void refuse(const SplitConfig& config, const std::string& what,
                         const std::string& hint = "") {
  throw Error(ExitCode::usage, config.place, what, hint);
}

/// The rows that `amount` asks for, out of `rows`. A fraction is rounded down, so that fractions
/// that add up to 1 never ask for more rows than there are.
std::int64_t rows_of(const SplitConfig& config, const Amount& amount, const char* key,
                     std::int64_t rows) {
  const std::string name = std::string("split.") + key;
  if (!(amount.value >= 0)) refuse(config, name + " must not be negative");
  if (amount.fraction) {
    if (amount.value > 1) refuse(config, name + " is a fraction above 1");
    // 0.29 * 100 is 28.999999999999996: the nudge gives the row count that was meant.
    return std::min(rows, static_cast<std::int64_t>(
                              std::floor(amount.value * static_cast<double>(rows) + 1e-6)));
  }
  if (amount.value != std::floor(amount.value))
    refuse(config, name + " must be a whole number of rows");
  if (amount.value > static_cast<double>(rows)) {
    refuse(config, name + " asks for more rows than there are (" + std::to_string(rows) + ")");
  }
  return static_cast<std::int64_t>(amount.value);
}

/// Rows for `train` and `test` out of `rows`, by what was given and what was left open.
struct Sizes {
  std::int64_t train = 0, test = 0;
};
Sizes sizes_of(const SplitConfig& config, std::int64_t rows) {
  Sizes s;
  const bool shuffle = config.method == SplitMethod::shuffle;
  if (config.test) s.test = rows_of(config, *config.test, "test", rows);
  if (config.train) {
    s.train = rows_of(config, *config.train, "train", rows);
  } else if (config.test) {
    s.train = rows - s.test;
  } else if (shuffle) {
    s.train = rows_of(config, {kDefaultShuffleTrain, true}, "train", rows);
  } else {
    s.test = rows_of(config, {kDefaultTest, true}, "test", rows);
    s.train = rows - s.test;
  }
  if (!config.test && (config.train || shuffle)) s.test = rows - s.train;
  if (s.train > rows - s.test) {
    refuse(config, "split.train and split.test together ask for more rows than there are (" +
                       std::to_string(rows) + ")");
  }
  if (s.train == 0) {
    refuse(config,
           config.train ? "split.train asks for no row" : "split.test leaves no row to train on",
           "there are " + std::to_string(rows) + " rows");
  }
  return s;
}

/// A permutation whose key belongs to `stream`: the trainer's shuffles of the same seed stay apart.
Permutation keyed(std::uint64_t seed, RandomStream stream, std::int64_t rows) {
  const Philox4 w = random_words(seed, stream, 0, 0);
  return make_permutation((std::uint64_t{w.v[0]} << 32) | w.v[1], 0, rows);
}

std::vector<std::int64_t> positions(const Permutation& p, std::int64_t first, std::int64_t n) {
  std::vector<std::int64_t> rows(n);
  for (std::int64_t i = 0; i < n; ++i) rows[i] = permuted(p, first + i);
  return rows;
}

Split by_permutation(const SplitConfig& config, std::int64_t rows) {
  const Sizes s = sizes_of(config, rows);
  const Permutation p = keyed(config.seed, RandomStream::split, rows);
  if (config.method == SplitMethod::shuffle) {
    return {positions(p, 0, s.train), {}, positions(p, s.train, s.test)};
  }
  // The test rows come first, so that they stay the same whatever part of the rest trains.
  Split split{positions(p, s.test, s.train), {}, positions(p, 0, s.test)};
  std::sort(split.train.begin(), split.train.end());
  std::sort(split.test.begin(), split.test.end());
  return split;
}

void check_times(const SplitConfig& config, std::span<const double> times) {
  for (const double t : times) {
    if (std::isnan(t)) throw Error(ExitCode::bad_data, config.place, "a row has no time");
  }
}

/// The latest `test` rows test, the `train` rows before them train: with both amounts given, what is
/// left over is the oldest part.
Split by_time(const SplitConfig& config, std::span<const double> times, std::int64_t rows) {
  if (times.empty()) {
    refuse(config, "split.method = \"temporal\" needs a time column", "set data.time");
  }
  check_times(config, times);
  const Sizes s = sizes_of(config, rows);
  std::vector<std::int64_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return times[a] < times[b]; });
  const auto cut = order.end() - s.test;
  Split split{{cut - s.train, cut}, {}, {cut, order.end()}};
  std::sort(split.train.begin(), split.train.end());
  std::sort(split.test.begin(), split.test.end());
  return split;
}

Split leave_last_out(std::span<const std::uint32_t> users, std::span<const double> times,
                     std::int64_t rows) {
  std::uint32_t most = 0;
  for (const std::uint32_t u : users) most = std::max(most, u);
  std::vector<std::int64_t> last(std::size_t{most} + 1, -1);
  std::vector<char> several(std::size_t{most} + 1, 0);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t& l = last[users[row]];
    several[users[row]] = l >= 0;
    if (l < 0 || times.empty() || times[row] >= times[l]) l = row;
  }
  Split split;
  for (std::int64_t row = 0; row < rows; ++row) {
    const bool test = last[users[row]] == row && several[users[row]] != 0;
    (test ? split.test : split.train).push_back(row);
  }
  return split;
}

/// Moves rows of train, drawn by seed, to validation; both keep train's order.
void draw_validation(const SplitConfig& config, bool early_stop, Split& split) {
  const auto rows = static_cast<std::int64_t>(split.train.size());
  std::optional<Amount> amount = config.validation;
  if (!amount && early_stop) amount = Amount{kDefaultValidation, true};
  if (!amount) return;
  const std::int64_t n = rows_of(config, *amount, "validation", rows);
  if (n == 0) return;
  if (n == rows) refuse(config, "split.validation leaves no row to train on");
  const Permutation p = keyed(config.seed, RandomStream::validation, rows);
  std::vector<char> drawn(rows, 0);
  for (std::int64_t i = 0; i < n; ++i) drawn[permuted(p, i)] = 1;
  std::vector<std::int64_t> train;
  train.reserve(rows - n);
  split.validation.reserve(n);
  for (std::int64_t i = 0; i < rows; ++i) {
    (drawn[i] != 0 ? split.validation : train).push_back(split.train[i]);
  }
  split.train = std::move(train);
}

}  // namespace

Split make_split(const SplitConfig& config, bool early_stop, std::span<const std::uint32_t> users,
                 std::span<const double> times, std::int64_t rows) {
  if (rows < 1) throw Error(ExitCode::bad_data, config.place, "there is no row to train on");
  const bool sized = config.method == SplitMethod::random ||
                     config.method == SplitMethod::shuffle ||
                     config.method == SplitMethod::temporal;
  if (!sized && (config.train || config.test)) {
    refuse(config,
           std::string("split.") + (config.train ? "train" : "test") +
               " has no meaning for this split.method",
           "amounts are for random, shuffle and temporal");
  }
  Split split;
  switch (config.method) {
    case SplitMethod::random:
    case SplitMethod::shuffle:
      split = by_permutation(config, rows);
      break;
    case SplitMethod::temporal:
      split = by_time(config, times, rows);
      break;
    case SplitMethod::leave_last_out:
      check_times(config, times);
      split = leave_last_out(users, times, rows);
      break;
    case SplitMethod::none:
    case SplitMethod::file:
      split.train.resize(rows);
      std::iota(split.train.begin(), split.train.end(), 0);
      break;
  }
  draw_validation(config, early_stop, split);
  return split;
}

std::vector<std::int64_t> shuffled_rows(std::uint64_t seed, std::int64_t rows) {
  if (rows == 0) return {};
  return positions(keyed(seed, RandomStream::split, rows), 0, rows);
}

}  // namespace belfry
