// SPDX-License-Identifier: Apache-2.0
// How products go out on the device: batches, cached heuristics, graphs; and what becomes of them
// where the library lacks something.
#include <gtest/gtest.h>

#include "kernels/dense/dense.hpp"
#include "kernels/gemm/gemm_products.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_layers.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"
#if defined(BELFRY_SIMT)
#include "tests/simt/cublaslt_fake.hpp"
#endif

namespace belfry::test {
namespace {

using cuda::Epilogue;
using cuda::Product;
using cuda::product_counters;
using cuda::ProductCounters;

TEST(DenseOnDevice, EqualLayersGoOutAsOneBatch) {
  for_each_schedule([] {
    const Context ctx = make_context();
    Random random(51);
    for (const Activation activation : {Activation::relu, Activation::linear, Activation::gelu}) {
      Pool pool(ctx, 1 << 16);
      std::vector<DeviceLayer> layers;
      for (int i = 0; i < 3; ++i) layers.emplace_back(random, pool, 70, 12, 9, activation);
      const ProductCounters before = product_counters();
      forward_and_backward(ctx, layers);
      const ProductCounters used = since(before);
      EXPECT_EQ(used.calls, 3);  // y; d_kernel; d_x
      EXPECT_EQ(used.batched, 3);
      for (const DeviceLayer& l : layers) l.check(pool);
      std::reverse(layers.begin(), layers.end());  // the order of the calls does not matter
      for (const DeviceLayer& l : layers) pool.write(l.d_y, l.host_d_y);
      forward_and_backward(ctx, layers);
      EXPECT_EQ(since(before).batched, 6);
      for (const DeviceLayer& l : layers) l.check(pool);
    }
  });
}

TEST(DenseOnDevice, OtherLayersGoOutAsBranches) {
  for_each_schedule([] {
    const Context ctx = make_context();
    Random random(52);
    Pool pool(ctx, 1 << 16);
    std::vector<DeviceLayer> layers;  // long sums: each product has a workspace of its own
    layers.emplace_back(random, pool, 90, 70, 12, Activation::relu);
    layers.emplace_back(random, pool, 80, 66, 13, Activation::tanh);
    layers.emplace_back(random, pool, 81, 65, 5, Activation::linear);
    const ProductCounters before = product_counters();
    forward_and_backward(ctx, layers);
    EXPECT_EQ(since(before).calls, 9);
    EXPECT_EQ(since(before).batched, 0);
    for (const DeviceLayer& l : layers) l.check(pool);
  });
}

/// Bias and relu ride in the product: no kernel of our own is launched.
TEST(DenseOnDevice, EpiloguesReplaceKernels) {
  const Context ctx = make_context();
  Random random(66);
  for (const Activation activation : {Activation::relu, Activation::linear}) {
    Pool pool(ctx, 1 << 16);
    const DeviceLayer layer(random, pool, 30, 8, 6, activation);
    const auto before = simt::counters().launches;
    dense(ctx, std::vector<DenseCall>{layer.call()});
    EXPECT_EQ(simt::counters().launches, before);
    dense_grad(ctx, std::vector<DenseGradCall>{layer.grad_call()});
    EXPECT_EQ(simt::counters().launches == before, activation == Activation::linear);
    layer.check(pool);
  }
}

/// Batches need operands in ascending order and one distance; anything else must still be right.
TEST(DenseOnDevice, ScatteredLayersAreNoBatch) {
  const Context ctx = make_context();
  Random random(53);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  for (int i = 0; i < 2; ++i) layers.emplace_back(random, pool, 20, 8, 6, Activation::linear);
  std::swap(layers[0].x, layers[1].x);  // descends while all others ascend
  std::swap(layers[0].host_x, layers[1].host_x);
  const ProductCounters before = product_counters();
  forward_and_backward(ctx, layers);
  EXPECT_EQ(since(before).batched, 1);  // d_x = d_z kernel^T does not read x
  for (const DeviceLayer& l : layers) l.check(pool);
  for (int i = 0; i < 2; ++i) layers.emplace_back(random, pool, 20, 8, 6, Activation::linear);
  std::swap(layers[0].x, layers[1].x);
  std::swap(layers[0].host_x, layers[1].host_x);
  pool.matrix(1, 100);  // a gap: the fifth is not one stride on
  layers.emplace_back(random, pool, 20, 8, 6, Activation::linear);
  for (const DeviceLayer& l : layers) pool.write(l.d_y, l.host_d_y);
  forward_and_backward(ctx, layers);
  for (const DeviceLayer& l : layers) l.check(pool);
}

/// A batch [20,8] x [8,6] of operands at multiples of 1024 elements; each case moves one thing.
TEST(DenseOnDevice, WhatDiffersIsNoBatch) {
  const Context ctx = make_context();
  Random random(67);
  Pool pool(ctx, 1 << 16);
  const HostMatrix filling = HostMatrix::normal(random, 1, 1 << 15);
  float* data = pool.matrix(filling).data;
  using Products = std::vector<Product>;
  const auto products = [&](int n) {
    Products made;
    for (int i = 0; i < n; ++i) {
      float* place = data + i * 3072;
      made.push_back({.a = {place, 8, 8},
                      .b = {place + 1024, 8, 8},
                      .c = {place + 2048, 8, 8},
                      .options = {.alpha = 1, .beta = 1}});
    }
    return made;
  };
  struct Change {
    const char* what;
    int count, batched, calls;
    void (*change)(Products&);
  };
  const std::vector<Change> changes = {
      {"nothing", 3, 1, 1, [](Products&) {}},
      {"alpha", 2, 0, 2, [](Products& p) { p[1].options.alpha = 2; }},
      {"beta", 2, 0, 2, [](Products& p) { p[1].options.beta = 0; }},
      {"transpose of a", 2, 0, 2, [](Products& p) { p[1].options.a = Transpose::yes; }},
      {"transpose of b", 2, 0, 2, [](Products& p) { p[1].options.b = Transpose::yes; }},
      {"epilogue", 2, 0, 2, [](Products& p) { p[1].epilogue = Epilogue::relu; }},
      {"pitch of a", 2, 0, 2, [](Products& p) { p[1].a.pitch = 9; }},
      {"pitch of b", 2, 0, 2, [](Products& p) { p[1].b.pitch = 9; }},
      {"pitch of c", 2, 0, 2, [](Products& p) { p[1].c.pitch = 9; }},
      {"a before", 2, 0, 2, [](Products& p) { std::swap(p[0].a, p[1].a); }},
      {"b before", 2, 0, 2, [](Products& p) { std::swap(p[0].b, p[1].b); }},
      {"the third a", 3, 1, 2, [](Products& p) { p[2].a.data += 64; }},
      {"the third b", 3, 1, 2, [](Products& p) { p[2].b.data += 64; }},
      {"the third c", 3, 1, 2, [](Products& p) { p[2].c.data += 64; }},
      {"odd steps", 2, 1, 1, [](Products& p) { p[1].a.data += 1, p[1].b.data += 2; }},
      {"one between", 4, 1, 2,
       [](Products& p) {  // 0, 2 and 3 are in step, 1 is not
         p[1].b.data -= 3996, p[1].c.data -= 512;
         for (Product* late : {&p[2], &p[3]}) {
           late->a.data -= 3072, late->b.data -= 3072, late->c.data -= 3072;
         }
       }}};
  for (const Change& change : changes) {
    SCOPED_TRACE(change.what);
    Products given = products(change.count);
    change.change(given);
    pool.write({data, 1, filling.cols()}, filling);
    const ProductCounters before = product_counters();
    cuda::multiply_all(ctx, given);
    EXPECT_EQ(since(before).batched, change.batched);
    EXPECT_EQ(since(before).calls, change.calls);
    const std::vector<float> actual = pool.read({data, 1, filling.cols()});
    HostMatrix expected = filling;  // one after the other, on the host
    const auto on_host = [&](auto m) {
      return Matrix<float>(&expected(0, m.data - data), m.rows, m.cols, m.pitch);
    };
    for (const Product& p : given) {
      const Matrix<float> c = on_host(p.c);
      belfry::gemm(Context(Backend::cpu, 1), on_host(p.a), on_host(p.b), c, p.options);
      for (std::int64_t i = 0; p.epilogue == Epilogue::relu && i < 64; ++i) {
        c.data[i] = std::max(c.data[i], 0.0f);
      }
    }
    expect_near(actual, expected.values(), 1e-6, 1e-5, "all");
  }
}

/// One input for both: a stride of 0.
TEST(DenseOnDevice, SharedInput) {
  const Context ctx = make_context();
  Random random(54);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  for (int i = 0; i < 2; ++i) layers.emplace_back(random, pool, 20, 8, 6, Activation::relu);
  layers[1].x = layers[0].x;
  layers[1].host_x = layers[0].host_x;
  const ProductCounters before = product_counters();
  forward_and_backward(ctx, layers);
  EXPECT_EQ(since(before).batched, 3);
  for (const DeviceLayer& l : layers) l.check(pool);
}

/// The columns of one matrix as two results: their elements interleave, so they are no batch.
TEST(DenseOnDevice, ColumnsOfOneMatrix) {
  const Context ctx = make_context();
  Random random(55);
  Pool pool(ctx, 1 << 14);
  const HostMatrix a = HostMatrix::normal(random, 10, 4), b = HostMatrix::normal(random, 4, 6);
  const Matrix<float> x = pool.matrix(a), w = pool.matrix(b), y = pool.matrix(10, 6);
  const std::vector<Product> halves = {{.a = x, .b = w.columns(0, 3), .c = y.columns(0, 3)},
                                       {.a = x, .b = w.columns(3, 3), .c = y.columns(3, 3)}};
  const ProductCounters before = product_counters();
  cuda::multiply_all(ctx, halves);
  EXPECT_EQ(since(before).batched, 0);
  HostMatrix expected(10, 6);
  belfry::gemm(Context(Backend::cpu, 1), a.view(), b.view(), expected.view());
  expect_near(pool.read(y), expected.values(), 1e-6, 1e-6, "both halves");
}

TEST(DenseOnDevice, HeuristicsAreAskedOnce) {
  const Context ctx = make_context();
  Random random(56);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  for (int i = 0; i < 2; ++i) layers.emplace_back(random, pool, 37, 11, 7, Activation::relu);
  layers.emplace_back(random, pool, 36, 10, 5, Activation::linear);
  const ProductCounters before = product_counters();
  forward_and_backward(ctx, layers);
  const ProductCounters first = since(before);
  EXPECT_GT(first.heuristic_queries, 0);
  forward_and_backward(ctx, layers);
  EXPECT_EQ(since(before).heuristic_queries, first.heuristic_queries);
  EXPECT_EQ(since(before).calls, 2 * first.calls);
  const simt::Graph graph =
      simt::Graph::capture(ctx.stream(), [&] { forward_and_backward(ctx, layers); });
  EXPECT_EQ(since(before).heuristic_queries, first.heuristic_queries);
  EXPECT_EQ(since(before).calls, 3 * first.calls);
}

/// Two towers of different shapes, so with branches: captured once, replayed with other inputs.
TEST(DenseOnDevice, GraphWithBranches) {
  for_each_schedule([] {
    const Context ctx = make_context();
    Random random(57);
    Pool pool(ctx, 1 << 16);
    std::vector<DeviceLayer> layers;
    layers.emplace_back(random, pool, 70, 33, 12, Activation::relu);
    layers.emplace_back(random, pool, 65, 70, 9, Activation::linear);
    layers.emplace_back(random, pool, 65, 70, 9, Activation::linear);
    layers.emplace_back(random, pool, 40, 66, 13, Activation::swish);
    forward_and_backward(ctx, layers);  // plans; grows the arena
    ctx.synchronise();
    const simt::Counters before = simt::counters();
    const simt::Graph graph =
        simt::Graph::capture(ctx.stream(), [&] { forward_and_backward(ctx, layers); });
    for (int replay = 0; replay < 2; ++replay) {
      for (DeviceLayer& l : layers) l.renew(random, pool);
      graph.launch(ctx.stream());
      for (const DeviceLayer& l : layers) l.check(pool);
    }
    EXPECT_EQ(simt::counters().allocations, before.allocations);
  });
}

TEST(DenseOnDevice, EagerRunsAfterACapture) {
  const Context ctx = make_context();
  Random random(58);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  layers.emplace_back(random, pool, 20, 8, 6, Activation::relu);
  layers.emplace_back(random, pool, 21, 8, 6, Activation::relu);
  forward_and_backward(ctx, layers);
  {
    simt::Graph::capture(ctx.stream(), [&] { forward_and_backward(ctx, layers); });
  }
  for (DeviceLayer& l : layers) l.renew(random, pool);
  forward_and_backward(ctx, layers);
  for (const DeviceLayer& l : layers) l.check(pool);
}

TEST(GemmOnDevice, GraphReplaysWithOtherInputs) {
  for_each_schedule([] {
    const Context ctx = make_context();
    Random random(59);
    Pool pool(ctx, 1 << 14);
    const Matrix<float> a = pool.matrix(30, 70), b = pool.matrix(70, 9), c = pool.matrix(30, 9);
    for (const Matrix<float>& m : {a, b}) pool.write(m, HostMatrix(m.rows, m.cols));
    gemm(ctx, a, b, c);
    const simt::Graph graph =
        simt::Graph::capture(ctx.stream(), [&] { gemm(ctx, a, b, c, {.alpha = 2, .beta = 1}); });
    for (int replay = 0; replay < 2; ++replay) {
      const HostMatrix x = HostMatrix::normal(random, 30, 70),
                       y = HostMatrix::normal(random, 70, 9);
      HostMatrix expected = HostMatrix::normal(random, 30, 9);
      pool.write(a, x);
      pool.write(b, y);
      pool.write(c, expected);
      graph.launch(ctx.stream());
      gemm(Context(Backend::cpu, 1), x.view(), y.view(), expected.view(), {.alpha = 2, .beta = 1});
      expect_near(pool.read(c), expected.values(), 1e-6, 1e-5, "c");
    }
  });
}

/// More elements than threads: each takes several.
TEST(GemmOnDevice, LargeResultOfNoProduct) {
  const Context ctx = make_context();
  Pool pool(ctx, 1 << 19);
  const HostMatrix ones(1, 300000, 0, 1.0f);
  const Matrix<float> c(pool.matrix(ones).data, 600, 450, 500);
  gemm(ctx, {c.data, 600, 0, 0}, {c.data, 0, 450, 450}, c, {.beta = 3});
  const std::vector<float> values = pool.read({c.data, 1, 299950});
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < 299950; ++i) {
    wrong += values[static_cast<std::size_t>(i)] != (i % 500 < 450 ? 3.0f : 1.0f);
  }
  EXPECT_EQ(wrong, 0);
}

/// Plans are dropped when there are too many, and made again.
TEST(GemmOnDevice, ManyShapes) {
  const Context ctx = make_context();
  Random random(60);
  Pool pool(ctx, 1 << 14);
  const HostMatrix x = HostMatrix::normal(random, 72, 1), y = HostMatrix::normal(random, 1, 72);
  const Matrix<float> a = pool.matrix(x), b = pool.matrix(y), c = pool.matrix(72, 72);
  const ProductCounters before = product_counters();
  for (std::int64_t m = 1; m <= 65; ++m) {
    for (std::int64_t n = 1; n <= 65; ++n) {
      gemm(ctx, a.slice(0, m), b.columns(0, n), {c.data, m, n, 72});
    }
  }
  EXPECT_EQ(since(before).heuristic_queries, 65 * 65);
  const std::vector<float> values = pool.read(c);
  EXPECT_EQ(values[64 * 72 + 64], x(64, 0) * y(0, 64));
  gemm(ctx, a.slice(0, 1), b.columns(0, 1), {c.data, 1, 1, 72});  // was dropped
  EXPECT_EQ(since(before).heuristic_queries, 65 * 65 + 1);
}

#if defined(BELFRY_SIMT)

class Refused : public ::testing::Test {
 protected:
  void TearDown() override { simt::fake::refusals() = {}; }
};

// Shapes here are used nowhere else: plans are kept as long as the process lives.

TEST_F(Refused, StatusesBecomeFailures) {
  using simt::Failure;
  const Context ctx = make_context();
  Pool pool(ctx, 1 << 14);
  const Matrix<float> a = pool.matrix(58, 14), b = pool.matrix(14, 6), c = pool.matrix(58, 6);
  for (const auto& [status, failure] :
       {std::pair{CUBLAS_STATUS_ALLOC_FAILED, Failure::out_of_memory},
        {CUBLAS_STATUS_ARCH_MISMATCH, Failure::wrong_architecture},
        {CUBLAS_STATUS_NOT_INITIALIZED, Failure::no_device},
        {CUBLAS_STATUS_EXECUTION_FAILED, Failure::sticky},
        {CUBLAS_STATUS_INTERNAL_ERROR, Failure::sticky},
        {CUBLAS_STATUS_INVALID_VALUE, Failure::bad_argument}}) {
    simt::fake::refusals().status = status;
    try {
      gemm(ctx, a, b, c);
      FAIL() << "not refused";
    } catch (const simt::DeviceFailure& e) {
      EXPECT_EQ(e.failure, failure) << e.what();
      EXPECT_NE(std::string(e.what()).find("matrix product of 58 x 6 over 14"), std::string::npos)
          << e.what();
    }
  }
}

TEST_F(Refused, BiasGradientFallsBackToItsOwnPass) {
  const Context ctx = make_context();
  Random random(61);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  for (int i = 0; i < 2; ++i) layers.emplace_back(random, pool, 51, 14, 6, Activation::linear);
  simt::fake::refusals().bias_gradient = true;
  forward_and_backward(ctx, layers);
  for (const DeviceLayer& l : layers) l.check(pool);
}

TEST_F(Refused, BatchesWithEpilogueFallBackToBranches) {
  const Context ctx = make_context();
  Random random(62);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  for (int i = 0; i < 2; ++i) layers.emplace_back(random, pool, 52, 14, 6, Activation::linear);
  simt::fake::refusals().batches_with_epilogue = true;
  const ProductCounters before = product_counters();
  forward_and_backward(ctx, layers);
  EXPECT_EQ(since(before).calls, 5);    // two y, two d_kernel with d_bias
  EXPECT_EQ(since(before).batched, 1);  // both d_x
  for (const DeviceLayer& l : layers) l.check(pool);
}

TEST_F(Refused, EpiloguesFallBackToBiasAct) {
  const Context ctx = make_context();
  Random random(63);
  int rows = 61;
  for (const Activation activation : {Activation::linear, Activation::relu, Activation::elu}) {
    Pool pool(ctx, 1 << 16);
    std::vector<DeviceLayer> layers;
    layers.emplace_back(random, pool, rows++, 14, 6, activation);
    simt::fake::refusals().epilogues = true;
    layers.emplace_back(random, pool, rows++, 14, 6, activation);
    layers.back().drop_bias();
    forward_and_backward(ctx, layers);
    for (const DeviceLayer& l : layers) l.check(pool);
  }
}

TEST_F(Refused, NoAlgorithmIsAnErrorThatNamesTheProduct) {
  const Context ctx = make_context();
  Pool pool(ctx, 1 << 14);
  const Matrix<float> a = pool.matrix(59, 14), b = pool.matrix(14, 6), c = pool.matrix(59, 6);
  simt::fake::refusals().everything = true;
  try {
    gemm(ctx, a, b, c);
    FAIL() << "not refused";
  } catch (const DeviceError& e) {
    EXPECT_STREQ(e.what(),
                 "gemm: cuBLASLt has no algorithm for the matrix product of 59 x 6 over 14");
  }
}

#endif

}  // namespace
}  // namespace belfry::test
