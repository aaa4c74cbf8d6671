// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding_bag/embedding_bag.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/support/bags.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_embedding_bag.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

/// d loss / d table in float64, by row, with the sum of the magnitudes of its terms: what float32
/// rounding is measured against.
struct RowTerms {
  std::vector<double> sum, size;
};
using Gradient = std::map<std::int32_t, RowTerms>;
void add_use(Gradient& gradient, const Bags& bags, Pooling pooling, const HostMatrix& d_y) {
  for (std::int64_t b = 0; b < d_y.rows(); ++b) {
    for (std::int64_t j = bags.begin(b); j < bags.end(b); ++j) {
      RowTerms& row = gradient[bags.ids[j]];
      row.sum.resize(d_y.cols());
      row.size.resize(d_y.cols());
      for (std::int64_t d = 0; d < d_y.cols(); ++d) {
        const double term = bags.scale(pooling, b) * bags.weight(j) * d_y(b, d);
        row.sum[d] += term;
        row.size[d] += std::abs(term);
      }
    }
  }
}

void expect_gradient(const RowsOut& actual, const Gradient& expected, const std::string& what) {
  ASSERT_EQ(actual.rows.size(), expected.size()) << what;
  std::vector<double> error, zero;
  std::int64_t i = 0;
  for (const auto& [row, terms] : expected) {
    EXPECT_EQ(actual.rows[i], row) << what << ": rows must ascend";
    for (std::size_t d = 0; d < terms.sum.size(); ++d) {
      error.push_back((actual.values(i, d) - terms.sum[d]) / (terms.size[d] + 1e-30));
      zero.push_back(0);
    }
    ++i;
  }
  expect_near(error, zero, 0, 5e-7, what + ", error over the size of the terms");
}

TEST(EmbeddingBag, ByHand) {
  const Context ctx = make_context(1);
  HostMatrix table(4, 2, {0, 1, 2, 3, 4, 5, 6, 7});
  const Bags bags{{3, 0, 1, 2, 3, 1}, {0, 1, 4, 4, 6}, {}};
  HostMatrix y(4, 2);
  tested::embedding_bag(ctx, table.view(), bags.ragged(), Pooling::mean, y.view());
  EXPECT_EQ(y.values(), (std::vector<float>{6, 7, 2, 3, 0, 0, 4, 5}));
  tested::embedding_bag(ctx, table.view(), bags.ragged(), Pooling::sum, y.view());
  EXPECT_EQ(y.values(), (std::vector<float>{6, 7, 6, 9, 0, 0, 8, 10}));
  const Bags weighted{{1, 2, 0, 3}, {0, 2, 4}, {3, 4, 1, -1}};
  HostMatrix z(2, 2);
  tested::embedding_bag(ctx, table.view(), weighted.ragged(), Pooling::sqrtn, z.view());
  expect_near(z.values(), std::vector<double>{4.4, 5.8, -6 / std::sqrt(2), -6 / std::sqrt(2)}, 1e-6,
              0, "sqrtn");
  tested::embedding_bag(ctx, table.view(), weighted.ragged(), Pooling::mean, z.view());
  expect_near(z.values(), std::vector<double>{22 / 7.0, 29 / 7.0, 0, 0}, 1e-6, 0, "mean, sum 0");
}

TEST(EmbeddingBag, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(2);
    for (const std::int64_t bags : kNastySizes) {
      for (const std::int64_t width : {1, 3, 16, 33, 64}) {
        for (const int form : {0, 1, 2, 3}) {
          const Bags in = random_bags(random, bags, 50, form & 1, form & 2);
          const HostMatrix table = HostMatrix::normal(random, 50, width, 1, form);
          for (const Pooling pooling : kPoolings) {
            HostMatrix y(bags, width, 2, -7.0f);
            tested::embedding_bag(ctx, table.view(), in.ragged(), pooling, y.view());
            std::vector<double> want(bags * width);
            for (std::int64_t b = 0; b < bags; ++b) {
              for (std::int64_t j = in.begin(b); j < in.end(b); ++j) {
                for (std::int64_t d = 0; d < width; ++d) {
                  want[b * width + d] += in.scale(pooling, b) * in.weight(j) * table(in.ids[j], d);
                }
              }
            }
            expect_near(y.values(), want, 1e-6, 1e-6, "bags " + std::to_string(bags));
            EXPECT_TRUE(y.padding_intact());
          }
        }
      }
    }
    EXPECT_EQ(ctx.read_state().status, 0u);
  });
}

