// SPDX-License-Identifier: Apache-2.0
// Penalties of tables, kernels and biases in training: one step of SGD shows their gradient, the loss their
// value.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "engine/trainer.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

constexpr double kRate = 0.125;

/// Towers of tables with an mlp and a cross behind them; `user`, `item`: keys of the features, `layer`, `cross`:
/// of the layers.
struct Keys {
  std::string user = {}, item = {}, layer = {}, cross = {}, more = {};
};

class Penalties : public ::testing::Test {
 protected:
  Penalties() {
    std::string rows = "user,item\n";
    for (int i = 0; i < 60; ++i) {
      rows += "u" + std::to_string(i * i % 23) + ",i" + std::to_string(i * 7 % 17) + "\n";
    }
    folder_.write("r.csv", rows);
  }
  Loaded load(const Keys& keys) const {
    const auto feature = [](const std::string& name, const std::string& of, const std::string& k) {
      return "[[feature]]\nname = \"" + name + "\"\nof = \"" + of + "\"\ndim = 6\n" + k + "\n";
    };
    return folder_.load(
        "[data]\ninteractions = \"r.csv\"\n[train]\nbatch_size = 8\nearly_stop = false\n"
        "shuffle = \"none\"\n" +
        (keys.more.empty() ? "[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.125\n" : keys.more) +
        feature("user", "query", keys.user) + feature("item", "candidate", keys.item) +
        "[[network]]\nname = \"query\"\ninputs = [\"user\"]\nlayers = [{ kind = \"mlp\", units = "
        "[5, 4], kernel_init = { kind = \"normal\" }, bias_init = { kind = \"constant\", value = "
        "0.5 }" +
        keys.layer +
        " }]\n[[network]]\nname = \"candidate\"\ninputs = [\"item\"]\nlayers = [{ kind = "
        "\"cross\", projection_dim = 3" +
        keys.cross + " }, { kind = \"mlp\", units = [4] }]\n");
  }
  ModelFolder folder_;
};

using Values = std::map<std::string, std::vector<double>>;

Values values_of(const ParameterRegistry& registry) {
  Values out;
  for (int p = 0; p < registry.size(); ++p) {
    std::vector<double>& to = out[registry.at(p).name];
    for (const float x : host_values(registry.at(p).value)) to.push_back(x);
    for (const bf16 x : host_values(registry.at(p).value16)) to.push_back(to_float(x));
  }
  return out;
}

struct Step {
  Values before, after;
  double loss = 0;  // of a row
};

Step one_step(const Loaded& l) {
  const Context ctx = make_context(2);
  const TempFolder folder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  Step out;
  out.before = values_of(trainer.model().registry());
  out.loss = trainer.train_step(0, 0) / 8;
  out.after = values_of(trainer.model().registry());
  return out;
}

/// How a penalty moved each element, over the rate: minus its gradient.
std::vector<double> pull(const Step& with, const Step& without, const std::string& name) {
  std::vector<double> out;
  for (std::size_t i = 0; i < with.after.at(name).size(); ++i) {
    out.push_back((with.after.at(name)[i] - without.after.at(name)[i]) / -kRate);
  }
  return out;
}

std::vector<double> gradient(double l1, double l2, const std::vector<double>& w) {
  std::vector<double> out;
  for (const double x : w) out.push_back(2 * l2 * x + (x > 0 ? l1 : x < 0 ? -l1 : 0));
  return out;
}
double value(double l1, double l2, const std::vector<double>& w) {
  double sum = 0;
  for (const double x : w) sum += l1 * std::abs(x) + l2 * x * x;
  return sum;
}

TEST_F(Penalties, OfKernelsAndBiases) {
  const Step plain = one_step(load({}));
  const Step with = one_step(load({.layer = ", l1 = 0.01, l2 = 0.3, bias_l1 = 0.2, bias_l2 = 0.1",
                                   .cross = ", l2 = 0.05, bias_l1 = 0.5"}));
  double added = 0;
  std::set<std::string> seen;
  const auto expect = [&](const std::string& name, double l1, double l2) {
    const std::vector<double>& w = with.before.at(name);
    expect_near(pull(with, plain, name), gradient(l1, l2, w), 1e-4, 2e-6, name);
    added += value(l1, l2, w);
    seen.insert(name);
  };
  for (const char* layer : {"query.0", "query.1"}) {
    expect(std::string(layer) + ".kernel", 0.01, 0.3);
    expect(std::string(layer) + ".bias", 0.2, 0.1);
    EXPECT_EQ(with.before.at(std::string(layer) + ".bias").front(), 0.5) << "bias_init";
  }
  expect("candidate.0.0.kernel", 0, 0.05);
  expect("candidate.0.0.projection", 0, 0.05);
  expect("candidate.0.0.bias", 0.5, 0);
  for (const auto& [name, w] : with.before) {
    if (seen.count(name) != 0) continue;
    EXPECT_EQ(with.after.at(name), plain.after.at(name)) << name;
  }
  EXPECT_NEAR(with.loss, plain.loss + added, 1e-6);
}

