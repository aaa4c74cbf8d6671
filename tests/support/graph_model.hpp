// SPDX-License-Identifier: Apache-2.0
// A graph of networks with a drawn batch, and the comparison of its outputs and gradients with a float64 oracle
// and its central differences, on either backend.
#pragma once

#include <gtest/gtest.h>

#include "engine/network.hpp"
#include "kernels/core/transfer.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/network_oracle.hpp"

namespace belfry::test {

inline constexpr std::int64_t kTableRows = 5;

inline LayerConfig layer(LayerKind kind) {
  LayerConfig out;
  out.kind = kind;
  return out;
}
inline LayerConfig mlp(std::vector<std::int64_t> units) {
  LayerConfig out = layer(LayerKind::mlp);
  out.units = std::move(units);
  out.activation = out.final_activation = Activation::tanh;
  return out;
}
inline LayerConfig cross(std::int64_t num_layers, std::int64_t rank = 0, double diag_scale = 0,
                         Activation preactivation = Activation::linear, bool bias = true) {
  LayerConfig out = layer(LayerKind::cross);
  out.num_layers = num_layers;
  out.projection_dim = rank;
  out.diag_scale = diag_scale;
  out.preactivation = preactivation;
  out.use_bias = bias;
  return out;
}
inline LayerConfig dot(bool self_interaction, bool skip_gather) {
  LayerConfig out = layer(LayerKind::dot_interaction);
  out.self_interaction = self_interaction;
  out.skip_gather = skip_gather;
  return out;
}
inline NetworkConfig network(std::string name, std::vector<std::string> inputs,
                             std::vector<LayerConfig> layers = {}) {
  NetworkConfig n;
  n.name = std::move(name);
  n.inputs = std::move(inputs);
  n.layers = std::move(layers);
  return n;
}

enum class Form { row, list, numbers };
struct FeatureSpec {
  std::string name;
  Side side;
  Form form;
  std::int64_t width;
  std::int64_t steps = 0;  ///< of a list that a network reads step by step
};

inline std::vector<float> read(const Context& ctx, Matrix<float> m) {
  std::vector<float> out(static_cast<std::size_t>(m.rows * m.cols));
  for (std::int64_t i = 0; i < m.rows; ++i) {
    download(ctx, m.row(i), out.data() + i * m.cols, m.cols);
  }
  return out;
}
inline void write(const Context& ctx, const std::vector<float>& values, Matrix<float> m) {
  for (std::int64_t i = 0; i < m.rows; ++i) {
    upload(ctx, values.data() + i * m.cols, m.row(i), m.cols);
  }
}
inline std::vector<float> flat(const Rows64& rows) {
  std::vector<float> out;
  for (const auto& row : rows) out.insert(out.end(), row.begin(), row.end());
  return out;
}

/// A graph over tables of its features, and a batch for it in the backend's memory.
struct Model {
  Model(std::vector<NetworkConfig> networks, const std::vector<FeatureSpec>& features,
        std::int64_t max_queries = 6, std::int64_t max_candidates = 9)
      : specs(features), registry(backend_under_test()) {
    for (const FeatureSpec& s : specs) {
      const bool numbers = s.form == Form::numbers;
      const int table =
          numbers ? -1 : registry.add(s.name + ".embedding", kTableRows, s.width, true, {});
      oracle.features.push_back({s.name, s.side, table, Pooling::mean, s.width, s.steps});
      oracle.table_of.push_back(numbers ? "" : s.name + ".embedding");
    }
    graph = std::make_unique<NetworkGraph>(networks, oracle.features, registry, plan, max_queries,
                                           max_candidates, true, false);
    oracle.networks = std::move(networks);
    plan.commit(backend_under_test());
    registry.prepare_training({});
    Random random(3);
    for (int p = 0; p < registry.size(); ++p) {
      Buffer<float>& value = registry.at(p).value;
      set_values(value, random.normals(value.size(), 0.5));
    }
  }

  void draw(const Context& ctx, std::int64_t queries, std::int64_t candidates, std::uint64_t seed) {
    Random random(seed);
    batch.clear();
    oracle.ids.assign(specs.size(), {});
    ids.clear();
    values.clear();
    for (std::size_t f = 0; f < specs.size(); ++f) {
      const FeatureSpec& s = specs[f];
      const std::int64_t n = s.side == Side::query ? queries : candidates;
      if (s.form == Form::numbers) {
        Rows64& rows = oracle.numbers[s.name];
        rows.clear();
        for (std::int64_t i = 0; i < n; ++i) {
          rows.emplace_back();
          for (const float x : random.normals(s.width)) rows.back().push_back(x);
        }
        const std::vector<float> host = flat(rows);
        values.push_back(
            std::make_unique<Twin<const float>>(ctx, Matrix<const float>{host.data(), n, s.width}));
        batch.push_back({{}, values.back()->matrix()});
        continue;
      }
      std::vector<std::int32_t>& rows = oracle.ids[f];
      std::vector<std::int64_t> offsets{0};
      if (s.form == Form::row) {
        rows = random.ids(n, kTableRows);
      } else {
        auto& lists = oracle.lists[s.name];
        lists.clear();
        for (std::int64_t i = 0; i < n; ++i) {  // the first is empty, ids come twice
          const std::int64_t most = s.steps > 0 ? s.steps : 4;
          lists.push_back(random.ids(i == 0 ? 0 : 1 + random.below(most), kTableRows));
          rows.insert(rows.end(), lists.back().begin(), lists.back().end());
          offsets.push_back(static_cast<std::int64_t>(rows.size()));
        }
      }
      const Ragged host{rows.data(), s.form == Form::list ? offsets.data() : nullptr, nullptr, n,
                        static_cast<std::int64_t>(rows.size())};
      ids.push_back(std::make_unique<RaggedTwin>(ctx, host));
      batch.push_back({ids.back()->view(), {}});
      if (s.steps > 0) add_steps(ctx, s);
    }
  }

