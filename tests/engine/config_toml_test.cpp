// SPDX-License-Identifier: Apache-2.0
#include "engine/config_toml.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/error.hpp"
#include "engine/metrics.hpp"

namespace belfry {
namespace {

namespace fs = std::filesystem;

Config parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text, "m.toml", overrides);
}

/// The message of the Error(usage) that reading and checking `text` ends in.
std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    check_config(parse(text, overrides));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    return e.what();
  }
  return "accepted";
}

struct Case {
  const char *text, *message;
};
void expect_refused(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    const std::string message = refusal(c.text);
    EXPECT_EQ(message.substr(0, std::string(c.message).size()), c.message) << message;
  }
}

const std::string kData = "data.interactions = 'r.csv'\n";  // one line: sections start on line 2

TEST(ConfigToml, OnlyInteractionsAreRequired) {
  const Config c = parse("[data]\ninteractions = \"train.csv\"\n");
  check_config(c);
  Config expected = default_config("");
  expected.data.interactions = {"train.csv"};
  EXPECT_EQ(c, expected);
  EXPECT_EQ(refusal(""),
            "m.toml: \"interactions\" is missing in [data]; it names the file of user-item rows");
  EXPECT_EQ(refusal("name = 'x'\n[data]\nuser = 'u'\n").substr(0, 10), "m.toml:2:1");
}

TEST(ConfigToml, EveryKindOfValueIsRead) {
  const Config c = parse(R"(
schema = 1
name = "all"
[data]
interactions = ["a.csv", "b.csv"]
test = "t.csv"
format = "csv"
user = "u"
item = "i"
weight = "w"
time = "t"
items = "items.csv"
items_key = "k"
users = "users.csv"
users_key = "uk"
where = "rating >= 4"
id_type = "int"
vocabulary = "catalogue"
on_missing = "keep"
catalogue = "trained"
duplicates = "last"
[split]
method = "file"
validation = 500
seed = 7
[[feature]]
name = "user_id"
kind = "id"
dim = 32
init = { kind = "truncated-normal", mean = 0.5, stddev = 2 }
[[feature]]
name = "genre"
of = "candidate"
kind = "category"
column = "genres"
table = "g"
oov = 0
[[network]]
name = "query"
inputs = ["user_id"]
layers = [{ kind = "mlp", units = [64, 32], activation = "gelu", use_bias = false }, { kind = "l2-normalize" }]
[[task]]
loss = "sampled-softmax"
similarity = "dot"
temperature = 0.5
weight = 2
negatives = { in_batch = false, uniform = 100, popularity = 50 }
sampling_correction = "none"
mask_known_positives = true
num_hard_negatives = 9
reduction = "sum"
[optimizer]
kind = "sgd"
learning_rate = 1
momentum = 0.9
nesterov = true
clipnorm = 2.5
schedule = { kind = "piecewise", boundaries = [10, 20], values = [1, 0.5, 0.25] }
[[optimizer.group]]
match = "*.embedding"
kind = "adagrad"
epsilon_place = "after-root"
[[optimizer.group]]
match = "*.bias"
learning_rate = 0.25
[train]
epochs = 2
batch_size = 16
seed = 9223372036854775807
shuffle = "none"
drop_remainder = true
precision = "fp32"
early_stop = { metric = "recall@5", patience = 1 }
checkpoint = { steps = 100, keep = 5 }
[evaluate]
metrics = ["mrr"]
exclude_seen = false
mask = "train"
context = "last"
[index]
kind = "brute-force"
k = 3
[output]
dir = "out"
logs = ["jsonl"]
)");
  EXPECT_EQ(c.data.interactions, (std::vector<std::string>{"a.csv", "b.csv"}));
  EXPECT_TRUE(c.data.id_type_given);
  EXPECT_EQ(c.data.id_type, IdType::integer);
  EXPECT_EQ(c.data.duplicates, Duplicates::last);
  EXPECT_EQ(c.split.validation, (Amount{500, false}));
  EXPECT_EQ(c.features[0].init, (InitConfig{InitKind::truncated_normal, -0.05, 0.05, 0.5, 2}));
  EXPECT_EQ(c.features[0].of, Side::query);
  EXPECT_EQ(c.features[1].table, "g");
  EXPECT_EQ(c.networks[0].layers[0].units, (std::vector<std::int64_t>{64, 32}));
  EXPECT_EQ(c.networks[0].layers[0].activation, Activation::gelu);
  EXPECT_EQ(c.networks[0].layers[1].kind, LayerKind::l2_normalize);
  EXPECT_EQ(c.tasks.size(), 1u);
  EXPECT_EQ(c.tasks[0].negatives, (NegativesConfig{false, 100, 50}));
  EXPECT_FALSE(c.tasks[0].mean_reduction);
  EXPECT_EQ(c.optimizer.main.options.momentum, 0.9f);
  EXPECT_EQ(c.optimizer.main.schedule.values, (std::vector<double>{1, 0.5, 0.25}));
  // A group of another kind has that kind's defaults; one of the same kind follows [optimizer].
  EXPECT_EQ(c.optimizer.groups[0].learning_rate, 0.1);
  EXPECT_EQ(c.optimizer.groups[0].schedule.kind, ScheduleKind::constant);
  EXPECT_EQ(c.optimizer.groups[0].options.epsilon_place, EpsilonPlace::after_root);
  EXPECT_EQ(c.optimizer.groups[1].options.momentum, 0.9f);
  EXPECT_EQ(c.optimizer.groups[1].schedule.kind, ScheduleKind::piecewise);
  EXPECT_EQ(c.optimizer.groups[1].learning_rate, 0.25);
  EXPECT_EQ(c.train.seed, 9223372036854775807u);
  EXPECT_EQ(c.train.keep_checkpoints, 5);
  EXPECT_EQ(c.train.early_stop, (EarlyStop{"recall@5", 1}));
  EXPECT_FALSE(c.evaluate.mask_validation);
  EXPECT_EQ(c.output.dir, "out");
  EXPECT_EQ(parse(to_toml(c)), c);
  EXPECT_EQ(to_toml(parse(to_toml(c))), to_toml(c));
}

