// SPDX-License-Identifier: Apache-2.0
// belfry search: exact top-K over vectors from anywhere.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/common.hpp"
#include "apps/progress.hpp"
#include "engine/index.hpp"
#include "engine/npy.hpp"
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

int search(const Options& o) {
  const std::int64_t k = parse_k(o.k);
  const NpyMatrix items(o.items), queries(o.queries);
  if (items.cols() != queries.cols()) {
    throw Error(ExitCode::bad_data, o.queries,
                fmt::format("has {} columns, {} has {}", queries.cols(), o.items, items.cols()));
  }
  const auto ctx = make_context(o.common);
  const std::int64_t n = items.rows(), d = items.cols(), q = queries.rows();
  Stopwatch build, scan;
  ItemIndex index(*ctx, n, d);
  Buffer<float> chunk(Backend::cpu, kReadRows * d);
  for (std::int64_t first = 0; first < n; first += kReadRows) {
    const std::int64_t m = std::min(kReadRows, n - first);
    items.read(first, chunk.matrix(m, d));
    build.start();
    index.add(*ctx, first, chunk.matrix(m, d));
    build.stop();
  }
  const bool to_file = !o.out.empty();
  std::unique_ptr<NpyWriter> rows_file, scores_file;
  const std::filesystem::path stem = std::filesystem::path(o.out).extension() == ".npy"
                                         ? std::filesystem::path(o.out).replace_extension()
                                         : std::filesystem::path(o.out);
  if (to_file) {
    if (std::filesystem::path(o.out).extension() != ".npy")
      throw Error(ExitCode::usage, "-o", fmt::format("\"{}\" does not end in .npy", o.out));
    rows_file = std::make_unique<NpyWriter>(stem.string() + ".items.npy", "<i8",
                                            std::vector<std::int64_t>{q, k});
    scores_file = std::make_unique<NpyWriter>(stem.string() + ".scores.npy", "<f4",
                                              std::vector<std::int64_t>{q, k});
  }
  const std::int64_t tile =
      std::max<std::int64_t>(1, std::min<std::int64_t>(kReadRows, (std::int64_t{1} << 24) / k));
  std::vector<float> scores(static_cast<std::size_t>(std::min(tile, q) * k));
  std::vector<std::int32_t> rows(scores.size());
  std::vector<std::int64_t> wide(rows.size());
  ProgressLine line(o.common, "queries", q);
  for (std::int64_t first = 0; first < q; first += tile) {
    const std::int64_t m = std::min(tile, q - first);
    queries.read(first, chunk.matrix(m, d));
    scan.start();
    topk_scores(*ctx, chunk.matrix(m, d), 1, index.view(), {},
                {{scores.data(), m, k}, {rows.data(), m, k}});
    scan.stop();
    line.update(first + m);
    if (to_file) {
      std::copy(rows.begin(), rows.begin() + m * k, wide.begin());
      rows_file->write(wide.data(), m * k);
      scores_file->write(scores.data(), m * k);
    } else if (!o.common.json) {
      for (std::int64_t i = 0; i < m; ++i) {
        result(fmt::format("query {}", first + i));
        for (std::int64_t r = 0; r < k && rows[static_cast<std::size_t>(i * k + r)] >= 0; ++r) {
          result(fmt::format("{:>5}  {:>12.9g}  {}", r + 1,
                             scores[static_cast<std::size_t>(i * k + r)],
                             rows[static_cast<std::size_t>(i * k + r)]));
        }
      }
    }
  }
  line.clear();
  if (to_file) {
    rows_file->commit();
    scores_file->commit();
  }
  if (o.common.json) {
    result(nlohmann::ordered_json{{"event", "search"},
                                  {"queries", q},
                                  {"items", n},
                                  {"dim", d},
                                  {"k", k},
                                  {"cpu_seconds", scan.cpu},
                                  {"wall_seconds", scan.wall},
                                  {"build_cpu_seconds", build.cpu},
                                  {"build_wall_seconds", build.wall},
                                  {"path", simd_target()},
                                  {"threads", ctx->threads()}}
               .dump());
  } else {
    inform(o.common,
           fmt::format("{} queries x {} items x {} dims, top {}: {:.3f} s CPU, {:.3f} s wall ({})",
                       q, n, d, k, scan.cpu, scan.wall, simd_target()));
  }
  return 0;
}

}  // namespace

void add_search(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("search", "exact top-K over given float32 vectors");
  auto o = std::make_shared<Options>();
  verb->add_option("items", o->items, "ITEMS.npy [n, d]")->required();
  verb->add_option("queries", o->queries, "QUERIES.npy [q, d]")->required();
  verb->add_option("-k", o->k, "neighbours a query")->capture_default_str();
  verb->add_option("-o,--output", o->out,
                   "X.npy: writes X.items.npy (int64 rows) and X.scores.npy");
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry search items.npy queries.npy -k 100 -o top.npy --json");
  verb->callback([o, &action] { action = [o] { return search(*o); }; });
}

}  // namespace belfry::app
