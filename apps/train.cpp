// SPDX-License-Identifier: Apache-2.0
// belfry train, resume, validate.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/common.hpp"
#include "apps/progress.hpp"
#include "engine/config_toml.hpp"
#include "engine/run.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string input, out;
  std::vector<std::string> overrides;
};

/// A model file by its ending; anything else is data.
Config read_config(const Options& o) {
  const std::vector<std::string> overrides = with_seed(o.common, o.overrides);
  std::error_code error;
  if (std::filesystem::is_directory(o.input, error))
    throw Error(ExitCode::io, o.input, "is a folder, not a file");
  const bool model_file = std::filesystem::path(o.input).extension() == ".toml";
  if (model_file) return load_config(o.input, overrides);
  const Config config = config_for_data(o.input, overrides);
  const bool held_out = config.split.method == SplitMethod::random;
  if (held_out)
    inform(o.common, "no model file: 10 % of the rows are held out at random for the evaluation");
  return config;
}

std::string run_folder(const Options& o, const Config& config) {
  if (!o.out.empty()) return o.out;
  if (!config.output.dir.empty()) return config.output.dir;
  return "runs/" + (config.name.empty() ? "model" : config.name);
}

int report(const Options& o, const RunResult& r, const std::string& root) {
  if (r.outcome == TrainOutcome::stopped) {
    inform(o.common,
           fmt::format("stopped by a signal; a checkpoint is saved. Go on with: belfry resume {}",
                       root));
    return static_cast<int>(ExitCode::stopped);
  }
  if (!r.evaluation) {
    inform(o.common,
           "no test part, so nothing was evaluated; data.test=FILE, or split.method=random with "
           "split.test=0.1, gives one");
  }
  if (o.common.json) {
    result(nlohmann::ordered_json{{"event", "done"},
                                  {"run", root},
                                  {"epochs", r.epochs},
                                  {"best_epoch", r.best_epoch},
                                  {"model_sha256", r.model_sha256}}
               .dump());
  } else {
    result(fmt::format("run     {}   model sha256 {}", root, r.model_sha256));
    if (r.best_epoch > 0)
      inform(o.common, fmt::format("        weights of epoch {}, the best on the validation part",
                                   r.best_epoch));
  }
  return 0;
}

int train(const Options& o) {
  const std::stop_token stop = stop_on_signals();
  const auto ctx = make_context(o.common);
  const Config config = read_config(o);
  const std::string root = run_folder(o, config);
  TrainProgress progress(o.common);
  return report(o, train_run(*ctx, config, root, progress, stop), root);
}

int resume(const Options& o) {
  const std::stop_token stop = stop_on_signals();
  const auto ctx = make_context(o.common);
  TrainProgress progress(o.common);
  return report(o, resume_run(*ctx, o.input, with_seed(o.common, o.overrides), progress, stop),
                o.input);
}

/// What training takes of memory beside the data.
ModelSize size_of(const Config& config, const ModelData& data) {
  const TaskConfig* task = retrieval_task(config);
  const std::int64_t extra =
      task != nullptr ? task->negatives.uniform + task->negatives.popularity : 0;
  return model_size(config, data, std::min(config.train.batch_size, data.train.size()), extra);
}

void show_valid(const Options& o, const Config& config, const ModelData& data,
                const ModelSize& size) {
  TrainProgress(o.common).data(config, data);
  for (const FeatureData& f : data.features) {
    if (f.table < 0) {
      result(fmt::format("feature {}   {} {} {}   {} numbers", f.config.name,
                         f.config.of == Side::query ? "query" : "candidate",
                         f.context ? "context column" : "column", f.config.column, f.width));
      continue;
    }
    const TableData& t = data.tables[static_cast<std::size_t>(f.table)];
    result(fmt::format("feature {}   {} {} {}   table {} [{}, {}]", f.config.name,
                       f.config.of == Side::query ? "query" : "candidate",
                       f.context ? "context column" : "column", f.config.column, t.name, t.rows(),
                       t.dim));
  }
  const TaskConfig* task = retrieval_task(config);
  const std::int64_t negatives =
      task != nullptr ? task->negatives.uniform + task->negatives.popularity : 0;
  result(fmt::format("step    {} queries x {} candidates, {} steps an epoch",
                     config.train.batch_size, config.train.batch_size + negatives,
                     (data.train.size() + config.train.batch_size - 1) / config.train.batch_size));
  result(
      fmt::format("memory  parameters and optimizer {:.1f} MiB, activations of a step {:.1f} MiB",
                  static_cast<double>(size.parameter_bytes) / (1 << 20),
                  static_cast<double>(size.workspace_bytes) / (1 << 20)));
  result(o.input + ": valid");
}

/// Schema, columns, joins, shapes, memory: reads the data as training would, and trains nothing.
int validate(const Options& o) {
  make_context(o.common);  // the options are checked, too
  Config config = read_config(o);
  check_config(config);  // contradictions are told before any data is read
  DataReport found;
  resolve_config(config, &found);
  check_config(config);
  const ModelData data = load_model_data(config, found, [](const std::string&) {});
  const ModelSize size = size_of(config, data);
  if (!o.common.json) {
    show_valid(o, config, data, size);
    return 0;
  }
  result(nlohmann::ordered_json{{"event", "valid"},
                                {"schema", found.schema},
                                {"user", found.user},
                                {"item", found.item},
                                {"rows", data.report.rows},
                                {"users", data.user_count()},
                                {"items", data.item_count()},
                                {"parameter_bytes", size.parameter_bytes},
                                {"workspace_bytes", size.workspace_bytes}}
             .dump());
  return 0;
}

void add(CLI::App& app, Action& action, const char* name, const char* what, const char* input,
         const char* input_help, const char* footer, int (*run)(const Options&), bool has_out) {
  CLI::App* verb = app.add_subcommand(name, what);
  auto o = std::make_shared<Options>();
  verb->add_option(input, o->input, input_help)->required();
  verb->add_option("overrides", o->overrides,
                   "key=value: a dotted key of the model file, e.g. train.epochs=10");
  if (has_out) verb->add_option("--out", o->out, "run folder (default runs/NAME)");
  add_common_options(*verb, o->common);
  verb->footer(footer);
  verb->callback([o, run, &action] { action = [o, run] { return run(*o); }; });
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  add(app, action, "train", "train a model from a data file or a model file", "input",
      "DATA (csv, tsv, jsonl, MovieLens, RecBole, adjacency; .gz, .zst; - for stdin) or MODEL.toml",
      "Example: belfry train ratings.csv\n         belfry train model.toml train.epochs=10 --out "
      "runs/ten",
      train, true);
}

void add_resume(CLI::App& app, Action& action) {
  add(app, action, "resume", "go on with an interrupted run, or train a finished one further",
      "run", "RUN folder",
      "Example: belfry resume runs/ratings\n         belfry resume runs/ratings train.epochs=50",
      resume, false);
}

void add_validate(CLI::App& app, Action& action) {
  add(app, action, "validate",
      "check a model file: schema, columns, shapes, memory; trains nothing", "input", "MODEL.toml",
      "Example: belfry validate model.toml optimizer.learning_rate=0.05", validate, false);
}

}  // namespace belfry::app