TEST(ConfigToml, PenaltiesMasksAndInitialisers) {
  const Config c = parse(kData + R"(
[[feature]]
name = "u"
l1 = 0.5
l2 = 1e-6
penalty_rows = "all"
init = { kind = "constant", value = -0.25 }
[[feature]]
name = "g"
kind = "category"
mask = ""
[[network]]
name = "query"
inputs = ["u", "g"]
[[network.layers]]
kind = "cross"
l2 = 0.01
kernel_init = { kind = "he-normal" }
[[network.layers]]
kind = "mlp"
units = [8]
activation = "gelu-tanh"
l1 = 0.1
l2 = 0.2
bias_l1 = 0.3
bias_l2 = 0.4
kernel_init = { kind = "uniform", low = -1, high = 1 }
bias_init = { kind = "ones" }
)");
  EXPECT_EQ(c.features[0].penalty, (PenaltyConfig{0.5, 1e-6}));
  EXPECT_EQ(c.features[0].penalty_rows, PenaltyRows::all);
  EXPECT_EQ(c.features[0].init->value, -0.25);
  EXPECT_FALSE(c.features[1].penalty_rows);
  EXPECT_EQ(c.features[1].mask, "");
  EXPECT_FALSE(c.features[0].mask);
  const std::vector<LayerConfig>& layers = c.networks[0].layers;
  EXPECT_EQ(layers[0].penalty, (PenaltyConfig{0, 0.01}));
  EXPECT_EQ(layers[0].kernel_init->kind, InitKind::he_normal);
  EXPECT_EQ(layers[1].activation, Activation::gelu_tanh);
  EXPECT_EQ(layers[1].penalty, (PenaltyConfig{0.1, 0.2}));
  EXPECT_EQ(layers[1].bias_penalty, (PenaltyConfig{0.3, 0.4}));
  EXPECT_EQ(layers[1].kernel_init->low, -1);
  EXPECT_EQ(layers[1].bias_init->kind, InitKind::ones);
  EXPECT_EQ(parse(to_toml(c)), c);
  EXPECT_EQ(default_penalty_rows(""), PenaltyRows::batch);
  EXPECT_EQ(default_penalty_rows("tfrs"), PenaltyRows::all);
}

