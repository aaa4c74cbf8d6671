// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <functional>

#include "engine/config_toml.hpp"
#include "engine/error.hpp"
#include "engine/nearest.hpp"
#include "kernels/core/step_state.hpp"

namespace belfry {
namespace {

std::string refusal(const std::function<Config()>& make) {
  try {
    check_config(make());
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    return e.what();
  }
  return "accepted";
}
std::string refusal(const Config& config) {
  return refusal([&] { return config; });
}
/// Sections start on line 2.
std::string refusal(const std::string& text) {
  return refusal(
      [&] { return parse_config("data.interactions = 'r.csv'\n" + text, "m.toml", {}); });
}

// Lines 2-3 and 4-6.
const std::string kTowers = R"([[feature]]
name = "user"
[[feature]]
name = "movie"
of = "candidate"
)";

struct Case {
  std::string text, message;
};
void expect_refused(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    const std::string message = refusal(c.text);
    EXPECT_EQ(message.substr(0, c.message.size()), c.message) << message;
  }
}

TEST(ConfigCheck, GoodOnesPass) {
  EXPECT_EQ(refusal(""), "accepted");
  EXPECT_EQ(refusal(kTowers), "accepted");
  EXPECT_EQ(refusal("[[feature]]\nname = 'movie'\nof = 'candidate'\ndim = 7\n"), "accepted");
  // A diamond of networks, a tower of its features' concatenation, a shared table.
  EXPECT_EQ(refusal(kTowers + R"(
[[feature]]
name = "genre"
of = "candidate"
kind = "category"
[[feature]]
name = "liked"
kind = "category"
table = "genre"
[[network]]
name = "candidate"
inputs = ["left", "right"]
[[network]]
name = "left"
inputs = ["base"]
[[network]]
name = "right"
inputs = ["base", "genre"]
layers = [{ kind = "mlp", units = [96] }, { kind = "l2-normalize" }]
[[network]]
name = "base"
inputs = ["movie"]
layers = [{ kind = "mlp", units = [200, 32] }]
)"),
            "accepted");
}

TEST(ConfigCheck, HeadsEndTheQueryTower) {
  // Lines 2-8: features of 8 and 4 columns, then a network on line 9.
  const std::string features = R"([[feature]]
name = "user"
dim = 8
[[feature]]
name = "movie"
of = "candidate"
dim = 4
)";
  const auto query = [&](const std::string& layers) {
    return features + "[[network]]\nname = 'query'\ninputs = ['user']\nlayers = [" + layers + "]\n";
  };
  EXPECT_EQ(refusal(query("{ kind = 'heads' }")), "accepted");
  EXPECT_EQ(refusal(query("{ kind = 'mlp', units = [12] }, { kind = 'heads', count = 3 }")),
            "accepted");
  const std::string text = "data.interactions = 'r.csv'\n" +
                           query("{ kind = 'mlp', units = [12] }, { kind = 'heads', count = 3 }");
  const Config config = parse_config(text, "m.toml", {});
  EXPECT_EQ(query_heads(config), 3);
  EXPECT_EQ(parse_config(to_toml(config), "again.toml", {}), config);
  // A network that reads the tower reads all heads.
  EXPECT_EQ(refusal(query("{ kind = 'heads' }") +
                    "[[network]]\nname = 'rating'\ninputs = ['query', 'candidate']\n"
                    "layers = [{ kind = 'mlp', units = [1] }]\n"
                    "[[task]]\n[[task]]\nkind = 'ranking'\nscore = 'rating'\n"),
            "accepted");
  expect_refused({
      {query("{ kind = 'heads', count = 3 }"),
       "m.toml:12:37: the query tower is 8 wide, which 3 heads do not divide"},
      {query("{ kind = 'heads', count = 4 }"),
       "m.toml:12:37: a head of the query tower is 2 wide and the candidate tower 4"},
      {query("{ kind = 'heads' }, { kind = 'l2-normalize' }"),
       "m.toml:12:11: heads must be the last layer of the network"},
      {query("{ kind = 'heads', count = 0 }"),
       "m.toml:12:37: \"count\" in [[network.layers]] must be at"},
      {query("{ kind = 'heads', count = 33 }"),
       "m.toml:12:37: \"count\" in [[network.layers]] must be at"},
      {query("{ kind = 'l2-normalize', count = 2 }"), "m.toml:12:44: \"count\" in "},
      {features + "[[network]]\nname = 'candidate'\ninputs = ['movie']\n"
                  "layers = [{ kind = 'heads' }]\n",
       "m.toml:12:11: only the network \"query\" can end in heads"},
      {query("{ kind = 'heads' }") +
           "[[network]]\nname = 'rating'\ninputs = ['query', 'candidate']\n"
           "layers = [{ kind = 'mlp', units = [1] }]\n"
           "[[task]]\nkind = 'ranking'\nscore = 'rating'\n",
       "m.toml:12:11: heads need a retrieval task"},
  });
}

