// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/config_toml.hpp"
#include "engine/error.hpp"

namespace belfry {
namespace {

using Overrides = std::vector<std::string>;

constexpr const char* kFile = R"([data]
interactions = "r.csv"
[[feature]]
name = "user_id"
of = "query"
[[feature]]
name = "movie"
of = "candidate"
[[network]]
name = "query"
inputs = ["user_id"]
layers = [{ kind = "mlp", units = [64] }]
[optimizer]
kind = "adagrad"
initial_accumulator_value = 0.5
[[optimizer.group]]
match = "*.bias"
[train]
epochs = 3
early_stop = false
[split]
method = "random"
test = 0.2
)";

Config with(const Overrides& overrides, const char* file = kFile) {
  return parse_config(file, "m.toml", overrides);
}

std::string refusal(const Overrides& overrides, const char* file = kFile) {
  try {
    check_config(with(overrides, file));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    return e.what();
  }
  return "accepted";
}

TEST(ConfigOverrides, ReachEveryKindOfKey) {
  EXPECT_EQ(with({"train.epochs=10"}).train.epochs, 10);
  EXPECT_EQ(with({"train.epochs=10", "train.epochs=11"}).train.epochs, 11);
  EXPECT_EQ(with({"name=x", "index.k=5"}).index.k, 5);  // an absent section
  EXPECT_EQ(with({"feature.user_id.dim=32"}).features[0].dim, 32);
  EXPECT_EQ(with({"feature.1.dim=16"}).features[1].dim, 16);
  EXPECT_EQ(with({"network.query.layers.0.units=[8, 4]"}).networks[0].layers[0].units,
            (std::vector<std::int64_t>{8, 4}));
  EXPECT_EQ(with({"optimizer.group.0.learning_rate=2"}).optimizer.groups[0].learning_rate, 2);
  EXPECT_EQ(with({"train.early_stop.patience=7"}).train.early_stop, (EarlyStop{"ndcg@20", 7}));
  EXPECT_EQ(with({"train.early_stop={ patience = 8 }"}).train.early_stop,
            (EarlyStop{"ndcg@20", 8}));
  EXPECT_EQ(with({"task.temperature=0.1"}).tasks[0].temperature, 0.1);
  EXPECT_EQ(with({"task.0.temperature=0.1"}).tasks[0].temperature, 0.1);
  EXPECT_EQ(with({"task.negatives.uniform=9"}).tasks[0].negatives, (NegativesConfig{true, 9, 0}));
  EXPECT_EQ(with({"task.temperature=0.1"}, "[[task]]\nweight = 2\n").tasks[0].weight, 2);
  EXPECT_EQ(with({"task.1.weight=3"}, "[[task]]\n[[task]]\n").tasks[1].weight, 3);
}

TEST(ConfigOverrides, ValuesAreTomlOrWords) {
  EXPECT_EQ(with({"data.where=rating >= 4"}).data.where, "rating >= 4");
  EXPECT_EQ(with({"data.user=\"quoted = text\""}).data.user, "quoted = text");
  EXPECT_EQ(with({"data.user=a=b"}).data.user, "a=b");
  EXPECT_EQ(with({"data.user="}).data.user, "");
  EXPECT_EQ(with({"data.user=2024"}).data.user, "2024");  // a column may be named by a number
  EXPECT_EQ(with({"data.user=a\nepochs = 3"}).data.user, "a\nepochs = 3");
  EXPECT_EQ(with({"data.user='a'\nother = 3"}).data.user, "'a'\nother = 3");  // one key a word
  EXPECT_EQ(with({"task.loss=in-batch-softmax"}).tasks[0].loss, RetrievalLoss::in_batch_softmax);
  EXPECT_EQ(with({"evaluate.metrics=recall@5,mrr"}).evaluate.metrics,
            (std::vector<std::string>{"recall@5", "mrr"}));
  EXPECT_EQ(with({"evaluate.metrics=[\"mrr\"]"}).evaluate.metrics,
            (std::vector<std::string>{"mrr"}));
  EXPECT_EQ(with({"data.interactions=[\"a\", \"b\"]"}).data.interactions.size(), 2u);
  EXPECT_EQ(with({"split.test=5"}).split.test, (Amount{5, false}));
}

TEST(ConfigOverrides, ErrorsSayCommandLine) {
  EXPECT_EQ(refusal({"train.epocs=3"}),
            "command line: unknown key \"epocs\" in [train]; did you mean \"epochs\"?");
  EXPECT_EQ(refusal({"trian.epochs=3"}),
            "command line: unknown key \"trian\"; did you mean \"train\"?");
  EXPECT_EQ(refusal({"train.epochs=0"}),
            "command line: \"epochs\" in [train] must be at least 1, not 0");
  EXPECT_EQ(refusal({"train.epochs=many"}),
            "command line: \"epochs\" in [train] must be an integer, not the string \"many\"");
  EXPECT_EQ(refusal({"train.epochs.x=1"}),
            "command line: \"epochs\" in [train] must be an integer, not a table");
  EXPECT_EQ(refusal({"optimizer.kind=adan"}),
            "command line: unknown optimizer kind \"adan\"; did you mean \"adam\"?");
  EXPECT_EQ(refusal({"evaluate.metrics=mrr,recal@5"}),
            "command line: unknown metric \"recal@5\"; did you mean \"recall@5\"?");
  EXPECT_EQ(refusal({"network.query.inputs=[\"user_idd\"]"}),
            "command line: network \"query\" has an unknown input \"user_idd\"; did you mean "
            "\"user_id\"?");
  EXPECT_EQ(refusal({"feature.user_idd.dim=3"}),
            "command line: there is no feature \"user_idd\"; did you mean \"user_id\"?");
  EXPECT_EQ(refusal({"feature.2.dim=3"}).substr(0, 36), "command line: there is no feature \"2");
  EXPECT_EQ(refusal({"task.1.weight=3"}, "[[task]]\n").substr(0, 36),
            "command line: unknown key \"1\" in [[t");
  EXPECT_EQ(refusal({"feature.user_id=3"}),
            "command line: \"user_id\" is a whole table; name one of its keys");
  EXPECT_EQ(refusal({"network.query.inputs.0=x"}),
            "command line: \"inputs\" is a list; give the whole list");
  EXPECT_EQ(refusal({"epochs"}), "command line: \"epochs\" is not of the form key=value");
  EXPECT_EQ(refusal({"=3"}), "command line: \"=3\" is not of the form key=value");
  EXPECT_EQ(refusal({"train..epochs=3"}), "command line: \"train..epochs\" is not a dotted key");
  EXPECT_EQ(refusal({"preset=tfsr"}),
            "command line: unknown preset \"tfsr\"; did you mean \"tfrs\"?");
}

TEST(ConfigOverrides, AnotherKindLeavesItsOldKeysBehind) {
  const Config adam = with({"optimizer.kind=adam"});  // initial_accumulator_value is adagrad's
  EXPECT_EQ(adam.optimizer.main.options.kind, OptimizerKind::adam);
  EXPECT_EQ(adam.optimizer.main.learning_rate, 0.01);
  const Config file = with({"split.method=file", "data.test=t.csv"});
  EXPECT_FALSE(file.split.test);
  check_config(file);
  EXPECT_EQ(refusal({"data.test=t.csv"}).substr(0, 13), "command line:");
  EXPECT_EQ(
      refusal({"optimizer.kind=adam", "optimizer.momentum=0.5"}),
      "command line: \"momentum\" in [optimizer] has no meaning here; it needs kind = \"sgd\" or "
      "\"rmsprop\"");
}

TEST(ConfigOverrides, DataWithoutAModelFile) {
  const Config c = config_for_data("some/ratings.csv.gz", {});
  EXPECT_EQ(c.name, "ratings");
  EXPECT_EQ(c.data.interactions,
            (std::vector<std::string>{
                (std::filesystem::current_path() / "some/ratings.csv.gz").string()}));
  EXPECT_EQ(c.split.method, SplitMethod::random);
  EXPECT_EQ(c.split.test, (Amount{0.1, true}));
  check_config(c);
  EXPECT_EQ(parse_config(to_toml(c), "config.toml", {}), c);

  EXPECT_EQ(config_for_data("-", {}).data.interactions, (std::vector<std::string>{"-"}));
  EXPECT_EQ(config_for_data("-", {}).name, "stdin");
  EXPECT_EQ(config_for_data("u.data", {"name=mine"}).name, "mine");
  EXPECT_EQ(config_for_data("a.csv", {"preset=tfrs"}).train.batch_size, 8192);
  EXPECT_EQ(config_for_data("a.csv", {"split.seed=7"}).split.test, (Amount{0.1, true}));
  EXPECT_EQ(config_for_data("a.csv", {"data.test=b.csv"}).split.method, SplitMethod::file);
  const Config none = config_for_data("a.csv", {"split.method=none"});
  EXPECT_EQ(none.split.method, SplitMethod::none);
  EXPECT_FALSE(none.split.test);
  EXPECT_THROW(config_for_data("a.csv", {"train.epocs=3"}), Error);
}

}  // namespace
}  // namespace belfry
