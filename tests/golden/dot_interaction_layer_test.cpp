// SPDX-License-Identifier: Apache-2.0
// tfrs.layers.feature_interaction.DotInteraction: the four layouts, forward and gradient.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_dot_interaction.hpp"

namespace belfry::test {
namespace {

std::vector<double> doubles(const HostMatrix& m) {
  const std::vector<float> values = m.values();
  return {values.begin(), values.end()};
}

void check(const Json& c) {
  const Context ctx = make_context(2);
  const Tensor features = tensor(c.at("inputs").at("features"));  // [B, F, D]
  const Tensor upstream = tensor(c.at("inputs").at("upstream"));
  const DotInteraction shape{features.shape[1], c.at("params").at("self_interaction").get<bool>(),
                             c.at("params").at("skip_gather").get<bool>()};
  const HostMatrix x(features.rows(), features.cols(), features.floats());
  const HostMatrix d_y(upstream.rows(), upstream.cols(), upstream.floats());
  HostMatrix y(d_y.rows(), d_y.cols()), d_x(x.rows(), x.cols());
  tested::dot_interaction(ctx, x.view(), shape, y.view());
  tested::dot_interaction_grad(ctx, x.view(), shape, d_y.view(), d_x.view());
  const Json& expected = c.contains("expected_f64") ? c.at("expected_f64") : c.at("expected");
  const double rtol = c.at("rtol").get<double>(), atol = c.at("atol").get<double>();
  expect_close(doubles(y), tensor(expected.at("y")).data, rtol, atol, "y");
  expect_close(doubles(d_x), tensor(expected.at("dfeatures")).data, rtol, atol, "dfeatures");
}

TEST(DotInteractionGolden, AllCases) {
  for (const auto& path : golden_files("dot_interaction")) {
    const Json file = load_json(path);
    EXPECT_FALSE(file.at("cases").empty()) << path;
    for (const Json& c : file.at("cases")) {
      SCOPED_TRACE(path.filename().string() + ": " + c.at("name").get<std::string>());
      check(c);
    }
  }
}

/// `error_unequal_inputs` of the file: features of different widths are refused.
TEST(DotInteractionGolden, RefusesWhatTfrsRefuses) {
  const Context ctx = make_context(1);
  HostMatrix x(2, 11), y(2, 1);
  EXPECT_THROW(dot_interaction(ctx, x.view(), {2, false, false}, y.view()), ContractError);
}

}  // namespace
}  // namespace belfry::test
