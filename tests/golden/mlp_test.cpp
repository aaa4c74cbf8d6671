// SPDX-License-Identifier: Apache-2.0
// tfrs.layers.blocks.MLP as the chain of dense layers it is, forward and backward.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>

#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_dense.hpp"

namespace belfry::test {
namespace {

/// The op's name of a Keras activation; nothing for one that belfry does not have.
std::optional<Activation> activation_of(const Json& params, const char* key, const char* fallback) {
  static const std::map<std::string, Activation> names = {
      {"linear", Activation::linear},   {"relu", Activation::relu},
      {"gelu", Activation::gelu},       {"tanh", Activation::tanh},
      {"sigmoid", Activation::sigmoid}, {"elu", Activation::elu},
      {"selu", Activation::selu},       {"softplus", Activation::softplus},
      {"swish", Activation::swish},     {"silu", Activation::swish}};
  std::string name = fallback;
  if (params.contains(key)) {
    name = params[key].is_null() ? "linear" : params[key].get<std::string>();
  }
  const auto found = names.find(name);
  if (found == names.end()) return std::nullopt;
  return found->second;
}

/// MLP's defaults: relu between the layers, nothing after the last one.
std::optional<Activation> hidden_of(const Json& params) {
  return activation_of(params, "activation", "relu");
}
std::optional<Activation> final_of(const Json& params) {
  return activation_of(params, "final_activation", "linear");
}
bool supported(const Json& c) {
  return hidden_of(c["params"]) && final_of(c["params"]);
}

HostMatrix matrix(const Json& json) {
  const Tensor t = tensor(json);
  return {t.rows(), t.cols(), t.floats()};
}

struct DenseLayer {
  HostMatrix kernel, z, y, d_kernel;
  std::vector<float> bias, d_bias;  // empty without use_bias
  Activation activation;
};

std::vector<DenseLayer> layers_of(const Json& c) {
  const Json& inputs = c["inputs"];
  const std::size_t depth = c["params"]["units"].size();
  std::vector<DenseLayer> layers;
  for (std::size_t l = 0; l < depth; ++l) {
    const std::string number = std::to_string(l);
    DenseLayer layer;
    layer.kernel = matrix(inputs["kernel" + number]);
    layer.d_kernel = HostMatrix(layer.kernel.rows(), layer.kernel.cols());
    if (inputs.contains("bias" + number)) layer.bias = tensor(inputs["bias" + number]).floats();
    layer.d_bias.resize(layer.bias.size());
    layer.activation = l + 1 == depth ? *final_of(c["params"]) : *hidden_of(c["params"]);
    layers.push_back(std::move(layer));
  }
  return layers;
}

void forward(const Context& ctx, const HostMatrix& x, std::vector<DenseLayer>& layers) {
  const HostMatrix* in = &x;
  for (DenseLayer& layer : layers) {
    layer.z = HostMatrix(x.rows(), layer.kernel.cols());
    layer.y = layer.z;
    tested::dense(ctx, {in->view(), layer.kernel.view(), view(layer.bias), layer.activation,
                        layer.z.view(), layer.y.view()});
    in = &layer.y;
  }
}

/// Returns d_x; the layers keep the gradients of their parameters.
HostMatrix backward(const Context& ctx, const HostMatrix& x, std::vector<DenseLayer>& layers,
                    HostMatrix upstream) {
  for (std::size_t l = layers.size(); l-- > 0;) {
    DenseLayer& layer = layers[l];
    const HostMatrix& in = l == 0 ? x : layers[l - 1].y;
    HostMatrix d_in(in.rows(), in.cols());
    tested::dense_grad(
        ctx, {in.view(), layer.kernel.view(), layer.activation, layer.z.view(), layer.y.view(),
              upstream.view(), layer.d_kernel.view(), view(layer.d_bias), d_in.view()});
    upstream = std::move(d_in);
  }
  return upstream;
}

template <class Values>
std::vector<double> doubles(const Values& values) {
  return {values.begin(), values.end()};
}

void check(const Json& c) {
  const Context ctx = make_context(2);
  const HostMatrix x = matrix(c["inputs"]["x"]);
  std::vector<DenseLayer> layers = layers_of(c);
  forward(ctx, x, layers);
  const HostMatrix d_x = backward(ctx, x, layers, matrix(c["inputs"]["upstream"]));

  const Json& expected = c.contains("expected_f64") ? c["expected_f64"] : c["expected"];
  const double rtol = c["rtol"].get<double>(), atol = c["atol"].get<double>();
  const auto compare = [&](const std::vector<double>& actual, const Json& numbers,
                           const std::string& what) {
    expect_close(actual, tensor(numbers).data, rtol, atol, what);
  };
  compare(doubles(layers.back().y.values()), expected["y"], "y");
  std::map<std::string, std::vector<double>> gradients = {{"x", doubles(d_x.values())}};
  for (std::size_t l = 0; l < layers.size(); ++l) {
    gradients["kernel" + std::to_string(l)] = doubles(layers[l].d_kernel.values());
    if (layers[l].bias.empty()) continue;
    gradients["bias" + std::to_string(l)] = doubles(layers[l].d_bias);
  }
  EXPECT_EQ(gradients.size(), expected["gradients"].size());
  for (const auto& [name, numbers] : expected["gradients"].items()) {
    ASSERT_TRUE(gradients.contains(name)) << name;
    compare(gradients[name], numbers, "gradient of " + name);
  }
}

TEST(Mlp, AllCases) {
  for (const auto& path : golden_files("mlp")) {
    const Json file = load_json(path);
    for (const Json& c : file["cases"]) {
      SCOPED_TRACE(path.filename().string() + ": " + c["name"].get<std::string>());
      if (supported(c)) check(c);
    }
  }
}

TEST(Mlp, UnsupportedCases) {
  std::string names;
  for (const auto& path : golden_files("mlp")) {
    const Json file = load_json(path);
    for (const Json& c : file["cases"]) {
      if (!supported(c)) names.append(" ").append(c["name"].get<std::string>());
    }
  }
  if (!names.empty()) GTEST_SKIP() << "unknown activations:" << names;
}

}  // namespace
}  // namespace belfry::test
