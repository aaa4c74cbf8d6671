// SPDX-License-Identifier: Apache-2.0
// Layers of rankers, lists and numbers inside a graph: outputs and gradients against a float64 oracle and its
// central differences, on either backend. Dropout against what it promises.
#include <gtest/gtest.h>

#include "kernels/dropout/dropout.hpp"
#include "tests/support/graph_model.hpp"

namespace belfry::test {
namespace {

const std::vector<FeatureSpec> kIds = {{"user", Side::query, Form::row, 4},
                                       {"item", Side::candidate, Form::row, 4}};

TEST(Layers, Cross) {
  const Context ctx = make_context(2);
  for (const LayerConfig& c :
       {cross(1), cross(1, 2), cross(2), cross(3), cross(3, 2), cross(1, 0, 0.7), cross(3, 3, 0.7),
        cross(1, 0, 0, Activation::tanh), cross(3, 2, 0.3, Activation::tanh),
        cross(3, 0, 0.3, Activation::tanh, false)}) {
    SCOPED_TRACE("layers " + std::to_string(c.num_layers) + " rank " +
                 std::to_string(c.projection_dim) + " diag " + std::to_string(c.diag_scale));
    Model m({network("score", {"user", "item"}, {c, mlp({3})})}, kIds);
    EXPECT_EQ(m.registry.find("score.0.0.projection") >= 0, c.projection_dim > 0);
    EXPECT_EQ(m.registry.find("score.0.0.bias") >= 0, c.use_bias);
    EXPECT_EQ(m.registry.find("score.0." + std::to_string(c.num_layers) + ".kernel"), -1);
    check(ctx, m, {"score"});
  }
}

TEST(Layers, CrossAsTheOutputAndBehindLayers) {
  const Context ctx = make_context(2);
  Model m({network("query", {"user"}, {mlp({5}), cross(2, 0, 0.5), cross(1, 2)}),
           network("candidate", {"item"}, {cross(2)}),
           network("score", {"query", "candidate"}, {cross(1)})},
          kIds);
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"query", "candidate", "score"}, 2, 3, 21);  // a partial batch
}

TEST(Layers, LayerNorm) {
  const Context ctx = make_context(2);
  for (const double epsilon : {1e-3, 0.5}) {
    LayerConfig norm = layer(LayerKind::layer_norm);
    norm.epsilon = epsilon;
    Model m({network("query", {"user"}, {mlp({7}), norm, mlp({3})}),
             network("candidate", {"item"}, {norm}),
             network("score", {"query", "candidate"}, {norm, mlp({1})})},
            kIds);
    EXPECT_GE(m.registry.find("query.1.gamma"), 0);
    check(ctx, m, {"candidate", "score"});
  }
}

TEST(Layers, DotInteraction) {
  const Context ctx = make_context(2);
  for (const bool self : {false, true}) {
    for (const bool skip : {false, true}) {
      SCOPED_TRACE(std::to_string(self) + std::to_string(skip));
      Model m({network("deep", {"age"}, {mlp({4})}),
               network("products", {"user", "item", "deep"}, {dot(self, skip)}),
               network("score", {"products", "deep"}, {mlp({5, 1})})},
              {kIds[0], kIds[1], {"age", Side::query, Form::numbers, 2}});
      EXPECT_EQ(m.graph->width(m.graph->find("products")), skip ? 9 : self ? 6 : 3);
      check(ctx, m, {"products", "score"});
    }
  }
}

TEST(Layers, NumbersBesideLookups) {
  const Context ctx = make_context(2);
  Model m({network("query", {"age", "user"}, {mlp({4})}),
           network("candidate", {"item", "price"}, {mlp({4})}),
           network("score", {"query", "price", "candidate", "age"}, {mlp({3})})},
          {kIds[0],
           {"age", Side::query, Form::numbers, 1},
           {"price", Side::candidate, Form::numbers, 3},
           kIds[1]});
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"query", "candidate", "score"}, 1, 1, 5);
}

