// SPDX-License-Identifier: Apache-2.0
// tfrs.layers.embedding.TPUEmbedding as it is on a CPU, and Keras's Embedding with a mean over it: lookups
// of features that share tables, and the gradients of the tables.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/bags.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_embedding_bag.hpp"

namespace belfry::test {
namespace {

using Doubles = std::vector<double>;

Pooling pooling_of(const std::string& combiner) {
  static const std::map<std::string, Pooling> names = {
      {"sum", Pooling::sum}, {"mean", Pooling::mean}, {"sqrtn", Pooling::sqrtn}};
  return names.at(combiner);
}

HostMatrix matrix(const Json& json, std::int64_t cols) {
  const Tensor t = tensor(json);
  return {static_cast<std::int64_t>(t.data.size()) / cols, cols, t.floats()};
}
HostMatrix matrix(const Json& json) {
  return matrix(json, tensor(json).shape.back());
}

/// A list of ids a row, with weights where the case has them.
struct Rows {
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::vector<float>> weights;  // empty: none
};

Rows read_rows(const Json& ids, const Json* weights) {
  Rows out;
  if (ids.contains("shape")) {  // dense: every id is a row of its own, or (pooling) [B, L]
    const Tensor t = tensor(ids);
    const std::int64_t length = t.shape.size() == 1 ? 1 : t.shape[1];
    for (std::size_t e = 0; e < t.integers.size(); ++e) {
      if (e % length == 0) out.ids.emplace_back();
      out.ids.back().push_back(static_cast<std::int32_t>(t.integers[e]));
    }
    return out;
  }
  const Tensor lengths = tensor(ids.at("row_lengths")), values = tensor(ids.at("values"));
  const std::vector<float> w =
      weights == nullptr ? std::vector<float>() : tensor(weights->at("values")).floats();
  std::size_t at = 0;
  for (const std::int64_t length : lengths.integers) {
    const auto end = at + static_cast<std::size_t>(length);
    out.ids.emplace_back(values.integers.begin() + at, values.integers.begin() + end);
    if (weights != nullptr) out.weights.emplace_back(w.begin() + at, w.begin() + end);
    at = end;
  }
  return out;
}

/// The op keeps all ids and weights that it is given, as the ragged form does. What the sparse form drops
/// is dropped here: ids below 0; with mean and sqrtn weights that are not positive, too.
void drop_as_sparse(Rows& rows, Pooling pooling) {
  for (std::size_t r = 0; r < rows.ids.size(); ++r) {
    Rows kept{{{}}, {{}}};
    for (std::size_t e = 0; e < rows.ids[r].size(); ++e) {
      const float weight = rows.weights.empty() ? 1.0f : rows.weights[r][e];
      if (rows.ids[r][e] < 0 || (pooling != Pooling::sum && weight <= 0)) continue;
      kept.ids[0].push_back(rows.ids[r][e]);
      kept.weights[0].push_back(weight);
    }
    rows.ids[r] = kept.ids[0];
    if (!rows.weights.empty()) rows.weights[r] = kept.weights[0];
  }
}

/// Ids that are not combined: every place of the result is a bag of one id, or of none beyond a row's end.
Rows places(const Rows& rows, std::int64_t length) {
  Rows out;
  for (const std::vector<std::int32_t>& row : rows.ids) {
    for (std::size_t e = 0; e < static_cast<std::size_t>(length); ++e) {
      out.ids.emplace_back();
      if (e < row.size()) out.ids.back().push_back(row[e]);
    }
  }
  return out;
}

/// Keras's mask: id 0 is padding, which the mean leaves out.
void drop_padding(Rows& rows) {
  for (std::vector<std::int32_t>& row : rows.ids) std::erase(row, 0);
}

Bags bags_of(const Rows& rows) {
  Bags out;
  out.offsets = {0};
  for (std::size_t r = 0; r < rows.ids.size(); ++r) {
    out.ids.insert(out.ids.end(), rows.ids[r].begin(), rows.ids[r].end());
    if (!rows.weights.empty()) {
      out.weights.insert(out.weights.end(), rows.weights[r].begin(), rows.weights[r].end());
    }
    out.offsets.push_back(static_cast<std::int64_t>(out.ids.size()));
  }
  return out;
}

/// One feature: its bags of a table's rows, and the gradient that comes back.
struct Feature {
  std::string name, table;
  Bags bags;
  Pooling pooling = Pooling::sum;
  HostMatrix d_y;
};

struct Case {
  std::map<std::string, HostMatrix> tables;
  std::vector<Feature> features;
  Json expected_y, expected_gradient;  // by feature, by table
};

/// Embedding, then a mean over the second axis.
Case read_pooling(const Json& c, const Json& expected) {
  Case out;
  out.tables["table"] = matrix(c.at("inputs").at("table"));
  Rows rows = read_rows(c.at("inputs").at("ids"), nullptr);
  if (c.at("params").at("mask_zero").get<bool>()) drop_padding(rows);
  out.features.push_back(
      {"y", "table", bags_of(rows), Pooling::mean, matrix(c.at("inputs").at("upstream"))});
  out.expected_y["y"] = expected.at("y");
  out.expected_gradient["table"] = expected.at("table_gradient");
  return out;
}

Case read_case(const Json& c) {
  const Json& expected = c.contains("expected_f64") ? c.at("expected_f64") : c.at("expected");
  const Json& params = c.at("params");
  const Json& inputs = c.at("inputs");
  if (params.contains("mask_zero")) return read_pooling(c, expected);
  Case out;
  for (const auto& [name, table] : inputs.at("tables").items()) out.tables[name] = matrix(table);
  const std::string form = params.at("form").get<std::string>();
  for (const auto& [name, table] : params.at("table_of_feature").items()) {
    Feature f{name, table.get<std::string>(), {}, Pooling::sum, {}};
    const Json* weights = inputs.contains("weights") ? &inputs.at("weights").at(name) : nullptr;
    Rows rows = read_rows(inputs.at("ids").at(name), weights);
    if (form == "dense") {
      rows = places(rows, static_cast<std::int64_t>(rows.ids.at(0).size()));
    } else if (params.contains("max_sequence_length")) {
      rows = places(rows, params.at("max_sequence_length").at(name).get<std::int64_t>());
    } else {
      f.pooling = pooling_of(params.at("combiner").at(f.table).get<std::string>());
      if (form == "sparse") drop_as_sparse(rows, f.pooling);
    }
    f.bags = bags_of(rows);
    f.d_y = matrix(inputs.at("upstream").at(name), out.tables.at(f.table).cols());
    out.features.push_back(std::move(f));
  }
  out.expected_y = expected.at("y");
  out.expected_gradient = expected.at("table_gradient");
  return out;
}

Doubles doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// The gradient of a table from all its features, as a whole table.
Doubles table_gradient(const Context& ctx, const Case& c, const std::string& name) {
  const HostMatrix& table = c.tables.at(name);
  std::vector<TableUse> uses;
  for (const Feature& f : c.features) {
    if (f.table == name) uses.push_back({f.bags.ragged(), f.pooling, f.d_y.view()});
  }
  const RowsOut rows = grad(ctx, uses, table.rows(), table.cols());
  Doubles out(static_cast<std::size_t>(table.rows() * table.cols()));
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    for (std::int64_t d = 0; d < table.cols(); ++d) {
      out[rows.rows[i] * table.cols() + d] = rows.values(static_cast<std::int64_t>(i), d);
    }
  }
  return out;
}

void check(const Json& json) {
  const Context ctx = make_context(2);
  const Case c = read_case(json);
  const double rtol = json.at("rtol").get<double>(), atol = json.at("atol").get<double>();
  for (const Feature& f : c.features) {
    const HostMatrix& table = c.tables.at(f.table);
    HostMatrix y(f.d_y.rows(), table.cols());
    tested::embedding_bag(ctx, table.view(), f.bags.ragged(), f.pooling, y.view());
    expect_close(doubles(y.values()), tensor(c.expected_y.at(f.name)).data, rtol, atol, f.name);
  }
  EXPECT_EQ(c.expected_y.size(), c.features.size());
  for (const auto& [name, numbers] : c.expected_gradient.items()) {
    expect_close(table_gradient(ctx, c, name), tensor(numbers).data, rtol, atol,
                 "gradient of " + name);
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(EmbeddingBagGolden, AllCases) {
  for (const auto& path : golden_files("embedding_bag")) {
    const Json file = load_json(path);
    EXPECT_FALSE(file.at("cases").empty()) << path;
    for (const Json& c : file.at("cases")) {
      SCOPED_TRACE(path.filename().string() + ": " + c.at("name").get<std::string>());
      check(c);
    }
  }
}

}  // namespace
}  // namespace belfry::test