TEST(ConfigCheck, Data) {
  expect_refused({
      {"data.user = 'a'\ndata.item = 'a'\n", "m.toml:3:13: the user and the item are the same"},
      {"data.items_key = 'a'\n", "m.toml:2:18: \"items_key\" is given without"},
      {"data.users_key = 'a'\n", "m.toml:2:18: \"users_key\" is given without"},
      {"[split]\nmethod = 'file'\n", "m.toml:3:10: split method \"file\" needs a test file"},
      {"data.test = 't.csv'\n[split]\nmethod = 'random'\n",
       "m.toml:2:13: a test file is given, but"},
      {"[split]\nmethod = 'random'\ntrain = 0.7\ntest = 0.4\n",
       "m.toml:5:8: the fractions \"train\" and \"test\" add up to more than 1"},
  });
  EXPECT_EQ(refusal("[split]\nmethod = 'random'\ntrain = 0.7\ntest = 0.3\n"), "accepted");
}

TEST(ConfigCheck, FeaturesAndTables) {
  expect_refused({
      {"[[feature]]\nname = 'a'\n[[feature]]\nname = 'a'\n",
       "m.toml:5:8: two features are named \"a\""},
      {"[[feature]]\nname = 'query'\n", "m.toml:3:8: a feature cannot be named like the tower"},
      {"[[feature]]\nname = 'a.b'\n", "m.toml:3:8: \"a.b\" cannot be a name"},
      {"[[feature]]\nname = ''\n", "m.toml:3:8: \"\" cannot be a name"},
      {"[[feature]]\nname = 'a'\ninit = { kind = 'uniform', low = 1, high = 1 }\n",
       "m.toml:4:34: \"low\" must be less"},
      {"[[feature]]\nname = 'a'\ndim = 8\n[[feature]]\nname = 'b'\ntable = 'a'\ndim = 4\n",
       "m.toml:8:7: table \"a\" is shared by \"a\" with dim 8 and \"b\" with dim 4"},
      {"[[feature]]\nname = 'a'\n[[feature]]\nname = 'b'\ntable = 'a'\noov = 2\n",
       "m.toml:7:7: table \"a\" is shared by \"a\" with oov 1 and \"b\" with oov 2"},
      {"[[feature]]\nname = 'a'\n[[feature]]\nname = 'b'\ntable = 'a'\nvocabulary = 'v.txt'\n",
       "m.toml:7:14: table \"a\" is shared by \"a\" with a vocabulary of its own and \"b\" with "
       "another"},
      {"[[feature]]\nname = 'a'\n[[feature]]\nname = 'b'\ntable = 'a'\nkind = 'category'\n",
       "m.toml:7:8: table \"a\" is shared"},
      {"[[feature]]\nname = 'a'\n[[feature]]\nname = 'b'\ntable = 'a'\nof = 'candidate'\n",
       "m.toml:6:9: table \"a\" is shared by \"a\" with ids of the query side and \"b\" with ids "
       "of"},
      {"[[feature]]\nname = 'a'\ninit = { kind = 'ones' }\n[[feature]]\nname = 'b'\ntable = 'a'\n"
       "init = { kind = 'zeros' }\n",
       "m.toml:8:8: table \"a\" is shared"},
      {"[[feature]]\nname = 'a'\n[[feature]]\nname = 'b'\ntable = 'a'\ninit = { kind = 'zeros' }\n",
       "m.toml:7:8: table \"a\" is shared"},
  });
}