TEST(ConfigToml, PresetTfrsIsTfrs) {
  const Config c = parse("preset = \"tfrs\"\n" + kData);
  EXPECT_FALSE(c.tasks[0].mean_reduction);
  EXPECT_EQ(c.tasks[0].similarity, Similarity::dot);
  EXPECT_EQ(c.tasks[0].temperature, 1.0);
  EXPECT_EQ(c.tasks[0].sampling_correction, SamplingCorrection::none);
  EXPECT_FALSE(c.tasks[0].remove_accidental_hits);
  EXPECT_FALSE(c.evaluate.exclude_seen);
  EXPECT_EQ(c.optimizer.main.options.kind, OptimizerKind::adagrad);
  EXPECT_EQ(c.optimizer.main.learning_rate, 0.1);
  EXPECT_EQ(c.optimizer.main.initial_accumulator_value, 0.1);
  EXPECT_EQ(c.optimizer.main.options.epsilon, 1e-7f);
  EXPECT_EQ(c.optimizer.main.options.epsilon_place, EpsilonPlace::inside_root);
  EXPECT_EQ(c.optimizer.main.options.sparse, SparseUpdate::exact);
  EXPECT_EQ(c.data.catalogue, CatalogueRule::all);
  EXPECT_EQ(c.data.vocabulary, "catalogue");
  EXPECT_FALSE(c.train.early_stop);
  EXPECT_EQ(c.train.shuffle, ShuffleMode::once);
  EXPECT_EQ(c.train.batch_size, 8192);
  EXPECT_EQ(c.train.epochs, 3);
  for (const std::string& name : c.evaluate.metrics) EXPECT_TRUE(parse_metric(name)) << name;
  EXPECT_EQ(c.evaluate.metrics.size(), 5u);
  EXPECT_EQ(default_embedding_init("tfrs").kind, InitKind::uniform);
  EXPECT_EQ(default_embedding_init("").kind, InitKind::normal);
  EXPECT_EQ(parse(kData, {"preset=tfrs"}), c);
  EXPECT_EQ(parse(to_toml(c)), c);
  EXPECT_EQ(parse(kData + "[optimizer]\nkind = 'adam'\n").optimizer.main.learning_rate, 0.01);
  EXPECT_EQ(parse("preset='tfrs'\n[optimizer]\nkind = 'adam'\n").optimizer.main.learning_rate,
            0.001);
  EXPECT_THROW(default_config("tfsr"), Error);
}

TEST(ConfigToml, DefaultsThatDependOnOtherKeys) {
  const auto rate = [](const char* kind) {
    return parse(std::string("[optimizer]\nkind = '") + kind + "'\n").optimizer.main.learning_rate;
  };
  EXPECT_EQ(rate("sgd"), 0.01);
  EXPECT_EQ(rate("adagrad"), 0.1);
  EXPECT_EQ(rate("rowwise-adagrad"), 0.1);
  EXPECT_EQ(rate("adam"), 0.01);
  EXPECT_EQ(parse("[[task]]\nsimilarity = 'dot'\n").tasks[0].temperature, 1.0);
  EXPECT_EQ(parse("[[task]]\nsimilarity = 'cosine'\n").tasks[0].temperature, 0.15);
  EXPECT_EQ(parse("data.test = 't.csv'\n").split.method, SplitMethod::file);
  const Config restarts = parse(
      "optimizer.schedule = { kind = 'cosine-restarts', decay_steps = 5, t_mul = 3, alpha = 0.5 "
      "}\n");
  EXPECT_EQ(restarts.optimizer.main.schedule.t_mul, 3);
  EXPECT_EQ(parse(to_toml(restarts)), restarts);
  EXPECT_FALSE(parse("train.early_stop = false\n").train.early_stop);
  EXPECT_EQ(parse("train.early_stop = true\n").train.early_stop, EarlyStop{});
  EXPECT_EQ(parse("train.early_stop = { patience = 9 }\n").train.early_stop,
            (EarlyStop{"ndcg@20", 9}));
}

