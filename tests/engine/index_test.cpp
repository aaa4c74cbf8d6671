// SPDX-License-Identifier: Apache-2.0
#include "engine/index.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "engine/error.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

std::vector<float> all_vectors(const ItemIndex& index) {
  std::vector<float> out(static_cast<std::size_t>(index.size() * index.dim()));
  for (std::int64_t i = 0; i < index.size(); ++i) index.row(i, out.data() + i * index.dim());
  return out;
}

TEST(ItemIndex, GivesBackWhatWasAdded) {
  const Context ctx(Backend::cpu, 2);
  Random random(1);
  for (const std::int64_t n : kNastySizes) {
    for (const std::int64_t d : {1, 3, 17, 64}) {
      const auto items = HostMatrix::normal(random, n, d, 1, 2);
      const auto whole = ItemIndex::build(ctx, items.view());
      ItemIndex chunked(ctx, n, d);
      for (std::int64_t i = 0; i < n; i += 5) {
        chunked.add(ctx, i, items.view().slice(i, std::min<std::int64_t>(5, n - i)));
      }
      EXPECT_EQ(whole.size(), n);
      EXPECT_EQ(whole.dim(), d);
      expect_equal_bits(all_vectors(whole), items.values(), "whole");
      expect_equal_bits(all_vectors(chunked), items.values(), "in chunks");
    }
  }
}

TEST(ItemIndex, RowsKeepTheirPlaceInAnyOrderOfChunks) {
  const Context ctx(Backend::cpu, 1);
  const float one = 1, two = 2;
  ItemIndex index(ctx, 60, 1);
  index.add(ctx, 50, {&two, 1, 1});
  index.add(ctx, 7, {&one, 1, 1});
  const float query = 1;
  float scores[3];
  std::int32_t rows[3];
  topk_scores(ctx, {&query, 1, 1}, 1, index.view(), {}, {{scores, 1, 3}, {rows, 1, 3}});
  EXPECT_EQ(std::vector<std::int32_t>(rows, rows + 3), (std::vector<std::int32_t>{50, 7, 0}));
  EXPECT_EQ(std::vector<float>(scores, scores + 3), (std::vector<float>{2, 1, 0}));
}

TEST(ItemIndex, MovesWithItsMemory) {
  const Context ctx(Backend::cpu, 1);
  Random random(2);
  const auto items = HostMatrix::normal(random, 70, 4);
  auto index = ItemIndex::build(ctx, items.view());
  const float* data = index.view().data;
  const ItemIndex moved = std::move(index);
  EXPECT_EQ(moved.view().data, data);
  EXPECT_EQ(moved.view().n, 70);
  EXPECT_EQ(moved.view().dim, 4);
  expect_equal_bits(all_vectors(moved), items.values(), "moved");
}

TEST(ItemIndex, NonFiniteVectorsAreBadDataByRow) {
  const Context ctx(Backend::cpu, 1);
  Random random(3);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), inf, -inf}) {
    ItemIndex index(ctx, 100, 9);
    auto chunk = HostMatrix::normal(random, 10, 9);
    chunk(3, 8) = bad;
    try {
      index.add(ctx, 40, chunk.view());
      FAIL() << "accepted " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::bad_data);
      EXPECT_EQ(e.where(), "item vector 43");
      EXPECT_NE(std::string(e.what()).find("component 8"), std::string::npos) << e.what();
    }
    EXPECT_EQ(all_vectors(index), std::vector<float>(900, 0.0f));  // nothing of the chunk
  }
  // Large, tiny and zero values are finite.
  const float edge[] = {std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                        std::numeric_limits<float>::denorm_min(), -0.0f};
  expect_equal_bits(all_vectors(ItemIndex::build(ctx, {edge, 1, 4})),
                    std::vector<float>(edge, edge + 4), "edge values");
}

TEST(ItemIndex, BrokenContractsAreRefused) {
  const Context ctx(Backend::cpu, 1);
  const std::vector<float> v(12);
  ItemIndex index(ctx, 4, 3);
  float out[3];
  EXPECT_THROW(index.add(ctx, 0, {v.data(), 2, 2}), ContractError);
  EXPECT_THROW(index.add(ctx, 3, {v.data(), 2, 3}), ContractError);
  EXPECT_THROW(index.add(ctx, -1, {v.data(), 2, 3}), ContractError);
  EXPECT_THROW(index.row(4, out), ContractError);
  EXPECT_THROW(index.row(-1, out), ContractError);
}

}  // namespace
}  // namespace belfry::test
