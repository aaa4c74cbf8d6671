// SPDX-License-Identifier: Apache-2.0
// Answers against whole rankings by plain loops: equal items and equal bits of scores.
#include "engine/recommender.hpp"

#include <gtest/gtest.h>

#include <bit>

#include "tests/support/compare.hpp"
#include "tests/support/trained_model.hpp"

namespace belfry::test {
namespace {

using Ids = std::vector<std::int32_t>;
using Answer = std::vector<std::pair<float, std::int32_t>>;

Ids all_users(const TrainedModel& m) {
  Ids users;
  for (std::int32_t u = 0; u < m.model->data.user_count(); ++u) users.push_back(u);
  return users;
}

/// A row for each context feature; -1: the users' own.
std::vector<FeatureValues> given(const Ids& rows) {
  std::vector<FeatureValues> out(rows.size());
  for (std::size_t c = 0; c < rows.size(); ++c) {
    if (rows[c] >= 0) out[c].rows = {rows[c]};
  }
  return out;
}

std::vector<Answer> answers(const Context& ctx, const TrainedModel& m, RecommendFilter filter,
                            const Ids& users, std::int64_t k, const Ids& contexts = {}) {
  Recommender recommender(ctx, *m.model, std::move(filter));
  std::vector<Answer> out;
  recommender.recommend(
      users, k, given(contexts),
      [&](std::int64_t query, std::span<const std::int32_t> items, std::span<const float> scores) {
        EXPECT_EQ(query, static_cast<std::int64_t>(out.size()));
        out.emplace_back();
        for (std::size_t i = 0; i < items.size(); ++i) {
          out.back().emplace_back(scores[i], items[i]);
        }
      });
  EXPECT_EQ(out.size(), users.size());
  return out;
}

/// The same by a whole ranking for each user; `eligible(position in users, item)`.
template <class F>
void expect_answers(const Context& ctx, const TrainedModel& m, const RecommendFilter& filter,
                    const Ids& users, std::int64_t k, F&& eligible, const Ids& contexts = {}) {
  const auto actual = answers(ctx, m, filter, users, k, contexts);
  const auto q = m.encode(ctx, queries_of_answers(m.model->data, users, given(contexts)));
  const auto d = m.stride();
  for (std::size_t u = 0; u < users.size(); ++u) {
    Answer expected = m.ranking(q.data() + u * d, [&](std::int32_t i) { return eligible(u, i); });
    if (static_cast<std::int64_t>(expected.size()) > k)
      expected.resize(static_cast<std::size_t>(k));
    ASSERT_EQ(actual[u].size(), expected.size()) << users[u];
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(actual[u][i].second, expected[i].second) << users[u] << " place " << i;
      EXPECT_EQ(bits_of(actual[u][i].first), bits_of(expected[i].first));
    }
  }
}

TEST(Recommender, SeenItemsLeaveOrStay) {
  for (const char* similarity : {"dot", "cosine"}) {
    const Context ctx = make_context(2);
    const TrainedModel m(ctx, similarity);
    RecommendFilter filter;
    for (const std::int64_t k : {1, 7, 1000}) {  // 1000: more than there are
      filter.exclude_seen = true;
      expect_answers(ctx, m, filter, all_users(m), k, [&](std::size_t u, std::int32_t i) {
        return !m.seen_by(static_cast<std::int64_t>(u)).contains(i);
      });
      filter.exclude_seen = false;
      expect_answers(ctx, m, filter, all_users(m), k,
                     [](std::size_t, std::int32_t) { return true; });
    }
  }
}

TEST(Recommender, UsersInTheOrderGivenAndTwice) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx);
  const Ids users{5, 0, 5, 3};
  expect_answers(ctx, m, {}, users, 4,
                 [&](std::size_t u, std::int32_t i) { return !m.seen_by(users[u]).contains(i); });
  EXPECT_TRUE(answers(ctx, m, {}, {}, 4).empty());
}

TEST(Recommender, ExcludedItems) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx, "dot", "", 1, 3);  // three heads
  RecommendFilter filter;
  filter.exclude = {0, 3, 3, 17};
  filter.exclude_pairs = {{2, 8}, {2, -1}, {0, 1}, {2, 5}};
  expect_answers(ctx, m, filter, all_users(m), 1000, [&](std::size_t u, std::int32_t i) {
    if (i == 0 || i == 3 || i == 17 || m.seen_by(static_cast<std::int64_t>(u)).contains(i))
      return false;
    return !(u == 2 && (i == 8 || i == 5)) && !(u == 0 && i == 1);
  });
}

