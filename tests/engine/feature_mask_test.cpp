// SPDX-License-Identifier: Apache-2.0
// A value that stands for none: no token, no row, a vector of zeros, and no gradient.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/hashing.hpp"
#include "engine/model_file.hpp"
#include "engine/trainer.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

using Rows = std::vector<std::int32_t>;

class FeatureMask : public ::testing::Test {
 protected:
  FeatureMask() {
    folder.write("r.csv", "user,item,device\na,1,tv\na,2,0\nb,1,0\nb,3,web\nc,2,tv\n");
    folder.write("m.csv", "item,genres,place\n1,x|0|y,here\n2,0,\n3,y,there\n");
  }
  /// Towers of the ids and of `more` features, whose names are given by side.
  Loaded load(const std::string& more, const std::string& query,
              const std::string& candidate) const {
    const auto tower = [](const std::string& name, const std::string& inputs) {
      return "[[network]]\nname = \"" + name + "\"\ninputs = [" + inputs +
             "]\nlayers = [{ kind = \"mlp\", units = [4] }]\n";
    };
    return folder.load(
        "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\n[train]\nepochs = 3\n"
        "batch_size = 2\nearly_stop = false\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.5\n" +
        more +
        "[[feature]]\nname = \"user\"\nof = \"query\"\ndim = 4\n"
        "[[feature]]\nname = \"item\"\nof = \"candidate\"\ndim = 4\n" +
        tower("query", "\"user\"" + query) + tower("candidate", "\"item\"" + candidate));
  }
  static const FeatureData& feature(const ModelData& data, const std::string& name) {
    return *std::find_if(data.features.begin(), data.features.end(),
                         [&](const FeatureData& f) { return f.config.name == name; });
  }
  static std::vector<Rows> lists(const FeatureValues& v) {
    std::vector<Rows> out;
    for (std::size_t i = 0; i < v.begin.size(); ++i) {
      out.emplace_back(v.rows.begin() + v.begin[i], v.rows.begin() + v.end[i]);
    }
    return out;
  }
  static const TableData& table(const ModelData& data, const std::string& name) {
    return data.tables[static_cast<std::size_t>(feature(data, name).table)];
  }
  ModelFolder folder;
};

const std::string kDevice =
    "[[feature]]\nname = \"device\"\nof = \"query\"\nkind = \"category\"\ndim = 3\nmask = \"0\"\n";

TEST_F(FeatureMask, ACategoryHasNoneOrOne) {
  const ModelData data = load(kDevice, ", \"device\"", "").data;
  const Vocabulary& v = table(data, "device").vocabulary;
  EXPECT_EQ(v.all_tokens(), (std::vector<std::string>{"tv", "web"}));
  EXPECT_EQ(v.rows(), 3);  // one for what training never saw
  const auto row = [&](const char* token) { return static_cast<std::int32_t>(*v.row(token)); };
  EXPECT_EQ(lists(data.train.context.at(0)),
            (std::vector<Rows>{{row("tv")}, {}, {}, {row("web")}, {row("tv")}}));
  const std::size_t f = static_cast<std::size_t>(&feature(data, "device") - data.features.data());
  EXPECT_EQ(lists(value_of_text(data, f, "0")), std::vector<Rows>{{}});
  EXPECT_EQ(lists(value_of_text(data, f, "radio")), std::vector<Rows>{{0}});
}

TEST_F(FeatureMask, HashedAndListsLeaveItOut) {
  const ModelData data =
      load(
          "[[feature]]\nname = \"place\"\nof = \"candidate\"\nkind = \"hashed\"\nbuckets = 5\n"
          "mask = \"\"\ndim = 3\n"
          "[[feature]]\nname = \"genres\"\nof = \"candidate\"\nkind = \"list\"\nmask = \"0\"\n"
          "dim = 3\n",
          "", ", \"place\", \"genres\"")
          .data;
  HashingOptions five;
  five.bins = 5;
  const Hashing hashing(five);
  const auto bucket = [&](const char* text) {
    return static_cast<std::int32_t>(hashing.bucket(text));
  };
  const auto at = [&](const char* item) {
    return static_cast<std::size_t>(*data.items.token_index(item));
  };
  const std::vector<Rows> places = lists(feature(data, "place").values);
  EXPECT_EQ(places[at("1")], Rows{bucket("here")});
  EXPECT_EQ(places[at("2")], Rows{});
  EXPECT_EQ(places[at("3")], Rows{bucket("there")});
  EXPECT_EQ(table(data, "genres").vocabulary.all_tokens(), (std::vector<std::string>{"y", "x"}));
  const std::vector<Rows> genres = lists(feature(data, "genres").values);
  EXPECT_EQ(genres[at("1")], (Rows{2, 1}));  // x, y: the most frequent has the first row
  EXPECT_EQ(genres[at("2")], Rows{});
  EXPECT_EQ(genres[at("3")], Rows{1});
}

TEST_F(FeatureMask, ItsVectorIsZeroAndNothingIsLearntOfIt) {
  const auto [config, data] = load(kDevice, ", \"device\"", "");
  const Context ctx = make_context(2);
  const TempFolder checkpoints;
  Trainer trainer(ctx, config, data, checkpoints.path());
  ParameterRegistry& registry = trainer.model().registry();
  const int device = registry.find("device.embedding"), kernel = registry.find("query.0.kernel");
  const std::vector<float> before = host_values(registry.at(device).value);
  // Each element of the input has a gradient.
  set_values(registry.at(kernel).value,
             std::vector<float>(static_cast<std::size_t>(registry.at(kernel).value.size()), 0.25f));
  Recorder recorder;
  EXPECT_EQ(trainer.run(recorder, {}), TrainOutcome::finished);
  const std::vector<float> after = host_values(registry.at(device).value);
  // The row of the unknown, which the masked value would have without a mask, has never moved.
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 3, after.begin()));
  EXPECT_FALSE(std::equal(before.begin() + 3, before.end(), after.begin() + 3));
  // A query with the mask is that of a table of zeros.
  const QueryRows masked = queries_of_answers(data, {0}, {value_of_text(data, 0, "0")});
  const QueryRows seen = queries_of_answers(data, {0}, {value_of_text(data, 0, "tv")});
  const auto encoded = [&](const QueryRows& rows) {
    Buffer<float> out(ctx.backend(), trainer.model().width());
    trainer.model().encode_queries(ctx, rows, 0, out.matrix(1, trainer.model().width()));
    ctx.synchronise();
    return host_values(out);
  };
  const std::vector<float> with_mask = encoded(masked), with_tv = encoded(seen);
  set_values(registry.at(device).value, std::vector<float>(after.size(), 0.0f));
  EXPECT_EQ(encoded(seen), with_mask);
  EXPECT_NE(with_tv, with_mask);
}

TEST_F(FeatureMask, AModelFileKeepsIt) {
  const auto [config, data] = load(kDevice, ", \"device\"", "");
  const Context ctx = make_context(1);
  TowerNetworks towers(ctx, config, data, 4, 4, false);
  towers.commit(ctx);
  towers.registry().initialise(ctx, 3);
  const auto index = build_index(ctx, towers, data);
  const ItemLists seen = items_by_user(data.user_count(), data.item_count(), {&data.train});
  write_model_file(ctx, folder.path("model"), config, data, seen, towers, index.get());
  const auto model = load_model_file(ctx, folder.path("model"));
  EXPECT_EQ(model->data.last_context, data.last_context);
  EXPECT_EQ(lists(value_of_text(model->data, 0, "0")), std::vector<Rows>{{}});
}

}  // namespace
}  // namespace belfry::test
