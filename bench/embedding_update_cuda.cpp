// SPDX-License-Identifier: Apache-2.0
// The sparse backward of a table: the plan of a step's ids (sort), and sums with the update in one.
// Bytes of the update: ids and gradient rows read, distinct rows and their slots read and written.
#include "kernels/embedding_update/embedding_update.hpp"

#include <unordered_set>

#include "bench/cuda_support.hpp"

namespace belfry::bench {
namespace {

OptimizerOptions rule(OptimizerKind kind) {
  OptimizerOptions o;
  o.kind = kind;
  o.sparse = SparseUpdate::lazy;
  return o;
}

struct Slots {
  Buffer<float> data[2];
  OptimizerSlots views;
  Slots(const Context& ctx, const OptimizerOptions& o, std::int64_t rows, std::int64_t width) {
    Matrix<float>* targets[] = {&views.first, &views.second};
    for (int s = 0; s < slot_count(o); ++s) {
      data[s] = Buffer<float>(ctx.backend(), rows * slot_width(o, width));
      *targets[s] = data[s].matrix(rows, slot_width(o, width));
    }
  }
};

void set_rate(const Context& ctx) {
  StepState state;
  state.learning_rate[0] = 0.05f;
  ctx.write_state(state);
}

/// A table and a step's uses of it.
template <class T>
struct Problem {
  OptimizerOptions options;
  std::int64_t rows, width, n;
  Buffer<T> table;
  Slots slots;
  Buffer<float> d_y;
  Buffer<std::int32_t> ids;
  double distinct;
  Arena plan_memory;
  RowPlan plan;

  Problem(const Context& ctx, const OptimizerOptions& o, std::int64_t r, std::int64_t d,
          const std::vector<std::int32_t>& looked_up)
      : options(o),
        rows(r),
        width(d),
        n(static_cast<std::int64_t>(looked_up.size())),
        table(ctx.backend(), r * d),
        slots(ctx, o, r, d),
        d_y(normal_floats(ctx, n * d, 2)),
        ids(copy_of(ctx, looked_up)),
        distinct(static_cast<double>(
            std::unordered_set<std::int32_t>(looked_up.begin(), looked_up.end()).size())),
        plan_memory(ctx.backend()),
        plan(take_row_plan(plan_memory, n, r, false)) {
    set_rate(ctx);
    make_plan(ctx);
    ctx.synchronise();
  }
  TableUse use() const {
    return {{ids.data(), nullptr, nullptr, n, n}, Pooling::sum, d_y.matrix(n, width)};
  }
  void make_plan(const Context& ctx) {
    const TableIds uses[] = {{use().ids, Pooling::sum}};
    const RowPlan plans[] = {plan};
    row_plan(ctx, uses, rows, plans);
  }
  void update(const Context& ctx) {
    const TableUse uses[] = {use()};
    embedding_update(ctx, options, uses, plan, table.matrix(rows, width), slots.views);
  }
  double bytes() const {
    const double row = static_cast<double>(width);
    double slot = 0;
    for (int s = 0; s < slot_count(options); ++s) {
      slot += 8.0 * static_cast<double>(slot_width(options, width));
    }
    return static_cast<double>(n) * (4.0 + 4.0 * row) + distinct * (2.0 * sizeof(T) * row + slot);
  }
};

template <class T>
std::vector<float> on(const Context& ctx, OptimizerKind kind) {
  Problem<T> p(ctx, rule(kind), 700, 40, zipf_ids(5000, 700, 1.05, 1));
  p.update(ctx);
  std::vector<float> out;
  for (const T v : host_of(ctx, p.table)) out.push_back(to_float(v));
  return out;
}

template <class T>
void time_updates(CudaBench& bench, const char* type, OptimizerKind kind, const char* name) {
  const Context& ctx = bench.device();
  const std::int64_t width = 64;
  struct Case {
    std::int64_t n, rows;
    bool zipf;
  };
  const std::int64_t many = bench.size(1 << 20, 1 << 15), large = bench.size(8 << 20, 1 << 17);
  for (const Case& c : {Case{many, large, false}, Case{many, large, true}, Case{8192, 162541, true},
                        Case{65536, 162541, true}}) {
    const std::string shape = std::string(name) + " " + type + ", " + text(c.n) + " of " +
                              text(c.rows, width) + (c.zipf ? ", Zipf" : ", uniform");
    if (!bench.wanted(shape)) continue;
    Problem<T> p(ctx, rule(kind), c.rows, width,
                 c.zipf ? zipf_ids(c.n, c.rows, 1.05, 1) : uniform_ids(c.n, c.rows, 1));
    bench.run(shape, {.bytes = p.bytes()}, [&](int) { p.update(ctx); });
    if (kind != OptimizerKind::rowwise_adagrad || sizeof(T) != 4) continue;
    bench.run(shape + ", plan", {}, [&](int) { p.make_plan(ctx); });
    bench.run(shape + ", plan and update", {.bytes = p.bytes()}, [&](int) {
      p.make_plan(ctx);
      p.update(ctx);
    });
  }
}

void run(CudaBench& bench) {
  for (const OptimizerKind kind :
       {OptimizerKind::rowwise_adagrad, OptimizerKind::sgd, OptimizerKind::adam}) {
    bench.verify("float32 table",
                 near(on<float>(bench.device(), kind), on<float>(bench.cpu(), kind), 1e-6, 1e-7));
  }
  bench.verify("bf16 table", on<bf16>(bench.device(), OptimizerKind::rowwise_adagrad) ==
                                 on<bf16>(bench.cpu(), OptimizerKind::rowwise_adagrad));
  time_updates<float>(bench, "float32", OptimizerKind::rowwise_adagrad, "row-wise Adagrad");
  time_updates<bf16>(bench, "bf16", OptimizerKind::rowwise_adagrad, "row-wise Adagrad");
  time_updates<float>(bench, "float32", OptimizerKind::sgd, "SGD");
  time_updates<float>(bench, "float32", OptimizerKind::adam, "lazy Adam");
}

const CudaBenchmark kBenchmark("embedding_update", run);

}  // namespace
}  // namespace belfry::bench
