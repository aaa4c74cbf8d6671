// SPDX-License-Identifier: Apache-2.0
// Training: it learns, it repeats itself bit for bit, and it takes no memory while it runs.
#include "engine/trainer.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

const SmallRatings& ratings() {
  static const SmallRatings r;
  return r;
}

/// All parameters and slots after a whole training.
std::vector<float> trained(const Loaded& l, int threads, Recorder* recorder = nullptr) {
  const TempFolder folder;
  const Context ctx = make_context(threads);
  Recorder own;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  EXPECT_EQ(trainer.run(recorder != nullptr ? *recorder : own, {}), TrainOutcome::finished);
  return all_values(trainer.model().registry());
}

TEST(Trainer, LearnsPlantedTastes) {
  for (const char* kind : {"adam", "adagrad", "sgd"}) {
    const Loaded l =
        load(ratings().config({"train.epochs=6", "optimizer.kind=" + std::string(kind)}));
    Recorder recorder;
    trained(l, 2, &recorder);
    ASSERT_EQ(recorder.epochs.size(), 6u);
    const EpochReport& first = recorder.epochs.front();
    EXPECT_EQ(first.epoch, 1);
    EXPECT_EQ(first.examples, l.data.train.size());
    EXPECT_EQ(first.steps, (l.data.train.size() + 99) / 100);
    EXPECT_EQ(recorder.steps, 6 * first.steps);
    EXPECT_LT(recorder.epochs.back().loss_mean, first.loss_mean - 0.05) << kind;
    EXPECT_FALSE(first.validation.has_value());
  }
}

TEST(Trainer, SameSeedSameBitsForAnyThreadCount) {
  for (const std::string more :
       {"task.negatives.uniform=30", "task.mask_known_positives=true", "optimizer.kind=adagrad",
        "task.num_hard_negatives=5", "train.precision=bf16",
        "train.early_stop={metric=\"recall@5\",patience=1}"}) {
    const Loaded l = load(ratings().config({"task.negatives.popularity=20", more}));
    const auto one = trained(l, 1);
    for (const int threads : {1, 2, 4}) expect_equal_bits(trained(l, threads), one, more);
  }
  const Loaded other = load(ratings().config({"train.seed=43"}));
  EXPECT_NE(trained(other, 2), trained(load(ratings().config()), 2));
}

TEST(Trainer, HalfTablesLearnAsWell) {
  // Rounding at random keeps updates that are smaller than half a step: without it these would be lost.
  for (const char* kind : {"adam", "adagrad"}) {
    const std::vector<std::string> base{"train.epochs=8", "optimizer.learning_rate=0.01",
                                        "optimizer.kind=" + std::string(kind)};
    auto half = base;
    half.push_back("train.precision=bf16");
    Recorder whole_losses, half_losses;
    const auto whole = trained(load(ratings().config(base)), 2, &whole_losses);
    const auto halves = trained(load(ratings().config(half)), 2, &half_losses);
    ASSERT_EQ(whole.size(), halves.size());
    const double learned =
        whole_losses.epochs.front().loss_mean - whole_losses.epochs.back().loss_mean;
    EXPECT_GT(learned, 0) << kind;
    EXPECT_NEAR(half_losses.epochs.back().loss_mean, whole_losses.epochs.back().loss_mean,
                0.1 * learned)
        << kind;
  }
}

TEST(Trainer, ALossOfWeightedRowsWeighsThem) {
  // Rows of weight 0 teach nothing: the users that have only such rows keep their first vectors.
  Loaded l = load(ratings().config({"optimizer.kind=sgd", "optimizer.learning_rate=0.5"}));
  l.data.train.weight.assign(static_cast<std::size_t>(l.data.train.size()), 1.0f);
  for (std::size_t i = 0; i < l.data.train.weight.size(); ++i) {
    if (l.data.train.user[i] % 2 == 0) l.data.train.weight[i] = 0;
  }
  const TempFolder folder;
  const Context ctx = make_context(2);
  Recorder recorder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  ParameterRegistry& registry = trainer.model().registry();
  const int table = registry.find("user.embedding");
  const std::int64_t dim = registry.at(table).cols;
  const auto before = all_values(registry);
  trainer.run(recorder, {});
  const std::vector<float> now = host_values(registry.at(table).value);
  for (std::int64_t u = 0; u < l.data.user_count(); ++u) {
    const std::int64_t row = l.data.features[0].values.rows[static_cast<std::size_t>(u)];
    const bool same = std::equal(now.begin() + row * dim, now.begin() + (row + 1) * dim,
                                 before.begin() + row * dim);
    EXPECT_EQ(same, u % 2 == 0) << u;
  }
}