TEST(ConfigToml, SyntaxErrorsStandWhereTheyAre) {
  expect_refused({
      {"[optimizer\n", "m.toml:1:11: table header: expected ']'"},
      {"[train]\nepochs = i\n", "m.toml:2:11: floating-point: expected 'inf', saw 'i\\n'"},
      {"a = 1\n[train]\nepochs = \n", "m.toml:3:10: "},
      {"[train]\nepochs = 1\nepochs = 2\n", "m.toml:3:10: "},
      {"[train]\nseed = 99999999999999999999\n", "m.toml:2:28: "},
  });
}

TEST(ConfigToml, UnknownKeysNameTheNearest) {
  expect_refused({
      {"[optimizer]\nlearnig_rate = 0.1\n",
       "m.toml:2:1: unknown key \"learnig_rate\" in [optimizer]; did you mean \"learning_rate\"?"},
      {"[trian]\n", "m.toml:1:2: unknown key \"trian\"; did you mean \"train\"?"},
      {"epochs = 3\n", "m.toml:1:1: unknown key \"epochs\"; it belongs to [train]"},
      {"[data]\n  learning_rate = 3\n",
       "m.toml:2:3: unknown key \"learning_rate\" in [data]; it belongs to [optimizer]"},
      {"[index]\nqqqqqq = 3\n", "m.toml:2:1: unknown key \"qqqqqq\" in [index]; known: kind, k"},
      {"[train]\nearly_stop = { patienc = 3 }\n",
       "m.toml:2:16: unknown key \"patienc\" in [train.early_stop]; did you mean \"patience\"?"},
      {"[[feature]]\nname = 'a'\ninit = { kind = 'uniform', lo = 1 }\n",
       "m.toml:3:28: unknown key \"lo\" in [feature.init]; did you mean \"low\"?"},
      {"[[network]]\nname = 'query'\nlayers = [{ kind = 'mlp', unit = [1] }]\n",
       "m.toml:3:27: unknown key \"unit\" in [[network.layers]]; did you mean \"units\"?"},
      {"[[task]]\ntemprature = 1\n",
       "m.toml:2:1: unknown key \"temprature\" in [[task]]; did you mean \"temperature\"?"},
      {"[[optimizer.group]]\nmatch = '*'\nbeta1 = 0.5\n",
       "m.toml:3:1: unknown key \"beta1\" in [[optimizer.group]]; did you mean \"beta_1\"?"},
  });
}

TEST(ConfigToml, WrongTypesSayWhatWasFound) {
  expect_refused({
      {"[optimizer]\nlearning_rate = \"fast\"\n",
       "m.toml:2:17: \"learning_rate\" in [optimizer] must be a number, not the string \"fast\""},
      {"[train]\nepochs = 3.5\n",
       "m.toml:2:10: \"epochs\" in [train] must be an integer, not the number 3.5"},
      {"[train]\ndrop_remainder = 1\n",
       "m.toml:2:18: \"drop_remainder\" in [train] must be true or false, not the integer 1"},
      {"[data]\nuser = 3\n", "m.toml:2:8: \"user\" in [data] must be a string, not the integer 3"},
      {"[data]\ninteractions = 2024-01-01\n",
       "m.toml:2:16: \"interactions\" in [data] must be a string, not a date or time"},
      {"[data]\ninteractions = ['a', 3]\n",
       "m.toml:2:22: \"interactions\" in [data] must be a string, not the integer 3"},
      {"[split]\nmethod = 'random'\ntest = true\n",
       "m.toml:3:8: \"test\" in [split] must be a number of rows or a fraction, not true"},
      {"[split]\nmethod = ['random']\n",
       "m.toml:2:10: \"method\" in [split] must be a string, not an array"},
      {"[evaluate]\nmetrics = 'mrr'\n",
       "m.toml:2:11: \"metrics\" in [evaluate] must be an array of strings, not the string "
       "\"mrr\""},
      {"[[network]]\nname = 'query'\nlayers = [{ units = [8, 'x'] }]\n",
       "m.toml:3:25: \"units\" in [[network.layers]] must be an integer, not the string \"x\""},
      {"[[network]]\nname = 'query'\nlayers = [3]\n",
       "m.toml:3:11: \"layers\" in [[network]] must hold tables, not the integer 3"},
      {"[train]\nearly_stop = 3\n",
       "m.toml:2:14: \"early_stop\" in [train] must be false or a table { metric, patience }"},
      {"[train]\ncheckpoint = 3\n",
       "m.toml:2:14: \"checkpoint\" in [train] must be a table { ... }, not the integer 3"},
      {"train = 3\n", "m.toml:1:9: \"train\" must be a table, not the integer 3; write [train]"},
      {"[[train]]\n", "m.toml:1:1: \"train\" must be a table, not an array; write [train] once"},
      {"[task]\n", "m.toml:1:1: \"task\" must be an array of tables, not a table; write [[task]]"},
      {"schema = '1'\n", "m.toml:1:10: \"schema\" must be an integer, not the string \"1\""},
  });
}

