// SPDX-License-Identifier: Apache-2.0
// Keras layers built from ops, forward and all gradients: GRU, LayerNormalization, l2 normalisation,
// MultiHeadAttention, a block of it, Dense, and the activations alone.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "kernels/matrix_ops/matrix_ops.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_attention.hpp"
#include "tests/support/tested_bias_act.hpp"
#include "tests/support/tested_dense.hpp"
#include "tests/support/tested_gru.hpp"
#include "tests/support/tested_l2_normalize.hpp"
#include "tests/support/tested_layer_norm.hpp"
#include "tests/support/tested_matrix_ops.hpp"

namespace belfry::test {
namespace {

/// What a case must give: "output" and "gradient:NAME".
using Results = std::map<std::string, std::vector<double>>;

void put(Results& results, const std::string& name, const std::vector<float>& values) {
  results[name] = {values.begin(), values.end()};
}
void put_gradient(Results& results, const std::string& name, const std::vector<float>& values) {
  put(results, "gradient:" + name, values);
}

/// A tensor as a matrix of its last `axes` extents as columns.
HostMatrix matrix(const Json& json, std::size_t axes = 1) {
  const Tensor t = tensor(json);
  std::int64_t cols = 1, rows = 1;
  for (std::size_t i = 0; i < t.shape.size(); ++i) {
    (i + axes < t.shape.size() ? rows : cols) *= t.shape[i];
  }
  return {rows, cols, t.floats()};
}
std::vector<float> vector(const Json& json) {
  return tensor(json).floats();
}

std::vector<std::uint8_t> mask_of(const Json& inputs) {
  std::vector<std::uint8_t> mask;
  if (!inputs.contains("mask")) return mask;
  for (const double v : tensor(inputs["mask"]).data) mask.push_back(v != 0 ? 1 : 0);
  return mask;
}
StepMask view_of(const std::vector<std::uint8_t>& mask) {
  return {mask.empty() ? nullptr : mask.data(), nullptr};
}

Activation activation_of(const std::string& name) {
  static const std::map<std::string, Activation> names = {
      {"linear", Activation::linear},   {"relu", Activation::relu},
      {"gelu", Activation::gelu},       {"tanh", Activation::tanh},
      {"sigmoid", Activation::sigmoid}, {"gelu_tanh", Activation::gelu_tanh}};
  return names.at(name);
}

HostMatrix sum_of(const Context& ctx, const HostMatrix& a, const HostMatrix& b) {
  HostMatrix sum = a;
  tested::add_matrix(ctx, b.view(), sum.view());
  return sum;
}

/// A dense layer of a model, with its gradients.
struct DenseLayer {
  HostMatrix kernel;
  std::vector<float> bias;
  Activation activation = Activation::linear;
  HostMatrix x = {}, z = {}, y = {}, d_kernel = {};
  std::vector<float> d_bias = {};

  const HostMatrix& forward(const Context& ctx, const HostMatrix& in) {
    x = in;
    z = HostMatrix(x.rows(), kernel.cols());
    y = z;
    tested::dense(
        ctx, {x.view(), kernel.view(), view(std::as_const(bias)), activation, z.view(), y.view()});
    return y;
  }
  HostMatrix backward(const Context& ctx, HostMatrix d_y) {
    d_kernel = HostMatrix(kernel.rows(), kernel.cols());
    d_bias.resize(bias.size());
    HostMatrix d_x(x.rows(), x.cols());
    tested::dense_grad(ctx, {x.view(), kernel.view(), activation, z.view(), y.view(), d_y.view(),
                             d_kernel.view(), view(d_bias), d_x.view()});
    return d_x;
  }
  void put_gradients(Results& results, const std::string& prefix) const {
    put_gradient(results, prefix + "kernel", d_kernel.values());
    if (!bias.empty()) put_gradient(results, prefix + "bias", d_bias);
  }
};

struct NormLayer {
  std::vector<float> gamma, beta;
  float epsilon;
  HostMatrix x = {}, y = {};
  std::vector<float> mean = {}, inverse = {}, d_gamma = {}, d_beta = {};

