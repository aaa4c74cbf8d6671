// SPDX-License-Identifier: Apache-2.0
#include "engine/parameter_registry.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/error.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

InitConfig init(InitKind kind, double a = 0, double b = 0) {
  InitConfig c;
  c.kind = kind;
  (kind == InitKind::uniform ? c.low : c.mean) = a;
  (kind == InitKind::uniform ? c.high : c.stddev) = b;
  return c;
}

std::vector<float> drawn(const InitConfig& config, std::int64_t rows, std::int64_t cols,
                         std::uint64_t seed = 1, int threads = 2, const std::string& name = "p") {
  const Context ctx = make_context(threads);
  ParameterRegistry registry(backend_under_test());
  registry.add(name, rows, cols, true, config);
  registry.initialise(ctx, seed);
  return all_values(registry);
}

struct Moments {
  double mean = 0, stddev = 0, low = 1e30, high = -1e30;
};
Moments moments(const std::vector<float>& v) {
  Moments m;
  for (const float x : v) {
    m.mean += x / static_cast<double>(v.size());
    m.low = std::min(m.low, static_cast<double>(x));
    m.high = std::max(m.high, static_cast<double>(x));
  }
  for (const float x : v) m.stddev += (x - m.mean) * (x - m.mean) / static_cast<double>(v.size());
  m.stddev = std::sqrt(m.stddev);
  return m;
}

TEST(ParameterRegistry, InitialValuesHaveTheirMoments) {
  constexpr std::int64_t kRows = 1000, kCols = 100;  // sd of a mean: stddev / 316
  const Moments uniform = moments(drawn(init(InitKind::uniform, -0.2, 0.6), kRows, kCols));
  EXPECT_NEAR(uniform.mean, 0.2, 0.004);
  EXPECT_NEAR(uniform.stddev, 0.8 / std::sqrt(12.0), 0.003);
  EXPECT_GE(uniform.low, -0.2);
  EXPECT_LE(uniform.high, 0.6);
  EXPECT_LT(uniform.low, -0.199);
  EXPECT_GT(uniform.high, 0.599);

  const Moments normal = moments(drawn(init(InitKind::normal, 1, 0.5), kRows, kCols));
  EXPECT_NEAR(normal.mean, 1, 0.008);
  EXPECT_NEAR(normal.stddev, 0.5, 0.006);
  EXPECT_GT(normal.high, 1 + 3.5 * 0.5);

  // A normal cut at two standard deviations has the standard deviation 0.87962.
  const Moments cut = moments(drawn(init(InitKind::truncated_normal, 1, 0.5), kRows, kCols));
  EXPECT_NEAR(cut.mean, 1, 0.007);
  EXPECT_NEAR(cut.stddev, 0.5 * 0.879626, 0.005);
  EXPECT_GE(cut.low, 0);
  EXPECT_LE(cut.high, 2);
  EXPECT_LT(cut.low, 0.01);
  EXPECT_GT(cut.high, 1.99);

  const double limit = std::sqrt(6.0 / (kRows + kCols));
  const Moments glorot = moments(drawn(init(InitKind::glorot_uniform), kRows, kCols));
  EXPECT_NEAR(glorot.mean, 0, 0.0006);
  EXPECT_LE(glorot.high, limit);
  EXPECT_GE(glorot.low, -limit);
  EXPECT_GT(glorot.high, 0.999 * limit);

  EXPECT_EQ(moments(drawn(init(InitKind::zeros), 3, 3)).high, 0);
  EXPECT_EQ(moments(drawn(init(InitKind::ones), 3, 3)).low, 1);
  InitConfig constant = init(InitKind::constant);
  constant.value = -0.375;
  EXPECT_EQ(drawn(constant, 2, 2), std::vector<float>(4, -0.375f));
}

