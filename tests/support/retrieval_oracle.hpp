// SPDX-License-Identifier: Apache-2.0
// Retrieval softmax in plain float64, written from the op's contract, and problems to compare it on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/tested_retrieval_softmax.hpp"

namespace belfry::test {

/// Owns the inputs of one call. Scores of lattice problems (multiples of 1/8) are exact in float32, so
/// that a tie is a tie in float64 too.
struct RetrievalProblem {
  std::int64_t b = 0, c = 0, d = 0, heads = 1;
  std::vector<float> queries, candidates;
  float temperature = 1.0f;
  std::vector<float> log_probability;
  std::vector<std::int64_t> ids;
  bool has_mask = false;
  std::vector<std::set<std::int32_t>> masked;  // per query
  std::int64_t hard_negatives = 0;
  std::vector<float> weight;
  bool mean = false;
  bool in_batch = true;
  float scale = 1.0f;
  Precision precision = Precision::fp32;

  // Views for the op; kept here because the options only point.
  std::vector<std::int64_t> mask_offsets;
  std::vector<std::int32_t> mask_rows;

  RetrievalSoftmaxOptions options() {
    RetrievalSoftmaxOptions o;
    o.temperature = temperature;
    o.log_probability = {log_probability.data(), static_cast<std::int64_t>(log_probability.size())};
    o.candidate_ids = {ids.data(), static_cast<std::int64_t>(ids.size())};
    o.hard_negatives = hard_negatives;
    o.weight = {weight.data(), static_cast<std::int64_t>(weight.size())};
    o.mean = mean;
    o.in_batch = in_batch;
    o.scale = scale;
    o.precision = precision;
    if (has_mask) {
      mask_offsets.assign(1, 0);
      mask_rows.assign(1, 0);  // never an empty array
      mask_rows.clear();
      for (const auto& row : masked) {
        mask_rows.insert(mask_rows.end(), row.begin(), row.end());
        mask_offsets.push_back(static_cast<std::int64_t>(mask_rows.size()));
      }
      o.masked = {mask_offsets.data(), mask_rows.data()};
    }
    return o;
  }
  Matrix<const float> query_view() const { return {queries.data(), b * heads, d}; }
  Matrix<const float> candidate_view() const { return {candidates.data(), c, d}; }
};

/// Which options a random problem has.
struct RetrievalParts {
  bool temperature = false, log_probability = false, ids = false, mask = false, hard = false,
       weight = false, mean = false;
};

inline RetrievalProblem random_problem(std::int64_t b, std::int64_t c, std::int64_t d,
                                       std::int64_t heads, const RetrievalParts& parts,
                                       std::uint32_t seed, bool lattice = true) {
  std::mt19937 gen(seed);
  std::normal_distribution<float> normal(0, 0.6f);
  std::uniform_int_distribution<int> eighths(-6, 6);
  const auto draw = [&] { return lattice ? static_cast<float>(eighths(gen)) / 8 : normal(gen); };
  RetrievalProblem p;
  p.b = b, p.c = c, p.d = d, p.heads = heads;
  p.queries.resize(static_cast<std::size_t>(b * heads * d));
  p.candidates.resize(static_cast<std::size_t>(c * d));
  for (float& x : p.queries) x = draw();
  for (float& x : p.candidates) x = draw();
  if (parts.temperature) p.temperature = 0.5f;
  if (parts.mean) p.mean = true;
  if (parts.hard) p.hard_negatives = std::max<std::int64_t>(1, std::min<std::int64_t>(5, c / 3));
  for (std::int64_t j = 0; j < c; ++j) {
    if (parts.log_probability) p.log_probability.push_back(-static_cast<float>(gen() % 64) / 8);
    if (parts.ids) p.ids.push_back(static_cast<std::int64_t>(gen() % (c / 2 + 1)) - 3);
  }
  for (std::int64_t i = 0; i < b; ++i) {
    if (parts.weight) p.weight.push_back(static_cast<float>(gen() % 5) / 2);
    if (!parts.mask) continue;
    p.has_mask = true;
    p.masked.emplace_back();
    for (std::int64_t k = gen() % (c / 3 + 2); k > 0; --k) {  // the positive now and then, too
      p.masked.back().insert(static_cast<std::int32_t>(gen() % c));
    }
  }
  return p;
}

struct RetrievalAnswer {
  double loss = 0;
  std::vector<double> row_loss, d_queries, d_candidates;
  std::vector<std::int32_t> rank;
};

/// The columns of row i that stay after steps 4 to 6, the positive included.
inline std::vector<bool> staying(const RetrievalProblem& p, std::int64_t i,
                                 const std::vector<double>& s) {
  std::vector<bool> in(static_cast<std::size_t>(p.c), true);
  for (std::int64_t j = 0; j < p.c; ++j) {
    if (!p.in_batch && j < p.b) in[j] = false;
    if (!p.ids.empty() && p.ids[j] == p.ids[i]) in[j] = false;
    if (p.has_mask && p.masked[i].count(static_cast<std::int32_t>(j)) != 0) in[j] = false;
    if (j == i) in[j] = true;
  }
  if (p.hard_negatives <= 0) return in;
  std::vector<std::pair<double, std::int64_t>>
      others;  // best first, of equal ones the smaller column
  for (std::int64_t j = 0; j < p.c; ++j) {
    if (in[j] && j != i) others.emplace_back(-s[j], j);
  }
  std::sort(others.begin(), others.end());
  for (std::size_t k = static_cast<std::size_t>(p.hard_negatives); k < others.size(); ++k) {
    in[others[k].second] = false;
  }
  return in;
}

/// Row i alone: adds its part to `a` (row_loss, d_queries and rank are assigned).
inline void oracle_row(const RetrievalProblem& p, std::int64_t i, RetrievalAnswer& a) {
  const auto dot = [&p](std::int64_t q, std::int64_t j) {
    double sum = 0;
    for (std::int64_t k = 0; k < p.d; ++k) {
      sum += static_cast<double>(p.queries[q * p.d + k]) * p.candidates[j * p.d + k];
    }
    return sum;
  };
  std::vector<double> s(static_cast<std::size_t>(p.c));
  std::vector<std::vector<std::int64_t>> heads_of(s.size());  // the heads that attain the maximum
  for (std::int64_t j = 0; j < p.c; ++j) {
    double best = -std::numeric_limits<double>::infinity();
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const double x = dot(i * p.heads + h, j);
      if (x > best) heads_of[j].clear();
      if (x >= best) heads_of[j].push_back(i * p.heads + h);
      best = std::max(best, x);
    }
    s[j] = best / p.temperature - (p.log_probability.empty() ? 0.0 : p.log_probability[j]);
  }
  const std::vector<bool> in = staying(p, i, s);
  double maximum = s[i], sum = 0;
  for (std::int64_t j = 0; j < p.c; ++j) {
    if (in[j]) maximum = std::max(maximum, s[j]);
  }
  for (std::int64_t j = 0; j < p.c; ++j) sum += in[j] ? std::exp(s[j] - maximum) : 0;
  a.row_loss[i] = maximum + std::log(sum) - s[i];
  a.rank[i] = 0;
  double factor =
      p.scale * (p.weight.empty() ? 1.0 : p.weight[i]) / (p.mean ? static_cast<double>(p.b) : 1.0);
  a.loss += factor * a.row_loss[i];
  factor /= p.temperature;
  for (std::int64_t j = 0; j < p.c; ++j) {
    if (!in[j]) continue;
    a.rank[i] += s[j] > s[i];
    const double g = factor * (std::exp(s[j] - maximum) / sum - (j == i ? 1 : 0)) /
                     static_cast<double>(heads_of[j].size());
    for (const std::int64_t q : heads_of[j]) {
      for (std::int64_t k = 0; k < p.d; ++k) {
        a.d_queries[q * p.d + k] += g * p.candidates[j * p.d + k];
        a.d_candidates[j * p.d + k] += g * p.queries[q * p.d + k];
      }
    }
  }
}

