// SPDX-License-Identifier: Apache-2.0
// Sorting and prefix sums on the device: CUB on a GPU, the executor's stand-in elsewhere; one contract.
#include "kernels/core/device_algorithms.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/core/device.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

template <class Key>
struct Pairs {
  std::vector<Key> keys;
  std::vector<std::uint32_t> values;
};

template <class Key>
Pairs<Key> random_pairs(Random& random, std::int64_t n, Key keys) {
  Pairs<Key> out{std::vector<Key>(n), std::vector<std::uint32_t>(n)};
  for (Key& k : out.keys) {
    k = static_cast<Key>(random.uniform() * static_cast<double>(keys)) |
        static_cast<Key>(random.below(4)) << (8 * sizeof(Key) - 2);  // bits that do not count
  }
  std::iota(out.values.begin(), out.values.end(), 100u);
  return out;
}

template <class Key>
Pairs<Key> sorted(const Pairs<Key>& in, int begin, int end) {
  std::vector<std::size_t> order(in.keys.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const Key mask =
      static_cast<Key>((static_cast<Key>(~Key{0}) >> (8 * sizeof(Key) - (end - begin))));
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return (in.keys[a] >> begin & mask) < (in.keys[b] >> begin & mask);
  });
  Pairs<Key> out;
  for (const std::size_t i : order) {
    out.keys.push_back(in.keys[i]);
    out.values.push_back(in.values[i]);
  }
  return out;
}

template <class Key>
void expect_sorts(const Context& ctx, std::int64_t n, Key keys, int begin, int end) {
  Random random(static_cast<std::uint64_t>(n));
  const Pairs<Key> in = random_pairs<Key>(random, n, keys);
  Held<Key> k(ctx, in.keys), k_out(ctx, std::vector<Key>(n));
  Held<std::uint32_t> v(ctx, in.values), v_out(ctx, std::vector<std::uint32_t>(n));
  cuda::sort_pairs(ctx, k.data(), v.data(), n, begin, end, k_out.data(), v_out.data());
  const Pairs<Key> want = sorted(in, begin, end);
  EXPECT_EQ(k_out.get(), want.keys) << n;
  EXPECT_EQ(v_out.get(), want.values) << n;
  EXPECT_EQ(k.get(), in.keys) << "inputs stay";
  EXPECT_EQ(v.get(), in.values) << "inputs stay";
}

TEST(DeviceAlgorithms, SortsPairsByBitsOfTheirKeys) {
  const Context ctx = make_context(1);
  for (const std::int64_t n : {0, 1, 2, 33, 1000, 20'000}) {
    expect_sorts<std::uint32_t>(ctx, n, 1u << 20, 0, 20);
    expect_sorts<std::uint32_t>(ctx, n, 50, 0, 32);
    expect_sorts<std::uint32_t>(ctx, n, 2, 0, 1);
    expect_sorts<std::uint32_t>(ctx, n, 1u << 9, 5, 9);
    expect_sorts<std::uint64_t>(ctx, n, std::uint64_t{1} << 40, 0, 40);
    expect_sorts<std::uint64_t>(ctx, n, 300, 0, 64);
    expect_sorts<std::uint64_t>(ctx, n, std::uint64_t{1} << 36, 31, 36);
  }
}

TEST(DeviceAlgorithms, AddsUpWhatLiesBefore) {
  const Context ctx = make_context(1);
  Random random(7);
  for (const std::int64_t n : {0, 1, 2, 33, 1000, 20'000}) {
    std::vector<std::uint32_t> in(n), want(n);
    std::vector<std::int32_t> lengths(n);
    std::vector<std::int64_t> offsets(n);
    for (auto& x : in) x = static_cast<std::uint32_t>(random.below(100));
    for (auto& x : lengths) x = static_cast<std::int32_t>(INT32_MAX - random.below(100));
    std::exclusive_scan(in.begin(), in.end(), want.begin(), 0u);
    std::exclusive_scan(lengths.begin(), lengths.end(), offsets.begin(), std::int64_t{0});
    Held<std::uint32_t> a(ctx, in), a_out(ctx, want);
    Held<std::int32_t> b(ctx, lengths);
    Held<std::int64_t> b_out(ctx, std::vector<std::int64_t>(n));
    cuda::exclusive_sum(ctx, a.data(), n, a_out.data());
    cuda::exclusive_sum(ctx, b.data(), n, b_out.data());
    EXPECT_EQ(a_out.get(), want);
    EXPECT_EQ(b_out.get(), offsets);
  }
}

TEST(DeviceAlgorithms, CanBeReplayed) {
  const Context ctx = make_context(1);
  Random random(8);
  const std::int64_t n = 500;
  Held<std::uint32_t> keys(ctx, std::vector<std::uint32_t>(n)), out(ctx, keys.get());
  Held<std::uint32_t> values(ctx, keys.get()), places(ctx, keys.get()), sums(ctx, keys.get());
  Replay replay(ctx, [&] {
    cuda::sort_pairs(ctx, keys.data(), values.data(), n, 0, 10, out.data(), places.data());
    cuda::exclusive_sum(ctx, out.data(), n, sums.data());
  });
  for (int round = 0; round < 2; ++round) {
    std::vector<std::uint32_t> next(n), want(n);
    for (auto& k : next) k = static_cast<std::uint32_t>(random.below(1000));
    keys.set(next);
    replay.run();
    std::sort(next.begin(), next.end());
    std::exclusive_scan(next.begin(), next.end(), want.begin(), 0u);
    EXPECT_EQ(out.get(), next);
    EXPECT_EQ(sums.get(), want);
  }
}

#if defined(BELFRY_SIMT)
TEST(DeviceAlgorithms, RefuseMemoryOfTheHost) {
  const Context ctx = make_context(1);
  std::vector<std::uint32_t> host(4);
  Held<std::uint32_t> a(ctx, host), b(ctx, host);
  cuda::exclusive_sum(ctx, host.data(), 4, a.data());
  EXPECT_THROW(ctx.synchronise(), simt::DeviceFailure);
  cuda::exclusive_sum(ctx, a.data(), 5, b.data());
  EXPECT_THROW(ctx.synchronise(), simt::DeviceFailure);
  cuda::sort_pairs(ctx, a.data(), a.data(), 4, 0, 4, b.data(), host.data());
  EXPECT_THROW(ctx.synchronise(), simt::DeviceFailure);
}
#endif

}  // namespace
}  // namespace belfry::test
