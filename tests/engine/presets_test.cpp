// SPDX-License-Identifier: Apache-2.0
// The model files of `belfry init`: valid, explained, and they train and answer on MovieLens-shaped data.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "engine/config_toml.hpp"
#include "engine/model_file.hpp"
#include "engine/recommender.hpp"
#include "engine/run.hpp"
#include "engine/synthesize.hpp"
#include "tests/support/small_model.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

Config parse(const std::string& text) {
  return parse_config(text, "m.toml", {});
}

TEST(Presets, AreValidAndExplained) {
  std::vector<std::string> names;
  for (const PresetFile& preset : preset_files()) {
    SCOPED_TRACE(preset.name);
    names.push_back(preset.name);
    EXPECT_NE(preset.text.find("\n# "), std::string::npos);
    EXPECT_FALSE(preset.summary.empty());
    const Config c = parse(preset.text);
    check_config(c);
    EXPECT_EQ(parse(to_toml(c)), c);
    for (std::size_t at = 0; at < preset.text.size();) {
      const std::size_t end = preset.text.find('\n', at);
      EXPECT_LE(end - at, 130u) << preset.text.substr(at, end - at);
      at = end + 1;
    }
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"quickstart", "deep-retrieval", "basic-ranking", "multitask",
                                      "context-features", "dcn", "dlrm", "unified-embedding",
                                      "listwise", "sequential", "efficient-serving",
                                      "basic-retrieval", "tfrs-quickstart", "defaults"}));
}

TEST(Presets, DefaultsSaysWhatTheDefaultsAre) {
  const std::string& text = preset_files().back().text;
  Config expected = default_config("");
  expected.data.interactions = {"ratings.csv"};
  EXPECT_EQ(parse(text), expected);
  for (const char* key :
       {"#momentum = 0.0", "#[[feature]]", "#dim = 64", "#init = { kind", "temperature = 0.15",
        "early_stop = { metric = \"ndcg@20\", patience = 3 }",
        "#layers = [{ kind = \"mlp\", units = [64, 32]", "#time = \"timestamp\""}) {
    EXPECT_NE(text.find(std::string("\n") + key), std::string::npos) << key;
  }
}

/// ratings.csv and movies.csv, with titles and genres.
const TempFolder& movielens() {
  static const TempFolder folder;
  static const bool written = [] {
    SynthesisOptions options;
    options.users = 60;
    options.items = 40;
    options.ratings = 1200;
    options.clusters = 4;
    const SyntheticRatings r = synthesize(options);
    write_ratings_csv(r, folder.path() / "ratings.csv", false);
    std::ofstream movies(folder.path() / "movies.csv");
    movies << "movieId,title,genres\n";
    for (std::int64_t i = 0; i < options.items; ++i) {
      const std::int32_t c = r.item_cluster[static_cast<std::size_t>(i)];
      movies << i + 1 << ",\"Story, of " << i << " (19" << 50 + i << ")\",Genre" << c << "|Genre"
             << i % 3 << "\n";
    }
    return true;
  }();
  EXPECT_TRUE(written);
  return folder;
}

TEST(Presets, TrainAndAnswer) {
  for (const PresetFile& preset : preset_files()) {
    if (preset.name == "defaults") continue;
    SCOPED_TRACE(preset.name);
    Config config = parse_config(preset.text, "m.toml", {"train.epochs=2", "train.batch_size=256"});
    config.data.interactions = {(movielens().path() / "ratings.csv").string()};
    if (!config.data.items.empty())
      config.data.items = (movielens().path() / "movies.csv").string();
    const TempFolder out;
    const Context ctx(Backend::cpu, 2);
    Recorder recorder;
    const std::string root = (out.path() / "run").string();
    const RunResult result = train_run(ctx, config, root, recorder, {});
    EXPECT_EQ(result.epochs, 2);
    if (result.evaluation) {
      EXPECT_FALSE(result.evaluation->metrics.empty());
      for (const auto& [name, value] : result.evaluation->metrics) {
        EXPECT_TRUE(std::isfinite(value)) << name;
      }
    }
    const auto model = load_model_file(ctx, RunFolder{root}.model());
    Recommender recommender(ctx, *model, {});
    recommender.recommend({0, 1}, 5, {}, [](std::int64_t, auto items, auto scores) {
      EXPECT_EQ(items.size(), 5u);
      EXPECT_EQ(std::set<std::int32_t>(items.begin(), items.end()).size(), 5u);
      EXPECT_TRUE(std::is_sorted(scores.rbegin(), scores.rend()));
    });
  }
}

TEST(Presets, DefaultsShowTheKeysOfLayersToo) {
  const std::string& text = preset_files().back().text;
  ASSERT_EQ(preset_files().back().name, "defaults");
  for (const char* key : {"num_heads", "key_dim", "kernel_init", "projection_dim", "rate",
                          "l1_regularization_strength"}) {
    EXPECT_NE(text.find("\n#" + std::string(key) + " = "), std::string::npos) << key;
  }
}

}  // namespace
}  // namespace belfry::test
