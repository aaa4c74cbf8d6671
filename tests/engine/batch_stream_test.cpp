// SPDX-License-Identifier: Apache-2.0
#include "engine/batch_stream.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "engine/error.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

using Rows = std::vector<std::int32_t>;

Vocabulary numbered(std::int64_t n, const std::vector<std::int64_t>& counts, std::int64_t oov) {
  std::vector<std::string> tokens;
  for (std::int64_t i = 0; i < n; ++i) tokens.push_back(std::to_string(i));
  VocabularyOptions options;
  options.oov = oov;
  return Vocabulary(std::move(tokens), counts, options);
}

/// Interactions drawn at random: user and item features by id, and a context feature that holds the row's
/// own number, so that a batch shows which rows it took.
ModelData make_data(std::int64_t rows, std::int64_t users, std::int64_t items,
                    std::uint64_t seed = 1) {
  Random random(seed);
  ModelData d;
  d.train.user = random.ids(rows, users);
  d.train.item = random.zipf_ids(rows, items);
  d.item_counts.assign(static_cast<std::size_t>(items), 0);
  for (const std::int32_t i : d.train.item) ++d.item_counts[static_cast<std::size_t>(i)];
  d.users = numbered(users, std::vector<std::int64_t>(static_cast<std::size_t>(users)), 0);
  d.items = numbered(items, d.item_counts, 0);
  const auto add = [&](const char* name, Side side, std::int64_t tokens, bool context) {
    TableData t;
    t.name = name;
    t.dim = 4;
    t.vocabulary = numbered(tokens, std::vector<std::int64_t>(static_cast<std::size_t>(tokens)), 1);
    FeatureData f;
    f.config.name = name;
    f.config.of = side;
    f.table = static_cast<int>(d.tables.size());
    f.context = context;
    for (std::int64_t i = 0; !context && i < tokens; ++i) {
      f.values.rows.push_back(static_cast<std::int32_t>(tokens - i));  // not the identity
    }
    d.tables.push_back(std::move(t));
    d.features.push_back(std::move(f));
  };
  add("user", Side::query, users, false);
  add("row", Side::query, rows, true);
  add("item", Side::candidate, items, false);
  d.train.context.emplace_back();
  for (std::int64_t i = 0; i < rows; ++i)
    d.train.context[0].rows.push_back(static_cast<std::int32_t>(i));
  return d;
}

TrainConfig training(std::int64_t batch, ShuffleMode shuffle = ShuffleMode::epoch,
                     bool drop_remainder = false) {
  TrainConfig t;
  t.batch_size = batch;
  t.shuffle = shuffle;
  t.drop_remainder = drop_remainder;
  return t;
}

/// The training rows of an epoch's batches; checks sizes and ids on the way.
Rows rows_of_epoch(const Context& ctx, const ModelData& d, BatchStream& stream,
                   std::int64_t epoch) {
  Rows out;
  for (std::int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
    const Batch& b = stream.make(ctx, epoch, step);
    EXPECT_EQ(b.features.size(), 3u);
    EXPECT_EQ(b.features[0].ids.bags, b.queries);
    EXPECT_EQ(b.features[1].ids.nnz, b.queries);
    EXPECT_EQ(b.features[2].ids.bags, b.candidates);
    EXPECT_EQ(b.candidate_ids.size, b.candidates);
    for (std::int64_t i = 0; i < b.queries; ++i) {
      const auto row = static_cast<std::size_t>(b.features[1].ids.ids[i]);
      const auto user = static_cast<std::size_t>(d.train.user[row]);
      const auto item = static_cast<std::size_t>(d.train.item[row]);
      EXPECT_EQ(b.features[0].ids.ids[i], d.features[0].values.rows[user]);
      EXPECT_EQ(b.features[2].ids.ids[i], d.features[2].values.rows[item]);
      EXPECT_EQ(b.candidate_ids[i], static_cast<std::int64_t>(item));
      out.push_back(b.features[1].ids.ids[i]);
    }
  }
  return out;
}

TEST(BatchStream, EachRowOnceAnEpoch) {
  const Context ctx(Backend::cpu, 2);
  const TaskConfig task;
  for (const auto& [rows, batch] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {100, 10}, {101, 10}, {7, 100}, {1, 1}, {33, 32}}) {
    const ModelData d = make_data(rows, 5, 6);
    const TrainConfig train = training(batch);
    BatchStream stream(d, train, {task});
    EXPECT_EQ(stream.steps_per_epoch(), (rows + batch - 1) / batch);
    Rows first = rows_of_epoch(ctx, d, stream, 0), second = rows_of_epoch(ctx, d, stream, 1);
    if (rows > 20) {
      EXPECT_NE(first, second);
      EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
    }
    EXPECT_EQ(rows_of_epoch(ctx, d, stream, 0), first);  // any epoch can be made again
    Rows sorted = first;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, d.train.context[0].rows);
    std::sort(second.begin(), second.end());
    EXPECT_EQ(second, d.train.context[0].rows);
  }
}

