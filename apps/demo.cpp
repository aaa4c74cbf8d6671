// SPDX-License-Identifier: Apache-2.0
// belfry demo, init: the first minute.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/common.hpp"
#include "apps/progress.hpp"
#include "engine/config_toml.hpp"
#include "engine/file_io.hpp"
#include "engine/model_file.hpp"
#include "engine/nearest.hpp"
#include "engine/recommender.hpp"
#include "engine/run.hpp"
#include "engine/synthesize.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string out = "runs/demo", preset;
  bool list = false;
};

void show_user(const Options& o, const Context& ctx, const std::string& user) {
  const auto model = load_model_file(ctx, RunFolder{o.out}.model());
  const auto number = model->data.users.token_index(user);
  if (!number) return;
  result(fmt::format("recommendations for {}:", user));
  Recommender recommender(ctx, *model, {});
  recommender.recommend({static_cast<std::int32_t>(*number)}, 5, {},
                        [&](std::int64_t, auto rows, auto scores) {
                          for (std::size_t r = 0; r < rows.size(); ++r) {
                            result(fmt::format("{:>5}  {:>8.4f}  {}", r + 1, scores[r],
                                               model->data.items.token(rows[r])));
                          }
                        });
}

/// Made-up ratings with planted tastes -> train -> evaluate -> recommend, all by the public path.
int demo(const Options& o) {
  const std::stop_token stop = stop_on_signals();
  const auto ctx = make_context(o.common);
  SynthesisOptions synthesis;
  if (!o.common.seed.empty()) synthesis.seed = parse_seed(o.common.seed);
  const std::string data = o.out + "-data/ratings.csv";
  make_directory(o.out + "-data");
  inform(
      o.common,
      fmt::format("making {} ratings of {} users and {} items in {} planted taste clusters: {}",
                  synthesis.ratings, synthesis.users, synthesis.items, synthesis.clusters, data));
  write_ratings_csv(synthesize(synthesis), data);
  const Config config = config_for_data(data, with_seed(o.common, {}));
  TrainProgress progress(o.common);
  const RunResult r = train_run(*ctx, config, o.out, progress, stop);
  if (r.outcome == TrainOutcome::stopped) {
    inform(o.common, "stopped by a signal; go on with: belfry resume " + o.out);
    return static_cast<int>(ExitCode::stopped);
  }
  if (o.common.json) {
    result(
        nlohmann::ordered_json{{"event", "done"}, {"run", o.out}, {"model_sha256", r.model_sha256}}
            .dump());
    return 0;
  }
  show_user(o, *ctx, "user_42");
  result(
      fmt::format("\nthe run lies in {}; go on with\n  belfry recommend {} --user user_42 -k 10\n  "
                  "belfry recommend {} --all -k 100 -o recs.csv\n  belfry train YOUR-RATINGS.csv",
                  o.out, o.out, o.out));
  return 0;
}

int init(const Options& o) {
  std::vector<std::string> names;
  for (const PresetFile& p : preset_files()) {
    names.push_back(p.name);
    if (o.list) result(fmt::format("{:<18} {}", p.name, p.summary));
  }
  if (o.list) return 0;
  const std::string name = o.preset.empty() ? "quickstart" : o.preset;
  for (const PresetFile& p : preset_files()) {
    if (p.name != name) continue;
    std::string text = p.text;
    if (!text.empty() && text.back() == '\n') text.pop_back();
    result(text);
    return 0;
  }
  throw Error(ExitCode::usage, "init", fmt::format("no preset is named \"{}\"", name),
              nearest_hint(name, names));
}

}  // namespace

void add_demo(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand(
      "demo", "made-up ratings -> train -> evaluate -> recommend, in under a minute");
  auto o = std::make_shared<Options>();
  verb->add_option("--out", o->out, "run folder")->capture_default_str();
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry demo --out runs/demo --seed 7");
  verb->callback([o, &action] { action = [o] { return demo(*o); }; });
}

void add_init(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("init", "a commented model file on stdout");
  auto o = std::make_shared<Options>();
  verb->add_option("preset", o->preset, "name of a preset (default quickstart)");
  verb->add_flag("--list", o->list, "names of the presets");
  verb->footer("Example: belfry init quickstart > model.toml");
  verb->callback([o, &action] { action = [o] { return init(*o); }; });
}

}  // namespace belfry::app
