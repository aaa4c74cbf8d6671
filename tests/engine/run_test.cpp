// SPDX-License-Identifier: Apache-2.0
// Run folders: what a training leaves, and what it never touches.
#include "engine/run.hpp"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "engine/file_io.hpp"
#include "engine/model_file.hpp"
#include "engine/safetensors.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const SmallRatings& ratings() {
  static const SmallRatings r(40, 30, 500);
  return r;
}

/// Every file below a folder with its bytes.
std::map<std::string, std::string> content(const fs::path& root) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.is_regular_file())
      out[fs::relative(entry.path(), root).string()] = slurp(entry.path());
  }
  return out;
}

RunResult train(const fs::path& root, const std::vector<std::string>& overrides = {},
                int threads = 2, Recorder* recorder = nullptr) {
  const Context ctx(Backend::cpu, threads);
  Recorder own;
  return train_run(ctx, ratings().config(overrides), root, recorder != nullptr ? *recorder : own,
                   {});
}

RunResult resume(const fs::path& root, const std::vector<std::string>& overrides = {},
                 Recorder* recorder = nullptr) {
  const Context ctx(Backend::cpu, 2);
  Recorder own;
  return resume_run(ctx, root, overrides, recorder != nullptr ? *recorder : own, {});
}

/// Trains until `steps` steps are made, then stops as a signal would.
RunResult train_some(const fs::path& root, std::int64_t steps,
                     const std::vector<std::string>& overrides = {}) {
  const Context ctx(Backend::cpu, 2);
  Recorder recorder;
  std::stop_source stop;
  recorder.on_step = [&](const StepReport&) {
    if (recorder.steps == steps) stop.request_stop();
  };
  return train_run(ctx, ratings().config(overrides), root, recorder, stop.get_token());
}

std::vector<Json> lines(const fs::path& path) {
  std::vector<Json> out;
  std::istringstream in(slurp(path));
  for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
  return out;
}

TEST(Run, LeavesItsFiles) {
  const TempFolder folder;
  const RunResult r = train(folder / "run");
  EXPECT_EQ(r.outcome, TrainOutcome::finished);
  EXPECT_EQ(r.epochs, 2);
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"run"});
  EXPECT_EQ(names_in(folder / "run"),
            (std::vector<std::string>{"checkpoints", "config.toml", "env.json", "metrics.jsonl",
                                      "model.safetensors", "test.safetensors"}));
  const RunFolder run{folder / "run"};
  EXPECT_EQ(r.model_sha256, sha256_of_file(run.model()));
  const auto metrics = lines(run.metrics());
  ASSERT_EQ(metrics.size(), 3u);
  for (std::size_t e = 0; e < 2; ++e) {
    EXPECT_EQ(metrics[e].at("event"), "epoch");
    EXPECT_EQ(metrics[e].at("epoch"), e + 1);
    EXPECT_GT(metrics[e].at("loss_mean").get<double>(), 0);
  }
  EXPECT_EQ(metrics[2].at("event"), "evaluate");
  ASSERT_TRUE(r.evaluation.has_value());
  EXPECT_EQ(metrics[2].at("users"), r.evaluation->users);
  EXPECT_EQ(metrics[2].at("metrics").at("recall@20").get<double>(),
            r.evaluation->metrics.at("recall@20"));
  EXPECT_TRUE(metrics[2].at("baselines").contains("popularity"));
  const Json env = Json::parse(slurp(run.environment()));
  EXPECT_EQ(env.at("threads"), 2);
  EXPECT_EQ(env.at("seed"), 42);
  EXPECT_EQ(env.at("data_fingerprint").get<std::string>().size(), 32u);
  // The config that lies there trains the same model again.
  const Config again = load_config(run.config().string(), {});
  EXPECT_TRUE(fs::path(again.data.interactions.at(0)).is_absolute());
  const Context ctx(Backend::cpu, 1);
  Recorder recorder;
  EXPECT_EQ(train_run(ctx, again, folder / "again", recorder, {}).model_sha256, r.model_sha256);
}