TEST(Recommender, OnlyTheseItems) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx);
  RecommendFilter filter;
  filter.has_only = true;
  filter.only = {9, 2, 30, 9};
  filter.exclude = {30};
  expect_answers(ctx, m, filter, all_users(m), 10, [&](std::size_t u, std::int32_t i) {
    return (i == 9 || i == 2) && !m.seen_by(static_cast<std::int64_t>(u)).contains(i);
  });
  filter = {};
  filter.has_only = true;  // a list without a known item allows nothing
  for (const Answer& a : answers(ctx, m, filter, all_users(m), 10)) EXPECT_TRUE(a.empty());
}

TEST(Recommender, OnlyThesePairs) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx, "dot", "", 1, 3);  // three heads
  RecommendFilter filter;
  filter.exclude_seen = false;
  filter.only_pairs = {{4, 7}, {1, 6}, {4, 2}, {3, -1}};
  const auto paired = [&](std::size_t u, std::int32_t i) {
    return (u == 4 && (i == 7 || i == 2)) || (u == 1 && i == 6);
  };
  // User 3 is allowed an item that the model does not know: nothing, never everything.
  expect_answers(ctx, m, filter, all_users(m), 10, [&](std::size_t u, std::int32_t i) {
    return (u != 4 && u != 1 && u != 3) || paired(u, i);
  });
  // Beside a list for all, pairs add to it.
  filter.only = {11};
  expect_answers(ctx, m, filter, all_users(m), 10,
                 [&](std::size_t u, std::int32_t i) { return i == 11 || paired(u, i); });
}

TEST(Recommender, StrangersTakeTheOovRows) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx, "dot", "", 1, 3);  // three heads
  RecommendFilter filter;
  filter.exclude_pairs = {{-1, 0}};  // no pair is a stranger's
  const Ids users{-1, 2, -1};
  expect_answers(ctx, m, filter, users, 50, [&](std::size_t u, std::int32_t i) {
    return u != 1 || !m.seen_by(2).contains(i);
  });
  const auto two = answers(ctx, m, filter, users, 5);
  EXPECT_EQ(two[0], two[2]);
  EXPECT_NE(two[0], two[1]);
}

TEST(Recommender, WithoutAnOovRowStrangersAreRefused) {
  const Context ctx = make_context(1);
  const TrainedModel m(ctx, "dot", "", 0);
  EXPECT_EQ(answers(ctx, m, {}, {0, 1}, 3).size(), 2u);
  Recommender recommender(ctx, *m.model, {});
  const Error e = error_of([&] { recommender.recommend({0, -1}, 3, {}, [](auto, auto, auto) {}); });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
  EXPECT_NE(e.where().find("user"), std::string::npos) << e.where();
}

TEST(Recommender, QueriesHoldTheRowsOfTheirUsers) {
  const Context ctx = make_context(1);
  const TrainedModel m(ctx);
  const ModelData& d = m.model->data;  // features: user, device, item, hour
  const QueryRows q = queries_of_answers(d, {4, -1, 0}, given({-1, 3}));
  const auto &device = d.last_context[0].rows, &user = d.features[0].values.rows;
  EXPECT_EQ(q.size, 3);
  EXPECT_EQ(q.features[0].rows, (Ids{user[4], 0, user[0]}));
  EXPECT_EQ(q.features[1].rows, (Ids{device[4], 0, device[0]}));
  EXPECT_TRUE(q.features[2].rows.empty());
  EXPECT_EQ(q.features[3].rows, (Ids{3, 3, 3}));
  EXPECT_EQ(queries_of_users(d, {4, 0}).features[3].rows,
            (Ids{d.last_context[1].rows[4], d.last_context[1].rows[0]}));
  Interactions rows;
  rows.user = {2, static_cast<std::int32_t>(d.user_count())};
  rows.item = {0, 0};
  rows.context = {{.rows = {1, 2}}, {.rows = {3, 0}}};
  const QueryRows r = queries_of_interactions(d, rows);
  EXPECT_EQ(r.features[0].rows, (Ids{user[2], 0}));
  EXPECT_EQ(r.features[1].rows, (Ids{1, 2}));
  EXPECT_EQ(r.features[3].rows, (Ids{3, 0}));
}

