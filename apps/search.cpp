// SPDX-License-Identifier: Apache-2.0
// belfry search: exact top-K over vectors from anywhere.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "apps/common.hpp"
#include "apps/progress.hpp"
#include "engine/index.hpp"
#include "engine/npy.hpp"
#include "engine/topk_stream.hpp"
#include "kernels/core/libraries.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string items, queries, k = "10", out;
};

constexpr std::int64_t kReadRows = 4096;

double cpu_now() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double wall_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// CPU and wall time of what is done between start and stop, summed.
struct Stopwatch {
  double cpu = 0, wall = 0;
  void start() {
    cpu -= cpu_now();
    wall -= wall_now();
  }
  void stop() {
    cpu += cpu_now();
    wall += wall_now();
  }
};

/// Where the answers go: a pair of files, or the screen; with --json and no file, nowhere.
class Answers {
 public:
  Answers(const Options& o, std::int64_t queries, std::int64_t k) : screen_(!o.common.json), k_(k) {
    namespace fs = std::filesystem;
    if (o.out.empty()) return;
    if (fs::path(o.out).extension() != ".npy")
      throw Error(ExitCode::usage, "-o", fmt::format("\"{}\" does not end in .npy", o.out));
    screen_ = false;
    const std::string stem = fs::path(o.out).replace_extension().string();
    const std::vector<std::int64_t> shape{queries, k};
    rows_ = std::make_unique<NpyWriter>(stem + ".items.npy", "<i8", shape);
    scores_ = std::make_unique<NpyWriter>(stem + ".scores.npy", "<f4", shape);
  }

  /// The lists of queries first, first + 1, ...; they may be shorter than k.
  void add(std::int64_t first, Matrix<const float> scores, Matrix<const std::int32_t> rows) {
    for (std::int64_t i = 0; i < rows.rows; ++i) {
      if (rows_) add_to_files(scores.row(i), rows.row(i), rows.cols);
      if (screen_) show(first + i, scores.row(i), rows.row(i), rows.cols);
    }
    check_output();
  }

  void commit() {
    if (!rows_) return;
    rows_->seal();
    scores_->seal();
    rows_->publish();
    scores_->publish();
  }

 private:
  void add_to_files(const float* scores, const std::int32_t* rows, std::int64_t n) {
    wide_.assign(static_cast<std::size_t>(k_), -1);
    padded_.assign(static_cast<std::size_t>(k_), std::numeric_limits<float>::quiet_NaN());
    std::copy(rows, rows + n, wide_.begin());
    std::copy(scores, scores + n, padded_.begin());
    rows_->write(wide_.data(), k_);
    scores_->write(padded_.data(), k_);
  }
  static void show(std::int64_t query, const float* scores, const std::int32_t* rows,
                   std::int64_t n) {
    result(fmt::format("query {}", query));
    for (std::int64_t r = 0; r < n && rows[r] >= 0; ++r) {
      result(fmt::format("{:>5}  {:>12.9g}  {}", r + 1, scores[r], rows[r]));
    }
  }

  bool screen_;
  std::int64_t k_;
  std::unique_ptr<NpyWriter> rows_, scores_;
  std::vector<std::int64_t> wide_;
  std::vector<float> padded_;
};

/// Rows first, first + 1, ... of a file; NaN and infinity have no order and are refused.
void read_finite(const NpyMatrix& from, const std::string& name, std::int64_t first,
                 Matrix<float> out) {
  from.read(first, out);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t c = 0; c < out.cols; ++c) {
      if (std::isfinite(out(r, c))) continue;
      throw Error(ExitCode::bad_data, name,
                  fmt::format("row {}, column {} (from 0) is not a finite number", first + r, c));
    }
  }
}

ItemIndex read_index(const Context& ctx, const NpyMatrix& items, const std::string& items_name,
                     Stopwatch& watch) {
  const std::int64_t n = items.rows(), d = items.cols();
  ItemIndex index(ctx, n, d);
  Buffer<float> chunk(Backend::cpu, kReadRows * d);
  StreamedIn<float> upload;
  for (std::int64_t first = 0; first < n; first += kReadRows) {
    const std::int64_t m = std::min(kReadRows, n - first);
    read_finite(items, items_name, first, chunk.matrix(m, d));
    watch.start();
    const float* rows = upload.put(ctx, {chunk.data(), static_cast<std::size_t>(m * d)});
    index.add(ctx, first, {rows, m, d});
    watch.stop();
  }
  return index;
}