  const HostMatrix& forward(const Context& ctx, const HostMatrix& in) {
    x = in;
    y = HostMatrix(x.rows(), x.cols());
    mean.resize(static_cast<std::size_t>(x.rows()));
    inverse.resize(mean.size());
    tested::layer_norm(ctx, {.x = std::as_const(x).view(),
                             .gamma = view(std::as_const(gamma)),
                             .beta = view(std::as_const(beta)),
                             .epsilon = epsilon,
                             .y = y.view(),
                             .mean = view(mean),
                             .inverse_deviation = view(inverse)});
    return y;
  }
  HostMatrix backward(const Context& ctx, const HostMatrix& d_y) {
    HostMatrix d_x(x.rows(), x.cols());
    d_gamma.resize(gamma.size());
    d_beta.resize(beta.size());
    tested::layer_norm_grad(ctx, {.x = std::as_const(x).view(),
                                  .gamma = view(std::as_const(gamma)),
                                  .mean = view(std::as_const(mean)),
                                  .inverse_deviation = view(std::as_const(inverse)),
                                  .d_y = d_y.view(),
                                  .d_x = d_x.view(),
                                  .d_gamma = view(d_gamma),
                                  .d_beta = view(d_beta)});
    return d_x;
  }
  void put_gradients(Results& results, const std::string& prefix) const {
    put_gradient(results, prefix + "gamma", d_gamma);
    put_gradient(results, prefix + "beta", d_beta);
  }
};

struct AttentionLayer {
  DenseLayer query, key, value, output;
  AttentionOptions options;
  HostMatrix mixed = {}, log_sum = {};

