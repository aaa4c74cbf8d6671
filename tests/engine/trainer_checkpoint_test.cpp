// SPDX-License-Identifier: Apache-2.0
// A training that was stopped anywhere and resumed ends with the bits of one that never stopped.
#include <gtest/gtest.h>

#include <set>

#include "engine/checkpoint_store.hpp"
#include "engine/trainer.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

const SmallRatings& ratings() {
  static const SmallRatings r(20, 15, 130);
  return r;
}

struct Ending {
  std::vector<float> values;
  std::int64_t epochs = 0, best = 0, steps = 0;
  std::vector<double> losses, validations;
};

/// Trains on from what lies in `folder`, to the end or until `stop_after` steps.
std::optional<Ending> go_on(const Loaded& l, const std::filesystem::path& folder,
                            std::int64_t stop_after = -1, Recorder* listener = nullptr) {
  const Context ctx(Backend::cpu, 2);
  Recorder own;
  Recorder& recorder = listener != nullptr ? *listener : own;
  std::stop_source stop;
  Trainer trainer(ctx, l.config, l.data, folder);
  trainer.restore(recorder);
  recorder.on_step = [&](const StepReport&) {
    if (recorder.steps == stop_after) stop.request_stop();
  };
  if (trainer.run(recorder, stop.get_token()) == TrainOutcome::stopped) return std::nullopt;
  Ending end{all_values(trainer.model().registry()),
             trainer.epochs_done(),
             trainer.best_epoch(),
             ctx.read_state().step,
             {},
             {}};
  for (const EpochReport& e : recorder.epochs) {
    end.losses.push_back(e.loss_mean);
    end.validations.push_back(e.validation.value_or(0));
  }
  return end;
}

void expect_same(const Ending& actual, const Ending& expected) {
  expect_equal_bits(actual.values, expected.values, "parameters and slots");
  EXPECT_EQ(actual.epochs, expected.epochs);
  EXPECT_EQ(actual.best, expected.best);
  EXPECT_EQ(actual.steps, expected.steps);
  // Epochs that ended after the stop report the same numbers, the cut one included.
  ASSERT_LE(actual.losses.size(), expected.losses.size());
  const std::size_t skipped = expected.losses.size() - actual.losses.size();
  for (std::size_t i = 0; i < actual.losses.size(); ++i) {
    EXPECT_EQ(actual.losses[i], expected.losses[i + skipped]);
    EXPECT_EQ(actual.validations[i], expected.validations[i + skipped]);
  }
}

