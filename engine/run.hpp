// SPDX-License-Identifier: Apache-2.0
// A run: the folder that training leaves, and the way there. Everything is made in NAME.partial beside it
// and takes its place as a whole when the model is complete; an interrupted run stays in NAME.partial
// until it is resumed.
#pragma once

#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>

#include "engine/config.hpp"
#include "engine/evaluator.hpp"
#include "engine/trainer.hpp"

namespace belfry {

/// Names inside a run folder.
struct RunFolder {
  std::filesystem::path root;
  std::filesystem::path config() const { return root / "config.toml"; }
  std::filesystem::path model() const { return root / "model.safetensors"; }
  std::filesystem::path metrics() const { return root / "metrics.jsonl"; }
  std::filesystem::path environment() const { return root / "env.json"; }
  std::filesystem::path test() const { return root / "test.safetensors"; }
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  /// Where the run is made before it is complete.
  RunFolder partial() const;
};

class RunObserver : public TrainObserver {
 public:
  virtual void data(const Config&, const ModelData&) {}
  virtual void plan(std::int64_t /*parameter_bytes*/, std::int64_t /*workspace_bytes*/) {}
  virtual void evaluation(const Evaluation&) {}
};

struct RunResult {
  TrainOutcome outcome = TrainOutcome::finished;
  std::string model_sha256;              ///< of a finished run
  std::optional<Evaluation> evaluation;  ///< with a test part
  std::int64_t epochs = 0, best_epoch = 0;
};

/// Trains a new run into `root`. A run that is there already is replaced when the new one is complete.
RunResult train_run(const Context& ctx, Config config, const std::filesystem::path& root,
                    RunObserver& observer, const std::stop_token& stop);

/// Goes on with an interrupted run, or trains a finished one further (overrides such as train.epochs=20).
/// Error(bad_model) when there is nothing to go on with.
RunResult resume_run(const Context& ctx, const std::filesystem::path& root,
                     const std::vector<std::string>& overrides, RunObserver& observer,
                     const std::stop_token& stop);

/// An evaluation as one line of JSON (CONTRACT: `evaluate --json`), and an epoch.
std::string to_json(const Evaluation& evaluation);
std::string to_json(const EpochReport& epoch);

/// Version and commit of this build.
struct BuildInfo {
  std::string version, commit, compiler;
};
BuildInfo build_info();

}  // namespace belfry