TEST(ConfigToml, NumbersOutOfRange) {
  expect_refused({
      {"[optimizer]\nlearning_rate = -1\n",
       "m.toml:2:17: \"learning_rate\" in [optimizer] must be greater than 0, not -1"},
      {"[optimizer]\nlearning_rate = 0\n", "m.toml:2:17: "},
      {"[optimizer]\nlearning_rate = nan\n",
       "m.toml:2:17: \"learning_rate\" in [optimizer] must be a finite number, not nan"},
      {"[optimizer]\nlearning_rate = +inf\n", "m.toml:2:17: "},
      {"[optimizer]\nbeta_1 = 1.0\n",
       "m.toml:2:10: \"beta_1\" in [optimizer] must be below 1, not 1"},
      {"[optimizer]\nepsilon = 0\n", "m.toml:2:11: "},
      {"[optimizer]\nweight_decay = 1e300\n", "m.toml:2:16: "},
      {"[optimizer]\nclipnorm = 0\n", "m.toml:2:12: "},
      {"[optimizer]\nschedule = { kind = 'cosine', decay_steps = 0 }\n", "m.toml:2:45: "},
      {"[[task]]\ntemperature = 0\n", "m.toml:2:15: "},
      {"[[task]]\nweight = -0.5\n", "m.toml:2:10: "},
      {"[[task]]\nnum_hard_negatives = -1\n", "m.toml:2:22: "},
      {"[[task]]\nnegatives = { uniform = -1 }\n", "m.toml:2:25: "},
      {"[[feature]]\nname = 'a'\ndim = 0\n",
       "m.toml:3:7: \"dim\" in [[feature]] must be at least 1, not 0"},
      {"[[feature]]\nname = 'a'\ndim = 70000\n",
       "m.toml:3:7: \"dim\" in [[feature]] must be at most 65536, not 70000"},
      {"[[feature]]\nname = 'a'\noov = -1\n", "m.toml:3:7: "},
      {"[[feature]]\nname = 'a'\ninit = { kind = 'normal', stddev = 0 }\n", "m.toml:3:36: "},
      {"[[network]]\nname = 'query'\nlayers = [{ kind = 'mlp', units = [8, 0] }]\n",
       "m.toml:3:39: "},
      {"[train]\nepochs = 0\n", "m.toml:2:10: "},
      {"[train]\nbatch_size = 0\n", "m.toml:2:14: "},
      {"[train]\nseed = -1\n", "m.toml:2:8: "},
      {"[train]\nearly_stop = { patience = 0 }\n", "m.toml:2:27: "},
      {"[train]\ncheckpoint = { keep = 0 }\n", "m.toml:2:23: "},
      {"[split]\nmethod = 'random'\ntest = 1.0\n",
       "m.toml:3:8: \"test\" in [split] must be a fraction between 0 and 1, not 1"},
      {"[split]\nmethod = 'random'\ntest = 0\n",
       "m.toml:3:8: \"test\" in [split] must be at least 1, not 0"},
      {"[split]\nvalidation = 0.0\n", "m.toml:2:14: "},
      {"[split]\nvalidation = nan\n", "m.toml:2:14: "},
      {"[index]\nk = 0\n", "m.toml:2:5: "},
      {"schema = 2\n", "m.toml:1:10: schema 2 is not known to this version; it reads schema 1"},
      {"name = 'a/b'\n", "m.toml:1:8: "},
  });
}