TEST(EmbeddingBag, IdsOutsideCountAsZerosAndAreReported) {
  const HostMatrix table(2, 1, {5, 7});
  for (const bool ragged : {false, true}) {
    for (const std::int32_t bad : {2, -1, INT32_MIN, INT32_MAX}) {
      const Context ctx = make_context(1);
      Bags in{{1, bad, 0}, {}, {}};
      if (ragged) in.offsets = {0, 1, 2, 3};
      HostMatrix y(3, 1, 0, -1.0f);
      tested::embedding_bag(ctx, table.view(), in.ragged(), Pooling::sum, y.view());
      EXPECT_EQ(y.values(), (std::vector<float>{7, 0, 5}));
      EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
    }
  }
}

/// A bag of nothing but such ids stays zero, even where its factor is none for a number: 1 / 1e-40 is infinite.
TEST(EmbeddingBag, BagsOfIdsOutsideAreZeros) {
  const Context ctx = make_context(1);
  const HostMatrix table(2, 1, {5, 7});
  const Bags in{{2, 1}, {0, 1, 2}, {1e-40f, 2}};
  for (const Pooling pooling : {Pooling::mean, Pooling::sqrtn}) {
    HostMatrix y(2, 1, 0, -1.0f);
    tested::embedding_bag(ctx, table.view(), in.ragged(), pooling, y.view());
    EXPECT_EQ(y.values(), (std::vector<float>{0, 7}));
  }
}

TEST(EmbeddingBagGrad, ByHand) {
  const Context ctx = make_context(1);
  const Bags bags{{3, 0, 3, 1}, {0, 2, 2, 4}, {}};
  const HostMatrix d_y(3, 2, {2, 4, 100, 100, 6, 8});
  const RowsOut out = grad(ctx, {{bags.ragged(), Pooling::mean, d_y.view()}}, 5, 2);
  EXPECT_EQ(out.rows, (std::vector<std::int32_t>{0, 1, 3}));
  EXPECT_EQ(out.values.values(), (std::vector<float>{1, 2, 3, 4, 4, 6}));
}

TEST(EmbeddingBagGrad, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(4);
    for (const std::int64_t bags : kNastySizes) {
      for (const std::int64_t rows : {1, 2, 200, 256, 257, 100000}) {
        for (const int form : {0, 1, 2, 3}) {
          const std::int64_t width = 1 + random.below(40);
          const Bags in = random_bags(random, bags, rows, form & 1, form & 2);
          const HostMatrix d_y = HostMatrix::normal(random, bags, width, 1, form);
          const Pooling pooling = kPoolings[random.below(3)];
          Gradient want;
          add_use(want, in, pooling, d_y);
          expect_gradient(grad(ctx, {{in.ragged(), pooling, d_y.view()}}, rows, width, form), want,
                          "bags " + std::to_string(bags) + " rows " + std::to_string(rows));
        }
      }
    }
    EXPECT_EQ(ctx.read_state().status, 0u);
  });
}

TEST(EmbeddingBagGrad, OneTableInBothTowersIsSummedOnce) {
  const Context ctx = make_context(2);
  Random random(6);
  const std::int64_t rows = 40, width = 17;
  Bags user = random_bags(random, 100, rows, false, false);
  Bags history = random_bags(random, 100, rows, true, true);
  const Bags empty{{}, {0}, {}};
  const HostMatrix d_user = HostMatrix::normal(random, 100, width);
  const HostMatrix d_history = HostMatrix::normal(random, 100, width, 1, 5);
  const HostMatrix d_none(0, width);
  Gradient want;
  add_use(want, user, Pooling::sum, d_user);
  add_use(want, history, Pooling::sqrtn, d_history);
  const TableUse first{user.ragged(), Pooling::sum, d_user.view()};
  const TableUse second{history.ragged(), Pooling::sqrtn, d_history.view()};
  const TableUse none{empty.ragged(), Pooling::mean, d_none.view()};
  expect_gradient(grad(ctx, {none, first, none, second, none}, rows, width), want, "both");
  Gradient twice;  // the plain form with several uses, too
  add_use(twice, user, Pooling::sum, d_user);
  add_use(twice, user, Pooling::sum, d_user);
  const Bags nothing{{}, {}, {}};
  const TableUse no_ids{nothing.ragged(), Pooling::sum, d_none.view()};
  expect_gradient(grad(ctx, {no_ids, first, no_ids, first}, rows, width), twice, "twice");
}