TEST(Recommender, AContextReplacesTheLastOne) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx);
  RecommendFilter filter;
  filter.exclude_seen = false;
  const auto all = [](std::size_t, std::int32_t) { return true; };
  const Ids users{0, 1, 2, 3, 4, 5, 6};
  std::set<std::vector<Answer>> different;
  for (const std::int32_t row : {0, 1, 2, 3}) {
    expect_answers(ctx, m, filter, users, 5, all, {row});
    different.insert(answers(ctx, m, filter, users, 5, {row}));
    // The query of a user whose last context it is stays the same.
    const auto changed = answers(ctx, m, filter, users, 5, {row});
    const auto own = answers(ctx, m, filter, users, 5, {-1});
    for (std::size_t u = 0; u < users.size(); ++u) {
      EXPECT_TRUE(m.model->data.last_context[0].rows[u] != row || changed[u] == own[u]) << u;
    }
  }
  EXPECT_EQ(different.size(), 4u);
  // The second context alone.
  expect_answers(ctx, m, filter, users, 5, all, {-1, 2});
  EXPECT_NE(answers(ctx, m, filter, users, 5, {-1, 2}), answers(ctx, m, filter, users, 5, {2, -1}));
}

TEST(Recommender, ManyUsersAndLongLists) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx);
  Ids users;
  const std::int32_t n = on_device() ? 4500 : 2500;  // more than are answered at a time
  for (std::int32_t i = 0; i < n; ++i)
    users.push_back(i % static_cast<std::int32_t>(m.model->data.user_count()));
  const auto many = answers(ctx, m, {}, users, 3);
  const auto few = answers(ctx, m, {}, all_users(m), 3);
  for (std::size_t i = 0; i < users.size(); ++i)
    ASSERT_EQ(many[i], few[static_cast<std::size_t>(users[i])]) << i;
}

TEST(Recommender, BitsDoNotDependOnThreads) {
  std::vector<std::vector<Answer>> all;
  for (const int threads : {1, 2, 4}) {
    const Context ctx = make_context(threads);
    const TrainedModel m(ctx, "cosine", "", 1, 2);
    all.push_back(answers(ctx, m, {}, all_users(m), 10));
  }
  EXPECT_EQ(all[0], all[1]);
  EXPECT_EQ(all[0], all[2]);
}

TEST(Recommender, SimilarItemsByCosine) {
  for (const char* similarity : {"dot", "cosine"}) {
    const Context ctx = make_context(2);
    const TrainedModel m(ctx, similarity);
    Recommender recommender(ctx, *m.model, {});
    const std::int64_t n = m.model->data.item_count();
    for (const std::int32_t item : {0, 5, static_cast<std::int32_t>(n - 1)}) {
      std::vector<std::pair<double, std::int32_t>> expected;
      const auto a = m.item(item);
      for (std::int32_t i = 0; i < n; ++i) {
        if (i == item) continue;
        const auto b = m.item(i);
        double ab = 0, aa = 0, bb = 0;
        for (std::size_t k = 0; k < a.size(); ++k) {
          ab += static_cast<double>(a[k]) * b[k];
          aa += static_cast<double>(a[k]) * a[k];
          bb += static_cast<double>(b[k]) * b[k];
        }
        expected.emplace_back(ab / std::sqrt(aa * bb), i);
      }
      std::sort(expected.begin(), expected.end(), std::greater<>());
      for (const std::int64_t k : {std::int64_t{3}, n, 2 * n}) {
        bool told = false;
        recommender.similar(
            item, k,
            [&](std::int64_t, std::span<const std::int32_t> items, std::span<const float> scores) {
              told = true;
              ASSERT_EQ(static_cast<std::int64_t>(items.size()), std::min(k, n - 1));
              for (std::size_t i = 0; i < items.size(); ++i) {
                EXPECT_NE(items[i], item);
                EXPECT_NEAR(scores[i], expected[i].first, 1e-6);
                EXPECT_LE(scores[i], 1.000001f);
              }
            });
        EXPECT_TRUE(told);
      }
    }
  }
}

}  // namespace
}  // namespace belfry::test