TEST(ParameterRegistry, KernelsAreScaledByTheirFans) {
  constexpr std::int64_t kRows = 400, kCols = 250;
  const auto check = [&](InitKind kind, double variance, double most) {
    const Moments m = moments(drawn(init(kind), kRows, kCols));
    EXPECT_NEAR(m.mean, 0, 4 * std::sqrt(variance / (kRows * kCols)));
    EXPECT_NEAR(m.stddev, std::sqrt(variance), 0.01 * std::sqrt(variance));
    EXPECT_LE(m.high, most);
    EXPECT_GT(m.high, 0.98 * most);
    EXPECT_GE(m.low, -most);
  };
  // Keras's VarianceScaling: a uniform ends at sqrt(3 v), a normal is cut at two of its deviations before.
  const double glorot = 2.0 / (kRows + kCols), he = 2.0 / kRows;
  check(InitKind::glorot_uniform, glorot, std::sqrt(3 * glorot));
  check(InitKind::he_uniform, he, std::sqrt(3 * he));
  check(InitKind::glorot_normal, glorot, 2 * std::sqrt(glorot) / 0.879626);
  check(InitKind::he_normal, he, 2 * std::sqrt(he) / 0.879626);
}

TEST(ParameterRegistry, ANormalIsNormal) {
  const auto v = drawn(init(InitKind::normal, 0, 1), 500, 200);
  // Shares below z, each within four of its own standard deviations.
  for (const auto& [z, p] : std::vector<std::pair<double, double>>{
           {-2, 0.02275}, {-1, 0.15866}, {0, 0.5}, {1, 0.84134}, {2, 0.97725}}) {
    const auto n = static_cast<double>(v.size());
    const auto below = static_cast<double>(
        std::count_if(v.begin(), v.end(), [&, z = z](float x) { return x < z; }));
    EXPECT_NEAR(below / n, p, 4 * std::sqrt(p * (1 - p) / n)) << z;
  }
  // Neighbours do not know each other.
  double product = 0;
  for (std::size_t i = 1; i < v.size(); ++i) product += v[i] * v[i - 1];
  EXPECT_NEAR(product / static_cast<double>(v.size()), 0, 0.013);
}

/// Several groups of vectors and a rest, wide, tall and square.
TEST(ParameterRegistry, OrthogonalVectors) {
  for (const auto& [rows, cols] : {std::pair{83, 150}, {150, 83}, {64, 64}, {3, 90}, {1, 7}}) {
    const std::vector<float> q = drawn(init(InitKind::orthogonal), rows, cols);
    const int n = std::min(rows, cols), length = std::max(rows, cols);
    const auto at = [&](int v, int i) {
      return static_cast<double>(
          q[static_cast<std::size_t>(rows <= cols ? v * cols + i : i * cols + v)]);
    };
    for (int a = 0; a < n; ++a) {
      for (int b = 0; b <= a; ++b) {
        double product = 0;
        for (int i = 0; i < length; ++i) product += at(a, i) * at(b, i);
        ASSERT_NEAR(product, a == b ? 1 : 0, 3e-7) << rows << " " << a << " " << b;
      }
    }
    for (const int threads : {1, 3}) {
      EXPECT_EQ(drawn(init(InitKind::orthogonal), rows, cols, 1, threads), q) << rows;
    }
  }
}

TEST(ParameterRegistry, DrawsDependOnSeedAndNameAlone) {
  for (const InitKind kind : {InitKind::uniform, InitKind::normal, InitKind::truncated_normal}) {
    const InitConfig config = init(kind, 0, 0.5);
    const auto one = drawn(config, 3000, 50, 7, 1);
    for (const int threads : {2, 4}) {
      expect_equal_bits(drawn(config, 3000, 50, 7, threads), one, "threads");
    }
    EXPECT_NE(drawn(config, 3000, 50, 8), one);
    EXPECT_NE(drawn(config, 3000, 50, 7, 2, "q"), one);
  }
  // Another parameter before it changes nothing.
  const Context ctx = make_context(1);
  ParameterRegistry two(backend_under_test());
  two.add("first", 10, 10, false, init(InitKind::normal, 0, 1));
  two.add("p", 20, 5, true, init(InitKind::normal, 0, 1));
  two.initialise(ctx, 3);
  const auto alone = drawn(init(InitKind::normal, 0, 1), 20, 5, 3);
  expect_equal_bits(host_values(two.at(1).value), alone, "beside another");
}

TEST(ParameterRegistry, Globs) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*.embedding", "user.embedding"));
  EXPECT_FALSE(glob_match("*.embedding", "user.embeddings"));
  EXPECT_TRUE(glob_match("query.?.kernel", "query.0.kernel"));
  EXPECT_FALSE(glob_match("query.?.kernel", "query.10.kernel"));
  EXPECT_TRUE(glob_match("a*b*c", "a--b-bc"));
  EXPECT_FALSE(glob_match("a*b*c", "a--b-b"));
  EXPECT_TRUE(glob_match("*a*", "bab"));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("a?", "a"));
}

