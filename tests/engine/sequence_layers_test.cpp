// SPDX-License-Identifier: Apache-2.0
// Networks that start with the steps of a list: outputs and gradients of whole networks against a float64 oracle,
// which sees each list without its padding, and its central differences, on either backend; initial values.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/sequence_layers.hpp"
#include "tests/support/graph_model.hpp"

namespace belfry::test {
namespace {

constexpr std::int64_t kSteps = 5;
const FeatureSpec kHistory{"history", Side::query, Form::list, 6, kSteps};
const FeatureSpec kTags{"tags", Side::candidate, Form::list, 4, 3};
const FeatureSpec kItem{"item", Side::candidate, Form::row, 4};

LayerConfig gru(std::int64_t units, bool bias = true) {
  LayerConfig out = layer(LayerKind::gru);
  out.units = {units};
  out.use_bias = bias;
  return out;
}
LayerConfig attention(std::int64_t heads, std::int64_t key_dim, bool causal, bool residual,
                      bool bias = true) {
  LayerConfig out = layer(LayerKind::attention);
  out.num_heads = heads;
  out.key_dim = key_dim;
  out.causal = causal;
  out.residual = residual;
  out.use_bias = bias;
  return out;
}
LayerConfig pool(SequencePooling pooling) {
  LayerConfig out = layer(LayerKind::sequence_pool);
  out.sequence_pooling = pooling;
  return out;
}
LayerConfig positions() {
  return layer(LayerKind::position_embedding);
}

/// The query tower, checked for whole batches and for part of one.
void check_query(std::vector<LayerConfig> layers, const FeatureSpec& list = kHistory) {
  const Context ctx = make_context(2);
  Model m({network("query", {list.name}, std::move(layers))}, {list});
  check(ctx, m, {"query"});
  check(ctx, m, {"query"}, 2, 2, 21);
}

TEST(SequenceLayers, Gru) {
  check_query({gru(7)});
  check_query({gru(4, false)});
}

TEST(SequenceLayers, GruBetweenDenseLayers) {
  LayerConfig norm = layer(LayerKind::layer_norm);
  check_query({mlp({5}), norm, gru(3), mlp({4, 2})});
}

TEST(SequenceLayers, Attention) {
  for (const bool causal : {false, true}) {
    for (const bool residual : {false, true}) {
      SCOPED_TRACE(std::to_string(causal) + std::to_string(residual));
      check_query({attention(2, 0, causal, residual), pool(SequencePooling::last)});
      check_query({attention(3, 5, causal, residual, residual), pool(SequencePooling::mean)});
    }
  }
}

TEST(SequenceLayers, Pool) {
  for (const SequencePooling pooling : {SequencePooling::mean, SequencePooling::last}) {
    check_query({pool(pooling)});
    check_query({mlp({3}), pool(pooling), mlp({2})});
  }
}

TEST(SequenceLayers, Positions) {
  check_query({positions(), pool(SequencePooling::last)});
  // Sixteen columns lie without gaps already.
  check_query({positions(), gru(3)}, {"history", Side::query, Form::list, 16, kSteps});
}

TEST(SequenceLayers, TwoBlocksOfSelfAttention) {
  LayerConfig norm = layer(LayerKind::layer_norm);
  check_query({positions(), norm, attention(2, 0, true, true), norm, mlp({7, 6}),
               attention(1, 4, true, true), norm, pool(SequencePooling::last), mlp({3})});
}

TEST(SequenceLayers, BothSidesAndJointNetworks) {
  const Context ctx = make_context(2);
  // More candidates than queries: the joint network reads the first lists alone. The history is pooled too.
  Model m(
      {network("steps", {"history"}, {gru(4)}), network("query", {"steps", "history"}, {mlp({4})}),
       network("candidate", {"tags"}, {attention(2, 0, false, true), pool(SequencePooling::mean)}),
       network("words", {"tags"}, {gru(3)}),
       network("score", {"query", "candidate", "words", "item"}, {mlp({3})})},
      {kHistory, kTags, kItem});
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"candidate", "score"}, 4, 9, 31);
}

TEST(SequenceLayers, DropoutOfSteps) {
  LayerConfig drop = layer(LayerKind::dropout);
  drop.rate = 0.5;
  const Context ctx = make_context(2, 7);
  Model m({network("query", {"history"}, {drop, pool(SequencePooling::mean)})}, {kHistory});
  m.draw(ctx, 6, 0, 1);
  m.graph->forward(ctx, m.batch, 6, 0);  // not in training: nothing drops
  NetworkOracle plain = m.oracle;
  plain.networks.front().layers.erase(plain.networks.front().layers.begin());
  expect_near(read(ctx, m.output("query")), flat(plain.output(m.parameters(), "query", 6)), 1e-6,
              1e-6, "outside training");
}