TEST(ConfigToml, UnknownWordsNameTheNearest) {
  expect_refused({
      {"preset = 'tfsr'\n", "m.toml:1:10: unknown preset \"tfsr\"; did you mean \"tfrs\"?"},
      {"[split]\nmethod = 'randon'\n",
       "m.toml:2:10: unknown split method \"randon\"; did you mean \"random\"?"},
      {"[optimizer]\nkind = 'adamm'\n",
       "m.toml:2:8: unknown optimizer kind \"adamm\"; did you mean \"adam\"?"},
      {"[data]\nformat = 'cvs'\n", "m.toml:2:10: unknown format \"cvs\"; did you mean \"csv\"?"},
      {"[train]\nshuffle = 'xyzzyx'\n",
       "m.toml:2:11: unknown shuffle mode \"xyzzyx\"; known: epoch, once, none"},
      {"[[task]]\nloss = 'in_batch_softmax'\n",
       "m.toml:2:8: unknown loss \"in_batch_softmax\"; did you mean \"in-batch-softmax\"?"},
      {"[evaluate]\nmetrics = ['mrr', 'recal@20']\n",
       "m.toml:2:19: unknown metric \"recal@20\"; did you mean \"recall@20\"?"},
      {"[evaluate]\nmetrics = ['recall@0']\n", "m.toml:2:12: unknown metric \"recall@0\"; K is "},
      {"[train]\nearly_stop = { metric = 'ndgc@20' }\n",
       "m.toml:2:25: unknown metric \"ndgc@20\"; did you mean \"ndcg@20\"?"},
      {"[train]\nearly_stop = { metric = 'gini@20' }\n", "m.toml:2:25: \"gini@20\" cannot decide"},
  });
}

TEST(ConfigToml, WhatThisVersionDoesNotHaveIsRefused) {
  expect_refused({
      {"[[task]]\nloss = 'bpr'\n", "m.toml:2:8: loss \"bpr\" is not available in this version"},
      {"[[task]]\nsampling_correction = 'streaming'\n", "m.toml:2:23: sampling correction \"str"},
      {"[index]\nkind = 'hnsw'\n", "m.toml:2:8: index kind \"hnsw\" is not available"},
      {"[output]\nlogs = ['jsonl', 'html']\n", "m.toml:2:18: log \"html\" is not available"},
  });
}

TEST(ConfigToml, KeysOfAnotherKindOfFeatureOrTaskHaveNoMeaning) {
  expect_refused({
      {"[[feature]]\nname='a'\npooling = 'mean'\n",
       "m.toml:3:11: \"pooling\" in [[feature]] has no"},
      {"[[feature]]\nname='a'\nkind='number'\ndim = 3\n",
       "m.toml:4:7: \"dim\" in [[feature]] has no"},
      {"[[feature]]\nname='a'\nboundaries = [1]\n", "m.toml:3:14: \"boundaries\" in [[feature]]"},
      {"[[task]]\nscore = 'x'\n",
       "m.toml:2:9: \"score\" in [[task]] has no meaning here; it needs kind = \"ranking\""},
      {"[[task]]\nkind = 'ranking'\nsimilarity = 'dot'\n",
       "m.toml:3:14: \"similarity\" in [[task]] has no meaning here; it needs kind = "
       "\"retrieval\""},
      {"[[task]]\nkind = 'ranking'\nloss = 'in-batch-softmax'\n",
       "m.toml:3:8: unknown loss \"in-batch-softmax\""},
  });
}

