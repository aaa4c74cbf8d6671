// SPDX-License-Identifier: Apache-2.0
// Where numbers, memory or a pipe end.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

class Limits : public ::testing::Test {
 protected:
  Workspace work_;
  std::string data_ = work_.ratings("ratings.csv");
};

TEST_F(Limits, NumericalFailure) {
  expect_error(work_.train(data_, "run",
                           {"optimizer.kind=sgd", "optimizer.learning_rate=1e37",
                            "task.0.similarity=dot", "train.early_stop=false"}),
               ExitCode::numerical, "step [0-9]+: .*finite");
  EXPECT_EQ(work_.names(), std::vector<std::string>{"ratings.csv"});
}

TEST_F(Limits, OutOfMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's own memory is larger than the limit";
#endif
  // Towers this wide take more than a gigabyte for one batch.
  const std::string model =
      work_.write("wide.toml",
                  "[data]\ninteractions = \"ratings.csv\"\n"
                  "[[feature]]\nname = \"u\"\nof = \"query\"\nkind = \"id\"\ndim = 65536\n"
                  "[[feature]]\nname = \"v\"\nof = \"candidate\"\nkind = \"id\"\ndim = 65536\n");
  Command wide({"train", model, "--out", work_.path("run"), "-q", "--threads", "1"});
  expect_error(wide.memory(std::uint64_t{600} << 20).run(), ExitCode::out_of_memory, "memory");
  EXPECT_EQ(work_.names(), (std::vector<std::string>{"ratings.csv", "wide.toml"}));
}

TEST_F(Limits, NamedPipe) {
  expect_good(work_.train(data_, "file"));
  const std::string pipe = work_.path("pipe.csv");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << slurp(data_); });
  expect_good(work_.train(pipe, "piped"));
  writer.join();
  EXPECT_EQ(work_.sha256("piped/model.safetensors"), work_.sha256("file/model.safetensors"));
}

}  // namespace
}  // namespace belfry::test