/// As Keras's kernel_regularizer and bias_regularizer: the recurrent kernel has one of its own there.
TEST_F(Penalties, OfAGruLeaveItsRecurrentKernel) {
  std::string rows = "user,item,time\n";
  for (int i = 0; i < 60; ++i) {
    rows += "u" + std::to_string(i % 6) + ",i" + std::to_string(i * 7 % 17) + "," +
            std::to_string(i) + "\n";
  }
  folder_.write("s.csv", rows);
  const auto load = [&](const std::string& keys) {
    return folder_.load(
        "[data]\ninteractions = \"s.csv\"\ntime = \"time\"\n[train]\nbatch_size = 8\nearly_stop = "
        "false\nshuffle = \"none\"\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.125\n"
        "[[feature]]\nname = \"history\"\nof = \"query\"\nkind = \"sequence\"\nmax_length = 4\n"
        "dim = 3\n[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 5\n"
        "[[network]]\nname = \"query\"\ninputs = [\"history\"]\nlayers = [{ kind = \"gru\", units "
        "= 5, "
        "bias_init = { kind = \"constant\", value = 0.5 }" +
        keys + " }]\n");
  };
  const Step plain = one_step(load("")), with = one_step(load(", l2 = 0.5, bias_l1 = 0.25"));
  const std::vector<double>&kernel = with.before.at("query.0.kernel"),
        &bias = with.before.at("query.0.bias");
  expect_near(pull(with, plain, "query.0.kernel"), gradient(0, 0.5, kernel), 1e-4, 2e-6, "kernel");
  expect_near(pull(with, plain, "query.0.bias"), gradient(0.25, 0, bias), 1e-4, 2e-6, "bias");
  EXPECT_EQ(with.after.at("query.0.recurrent"), plain.after.at("query.0.recurrent"));
  EXPECT_NEAR(with.loss, plain.loss + value(0, 0.5, kernel) + value(0.25, 0, bias), 2e-6);
}

TEST_F(Penalties, OfATablesRowsInTheBatch) {
  const Loaded l = load({.user = "l1 = 0.01\nl2 = 0.25"});
  const Step plain = one_step(load({})), with = one_step(l);
  // The first 8 rows, in order; users are numbered as the vocabulary's tokens, behind one unknown row.
  std::set<std::size_t> rows;
  for (std::size_t i = 0; i < 8; ++i)
    rows.insert(static_cast<std::size_t>(l.data.train.user[i]) + 1);
  const std::string name = "user.embedding";
  const std::vector<double>& w = with.before.at(name);
  std::vector<double> counted = w;
  for (std::size_t i = 0; i < w.size(); ++i) counted[i] = rows.count(i / 6) != 0 ? w[i] : 0;
  ASSERT_LT(rows.size(), w.size() / 6);
  expect_near(pull(with, plain, name), gradient(0.01, 0.25, counted), 1e-4, 2e-6, name);
  EXPECT_EQ(with.after.at("item.embedding"), plain.after.at("item.embedding"));
  EXPECT_NEAR(with.loss, plain.loss + value(0.01, 0.25, counted), 1e-6);
}

TEST_F(Penalties, OfAllRowsOfATable) {
  const Step plain = one_step(load({}));
  const Step with = one_step(load({.item = "l1 = 0.02\nl2 = 0.5\npenalty_rows = \"all\""}));
  const std::vector<double>& w = with.before.at("item.embedding");
  expect_near(pull(with, plain, "item.embedding"), gradient(0.02, 0.5, w), 1e-4, 2e-6, "item");
  EXPECT_NEAR(with.loss, plain.loss + value(0.02, 0.5, w), 1e-6);
}

TEST_F(Penalties, AllRowsMoveUnderALazyOptimizerToo) {
  const std::string adam = "[optimizer]\nlearning_rate = 0.01\n";  // lazy
  const Step batch = one_step(load({.user = "l2 = 0.1", .more = adam}));
  const Step all = one_step(load({.user = "l2 = 0.1\npenalty_rows = \"all\"", .more = adam}));
  const std::string name = "user.embedding";
  std::size_t stay = 0;
  for (std::size_t i = 0; i < all.before.at(name).size(); ++i) {
    stay += batch.before.at(name)[i] == batch.after.at(name)[i] ? 1 : 0;
    // A first step of Adam is as long as the rate, whatever the gradient.
    const double moved = all.after.at(name)[i] - all.before.at(name)[i];
    EXPECT_NEAR(std::abs(moved), 0.01, 1e-4) << i;
    if (batch.before.at(name)[i] == batch.after.at(name)[i]) {
      EXPECT_LT(moved * all.before.at(name)[i], 0) << "towards 0";
    }
  }
  EXPECT_GT(stay, all.before.at(name).size() / 3);
}