TEST(ConfigCheck, Networks) {
  expect_refused({
      {kTowers + "[[network]]\nname = 'query'\ninputs = ['usr']\n",
       "m.toml:9:11: network \"query\" has an unknown input \"usr\"; did you mean \"user\"?"},
      {kTowers + "[[network]]\nname = 'query'\ninputs = ['user', 'user']\n",
       "m.toml:9:19: network \"query\" names its input \"user\" twice"},
      {kTowers + "[[network]]\nname = 'query'\n", "m.toml:7:1: network \"query\" has no inputs"},
      {kTowers + "[[network]]\nname = 'query'\ninputs = []\n",
       "m.toml:9:10: network \"query\" has no inputs"},
      {kTowers + "[[network]]\nname = 'user'\ninputs = ['movie']\n",
       "m.toml:8:8: a network and a feature are both named \"user\""},
      {kTowers + "[[network]]\nname='query'\ninputs=['user']\n[[network]]\nname='query'\n",
       "m.toml:11:6: two networks are named \"query\""},
      {kTowers + "[[network]]\nname='query'\ninputs=['user']\nlayers=[{ kind = 'mlp' }]\n",
       "m.toml:10:9: an mlp layer needs \"units\""},
      {kTowers + "[[network]]\nname='query'\ninputs=['user']\nlayers=[{ units = [] }]\n",
       "m.toml:10:19: an mlp layer needs \"units\""},
      {kTowers + "[[network]]\nname='query'\ninputs=['query']\n",
       "m.toml:9:9: networks read each other in a circle: query <- query"},
      {kTowers + "[[network]]\nname='query'\ninputs=['user', 'a']\n[[network]]\nname='a'\n"
                 "inputs=['b']\n[[network]]\nname='b'\ninputs=['a']\n",
       "m.toml:15:9: networks read each other in a circle: a <- b <- a"},
      {kTowers + "[[network]]\nname='both'\ninputs=['query', 'candidate']\n",
       "m.toml:8:6: network \"both\" is used by no task; a tower or the score"},
  });
}

TEST(ConfigCheck, Towers) {
  expect_refused({
      {kTowers + "[[network]]\nname='query'\ninputs=['user', 'movie']\n",
       "m.toml:9:17: the query tower cannot read \"movie\", which is of the other side"},
      {kTowers +
           "[[network]]\nname='query'\ninputs=['a']\n[[network]]\nname='a'\ninputs=['movie']\n",
       "m.toml:9:9: the query tower cannot read \"movie\""},
      {kTowers + "[[network]]\nname='query'\ninputs=['user', 'candidate']\n",
       "m.toml:9:17: the query tower cannot read \"candidate\""},
      {kTowers + "[[network]]\nname='candidate'\ninputs=['query']\n",
       "m.toml:9:9: the candidate tower cannot read \"query\""},
      {kTowers + "[[feature]]\nname='age'\n[[network]]\nname='query'\ninputs=['user']\n",
       "m.toml:8:6: feature \"age\" is used by no network; add it to the inputs of \"query\""},
      {"[[feature]]\nname='user'\n[[feature]]\nname='movie'\nof='candidate'\ndim=32\n",
       "m.toml:7:5: the query tower is 64 wide and the candidate tower 32"},
      {kTowers + "[[network]]\nname='query'\ninputs=['user']\nlayers=[{units=[16]}]\n",
       "m.toml:4:1: the query tower is 16 wide and the candidate tower 64"},
      {kTowers + "[[network]]\nname='candidate'\ninputs=['movie']\n"
                 "layers=[{units=[64, 16]}, {kind='l2-normalize'}]\n",
       "m.toml:10:16: the query tower is 64 wide and the candidate tower 16"},
  });
}

