// SPDX-License-Identifier: Apache-2.0
// A model with random weights over data that was made up, and what is asked of it in plain loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/evaluator.hpp"
#include "engine/model_file.hpp"
#include "kernels/core/transfer.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {

/// Interactions with a device and an hour as context, users who come once, and test rows of strangers.
inline std::string made_up_rows(std::uint64_t seed, std::int64_t rows, std::int64_t users,
                                std::int64_t items) {
  Random random(seed);
  const auto user = random.zipf_ids(rows, users, 0.7), item = random.zipf_ids(rows, items, 0.8);
  std::string text = "user,item,device,hour,time\n";
  for (std::size_t i = 0; i < user.size(); ++i) {
    text += "u" + std::to_string(user[i]);
    text += ",i" + std::to_string(item[i]);
    text += ",d" + std::to_string(random.below(3));
    text += ",h" + std::to_string(random.below(4));
    text += "," + std::to_string(random.below(50));
    text += '\n';
  }
  return text;
}

/// A model file written and read again, its weights as initialised.
struct TrainedModel {
  explicit TrainedModel(const Context& ctx, const std::string& similarity = "dot",
                        const std::string& more = "", std::int64_t oov = 1,
                        std::int64_t heads = 1) {
    folder.write("r.csv", made_up_rows(1, 300, 30, 40));
    folder.write("t.csv", made_up_rows(2, 120, 45, 60));
    const std::string oov_text = "oov = " + std::to_string(oov) + "\n";
    const Config config = folder.config(
        "[data]\ninteractions = \"r.csv\"\ntest = \"t.csv\"\n[split]\nmethod = \"file\"\n"
        "validation = 0.1\n"
        "[[feature]]\nname = \"user\"\nof = \"query\"\nkind = \"id\"\ndim = 6\n" +
        oov_text +
        "[[feature]]\nname = \"device\"\nof = \"query\"\nkind = \"category\"\ndim = 4\n"
        "[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 10\n"
        "[[feature]]\nname = \"hour\"\nof = \"query\"\nkind = \"category\"\ndim = 3\n"
        "[[network]]\nname = \"query\"\ninputs = [\"user\", \"device\", \"hour\"]\n"
        "layers = [{ kind = \"mlp\", units = [" +
        std::to_string(7 * heads) + "], final_activation = \"tanh\" }" +
        (heads == 1 ? "" : ", { kind = \"heads\", count = " + std::to_string(heads) + " }") +
        "]\n"
        "[[network]]\nname = \"candidate\"\ninputs = [\"item\"]\n"
        "layers = [{ kind = \"mlp\", units = [7] }]\n"
        "[[task]]\nkind = \"retrieval\"\nsimilarity = \"" +
        similarity + "\"\n" + more);
    loaded = load(config);
    seen = items_by_user(loaded.data.user_count(), loaded.data.item_count(),
                         {&loaded.data.train, &loaded.data.validation});
    TowerNetworks towers(ctx, loaded.config, loaded.data, 16, 16, false);
    towers.commit(ctx);
    towers.registry().initialise(ctx, 3);
    const auto index = build_index(ctx, towers, loaded.data);
    write_model_file(ctx, path(), loaded.config, loaded.data, seen, towers, index.get());
    model = load_model_file(ctx, path());
    model->data.test = loaded.data.test;
    items = Buffer<float>(Backend::cpu, model->index->size() * model->index->dim());
    model->index->read_rows(ctx, 0, items.matrix(model->index->size(), model->index->dim()));
  }
  std::string path() const { return folder.path("model.safetensors"); }

  std::vector<float> item(std::int64_t i) const {
    const float* row = items.data() + i * model->index->dim();
    return {row, row + model->index->dim()};
  }
  /// The bit-defined score: fused multiply-adds in order, the best head's.
  float score(const float* query, std::int64_t i) const {
    const auto v = item(i);
    float best = 0;
    for (std::int64_t h = 0; h < model->model->heads(); ++h) {
      float s = 0;
      for (const float x : v) s = std::fma(*query++, x, s);
      if (h == 0 || s > best) best = s;
    }
    return best + 0.0f;
  }
  /// Floats of a query: its heads one behind the other.
  std::size_t stride() const {
    return static_cast<std::size_t>(model->model->heads() * model->model->width());
  }
  /// Vectors of queries, [n, heads * width] row-major.
  std::vector<float> encode(const Context& ctx, const QueryRows& queries) const {
    const std::int64_t rows = queries.size * model->model->heads();
    const std::int64_t n = rows * model->model->width();
    Results<float> out(ctx, n);
    model->model->encode_queries(ctx, queries, 0, {out.data(), rows, model->model->width()});
    const float* values = out.fetch(ctx, n);
    return {values, values + n};
  }
  /// All items that `eligible` accepts, best first, ties by row.
  template <class F>
  std::vector<std::pair<float, std::int32_t>> ranking(const float* query, F&& eligible) const {
    std::vector<std::pair<float, std::int32_t>> out;
    for (std::int32_t i = 0; i < model->data.item_count(); ++i) {
      if (eligible(i)) out.emplace_back(score(query, i), i);
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    return out;
  }
  std::set<std::int32_t> seen_by(std::int64_t user) const {
    return {seen.items.begin() + seen.offsets[static_cast<std::size_t>(user)],
            seen.items.begin() + seen.offsets[static_cast<std::size_t>(user) + 1]};
  }

  ModelFolder folder;
  Loaded loaded;
  ItemLists seen;
  std::unique_ptr<LoadedModel> model;
  Buffer<float> items;  // [n, width], on the host
};

}  // namespace belfry::test