TEST_F(Penalties, TablesInBf16) {
  const std::string more =
      "precision = \"bf16\"\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.125\n";
  const Step all =
      one_step(load({.user = "l2 = 2\npenalty_rows = \"all\"", .item = "l2 = 2", .more = more}));
  const Step plain = one_step(load({.more = more}));
  for (const char* name : {"user.embedding", "item.embedding"}) {
    const std::vector<double>& w = all.before.at(name);
    const bool whole = std::string(name) == "user.embedding";
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double moved = all.after.at(name)[i] - plain.after.at(name)[i];
      if (!whole && plain.after.at(name)[i] == w[i] && moved == 0) continue;  // not in the batch
      // Half of every value goes; each result is rounded, by up to 1/128 of it.
      const double rounding =
          (std::abs(all.after.at(name)[i]) + std::abs(plain.after.at(name)[i])) / 128;
      EXPECT_NEAR(moved, -0.5 * w[i], rounding + 1e-6) << name << " " << i;
    }
  }
  EXPECT_GT(all.loss, plain.loss);
}

TEST_F(Penalties, AreClippedWithTheGradient) {
  const std::string more = "[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.125\nclipvalue = 0.01\n";
  const Step with = one_step(load({.user = "l2 = 1000\npenalty_rows = \"all\"",
                                   .item = "l2 = 1000",
                                   .layer = ", l2 = 1000",
                                   .more = more}));
  for (const char* name : {"user.embedding", "query.0.kernel"}) {
    for (std::size_t i = 0; i < with.before.at(name).size(); ++i) {
      const double w = with.before.at(name)[i];
      if (std::abs(w) < 1e-3) continue;
      EXPECT_NEAR(with.after.at(name)[i] - w, w > 0 ? -0.00125 : 0.00125, 1e-6) << name;
    }
  }
  double most = 0;  // that of rows in the batch comes behind the clipping
  for (std::size_t i = 0; i < with.before.at("item.embedding").size(); ++i) {
    most = std::max(
        most, std::abs(with.after.at("item.embedding")[i] - with.before.at("item.embedding")[i]));
  }
  EXPECT_GT(most, 1);
}

/// A whole training, whose later steps a device replays from graphs.
TEST_F(Penalties, TrainingIsTheSameOnEveryBackend) {
  const Loaded l = load({.user = "l2 = 0.01\npenalty_rows = \"all\"",
                         .item = "l1 = 0.001\nl2 = 0.01",
                         .layer = ", l2 = 0.01, bias_l2 = 0.01",
                         .cross = ", l1 = 0.001"});
  const auto train = [&](const Context& ctx) {
    const TempFolder folder;
    Recorder recorder;
    Config config = l.config;
    config.train.epochs = 4;
    Trainer trainer(ctx, config, l.data, folder.path());
    EXPECT_EQ(trainer.run(recorder, {}), TrainOutcome::finished);
    std::vector<float> out = all_values(trainer.model().registry());
    out.push_back(static_cast<float>(recorder.epochs.back().loss_mean));
    return out;
  };
  const std::vector<float> host = train(Context(Backend::cpu, 1)),
                           same = train(make_context(on_device() ? 1 : 3));
  expect_near(same, std::vector<double>(host.begin(), host.end()), 1e-4, 1e-5, "all parameters");
  if (on_device()) return;
  EXPECT_EQ(host, same) << "of another number of threads";
}

TEST_F(Penalties, EachTableHasTheOptimizerOfItsGroup) {
  const Loaded l =
      load({.user = "init = { kind = \"constant\", value = 0.25 }",
            .more = "[optimizer]\nkind = \"adam\"\nlearning_rate = 0.01\n[[optimizer.group]]\n"
                    "match = \"item.embedding\"\nkind = \"adagrad\"\nlearning_rate = 0.1\n"
                    "[[optimizer.group]]\nmatch = \"*.bias\"\nkind = \"sgd\"\n"});
  const Context ctx = make_context(1);
  const TempFolder folder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  const ParameterRegistry& registry = trainer.model().registry();
  const auto at = [&](const char* name) -> const Parameter& {
    return registry.at(registry.find(name));
  };
  EXPECT_EQ(at("user.embedding").optimizer.kind, OptimizerKind::adam);
  EXPECT_EQ(at("user.embedding").slots.size(), 2u);
  EXPECT_EQ(at("item.embedding").optimizer.kind, OptimizerKind::adagrad);
  EXPECT_EQ(at("item.embedding").slots.size(), 1u);
  EXPECT_EQ(at("query.0.bias").optimizer.kind, OptimizerKind::sgd);
  const Values before = values_of(registry);
  EXPECT_EQ(before.at("user.embedding").back(), 0.25);
  trainer.train_step(0, 0);
  const Values after = values_of(registry);
  // A first step: of Adam's rate, and of Adagrad's rate g / sqrt(0.1 + g^2).
  double adam = 0, adagrad = 0;
  for (std::size_t i = 0; i < after.at("user.embedding").size(); ++i) {
    adam = std::max(adam, std::abs(after.at("user.embedding")[i] - 0.25));
  }
  for (std::size_t i = 0; i < after.at("item.embedding").size(); ++i) {
    adagrad =
        std::max(adagrad, std::abs(after.at("item.embedding")[i] - before.at("item.embedding")[i]));
  }
  EXPECT_NEAR(adam, 0.01, 1e-4);
  EXPECT_GT(adagrad, 1e-5);
  EXPECT_LT(adagrad, 0.1);
}

}  // namespace
}  // namespace belfry::test
