// SPDX-License-Identifier: Apache-2.0
#include "belfry/brute_force.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "engine/device_choice.hpp"
#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "engine/model.hpp"
#include "engine/recommender.hpp"

namespace belfry {

namespace {

std::vector<ScoredItem> named(const Vocabulary& items, std::span<const std::int32_t> rows,
                              std::span<const float> scores) {
  std::vector<ScoredItem> out;
  out.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) out.push_back({items.token(rows[i]), scores[i]});
  return out;
}

std::int32_t known(const Vocabulary& ids, const std::string& id, const char* what) {
  const auto at = ids.token_index(id);
  if (at) return static_cast<std::int32_t>(*at);
  throw Error(ExitCode::bad_data, what, "the model does not know \"" + id + "\"");
}

void check_k(std::int64_t k) {
  if (k < 1) throw Error(ExitCode::usage, "k", fmt::format("must be at least 1, not {}", k));
}

template <class F>
void told(F&& f) {
  try {
    f();
  } catch (const simt::DeviceFailure& e) {
    throw error_of(e);
  }
}

}  // namespace

void BruteForce::index(const data::Column& candidates) {
  const Vocabulary& items = model_.model().data().items;
  std::vector<std::int32_t> rows;
  for (const auto& [text, count] : candidates.token_counts()) {
    if (const auto at = items.token_index(text)) rows.push_back(static_cast<std::int32_t>(*at));
  }
  if (rows.empty()) {
    throw Error(ExitCode::bad_data, candidates.table().name(),
                "the model knows no item of column " + candidates.name());
  }
  std::sort(rows.begin(), rows.end());
  only_ = std::move(rows);
}

std::int64_t BruteForce::size() const {
  return only_ ? static_cast<std::int64_t>(only_->size()) : model_.model().data().item_count();
}

Answers BruteForce::operator()(std::span<const std::string> users,
                               const QueryOptions& options) const {
  check_k(options.k);
  const ModelData& data = model_.model().data();
  RecommendFilter filter;
  filter.exclude_seen =
      options.exclude_seen.value_or(model_.model().config().evaluate.exclude_seen);
  if (only_ && size() < data.item_count()) {
    filter.only = *only_;
    filter.has_only = true;
  }
  for (const std::string& id : options.exclude) {
    if (const auto at = data.items.token_index(id)) {
      filter.exclude.push_back(static_cast<std::int32_t>(*at));
    }
  }
  std::vector<std::int32_t> rows;
  for (const std::string& id : users) {
    const bool stranger = options.cold && !data.users.token_index(id);
    rows.push_back(stranger ? -1 : known(data.users, id, "user"));
  }
  std::vector<std::vector<ScoredItem>> out(users.size());
  told([&] {
    Recommender recommender(model_.context(), model_.model().view(), std::move(filter));
    recommender.recommend(rows, options.k, {}, [&](std::int64_t q, auto items, auto scores) {
      out[static_cast<std::size_t>(q)] = named(data.items, items, scores);
    });
  });
  return Answers(std::move(out));
}

std::vector<ScoredItem> BruteForce::similar(const std::string& item, std::int64_t k) const {
  check_k(k);
  const Vocabulary& items = model_.model().data().items;
  const std::int32_t row = known(items, item, "item");
  std::vector<ScoredItem> out;
  told([&] {
    Recommender(model_.context(), model_.model().view(), {})
        .similar(row, k,
                 [&](std::int64_t, auto rows, auto scores) { out = named(items, rows, scores); });
  });
  return out;
}

void BruteForce::write_faiss(const std::string& path) const {
  const ModelView now = model_.model().view();
  if (now.index == nullptr || now.model->heads() != 1) {
    throw Error(ExitCode::usage, "write_faiss",
                "the model's scores are no dot products of vectors");
  }
  std::vector<std::int32_t> rows;
  if (only_) rows = *only_;
  for (std::int32_t i = 0; !only_ && i < now.index->size(); ++i) rows.push_back(i);
  OutputFile vectors(path), ids(path + ".ids");
  const auto put = [&vectors](auto value) { vectors.write(&value, sizeof value); };
  // faiss/impl/index_write.cpp: the fourcc, the header of every index, then the vectors and their number.
  vectors.write("IxFI");
  const std::int64_t d = now.index->dim(), n = static_cast<std::int64_t>(rows.size());
  put(static_cast<std::int32_t>(d));
  put(n);
  for (int unused = 0; unused < 2; ++unused) put(std::int64_t{1} << 20);
  put(char{1});          // is_trained
  put(std::int32_t{0});  // METRIC_INNER_PRODUCT
  put(n * d);
  Buffer<float> row(Backend::cpu, d);
  told([&] {
    for (const std::int32_t item : rows) {
      now.index->read_rows(model_.context(), item, row.matrix(1, d));
      vectors.write(row.data(), static_cast<std::size_t>(d) * sizeof(float));
      ids.write(now.data.items.token(item) + "\n");
    }
  });
  vectors.seal();
  ids.seal();
  vectors.publish();
  ids.publish();
}

}  // namespace belfry