TEST(ConfigCheck, StepsOfSequences) {
  // Lines 2-13; the network begins on line 14, its layers stand on line 17.
  const std::string features = R"([[feature]]
name = "movie"
of = "candidate"
dim = 6
[[feature]]
name = "history"
kind = "sequence"
dim = 6
[[feature]]
name = "tags"
kind = "list"
dim = 6
)";
  const auto query = [&](const std::string& inputs, const std::string& layers) {
    const std::string rest = inputs == "['tags']" ? "'history'" : "'tags'";
    return features + "[[network]]\nname = 'steps'\ninputs = " + inputs + "\nlayers = [" + layers +
           "]\n[[network]]\nname = 'query'\ninputs = ['steps', " + rest +
           "]\nlayers = [{ kind = 'mlp', units = [6] }]\n";
  };
  for (const char* layers :
       {"{ kind = 'gru', units = 6 }",
        "{ kind = 'gru', units = [6] }, { kind = 'mlp', units = [6] }",
        "{ kind = 'position-embedding' }, { kind = 'attention', num_heads = 3 }, "
        "{ kind = 'dropout' }, { kind = 'sequence-pool', pooling = 'last' }"}) {
    EXPECT_EQ(refusal(query("['history']", layers)), "accepted");
  }
  const std::string gru = "{ kind = 'gru', units = 6 }";
  expect_refused({
      {query("['history']", "{ kind = 'attention', causal = true }"),
       "m.toml:17:10: network \"steps\" never leaves the steps of its list"},
      {query("['history']", gru + ", { kind = 'sequence-pool' }"),
       "m.toml:17:40: network \"steps\" has no steps here"},
      {query("['history', 'tags']", gru),
       "m.toml:17:11: this layer reads the steps of one list, and network \"steps\" has 2 inputs"},
      {query("['tags']", gru),
       "m.toml:10:1: network \"steps\" reads the steps of \"tags\", which needs \"max_length\""},
      {query("['history']", "{ kind = 'gru' }"),
       "m.toml:17:11: a gru layer needs \"units\", one number"},
      {query("['history']", "{ kind = 'gru', units = [6, 6] }"),
       "m.toml:17:35: a gru layer needs \"units\", one number"},
      {query("['history']", "{ kind = 'attention', num_heads = 4 }, { kind = 'sequence-pool' }"),
       "m.toml:17:45: 4 heads do not divide a width of 6"},
      {query("['history']", "{ kind = 'gru', units = 6, causal = true }"),
       "m.toml:17:47: \"causal\" in [[network.layers]] has no meaning here"},
      {features + "[[network]]\nname = 'candidate'\ninputs = ['movie']\nlayers = [" + gru + "]\n",
       "m.toml:16:11: network \"candidate\" reads steps, and its input \"movie\" has none"},
      {R"([[feature]]
name = "tags"
kind = "list"
dim = 6
max_length = 3
weights = "shares"
[[network]]
name = "query"
inputs = ["tags"]
layers = [{ kind = "gru", units = 64 }]
)",
       "m.toml:7:11: network \"query\" reads the steps of \"tags\", which then have no weights"},
  });
}

TEST(ConfigCheck, TasksAndOptimizers) {
  expect_refused({
      {"[[task]]\nloss = 'sampled-softmax'\nnegatives = { in_batch = false }\n",
       "m.toml:4:13: the task has no negatives"},
      {"[[task]]\nnegatives = { in_batch = false, uniform = 5 }\n",
       "m.toml:3:26: loss \"in-batch-softmax\" needs in-batch negatives"},
      {"[[task]]\nweight = 0\n", "m.toml:3:10: all tasks have weight 0"},
      {"[[task]]\n[[task]]\nweight = 2\n", "m.toml:3:1: only one task can be of retrieval"},
      {"[optimizer]\nclipvalue = 1\nclipnorm = 1\n", "m.toml:4:12: only one of clipvalue"},
      {"[optimizer]\nkind = 'sgd'\nnesterov = true\n", "m.toml:4:12: \"nesterov\" needs"},
      {"[optimizer]\nschedule = { kind = 'cosine' }\n",
       "m.toml:3:12: \"decay_steps\" must be greater"},
      {"[optimizer]\nschedule = { kind = 'piecewise', boundaries = [1], values = [1] }\n",
       "m.toml:3:61: a piecewise schedule with 1 boundaries needs 2 values, not 1"},
      {"[optimizer]\nschedule = { kind = 'piecewise', boundaries = [2, 2], values = [1, 2, 3] }\n",
       "m.toml:3:51: \"boundaries\" must rise"},
      {"[[optimizer.group]]\nmatch = ''\n", "m.toml:3:9: \"match\" must not be empty"},
  });
}