TEST(Trainer, TakesNoMemoryAfterTheFirstStep) {
  const Loaded l =
      load(ratings().config({"train.batch_size=64", "task.negatives.uniform=16",
                             "task.mask_known_positives=true", "optimizer.global_clipnorm=1.0"}));
  const TempFolder folder;
  const Context ctx = make_context(2);
  Recorder recorder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  trainer.train_step(0, 0);
  trainer.train_step(0, 1);  // the arena has joined its blocks by now
  const std::int64_t blocks = ctx.arena().allocations(), peak = ctx.arena().peak_bytes();
  const std::int64_t workspace = trainer.workspace_bytes();
  const std::int64_t steps = (l.data.train.size() + 63) / 64;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    for (std::int64_t step = 0; step < steps; ++step) trainer.train_step(epoch, step);
  }
  EXPECT_EQ(ctx.arena().allocations(), blocks);
  EXPECT_EQ(ctx.arena().peak_bytes(), peak);
  EXPECT_EQ(trainer.workspace_bytes(), workspace);
}

TEST(Trainer, StopsEarlyWithTheBestWeights) {
  const Loaded l =
      load(ratings().config({"train.epochs=40", "train.early_stop={metric=\"ndcg@10\",patience=2}",
                             "optimizer.learning_rate=0.1"}));
  ASSERT_GT(l.data.validation.size(), 0);
  const TempFolder folder;
  const Context ctx = make_context(2);
  Recorder recorder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  ASSERT_EQ(trainer.run(recorder, {}), TrainOutcome::finished);
  const std::int64_t best = trainer.best_epoch(), done = trainer.epochs_done();
  ASSERT_LT(done, 40) << "this data should overfit";
  EXPECT_EQ(done, best + 2);
  EXPECT_TRUE(recorder.noted("stopped early"));
  double top = -1;
  for (const EpochReport& e : recorder.epochs) {
    ASSERT_TRUE(e.validation.has_value());
    EXPECT_EQ(e.best, *e.validation > top) << e.epoch;
    top = std::max(top, *e.validation);
  }
  EXPECT_EQ(*recorder.epochs[static_cast<std::size_t>(best - 1)].validation, top);
  // The weights are those of that epoch: a training that ends there has them too.
  Loaded shorter = l;
  shorter.config.train.epochs = best;
  const TempFolder other;
  Recorder again;
  Trainer stopped(ctx, shorter.config, shorter.data, other.path());
  stopped.run(again, {});
  expect_equal_bits(all_values(trainer.model().registry(), false),
                    all_values(stopped.model().registry(), false), "best weights");
}

TEST(Trainer, NumbersThatAreNotFiniteStopTheRun) {
  const Loaded huge = load(ratings().config(
      {"optimizer.kind=sgd", "optimizer.learning_rate=1e30", "task.similarity=dot"}));
  Loaded infinite = load(ratings().config());
  infinite.data.train.weight.assign(static_cast<std::size_t>(infinite.data.train.size()), 1.0f);
  infinite.data.train.weight[100] = std::numeric_limits<float>::infinity();
  for (const Loaded* l : {&huge, static_cast<const Loaded*>(&infinite)}) {
    const TempFolder folder;
    const Context ctx = make_context(2);
    Recorder recorder;
    Trainer trainer(ctx, l->config, l->data, folder.path() / "checkpoints");
    const Error e = error_of([&] { trainer.run(recorder, {}); });
    EXPECT_EQ(e.code(), ExitCode::numerical) << e.what();
    EXPECT_TRUE(recorder.epochs.empty());
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoints"));
    // The same context can train again.
    const Loaded good = load(ratings().config({"train.epochs=1"}));
    Trainer next(ctx, good.config, good.data, folder.path() / "next");
    EXPECT_EQ(next.run(recorder, {}), TrainOutcome::finished);
  }
}

}  // namespace
}  // namespace belfry::test
