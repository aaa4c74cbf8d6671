// SPDX-License-Identifier: Apache-2.0
// tfrs.layers.loss: the steps of retrieval_softmax that TFRS also offers as layers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "kernels/retrieval_softmax/score_steps.hpp"
#include "tests/support/golden.hpp"

namespace belfry::test {
namespace {

constexpr std::int64_t kWidth = 16;  // rows of a transposed tile

/// Rows first .. first+15 of a [Q,C] tensor as a tile.
std::vector<float> to_tile(const Tensor& t, std::int64_t first) {
  const std::int64_t c = t.cols();
  std::vector<float> tile(static_cast<std::size_t>(c * kWidth));
  for (std::int64_t r = 0; r < std::min(kWidth, t.rows() - first); ++r) {
    for (std::int64_t j = 0; j < c; ++j) {
      tile[j * kWidth + r] = static_cast<float>(t.data[(first + r) * c + j]);
    }
  }
  return tile;
}

/// The columns that a row of 0-1 labels marks; the first of them is TFRS's positive (argmax).
std::vector<std::int64_t> positives(const Tensor& labels, std::int64_t row) {
  std::vector<std::int64_t> out;
  for (std::int64_t j = 0; j < labels.cols(); ++j) {
    if (labels.data[row * labels.cols() + j] == 1) out.push_back(j);
  }
  return out;
}

/// What stays must be the case's columns, with the case's logits and labels. The op has one positive a
/// row and sets it aside; further ones of a case are made the best of all, as TFRS does.
void check_mining(const Json& json) {
  const Tensor logits = tensor(json.at("inputs").at("logits")),
               labels = tensor(json.at("inputs").at("labels"));
  const std::int64_t q = logits.rows(), c = logits.cols();
  std::vector<double> columns, kept_logits, kept_labels;
  for (std::int64_t first = 0; first < q; first += kWidth) {
    std::vector<float> tile = to_tile(logits, first);
    const std::int64_t rows = std::min(kWidth, q - first);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (const std::int64_t j : positives(labels, first + r)) {
        tile[j * kWidth + r] = std::numeric_limits<float>::infinity();
      }
      tile[positives(labels, first + r).at(0) * kWidth + r] = cpu::kLeftRow;
    }
    const auto n = json.at("params").at("num_hard_negatives").get<std::int64_t>();
    cpu::keep_hard_negatives(tile.data(), c, kWidth, n);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < c; ++j) {
        const bool positive = j == positives(labels, first + r).at(0);
        if (!positive && tile[j * kWidth + r] == cpu::kLeftRow) continue;
        columns.push_back(static_cast<double>(j));
        kept_logits.push_back(logits.data[(first + r) * c + j]);
        kept_labels.push_back(labels.data[(first + r) * c + j]);
      }
    }
  }
  EXPECT_EQ(columns, tensor(json.at("expected").at("columns")).data);
  EXPECT_EQ(kept_logits, tensor(json.at("expected").at("logits")).data);
  EXPECT_EQ(kept_labels, tensor(json.at("expected").at("labels")).data);
}

/// Ids as integers: equal where the case's are equal.
std::vector<std::int64_t> read_ids(const Tensor& t) {
  if (t.text.empty()) return t.integers;
  std::map<std::string, std::int64_t> number;
  std::vector<std::int64_t> ids;
  for (const std::string& s : t.text) {
    ids.push_back(number.emplace(s, static_cast<std::int64_t>(number.size())).first->second);
  }
  return ids;
}

/// TFRS adds -3.4e36, here the column leaves. With labels that are not one-hot TFRS adds multiples of
/// that to other columns too (issue 489); the op has no such labels: the first largest is the positive,
/// it stays, its other columns leave, and the rest is untouched.
void check_hits(const Json& json) {
  const Tensor logits = tensor(json.at("inputs").at("logits")),
               labels = tensor(json.at("inputs").at("labels"));
  const std::int64_t q = logits.rows(), c = logits.cols();
  const std::vector<std::int64_t> ids = read_ids(tensor(json.at("inputs").at("candidate_ids")));
  const Tensor expected = tensor(json.at("expected").at("logits"));
  std::vector<std::int32_t> order(ids.size()), begin(ids.size()), end(ids.size());
  const cpu::EqualIds groups =
      cpu::group_equal_ids({ids.data(), c}, order.data(), begin.data(), end.data());
  for (std::int64_t i = 0; i < q; ++i) {
    const auto row = labels.data.begin() + i * c;
    const std::int64_t positive = std::max_element(row, row + c) - row;
    const bool one_hot =
        *std::max_element(row, row + c) == 1 && std::count(row, row + c, 0.0) == c - 1;
    std::vector<float> tile = to_tile(logits, i);
    cpu::ColumnList list{groups.order + groups.first[positive],
                         groups.order + groups.last[positive]};
    cpu::drop_listed(tile.data(), kWidth, 0, c, positive, list);
    for (std::int64_t j = 0; j < c; ++j) {
      const bool left = tile[j * kWidth] == cpu::kLeftRow;
      EXPECT_EQ(left, j != positive && ids[j] == ids[positive]) << i << ", " << j;
      if (one_hot) {
        EXPECT_EQ(left, expected.data[i * c + j] < -1e36) << i << ", " << j;
      }
      if (!left) {
        EXPECT_EQ(tile[j * kWidth], static_cast<float>(logits.data[i * c + j]));
      }
    }
  }
}

/// Probabilities of [C], [Q,C] or [Q,1]: the op's step takes one a column, so a row at a time.
void check_correction(const Json& json) {
  const Tensor logits = tensor(json.at("inputs").at("logits"));
  const Tensor p = tensor(json.at("inputs").at("candidate_sampling_probability"));
  const std::int64_t c = logits.cols();
  std::vector<double> corrected;
  for (std::int64_t i = 0; i < logits.rows(); ++i) {
    std::vector<float> log_q;
    for (std::int64_t j = 0; j < c; ++j) {
      const std::int64_t at = p.shape.size() == 1 ? j : p.cols() == 1 ? i : i * c + j;
      log_q.push_back(cpu::log_sampling_probability(static_cast<float>(p.data[at])));
    }
    std::vector<float> tile = to_tile(logits, i);
    cpu::subtract_log_probability(tile.data(), c, kWidth, log_q.data());
    for (std::int64_t j = 0; j < c; ++j) corrected.push_back(tile[j * kWidth]);
  }
  const Json& from = json.contains("expected_f64") ? json.at("expected_f64") : json.at("expected");
  expect_close(corrected, tensor(from.at("logits")).data, json.at("rtol").get<double>(),
               json.at("atol").get<double>(), "logits");
}

TEST(LossLayers, AllCases) {
  for (const auto& path : golden_files("loss_layers")) {
    const Json file = load_json(path);
    EXPECT_FALSE(file.at("cases").empty()) << path;
    for (const Json& json : file.at("cases")) {
      SCOPED_TRACE(json.at("name").get<std::string>());
      const auto layer = json.at("params").at("layer").get<std::string>();
      if (layer == "HardNegativeMining") {
        check_mining(json);
      } else if (layer == "RemoveAccidentalHits") {
        check_hits(json);
      } else if (layer == "SamplingProbablityCorrection") {
        check_correction(json);
      } else {
        ADD_FAILURE() << "unknown layer " << layer;
      }
    }
  }
}

}  // namespace
}  // namespace belfry::test
