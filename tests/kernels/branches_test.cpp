// SPDX-License-Identifier: Apache-2.0
// Work of one op on several streams, and that products use them.
#include <gtest/gtest.h>

#include "kernels/core/branches.hpp"
#include "kernels/dense/dense.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/device_layers.hpp"
#include "tests/support/device_twin.hpp"
#if defined(BELFRY_SIMT)
#include "tests/simt/host/queue.hpp"
#endif

namespace belfry::test {
namespace {

TEST(Branches, MorePiecesThanStreams) {
  const Context ctx = make_context();
  simt::Branches& branches = ctx.branches();
  EXPECT_EQ(&branches, &ctx.branches());
  auto fork = branches.fork(7);
  EXPECT_EQ(&fork.branch(0), &ctx.stream());
  EXPECT_EQ(&fork.branch(4), &ctx.stream());
  EXPECT_EQ(&fork.branch(5), &fork.branch(1));
  EXPECT_NE(&fork.branch(3), &fork.branch(2));
  EXPECT_THROW(branches.fork(2), ContractError);
  fork.join();
  auto alone = branches.fork(1);  // nobody to wait for
  EXPECT_EQ(&alone.branch(1), &ctx.stream());
  alone.join();
}

/// What throws between fork and join leaves the branches joined: main's next work waits for theirs, and the
/// next fork is none inside of a fork.
TEST(Branches, AnExceptionJoinsThem) {
  for_each_schedule([] {
    const Context ctx = make_context();
    Buffer<float> values(Backend::cuda, 1000, Fill::zeros), seen(Backend::cuda, 1000, Fill::none);
    const std::int64_t bytes = 1000 * std::int64_t{sizeof(float)};
    for (int round = 0; round < 2; ++round) {
      EXPECT_THROW(
          {
            auto fork = ctx.branches().fork(2);
            simt::device_memset(values.data(), 1 + round, bytes, fork.branch(1));
            throw ContractError("in a branch");
          },
          ContractError);
      simt::device_copy(seen.data(), values.data(), bytes, ctx.stream());
      ctx.synchronise();
      std::vector<unsigned char> host(static_cast<std::size_t>(bytes));
      simt::to_host(host.data(), seen.data(), bytes);
      EXPECT_EQ(host,
                std::vector<unsigned char>(host.size(), static_cast<unsigned char>(1 + round)));
    }
  });
}

/// In a capture too: it ends with the exception, not with a complaint about a stream that was left.
TEST(Branches, AnExceptionEndsACapture) {
  const Context ctx = make_context();
  Buffer<float> values(Backend::cuda, 8, Fill::zeros);
  const auto body = [&](bool throws) {
    auto fork = ctx.branches().fork(2);
    simt::device_memset(values.data(), 1, 32, fork.branch(1));
    if (throws) throw ContractError("in a capture");
  };
  EXPECT_THROW(simt::Graph::capture(ctx.stream(), [&] { body(true); }), ContractError);
  const simt::Graph graph = simt::Graph::capture(ctx.stream(), [&] { body(false); });
  graph.launch(ctx.stream());
  ctx.synchronise();
}

#if defined(BELFRY_SIMT)

/// Eager work of two branches lies on two streams.
TEST(Branches, ProductsUseThem) {
  const Context ctx = make_context();
  Random random(64);
  Pool pool(ctx, 1 << 16);
  std::vector<DeviceLayer> layers;
  layers.emplace_back(random, pool, 20, 8, 6, Activation::relu);
  layers.emplace_back(random, pool, 21, 8, 6, Activation::relu);
  const simt::ScopedOptions fifo({});  // nothing runs before somebody waits
  dense(ctx, std::vector<DenseCall>{layers[0].call(), layers[1].call()});
  const void* stream = ctx.branches().fork(2).branch(1).native();
  const auto* side = static_cast<const simt::host::StreamState*>(stream);
  bool found = false;
  for (const simt::host::Work& w : side->queue) found |= w.what == "a matrix product";
  EXPECT_TRUE(found);
  ctx.synchronise();
}

#endif

}  // namespace
}  // namespace belfry::test
