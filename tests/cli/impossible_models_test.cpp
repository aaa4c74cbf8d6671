// SPDX-License-Identifier: Apache-2.0
// Model files that contradict themselves, or ask for what cannot be, are refused at the very key, before any
// data is read; data that contradicts its model is refused at its own line. What is merely small works.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

/// `text` with an @ in front of what is to be refused.
struct Impossible {
  const char* what;
  std::string text;
  const char* message;
};

struct Marked {
  std::string text, place;  // "LINE:COLUMN" of the mark
};
Marked unmarked(const std::string& text) {
  const std::size_t at = text.find('@');
  if (at == std::string::npos) return {text, "no mark"};
  std::size_t line = 1, start = 0;
  for (std::size_t i = 0; i < at; ++i) {
    if (text[i] != '\n') continue;
    ++line;
    start = i + 1;
  }
  return {text.substr(0, at) + text.substr(at + 1),
          std::to_string(line) + ":" + std::to_string(at - start + 1)};
}

std::string feature(const std::string& name, const std::string& of, const std::string& keys = "") {
  return "[[feature]]\nname = \"" + name + "\"\nof = \"" + of + "\"\n" + keys;
}
std::string network(const std::string& name, const std::string& inputs,
                    const std::string& layers = "") {
  return "[[network]]\nname = \"" + name + "\"\ninputs = [" + inputs + "]\n" +
         (layers.empty() ? "" : "layers = [" + layers + "]\n");
}
const std::string kUser = feature("u", "query"), kItem = feature("v", "candidate");
const std::string kTowers = kUser + kItem;
/// A ranking network over both sides, `end` the keys of its mlp.
std::string rating(const std::string& end = "") {
  return kTowers +
         network("rating", "\"u\", \"v\"", "{ kind = \"mlp\", units = [8, 1]" + end + " }");
}
const std::string kRanking = "[[task]]\nkind = \"ranking\"\nscore = \"rating\"\n";
std::string inputs(const std::string& text, const std::string& tower = "candidate") {
  return network(tower, tower == "query" ? "\"u\"" : "\"v\"", text);
}