TEST(BatchStream, ShufflesOnceOrNot) {
  const Context ctx(Backend::cpu, 2);
  const TaskConfig task;
  const ModelData d = make_data(50, 5, 6);
  const TrainConfig once = training(8, ShuffleMode::once), none = training(8, ShuffleMode::none);
  BatchStream a(d, once, {task}), b(d, none, {task});
  const Rows order = rows_of_epoch(ctx, d, a, 0);
  EXPECT_EQ(rows_of_epoch(ctx, d, a, 3), order);
  EXPECT_NE(order, d.train.context[0].rows);
  EXPECT_EQ(rows_of_epoch(ctx, d, b, 2), d.train.context[0].rows);
  TrainConfig other = once;
  other.seed = 43;
  BatchStream c(d, other, {task});
  EXPECT_NE(rows_of_epoch(ctx, d, c, 0), order);
}

TEST(BatchStream, DropsTheRemainderWhenAsked) {
  const Context ctx(Backend::cpu, 2);
  const TaskConfig task;
  const ModelData d = make_data(50, 5, 6);
  const TrainConfig train = training(16, ShuffleMode::epoch, true);
  BatchStream stream(d, train, {task});
  EXPECT_EQ(stream.steps_per_epoch(), 3);
  const Rows rows = rows_of_epoch(ctx, d, stream, 0);
  EXPECT_EQ(rows.size(), 48u);
  EXPECT_EQ(std::set<std::int32_t>(rows.begin(), rows.end()).size(), 48u);
  // Fewer rows than a batch: there is one batch all the same.
  const TrainConfig large = training(1000, ShuffleMode::epoch, true);
  BatchStream one(d, large, {task});
  EXPECT_EQ(one.steps_per_epoch(), 1);
  EXPECT_EQ(rows_of_epoch(ctx, d, one, 0).size(), 50u);
}

TEST(BatchStream, NegativesAreFunctionsOfTheStep) {
  const ModelData d = make_data(400, 20, 30);
  const TrainConfig train = training(10);
  TaskConfig task;
  task.negatives.uniform = 40;
  task.negatives.popularity = 60;
  std::vector<Rows> drawn;
  for (const int threads : {1, 2, 4}) {
    const Context ctx(Backend::cpu, threads);
    ctx.state()->seed = 5;
    BatchStream stream(d, train, {task});
    EXPECT_EQ(stream.max_candidates(), 110);
    drawn.emplace_back();
    for (const std::int64_t step : {3, 4, 3}) {
      ctx.state()->step = step;
      const Batch& b = stream.make(ctx, 0, 0);
      ASSERT_EQ(b.candidates, 110);
      Rows now;
      for (std::int64_t c = 10; c < 110; ++c) {
        now.push_back(static_cast<std::int32_t>(b.candidate_ids[c]));
        EXPECT_EQ(b.features[2].ids.ids[c],
                  d.features[2].values.rows[static_cast<std::size_t>(b.candidate_ids[c])]);
      }
      drawn.back().insert(drawn.back().end(), now.begin(), now.end());
    }
    EXPECT_TRUE(
        std::equal(drawn.back().begin(), drawn.back().begin() + 100, drawn.back().end() - 100));
    EXPECT_FALSE(
        std::equal(drawn.back().begin(), drawn.back().begin() + 100, drawn.back().begin() + 100));
  }
  EXPECT_EQ(drawn[0], drawn[1]);
  EXPECT_EQ(drawn[0], drawn[2]);
}