TEST(Run, TheModelIsAFunctionOfDataAndSeed) {
  const TempFolder folder;
  const std::string first = train(folder / "a").model_sha256;
  EXPECT_EQ(train(folder / "some-other-name", {}, 1).model_sha256, first);
  EXPECT_EQ(train(folder / "c", {}, 4).model_sha256, first);
  EXPECT_NE(train(folder / "d", {"train.seed=1"}).model_sha256, first);
  const std::string bytes = slurp(folder / "a" / "model.safetensors");
  for (const std::string& path :
       {folder.path().string(), ratings().root().string(), ratings().csv()}) {
    EXPECT_EQ(bytes.find(path), std::string::npos) << path;
  }
  EXPECT_EQ(bytes.find(ratings().root().filename().string()), std::string::npos);
  EXPECT_EQ(bytes.find("ratings"), std::string::npos);
}

TEST(Run, WithoutATestPartThereIsNoTestFile) {
  const TempFolder folder;
  const RunResult r = train(folder / "run", {"split.method=none"});
  EXPECT_FALSE(r.evaluation.has_value());
  EXPECT_FALSE(fs::exists(RunFolder{folder / "run"}.test()));
  EXPECT_EQ(lines(RunFolder{folder / "run"}.metrics()).size(), 2u);
}

TEST(Run, ValidationRowsAreSeenOrNot) {
  const TempFolder folder;
  const Context ctx(Backend::cpu, 2);
  for (const bool both : {true, false}) {
    const std::string mask = both ? "train+validation" : "train";
    const Loaded l = load(ratings().config({"split.validation=0.2", "evaluate.mask=" + mask}));
    Recorder recorder;
    train_run(ctx, l.config, folder / "run", recorder, {});
    std::vector<const Interactions*> parts{&l.data.train};
    if (both) parts.push_back(&l.data.validation);
    const ItemLists expected = items_by_user(l.data.user_count(), l.data.item_count(), parts);
    const auto m = load_model_file(ctx, folder / "run" / "model.safetensors");
    EXPECT_EQ(m->seen.offsets, expected.offsets);
    EXPECT_EQ(m->seen.items, expected.items);
  }
}

TEST(Run, AnErrorInTheMiddleKeepsTheOldRun) {
  const TempFolder folder;
  train(folder / "run");
  const auto before = content(folder / "run");
  const std::vector<std::vector<std::string>> bad = {
      {"data.user=nobody"},
      {"optimizer.kind=sgd", "optimizer.learning_rate=1e30", "task.similarity=dot"},
      {"data.where=rating > 99"},
  };
  for (const auto& overrides : bad) {
    error_of([&] { train(folder / "run", overrides); });
    EXPECT_EQ(content(folder / "run"), before);
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"run"});
  }
  // A full disk while the model is written.
  int models = 0;
  set_io_fault_hook([&](const char* call) {
    return std::string(call) == "exchange" && ++models == 1 ? ENOSPC : 0;
  });
  const Error full = error_of([&] { train(folder / "run", {"train.seed=9"}); });
  set_io_fault_hook({});
  EXPECT_EQ(full.code(), ExitCode::io);
  EXPECT_EQ(content(folder / "run"), before);
  // Then the new one as a whole.
  Recorder recorder;
  const RunResult r = train(folder / "run", {"train.seed=9"}, 2, &recorder);
  EXPECT_TRUE(recorder.noted("unfinished run"));
  EXPECT_EQ(sha256_of_file(folder / "run" / "model.safetensors"), r.model_sha256);
  EXPECT_NE(content(folder / "run"), before);
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"run"});
}