/// All queries against the index, in tiles; lists of `k` rows, no more than the index has.
void scan(const Context& ctx, const ItemIndex& index, const NpyMatrix& queries,
          const std::string& queries_name, std::int64_t k, Answers& answers, ProgressLine& line,
          Stopwatch& watch) {
  const std::int64_t heads = queries.heads(), q = queries.rows() / heads, d = queries.cols();
  const std::int64_t tile =
      std::max<std::int64_t>(1, std::min<std::int64_t>(kReadRows, (std::int64_t{1} << 23) / k));
  Buffer<float> chunk(Backend::cpu, std::min(tile, q) * heads * d);
  StreamedIn<float> upload;
  TopKStream lists(
      ctx, index.view(), heads, std::min(tile, q), k, {},
      [&](std::int64_t first, Matrix<const float> scores, Matrix<const std::int32_t> rows) {
        watch.stop();
        line.update(first + rows.rows);
        answers.add(first, scores, rows);
        watch.start();
      });
  for (std::int64_t first = 0; first < q; first += tile) {
    const std::int64_t m = std::min(tile, q - first);
    read_finite(queries, queries_name, first * heads, chunk.matrix(m * heads, d));
    watch.start();
    const float* rows = upload.put(ctx, {chunk.data(), static_cast<std::size_t>(m * heads * d)});
    lists.add(first, {rows, m * heads, d});
    watch.stop();
  }
  watch.start();
  lists.finish();
  watch.stop();
  // The host does not wait for what the device does while files are read and written.
  if (ctx.backend() != Backend::cpu) watch.wall = lists.device_seconds();
}

std::string path_taken(const Context& ctx) {
  return ctx.backend() == Backend::cpu ? simd_target() : device_name(ctx);
}

int search(const Options& o) {
  const std::int64_t k = parse_k(o.k);
  const auto ctx = make_context(o.common);
  const NpyMatrix items(o.items), queries(o.queries, NpyMatrix::Shape::matrix_or_heads);
  const std::int64_t n = items.rows(), d = items.cols(), q = queries.rows() / queries.heads();
  if (d != queries.cols()) {
    throw Error(ExitCode::bad_data, o.queries,
                fmt::format("has {} columns, {} has {}", queries.cols(), o.items, d));
  }
  Answers answers(o, q, k);
  Stopwatch build, scanned;
  const ItemIndex index = read_index(*ctx, items, o.items, build);
  ProgressLine line(o.common, "queries", q);
  scan(*ctx, index, queries, o.queries, std::min(k, std::max<std::int64_t>(1, n)), answers, line,
       scanned);
  line.clear();
  answers.commit();
  if (o.common.json) {
    result(nlohmann::ordered_json{{"event", "search"},
                                  {"queries", q},
                                  {"items", n},
                                  {"dim", d},
                                  {"k", k},
                                  {"cpu_seconds", scanned.cpu},
                                  {"wall_seconds", scanned.wall},
                                  {"build_cpu_seconds", build.cpu},
                                  {"build_wall_seconds", build.wall},
                                  {"path", path_taken(*ctx)},
                                  {"threads", ctx->threads()}}
               .dump());
  } else {
    inform(o.common,
           fmt::format("{} queries x {} items x {} dims, top {}: {:.3f} s CPU, {:.3f} s wall ({})",
                       q, n, d, k, scanned.cpu, scanned.wall, path_taken(*ctx)));
  }
  return 0;
}

}  // namespace

void add_search(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("search", "exact top-K over given float32 vectors");
  auto o = std::make_shared<Options>();
  verb->add_option("items", o->items, "ITEMS.npy [n, d]")->required();
  verb->add_option("queries", o->queries,
                   "QUERIES.npy [q, d]; [q, heads, d]: a score is the best head's")
      ->required();
  verb->add_option("-k", o->k, "neighbours a query")->capture_default_str();
  verb->add_option("-o,--output", o->out,
                   "X.npy: writes X.items.npy (int64 rows) and X.scores.npy");
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry search items.npy queries.npy -k 100 -o top.npy --json");
  verb->callback([o, &action] { action = [o] { return search(*o); }; });
}

}  // namespace belfry::app