TEST(EmbeddingBagGrad, SumsInUseAndPositionOrderInChunks) {
  // Magnitudes that only this order of float32 additions gets right to the bit.
  const Context ctx = make_context(4);
  Random random(12);
  for (const std::int64_t n : {1, 2, 63, 64, 65, 128, 129, 1000, 3001}) {
    Bags in{random.ids(n, 3), {}, {}};
    std::vector<float> values(n);
    for (float& v : values) {
      v = static_cast<float>(random.normal() * std::pow(10.0, random.below(8)));
    }
    const HostMatrix d_y(n, 1, values);
    const RowsOut out = grad(ctx, {{in.ragged(), Pooling::sum, d_y.view()}}, 3, 1);
    for (std::size_t i = 0; i < out.rows.size(); ++i) {
      float total = 0, chunk = 0;
      std::int64_t seen = 0;
      for (std::int64_t j = 0; j < n; ++j) {
        if (in.ids[j] != out.rows[i]) continue;
        if (seen > 0 && seen % kEmbeddingGradChunk == 0) {
          total = seen == kEmbeddingGradChunk ? chunk : total + chunk;
          chunk = 0;
        }
        chunk = seen % kEmbeddingGradChunk == 0 ? values[j] : chunk + values[j];
        ++seen;
      }
      total = seen > kEmbeddingGradChunk ? total + chunk : chunk;
      EXPECT_EQ(out.values(static_cast<std::int64_t>(i), 0), total) << "n " << n;
    }
  }
}

TEST(EmbeddingBagGrad, HotRowsAndManyTiles) {
  // On the CPU over one sort tile; the hottest row has thousands (device: hundreds) of positions.
  const std::int64_t n = by_backend(150'001, 2'003), rows = by_backend(5000, 200), width = 5;
  Random random(9);
  const Bags in = random_bags(random, n, rows, false, false, true);
  const HostMatrix d_y = HostMatrix::normal(random, n, width);
  Gradient want;
  add_use(want, in, Pooling::sum, d_y);
  std::vector<RowsOut> outs;
  for_each_variant([&](const Context& ctx) {
    outs.push_back(grad(ctx, {{in.ragged(), Pooling::sum, d_y.view()}}, rows, width));
    expect_equal_bits(outs.back().rows, outs[0].rows, "rows");
    expect_equal_bits(outs.back().values.values(), outs[0].values.values(), "values");
  });
  expect_gradient(outs[0], want, "Zipf");
}

TEST(EmbeddingBagGrad, SameBitsWhateverTheScheduleInBags) {
  Random random(10);
  const std::int64_t bags = by_backend(3000, 150), rows = by_backend(700, 60);
  const Bags in = random_bags(random, bags, rows, true, true, true);
  const HostMatrix d_y = HostMatrix::normal(random, bags, 33),
                   table = HostMatrix::normal(random, rows, 33);
  std::vector<std::vector<float>> values, lookups;
  for_each_variant([&](const Context& ctx) {
    values.push_back(
        grad(ctx, {{in.ragged(), Pooling::mean, d_y.view()}}, rows, 33).values.values());
    HostMatrix y(bags, 33);
    tested::embedding_bag(ctx, table.view(), in.ragged(), Pooling::mean, y.view());
    lookups.push_back(y.values());
    expect_equal_bits(values.back(), values[0], "gradient");
    expect_equal_bits(lookups.back(), lookups[0], "lookup");
  });
}

TEST(EmbeddingBagGrad, IsTheDerivativeOfTheLookup) {
  // loss = sum(y * upstream), by finite differences of a float64 lookup.
  const Context ctx = make_context(1);
  Random random(11);
  const std::int64_t rows = 6, width = 3, bags = 9;
  const Bags in = random_bags(random, bags, rows, true, true);
  const HostMatrix upstream = HostMatrix::normal(random, bags, width);
  for (const Pooling pooling : kPoolings) {
    const auto loss = [&](const std::vector<double>& table) {
      double sum = 0;
      for (std::int64_t b = 0; b < bags; ++b) {
        for (std::int64_t j = in.begin(b); j < in.end(b); ++j) {
          for (std::int64_t d = 0; d < width; ++d) {
            sum +=
                in.scale(pooling, b) * in.weight(j) * table[in.ids[j] * width + d] * upstream(b, d);
          }
        }
      }
      return sum;
    };
    const std::vector<double> want =
        finite_differences(loss, std::vector<double>(rows * width, 0.5));
    const RowsOut out = grad(ctx, {{in.ragged(), pooling, upstream.view()}}, rows, width);
    std::vector<float> dense(rows * width);
    for (std::size_t i = 0; i < out.rows.size(); ++i) {
      for (std::int64_t d = 0; d < width; ++d) {
        dense[out.rows[i] * width + d] = out.values(static_cast<std::int64_t>(i), d);
      }
    }
    expect_near(dense, want, 1e-5, 1e-6, "finite differences");
  }
}