TEST(ConfigCheck, KindsOfFeatures) {
  const auto feature = [](const std::string& rest) {
    return kTowers + "[[feature]]\nname = 'x'\n" + rest;
  };
  expect_refused({
      {feature("kind = 'hashed'\n"), "m.toml:7:1: a hashed feature needs \"buckets\""},
      {feature("kind = 'unified'\n"), "m.toml:7:1: a hashed feature needs \"buckets\""},
      {feature("kind = 'bucket'\n"), "m.toml:7:1: a bucket feature needs \"boundaries\""},
      {feature("kind = 'bucket'\nboundaries = [3, 2]\n"),
       "m.toml:10:18: \"boundaries\" must not fall"},
      {feature("kind = 'bucket'\nboundaries = { linspace = 3, quantiles = 4 }\n"),
       "m.toml:10:14: a bucket feature needs \"boundaries\""},
      {feature("kind = 'list'\nseparator = ''\n"), "m.toml:10:13: \"separator\" must not be empty"},
      {feature("kind = 'sequence'\nof = 'candidate'\n"),
       "m.toml:10:6: a sequence is a user's history: it is of the query side"},
      {feature("kind = 'number'\nmean = 1\n"), "m.toml:10:8: \"mean\" and \"variance\" are given"},
      {feature("kind = 'list'\ntable = 'user'\n"), "m.toml:9:8: table \"user\" is shared"},
  });
}

TEST(ConfigCheck, RankingTasks) {
  const auto model = [](const std::string& layers, const std::string& task) {
    return kTowers + "[[network]]\nname='rating'\ninputs=['user','movie']\nlayers=[" + layers +
           "]\n[[task]]\nkind='ranking'\n" + task;
  };
  const std::string head = "{units=[8, 1]}";
  EXPECT_EQ(refusal(model(head, "score='rating'\n")), "accepted");
  EXPECT_EQ(refusal(model("{kind='cross'}, " + head, "score='rating'\nloss='bce-logits'\n")),
            "accepted");
  EXPECT_EQ(
      refusal(model("{units=[8, 1], final_activation='sigmoid'}", "score='rating'\nloss='bce'\n")),
      "accepted");
  EXPECT_EQ(refusal(model("{kind='dot-interaction'}", "score='rating'\n")), "accepted");
  expect_refused({
      {model(head, ""), "m.toml:11:1: a ranking task needs \"score\""},
      {model(head, "score='ratng'\n"), "m.toml:13:7: there is no network \"ratng\"; did you mean"},
      {model("{units=[8]}", "score='rating'\n"),
       "m.toml:13:7: the network \"rating\" is 8 columns wide, and a score is one"},
      {model(head + ", {kind='dot-interaction'}", "score='rating'\n"),
       "m.toml:10:25: a dot-interaction must be the first layer"},
      {model(head, "score='rating'\n[[task]]\nkind='ranking'\nscore='rating'\n"),
       "m.toml:16:7: two tasks have the same score \"rating\""},
      {model(head, "score='rating'\nloss='listmle'\n"),
       "m.toml:11:1: this loss compares the rows of a list"},
      {model(head, "score='rating'\ngroup_by='item'\n"), "m.toml:14:10: lists can be grouped by"},
      {model(head, "score='rating'\nlist_size=5\n"), "m.toml:14:11: \"group_by\" and"},
      {model(head, "score='rating'\ngroup_by='user'\nlist_size=1\n"),
       "m.toml:15:11: a list has at least two rows"},
      {model(head, "score='rating'\n[index]\nrank_by='x'\n"),
       "m.toml:15:9: no ranking task has the score \"x\""},
      {model(head, "score='rating'\n[train]\nearly_stop={metric='recall@20'}\n"),
       "m.toml:15:20: the metric \"recall@20\" needs a retrieval task"},
      {kTowers + "[train]\nearly_stop={metric='rmse'}\n",
       "m.toml:8:20: the metric \"rmse\" needs a ranking task"},
  });
}

