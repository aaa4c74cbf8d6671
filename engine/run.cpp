// SPDX-License-Identifier: Apache-2.0
#include "engine/run.hpp"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/build_info.hpp"
#include "engine/config_toml.hpp"
#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "engine/model.hpp"
#include "kernels/core/libraries.hpp"

namespace belfry {

namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

/// Numbers that JSON can hold; a metric is never nan or infinite, but a file must not break if it were.
Json finite(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json metrics_json(const MetricMap& metrics) {
  Json out = Json::object();
  for (const auto& [name, value] : metrics) out[name] = finite(value);
  return out;
}

void write_environment(const RunFolder& folder, const Context& ctx, const Config& config,
                       const ModelData& data) {
  const BuildInfo build = build_info();
  Json env;
  env["version"] = build.version;
  env["commit"] = build.commit;
  env["compiler"] = build.compiler;
  env["device"] = name_of(ctx.backend());
  if (ctx.backend() == Backend::cuda) env["gpu"] = device_name(ctx);
  env["threads"] = ctx.threads();
  env["seed"] = config.train.seed;
  env["data_fingerprint"] = data.fingerprint;
  env["rows"] = data.report.rows;
  env["users"] = data.user_count();
  env["items"] = data.item_count();
  write_file(folder.environment(), env.dump(2) + "\n");
}

/// metrics.jsonl: rewritten whole after each epoch, so that it is never torn.
class MetricsLog {
 public:
  explicit MetricsLog(fs::path path) : path_(std::move(path)) {}
  /// Keeps the lines of epochs up to `epochs` of an interrupted run.
  void load(std::int64_t epochs) {
    if (!fs::exists(path_)) return;
    const std::string text = read_file(path_);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find('\n', at);
      if (end == std::string::npos) break;
      const std::string line = text.substr(at, end - at);
      at = end + 1;
      const Json json = Json::parse(line, nullptr, false);
      if (json.is_object() && json.value("event", "") == "epoch" &&
          json.value("epoch", 0) <= epochs) {
        text_ += line + "\n";
      }
    }
  }
  void add(const std::string& line) {
    text_ += line + "\n";
    write_file(path_, text_);
  }

 private:
  fs::path path_;
  std::string text_;
};

/// Passes everything on and keeps metrics.jsonl.
class LoggingObserver : public TrainObserver {
 public:
  LoggingObserver(RunObserver& next, MetricsLog& log) : next_(next), log_(log) {}
  void step(const StepReport& r) override { next_.step(r); }
  void epoch(const EpochReport& r) override {
    log_.add(to_json(r));
    next_.epoch(r);
  }
  void note(const std::string& text) override { next_.note(text); }