ParameterRegistry three_parameters() {
  ParameterRegistry r(backend_under_test());
  r.add("user.embedding", 6, 4, true, init(InitKind::normal, 0, 1));
  r.add("query.0.kernel", 4, 3, false, init(InitKind::glorot_uniform));
  r.add("query.0.bias", 1, 3, false, init(InitKind::zeros));
  return r;
}

TEST(ParameterRegistry, GroupsAndSlots) {
  ParameterRegistry r = three_parameters();
  EXPECT_THROW(r.add("query.0.bias", 1, 3, false, {}), ContractError);
  EXPECT_EQ(r.find("query.0.kernel"), 1);
  EXPECT_EQ(r.find("kernel"), -1);
  OptimizerConfig config;
  config.main.options.kind = OptimizerKind::adam;
  config.groups.resize(3);
  config.groups[0].match = "*.bias";
  config.groups[1].match = "*.embedding";
  config.groups[1].options.kind = OptimizerKind::rowwise_adagrad;
  config.groups[1].initial_accumulator_value = 0.25;
  config.groups[2].match = "*.e*";  // the first that fits has won
  config.groups[2].options.kind = OptimizerKind::sgd;
  r.prepare_training(config);
  EXPECT_EQ(r.at(0).optimizer.group, 2);
  EXPECT_EQ(r.at(1).optimizer.group, 0);
  ASSERT_EQ(r.at(0).slots.size(), 1u);
  EXPECT_EQ(r.at(0).slots[0].size(), 6);
  EXPECT_EQ(host_values(r.at(0).slots[0]), std::vector<float>(6, 0.25f));
  ASSERT_EQ(r.at(1).slots.size(), 2u);
  EXPECT_EQ(r.at(1).slots[1].size(), 12);
  EXPECT_EQ(host_values(r.at(1).slots[1]), std::vector<float>(12, 0.0f));
  EXPECT_EQ(r.at(0).gradient.size(), 0);
  EXPECT_EQ(r.at(1).gradient.size(), 12);
  EXPECT_EQ(r.bytes(), 4 * ((24 + 6) + (12 + 12 + 24) + (3 + 3 + 6)));
  r.release_training();
  EXPECT_EQ(r.bytes(), 4 * (24 + 12 + 3));
}

void save(const Context& ctx, const ParameterRegistry& r, const std::filesystem::path& path,
          bool with_slots) {
  SafetensorsWriter writer;
  r.add_to(ctx, writer, with_slots);
  OutputFile file(path);
  writer.write(file);
  file.commit();
}

TEST(ParameterRegistry, SavesAndReads) {
  const Context ctx = make_context(2);
  const TempFolder folder;
  OptimizerConfig adam;
  adam.main.options.kind = OptimizerKind::adam;
  ParameterRegistry a = three_parameters(), b = three_parameters();
  a.prepare_training(adam);
  b.prepare_training(adam);
  a.initialise(ctx, 5);
  for (int p = 0; p < a.size(); ++p) {
    for (auto& slot : a.at(p).slots) {
      std::vector<float> values(static_cast<std::size_t>(slot.size()));
      std::iota(values.begin(), values.end(), static_cast<float>(p) + 0.5f);
      set_values(slot, values);
    }
  }
  save(ctx, a, folder / "with", true);
  save(ctx, a, folder / "without", false);
  b.read_from(ctx, SafetensorsFile(folder / "with"), true);
  expect_equal_bits(all_values(b), all_values(a), "with slots");
  ParameterRegistry c = three_parameters();
  c.read_from(ctx, SafetensorsFile(folder / "without"), false);
  expect_equal_bits(all_values(c), all_values(a, false), "values");
  // Slots that the file lacks.
  EXPECT_EQ(error_of([&] { b.read_from(ctx, SafetensorsFile(folder / "without"), true); }).code(),
            ExitCode::bad_model);
}

