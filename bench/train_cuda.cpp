// SPDX-License-Identifier: Apache-2.0
// Training from end to end, in examples a second: epochs over made-up ratings with tastes planted in them, batches
// made, copied and sorted beside the steps, losses fetched. What `belfry train` does once its data is read.
// The loss must fall first, and in fp32 the GPU's must be the CPU's.
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "bench/cuda_support.hpp"
#include "engine/config_toml.hpp"
#include "engine/model_data.hpp"
#include "engine/synthesize.hpp"
#include "engine/trainer.hpp"

namespace belfry::bench {
namespace {

/// A folder that goes away.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("belfry-train-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

struct Problem {
  Config config;
  ModelData data;
};

FeatureConfig id_feature(const char* name, Side side) {
  FeatureConfig f;
  f.name = name;
  f.of = side;
  f.dim = 64;
  return f;
}

Problem problem_of(const std::filesystem::path& ratings, const std::vector<std::string>& options) {
  Problem p;
  p.config = config_for_data(ratings.string(), options);
  p.config.features = {id_feature("user", Side::query), id_feature("item", Side::candidate)};
  DataReport found;
  resolve_config(p.config, &found);
  check_config(p.config);
  p.data = load_model_data(p.config, found, [](const std::string&) {});
  return p;
}

/// Of each epoch.
struct Trained : TrainObserver {
  std::vector<double> losses, seconds;
  void epoch(const EpochReport& r) override {
    losses.push_back(r.loss_mean);
    seconds.push_back(r.seconds);
  }
  /// Without the first epoch, in which memory grows and graphs are made.
  Time time() const {
    std::vector<double> s(seconds.begin() + 1, seconds.end());
    std::sort(s.begin(), s.end());
    const double median = s[s.size() / 2];
    return {1e6 * median, (s.back() - s.front()) / median};
  }
};

Trained train(const Context& ctx, const Problem& p, const Folder& folder) {
  Trained epochs;
  Trainer(ctx, p.config, p.data, folder / "checkpoints").run(epochs, {});
  return epochs;
}

void run(CudaBench& bench) {
  const Folder folder;
  SynthesisOptions options;
  options.users = bench.size(20'000, 600);
  options.items = bench.size(10'000, 400);
  options.ratings = bench.size(1'000'000, 20'000);
  write_ratings_csv(synthesize(options), folder / "ratings.csv");
  const std::int64_t batch = bench.size(8192, 512);
  const std::string size = "B = " + text(batch) + ", d = 64, ";
  std::vector<double> expected;  // losses on the CPU
  const auto measure = [&](const std::string& name, const Context& ctx, const char* precision,
                           const char* placement) {
    if (!bench.wanted(size + name)) return;
    const Problem p =
        problem_of(folder / "ratings.csv",
                   {"train.epochs=5", "train.batch_size=" + std::to_string(batch),
                    "train.early_stop=false", std::string("train.precision=") + precision,
                    std::string("train.device_data=") + placement});
    if (!bench.wanted(size + name)) return;
    const Trained t = train(ctx, p, folder);
    bench.verify(name + ": the loss falls", t.losses.back() < t.losses.front());
    if (expected.empty()) expected = t.losses;
    const bool half = precision == std::string("bf16");
    bench.verify(name + ": losses", near(t.losses, expected, half ? 2e-2 : 1e-3, 0));
    bench.report(size + name, t.time(), {.examples = static_cast<double>(p.data.train.size())});
  };
  measure("CPU, " + std::to_string(bench.cpu().threads()) + " threads", bench.cpu(), "fp32",
          "auto");
  measure("fp32", bench.device(), "fp32", "resident");
  measure("fp32, streamed", bench.device(), "fp32", "streamed");
  measure("bf16", bench.device(), "bf16", "resident");
}

const CudaBenchmark kBenchmark("train", run);

}  // namespace
}  // namespace belfry::bench
