// SPDX-License-Identifier: Apache-2.0
// belfry export: vectors of users and items as .npy, with their ids beside them.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "apps/common.hpp"
#include "engine/model_file.hpp"
#include "engine/npy.hpp"
#include "kernels/core/transfer.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string run, queries, items;
};

constexpr std::int64_t kTile = 4096;

/// Streams n vectors and their ids; both files appear when both are whole. vectors(first, n) gives n rows
/// in host memory.
template <class F>
void write_vectors(const std::string& path, const Vocabulary& ids, std::int64_t n,
                   std::int64_t heads, std::int64_t d, F&& vectors) {
  if (std::filesystem::path(path).extension() != ".npy")
    throw Error(ExitCode::usage, "export", fmt::format("\"{}\" does not end in .npy", path));
  std::vector<std::int64_t> shape{n, d};
  if (heads > 1) shape.insert(shape.begin() + 1, heads);
  NpyWriter file(path, "<f4", shape);
  OutputFile names(std::filesystem::path(path).replace_extension().string() + ".ids.txt");
  for (std::int64_t first = 0; first < n; first += kTile) {
    const std::int64_t m = std::min(kTile, n - first);
    file.write(vectors(first, m), m * heads * d);
    for (std::int64_t i = 0; i < m; ++i) names.write(ids.token(first + i) + "\n");
  }
  names.seal();
  file.seal();
  names.publish();
  file.publish();
}

int export_vectors(const Options& o) {
  if (o.queries.empty() && o.items.empty())
    throw Error(ExitCode::usage, "export", "say what: --queries Q.npy, --items V.npy or both");
  if (o.queries == o.items)
    throw Error(ExitCode::usage, "export", "--queries and --items name the same file");
  const std::string path = model_path(o.run);
  const auto ctx = make_context(o.common);
  const auto m = load_model_file(*ctx, path);
  const std::int64_t d = m->model->width(), heads = m->model->heads();
  if (d == 0) {
    throw Error(ExitCode::bad_model, path, "it ranks only: users and items have no vectors");
  }
  if (!o.queries.empty()) {
    Results<float> tile(*ctx, std::min(kTile, m->data.user_count()) * heads * d);
    write_vectors(o.queries, m->data.users, m->data.user_count(), heads, d,
                  [&](std::int64_t first, std::int64_t n) {
                    std::vector<std::int32_t> users(static_cast<std::size_t>(n));
                    std::iota(users.begin(), users.end(), static_cast<std::int32_t>(first));
                    m->model->encode_queries(*ctx, queries_of_users(m->data, users), 0,
                                             {tile.data(), n * heads, d});
                    return tile.fetch(*ctx, n * heads * d);
                  });
    const std::string of_heads = heads > 1 ? fmt::format("{} heads of ", heads) : "";
    inform(o.common, fmt::format("{} query vectors of {}width {} -> {}", m->data.user_count(),
                                 of_heads, d, o.queries));
  }
  if (!o.items.empty()) {
    Buffer<float> tile(Backend::cpu, std::min(kTile, m->data.item_count()) * d);
    write_vectors(o.items, m->data.items, m->data.item_count(), 1, d,
                  [&](std::int64_t first, std::int64_t n) {
                    m->index->read_rows(*ctx, first, tile.matrix(n, d));
                    return tile.data();
                  });
    inform(o.common,
           fmt::format("{} item vectors of width {} -> {}", m->data.item_count(), d, o.items));
  }
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("export", "user and item vectors as .npy, ids beside them");
  auto o = std::make_shared<Options>();
  verb->add_option("run", o->run, "RUN folder")->required();
  verb->add_option(
      "--queries", o->queries,
      "Q.npy: float32 [users, d], with several heads [users, heads, d]; ids one a line in "
      "Q.ids.txt");
  verb->add_option("--items", o->items, "V.npy: float32 [items, d]; ids one a line in V.ids.txt");
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry export runs/ratings --queries q.npy --items v.npy");
  verb->callback([o, &action] { action = [o] { return export_vectors(*o); }; });
}

}  // namespace belfry::app
