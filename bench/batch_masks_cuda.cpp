// SPDX-License-Identifier: Apache-2.0
// The columns that hold other items of a row's user, for batches of a data set of MovieLens's
// shape: lists of 154 items on average, batch rows drawn by interaction. Bytes: the rows' lists,
// read twice.
#include "bench/cuda_support.hpp"
#include "kernels/batch_masks/batch_masks.hpp"

#include <algorithm>

namespace belfry::bench {
namespace {

struct Problem {
  std::int64_t rows, list_items = 0;
  Buffer<std::int64_t> known_offsets, offsets;
  Buffer<std::int32_t> known, users, items, columns;

  Problem(const Context& ctx, std::int64_t batch, std::int64_t user_count, std::int64_t item_count,
          std::int64_t mean_list)
      : rows(batch) {
    // Interactions user by user; their lists are the distinct items.
    const std::vector<std::int32_t> user = zipf_ids(user_count * mean_list, user_count, 0.5, 1);
    const std::vector<std::int32_t> item = zipf_ids(user_count * mean_list, item_count, 0.8, 2);
    std::vector<std::vector<std::int32_t>> lists(static_cast<std::size_t>(user_count));
    for (std::size_t i = 0; i < user.size(); ++i) {
      lists[static_cast<std::size_t>(user[i])].push_back(item[i]);
    }
    std::vector<std::int64_t> starts(1, 0);
    std::vector<std::int32_t> all, batch_users, batch_items;
    for (auto& list : lists) {
      std::sort(list.begin(), list.end());
      all.insert(all.end(), list.begin(), std::unique(list.begin(), list.end()));
      starts.push_back(static_cast<std::int64_t>(all.size()));
    }
    for (const std::int32_t i : uniform_ids(batch, static_cast<std::int64_t>(user.size()), 3)) {
      batch_users.push_back(user[static_cast<std::size_t>(i)]);
      batch_items.push_back(item[static_cast<std::size_t>(i)]);
      const auto u = static_cast<std::size_t>(batch_users.back());
      list_items += starts[u + 1] - starts[u];
    }
    known_offsets = copy_of(ctx, starts);
    known = copy_of(ctx, all);
    users = copy_of(ctx, batch_users);
    items = copy_of(ctx, batch_items);
    offsets = Buffer<std::int64_t>(ctx.backend(), batch + 1);
    columns = Buffer<std::int32_t>(ctx.backend(), batch * 1024);
  }
  void run(const Context& ctx) {
    batch_masks(ctx,
                {std::as_const(known_offsets).view(), std::as_const(known).view(),
                 std::as_const(users).view(), std::as_const(items).view()},
                offsets.view(), columns.view());
  }
};

struct Result {
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> columns;
};
Result on(const Context& ctx) {
  Problem p(ctx, 1000, 2000, 3000, 60);
  p.run(ctx);
  Result r{host_of(ctx, p.offsets), host_of(ctx, p.columns)};
  r.columns.resize(static_cast<std::size_t>(r.offsets.back()));
  return r;
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  const Result a = on(ctx), b = on(bench.cpu());
  bench.verify("offsets and columns", a.offsets == b.offsets && a.columns == b.columns);
  for (const std::int64_t batch : {1024, 8192, 32768}) {
    Problem p(ctx, batch, bench.size(40000, 2000), 62423, 154);
    bench.run(text(batch) + " rows, lists of " + text(p.list_items / batch),
              {.bytes = 8.0 * static_cast<double>(p.list_items)}, [&](int) { p.run(ctx); });
  }
}

const CudaBenchmark kBenchmark("batch_masks", run);

}  // namespace
}  // namespace belfry::bench