inline RetrievalAnswer empty_answer(const RetrievalProblem& p) {
  RetrievalAnswer a;
  a.row_loss.resize(static_cast<std::size_t>(p.b));
  a.rank.resize(static_cast<std::size_t>(p.b));
  a.d_queries.resize(p.queries.size());
  a.d_candidates.resize(p.candidates.size());
  return a;
}

inline RetrievalAnswer oracle(const RetrievalProblem& p) {
  RetrievalAnswer a = empty_answer(p);
  for (std::int64_t i = 0; i < p.b; ++i) oracle_row(p, i, a);
  return a;
}

/// The op's outputs as it gives them.
struct RetrievalOutput {
  double loss = 0;
  std::vector<float> row_loss, d_queries, d_candidates;
  std::vector<std::int32_t> rank;
  bool operator==(const RetrievalOutput&) const = default;
};

inline RetrievalOutput run_retrieval(const Context& ctx, RetrievalProblem& p,
                                     bool gradients = true) {
  constexpr float kPoison = 1e30f;  // every output must be overwritten
  RetrievalOutput out;
  out.loss = kPoison;
  out.row_loss.assign(static_cast<std::size_t>(p.b), kPoison);
  out.rank.assign(static_cast<std::size_t>(p.b), -1);
  Matrix<float> d_queries, d_candidates;
  if (gradients) {
    out.d_queries.assign(p.queries.size(), kPoison);
    out.d_candidates.assign(p.candidates.size(), kPoison);
    d_queries = {out.d_queries.data(), p.b * p.heads, p.d};
    d_candidates = {out.d_candidates.data(), p.c, p.d};
  }
  RetrievalSoftmaxOptions options = p.options();
  options.positive_rank = {out.rank.data(), p.b};
  tested::retrieval_softmax(ctx, p.query_view(), p.heads, p.candidate_view(), options, &out.loss,
                            {out.row_loss.data(), p.b}, d_queries, d_candidates);
  return out;
}

}  // namespace belfry::test