std::vector<Impossible> impossible_models() {
  const std::string category = "kind = \"category\"\ntable = \"t\"\n";
  const std::string both = network("query", "\"u\", \"a\"", "{ kind = \"mlp\", units = [64] }") +
                           network("candidate", "\"v\", \"b\"", "{ kind = \"mlp\", units = [64] }");
  const auto shared = [&](const std::string& a, const std::string& b) {
    return kTowers + feature("a", "query", category + a) + feature("b", "candidate", category + b) +
           both;
  };
  return {
      {"towers of two widths", kUser + feature("v", "candidate", "dim = @32\n"), "32"},
      {"towers of two widths by their layers",
       kTowers + inputs("{ kind = \"mlp\", units = @[64, 48] }"), "48"},
      {"a dot interaction of unequal inputs",
       kTowers + feature("a", "candidate", "kind = \"category\"\ndim = 7\n") +
           "[[network]]\nname = \"candidate\"\ninputs = [\"v\", \"a\"]\nlayers = @[{ kind = "
           "\"dot-interaction\" }]\n",
       "one width"},
      {"a dot interaction of one input", kTowers + inputs("@{ kind = \"dot-interaction\" }"),
       "two inputs"},
      {"a table with two dims", shared("dim = 8\n", "dim = @9\n"), "table \"t\" is shared"},
      {"a table with two penalties", shared("l2 = 0.1\n", "l2 = @0.2\n"), "l2"},
      {"a table with two rules of penalty",
       shared("l2 = 0.1\n", "l2 = 0.1\npenalty_rows = @\"all\"\n"), "penalty_rows"},
      {"a table with two OOV rules", shared("oov = 1\n", "oov = @2\n"), "oov"},
      {"a table with two initialisers", shared("", "init = @{ kind = \"zeros\" }\n"), "init"},
      {"a table of two kinds",
       kTowers + feature("a", "query", category) +
           feature("b", "candidate", "kind = @\"text\"\ntable = \"t\"\n") + both,
       "kind"},
      {"a circle of networks",
       kTowers + network("candidate", "\"a\"") + network("a", "\"v\", \"b\"") +
           network("b", "@\"a\""),
       "circle"},
      {"a network that reads itself", kTowers + network("candidate", "\"v\", @\"candidate\""),
       "circle"},
      {"an input that is not there", kTowers + network("candidate", "@\"w\""), "unknown input"},
      {"a feature of the other side", kTowers + network("candidate", "\"v\", @\"u\""), ""},
      {"a network that nothing reads", kTowers + "[[network]]\nname = @\"a\"\ninputs = [\"v\"]\n",
       "used by no task"},
      {"an mlp without units", kTowers + inputs("@{ kind = \"mlp\" }"), "units"},
      {"a ranking task without a score", kTowers + "@[[task]]\nkind = \"ranking\"\n", "score"},
      {"a score of two columns",
       kTowers + network("rating", "\"u\", \"v\"", "{ kind = \"mlp\", units = [2] }") +
           "[[task]]\nkind = \"ranking\"\nscore = @\"rating\"\n",
       "2 columns wide"},
      {"a loss of lists without lists",
       rating() + "@[[task]]\nkind = \"ranking\"\nscore = \"rating\"\nloss = \"listmle\"\n",
       "list"},
      {"a list of one row", rating() + kRanking + "group_by = \"user\"\nlist_size = @1\n",
       "two rows"},
      {"cross-entropy of what is no probability", rating() + kRanking + "loss = @\"bce\"\n",
       "sigmoid"},
      {"the same with another end",
       rating(", final_activation = \"tanh\"") + kRanking + "loss = @\"bce\"\n", "bce-logits"},
      {"a temperature of 0", kTowers + "[[task]]\ntemperature = @0.0\n", "temperature"},
      {"a negative weight of a task", kTowers + "[[task]]\nweight = @-1.0\n", "weight"},
      {"tasks that weigh nothing", kTowers + "[[task]]\nweight = @0.0\n", "weight 0"},
      {"no negatives", kTowers + "[[task]]\nnegatives = @{ in_batch = false }\n", "no negatives"},
      {"two retrieval tasks", kTowers + "[[task]]\n[[task]]\nkind = @\"retrieval\"\n", "only one"},
      {"two tasks of one score",
       rating() + kRanking + "[[task]]\nkind = \"ranking\"\nscore = @\"rating\"\n", "same score"},
      {"an early stop by what no task makes",
       kTowers + "[train]\nearly_stop = { metric = @\"rmse\" }\n", "ranking task"},
      {"an early stop by retrieval where all is ranking",
       rating() + kRanking + "[train]\nearly_stop = { metric = @\"ndcg@20\" }\n", "retrieval task"},
      {"an early stop by a metric of another loss",
       rating() + kRanking + "[train]\nearly_stop = { metric = @\"auc\" }\n", "rmse, mae, mse"},
      {"a history that is too long",
       kTowers + feature("h", "query", "kind = \"sequence\"\nmax_length = @100000\n"),
       "max_length"},
      {"a history of an item",
       kUser + "[[feature]]\nname = \"v\"\nof = @\"candidate\"\nkind = \"sequence\"\n", "history"},
      {"hashing into nothing", kTowers + "@" + feature("a", "query", "kind = \"hashed\"\n"),
       "buckets"},
      {"boundaries that fall",
       kTowers + feature("a", "query", "kind = \"bucket\"\nboundaries = [1.0, @0.5]\n"), "fall"},
      {"a mean without a variance",
       kTowers + feature("a", "query", "kind = \"number\"\nmean = @1.0\n"), "variance"},
      {"a mask of an id", feature("u", "query", "mask = @\"0\"\n") + kItem, "mask"},
      {"a penalty of numbers", kTowers + feature("a", "query", "kind = \"number\"\nl2 = @0.1\n"),
       "l2"},
      {"a negative penalty", feature("u", "query", "l2 = @-0.1\n") + kItem, "l2"},
      {"an unknown rule of penalty", feature("u", "query", "penalty_rows = @\"some\"\n") + kItem,
       "batch"},
      {"a penalty of a layer without kernels",
       kTowers + inputs("{ kind = \"layer-norm\", l2 = @0.1 }"), "l2"},
      {"a range that is none",
       kTowers + inputs("{ kind = \"mlp\", units = [64], kernel_init = { kind = \"uniform\", low = "
                        "@0.5, high = 0.1 } }"),
       "less than"},
      {"a value of another initialiser",
       kTowers + inputs("{ kind = \"mlp\", units = [64], bias_init = { kind = \"zeros\", value = "
                        "@1.0 } }"),
       "value"},
      {"biases of a layer without them",
       kTowers + inputs("{ kind = \"mlp\", units = [64], use_bias = false, bias_l2 = @0.1 }"),
       "use_bias = true"},
      {"initial biases of a layer without them",
       kTowers + inputs("{ kind = \"mlp\", units = [64], use_bias = false, bias_init = @{ kind = "
                        "\"ones\" } }"),
       "use_bias = true"},
      {"rows of no penalty", feature("u", "query", "penalty_rows = @\"all\"\n") + kItem,
       "l1 or l2"},
      {"a mask that no value can be",
       kTowers + feature("a", "query", "kind = \"list\"\nmask = @\"x|y\"\n"), "separator"},
      {"a penalty that float32 cannot hold", feature("u", "query", "l1 = @1e39\n") + kItem,
       "1e\\+30"},
      {"initial values that float32 cannot hold",
       feature("u", "query", "init = { kind = \"constant\", value = @-1e39 }\n") + kItem, "value"},
      {"a spread that float32 cannot hold",
       feature("u", "query", "init = { kind = \"normal\", stddev = @1e39 }\n") + kItem, "stddev"},
      {"dropout of everything", kTowers + inputs("{ kind = \"dropout\", rate = @1.0 }"), "rate"},
      {"parts that are more than the whole",
       kTowers + "[split]\nmethod = \"random\"\ntrain = 0.9\ntest = @0.2\n", "more than 1"},
      {"two ways of clipping", kTowers + "[optimizer]\nclipvalue = 1.0\nclipnorm = @1.0\n",
       "only one of"},
      {"momentum without end", kTowers + "[optimizer]\nkind = \"sgd\"\nmomentum = @1.0\n",
       "momentum"},
      {"nesterov without momentum", kTowers + "[optimizer]\nkind = \"sgd\"\nnesterov = @true\n",
       "momentum"},
      {"a user that is the item",
       "[data]\ninteractions = \"no.csv\"\nuser = \"a\"\nitem = @\"a\"\n", "same column"},
      {"a filter that is none", "[data]\ninteractions = \"no.csv\"\nwhere = @\"rating\"\n", ""},
      {"a test file that nothing uses",
       "[data]\ninteractions = \"no.csv\"\ntest = @\"t.csv\"\n[split]\nmethod = \"random\"\n",
       "split"},
  };
}

