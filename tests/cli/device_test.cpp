// SPDX-License-Identifier: Apache-2.0
// --device: what a user is told without a GPU, and the simulated GPU's answers beside the CPU's.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/npy.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

using Json = nlohmann::json;

/// Whether the binary under test finds a GPU that it can use.
bool has_gpu() {
  return Json::parse(belfry_run({"doctor", "--json"}).out)["backends"]["cuda"] == "available";
}

class Device : public WithRun {};

TEST_F(Device, WithoutAGpuAutoIsTheCpu) {
  if (has_gpu()) GTEST_SKIP() << "there is a GPU";
  const Answer automatic = belfry_run({"evaluate", run(), "--json"});
  const Answer cpu = belfry_run({"evaluate", run(), "--json", "--device", "cpu"});
  expect_good(automatic);
  EXPECT_EQ(automatic.err, "");  // nothing to speak of
  EXPECT_EQ(Json::parse(automatic.out)["metrics"], Json::parse(cpu.out)["metrics"]);
  EXPECT_EQ(Json::parse(automatic.out)["device"], "cpu");
}

TEST_F(Device, WithoutAGpuTheReasonIsNamed) {
  if (has_gpu()) GTEST_SKIP() << "there is a GPU";
  const Answer version = belfry_run({"--version"});
  const bool built = version.out.find("cuda") != std::string::npos;
  const std::string reason = built ? "NVIDIA driver" : "no CUDA backend";
  for (const std::string device : {"cuda", "cuda:0", "cuda:7"}) {
    expect_error(belfry_run({"evaluate", run(), "--device", device}), ExitCode::no_gpu,
                 "--device " + device + ": .*" + reason + ".*--device cpu");
  }
  const Answer doctor = belfry_run({"doctor"});
  expect_good(doctor);
  EXPECT_NE(doctor.out.find(built ? "driver" : "not in this build"), std::string::npos);
}

#ifdef BELFRY_SIMT_BINARY

/// The command on the simulated GPU.
Answer simt(std::vector<std::string> arguments, const std::string& options = "") {
  arguments.insert(arguments.end(), {"--device", "cuda"});
  Command command(std::move(arguments));
  command.binary(BELFRY_SIMT_BINARY);
  if (!options.empty()) command.env("BELFRY_SIMT", options);
  return command.run(300);
}

TEST_F(Device, TheSimulatedGpuIsNamedAndTakenWhenAskedFor) {
  const Answer doctor = simt({"doctor", "--json"});
  expect_good(doctor);
  const Json json = Json::parse(doctor.out);
  EXPECT_EQ(json["backends"]["cuda"], "available");
  EXPECT_NE(json["gpu"]["0"].get<std::string>().find("simulated"), std::string::npos);
  EXPECT_TRUE(json["cuda"].contains("driver"));
  EXPECT_TRUE(json["cuda"].contains("cublaslt"));
  expect_error(Command({"doctor", "--device", "cuda:1"}).binary(BELFRY_SIMT_BINARY).run(),
               ExitCode::no_gpu, "--device cuda:1: there is no GPU 1");
  // It is far slower than the CPU: auto leaves it alone.
  const Answer automatic = Command({"evaluate", run(), "--json"}).binary(BELFRY_SIMT_BINARY).run();
  EXPECT_EQ(Json::parse(automatic.out)["device"], "cpu");
}

TEST_F(Device, WithoutAMatrixLibraryAutoSaysSoAndInsistingFails) {
  const auto without = [](std::vector<std::string> arguments) {
    return Command(std::move(arguments))
        .binary(BELFRY_SIMT_BINARY)
        .env("BELFRY_CUBLAS", "/nowhere/libcublasLt.so.13")
        .run();
  };
  const Answer automatic = without({"evaluate", run(), "--json"});
  expect_good(automatic);
  EXPECT_EQ(Json::parse(automatic.out)["device"], "cpu");
  EXPECT_EQ(automatic.err, "device  cpu: the GPU cannot be used: cuBLASLt was not found\n");
  EXPECT_EQ(without({"evaluate", run(), "--json", "--device", "cpu"}).err, "");
  expect_error(without({"evaluate", run(), "--device", "cuda:0"}), ExitCode::no_gpu,
               "--device cuda:0: cuBLASLt was not found; --device cpu .*doctor");
  const Answer doctor = without({"doctor", "--json"});
  expect_good(doctor);
  EXPECT_EQ(Json::parse(doctor.out)["backends"]["cuda"], "needs cuBLASLt");
  EXPECT_NE(Json::parse(doctor.out)["cuda"]["cublaslt"].get<std::string>().find("/nowhere/"),
            std::string::npos);
}

