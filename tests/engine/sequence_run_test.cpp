// SPDX-License-Identifier: Apache-2.0
// Whole runs of models that read a history step by step: what only the order of the steps tells is learned (the
// simulated device makes too few steps for that), the CPU's losses on a device, the same bits for any number of
// threads and after a stop, and answers from the file.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "engine/model_file.hpp"
#include "engine/recommender.hpp"
#include "engine/run.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

constexpr std::int64_t kUsers = 60, kItems = 20, kRows = 12;

/// Each user walks around the items in strides of three, from anywhere, every other one backwards; one row in
/// twelve goes astray. The mean of a history does not tell at which of its ends the next item lies.
std::string walks() {
  Random random(1);
  std::string text = "user,item,time\n";
  for (std::int64_t u = 0; u < kUsers; ++u) {
    std::int64_t item = random.below(kItems);
    for (std::int64_t t = 0; t < kRows; ++t) {
      const std::int64_t shown = random.below(12) == 0 ? random.below(kItems) : item;
      text += fmt::format("u{},i{},{}\n", u, shown, 100 * t + u % 100);
      item = (item + (u % 2 == 0 ? 3 : kItems - 3)) % kItems;
    }
  }
  return text;
}

std::string model(const std::string& layers) {
  return fmt::format(R"(
[data]
interactions = "r.csv"
user = "user"
item = "item"
time = "time"
[split]
method = "leave-last-out"
[[feature]]
name = "item"
of = "candidate"
kind = "id"
dim = 16
[[feature]]
name = "history"
of = "query"
kind = "sequence"
max_length = 6
table = "item"
dim = 16
[[network]]
name = "query"
inputs = ["history"]
layers = [{}]
[[task]]
kind = "retrieval"
[optimizer]
kind = "adam"
learning_rate = 0.01
[train]
batch_size = 64
early_stop = false
epochs = {}
[evaluate]
exclude_seen = false
metrics = ["recall@1", "recall@3"]
)",
                     layers, on_device() ? 2 : 60);
}
const std::string kGru = model("{ kind = \"gru\", units = 16 }");
const std::string kAttention = model(
    "{ kind = \"position-embedding\" }, { kind = \"attention\", num_heads = 2, causal = true, "
    "residual = true }, { kind = \"layer-norm\" }, { kind = \"mlp\", units = [32, 16] }, "
    "{ kind = \"sequence-pool\", pooling = \"last\" }");

class SequenceRun : public ::testing::TestWithParam<const std::string*> {
 protected:
  SequenceRun() { folder.write("r.csv", walks()); }

  RunResult train(const std::string& toml, const std::string& name, const Context& ctx,
                  std::vector<double>* losses = nullptr, std::int64_t stop_at = 0) {
    Recorder recorder;
    std::stop_source stop;
    recorder.on_step = [&](const StepReport&) {
      if (recorder.steps == stop_at) stop.request_stop();
    };
    const RunResult result =
        train_run(ctx, folder.config(toml), folder.root() / name, recorder, stop.get_token());
    for (const EpochReport& e : recorder.epochs) {
      if (losses != nullptr) losses->push_back(e.loss_mean);
    }
    return result;
  }

  ModelFolder folder;
};

TEST_P(SequenceRun, LearnsTheOrderAndSaysItAgain) {
  const Context ctx = make_context(2);
  const RunResult r = train(*GetParam(), "run", ctx);
  const MetricMap& metrics = r.evaluation.value().metrics;
  if (!on_device()) {
    EXPECT_GT(metrics.at("recall@1"), 0.6);
    const RunResult mean = train(model("{ kind = \"mlp\", units = [32, 16] }"), "mean", ctx);
    EXPECT_GT(metrics.at("recall@1"), mean.evaluation.value().metrics.at("recall@1") + 0.2);
    EXPECT_EQ(train(*GetParam(), "one", make_context(1)).model_sha256, r.model_sha256);
    EXPECT_EQ(train(*GetParam(), "three", make_context(3)).model_sha256, r.model_sha256);
  }
  const auto loaded = load_model_file(ctx, RunFolder{folder.root() / "run"}.model());
  EXPECT_EQ(loaded->data.features.back().steps, 6);
  Recommender recommender(ctx, *loaded, {});
  std::vector<std::int32_t> users;
  for (std::int32_t u = 0; u < kUsers; ++u) users.push_back(u);
  users.push_back(-1);  // a stranger has no history
  std::int64_t answered = 0;
  recommender.recommend(users, 3, {}, [&](std::int64_t, auto items, auto scores) {
    ++answered;
    EXPECT_EQ(items.size(), 3u);
    for (const float s : scores) EXPECT_TRUE(std::isfinite(s));
  });
  EXPECT_EQ(answered, kUsers + 1);
  const std::string copy = folder.path("copy.safetensors");
  write_model_file(ctx, copy, loaded->config, loaded->data, loaded->seen, *loaded->model,
                   loaded->index.get());
  const auto again = load_model_file(ctx, copy);
  EXPECT_EQ(all_values(again->model->registry()), all_values(loaded->model->registry()));
}

TEST_P(SequenceRun, ADeviceHasTheLossesOfTheCpu) {
  if (!on_device()) GTEST_SKIP() << "the CPU is what the device is compared with";
  std::vector<double> cpu, device;
  train(*GetParam(), "cpu", Context(Backend::cpu, 1), &cpu);
  train(*GetParam(), "device", make_context(1), &device);
  ASSERT_EQ(cpu.size(), device.size());
  ASSERT_GT(cpu.size(), 1u);
  for (std::size_t e = 0; e < cpu.size(); ++e) EXPECT_NEAR(device[e], cpu[e], 1e-4 * cpu[e]) << e;
}

TEST_P(SequenceRun, ResumedIsTheSameModel) {
  const Context ctx = make_context(2);
  const RunResult whole = train(*GetParam(), "whole", ctx);
  EXPECT_EQ(train(*GetParam(), "cut", ctx, nullptr, 3).outcome, TrainOutcome::stopped);
  Recorder recorder;
  const RunResult r = resume_run(make_context(1), folder.root() / "cut", {}, recorder, {});
  EXPECT_EQ(r.model_sha256, whole.model_sha256);
  EXPECT_EQ(r.evaluation.value().metrics, whole.evaluation.value().metrics);
}

INSTANTIATE_TEST_SUITE_P(Models, SequenceRun, ::testing::Values(&kGru, &kAttention),
                         [](const auto& info) { return info.index == 0 ? "Gru" : "Attention"; });

}  // namespace
}  // namespace belfry::test
