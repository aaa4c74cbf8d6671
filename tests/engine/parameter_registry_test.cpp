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
  const Context ctx(Backend::cpu, threads);
  ParameterRegistry registry(Backend::cpu);
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
  const Context ctx(Backend::cpu, 1);
  ParameterRegistry two(Backend::cpu);
  two.add("first", 10, 10, false, init(InitKind::normal, 0, 1));
  two.add("p", 20, 5, true, init(InitKind::normal, 0, 1));
  two.initialise(ctx, 3);
  const auto alone = drawn(init(InitKind::normal, 0, 1), 20, 5, 3);
  const std::vector<float> second(two.at(1).value.data(), two.at(1).value.data() + 100);
  expect_equal_bits(second, alone, "beside another");
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
  ParameterRegistry r(Backend::cpu);
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
  config.groups[0].match = "nothing";
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
  for (int i = 0; i < 6; ++i) EXPECT_EQ(r.at(0).slots[0].data()[i], 0.25f);
  ASSERT_EQ(r.at(1).slots.size(), 2u);
  EXPECT_EQ(r.at(1).slots[1].size(), 12);
  EXPECT_EQ(r.at(1).slots[1].data()[0], 0.0f);
  EXPECT_EQ(r.at(0).gradient.size(), 0);
  EXPECT_EQ(r.at(1).gradient.size(), 12);
  EXPECT_EQ(r.bytes(), 4 * ((24 + 6) + (12 + 12 + 24) + (3 + 3 + 6)));
  r.release_training();
  EXPECT_EQ(r.bytes(), 4 * (24 + 12 + 3));
}

void save(const ParameterRegistry& r, const std::filesystem::path& path, bool with_slots) {
  SafetensorsWriter writer;
  r.add_to(writer, with_slots);
  OutputFile file(path);
  writer.write(file);
  file.commit();
}

TEST(ParameterRegistry, SavesAndReads) {
  const Context ctx(Backend::cpu, 2);
  const TempFolder folder;
  OptimizerConfig adam;
  adam.main.options.kind = OptimizerKind::adam;
  ParameterRegistry a = three_parameters(), b = three_parameters();
  a.prepare_training(adam);
  b.prepare_training(adam);
  a.initialise(ctx, 5);
  for (int p = 0; p < a.size(); ++p) {
    for (auto& slot : a.at(p).slots) std::iota(slot.data(), slot.data() + slot.size(), p + 0.5f);
  }
  save(a, folder / "with", true);
  save(a, folder / "without", false);
  b.read_from(SafetensorsFile(folder / "with"), true);
  expect_equal_bits(all_values(b), all_values(a), "with slots");
  ParameterRegistry c = three_parameters();
  c.read_from(SafetensorsFile(folder / "without"), false);
  expect_equal_bits(all_values(c), all_values(a, false), "values");
  // Slots that the file lacks.
  EXPECT_EQ(error_of([&] { b.read_from(SafetensorsFile(folder / "without"), true); }).code(),
            ExitCode::bad_model);
}

TEST(ParameterRegistry, RefusesFilesOfAnotherShape) {
  const TempFolder folder;
  const auto refused = [&](ParameterRegistry& from, ParameterRegistry& to, bool slots) {
    save(from, folder / "f", slots);
    const Error e = error_of([&] { to.read_from(SafetensorsFile(folder / "f"), slots); });
    EXPECT_EQ(e.code(), ExitCode::bad_model) << e.what();
    EXPECT_NE(e.where().find("/f"), std::string::npos) << e.where();
  };
  ParameterRegistry model(Backend::cpu);
  model.add("a", 3, 4, true, {});
  for (const auto& [rows, cols] : {std::pair{4, 3}, std::pair{3, 5}, std::pair{2, 4}}) {
    ParameterRegistry other(Backend::cpu);
    other.add("a", rows, cols, true, {});
    refused(other, model, false);
  }
  ParameterRegistry named(Backend::cpu);
  named.add("b", 3, 4, true, {});
  refused(named, model, false);
  // Adagrad's accumulator is no row-wise accumulator.
  OptimizerConfig full, rowwise;
  full.main.options.kind = OptimizerKind::adagrad;
  rowwise.main.options.kind = OptimizerKind::rowwise_adagrad;
  ParameterRegistry trained(Backend::cpu);
  trained.add("a", 3, 4, true, {});
  trained.prepare_training(full);
  model.prepare_training(rowwise);
  refused(trained, model, true);
}

}  // namespace
}  // namespace belfry::test
