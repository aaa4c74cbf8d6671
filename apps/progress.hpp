// SPDX-License-Identifier: Apache-2.0
// Progress of training on stderr: a bar on a terminal, plain lines elsewhere, JSON lines, or nothing; and
// with --json the events on stdout.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "apps/common.hpp"
#include "engine/run.hpp"

namespace belfry::app {

enum class ProgressMode { bar, plain, json, none };
/// "auto" is a bar when stderr is a terminal that can show one, else plain lines; -q shows none.
ProgressMode progress_mode(const CommonOptions& options);

/// Progress of some units of work: "users 12,000/29,858 40% 9,300/s ETA 0:02".
class ProgressLine {
 public:
  ProgressLine(const CommonOptions& options, std::string what, std::int64_t total);
  ~ProgressLine();
  /// Shows `done` of the total (at most ten times a second on a terminal, once in ten seconds elsewhere).
  void update(std::int64_t done, const std::string& extra = "");
  /// Removes a bar from the screen.
  void clear();

 private:
  ProgressMode mode_;
  std::string what_;
  std::int64_t total_;
  std::chrono::steady_clock::time_point start_, shown_;
  bool on_screen_ = false;
};

class TrainProgress : public RunObserver {
 public:
  explicit TrainProgress(const CommonOptions& options) : options_(options) {}
  void data(const Config& config, const ModelData& data) override;
  void plan(std::int64_t parameter_bytes, std::int64_t workspace_bytes) override;
  void step(const StepReport& report) override;
  void epoch(const EpochReport& report) override;
  void evaluation(const Evaluation& evaluation) override;
  void note(const std::string& text) override;

 private:
  const CommonOptions& options_;
  std::unique_ptr<ProgressLine> line_;
  std::int64_t epochs_ = 0;
};

}  // namespace belfry::app
