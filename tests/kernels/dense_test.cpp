// SPDX-License-Identifier: Apache-2.0
// A dense layer against its parts: gemm, then bias_act, and both backwards, on the CPU.
#include "kernels/dense/dense.hpp"

#include <gtest/gtest.h>

#include "kernels/gemm/gemm.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_dense.hpp"

namespace belfry::test {
namespace {

constexpr Activation kActivations[] = {Activation::linear, Activation::relu,     Activation::gelu,
                                       Activation::tanh,   Activation::sigmoid,  Activation::elu,
                                       Activation::selu,   Activation::softplus, Activation::swish};

/// A layer with its batch, its gradients, and padding between all rows.
struct Layer {
  Activation activation;
  HostMatrix x, kernel, z, y, d_y, d_kernel, d_x;
  std::vector<float> bias, d_bias;

  Layer(Random& random, std::int64_t rows, std::int64_t inputs, std::int64_t units, Activation a,
        bool has_bias, std::int64_t padding = 0)
      : activation(a),
        x(HostMatrix::normal(random, rows, inputs, 1, padding)),
        kernel(HostMatrix::normal(random, inputs, units, 0.3, padding)),
        z(rows, units, padding),
        y(rows, units, padding),
        d_y(HostMatrix::normal(random, rows, units, 1, padding)),
        d_kernel(inputs, units, padding),
        d_x(rows, inputs, padding),
        bias(has_bias ? random.normals(units) : std::vector<float>()),
        d_bias(bias.size()) {}