TEST(ParameterRegistry, LargeTablesInPieces) {
  // More than passes between host and device at a time, and not a multiple of it.
  const Context ctx = make_context(2);
  const TempFolder folder;
  constexpr std::int64_t kRows = (std::int64_t{1} << 20) + 3, kCols = 5;
  const auto table = [&] {
    ParameterRegistry r(backend_under_test());
    r.add("t", kRows, kCols, true, init(InitKind::uniform, -1, 1));
    return r;
  };
  ParameterRegistry a = table(), b = table();
  OptimizerConfig adagrad;
  adagrad.main.options.kind = OptimizerKind::adagrad;
  adagrad.main.initial_accumulator_value = 0.5;
  a.prepare_training(adagrad);
  EXPECT_EQ(host_values(a.at(0).slots[0]),
            std::vector<float>(static_cast<std::size_t>(kRows * kCols), 0.5f));
  a.initialise(ctx, 9);
  ParameterRegistry host(Backend::cpu);
  host.add("t", kRows, kCols, true, init(InitKind::uniform, -1, 1));
  host.initialise(Context(Backend::cpu, 2), 9);
  expect_equal_bits(all_values(a, false), all_values(host), "on the backend");
  save(ctx, a, folder / "f", false);
  b.read_from(ctx, SafetensorsFile(folder / "f"), false);
  expect_equal_bits(all_values(b), all_values(host), "read again");
}

TEST(ParameterRegistry, RefusesFilesOfAnotherShape) {
  const Context ctx = make_context(1);
  const TempFolder folder;
  const auto refused = [&](ParameterRegistry& from, ParameterRegistry& to, bool slots) {
    save(ctx, from, folder / "f", slots);
    const Error e = error_of([&] { to.read_from(ctx, SafetensorsFile(folder / "f"), slots); });
    EXPECT_EQ(e.code(), ExitCode::bad_model) << e.what();
    EXPECT_NE(e.where().find("/f"), std::string::npos) << e.where();
  };
  ParameterRegistry model(backend_under_test());
  model.add("a", 3, 4, true, {});
  for (const auto& [rows, cols] : {std::pair{4, 3}, std::pair{3, 5}, std::pair{2, 4}}) {
    ParameterRegistry other(backend_under_test());
    other.add("a", rows, cols, true, {});
    refused(other, model, false);
  }
  ParameterRegistry named(backend_under_test());
  named.add("b", 3, 4, true, {});
  refused(named, model, false);
  // Adagrad's accumulator is no row-wise accumulator.
  OptimizerConfig full, rowwise;
  full.main.options.kind = OptimizerKind::adagrad;
  rowwise.main.options.kind = OptimizerKind::rowwise_adagrad;
  ParameterRegistry trained(backend_under_test());
  trained.add("a", 3, 4, true, {});
  trained.prepare_training(full);
  model.prepare_training(rowwise);
  refused(trained, model, true);
}

TEST(ParameterRegistry, AGroupThatFitsNoParameterIsRefused) {
  ParameterRegistry model(backend_under_test());
  model.add("movie.embedding", 3, 4, true, {});
  model.add("query.0.kernel", 4, 2, false, {});
  OptimizerConfig config;
  config.groups = {config.main, config.main};
  config.groups[0].match = "*.embedding";
  config.groups[1].match = "query.*";
  model.prepare_training(config);
  EXPECT_EQ(model.at(0).optimizer.group, 1);
  EXPECT_EQ(model.at(1).optimizer.group, 2);
  config.groups[1].match = "movie.embeding";
  config.groups[1].place = "m.toml:7:1";
  const Error e = error_of([&] { model.prepare_training(config); });
  EXPECT_EQ(e.code(), ExitCode::usage);
  EXPECT_EQ(e.where(), "m.toml:7:1");
  EXPECT_NE(std::string(e.what()).find("movie.embedding"), std::string::npos) << e.what();
}

// Adam: two slots of each; layers have a gradient of their own besides.
TEST(ParameterRegistry, MeasuresWithoutMemory) {
  ParameterRegistry model(backend_under_test());
  model.measure_only();
  model.add("table", 1'000'000'000, 64, true, {});
  model.add("half", 1000, 64, true, {}, true);
  model.add("kernel", 65536, 196608, false, {});
  EXPECT_EQ(model.training_bytes({}),
            1'000'000'000LL * 64 * 12 + 1000 * 64 * 10 + 65536LL * 196608 * 16);
}

}  // namespace
}  // namespace belfry::test
