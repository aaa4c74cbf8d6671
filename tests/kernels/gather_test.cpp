// SPDX-License-Identifier: Apache-2.0
#include "kernels/gather/gather.hpp"

#include <gtest/gtest.h>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_gather.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

template <class T>
class Gather : public ::testing::Test {};
template <class T, class I>
struct Types {
  using Value = T;
  using Index = I;
};
using All = ::testing::Types<Types<std::int32_t, std::int32_t>, Types<std::int32_t, std::int64_t>,
                             Types<std::int64_t, std::int32_t>, Types<std::int64_t, std::int64_t>,
                             Types<float, std::int32_t>, Types<float, std::int64_t>>;
TYPED_TEST_SUITE(Gather, All);

template <class T>
std::vector<T> values(std::int64_t n) {
  std::vector<T> out;
  for (std::int64_t i = 0; i < n; ++i) out.push_back(static_cast<T>(3 * i + 1));
  return out;
}

TYPED_TEST(Gather, TakesElementsByNumber) {
  using T = typename TypeParam::Value;
  using I = typename TypeParam::Index;
  const Context ctx = make_context(2);
  Random random(1);
  for (const std::int64_t n : {0, 1, 31, 32, 33, 1024, 1025, 9001}) {
    const std::vector<T> source = values<T>(500);
    std::vector<I> index;
    std::vector<T> expected, out(static_cast<std::size_t>(n), T{77});
    for (const std::int32_t i : random.zipf_ids(n, 500)) {
      index.push_back(static_cast<I>(i));
      expected.push_back(source[static_cast<std::size_t>(i)]);
    }
    tested::gather(ctx, view(std::as_const(source)), view(std::as_const(index)), view(out));
    expect_equal_bits(out, expected, std::to_string(n));
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TYPED_TEST(Gather, OutsideGivesZeroAndIsReported) {
  using T = typename TypeParam::Value;
  using I = typename TypeParam::Index;
  const std::vector<T> source = values<T>(5);
  for (const I bad : {I{-1}, I{5}, std::numeric_limits<I>::max(), std::numeric_limits<I>::min()}) {
    const Context ctx = make_context(1);
    const std::vector<I> index = {4, bad, 0};
    std::vector<T> out(3, T{77});
    tested::gather(ctx, view(source), view(index), view(out));
    EXPECT_EQ(out, (std::vector<T>{13, 0, 1}));
    EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
  }
  const Context ctx = make_context(1);
  const std::vector<I> index = {0};
  std::vector<T> out(1, T{77});
  tested::gather(ctx, Vector<const T>(), view(index), view(out));
  EXPECT_EQ(out[0], T{0});
  EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
}

TEST(GatherOp, SameBitsWhateverTheSchedule) {
  Random random(2);
  const std::vector<float> source = random.normals(300);
  const std::vector<std::int32_t> index = random.ids(3000, 300);
  for_each_variant([&](const Context& ctx) {
    std::vector<float> out(index.size());
    tested::gather(ctx, view(source), view(index), view(out));
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i], source[static_cast<std::size_t>(index[i])]);
    }
  });
}

TEST(GatherOp, CanBeReplayed) {
  const Context ctx = make_context(1);
  Random random(3);
  const std::vector<std::int64_t> numbers = values<std::int64_t>(100);
  Held<std::int64_t> source(ctx, numbers), out(ctx, std::vector<std::int64_t>(50));
  Held<std::int32_t> index(ctx, random.ids(50, 100));
  Replay replay(ctx, [&] {
    belfry::gather(ctx, Vector<const std::int64_t>(source.vector()), index.vector(), out.vector());
  });
  for (int round = 0; round < 2; ++round) {
    const std::vector<std::int32_t> at = random.ids(50, 100);
    index.set(at);
    replay.run();
    const std::vector<std::int64_t> got = out.get();
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], 3 * at[i] + 1);
  }
}

TEST(GatherOp, RefusesOtherSizes) {
  const Context ctx = make_context(1);
  const std::vector<float> source(3);
  const std::vector<std::int32_t> index(2);
  std::vector<float> out(3);
  EXPECT_THROW(tested::gather(ctx, view(source), view(index), view(out)), ContractError);
}

}  // namespace
}  // namespace belfry::test