 private:
  RunObserver& next_;
  MetricsLog& log_;
};

/// The checkpoints of a run, sorted.
std::vector<std::string> checkpoint_names(const RunFolder& run) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(run.checkpoints(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("step-") && !name.ends_with(".tmp")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Everything after the last epoch: vectors, evaluation, files, and the folder into its place.
RunResult finish(Model& model, const RunFolder& partial, const RunFolder& target, MetricsLog& log,
                 RunObserver& observer) {
  RunResult result;
  result.epochs = model.trainer()->epochs_done();
  result.best_epoch = model.trainer()->best_epoch();
  model.end_training();  // room for the item vectors
  if (model.data().has_test) {
    result.evaluation = model.evaluate(model.data().test, model.config().train.seed);
    log.add(to_json(*result.evaluation));
    observer.evaluation(*result.evaluation);
    write_test_file(partial.test(), model.data());
  }
  model.save(partial.model());
  result.model_sha256 = sha256_of_file(partial.model());
  sync_directory(partial.root);
  replace_directory(partial.root, target.root);
  return result;
}

/// Checkpoints that are there and cannot be used are no reason to begin again in silence.
void refuse_lost_checkpoints(const RunFolder& partial) {
  const std::vector<std::string> names = checkpoint_names(partial);
  if (names.empty()) return;
  throw Error(ExitCode::bad_model, partial.checkpoints().string(),
              fmt::format("none of its {} checkpoints can be used", names.size()),
              "belfry train " + partial.config().string() + " --out RUN begins again");
}

/// Training the saved config again must give the same bits: what shaped the steps so far stays.
void check_same_training(const Config& before, Config after, std::int64_t epochs_done) {
  if (after.train.epochs < epochs_done) {
    throw Error(ExitCode::usage, "train.epochs",
                fmt::format("{} epochs are trained already", epochs_done));
  }
  const Config& b = before;
  after.data.interactions = b.data.interactions;  // a moved file is known by its content
  after.data.test = b.data.test;
  after.data.items = b.data.items;
  after.data.users = b.data.users;
  after.train.epochs = b.train.epochs;
  after.train.checkpoint_steps = b.train.checkpoint_steps;
  after.train.keep_checkpoints = b.train.keep_checkpoints;
  after.train.device_data = b.train.device_data;
  after.evaluate.metrics = b.evaluate.metrics;
  after.index = b.index;
  after.output = b.output;
  after.name = b.name;
  if (to_toml(after) == to_toml(before)) return;
  throw Error(ExitCode::usage, "resume", "an override changes what was trained so far",
              "only train.epochs, train.checkpoint, evaluate.metrics, index, output and the places "
              "of files can "
              "change; for anything else start a new run");
}

RunResult run_in(const Context& ctx, const Config& config, const DataReport& found,
                 const RunFolder& partial, const RunFolder& target, RunObserver& observer,
                 const std::stop_token& stop, const Config* before = nullptr) {
  ModelData data =
      load_model_data(config, found, [&](const std::string& line) { observer.note(line); });
  malloc_trim(0);  // what reading took goes back before the tables come
  observer.data(config, data);
  write_environment(partial, ctx, config, data);
  MetricsLog log(partial.metrics());
  LoggingObserver logging(observer, log);
  Model model(ctx, config, std::move(data), partial.checkpoints());
  Trainer& trainer = *model.trainer();
  observer.plan(model.networks().registry().bytes(), trainer.workspace_bytes());
  if (trainer.restore(logging)) {
    if (before != nullptr) check_same_training(*before, config, trainer.epochs_done());
    log.load(trainer.epochs_done());
  } else {
    refuse_lost_checkpoints(partial);
  }
  write_file(partial.config(), to_toml(config));  // only now: it fits the checkpoint
  if (model.fit(config.train.epochs, logging, stop) == TrainOutcome::stopped) {
    RunResult result;
    result.outcome = TrainOutcome::stopped;
    result.epochs = trainer.epochs_done();
    return result;
  }
  return finish(model, partial, target, log, observer);
}

/// Removes a partial run that has nothing worth keeping beyond these checkpoints; called while an error
/// is on its way.
void drop_if_no_more_than(const std::vector<std::string>& checkpoints,
                          const RunFolder& partial) noexcept {
  std::error_code ignored;
  if (checkpoint_names(partial) == checkpoints) fs::remove_all(partial.root, ignored);
}

/// A path whose last part is the folder's own name: no trailing slash, not "." or "..", not a link.
fs::path plain_path(const fs::path& path) {
  fs::path plain = path.lexically_normal();
  if (!plain.has_filename()) plain = plain.parent_path();
  std::error_code error;
  if (fs::is_symlink(plain, error)) plain = fs::weakly_canonical(plain, error);
  if (plain == "." || plain.filename() == "..") plain = fs::absolute(plain).lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

/// What a new run would replace must be a run and nothing else: other things are not ours to remove.
void check_replaceable(const RunFolder& run) {
  static const std::set<std::string> kOurs{"config.toml", "model.safetensors", "metrics.jsonl",
                                           "env.json",    "test.safetensors",  "checkpoints",
                                           "report.html"};
  const fs::path& folder = run.root;
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  if (!fs::is_directory(folder, error)) {
    throw Error(ExitCode::io, folder.string(), "is a file, not a folder for a run");
  }
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (kOurs.contains(name) || name.find(".partial-") != std::string::npos) continue;
    throw Error(ExitCode::io, folder.string(),
                fmt::format("is not replaced: \"{}\" in it is no part of a run", name),
                "name another folder with --out");
  }
}

/// A finished run trained further: its files are copied, and it stays until the new one is complete.
void copy_run(const RunFolder& from, const RunFolder& to) {
  if (!fs::exists(from.root)) throw Error(ExitCode::io, from.root.string(), "no such run");
  if (!fs::exists(from.config()) || !fs::exists(from.checkpoints())) {
    throw Error(ExitCode::bad_model, from.root.string(),
                "not a run with checkpoints to go on with");
  }
  make_directory(to.root);
  std::error_code error;
  fs::copy(from.checkpoints(), to.checkpoints(), fs::copy_options::recursive, error);
  for (const auto& [file, copy] :
       {std::pair{from.config(), to.config()}, std::pair{from.metrics(), to.metrics()}}) {
    if (!error) fs::copy_file(file, copy, error);
  }
  if (!error) return;
  std::error_code ignored;
  fs::remove_all(to.root, ignored);
  throw Error(ExitCode::io, to.root.string(), error.message());
}

/// Bytes that came through a pipe are gone.
void check_data_is_there(const Config& config, const fs::path& root) {
  for (const std::string& file : config.data.interactions) {
    if (file != "-") continue;
    throw Error(ExitCode::usage, root.string(),
                "was trained from standard input, which cannot be read again",
                "save the same data as a file and add data.interactions=FILE");
  }
}

}  // namespace

RunFolder RunFolder::partial() const {
  return {plain_path(root).string() + ".partial"};
}

RunResult train_run(const Context& ctx, Config config, const fs::path& root, RunObserver& observer,
                    const std::stop_token& stop) {
  DataReport report;
  check_config(config);  // contradictions are told before any data is read
  resolve_config(config, &report);
  check_config(config);
  const RunFolder target{plain_path(root)}, partial = target.partial();
  check_replaceable(target);
  check_replaceable(partial);
  if (fs::exists(partial.root)) {
    observer.note("an unfinished run in " + partial.root.string() + " is replaced");
    remove_tree(partial.root);
  }
  make_directory(partial.root);
  try {
    write_file(partial.config(), to_toml(config));
    return run_in(ctx, config, report, partial, target, observer, stop);
  } catch (...) {
    drop_if_no_more_than({}, partial);
    throw;
  }
}

RunResult resume_run(const Context& ctx, const fs::path& root,
                     const std::vector<std::string>& overrides, RunObserver& observer,
                     const std::stop_token& stop) {
  const RunFolder target{plain_path(root)}, partial = target.partial();
  const bool interrupted = fs::exists(partial.root);
  if (interrupted && !fs::exists(partial.config())) {
    throw Error(ExitCode::bad_model, partial.root.string(),
                "an interrupted run without its config.toml");
  }
  try {
    if (!interrupted) {  // the copy appears as a whole: half of one would be no run to go on with
      const fs::path staged = staging_path(partial.root);
      copy_run(target, {staged});
      rename_durably(staged, partial.root);
    }
    Config config = load_config(partial.config().string(), overrides);
    check_data_is_there(config, root);
    DataReport report;
    resolve_config(config, &report);
    check_config(config);
    Config before = load_config(partial.config().string(), {});
    before.data.checked_weight = config.data.checked_weight;
    return run_in(ctx, config, report, partial, target, observer, stop, &before);
  } catch (...) {
    if (!interrupted) drop_if_no_more_than(checkpoint_names(target), partial);
    throw;
  }
}

std::string to_json(const Evaluation& e) {
  Json out;
  out["event"] = "evaluate";
  out["users"] = e.users;
  out["items"] = e.items;
  out["test_rows"] = e.test_rows;
  out["dropped_pairs"] = e.dropped_pairs;
  out["exclude_seen"] = e.exclude_seen;
  out["device"] = e.device;
  out["metrics"] = metrics_json(e.metrics);
  out["baselines"] = Json::object();
  if (!e.popularity.empty()) out["baselines"]["popularity"] = metrics_json(e.popularity);
  if (!e.random.empty()) out["baselines"]["random"] = metrics_json(e.random);
  out["seconds"] = e.seconds;
  return out.dump();
}

std::string to_json(const EpochReport& r) {
  Json out;
  out["event"] = "epoch";
  out["epoch"] = r.epoch;
  out["steps"] = r.steps;
  out["examples"] = r.examples;
  out["loss_mean"] = finite(r.loss_mean);
  if (r.validation) {
    out["validation"] = finite(*r.validation);
    out["best"] = r.best;
  }
  out["seconds"] = r.seconds;
  return out.dump();
}

BuildInfo build_info() {
  return {kVersion, kCommit, "g++ " __VERSION__};
}

}  // namespace belfry