class StopAndResume : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(StopAndResume, AtEveryStep) {
  std::vector<std::string> overrides{"train.epochs=3", "train.batch_size=32"};
  overrides.insert(overrides.end(), GetParam().begin(), GetParam().end());
  const Loaded l = load(ratings().config(overrides));
  ASSERT_NE(l.data.train.size() % 32, 0);  // the last batch is partial
  const TempFolder whole;
  const Ending expected = go_on(l, whole.path()).value();
  for (std::int64_t stop = 1; stop < expected.steps; ++stop) {
    SCOPED_TRACE(stop);
    const TempFolder folder;
    ASSERT_FALSE(go_on(l, folder.path(), stop).has_value());
    const auto end = go_on(l, folder.path());
    ASSERT_TRUE(end.has_value());
    expect_same(*end, expected);
    if (HasFailure()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, StopAndResume,
    testing::Values(
        std::vector<std::string>{"optimizer.kind=adam", "task.negatives.uniform=9"},
        std::vector<std::string>{"optimizer.kind=adagrad", "task.negatives.popularity=9",
                                 "train.checkpoint.steps=2"},
        std::vector<std::string>{"optimizer.kind=rmsprop", "optimizer.centered=true",
                                 "optimizer.momentum=0.5"},
        std::vector<std::string>{"optimizer.kind=ftrl", "optimizer.sparse_update=exact"},
        std::vector<std::string>{"optimizer.kind=clippy-adagrad"},
        std::vector<std::string>{"optimizer.kind=sgd", "optimizer.momentum=0.9",
                                 "train.shuffle=once", "train.drop_remainder=true"},
        std::vector<std::string>{"train.early_stop={metric=\"ndcg@5\",patience=2}",
                                 "split.validation=0.2", "optimizer.learning_rate=0.3",
                                 "train.checkpoint.steps=3", "train.epochs=12",
                                 "optimizer.schedule={kind=\"cosine\",decay_steps=15}"}));

TEST(TrainerCheckpoint, StoppedAgainAndAgain) {
  const Loaded l = load(ratings().config({"train.epochs=3", "train.batch_size=32"}));
  const TempFolder whole, folder;
  const Ending expected = go_on(l, whole.path()).value();
  std::optional<Ending> end;
  for (int i = 0; i < 100 && !end; ++i) end = go_on(l, folder.path(), 1);
  ASSERT_TRUE(end.has_value());
  expect_equal_bits(end->values, expected.values, "one step at a time");
}

TEST(TrainerCheckpoint, AStopBeforeTheFirstStepIsKept) {
  const Loaded l = load(ratings().config({"train.epochs=1"}));
  const TempFolder whole, folder;
  const Ending expected = go_on(l, whole.path()).value();
  const Context ctx(Backend::cpu, 1);
  Recorder recorder;
  std::stop_source stop;
  stop.request_stop();
  Trainer trainer(ctx, l.config, l.data, folder.path());
  EXPECT_EQ(trainer.run(recorder, stop.get_token()), TrainOutcome::stopped);
  EXPECT_EQ(recorder.steps, 0);
  expect_same(go_on(l, folder.path()).value(), expected);
}

TEST(TrainerCheckpoint, DamagedCheckpointsArePassedOver) {
  const Loaded l = load(ratings().config(
      {"train.epochs=4", "train.batch_size=32", "split.validation=0.2",
       "train.early_stop={metric=\"ndcg@5\",patience=9}", "train.checkpoint.steps=2"}));
  const TempFolder whole;
  const Ending expected = go_on(l, whole.path()).value();
  for (const std::int64_t stop : {4, 7, 10}) {
    SCOPED_TRACE(stop);
    const TempFolder folder;
    ASSERT_FALSE(go_on(l, folder.path(), stop).has_value());
    std::vector<std::string> warnings;
    const auto newest = newest_valid_checkpoint(folder.path(), warnings);
    ASSERT_TRUE(newest.has_value());
    ASSERT_EQ(newest->step(), stop);
    flip_bit(newest->file("state.safetensors"), 8 * 2000 + 3);
    Recorder recorder;
    expect_same(go_on(l, folder.path(), -1, &recorder).value(), expected);
    EXPECT_TRUE(recorder.noted("checkpoint passed over"));
  }
}

TEST(TrainerCheckpoint, WithoutAValidOneTrainingStartsAnew) {
  const Loaded l = load(ratings().config({"train.epochs=1", "train.batch_size=32"}));
  const TempFolder whole, folder;
  const Ending expected = go_on(l, whole.path()).value();
  ASSERT_FALSE(go_on(l, folder.path(), 1).has_value());
  std::vector<std::string> warnings;
  const auto newest = newest_valid_checkpoint(folder.path(), warnings);
  spill(newest->path() / "MANIFEST.json", "{");
  expect_same(go_on(l, folder.path()).value(), expected);
}

TEST(TrainerCheckpoint, OtherDataIsRefused) {
  const Loaded l = load(ratings().config({"train.batch_size=32"}));
  const TempFolder folder;
  ASSERT_FALSE(go_on(l, folder.path(), 2).has_value());
  Loaded other = load(ratings().config({"train.batch_size=32", "split.seed=7"}));
  ASSERT_NE(other.data.fingerprint, l.data.fingerprint);
  const Error e = error_of([&] { go_on(other, folder.path()); });
  EXPECT_EQ(e.code(), ExitCode::bad_model);
  EXPECT_NE(std::string(e.what()).find("data"), std::string::npos);
}

TEST(TrainerCheckpoint, AnotherModelIsRefused) {
  const Loaded l = load(ratings().config({"train.batch_size=32"}));
  const TempFolder folder;
  ASSERT_FALSE(go_on(l, folder.path(), 2).has_value());
  Loaded wider = l, plain = l;
  for (FeatureConfig& f : wider.config.features) f.dim = 16;
  for (TableData& t : wider.data.tables) t.dim = 16;
  EXPECT_EQ(error_of([&] { go_on(wider, folder.path()); }).code(), ExitCode::bad_model);
  plain.config.optimizer.main.options.kind = OptimizerKind::rowwise_adagrad;
  EXPECT_EQ(error_of([&] { go_on(plain, folder.path()); }).code(), ExitCode::bad_model);
}

TEST(TrainerCheckpoint, InsideAnEpochTheBatchesMustStayTheSame) {
  const Loaded l = load(ratings().config({"train.batch_size=32"}));
  const TempFolder inside, between;
  ASSERT_FALSE(go_on(l, inside.path(), 2).has_value());
  Loaded shorter = l;
  shorter.config.train.epochs = 1;
  ASSERT_TRUE(go_on(shorter, between.path()).has_value());
  for (const char* change :
       {"train.batch_size=16", "train.seed=3", "train.shuffle=none", "train.drop_remainder=true"}) {
    SCOPED_TRACE(change);
    const Loaded other = load(ratings().config({"train.batch_size=32", change}));
    ASSERT_EQ(other.data.fingerprint, l.data.fingerprint);
    const Error e = error_of([&] { go_on(other, inside.path()); });
    EXPECT_EQ(e.code(), ExitCode::usage) << e.what();
    EXPECT_TRUE(go_on(other, between.path()).has_value());  // between epochs they may change
  }
}

TEST(TrainerCheckpoint, KeepsTheNewestOnesAndOneBestFile) {
  const Loaded l = load(ratings().config({"train.epochs=5", "train.batch_size=32",
                                          "split.validation=0.2", "train.checkpoint.keep=2",
                                          "train.early_stop={metric=\"ndcg@5\",patience=9}"}));
  const TempFolder folder;
  const Ending end = go_on(l, folder.path()).value();
  const auto names = names_in(folder.path());
  EXPECT_EQ(names.size(), 3u);
  EXPECT_EQ(
      std::count(names.begin(), names.end(), "best-" + std::to_string(end.best) + ".safetensors"),
      1);
}

}  // namespace
}  // namespace belfry::test