TEST(ConfigToml, KeysOfAnotherKindHaveNoMeaning) {
  expect_refused({
      {"[optimizer]\nkind = 'adagrad'\nbeta_1 = 0.5\n",
       "m.toml:3:10: \"beta_1\" in [optimizer] has no meaning here; it needs kind = \"adam\""},
      {"[optimizer]\nmomentum = 0.5\n", "m.toml:2:12: \"momentum\" in [optimizer] has no meaning"},
      {"[optimizer]\nkind = 'sgd'\nepsilon = 0.5\n", "m.toml:3:11: "},
      {"[split]\ntest = 0.1\n",
       "m.toml:2:8: \"test\" in [split] has no meaning here; it needs method"},
      {"[split]\nmethod = 'leave-last-out'\ntrain = 0.5\n", "m.toml:3:9: "},
      {"[[feature]]\nname='a'\ninit = { kind = 'uniform', stddev = 1 }\n", "m.toml:3:37: "},
      {"[[network]]\nname='query'\nlayers = [{ kind = 'l2-normalize', units = [3] }]\n",
       "m.toml:3:44: "},
      {"[optimizer]\nschedule = { kind = 'constant', decay_steps = 5 }\n", "m.toml:2:47: "},
      {"[[feature]]\ndim = 3\n", "m.toml:1:1: [[feature]] needs a \"name\""},
      {"[[network]]\ninputs = ['a']\n", "m.toml:1:1: [[network]] needs a \"name\""},
      {"[[optimizer.group]]\nkind = 'sgd'\n", "m.toml:1:1: [[optimizer.group]] needs \"match\""},
  });
}

TEST(ConfigToml, TextSurvivesPrinting) {
  Config c = default_config("");
  c.name = "a\"b\\c é";
  c.data.user = "\x01\x02\t\b\f\r\n\x7f";
  c.data.interactions = {"x\ny.csv", "z"};
  c.data.where = "title == \"é\"";
  c.optimizer.main.learning_rate = 1.0 / 3.0;
  c.optimizer.main.options.beta_2 = 0.98765432f;
  c.optimizer.main.options.epsilon = 1e-30f;
  c.split.method = SplitMethod::random;
  c.split.train = Amount{4e15, false};
  c.split.test = Amount{1e-12, true};
  c.train.seed = 0;
  EXPECT_EQ(parse(to_toml(c)), c);
}

TEST(ConfigToml, PathsAreRelativeToTheFile) {
  const fs::path folder = fs::path(testing::TempDir()) / "config_toml_paths";
  fs::create_directories(folder);
  const std::string file = (folder / "mine.toml").string();
  std::ofstream(file)
      << "[data]\ninteractions = ['a.csv', '-', '/abs/b.csv']\ntest = '../t.csv'\n"
         "vocabulary = 'ids.txt'\n[output]\ndir = 'out'\n[[feature]]\nname = 'user'\n"
         "vocabulary = 'v.txt'\n";
  const Config c = load_config(file, {"data.users=u.csv"});
  const fs::path root = fs::absolute(folder);
  EXPECT_EQ(c.name, "mine");
  EXPECT_EQ(c.data.interactions,
            (std::vector<std::string>{(root / "a.csv").string(), "-", "/abs/b.csv"}));
  EXPECT_EQ(c.data.test, (root.parent_path() / "t.csv").lexically_normal().string());
  EXPECT_EQ(c.data.vocabulary, (root / "ids.txt").string());
  EXPECT_EQ(c.features.front().vocabulary, (root / "v.txt").string());
  EXPECT_EQ(parse(to_toml(c)), c);
  EXPECT_EQ(c.output.dir, (root / "out").string());
  EXPECT_EQ(c.data.users, (fs::current_path() / "u.csv").string());  // typed in a shell
  EXPECT_EQ(c.data.place, file + ":1:1");
  EXPECT_EQ(place_of(c, "data.interactions.1"), file + ":2:26");
  std::ofstream(file) << "data.vocabulary = 'train'\n";
  EXPECT_EQ(load_config(file, {}).data.vocabulary, "train");
  std::ofstream(file) << "[optimizer]\nlearnig_rate = 1\n";
  try {
    load_config(file, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.where(), file + ":2:1");  // the name as it was given
  }
  try {
    load_config((folder / "missing.toml").string(), {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::io);
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace belfry
