// SPDX-License-Identifier: Apache-2.0
// tfrs.layers.factorized_top_k: BruteForce and Streaming. Where TFRS leaks excluded items, fails, or has
// no defined order, the sane `expected` stands. One thing is ours: an item whose score is NaN is not
// listed at all, where `expected` puts it last.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/support/golden.hpp"
#include "tests/support/topk_oracle.hpp"

namespace belfry {
namespace {

using test::Json;
using test::Tensor;
using test::tensor;

/// Ids as text, whatever their type.
std::vector<std::string> names(const Tensor& t) {
  if (t.dtype == "str") return t.text;
  std::vector<std::string> out;
  for (const std::int64_t id : t.integers) out.push_back(std::to_string(id));
  return out;
}

struct Answer {
  std::vector<double> scores;
  std::vector<std::string> ids;
};

/// One answer a query, from a [Q,k] tensor or a list of tensors; NaN scores are left out.
std::vector<Answer> expected_answers(const Json& expected, std::int64_t n_queries) {
  const Json &scores = expected.at("scores"), &ids = expected.at("ids");
  std::vector<Answer> answers(static_cast<std::size_t>(n_queries));
  for (std::int64_t q = 0; q < n_queries; ++q) {
    const bool ragged = scores.is_array();
    const Tensor s = tensor(ragged ? scores.at(q) : scores), i = tensor(ragged ? ids.at(q) : ids);
    const std::vector<std::string> id = names(i);
    const std::int64_t width = ragged ? static_cast<std::int64_t>(s.data.size()) : s.cols();
    const std::int64_t first = ragged ? 0 : q * width;
    for (std::int64_t j = first; j < first + width; ++j) {
      if (std::isnan(s.data[j])) continue;
      answers[q].scores.push_back(s.data[j]);
      answers[q].ids.push_back(id[j]);
    }
  }
  return answers;
}

/// Excluded ids of each query as rows: an id excludes every row that has it; an unknown one excludes none.
test::OwnedLists excluded_rows(const Tensor& exclusions, const std::vector<std::string>& row_ids) {
  std::multimap<std::string, std::int32_t> rows_of;
  for (std::size_t row = 0; row < row_ids.size(); ++row) {
    rows_of.emplace(row_ids[row], static_cast<std::int32_t>(row));
  }
  const std::vector<std::string> ids = names(exclusions);
  test::OwnedLists lists;
  for (std::int64_t q = 0; q < exclusions.rows(); ++q) {
    std::vector<std::int32_t> list;
    for (std::int64_t j = 0; j < exclusions.cols(); ++j) {
      const auto [begin, end] = rows_of.equal_range(ids[q * exclusions.cols() + j]);
      for (auto at = begin; at != end; ++at) list.push_back(at->second);
    }
    lists.add(list);
  }
  return lists;
}

void check_case(const Context& ctx, const Json& test_case) {
  const Json& inputs = test_case.at("inputs");
  const auto candidates = tensor(inputs.at("candidates")), queries = tensor(inputs.at("queries"));
  const std::int64_t n = candidates.rows(), dim = candidates.cols(), q = queries.rows();
  const auto k = test_case.at("params").at("k").get<std::int64_t>();
  const std::int64_t width =
      std::max<std::int64_t>(k, 1);  // k = 0 asks for nothing: an empty prefix
  std::vector<std::string> ids;
  if (inputs.contains("candidate_ids")) ids = names(tensor(inputs.at("candidate_ids")));
  for (std::int64_t row = static_cast<std::int64_t>(ids.size()); row < n; ++row) {
    ids.push_back(std::to_string(row));
  }
  test::OwnedLists exclude;
  ItemMask mask;
  if (inputs.contains("exclusions")) {
    exclude = excluded_rows(tensor(inputs.at("exclusions")), ids);
    mask.exclude = exclude.view();
  }
  const auto expected = expected_answers(test_case.at("expected"), q);
  const std::vector<float> item_values = candidates.floats(), query_values = queries.floats();
  const Matrix<const float> items(item_values.data(), n, dim);
  for (const auto batch :
       test_case.at("params").at("candidate_batch").get<std::vector<std::int64_t>>()) {
    SCOPED_TRACE("candidates in batches of " + std::to_string(batch));
    Buffer<float> packed(Backend::cpu, PackedItems::size(n, dim));
    for (std::int64_t first = 0; first < n; first += batch) {
      tested::pack_items(ctx, items.slice(first, std::min(batch, n - first)), first, packed.data(),
                         n);
    }
    std::vector<float> scores(static_cast<std::size_t>(q * width));
    std::vector<std::int32_t> rows(scores.size());
    tested::topk_scores(ctx, {query_values.data(), q, dim}, 1, {packed.data(), n, dim}, mask,
                        {{scores.data(), q, width}, {rows.data(), q, width}});
    for (std::int64_t i = 0; i < q; ++i) {
      Answer answer;
      for (std::int64_t j = i * width; j < i * width + k && rows[j] >= 0; ++j) {
        answer.scores.push_back(scores[j]);
        answer.ids.push_back(ids[rows[j]]);
      }
      EXPECT_EQ(answer.ids, expected[i].ids) << "query " << i;
      test::expect_close(answer.scores, expected[i].scores, test_case.at("rtol"),
                         test_case.at("atol"), "scores of query " + std::to_string(i));
    }
  }
}

TEST(TopKLayers, AllCases) {
  const Context ctx = test::make_context();
  for (const auto& file : test::golden_files("topk_layers")) {
    const Json json = test::load_json(file);
    for (const Json& test_case : json.at("cases")) {
      SCOPED_TRACE(file.filename().string() + ": " + test_case.at("name").get<std::string>());
      check_case(ctx, test_case);
    }
  }
}

}  // namespace
}  // namespace belfry