  AttentionLayer(const Json& c, const StepMask& mask) {
    const Json& inputs = c["inputs"];
    // Keras's kernels are [d, head, key], that of the output [head, key, d].
    const auto layer = [&](const std::string& name, std::size_t axes) {
      return DenseLayer{matrix(inputs[name + "_kernel"], axes), vector(inputs[name + "_bias"])};
    };
    query = layer("query", 2);
    key = layer("key", 2);
    value = layer("value", 2);
    output = layer("output", 1);
    options = {.steps = tensor(inputs["x"]).shape[1],
               .heads = c["params"]["heads"].get<std::int64_t>(),
               .mask = mask,
               .causal = c["params"]["causal"].get<bool>()};
  }
  const HostMatrix& forward(const Context& ctx, const HostMatrix& x) {
    mixed = HostMatrix(x.rows(), query.kernel.cols());
    log_sum = HostMatrix(x.rows(), options.heads);
    query.forward(ctx, x);
    key.forward(ctx, x);
    value.forward(ctx, x);
    tested::attention(
        ctx, {query.y.view(), key.y.view(), value.y.view(), options, mixed.view(), log_sum.view()});
    return output.forward(ctx, mixed);
  }
  HostMatrix backward(const Context& ctx, const HostMatrix& d_y) {
    HostMatrix d_mixed = output.backward(ctx, d_y), d_q = mixed, d_k = mixed, d_v = mixed;
    tested::attention_grad(
        ctx, {query.y.view(), key.y.view(), value.y.view(), options, mixed.view(), log_sum.view(),
              d_mixed.view(), d_q.view(), d_k.view(), d_v.view()});
    const HostMatrix d_x = sum_of(ctx, query.backward(ctx, d_q), key.backward(ctx, d_k));
    return sum_of(ctx, d_x, value.backward(ctx, d_v));
  }
  void put_gradients(Results& results) const {
    query.put_gradients(results, "query_");
    key.put_gradients(results, "key_");
    value.put_gradients(results, "value_");
    output.put_gradients(results, "output_");
  }
};

Results run_gru(const Context& ctx, const Json& c) {
  const Json& inputs = c["inputs"];
  const HostMatrix x = matrix(inputs["x"]), kernel = matrix(inputs["kernel"]),
                   recurrent = matrix(inputs["recurrent_kernel"]), bias = matrix(inputs["bias"]),
                   upstream = matrix(inputs["upstream"]);
  const std::vector<std::uint8_t> mask = mask_of(inputs);
  const std::int64_t steps = tensor(inputs["x"]).shape[1], units = recurrent.rows();
  const bool sequence = c["params"]["return_sequences"].get<bool>();
  HostMatrix gates(x.rows(), 4 * units), states(x.rows(), units);
  const GruParameters parameters{kernel.view(), recurrent.view(), bias.view()};
  tested::gru(ctx, {x.view(), steps, view_of(mask), parameters, gates.view(), states.view()});
  HostMatrix d_kernel(kernel.rows(), kernel.cols()), d_recurrent(units, 3 * units),
      d_bias(2, 3 * units), d_x(x.rows(), x.cols());
  const Matrix<const float> none, given = upstream.view();
  tested::gru_grad(ctx, {.x = x.view(),
                         .steps = steps,
                         .mask = view_of(mask),
                         .parameters = parameters,
                         .states = states.view(),
                         .gates = gates.view(),
                         .d_states = sequence ? given : none,
                         .d_last = sequence ? none : given,
                         .d_kernel = d_kernel.view(),
                         .d_recurrent = d_recurrent.view(),
                         .d_bias = d_bias.view(),
                         .d_x = d_x.view()});
  HostMatrix last(x.rows() / steps, units);
  tested::copy_matrix(ctx, step_of(std::as_const(states).view(), steps, steps - 1), last.view());
  Results results;
  put(results, "output", sequence ? states.values() : last.values());
  put_gradient(results, "x", d_x.values());
  put_gradient(results, "kernel", d_kernel.values());
  put_gradient(results, "recurrent_kernel", d_recurrent.values());
  put_gradient(results, "bias", d_bias.values());
  return results;
}

Results run_layer_norm(const Context& ctx, const Json& c) {
  const Json& inputs = c["inputs"];
  NormLayer layer{vector(inputs["gamma"]), vector(inputs["beta"]),
                  c["params"]["epsilon"].get<float>()};
  Results results;
  put(results, "output", layer.forward(ctx, matrix(inputs["x"])).values());
  put_gradient(results, "x", layer.backward(ctx, matrix(inputs["upstream"])).values());
  layer.put_gradients(results, "");
  return results;
}

Results run_l2_normalize(const Context& ctx, const Json& c) {
  EXPECT_EQ(c["params"]["axis"], 1);
  EXPECT_EQ(c["params"]["epsilon"].get<float>(), kL2NormalizeFloor);
  const HostMatrix x = matrix(c["inputs"]["x"]), upstream = matrix(c["inputs"]["upstream"]);
  HostMatrix y(x.rows(), x.cols()), d_x = y;
  std::vector<float> r(static_cast<std::size_t>(x.rows()));
  tested::l2_normalize(ctx, x.view(), y.view(), view(r));
  tested::l2_normalize_grad(ctx, y.view(), view(std::as_const(r)), upstream.view(), d_x.view());
  Results results;
  put(results, "output", y.values());
  put_gradient(results, "x", d_x.values());
  return results;
}

Results run_attention(const Context& ctx, const Json& c) {
  const std::vector<std::uint8_t> mask = mask_of(c["inputs"]);
  AttentionLayer layer(c, view_of(mask));
  Results results;
  put(results, "output", layer.forward(ctx, matrix(c["inputs"]["x"])).values());
  put_gradient(results, "x", layer.backward(ctx, matrix(c["inputs"]["upstream"])).values());
  layer.put_gradients(results);
  return results;
}

/// norm(x + attention(x)), then norm(h + dense(relu dense(h))).
Results run_attention_block(const Context& ctx, const Json& c) {
  const Json& inputs = c["inputs"];
  const HostMatrix x = matrix(inputs["x"]);
  const std::vector<std::uint8_t> mask = mask_of(inputs);
  const float epsilon = c["params"]["epsilon"].get<float>();
  AttentionLayer attention(c, view_of(mask));
  NormLayer norm1{vector(inputs["norm1_gamma"]), vector(inputs["norm1_beta"]), epsilon},
      norm2{vector(inputs["norm2_gamma"]), vector(inputs["norm2_beta"]), epsilon};
  DenseLayer dense1{matrix(inputs["dense1_kernel"]), vector(inputs["dense1_bias"]),
                    Activation::relu},
      dense2{matrix(inputs["dense2_kernel"]), vector(inputs["dense2_bias"])};
  const HostMatrix& h = norm1.forward(ctx, sum_of(ctx, x, attention.forward(ctx, x)));
  const HostMatrix& f = dense2.forward(ctx, dense1.forward(ctx, h));
  Results results;
  put(results, "output", norm2.forward(ctx, sum_of(ctx, h, f)).values());

  const HostMatrix d_sum = norm2.backward(ctx, matrix(inputs["upstream"]));
  const HostMatrix d_h = sum_of(ctx, d_sum, dense1.backward(ctx, dense2.backward(ctx, d_sum)));
  const HostMatrix d_residual = norm1.backward(ctx, d_h);
  put_gradient(results, "x", sum_of(ctx, d_residual, attention.backward(ctx, d_residual)).values());
  attention.put_gradients(results);
  norm1.put_gradients(results, "norm1_");
  norm2.put_gradients(results, "norm2_");
  dense1.put_gradients(results, "dense1_");
  dense2.put_gradients(results, "dense2_");
  return results;
}

Results run_dense(const Context& ctx, const Json& c) {
  const Json& inputs = c["inputs"];
  DenseLayer layer{matrix(inputs["kernel"]),
                   inputs.contains("bias") ? vector(inputs["bias"]) : std::vector<float>(),
                   activation_of(c["params"]["activation"].get<std::string>())};
  EXPECT_EQ(!layer.bias.empty(), c["params"]["use_bias"].get<bool>());
  Results results;
  put(results, "output", layer.forward(ctx, matrix(inputs["x"])).values());
  put_gradient(results, "x", layer.backward(ctx, matrix(inputs["upstream"])).values());
  layer.put_gradients(results, "");
  return results;
}

Results run_activation(const Context& ctx, const Json& c) {
  const Activation activation = activation_of(c["params"]["activation"].get<std::string>());
  HostMatrix z = matrix(c["inputs"]["x"]), y(z.rows(), z.cols()), d_z = y;
  const HostMatrix upstream = matrix(c["inputs"]["upstream"]);
  tested::bias_act(ctx, z.view(), {}, activation, y.view());
  tested::bias_act_grad(ctx, z.view(), y.view(), upstream.view(), activation, d_z.view(), {});
  Results results;
  put(results, "output", y.values());
  put_gradient(results, "x", d_z.values());
  return results;
}

struct Kind {
  const char* prefix;  ///< of the cases' names; the first that fits
  Results (*run)(const Context&, const Json&);
};
constexpr Kind kKinds[] = {{"gru_", run_gru},
                           {"layer_norm_", run_layer_norm},
                           {"l2_normalize", run_l2_normalize},
                           {"unit_normalization", run_l2_normalize},
                           {"attention_block", run_attention_block},
                           {"attention_", run_attention},
                           {"dense_", run_dense},
                           {"activation_", run_activation}};

void check(const Json& c) {
  const std::string name = c["name"].get<std::string>();
  for (const Kind& kind : kKinds) {
    if (!name.starts_with(kind.prefix)) continue;
    const Results results = kind.run(make_context(2), c);
    const Json& expected = c["expected"];
    EXPECT_EQ(results.size(), expected.size());
    for (const auto& [key, numbers] : expected.items()) {
      ASSERT_TRUE(results.contains(key)) << key;
      expect_close(results.at(key), tensor(numbers).data, c["rtol"].get<double>(),
                   c["atol"].get<double>(), key);
    }
    return;
  }
  FAIL() << "a case of no known kind";
}

TEST(GruLayer, AllCases) {
  for (const auto& path : golden_files("gru")) {
    const Json file = load_json(path);
    EXPECT_FALSE(file["cases"].empty());
    for (const Json& c : file["cases"]) {
      SCOPED_TRACE(path.filename().string() + ": " + c["name"].get<std::string>());
      check(c);
    }
  }
}

}  // namespace
}  // namespace belfry::test
