// SPDX-License-Identifier: Apache-2.0
#include "kernels/retrieval_softmax/score_steps.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace belfry::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// One row in lane `lane` of a 16-wide tile; the other lanes hold other scores.
struct RowInTile {
  RowInTile(const std::vector<float>& row, std::int64_t lane) : lane(lane), tile(row.size() * 16) {
    for (std::size_t i = 0; i < tile.size(); ++i) tile[i] = static_cast<float>(i * 37 % 101) - 50;
    for (std::size_t j = 0; j < row.size(); ++j) tile[j * 16 + lane] = row[j];
  }
  std::vector<float> row() const {
    std::vector<float> r;
    for (std::size_t j = 0; j < tile.size() / 16; ++j) r.push_back(tile[j * 16 + lane]);
    return r;
  }
  std::int64_t lane;
  std::vector<float> tile;
};

/// The rule, by a full sort.
std::vector<float> mined(std::vector<float> row, std::int64_t n) {
  std::vector<std::int64_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](std::int64_t j) { return std::isnan(row[j]); });
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
  for (std::size_t k = n <= 0 ? order.size() : static_cast<std::size_t>(n); k < order.size(); ++k) {
    row[order[k]] = kLeftRow;
  }
  return row;
}

void expect_same(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t j = 0; j < actual.size(); ++j) {
    if (std::isnan(expected[j])) {
      EXPECT_TRUE(std::isnan(actual[j])) << "column " << j;
    } else {
      EXPECT_EQ(actual[j], expected[j]) << "column " << j;
    }
  }
}

TEST(ScoreSteps, LogProbabilityIsClipped) {
  EXPECT_FLOAT_EQ(log_sampling_probability(0.25f), std::log(0.25f));
  EXPECT_FLOAT_EQ(log_sampling_probability(0.0f), std::log(1e-6f));
  EXPECT_FLOAT_EQ(log_sampling_probability(-3.0f), std::log(1e-6f));
  EXPECT_EQ(log_sampling_probability(7.0f), 0.0f);
  EXPECT_TRUE(std::isnan(log_sampling_probability(kNan)));
}

TEST(ScoreSteps, SubtractsEachColumnsLogProbability) {
  std::vector<float> scores(3 * 32, 1.0f);
  const std::vector<float> q = {0.5f, -2.0f, 0.0f};
  subtract_log_probability(scores.data(), 3, 32, q.data());
  for (std::int64_t j = 0; j < 3; ++j) {
    for (std::int64_t r = 0; r < 32; ++r) EXPECT_EQ(scores[j * 32 + r], 1.0f - q[j]);
  }
}

TEST(ScoreSteps, GroupsEqualIds) {
  const std::vector<std::int64_t> ids = {7, -1, 7, INT64_MAX, 7, -1};
  std::vector<std::int32_t> order(6), first(6), last(6);
  const EqualIds g = group_equal_ids({ids.data(), 6}, order.data(), first.data(), last.data());
  const auto list = [&](int j) {
    return std::vector<std::int32_t>(g.order + g.first[j], g.order + g.last[j]);
  };
  EXPECT_EQ(list(0), (std::vector<std::int32_t>{0, 2, 4}));
  EXPECT_EQ(list(4), (std::vector<std::int32_t>{0, 2, 4}));
  EXPECT_EQ(list(1), (std::vector<std::int32_t>{1, 5}));
  EXPECT_EQ(list(3), (std::vector<std::int32_t>{3}));
}

TEST(ScoreSteps, DropsListedColumnsBlockByBlockButNotThePositive) {
  std::vector<float> block(4 * 16, 1.0f);
  const std::vector<std::int32_t> columns = {0, 3, 4, 5, 7, 9};
  ColumnList list{columns.data(), columns.data() + columns.size()};
  std::vector<std::int64_t> dropped;
  for (std::int64_t first = 0; first < 12; first += 4) {
    std::fill(block.begin(), block.end(), 1.0f);
    drop_listed(block.data() + 2, 16, first, 4, 5, list);
    for (std::int64_t k = 0; k < 4 * 16; ++k) {
      if (block[k] == 1.0f) continue;
      EXPECT_EQ(block[k], kLeftRow);
      EXPECT_EQ(k % 16, 2);
      dropped.push_back(first + k / 16);
    }
  }
  EXPECT_EQ(dropped, (std::vector<std::int64_t>{0, 3, 4, 7, 9}));
}

TEST(ScoreSteps, HardNegativesByHand) {
  RowInTile t({1, 3, kLeftRow, 3, 2, 3}, 5);
  keep_hard_negatives(t.tile.data(), 6, 16, 2);
  expect_same(t.row(), {kLeftRow, 3, kLeftRow, 3, kLeftRow, kLeftRow});
}

TEST(ScoreSteps, HardNegativesMatchASort) {
  std::mt19937 gen(3);
  for (const std::int64_t columns : {1, 2, 7, 31, 32, 33, 200}) {
    for (const std::int64_t n : {-1, 0, 1, 2, 5, 31, 199, 500}) {
      for (int kind = 0; kind < 4; ++kind) {
        SCOPED_TRACE(testing::Message() << columns << " columns, n " << n << ", kind " << kind);
        std::vector<float> row(static_cast<std::size_t>(columns));
        for (float& x : row) {
          const auto k = static_cast<std::int32_t>(gen() % 9) - 4;
          switch (kind) {
            case 0:
              x = static_cast<float>(k);
              break;  // ties, zeros
            case 1:
              x = std::ldexp(static_cast<float>(gen()), k * 9 - 32);
              break;  // wide range
            case 2:
              x = k == 0 ? -0.0f : k == 1 ? 0.0f : -std::abs(static_cast<float>(k));
              break;
            default:
              x = k == 4 ? kInf : k > 0 ? kLeftRow : -3.4e36f;
              break;
          }
        }
        RowInTile t(row, static_cast<std::int64_t>(gen() % 16));
        keep_hard_negatives(t.tile.data(), columns, 16, n);
        expect_same(t.row(), mined(row, n));
      }
    }
  }
}

TEST(ScoreSteps, HardNegativesKeepNan) {
  const std::vector<float> row = {1, kNan, 3, -kNan, 2};
  RowInTile t(row, 15);
  keep_hard_negatives(t.tile.data(), 5, 16, 1);
  expect_same(t.row(), {kLeftRow, kNan, 3, kNan, kLeftRow});
}

}  // namespace
}  // namespace belfry::cpu