TEST(Layers, ListsArePooledByTheirMean) {
  const Context ctx = make_context(2);
  // More candidates than queries: the joint network reads the first lists alone.
  Model m({network("query", {"history", "user"}, {mlp({4})}),
           network("candidate", {"item", "genres"}, {mlp({4})}),
           network("score", {"query", "genres"}, {mlp({3})})},
          {kIds[0],
           {"history", Side::query, Form::list, 3},
           {"genres", Side::candidate, Form::list, 2},
           kIds[1]});
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"score", "candidate"}, 4, 9, 31);
}

// ---- dropout --------------------------------------------------------------------------------------------

constexpr std::int64_t kRows = 40, kWidth = 50;
constexpr double kRate = 0.3;

Model dropping() {
  LayerConfig drop = layer(LayerKind::dropout);
  drop.rate = kRate;
  return Model({network("a", {"user"}, {drop}), network("b", {"user"}, {drop})},
               {{"user", Side::query, Form::row, kWidth}}, kRows, kRows);
}

/// Which elements `name` kept in the step of ctx; kept ones are scaled.
std::vector<bool> kept(const Context& ctx, Model& m, const std::string& name) {
  m.graph->forward(ctx, m.batch, kRows, 0, nullptr, true);
  const std::vector<float> x = flat(m.oracle.output(m.parameters(), "user", kRows)),
                           y = read(ctx, m.output(name));
  const float scale = Dropout{static_cast<float>(kRate)}.scale();
  std::vector<bool> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    out.push_back(y[i] != 0);
    EXPECT_EQ(bits_of(y[i]), bits_of(out.back() ? x[i] * scale : 0.0f)) << i;
  }
  return out;
}

TEST(Layers, DropoutIsNothingOutsideTraining) {
  const Context ctx = make_context(2, 7);
  Model m = dropping();
  m.draw(ctx, kRows, 0, 1);
  m.graph->forward(ctx, m.batch, kRows, 0);
  expect_equal_bits(read(ctx, m.output("a")), flat(m.oracle.output(m.parameters(), "user", kRows)),
                    "identity");
}

TEST(Layers, DropoutKeepsTheMeanAndItsMask) {
  const Context ctx = make_context(2, 7);
  Model m = dropping();
  m.draw(ctx, kRows, 0, 1);
  edit_state(ctx, [](StepState& s) { s.step = 4; });
  const std::vector<bool> a = kept(ctx, m, "a"), b = kept(ctx, m, "b");
  const double n = kRows * kWidth, sd = std::sqrt(n * kRate * (1 - kRate));
  for (const auto* mask : {&a, &b}) {
    EXPECT_NEAR(static_cast<double>(std::count(mask->begin(), mask->end(), true)), n * (1 - kRate),
                5 * sd);
  }
  EXPECT_NE(a, b);                  // layers draw apart
  EXPECT_EQ(kept(ctx, m, "a"), a);  // a step draws once
  // Backward drops the same elements.
  m.graph->clear_gradients(ctx);
  const std::vector<float> d_y = Random(5).normals(kRows * kWidth);
  write(ctx, d_y, m.d_output("a"));
  m.graph->backward(ctx, m.batch);
  const float scale = Dropout{static_cast<float>(kRate)}.scale();
  int found = 0;  // the use whose gradient is not all zero is that of "a"
  for (const Matrix<float>& rows : m.graph->gradient_rows_of(0)) {
    const std::vector<float> d_x = read(ctx, rows);
    if (std::all_of(d_x.begin(), d_x.end(), [](float v) { return v == 0; })) continue;
    ++found;
    for (std::size_t i = 0; i < d_x.size(); ++i) {
      EXPECT_EQ(d_x[i], a[i] ? d_y[i] * scale : 0.0f) << i;
    }
  }
  EXPECT_EQ(found, 1);
  edit_state(ctx, [](StepState& s) { s.step = 5; });
  EXPECT_NE(kept(ctx, m, "a"), a);
  edit_state(ctx, [](StepState& s) {
    s.step = 4;
    s.seed = 8;
  });
  EXPECT_NE(kept(ctx, m, "a"), a);
}

}  // namespace
}  // namespace belfry::test