  DenseCall call() {
    const Matrix<float> kept = activation == Activation::linear ? Matrix<float>() : z.view();
    return {std::as_const(x).view(),
            std::as_const(kernel).view(),
            view(std::as_const(bias)),
            activation,
            kept,
            y.view()};
  }
  DenseGradCall grad_call(bool wants_d_x = true) {
    return {.x = std::as_const(x).view(),
            .kernel = std::as_const(kernel).view(),
            .activation = activation,
            .z = std::as_const(z).view(),
            .y = std::as_const(y).view(),
            .d_y = d_y.view(),
            .d_kernel = d_kernel.view(),
            .d_bias = view(d_bias),
            .d_x = wants_d_x ? d_x.view() : Matrix<float>()};
  }
  bool padding_intact() const {
    return y.padding_intact() && z.padding_intact() && d_y.padding_intact() &&
           d_kernel.padding_intact() && d_x.padding_intact();
  }
};

/// The same by the CPU's ops one after the other.
Layer by_parts(Layer l) {
  const Context ctx(Backend::cpu, 1);
  Matrix<float> z = l.activation == Activation::linear ? l.y.view() : l.z.view();
  gemm(ctx, std::as_const(l.x).view(), std::as_const(l.kernel).view(), z);
  bias_act(ctx, z, view(std::as_const(l.bias)), l.activation, l.y.view());
  bias_act_grad(ctx, z, l.y.view(), l.d_y.view(), l.activation, l.d_y.view(), view(l.d_bias));
  gemm(ctx, std::as_const(l.x).view(), l.d_y.view(), l.d_kernel.view(), {.a = Transpose::yes});
  gemm(ctx, l.d_y.view(), std::as_const(l.kernel).view(), l.d_x.view(), {.b = Transpose::yes});
  return l;
}

/// On the CPU to the bit. On the device sums have another order: rounding of sums of up to `depth` terms of
/// size one, through activations that amplify it little.
void expect_same(const std::vector<float>& actual, const std::vector<float>& expected,
                 std::int64_t depth, const std::string& what) {
  if (!on_device()) return expect_equal_bits(actual, expected, what);
  expect_near(actual, expected, 2e-6, 1.5e-7 * static_cast<double>(8 + depth), what);
}

void expect_same(const Layer& l, const Layer& expected, const std::string& what) {
  const std::int64_t inputs = l.x.cols(), rows = l.x.rows(), units = l.kernel.cols();
  expect_same(l.y.values(), expected.y.values(), inputs, what + " y");
  expect_same(l.d_y.values(), expected.d_y.values(), inputs, what + " d_z");
  expect_same(l.d_kernel.values(), expected.d_kernel.values(), inputs + rows, what + " d_kernel");
  expect_same(l.d_bias, expected.d_bias, inputs + rows, what + " d_bias");
  expect_same(l.d_x.values(), expected.d_x.values(), inputs + units, what + " d_x");
  const bool keeps_z = l.activation != Activation::linear && l.activation != Activation::relu;
  if (keeps_z) expect_same(l.z.values(), expected.z.values(), inputs, what + " z");
  EXPECT_TRUE(l.padding_intact()) << what;
}

TEST(Dense, ByHand) {
  const Context ctx = make_context();
  const HostMatrix x(2, 2, {1, 2, 3, -4}), kernel(2, 2, {1, 0, 1, -1});
  const std::vector<float> bias = {0.5f, 1};
  HostMatrix z(2, 2), y(2, 2);
  tested::dense(ctx, {x.view(), kernel.view(), view(bias), Activation::relu, z.view(), y.view()});
  EXPECT_EQ(y.values(), (std::vector<float>{3.5f, 0, 0, 5}));
  tested::dense(ctx, {x.view(), kernel.view(), {}, Activation::linear, {}, y.view()});
  EXPECT_EQ(y.values(), (std::vector<float>{3, -2, -1, 4}));
}

TEST(Dense, GradientsByHand) {
  const Context ctx = make_context();
  const HostMatrix x(2, 2, {1, 2, 3, -4}), kernel(2, 2, {1, 0, 1, -1});
  const HostMatrix z(2, 2, {3.5f, -1, -0.5f, 5}), y(2, 2, {3.5f, 0, 0, 5});
  HostMatrix d_y(2, 2, {1, 10, 100, 1000}), d_kernel(2, 2), d_x(2, 2);
  std::vector<float> d_bias(2);
  tested::dense_grad(ctx, {x.view(), kernel.view(), Activation::relu, z.view(), y.view(),
                           d_y.view(), d_kernel.view(), view(d_bias), d_x.view()});
  EXPECT_EQ(d_y.values(), (std::vector<float>{1, 0, 0, 1000}));
  EXPECT_EQ(d_bias, (std::vector<float>{1, 1000}));
  EXPECT_EQ(d_kernel.values(), (std::vector<float>{1, 3000, 2, -4000}));
  EXPECT_EQ(d_x.values(), (std::vector<float>{1, 1, 0, -1000}));
}

TEST(Dense, EveryActivationAndShape) {
  const Context ctx = make_context(2);
  Random random(41);
  struct Shape {
    std::int64_t rows, inputs, units, padding;
  };
  for (const Shape& s :
       {Shape{1, 1, 1, 0}, {33, 5, 17, 3}, {130, 31, 32, 0}, {7, 70, 3, 5}, {300, 16, 33, 0}}) {
    for (const Activation activation : kActivations) {
      for (const bool bias : {false, true}) {
        Layer l(random, s.rows, s.inputs, s.units, activation, bias, s.padding);
        const Layer expected = by_parts(l);
        tested::dense(ctx, l.call());
        tested::dense_grad(ctx, l.grad_call());
        expect_same(l, expected,
                    std::to_string(s.rows) + "x" + std::to_string(s.inputs) + "x" +
                        std::to_string(s.units) + " activation " +
                        std::to_string(static_cast<int>(activation)) + (bias ? " bias" : ""));
      }
    }
  }
}

/// Several layers at once: equal ones, equal but for what is computed, and others.
TEST(Dense, ManyCallsAtOnce) {
  Random random(42);
  std::vector<Layer> start;
  for (const Activation a : {Activation::relu, Activation::relu, Activation::linear,
                             Activation::linear, Activation::gelu}) {
    start.emplace_back(random, 40, 24, 16, a, true);
  }
  start.emplace_back(random, 40, 24, 16, Activation::relu, false);
  start.emplace_back(random, 21, 24, 16, Activation::linear, true);
  start.emplace_back(random, 21, 7, 16, Activation::tanh, true);
  std::vector<Layer> expected;
  for (const Layer& l : start) expected.push_back(by_parts(l));
  const auto run = [&] {
    const Context ctx = make_context();
    std::vector<Layer> layers = start;
    std::vector<DenseCall> calls;
    std::vector<DenseGradCall> grad_calls;
    for (Layer& l : layers) {
      calls.push_back(l.call());
      grad_calls.push_back(l.grad_call());
    }
    tested::dense(ctx, calls);
    tested::dense_grad(ctx, grad_calls);
    return layers;
  };
  std::vector<Layer> first;
  for_each_schedule([&] {
    const std::vector<Layer> layers = run();
    if (first.empty()) first = layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      expect_same(layers[i], expected[i], "call " + std::to_string(i));
      expect_equal_bits(layers[i].y.values(), first[i].y.values(), "y again");
      expect_equal_bits(layers[i].d_kernel.values(), first[i].d_kernel.values(), "d_kernel again");
      expect_equal_bits(layers[i].d_x.values(), first[i].d_x.values(), "d_x again");
      expect_equal_bits(layers[i].d_bias, first[i].d_bias, "d_bias again");
    }
  });
}

TEST(Dense, NoCallsNoRowsNoInputs) {
  const Context ctx = make_context();
  tested::dense(ctx, std::span<const DenseCall>());
  tested::dense_grad(ctx, std::span<const DenseGradCall>());
  Random random(43);
  for (const Activation activation : kActivations) {
    Layer none(random, 0, 5, 3, activation, true);
    none.d_kernel = HostMatrix(5, 3, 0, 7.0f);
    none.d_bias = {7, 7, 7};
    tested::dense(ctx, none.call());
    tested::dense_grad(ctx, none.grad_call());
    EXPECT_EQ(none.d_kernel.values(), std::vector<float>(15, 0.0f));
    EXPECT_EQ(none.d_bias, std::vector<float>(3, 0.0f));

    Layer no_inputs(random, 4, 0, 3, activation, true);
    const Layer expected = by_parts(no_inputs);
    tested::dense(ctx, no_inputs.call());
    tested::dense_grad(ctx, no_inputs.grad_call());
    expect_same(no_inputs, expected, "K = 0");
  }
}

TEST(Dense, InputGradientOnRequest) {
  const Context ctx = make_context();
  Random random(44);
  Layer l(random, 9, 4, 6, Activation::relu, true);
  const Layer expected = by_parts(l);
  tested::dense(ctx, l.call());
  tested::dense_grad(ctx, l.grad_call(false));
  expect_same(l.d_kernel.values(), expected.d_kernel.values(), 13, "d_kernel");
  EXPECT_EQ(l.d_x.values(), std::vector<float>(36, 0.0f));
  Layer shaped(random, 9, 4, 6, Activation::relu, true);
  tested::dense(ctx, shaped.call());
  DenseGradCall call = shaped.grad_call();
  call.d_x.data = nullptr;  // a shape without a place is as good as none
  tested::dense_grad(ctx, call);
  EXPECT_EQ(shaped.d_x.values(), std::vector<float>(36, 0.0f));
}

TEST(Dense, RefusesWrongShapes) {
  const Context ctx = make_context();
  Random random(45);
  Layer l(random, 4, 3, 5, Activation::tanh, true);
  HostMatrix wrong(4, 4);
  std::vector<float> wrong_bias(4);
  const auto refuse = [&](auto change) {
    DenseCall c = l.call();
    change(c);
    EXPECT_THROW(tested::dense(ctx, c), ContractError);
  };
  refuse([&](DenseCall& c) { c.x = std::as_const(wrong).view(); });
  refuse([&](DenseCall& c) { c.y = wrong.view(); });
  refuse([&](DenseCall& c) { c.z = wrong.view(); });
  refuse([&](DenseCall& c) { c.bias = view(std::as_const(wrong_bias)); });
  refuse([&](DenseCall& c) { c.x.pitch = 2; });
  if (!on_device()) refuse([&](DenseCall& c) { c.z = c.y; });  // twins would differ
  const auto refuse_grad = [&](auto change) {
    DenseGradCall c = l.grad_call();
    change(c);
    EXPECT_THROW(tested::dense_grad(ctx, c), ContractError);
  };
  refuse_grad([&](DenseGradCall& c) { c.x = std::as_const(wrong).view(); });
  refuse_grad([&](DenseGradCall& c) { c.d_y = wrong.view(); });
  refuse_grad([&](DenseGradCall& c) { c.y = std::as_const(wrong).view(); });
  refuse_grad([&](DenseGradCall& c) { c.z = std::as_const(wrong).view(); });
  refuse_grad([&](DenseGradCall& c) { c.d_kernel = wrong.view(); });
  refuse_grad([&](DenseGradCall& c) { c.d_bias = view(wrong_bias); });
  refuse_grad([&](DenseGradCall& c) { c.d_x = wrong.view(); });
  refuse_grad([&](DenseGradCall& c) { c.d_kernel.pitch = 4; });
}

}  // namespace
}  // namespace belfry::test