TEST_F(Device, EvaluatesAndRecommendsAsTheCpu) {
  const Workspace work;
  const Answer cpu = belfry_run({"evaluate", run(), "--json"});
  const Answer gpu = simt({"evaluate", run(), "--json"});
  expect_good(gpu);
  const Json a = Json::parse(cpu.out), b = Json::parse(gpu.out);
  EXPECT_EQ(b["device"], "SIMT executor");
  EXPECT_EQ(a["baselines"], b["baselines"]);
  EXPECT_EQ(a["users"], b["users"]);
  for (const auto& [name, value] : a["metrics"].items()) {
    EXPECT_NEAR(b["metrics"].at(name).get<double>(), value.get<double>(), 0.02) << name;
  }
  // Item vectors come from the file: the same bits. Those of users may round differently.
  for (const char* name : {"cpu", "gpu"}) {
    const std::vector<std::string> arguments{"export", run(), "-q", "--items",
                                             work.path(std::string(name) + ".npy")};
    expect_good(name == std::string("cpu") ? belfry_run(arguments) : simt(arguments));
  }
  EXPECT_EQ(work.read("cpu.npy"), work.read("gpu.npy"));
  const std::string all = work.path("all.csv");
  expect_good(simt({"recommend", run(), "--all", "-k", "7", "-o", all, "-q"}));
  const Answer one = simt({"recommend", run(), "--user", "user_3", "-k", "7", "--json"});
  expect_good(one);
  // One user alone is answered as among all.
  const Json answer = Json::parse(one.out);
  std::string expected;
  for (std::size_t i = 0; i < 7; ++i) {
    expected +=
        "user_3," + std::to_string(i + 1) + "," + answer["items"][i].get<std::string>() + ",";
    const std::size_t at = work.read("all.csv").find(expected);
    ASSERT_NE(at, std::string::npos) << expected;
    expected.clear();
  }
}

TEST_F(Device, TrainsAsTheCpuAndAlikeUnderEverySchedule) {
  const Workspace work;
  work.write("r.csv", [] {
    std::string rows = "userId,movieId,rating\n";
    for (int i = 0; i < 240; ++i) {
      rows += std::to_string(i % 24) + "," + std::to_string(i * 7 % 31) + "," +
              std::to_string(1 + i % 5) + "\n";
    }
    return rows;
  }());
  const auto arguments = [&](const std::string& out) {
    return std::vector<std::string>{"train",
                                    work.path("r.csv"),
                                    "train.epochs=2",
                                    "train.batch_size=64",
                                    "train.early_stop=false",
                                    "--out",
                                    work.path(out),
                                    "--json"};
  };
  const auto events = [](const Answer& answer) {
    expect_good(answer);
    std::vector<Json> out;
    std::istringstream lines(answer.out);
    for (std::string line; std::getline(lines, line);) out.push_back(Json::parse(line));
    return out;
  };
  const std::vector<Json> cpu = events(belfry_run(arguments("cpu")));
  std::string hash;
  for (const char* schedule : {"order=fifo", "order=lifo", "order=random,seed=1",
                               "order=random,seed=2", "order=random,seed=3"}) {
    SCOPED_TRACE(schedule);
    const std::vector<Json> gpu = events(simt(arguments("gpu"), schedule));
    ASSERT_EQ(gpu.size(), cpu.size());
    for (std::size_t i = 0; i < cpu.size(); ++i) {
      EXPECT_EQ(gpu[i]["event"], cpu[i]["event"]);
      if (cpu[i]["event"] != "epoch") continue;
      const double loss = cpu[i]["loss_mean"];
      EXPECT_NEAR(gpu[i]["loss_mean"].get<double>(), loss, 1e-5 * loss);
    }
    const std::string now = gpu.back()["model_sha256"];
    if (hash.empty()) hash = now;
    EXPECT_EQ(now, hash);
  }
}

TEST_F(Device, SearchGivesTheSameBits) {
  const Workspace work;
  Random random(5);
  const auto write = [&](const char* name, std::int64_t rows) {
    NpyWriter file(work.path(name), "<f4", {rows, 9});
    file.write(random.normals(rows * 9).data(), rows * 9);
    file.commit();
  };
  write("items.npy", 700);
  write("queries.npy", 90);
  const auto arguments = [&](const std::string& out) {
    return std::vector<std::string>{"search",
                                    work.path("items.npy"),
                                    work.path("queries.npy"),
                                    "-k",
                                    "12",
                                    "-o",
                                    work.path(out),
                                    "--json"};
  };
  expect_good(belfry_run(arguments("cpu.npy")));
  const Answer gpu = simt(arguments("gpu.npy"));
  expect_good(gpu);
  EXPECT_EQ(Json::parse(gpu.out)["path"], "SIMT executor");
  EXPECT_EQ(work.read("cpu.items.npy"), work.read("gpu.items.npy"));
  EXPECT_EQ(work.read("cpu.scores.npy"), work.read("gpu.scores.npy"));
}

TEST_F(Device, OutOfMemoryLeavesNothingHalfWritten) {
  const Workspace work;
  const std::string data = work.ratings("r.csv");
  const auto before = work.names();
  for (const std::string bytes : {"bytes=50", "bytes=40000", "bytes=300000", "bytes=1500000"}) {
    SCOPED_TRACE(bytes);
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"train", data, "--out", work.path("run"), "-q"},
          {"evaluate", run()},
          {"recommend", run(), "--all", "-o", work.path("recs.csv")},
          {"export", run(), "--queries", work.path("q.npy")}}) {
      const Answer answer = simt(arguments, bytes);
      if (answer.code == 0) {  // it was enough for this
        EXPECT_EQ(bytes, "bytes=1500000") << arguments[0];
        continue;
      }
      expect_error(answer, ExitCode::out_of_memory, "GPU: .*out of .*memory.*--device cpu");
      EXPECT_EQ(work.names(), before) << arguments[0];
    }
    for (const char* left : {"recs.csv", "q.npy", "q.ids.txt"}) {
      std::filesystem::remove(work.path(left));
    }
  }
}

#endif

}  // namespace
}  // namespace belfry::test
