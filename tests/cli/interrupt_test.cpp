// SPDX-License-Identifier: Apache-2.0
// Signals: a stop leaves a good checkpoint, and a resumed run ends as one that never stopped.
#include <gtest/gtest.h>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

constexpr int kEpochs = 40;

class Interrupt : public ::testing::Test {
 protected:
  std::vector<std::string> train(const std::string& run, const std::string& batch = "128") const {
    return {"train",
            data_,
            "--out",
            work_.path(run),
            "--progress",
            "plain",
            "--threads",
            "1",
            "train.epochs=" + std::to_string(kEpochs),
            "train.batch_size=" + batch,
            "train.early_stop={ metric = \"ndcg@20\", patience = 100 }"};
  }
  std::vector<std::string> resume(const std::string& run) const {
    return {"resume", work_.path(run), "--progress", "plain"};
  }
  std::string model(const std::string& run) const {
    return work_.sha256(run + "/model.safetensors");
  }
  /// metrics.jsonl without the seconds.
  std::string metrics(const std::string& run) const {
    return std::regex_replace(work_.read(run + "/metrics.jsonl"),
                              std::regex("\"seconds\":[-+.e0-9]+"), "");
  }
  /// Starts a run and sends `signal` once epoch `epoch` has ended and `microseconds` more have passed.
  Answer stopped(const std::string& run, int signal, int epoch, int microseconds) const {
    Command command(train(run));
    command.start();
    if (epoch > 0) {
      EXPECT_TRUE(command.wait_for("\nepoch ", epoch));
    } else {
      EXPECT_TRUE(command.wait_for("split "));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
    command.send(signal);
    return command.wait();
  }
  void same_as_uninterrupted(const std::string& run) const {
    EXPECT_EQ(model(run), model("whole"));
    EXPECT_EQ(metrics(run), metrics("whole"));
    EXPECT_FALSE(work_.exists(run + ".partial"));
  }

  Workspace work_;
  std::string data_ = work_.ratings("ratings.csv", 12000, true, 300, 200);
};

TEST_F(Interrupt, StopsAndResumesToTheSameBits) {
  expect_good(belfry_run(train("whole")));
  const std::pair<int, int> moments[] = {{0, 0}, {1, 700}, {4, 3100}, {11, 1900}};
  for (const auto& [epoch, microseconds] : moments) {
    SCOPED_TRACE("after epoch " + std::to_string(epoch));
    const std::string run = "run" + std::to_string(epoch);
    const Answer answer = stopped(run, epoch % 2 == 0 ? SIGTERM : SIGINT, epoch, microseconds);
    EXPECT_EQ(answer.code, 75) << answer.err;
    EXPECT_NE(answer.err.find("belfry resume " + work_.path(run)), std::string::npos) << answer.err;
    EXPECT_FALSE(work_.exists(run));
    const Answer question = belfry_run({"recommend", work_.path(run), "--all"});
    expect_error(question, ExitCode::io, "interrupted: belfry resume");
    expect_good(belfry_run(resume(run)));
    same_as_uninterrupted(run);
  }
}

TEST_F(Interrupt, KilledAndResumedToTheSameBits) {
  expect_good(belfry_run(train("whole")));
  for (const auto& [epoch, microseconds] : {std::pair{0, 0}, {3, 1300}}) {
    SCOPED_TRACE("after epoch " + std::to_string(epoch));
    const std::string run = "run" + std::to_string(epoch);
    EXPECT_EQ(stopped(run, SIGKILL, epoch, microseconds).code, 128 + SIGKILL);
    EXPECT_FALSE(work_.exists(run));
    expect_good(belfry_run(resume(run)));
    same_as_uninterrupted(run);
  }
}

TEST_F(Interrupt, StoppedTwice) {
  expect_good(belfry_run(train("whole")));
  EXPECT_EQ(stopped("run", SIGTERM, 2, 0).code, 75);
  Command again(resume("run"));
  again.start();
  EXPECT_TRUE(again.wait_for("\nepoch ", 2));
  again.send(SIGTERM);
  EXPECT_EQ(again.wait().code, 75);
  expect_good(belfry_run(resume("run")));
  same_as_uninterrupted("run");
}

TEST_F(Interrupt, TheSecondSignalEndsAtOnce) {
  // One step of this run takes seconds, so that the second signal comes inside of it.
  Command command(train("run", "12000"));
  command.start();
  ASSERT_TRUE(command.wait_for("memory "));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  command.send(SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  command.send(SIGTERM);
  EXPECT_EQ(command.wait(10).code, 128 + SIGTERM);
  EXPECT_FALSE(work_.exists("run"));
}

TEST_F(Interrupt, ANewTrainingReplacesAnInterruptedOne) {
  EXPECT_EQ(stopped("run", SIGTERM, 1, 0).code, 75);
  EXPECT_TRUE(work_.exists("run.partial"));
  const Answer answer = work_.train(data_, "run");
  expect_good(answer);
  EXPECT_FALSE(work_.exists("run.partial"));
  EXPECT_TRUE(work_.exists("run"));
}

TEST_F(Interrupt, AFinishedRunIsTrainedFurther) {
  expect_good(work_.train(data_, "long", {"train.early_stop=false", "train.epochs=6"}));
  expect_good(work_.train(data_, "short", {"train.early_stop=false", "train.epochs=4"}));
  EXPECT_NE(model("long"), model("short"));
  expect_good(belfry_run({"resume", work_.path("short"), "-q", "train.epochs=6"}));
  EXPECT_EQ(model("long"), model("short"));
  expect_error(belfry_run({"resume", work_.path("short"), "train.epocs=8"}), ExitCode::usage,
               "epochs");
  EXPECT_FALSE(work_.exists("short.partial"));
  EXPECT_EQ(model("long"), model("short"));
}

}  // namespace
}  // namespace belfry::test