TEST(ConfigCheck, ThereAreOnlySoManyOptimizerGroups) {
  std::string text;
  for (int i = 1; i < kMaxParameterGroups; ++i) text += "[[optimizer.group]]\nmatch = 'a'\n";
  EXPECT_EQ(refusal(text), "accepted");
  const std::string at = "m.toml:" + std::to_string(2 * kMaxParameterGroups) + ":1: ";
  EXPECT_EQ(refusal(text + "[[optimizer.group]]\nmatch = 'a'\n").substr(0, at.size()), at);
}

TEST(ConfigCheck, StructsOfAProgramAreHeldToTheSameRules) {
  Config c = default_config("");
  EXPECT_EQ(refusal(c).substr(0, 18), "data.interactions:");
  c.data.interactions = {"r.csv"};
  EXPECT_EQ(refusal(c), "accepted");
  c.train.epochs = 0;
  EXPECT_EQ(refusal(c), "train.epochs: \"epochs\" must be at least 1, not 0");
  c.train.epochs = 1;
  c.evaluate.metrics = {"mrr", "nonsense"};
  EXPECT_EQ(refusal(c).substr(0, 47), "evaluate.metrics.1: unknown metric \"nonsense\"; ");
  c.evaluate.metrics.clear();
  c.train.early_stop->metric = "ndcg";
  EXPECT_EQ(refusal(c).substr(0, 24), "train.early_stop.metric:");
  c.train.early_stop.reset();
  c.train.seed = std::uint64_t{1} << 63;
  EXPECT_EQ(refusal(c).substr(0, 11), "train.seed:");
  c.train.seed = 1;
  c.name = "a/b";
  EXPECT_EQ(refusal(c).substr(0, 5), "name:");
  c.name = "";
  LayerConfig layer;
  layer.units = {-1};
  c.networks.push_back({"query", {"user"}, {layer}, {}});
  EXPECT_EQ(refusal(c).substr(0, 26), "network.0.layers.0.units.0");
  c.networks.clear();
  c.tasks.clear();
  EXPECT_EQ(refusal(c), "task: there is no task");
}

TEST(ConfigCheck, PlacesDoNotCountInComparisons) {
  const Config a = parse_config("[data]\ninteractions = 'a'\n", "x.toml", {});
  const Config b = parse_config("\n\n[data]\n  interactions = 'a'\n", "y.toml", {});
  EXPECT_EQ(a, b);
  EXPECT_EQ(place_of(b, "data.interactions"), "y.toml:4:18");
  EXPECT_EQ(place_of(b, "data.user"), "y.toml:3:1");
  EXPECT_EQ(place_of(b, "train.epochs"), "y.toml");
  EXPECT_EQ(place_of(Config{}, "train.epochs"), "train.epochs");
}

TEST(Nearest, CountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", "acb"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("ABC", "abc"), 0u);
  EXPECT_EQ(nearest("epocs", {"batch_size", "epochs"}), "epochs");
  EXPECT_EQ(nearest("xyz", {"abc"}), "");
  EXPECT_EQ(nearest("k", {"a"}), "");  // every letter of it differs
  EXPECT_EQ(nearest("", {"a"}), "");
  EXPECT_EQ(nearest_hint("zzz", {"ab", "cd"}), "known: ab, cd");
  EXPECT_EQ(nearest_hint("zzz", {}), "");
}

}  // namespace
}  // namespace belfry
