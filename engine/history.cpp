// SPDX-License-Identifier: Apache-2.0
#include "engine/history.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace belfry {

Histories::Histories(std::int64_t users, std::vector<Moment> moments)
    : moments_(std::move(moments)), offsets_(static_cast<std::size_t>(users) + 1, 0) {
  std::sort(moments_.begin(), moments_.end(), [](const Moment& a, const Moment& b) {
    return std::tie(a.user, a.time, a.row) < std::tie(b.user, b.time, b.row);
  });
  for (const Moment& m : moments_) ++offsets_[static_cast<std::size_t>(m.user) + 1];
  for (std::size_t u = 1; u < offsets_.size(); ++u) offsets_[u] += offsets_[u - 1];
}

FeatureValues Histories::before(std::span<const Moment> of, std::int64_t longest,
                                const std::vector<std::int32_t>& row_of_item) const {
  FeatureValues out;
  for (const Moment& m : moments_)
    out.rows.push_back(row_of_item[static_cast<std::size_t>(m.item)]);
  const auto users = static_cast<std::int64_t>(offsets_.size()) - 1;
  for (const Moment& m : of) {
    std::int64_t first = 0, end = 0;
    if (m.user >= 0 && m.user < users) {
      first = offsets_[static_cast<std::size_t>(m.user)];
      const auto at =
          std::lower_bound(moments_.begin() + first,
                           moments_.begin() + offsets_[static_cast<std::size_t>(m.user) + 1], m,
                           [](const Moment& a, const Moment& b) {
                             return std::tie(a.time, a.row) < std::tie(b.time, b.row);
                           });
      end = at - moments_.begin();
      if (longest > 0) first = std::max(first, end - longest);
    }
    out.begin.push_back(first);
    out.end.push_back(end);
  }
  return out;
}

FeatureValues Histories::last(std::int64_t longest,
                              const std::vector<std::int32_t>& row_of_item) const {
  FeatureValues out;
  for (std::size_t u = 1; u < offsets_.size(); ++u) {
    const std::int64_t end = offsets_[u];
    const std::int64_t first =
        longest > 0 ? std::max(offsets_[u - 1], end - longest) : offsets_[u - 1];
    out.begin.push_back(static_cast<std::int64_t>(out.rows.size()));
    for (std::int64_t i = first; i < end; ++i) {
      const auto item = static_cast<std::size_t>(moments_[static_cast<std::size_t>(i)].item);
      out.rows.push_back(row_of_item[item]);
    }
    out.end.push_back(static_cast<std::int64_t>(out.rows.size()));
  }
  return out;
}

FeatureValues lists_of_users(const FeatureValues& of_users, std::span<const std::int32_t> users) {
  FeatureValues out;
  out.rows = of_users.rows;
  out.weights = of_users.weights;
  for (const std::int32_t u : users) {
    const auto at = static_cast<std::size_t>(u);
    const bool known = u >= 0 && at < of_users.begin.size();
    out.begin.push_back(known ? of_users.begin[at] : 0);
    out.end.push_back(known ? of_users.end[at] : 0);
  }
  return out;
}

}  // namespace belfry
