// SPDX-License-Identifier: Apache-2.0
// tfrs.layers.feature_interaction.Cross and MultiLayerDCN as what they are: dense layers that make the
// projection, and cross, forward and backward.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_cross.hpp"
#include "tests/support/tested_dense.hpp"

namespace belfry::test {
namespace {

using Doubles = std::vector<double>;
Doubles doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// As rows of the last axis: Cross takes inputs of any rank.
HostMatrix matrix(const Json& json) {
  const Tensor t = tensor(json);
  const std::int64_t cols = t.shape.back();
  return {cols == 0 ? 0 : static_cast<std::int64_t>(t.data.size()) / cols, cols, t.floats()};
}

/// A dense layer of a projection with what it keeps for its gradient.
struct DenseLayer {
  std::string kernel_name, bias_name;
  HostMatrix kernel, z, y, d_kernel;
  std::vector<float> bias, d_bias;  // empty: no bias
  Activation activation = Activation::linear;

  HostMatrix forward(const Context& ctx, const HostMatrix& x) {
    z = y = HostMatrix(x.rows(), kernel.cols());
    tested::dense(ctx, {x.view(), kernel.view(), view(bias), activation, z.view(), y.view()});
    return y;
  }
  /// Returns the gradient of x.
  HostMatrix backward(const Context& ctx, const HostMatrix& x, HostMatrix d_y) {
    HostMatrix d_x(x.rows(), x.cols());
    d_kernel = HostMatrix(kernel.rows(), kernel.cols());
    d_bias.resize(bias.size());
    tested::dense_grad(ctx, {x.view(), kernel.view(), activation, z.view(), y.view(), d_y.view(),
                             d_kernel.view(), view(d_bias), d_x.view()});
    return d_x;
  }
};

/// One layer: its projection and the inputs of cross as forward had them.
struct CrossLayer {
  std::vector<DenseLayer> projection;  // one of full rank, or U then V
  HostMatrix x, p;
  float diag_scale = 0;
  bool zero_projection = false;
};

DenseLayer dense_layer(const Json& inputs, const std::string& kernel, const std::string& bias) {
  DenseLayer layer;
  layer.kernel_name = kernel;
  layer.kernel = matrix(inputs.at(kernel));
  if (!bias.empty() && inputs.contains(bias)) {
    layer.bias_name = bias;
    layer.bias = tensor(inputs.at(bias)).floats();
  }
  return layer;
}

CrossLayer cross_layer(const Json& c, const std::string& number) {
  const Json& inputs = c.at("inputs");
  const Json& params = c.at("params");
  CrossLayer layer;
  if (inputs.contains("kernel" + number)) {
    layer.projection.push_back(dense_layer(inputs, "kernel" + number, "bias" + number));
  } else {
    layer.projection.push_back(dense_layer(inputs, "u" + number, ""));
    layer.projection.push_back(dense_layer(inputs, "v" + number, "bias" + number));
  }
  layer.diag_scale = params.value("diag_scale", 0.0f);
  const std::string activation = params.value("preactivation", std::string("linear"));
  static const std::map<std::string, Activation> names = {{"linear", Activation::linear},
                                                          {"zeros", Activation::linear},
                                                          {"relu", Activation::relu},
                                                          {"tanh", Activation::tanh},
                                                          {"sigmoid", Activation::sigmoid}};
  layer.projection.back().activation = names.at(activation);
  layer.zero_projection = activation == "zeros";
  return layer;
}

/// A function that is 0 everywhere is no activation of dense: its value and derivative go in here.
void zero_if(bool condition, HostMatrix& m) {
  if (condition) m = HostMatrix(m.rows(), m.cols());
}

HostMatrix forward(const Context& ctx, CrossLayer& layer, const HostMatrix& x0,
                   const HostMatrix& x) {
  layer.x = layer.p = x;
  for (DenseLayer& dense : layer.projection) layer.p = dense.forward(ctx, layer.p);
  zero_if(layer.zero_projection, layer.p);
  HostMatrix y(x0.rows(), x0.cols());
  tested::cross(ctx, {x0.view(), x.view(), layer.p.view(), layer.diag_scale, y.view()});
  return y;
}

void add(const HostMatrix& from, HostMatrix& to) {
  for (std::int64_t i = 0; i < to.rows(); ++i) {
    for (std::int64_t j = 0; j < to.cols(); ++j) to(i, j) += from(i, j);
  }
}

/// Adds to d_x0; returns the gradient of x. `both`: x is x0, whose gradient gets that of x too.
HostMatrix backward(const Context& ctx, CrossLayer& layer, const HostMatrix& x0, bool both,
                    const HostMatrix& d_y, HostMatrix& d_x0) {
  HostMatrix d_p(x0.rows(), x0.cols()), d_x(x0.rows(), x0.cols());
  tested::cross_grad(
      ctx, {x0.view(), both ? x0.view() : layer.x.view(), layer.p.view(), layer.diag_scale,
            d_y.view(), d_p.view(), d_x0.view(), both ? Matrix<float>() : d_x.view(), true});
  zero_if(layer.zero_projection, d_p);
  for (std::size_t l = layer.projection.size(); l-- > 0;) {
    d_p = layer.projection[l].backward(ctx, l == 0 ? layer.x : layer.projection[l - 1].y, d_p);
  }
  add(d_p, both ? d_x0 : d_x);
  return d_x;
}

/// l2(0.01) of the kernels and l1(0.02) of the bias. A term of the loss, no part of the layer: what is
/// compared is that both sides mean the same weights by it.
double regularisation(const std::vector<CrossLayer>& layers) {
  double sum = 0;
  for (const CrossLayer& layer : layers) {
    for (const DenseLayer& dense : layer.projection) {
      for (const double w : dense.kernel.values()) sum += 0.01 * w * w;
      for (const double b : dense.bias) sum += 0.02 * std::abs(b);
    }
  }
  return sum;
}

void check(const Json& c) {
  const Context ctx = make_context(2);
  const Json& inputs = c.at("inputs");
  const bool stack = c.at("params").at("layer") == "MultiLayerDCN";
  const std::int64_t depth = stack ? c.at("params").value("num_layers", 3) : 1;
  const HostMatrix x0 = matrix(inputs.at("x0"));
  const bool one = !inputs.contains("x");
  std::vector<CrossLayer> layers;
  for (std::int64_t l = 0; l < depth; ++l) {
    layers.push_back(cross_layer(c, stack ? std::to_string(l) : ""));
  }
  HostMatrix y = one ? x0 : matrix(inputs.at("x"));
  for (CrossLayer& layer : layers) y = forward(ctx, layer, x0, y);

  HostMatrix d_x0(x0.rows(), x0.cols()), d_x = matrix(inputs.at("upstream"));
  for (std::int64_t l = depth; l-- > 0;) {
    d_x = backward(ctx, layers[l], x0, one && l == 0, d_x, d_x0);
  }

  std::map<std::string, Doubles> gradients = {{"x0", doubles(d_x0.values())}};
  if (!one) gradients["x"] = doubles(d_x.values());
  for (const CrossLayer& layer : layers) {
    for (const DenseLayer& dense : layer.projection) {
      gradients[dense.kernel_name] = doubles(dense.d_kernel.values());
      if (!dense.bias.empty()) gradients[dense.bias_name] = doubles(dense.d_bias);
    }
  }
  const Json& expected = c.contains("expected_f64") ? c.at("expected_f64") : c.at("expected");
  const double rtol = c.at("rtol").get<double>(), atol = c.at("atol").get<double>();
  expect_close(doubles(y.values()), tensor(expected.at("y")).data, rtol, atol, "y");
  EXPECT_EQ(gradients.size(), expected.at("gradients").size());
  for (const auto& [name, numbers] : expected.at("gradients").items()) {
    ASSERT_TRUE(gradients.contains(name)) << name;
    expect_close(gradients[name], tensor(numbers).data, rtol, atol, "gradient of " + name);
  }
  if (c.at("expected").contains("regularization_loss")) {
    expect_close({regularisation(layers)}, {number(c.at("expected").at("regularization_loss"))},
                 rtol, atol, "regularisation");
  }
}

TEST(CrossGolden, AllCases) {
  for (const auto& path : golden_files("cross")) {
    const Json file = load_json(path);
    EXPECT_FALSE(file.at("cases").empty()) << path;
    for (const Json& c : file.at("cases")) {
      SCOPED_TRACE(path.filename().string() + ": " + c.at("name").get<std::string>());
      check(c);
    }
  }
}

/// `errors` of the file: what TFRS refuses, the op refuses too.
TEST(CrossGolden, RefusesWhatTfrsRefuses) {
  const Context ctx = make_context(1);
  HostMatrix five(2, 5), seven(2, 7), p(2, 5), y(2, 5);
  EXPECT_THROW(cross(ctx, {five.view(), five.view(), p.view(), -1.0f, y.view()}), ContractError);
  EXPECT_THROW(cross(ctx, {five.view(), seven.view(), p.view(), 0.0f, y.view()}), ContractError);
}

}  // namespace
}  // namespace belfry::test