TEST(SequenceLayers, PaddingChangesNothing) {
  // The same lists in eight steps instead of five: the same bits of the last state.
  const Context ctx = make_context(2);
  const auto state = [&](std::int64_t steps) {
    Model m({network("query", {"history"}, {gru(4)})},
            {{"history", Side::query, Form::list, 6, kSteps}});
    m.draw(ctx, 6, 0, 11);
    Model padded({network("query", {"history"}, {gru(4)})},
                 {{"history", Side::query, Form::list, 6, steps}});
    padded.oracle.lists = m.oracle.lists;
    padded.batch = m.batch;
    padded.add_steps(ctx, padded.specs.front());
    padded.graph->forward(ctx, padded.batch, 6, 0);
    return read(ctx, padded.output("query"));
  };
  expect_near(
      state(8),
      [&] {
        const std::vector<float> five = state(kSteps);
        return std::vector<double>(five.begin(), five.end());
      }(),
      1e-6, 1e-6, "states");
}

TEST(SequenceLayers, InitialValuesOfAGru) {
  const Context ctx = make_context(2);
  const auto drawn = [&](std::int64_t units, std::uint64_t seed) {
    ParameterRegistry registry(backend_under_test());
    make_sequence_layer(gru(units), "query.0", 6, kSteps, registry);
    registry.join_dense();
    registry.initialise(ctx, seed);
    EXPECT_EQ(registry.at(registry.find("query.0.kernel")).cols, 3 * units);
    EXPECT_EQ(registry.at(registry.find("query.0.bias")).rows, 2);
    for (const float b : host_values(registry.at(registry.find("query.0.bias")).value)) {
      EXPECT_EQ(b, 0.0f);
    }
    return host_values(registry.at(registry.find("query.0.recurrent")).value);
  };
  const std::int64_t units = 17, cols = 3 * units;
  const std::vector<float> u = drawn(units, 42);
  for (std::int64_t a = 0; a < units; ++a) {
    for (std::int64_t b = 0; b <= a; ++b) {
      double product = 0;
      for (std::int64_t c = 0; c < cols; ++c) {
        product += static_cast<double>(u[static_cast<std::size_t>(a * cols + c)]) *
                   static_cast<double>(u[static_cast<std::size_t>(b * cols + c)]);
      }
      EXPECT_NEAR(product, a == b ? 1 : 0, 1e-6) << a << " " << b;
    }
  }
  EXPECT_EQ(drawn(units, 42), u);
  EXPECT_NE(drawn(units, 43), u);
}

TEST(SequenceLayers, StepsAreCutFromTheEndOfLists) {
  FeatureValues values;
  values.rows = {1, 2, 3, 4, 5, 6, 7};
  values.begin = {0, 4, 4};
  values.end = {4, 4, 7};
  FeatureGather gather;
  const auto at = [](std::int64_t i) { return i < 3 ? i : std::int64_t{-1}; };
  const FeatureBatch b = gather.gather(values, FeatureForm::list, 0, 4, 0, at, 3);
  const std::vector<std::int32_t> rows(b.ids.ids, b.ids.ids + b.ids.nnz);
  EXPECT_EQ(rows, (std::vector<std::int32_t>{2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(std::vector<std::int64_t>(b.ids.offsets, b.ids.offsets + 5),
            (std::vector<std::int64_t>{0, 3, 3, 6, 6}));
  EXPECT_EQ(std::vector<std::int32_t>(b.lengths, b.lengths + 4),
            (std::vector<std::int32_t>{3, 0, 3, 0}));
  EXPECT_EQ(std::vector<std::int64_t>(b.step_offsets, b.step_offsets + 13),
            (std::vector<std::int64_t>{0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 6, 6, 6}));
}

TEST(SequenceLayers, WrongGraphsAreContractErrors) {
  const auto graph = [](std::vector<std::string> inputs, std::vector<LayerConfig> layers) {
    Model m({network("query", std::move(inputs), std::move(layers))}, {kHistory, kItem});
  };
  EXPECT_THROW(graph({"history", "item"}, {gru(3)}), ContractError);
  EXPECT_THROW(graph({"item"}, {gru(3)}), ContractError);
  EXPECT_THROW(graph({"history"}, {positions()}), ContractError);
  EXPECT_THROW(graph({"history"}, {gru(3), positions()}), ContractError);
}

}  // namespace
}  // namespace belfry::test