TEST(BatchStream, NegativesFollowTheirDistributionsIndependently) {
  const Context ctx(Backend::cpu, 2);
  ModelData d = make_data(400, 20, 8);
  d.item_counts = {0, 10, 20, 30, 40, 0, 50, 50};
  const TrainConfig train = training(10);
  TaskConfig task;
  task.negatives.uniform = 1;
  task.negatives.popularity = 1;
  BatchStream stream(d, train, {task});
  constexpr int kDraws = 8000;
  std::vector<double> uniform(8), popular(8);
  std::map<std::pair<int, int>, double> both;
  for (int s = 0; s < kDraws; ++s) {
    ctx.state()->step = s;
    const Batch& b = stream.make(ctx, 0, 0);
    const auto u = static_cast<std::size_t>(b.candidate_ids[10]);
    const auto p = static_cast<std::size_t>(b.candidate_ids[11]);
    uniform[u] += 1.0 / kDraws;
    popular[p] += 1.0 / kDraws;
    both[{static_cast<int>(u), static_cast<int>(p)}] += 1.0 / kDraws;
  }
  for (std::size_t i = 0; i < 8; ++i) {
    const double p = static_cast<double>(d.item_counts[i]) / 200;
    EXPECT_NEAR(uniform[i], 1.0 / 8, 0.016) << i;  // four standard deviations
    EXPECT_NEAR(popular[i], p, 0.02) << i;
    EXPECT_EQ(popular[i] == 0, p == 0);
    for (std::size_t j = 0; j < 8; ++j) {  // the two draws of a step know nothing of each other
      const double expected = static_cast<double>(d.item_counts[j]) / 200 / 8;
      EXPECT_NEAR((both[{static_cast<int>(i), static_cast<int>(j)}]), expected, 0.0085) << i << j;
    }
  }
}

std::vector<float> log_q(const ModelData& d, const TaskConfig& task, std::int64_t batch) {
  const Context ctx(Backend::cpu, 1);
  const TrainConfig train = training(batch, ShuffleMode::none);
  BatchStream stream(d, train, {task});
  const Batch& b = stream.make(ctx, 0, 0);
  return {b.log_probability.begin(), b.log_probability.end()};
}

TEST(BatchStream, LogProbabilitiesOfTheMixture) {
  ModelData d = make_data(4, 3, 3);
  d.train.item = {0, 1, 2, 0};
  d.item_counts = {6, 2, 0};  // validation rows count too
  TaskConfig task;
  const auto logs = [](std::vector<double> p) {
    for (double& x : p) x = std::log(x);
    return p;
  };
  // In-batch columns alone: the item's share. An item that never occurs has TFRS's floor.
  expect_near(log_q(d, task, 4), logs({0.75, 0.25, 1e-6, 0.75}), 1e-6, 0, "in batch");
  // 4 in-batch columns by count, 2 uniform ones, 2 popular ones: (6 share + 2 / 3) / 8.
  task.negatives.uniform = 2;
  task.negatives.popularity = 2;
  const auto mixed = log_q(d, task, 4);
  ASSERT_EQ(mixed.size(), 8u);
  const auto expected = logs({(6 * 0.75 + 2 / 3.0) / 8, (6 * 0.25 + 2 / 3.0) / 8, (2 / 3.0) / 8,
                              (6 * 0.75 + 2 / 3.0) / 8});
  expect_near(std::vector<float>(mixed.begin(), mixed.begin() + 4), expected, 1e-6, 0, "mixed");
  // Without in-batch negatives: the drawn ones alone, uniform here.
  task.negatives = {false, 5, 0};
  expect_near(log_q(d, task, 4), logs(std::vector<double>(9, 1 / 3.0)), 1e-6, 0, "uniform");
  // Probabilities that the data gives are taken as they are.
  d.item_probability = {0.5f, 0.125f, 0.0f};
  task.negatives = {};
  expect_near(log_q(d, task, 4), logs({0.5, 0.125, 1e-6, 0.5}), 1e-6, 0, "given");
  task.sampling_correction = SamplingCorrection::none;
  EXPECT_TRUE(log_q(d, task, 4).empty());
}

TEST(BatchStream, KnownPositivesAreMasked) {
  const Context ctx(Backend::cpu, 2);
  const ModelData d = make_data(150, 6, 25, 9);
  const TrainConfig train = training(32);
  TaskConfig task;
  task.mask_known_positives = true;
  task.negatives.uniform = 20;
  BatchStream stream(d, train, {task});
  std::set<std::pair<std::int32_t, std::int64_t>> known;
  for (std::size_t i = 0; i < d.train.user.size(); ++i)
    known.emplace(d.train.user[i], d.train.item[i]);
  std::size_t masked = 0;
  for (std::int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
    ctx.state()->step = step;
    const Batch& b = stream.make(ctx, 0, step);
    ASSERT_NE(b.masked.offsets, nullptr);
    for (std::int64_t i = 0; i < b.queries; ++i) {
      const std::int32_t user = d.train.user[static_cast<std::size_t>(b.features[1].ids.ids[i])];
      Rows expected;
      for (std::int64_t c = 0; c < b.candidates; ++c) {
        const std::int64_t item = b.candidate_ids[c];
        if (item != b.candidate_ids[i] && known.contains({user, item})) {
          expected.push_back(static_cast<std::int32_t>(c));
        }
      }
      const Rows actual(b.masked.rows + b.masked.offsets[i],
                        b.masked.rows + b.masked.offsets[i + 1]);
      ASSERT_EQ(actual, expected) << step << ' ' << i;
      masked += actual.size();
    }
  }
  EXPECT_GT(masked, 100u);
  task.mask_known_positives = false;
  BatchStream plain(d, train, {task});
  EXPECT_EQ(plain.make(ctx, 0, 0).masked.offsets, nullptr);
}