TEST(EmbeddingBagGrad, IdsOutsideAreLeftOutAndReported) {
  const Context ctx = make_context(1);
  const Bags in{{4, 1, -1, 3, INT32_MAX, 1}, {}, {}};
  const HostMatrix d_y(6, 1, {1, 2, 4, 8, 16, 32});
  const RowsOut out = grad(ctx, {{in.ragged(), Pooling::sum, d_y.view()}}, 4, 1);
  EXPECT_EQ(out.rows, (std::vector<std::int32_t>{1, 3}));
  EXPECT_EQ(out.values.values(), (std::vector<float>{34, 8}));
  EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
  EXPECT_TRUE(grad(ctx, {{in.ragged(), Pooling::sum, d_y.view()}}, 0, 1).rows.empty());
}

TEST(EmbeddingBagGrad, TheFirstRowBehindTheTableIsOutside) {
  for (const std::int32_t rows : {1, 3, 4, 256, 257}) {
    const Context ctx = make_context(1);
    const Bags in{{rows, rows - 1, rows}, {}, {}};
    const HostMatrix d_y(3, 1, {1, 2, 4});
    const RowsOut out = grad(ctx, {{in.ragged(), Pooling::sum, d_y.view()}}, rows, 1);
    EXPECT_EQ(out.rows, (std::vector<std::int32_t>{rows - 1}));
    EXPECT_EQ(out.values.values(), (std::vector<float>{2}));
    EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
  }
}

TEST(EmbeddingBagGrad, NothingToDo) {
  const Context ctx = make_context(1);
  EXPECT_TRUE(grad(ctx, {}, 5, 3).rows.empty());
  const Bags empty{{}, {0, 0, 0}, {}};
  const HostMatrix d_y(2, 3);
  EXPECT_TRUE(grad(ctx, {{empty.ragged(), Pooling::mean, d_y.view()}}, 5, 3).rows.empty());
}

TEST(EmbeddingBag, RefusesBadArguments) {
  const Context ctx = make_context(1);
  HostMatrix table(4, 2), y(2, 2), narrow(2, 1), d_y(2, 2);
  const Bags in{{0, 1}, {}, {}}, three{{0, 1, 2}, {}, {}};
  EXPECT_THROW(tested::embedding_bag(ctx, table.view(), three.ragged(), Pooling::sum, y.view()),
               ContractError);
  EXPECT_THROW(tested::embedding_bag(ctx, table.view(), in.ragged(), Pooling::sum, narrow.view()),
               ContractError);
  Ragged unequal = in.ragged();
  unequal.nnz = 1;
  EXPECT_THROW(tested::embedding_bag(ctx, table.view(), unequal, Pooling::sum, y.view()),
               ContractError);

  std::vector<std::int32_t> rows(4);
  HostMatrix values(4, 2);
  std::int64_t n = 0;
  const auto call = [&](const Ragged& ids, Matrix<const float> d, std::int64_t table_rows,
                        std::int64_t capacity) {
    const TableUse use{ids, Pooling::sum, d};
    tested::embedding_bag_grad(ctx, {&use, 1}, table_rows,
                               {rows.data(), values.view(), &n, capacity});
  };
  EXPECT_NO_THROW(call(in.ragged(), d_y.view(), 4, 2));
  EXPECT_THROW(call(three.ragged(), d_y.view(), 4, 4), ContractError);
  EXPECT_THROW(call(in.ragged(), narrow.view(), 4, 4), ContractError);
  EXPECT_THROW(call(unequal, d_y.view(), 4, 4), ContractError);
  EXPECT_THROW(call(in.ragged(), d_y.view(), 4, 1), ContractError);
  EXPECT_THROW(call(in.ragged(), d_y.view(), 4, 5), ContractError);
  EXPECT_THROW(call(in.ragged(), d_y.view(), -1, 4), ContractError);
  EXPECT_THROW(call(in.ragged(), d_y.view(), std::int64_t{1} << 31, 4), ContractError);
}

}  // namespace
}  // namespace belfry::test