TEST(ImpossibleModels, AreRefusedAtTheirPlaceBeforeDataIsRead) {
  const Workspace work;
  for (const Impossible& c : impossible_models()) {
    SCOPED_TRACE(c.what);
    const bool whole = c.text.rfind("[data]", 0) == 0;
    // The file of interactions does not exist: who reads it says so, with another exit code.
    const Marked m = unmarked((whole ? "" : "data.interactions = \"no.csv\"\n") + c.text);
    const std::string file = work.write("model.toml", m.text);
    for (const char* verb : {"validate", "train"}) {
      std::vector<std::string> arguments{verb, file};
      if (std::string(verb) == "train") {
        arguments.insert(arguments.end(), {"--out", work.path("run")});
      }
      expect_error(belfry_run(arguments), ExitCode::usage,
                   "model\\.toml:" + m.place + ": .*" + c.message);
    }
    EXPECT_FALSE(work.exists("run"));
  }
}

/// What only the data's header, or a file of ids, can contradict.
TEST(ImpossibleModels, AreRefusedWhereTheDataLacksWhatTheyName) {
  const Workspace work;
  work.write("r.csv", "user,item,stars\na,1,0.5\nb,2,1\n");
  work.write("bare.csv", "user,item\na,1\nb,2\n");
  work.write("empty.txt", "\n\n");
  const std::string data = "[data]\ninteractions = \"r.csv\"\n";
  const std::vector<Impossible> cases = {
      {"no items: nothing is known of accidental hits",
       "[data]\ninteractions = \"r.csv\"\nitem = @\"movie\"\n", "r\\.csv: no column \"movie\""},
      {"a feature's column that is not there",
       data + kUser + kItem + feature("s", "query", "kind = \"number\"\ncolumn = @\"hour\"\n") +
           network("query", "\"u\", \"s\"", "{ kind = \"mlp\", units = [64] }"),
       "no column \"hour\""},
      {"labels that are not there", data + rating() + kRanking + "label = @\"rating\"\n", "rating"},
      {"labels that [data] names",
       "[data]\ninteractions = \"r.csv\"\nlabel = @\"rating\"\n" + rating() + kRanking, "rating"},
      {"no labels at all", "[data]\ninteractions = \"bare.csv\"\n" + rating() + "@" + kRanking,
       "no label"},
      {"an empty vocabulary", "[data]\ninteractions = \"r.csv\"\nvocabulary = @\"empty.txt\"\n",
       "no id is in it"},
      {"an empty vocabulary of a feature",
       data + kUser + kItem +
           feature("s", "query",
                   "kind = \"category\"\ncolumn = \"stars\"\n"
                   "vocabulary = @\"empty.txt\"\n") +
           network("query", "\"u\", \"s\"", "{ kind = \"mlp\", units = [64] }"),
       "no id is in it"},
      {"a vocabulary of masked values and no row for others",
       data + kUser + kItem + "@" +
           feature("s", "query", "kind = \"category\"\ncolumn = \"k\"\nmask = \"x\"\noov = 0\n") +
           network("query", "\"u\", \"s\"", "{ kind = \"mlp\", units = [64] }"),
       "empty"},
  };
  for (const Impossible& c : cases) {
    SCOPED_TRACE(c.what);
    const Marked m = unmarked(c.text);
    if (std::string(c.what).starts_with("a vocabulary of masked")) {
      work.write("r.csv", "user,item,k\na,1,x\na,2,x\n");
    }
    const Answer answer = belfry_run({"validate", work.write("model.toml", m.text)});
    EXPECT_TRUE(answer.code == 2 || answer.code == 4) << answer.code;
    expect_error(answer, static_cast<ExitCode>(answer.code),
                 "model\\.toml:" + m.place + ": .*" + c.message);
  }
}