TEST(Run, AFolderThatIsNoRunIsNeverReplaced) {
  const TempFolder folder;
  for (const char* name : {"mine", "other.partial"}) {
    fs::create_directories(folder / name);
    spill(folder / name / "thesis.tex", "years of work");
    const std::string root = std::string(name).substr(0, std::string(name).find('.'));
    const Error e = error_of([&] { train(folder / root); });
    EXPECT_TRUE(e.code() == ExitCode::usage || e.code() == ExitCode::io) << e.what();
    EXPECT_NE(e.where().find(name), std::string::npos);
    EXPECT_EQ(content(folder / name),
              (std::map<std::string, std::string>{{"thesis.tex", "years of work"}}));
  }
  spill(folder / "file", "x");
  EXPECT_EQ(error_of([&] { train(folder / "file"); }).code(), ExitCode::io);
  EXPECT_EQ(slurp(folder / "file"), "x");
  // An empty folder is as good as none; a slash at the end means nothing.
  fs::create_directories(folder / "empty");
  EXPECT_EQ(train((folder / "empty").string() + "/").outcome, TrainOutcome::finished);
  EXPECT_TRUE(fs::exists(folder / "empty" / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "empty.partial"));
}

TEST(Run, ALinkToARunIsFollowed) {
  const TempFolder folder;
  train(folder / "real");
  fs::create_directory_symlink(folder / "real", folder / "link");
  const RunResult r = train(folder / "link", {"train.seed=5"});
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(sha256_of_file(folder / "real" / "model.safetensors"), r.model_sha256);
}

TEST(Run, InterruptedAndResumedIsTheSameModel) {
  const TempFolder folder;
  for (const std::vector<std::string>& kind :
       {std::vector<std::string>{},
        {"train.early_stop={metric=\"ndcg@10\",patience=1}", "train.epochs=8"}}) {
    const RunResult whole = train(folder / "whole", kind);
    const auto epochs = lines(folder / "whole" / "metrics.jsonl");
    for (const std::int64_t stop : {1, 5, 7}) {
      const fs::path root = folder / "cut";
      const RunResult cut = train_some(root, stop, kind);
      EXPECT_EQ(cut.outcome, TrainOutcome::stopped);
      EXPECT_FALSE(fs::exists(root));  // nothing that is not complete
      EXPECT_TRUE(fs::exists(folder / "cut.partial"));
      const RunResult r = resume(root);
      EXPECT_EQ(r.outcome, TrainOutcome::finished);
      EXPECT_EQ(r.model_sha256, whole.model_sha256) << stop;
      EXPECT_EQ(r.best_epoch, whole.best_epoch);
      EXPECT_FALSE(fs::exists(folder / "cut.partial"));
      auto again = lines(root / "metrics.jsonl");
      ASSERT_EQ(again.size(), epochs.size());
      for (std::size_t i = 0; i < again.size(); ++i) {
        again[i].erase("seconds");
        Json expected = epochs[i];
        expected.erase("seconds");
        EXPECT_EQ(again[i], expected);
      }
      fs::remove_all(root);
    }
  }
}

TEST(Run, AnInterruptedSuccessorLeavesTheOldRunInPlace) {
  const TempFolder folder;
  train(folder / "run");
  const auto before = content(folder / "run");
  train_some(folder / "run", 3, {"train.seed=8"});
  EXPECT_EQ(content(folder / "run"), before);
  const std::string expected = train(folder / "other", {"train.seed=8"}).model_sha256;
  EXPECT_EQ(resume(folder / "run").model_sha256, expected);
}

TEST(Run, AFinishedRunTrainsFurther) {
  const TempFolder folder;
  train(folder / "run");
  const auto before = content(folder / "run");
  // Nothing more to do: the same model.
  const std::string same = resume(folder / "run").model_sha256;
  EXPECT_EQ(content(folder / "run").at("model.safetensors"), before.at("model.safetensors"));
  // Errors on the way leave it as it is, and leave nothing beside it.
  EXPECT_EQ(error_of([&] { resume(folder / "run", {"train.epoch=4"}); }).code(), ExitCode::usage);
  EXPECT_EQ(error_of([&] { resume(folder / "run", {"split.seed=4"}); }).code(),
            ExitCode::bad_model);
  EXPECT_EQ(error_of([&] { resume(folder / "run", {"data.interactions=none.csv"}); }).code(),
            ExitCode::io);
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"run"});
  EXPECT_EQ(sha256_of_file(folder / "run" / "model.safetensors"), same);
  const RunResult r = resume(folder / "run", {"train.epochs=4"});
  EXPECT_EQ(r.epochs, 4);
  EXPECT_EQ(r.model_sha256, train(folder / "four", {"train.epochs=4"}).model_sha256);
  EXPECT_EQ(load_config((folder / "run" / "config.toml").string(), {}).train.epochs, 4);
  EXPECT_EQ(lines(folder / "run" / "metrics.jsonl").size(), 5u);
}

