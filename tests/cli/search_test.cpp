// SPDX-License-Identifier: Apache-2.0
// belfry search against the definition: one chain of fused multiply-adds a pair, one full sort.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tests/support/generate.hpp"
#include "tests/support/npy_file.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

struct Vectors {
  std::int64_t n, d;
  std::vector<float> values;
};

class Search : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const Vectors& v) const {
    NpyWriter file(work_.path(name), "<f4", {v.n, v.d});
    file.write(v.values.data(), v.n * v.d);
    file.commit();
    return work_.path(name);
  }

  /// Runs a search and compares every slot with the definition.
  void check(const Vectors& items, const Vectors& queries, std::int64_t k,
             const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"search",
                                       write("items.npy", items),
                                       write("queries.npy", queries),
                                       "-k",
                                       std::to_string(k),
                                       "-o",
                                       work_.path("top.npy"),
                                       "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Answer answer = belfry_run(arguments);
    expect_good(answer);
    const auto json = nlohmann::json::parse(answer.out);
    EXPECT_EQ(json["queries"], queries.n);
    EXPECT_GE(json["cpu_seconds"], 0.0);
    EXPECT_GE(json["wall_seconds"], 0.0);
    EXPECT_TRUE(json["path"].is_string());
    const NpyFile rows(work_.path("top.items.npy")), scores(work_.path("top.scores.npy"));
    ASSERT_EQ(rows.shape(), (std::vector<std::int64_t>{queries.n, k}));
    ASSERT_EQ(scores.shape(), rows.shape());
    const auto got_rows = rows.values<std::int64_t>();
    const auto got_scores = scores.values<float>();
    for (std::int64_t q = 0; q < queries.n; ++q) {
      const auto want = expected(items, queries.values.data() + q * queries.d);
      for (std::int64_t r = 0; r < k; ++r) {
        const auto at = static_cast<std::size_t>(q * k + r);
        if (r >= items.n) {
          ASSERT_EQ(got_rows[at], -1);
          ASSERT_TRUE(std::isnan(got_scores[at]));
        } else {
          ASSERT_EQ(got_rows[at], want[static_cast<std::size_t>(r)].second) << q << " " << r;
          ASSERT_EQ(got_scores[at], want[static_cast<std::size_t>(r)].first);
        }
      }
    }
  }
  Workspace work_;

 private:
  static std::vector<std::pair<float, std::int64_t>> expected(const Vectors& items,
                                                              const float* query) {
    std::vector<std::pair<float, std::int64_t>> all;
    for (std::int64_t i = 0; i < items.n; ++i) {
      float score = 0;
      for (std::int64_t k = 0; k < items.d; ++k)
        score = std::fma(query[k], items.values[static_cast<std::size_t>(i * items.d + k)], score);
      all.emplace_back(score, i);
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    return all;
  }
};

Vectors normal(Random& random, std::int64_t n, std::int64_t d) {
  return {n, d, random.normals(n * d)};
}

TEST_F(Search, EqualsTheDefinition) {
  Random random(3);
  check(normal(random, 3000, 33), normal(random, 70, 33), 10);
  check(normal(random, 49, 1), normal(random, 5, 1), 49);
  check(normal(random, 1, 8), normal(random, 3, 8), 1);
}

TEST_F(Search, TiesGoToTheSmallerRow) {
  Random random(4);
  Vectors items = normal(random, 500, 4);
  for (float& v : items.values) v = std::round(v);  // many equal scores
  Vectors queries = normal(random, 20, 4);
  for (float& v : queries.values) v = std::round(v);
  check(items, queries, 30);
}

TEST_F(Search, MoreAskedForThanThereAre) {
  Random random(5);
  check(normal(random, 7, 5), normal(random, 4, 5), 20);
}

TEST_F(Search, AnyNumberOfThreads) {
  Random random(6);
  const Vectors items = normal(random, 2000, 16), queries = normal(random, 40, 16);
  for (const std::string threads : {"1", "2", "3"})
    check(items, queries, 7, {"--threads", threads});
}

TEST_F(Search, OnScreen) {
  const std::string items = write("i.npy", {3, 2, {1, 0, 0, 1, 1, 1}});
  const std::string queries = write("q.npy", {1, 2, {1, 2}});
  const Answer answer = belfry_run({"search", items, queries, "-k", "2", "-q"});
  expect_good(answer);
  EXPECT_EQ(answer.out, "query 0\n    1             3  2\n    2             2  1\n");
}

TEST_F(Search, NoQueries) {
  Random random(7);
  check(normal(random, 10, 4), {0, 4, {}}, 3);
}

TEST_F(Search, WrongFiles) {
  Random random(8);
  const std::string good = write("good.npy", normal(random, 10, 4));
  const std::string narrow = write("narrow.npy", normal(random, 10, 3));
  expect_error(belfry_run({"search", good, narrow, "-k", "3"}), ExitCode::bad_data,
               "narrow\\.npy: has 3 columns, .* has 4");
  expect_error(belfry_run({"search", work_.path("gone.npy"), good}), ExitCode::io, "gone\\.npy");
  expect_error(belfry_run({"search", good, work_.path()}), ExitCode::io, "folder|directory");
  expect_error(belfry_run({"search", good, work_.write("text.npy", "hello")}), ExitCode::bad_data,
               "text\\.npy");
  const std::string bytes = work_.read("good.npy");
  expect_error(
      belfry_run({"search", work_.write("cut.npy", bytes.substr(0, bytes.size() - 1)), good}),
      ExitCode::bad_data, "cut\\.npy");
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity()};
  for (const float value : bad) {
    Vectors vectors = normal(random, 10, 4);
    vectors.values[3 * 4 + 1] = value;
    const std::string odd = write("odd.npy", vectors);
    expect_error(belfry_run({"search", odd, good}), ExitCode::bad_data,
                 "odd\\.npy: row 3, column 1");
    expect_error(belfry_run({"search", good, odd}), ExitCode::bad_data,
                 "odd\\.npy: row 3, column 1");
  }
  for (const std::string k : {"0", "-1", "1.5", "x", "99999999999999999999"}) {
    expect_error(belfry_run({"search", good, good, "-k", k}), ExitCode::usage, "-k");
  }
  expect_error(belfry_run({"search", good, good, "-o", work_.path("top.csv")}), ExitCode::usage,
               "\\.npy");
}

}  // namespace
}  // namespace belfry::test