  /// The lists of the last feature as bags of one, written out by hand.
  void add_steps(const Context& ctx, const FeatureSpec& s) {
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int32_t> lengths;
    for (const auto& list : oracle.lists[s.name]) {
      lengths.push_back(static_cast<std::int32_t>(list.size()));
      for (std::int64_t t = 0; t < s.steps; ++t) {
        offsets.push_back(offsets.back() + (t < lengths.back() ? 1 : 0));
      }
    }
    step_offsets.push_back(std::make_unique<Twin<const std::int64_t>>(
        ctx,
        Vector<const std::int64_t>(offsets.data(), static_cast<std::int64_t>(offsets.size()))));
    step_lengths.push_back(std::make_unique<Twin<const std::int32_t>>(
        ctx,
        Vector<const std::int32_t>(lengths.data(), static_cast<std::int64_t>(lengths.size()))));
    batch.back().step_offsets = step_offsets.back()->data();
    batch.back().lengths = step_lengths.back()->data();
  }

  Matrix<float> output(const std::string& name) { return graph->output(graph->find(name)); }
  Matrix<float> d_output(const std::string& name) { return graph->d_output(graph->find(name)); }

  Parameters64 parameters() const {
    Parameters64 out;
    for (int p = 0; p < registry.size(); ++p) {
      const Parameter& x = registry.at(p);
      const std::vector<float> host = host_values(x.value);
      out[x.name] = {x.rows, x.cols, {host.begin(), host.end()}};
    }
    return out;
  }

  /// Of the last backward: a table's with all its uses, dense.
  std::vector<float> gradient(const Context& ctx, int p) const {
    const Parameter& x = registry.at(p);
    if (!x.table) return host_values(x.gradient);
    Results<std::int32_t> rows(ctx, x.rows);
    Results<float> sums(ctx, x.rows * x.cols);
    Results<std::int64_t> count(ctx, 1);
    embedding_bag_grad(ctx, graph->uses_of(p), x.rows,
                       {rows.data(), {sums.data(), x.rows, x.cols}, count.data(), x.rows});
    const std::int64_t n = *count.fetch(ctx, 1);
    const std::int32_t* row = rows.fetch(ctx, n);
    const float* sum = sums.fetch(ctx, n * x.cols);
    std::vector<float> dense(static_cast<std::size_t>(x.rows * x.cols));
    for (std::int64_t i = 0; i < n; ++i) {
      std::copy_n(sum + i * x.cols, x.cols, dense.begin() + row[i] * x.cols);
    }
    return dense;
  }

  std::vector<FeatureSpec> specs;
  ParameterRegistry registry;
  WorkspacePlan plan;
  std::unique_ptr<NetworkGraph> graph;
  NetworkOracle oracle;
  std::vector<std::unique_ptr<RaggedTwin>> ids;
  std::vector<std::unique_ptr<Twin<const float>>> values;
  std::vector<std::unique_ptr<Twin<const std::int64_t>>> step_offsets;
  std::vector<std::unique_ptr<Twin<const std::int32_t>>> step_lengths;
  std::vector<FeatureBatch> batch;
};

/// Outputs of `ends`, and the gradients of a random linear function of them.
inline void check(const Context& ctx, Model& m, const std::vector<std::string>& ends,
                  std::int64_t queries = 6, std::int64_t candidates = 9, std::uint64_t seed = 11) {
  m.draw(ctx, queries, candidates, seed);
  [[maybe_unused]] std::int64_t launches = 0;
  if constexpr (on_device()) launches = simt::counters().launches;
  m.graph->forward(ctx, m.batch, queries, candidates, nullptr, true);
  if constexpr (on_device()) {
    EXPECT_GT(simt::counters().launches, launches);
  }
  m.graph->clear_gradients(ctx);
  const Parameters64 start = m.parameters();
  Random random(seed + 1);
  std::map<std::string, std::vector<float>> slope;
  std::map<std::string, std::int64_t> rows;
  for (const std::string& end : ends) {
    const Matrix<float> y = m.output(end);
    rows[end] = y.rows;
    expect_near(read(ctx, y), flat(m.oracle.output(start, end, y.rows)), 1e-5, 1e-5, end);
    slope[end] = random.normals(y.rows * y.cols);
    write(ctx, slope[end], m.d_output(end));
  }
  m.graph->backward(ctx, m.batch);
  const auto loss = [&](const Parameters64& p) {
    double sum = 0;
    for (const std::string& end : ends) {
      std::size_t at = 0;
      for (const auto& row : m.oracle.output(p, end, rows[end])) {
        for (const double y : row) sum += static_cast<double>(slope[end][at++]) * y;
      }
    }
    return sum;
  };
  for (int p = 0; p < m.registry.size(); ++p) {
    const std::string& name = m.registry.at(p).name;
    Parameters64 moved = start;
    const auto expected = finite_differences(
        [&](const std::vector<double>& x) {
          moved[name].value = x;
          return loss(moved);
        },
        start.at(name).value);
    EXPECT_TRUE(std::any_of(expected.begin(), expected.end(), [](double g) { return g != 0; }))
        << name;
    expect_near(m.gradient(ctx, p), expected, 2e-4, 2e-4, name);
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

}  // namespace belfry::test