// config.toml must train to the same bits again, so what shaped the steps so far cannot be changed.
TEST(Run, ResumeRefusesWhatWouldMakeAnotherModel) {
  const TempFolder folder;
  const std::string whole = train(folder / "run", {"train.epochs=4"}).model_sha256;
  for (const char* change : {"train.epochs=2", "optimizer.kind=sgd", "optimizer.learning_rate=0.5",
                             "task.temperature=0.5", "evaluate.exclude_seen=false"}) {
    SCOPED_TRACE(change);
    EXPECT_EQ(error_of([&] { resume(folder / "run", {change}); }).code(), ExitCode::usage);
    EXPECT_EQ(sha256_of_file(folder / "run" / "model.safetensors"), whole);
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"run"});
  }
  const std::vector<std::string> harmless = {"index.k=7", "train.checkpoint={steps=3,keep=1}",
                                             "evaluate.metrics=['recall@5']"};
  EXPECT_EQ(resume(folder / "run", harmless).epochs, 4);
}

// Settings that change no weight and no answer change no byte of the model.
TEST(Run, TheModelDoesNotDependOnHowItIsKept) {
  const TempFolder folder;
  const std::string plain = train(folder / "plain").model_sha256;
  EXPECT_EQ(train(folder / "kept", {"train.checkpoint={steps=3,keep=1}"}).model_sha256, plain);
  EXPECT_NE(train(folder / "k", {"index.k=20"}).model_sha256, plain);  // how many answers
  EXPECT_NE(train(folder / "seed", {"train.seed=8"}).model_sha256, plain);
}

// A folder that has a run's names and something else too is not ours to remove.
TEST(Run, AForeignFileInARunIsNotLost) {
  const TempFolder folder;
  train(folder / "run");
  spill(folder / "run" / "thesis.txt", "precious");
  const auto before = content(folder / "run");
  EXPECT_EQ(error_of([&] { train(folder / "run"); }).code(), ExitCode::io);
  EXPECT_EQ(content(folder / "run"), before);
}

TEST(Run, AnOverrideThatFailsIsForgotten) {
  const TempFolder folder;
  const std::string whole = train(folder / "whole").model_sha256;
  train_some(folder / "run", 3);
  EXPECT_EQ(error_of([&] { resume(folder / "run", {"split.seed=4"}); }).code(),
            ExitCode::bad_model);
  EXPECT_EQ(error_of([&] { resume(folder / "run", {"train.batch_size=7"}); }).code(),
            ExitCode::usage);
  EXPECT_EQ(resume(folder / "run").model_sha256, whole);
}

TEST(Run, CheckpointsThatAreAllDamagedAreNoReasonToBeginAgain) {
  const TempFolder folder;
  train_some(folder / "run", 3);
  for (const auto& entry : fs::directory_iterator(folder / "run.partial" / "checkpoints")) {
    spill(entry.path() / "MANIFEST.json", "{");
  }
  EXPECT_EQ(error_of([&] { resume(folder / "run"); }).code(), ExitCode::bad_model);
  EXPECT_TRUE(fs::exists(folder / "run.partial" / "config.toml"));
}

TEST(Run, NothingToResume) {
  const TempFolder folder;
  EXPECT_EQ(error_of([&] { resume(folder / "none"); }).code(), ExitCode::io);
  fs::create_directories(folder / "empty");
  EXPECT_EQ(error_of([&] { resume(folder / "empty"); }).code(), ExitCode::bad_model);
}

}  // namespace
}  // namespace belfry::test
