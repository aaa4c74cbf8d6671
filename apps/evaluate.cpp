// SPDX-License-Identifier: Apache-2.0
// belfry evaluate
#include <filesystem>

#include "apps/common.hpp"
#include "engine/config_toml.hpp"
#include "engine/model.hpp"
#include "engine/run.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string run, test;
};

/// The test part: a file given, or what the run held out.
Interactions test_part(const Options& o, const ModelData& data) {
  namespace fs = std::filesystem;
  std::error_code error;  // the model may be named by itself
  const RunFolder folder{fs::is_directory(o.run, error) ? fs::path(o.run)
                                                        : fs::path(o.run).parent_path()};
  if (!o.test.empty()) {
    const std::vector<std::string> no_overrides;
    return load_test_file(load_config(folder.config().string(), no_overrides), o.test, data);
  }
  if (!fs::exists(folder.test())) {
    throw Error(ExitCode::usage, o.run, "the run has no test part", "--test FILE names one");
  }
  return load_test_part(folder.test(), data);
}

int evaluate_run(const Options& o) {
  const std::string path = model_path(o.run);
  const auto ctx = make_context(o.common);
  Model model(*ctx, path);
  const Interactions test = test_part(o, model.data());
  const std::uint64_t seed =
      o.common.seed.empty() ? model.config().train.seed : parse_seed(o.common.seed);
  const Evaluation e = model.evaluate(test, seed);
  result(o.common.json ? to_json(e) : metrics_table(e));
  return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand(
      "evaluate", "metrics of a run on its test part, beside the popularity and random baselines");
  auto o = std::make_shared<Options>();
  verb->add_option("run", o->run, "RUN folder")->required();
  verb->add_option("--test", o->test, "test file in the form of the training data");
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry evaluate runs/ratings --json");
  verb->callback([o, &action] { action = [o] { return evaluate_run(*o); }; });
}

}  // namespace belfry::app