TEST(BatchStream, NoBatchMasksMoreThanItsCapacity) {
  const Context ctx(Backend::cpu, 1);
  TaskConfig task;
  task.mask_known_positives = true;
  for (const std::int64_t negatives : {0, 9}) {
    task.negatives.uniform = negatives;
    for (const auto& [rows, users, items] : {std::tuple(150, 6, 25), {90, 40, 300}, {60, 60, 60}}) {
      const ModelData d = make_data(rows, users, items);
      const TrainConfig train = training(16);
      BatchStream stream(d, train, {task});
      std::int64_t most = 0;
      for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
        for (std::int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
          ctx.state()->step = epoch * 100 + step;
          const Batch& b = stream.make(ctx, epoch, step);
          most = std::max(most, b.masked.offsets[b.queries]);
        }
      }
      EXPECT_GT(most, 0);
      EXPECT_LE(most, stream.mask_capacity());
      EXPECT_LE(stream.mask_capacity(), 16 * (15 + negatives));
    }
  }
  // Five columns: of item 0 two, of 1 one, of 2 two. User 0's rows can mask 3, 3, 4 and 3 of them, user 1's none.
  ModelData d = make_data(5, 2, 3);
  d.train.user = {0, 0, 0, 0, 1};
  d.train.item = {0, 0, 1, 2, 2};
  const auto capacity = [&](std::int64_t batch) {
    const TrainConfig train = training(batch);
    return BatchStream(d, train, {task}).mask_capacity();
  };
  task.negatives.uniform = 0;
  EXPECT_EQ(capacity(5), 3 + 3 + 4 + 3);
  EXPECT_EQ(capacity(2), 2);  // no more than the other column a row
  task.negatives.uniform = 1;
  EXPECT_EQ(capacity(5), 4 + 4 + 5 + 4);
  task.mask_known_positives = false;
  EXPECT_EQ(capacity(5), 0);
}

TEST(BatchStream, WeightsGoWithTheirRows) {
  const Context ctx(Backend::cpu, 2);
  ModelData d = make_data(40, 6, 25);
  const TrainConfig train = training(16);
  const TaskConfig task;
  BatchStream without(d, train, {task});
  EXPECT_TRUE(without.make(ctx, 0, 0).weight.empty());
  for (std::size_t i = 0; i < 40; ++i) d.train.weight.push_back(static_cast<float>(i) / 8);
  BatchStream stream(d, train, {task});
  for (std::int64_t step = 0; step < 3; ++step) {
    const Batch& b = stream.make(ctx, 1, step);
    ASSERT_EQ(b.weight.size, b.queries);
    for (std::int64_t i = 0; i < b.queries; ++i) {
      EXPECT_EQ(b.weight[i], static_cast<float>(b.features[1].ids.ids[i]) / 8);
    }
  }
}

TEST(BatchStream, ListsStayWhole) {
  const Context ctx(Backend::cpu, 2);
  const ModelData d = make_data(100, 5, 6);
  TaskConfig task;
  task.kind = TaskKind::ranking;
  task.group_by = "user";
  task.list_size = 4;
  task.lists_per_user = 3;
  const TrainConfig train = training(9);  // two lists and one row: two lists
  BatchStream stream(d, train, {task});
  EXPECT_EQ(stream.batch_size(), 8);
  for (std::int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
    const Batch& b = stream.make(ctx, 0, step);
    ASSERT_EQ(b.queries % 4, 0);
    for (std::int64_t i = 0; i < b.queries; ++i) {  // feature 0: the user's row
      EXPECT_EQ(b.features[0].ids.ids[i], b.features[0].ids.ids[i / 4 * 4]) << step << " " << i;
    }
  }
  task.list_size = 101;
  try {
    BatchStream(d, train, {task});
    ADD_FAILURE() << "no user has that many rows";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_data);
  }
}

}  // namespace
}  // namespace belfry::test
