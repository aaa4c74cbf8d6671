// SPDX-License-Identifier: Apache-2.0
#include "engine/index.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "engine/error.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

std::vector<float> all_vectors(const Context& ctx, const ItemIndex& index) {
  std::vector<float> out(static_cast<std::size_t>(index.size() * index.dim()));
  index.read_rows(ctx, 0, {out.data(), index.size(), index.dim()});
  return out;
}

TEST(ItemIndex, GivesBackWhatWasAdded) {
  const Context ctx = make_context(2);
  Random random(1);
  for (const std::int64_t n : kNastySizes) {
    for (const std::int64_t d : {1, 3, 17, 64}) {
      const auto items = HostMatrix::normal(random, n, d, 1, 2);
      Twin<const float> there(ctx, items.view());
      const auto whole = ItemIndex::build(ctx, there.matrix());
      ItemIndex chunked(ctx, n, d);
      for (std::int64_t i = 0; i < n; i += 5) {
        chunked.add(ctx, i, there.matrix().slice(i, std::min<std::int64_t>(5, n - i)));
      }
      EXPECT_EQ(whole.size(), n);
      EXPECT_EQ(whole.dim(), d);
      expect_equal_bits(all_vectors(ctx, whole), items.values(), "whole");
      expect_equal_bits(all_vectors(ctx, chunked), items.values(), "in chunks");
      // A few rows, from within a panel into another.
      const std::int64_t first = n / 3, m = n - first - n / 4;
      HostMatrix some(m, d, 3);
      whole.read_rows(ctx, first, some.view());
      const std::vector<float> all = items.values();
      const std::vector<float> expected(all.begin() + first * d, all.begin() + (first + m) * d);
      expect_equal_bits(some.values(), expected, "some rows");
    }
  }
}

TEST(ItemIndex, RowsKeepTheirPlaceInAnyOrderOfChunks) {
  const Context ctx = make_context(1);
  const std::vector<float> values{1, 2};
  const Uploaded<float> there(ctx, values);
  ItemIndex index(ctx, 60, 1);
  index.add(ctx, 50, {there.data() + 1, 1, 1});
  index.add(ctx, 7, {there.data(), 1, 1});
  Results<float> scores(ctx, 3);
  Results<std::int32_t> rows(ctx, 3);
  topk_scores(ctx, {there.data(), 1, 1}, 1, index.view(), {},
              {{scores.data(), 1, 3}, {rows.data(), 1, 3}});
  const std::int32_t* best = rows.fetch(ctx, 3);
  EXPECT_EQ(std::vector<std::int32_t>(best, best + 3), (std::vector<std::int32_t>{50, 7, 0}));
  const float* score = scores.fetch(ctx, 3);
  EXPECT_EQ(std::vector<float>(score, score + 3), (std::vector<float>{2, 1, 0}));
}

TEST(ItemIndex, MovesWithItsMemory) {
  const Context ctx = make_context(1);
  Random random(2);
  const auto items = HostMatrix::normal(random, 70, 4);
  auto index = ItemIndex::build(ctx, Twin<const float>(ctx, items.view()).matrix());
  const float* data = index.view().data;
  const ItemIndex moved = std::move(index);
  EXPECT_EQ(moved.view().data, data);
  EXPECT_EQ(moved.view().n, 70);
  EXPECT_EQ(moved.view().dim, 4);
  expect_equal_bits(all_vectors(ctx, moved), items.values(), "moved");
}

TEST(ItemIndex, NonFiniteVectorsAreBadDataByRow) {
  const Context ctx = make_context(1);
  Random random(3);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), inf, -inf}) {
    ItemIndex index(ctx, 100, 9);
    auto chunk = HostMatrix::normal(random, 10, 9);
    chunk(3, 8) = bad;
    Twin<float> there(ctx, chunk.view());
    try {
      index.add(ctx, 40, there.matrix());
      FAIL() << "accepted " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::bad_data);
      EXPECT_EQ(e.where(), "item vector 43");
      EXPECT_NE(std::string(e.what()).find("component 8"), std::string::npos) << e.what();
    }
    EXPECT_EQ(all_vectors(ctx, index), std::vector<float>(900, 0.0f));  // nothing of the chunk
  }
  // Large, tiny and zero values are finite.
  const std::vector<float> edge = {std::numeric_limits<float>::max(),
                                   std::numeric_limits<float>::lowest(),
                                   std::numeric_limits<float>::denorm_min(), -0.0f};
  const Uploaded<float> there(ctx, edge);
  expect_equal_bits(all_vectors(ctx, ItemIndex::build(ctx, {there.data(), 1, 4})), edge,
                    "edge values");
}

TEST(ItemIndex, BrokenContractsAreRefused) {
  const Context ctx = make_context(1);
  const std::vector<float> values(12);
  const Uploaded<float> v(ctx, values);
  ItemIndex index(ctx, 4, 3);
  float out[3];
  EXPECT_THROW(index.add(ctx, 0, {v.data(), 2, 2}), ContractError);
  EXPECT_THROW(index.add(ctx, 3, {v.data(), 2, 3}), ContractError);
  EXPECT_THROW(index.add(ctx, -1, {v.data(), 2, 3}), ContractError);
  EXPECT_THROW(index.read_rows(ctx, 4, {out, 1, 3}), ContractError);
  EXPECT_THROW(index.read_rows(ctx, -1, {out, 1, 3}), ContractError);
  EXPECT_THROW(index.read_rows(ctx, 0, {out, 1, 2}), ContractError);
}

}  // namespace
}  // namespace belfry::test