/// Data that the model cannot use, at its file, line and column.
TEST(ImpossibleModels, DataIsRefusedAtItsLine) {
  const Workspace work;
  const std::string lists = kRanking + "group_by = \"user\"\nlist_size = 2\nloss = \"softmax\"\n";
  const struct {
    const char* what;
    std::string rows, model;
    const char* pattern;
  } cases[] = {
      {"a negative weight", "a,1,1\nb,2,-2\n", "weight = \"stars\"\n", "r\\.csv:3:5: .*-2.*weight"},
      {"a click of 2", "a,1,0.5\nb,2,2\n", rating() + kRanking + "loss = \"bce-logits\"\n",
       "r\\.csv:3:5: .*2.*0 to 1"},
      {"a probability below 0", "a,1,-0.1\nb,2,1\n",
       rating(", final_activation = \"sigmoid\"") + kRanking + "loss = \"bce\"\n",
       "r\\.csv:2:5: .*0 to 1"},
      {"a negative label of a list", "a,1,1\na,2,-1\n", rating() + lists,
       "r\\.csv:3:5: .*not negative"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    work.write("r.csv", "user,item,stars\n" + c.rows);
    const std::string label = c.model.rfind("weight", 0) == 0 ? "" : "label = \"stars\"\n";
    const std::string file =
        work.write("model.toml", "[data]\ninteractions = \"r.csv\"\n" + label + c.model);
    expect_error(belfry_run({"train", file, "--out", work.path("run")}), ExitCode::bad_data,
                 c.pattern);
    EXPECT_FALSE(work.exists("run"));
    // Rows that are left out may hold anything.
    const std::string filter = "data.where=\"stars >= 0\"";
    if (std::string(c.what) != "a click of 2") {
      const Answer answer = belfry_run({"validate", file, filter});
      EXPECT_EQ(answer.code, 0) << answer.err;
    }
  }
}

/// Nothing is too small to train on and to answer.
TEST(ImpossibleModels, SmallOnesAreNot) {
  const struct {
    const char* what;
    std::string rows;
    std::vector<std::string> overrides;
  } cases[] = {
      {"one row", "a,1,5\n", {}},
      {"one user", "a,1,5\na,2,3\na,3,4\na,4,1\n", {}},
      {"one item", "a,1,5\nb,1,3\nc,1,4\nd,1,1\n", {}},
      {"a batch of 1", "a,1,5\nb,2,3\na,3,4\nb,1,1\n", {"train.batch_size=1"}},
      {"a last batch of 1", "a,1,5\nb,2,3\na,3,4\nb,1,1\nc,1,2\n", {"train.batch_size=2"}},
      {"no row but drawn items",
       "a,1,5\na,2,5\n",
       {"task.loss=sampled-softmax", "task.negatives={in_batch=false,uniform=3}"}},
      {"a batch of more than there is",
       "a,1,5\na,2,3\n",
       {"train.batch_size=64", "train.drop_remainder=true"}},
      {"early stopping without a row to validate", "a,1,5\na,2,3\n", {"train.early_stop=true"}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    const Workspace work;
    work.write("r.csv", "user,item,stars\n" + c.rows);
    std::vector<std::string> arguments{"train", work.path("r.csv"), "--out", work.path("run"),
                                       "-q",    "train.epochs=2"};
    arguments.insert(arguments.end(), c.overrides.begin(), c.overrides.end());
    expect_good(belfry_run(arguments));
    const Answer answer =
        belfry_run({"recommend", work.path("run"), "--user", "a", "--include-seen"});
    expect_good(answer);
    EXPECT_NE(answer.out.find('1'), std::string::npos);
  }
}

TEST(ImpossibleModels, NoTrainingRowIsTooFew) {
  const Workspace work;
  work.write("r.csv", "user,item\na,1\nb,2\n");
  expect_error(belfry_run({"train", work.path("r.csv"), "--out", work.path("run"),
                           "split.method=random", "split.test=2"}),
               ExitCode::usage, "leaves no row to train on");
}

}  // namespace
}  // namespace belfry::test
