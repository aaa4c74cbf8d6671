// SPDX-License-Identifier: Apache-2.0
#include "kernels/matrix_ops/matrix_ops.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_matrix_ops.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

std::string name_of(const Shape& s, std::int64_t padding) {
  return std::to_string(s.rows) + " x " + std::to_string(s.cols) + " + " + std::to_string(padding);
}

/// nasty_shapes, and one around the tiles of the device.
std::vector<Shape> shapes() {
  std::vector<Shape> all = nasty_shapes();
  all.insert(all.end(), {{1, 4095}, {1, 4096}, {4097, 1}, {2, 5000}, {17, 300}});
  return all;
}

TEST(MatrixOps, CopiesAndAdds) {
  const Context ctx = make_context(2);
  Random random(1);
  for (const Shape& s : shapes()) {
    for (const std::int64_t padding : {0, 3}) {
      const HostMatrix a = HostMatrix::normal(random, s.rows, s.cols, 1, padding);
      HostMatrix copy(s.rows, s.cols, padding, 7.0f), same(s.rows, s.cols, 0, 7.0f);
      tested::copy_matrix(ctx, a.view(), copy.view());
      tested::copy_matrix(ctx, a.view(), same.view());
      expect_equal_bits(copy.values(), a.values(), name_of(s, padding));
      expect_equal_bits(same.values(), a.values(), name_of(s, padding));

      HostMatrix b = HostMatrix::normal(random, s.rows, s.cols, 1, 1);
      std::vector<float> expected = b.values();
      const std::vector<float> term = a.values();
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += term[i];
      tested::add_matrix(ctx, a.view(), b.view());
      expect_equal_bits(b.values(), expected, name_of(s, padding));
      tested::add_matrix(ctx, b.view(), b.view());
      for (float& v : expected) v += v;
      expect_equal_bits(b.values(), expected, name_of(s, padding) + ", to itself");
      EXPECT_TRUE(copy.padding_intact() && b.padding_intact());
    }
  }
}

TEST(MatrixOps, ZeroesAnyNumberOfMatrices) {
  const Context ctx = make_context(2);
  Random random(2);
  for (const std::size_t count : {0u, 1u, 16u, 17u, 40u}) {
    std::deque<HostMatrix> all;
    std::vector<Matrix<float>> views;
    for (std::size_t i = 0; i < count; ++i) {
      const Shape s = i % 8 == 3 ? Shape{17, 300} : Shape{random.below(9), random.below(70)};
      all.push_back(HostMatrix::normal(random, s.rows, s.cols, 1, i % 3));
      views.push_back(all.back().view());
    }
    tested::set_zero(ctx, views);
    for (const HostMatrix& m : all) {
      expect_equal_bits(m.values(), std::vector<float>(m.values().size(), 0.0f), "zeroed");
      EXPECT_TRUE(m.padding_intact());
    }
  }
}

TEST(MatrixOps, FillsAVector) {
  const Context ctx = make_context(2);
  for (const std::int64_t n : {0, 1, 31, 32, 33, 4096, 4097, 9001}) {
    std::vector<float> out(static_cast<std::size_t>(n), -1.0f);
    tested::fill(ctx, view(out), 2.5f);
    expect_equal_bits(out, std::vector<float>(out.size(), 2.5f), std::to_string(n));
  }
}

TEST(MatrixOps, LeavesPaddingAlone) {
  // In memory of the backend, so that the padding is really there.
  const Context ctx = make_context(1);
  const std::vector<float> sevens(7 * 8, 7.0f);
  Held<float> from(ctx, sevens), to(ctx, sevens);
  const auto expect = [&](float inside, const std::string& what) {
    const std::vector<float> got = to.get();
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i], i % 8 < 5 ? inside : 7.0f) << what << " at " << i;
    }
  };
  const Matrix<float> in(from.data(), 7, 5, 8), out(to.data(), 7, 5, 8);
  belfry::set_zero(ctx, out);
  expect(0, "set_zero");
  belfry::add_matrix(ctx, in, out);
  belfry::add_matrix(ctx, in, out);
  expect(14, "add_matrix");
  belfry::copy_matrix(ctx, in, out);
  expect(7, "copy_matrix");
  Held<float> dense(ctx, std::vector<float>(35, 3.0f));
  belfry::copy_matrix(ctx, dense.matrix(7, 5), out);
  expect(3, "copy_matrix of a matrix without padding");
}

TEST(MatrixOps, SameBitsWhateverTheSchedule) {
  for_each_variant([](const Context& ctx) {
    Random random(3);
    const HostMatrix a = HostMatrix::normal(random, 90, 70, 1, 1);
    HostMatrix b = HostMatrix::normal(random, 90, 70);
    std::vector<float> expected = b.values();
    const std::vector<float> term = a.values();
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += term[i];
    tested::add_matrix(ctx, a.view(), b.view());
    expect_equal_bits(b.values(), expected, "sum");
    tested::copy_matrix(ctx, a.view(), b.view());
    expect_equal_bits(b.values(), a.values(), "copy");
    const Matrix<float> parts[] = {b.view()};
    tested::set_zero(ctx, parts);
    expect_equal_bits(b.values(), std::vector<float>(expected.size()), "zero");
  });
}

TEST(MatrixOps, CanBeReplayed) {
  const Context ctx = make_context(1);
  Random random(4);
  Held<float> a(ctx, random.normals(600)), b(ctx, random.normals(600)), c(ctx, random.normals(600));
  Held<float> ones(ctx, random.normals(20));
  Replay replay(ctx, [&] {
    belfry::copy_matrix(ctx, a.matrix(20, 30), b.matrix(20, 30));
    belfry::copy_matrix(ctx, a.matrix(20, 30).columns(0, 10), b.matrix(20, 30).columns(20, 10));
    belfry::set_zero(ctx, c.matrix(20, 30));
    belfry::add_matrix(ctx, b.matrix(20, 30), c.matrix(20, 30));
    belfry::fill(ctx, ones.vector(), 1.0f);
  });
  for (int round = 0; round < 2; ++round) {
    const std::vector<float> values = random.normals(600);
    std::vector<float> expected = values;
    for (std::int64_t i = 0; i < 600; ++i) {
      if (i % 30 >= 20) expected[i] = values[i - 20];
    }
    a.set(values);
    ones.set(random.normals(20));
    replay.run();
    expect_equal_bits(c.get(), expected, "sum");
    expect_equal_bits(ones.get(), std::vector<float>(20, 1.0f), "ones");
  }
}

TEST(MatrixOps, RefusesDifferentShapes) {
  const Context ctx = make_context(1);
  HostMatrix a(2, 3), rows(3, 3), cols(2, 2);
  for (HostMatrix* other : {&rows, &cols}) {
    EXPECT_THROW(tested::copy_matrix(ctx, a.view(), other->view()), ContractError);
    EXPECT_THROW(tested::add_matrix(ctx, a.view(), other->view()), ContractError);
  }
}

}  // namespace
}  // namespace belfry::test
