// SPDX-License-Identifier: Apache-2.0
#include "engine/list_sampler.hpp"

#include <algorithm>

#include "kernels/core/philox.hpp"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry {

std::vector<std::int64_t> sample_lists(const std::vector<std::int32_t>& users,
                                       std::int64_t list_size, std::int64_t lists,
                                       std::uint64_t seed) {
  std::int32_t most = -1;
  for (const std::int32_t u : users) most = std::max(most, u);
  std::vector<std::vector<std::int64_t>> rows_of(static_cast<std::size_t>(most + 1));
  std::vector<std::int32_t> order;
  for (std::size_t i = 0; i < users.size(); ++i) {
    auto& rows = rows_of[static_cast<std::size_t>(users[i])];
    if (rows.empty()) order.push_back(users[i]);
    rows.push_back(static_cast<std::int64_t>(i));
  }
  std::vector<std::int64_t> out;
  for (const std::int32_t u : order) {
    const auto& rows = rows_of[static_cast<std::size_t>(u)];
    const auto n = static_cast<std::int64_t>(rows.size());
    if (n < list_size) continue;
    for (std::int64_t l = 0; l < lists; ++l) {
      const Philox4 key = random_words(seed, RandomStream::lists, static_cast<std::uint64_t>(u),
                                       static_cast<std::uint64_t>(l));
      const Permutation draw =
          make_permutation(std::uint64_t{key.v[0]} << 32 | key.v[1], key.v[2], n);
      for (std::int64_t i = 0; i < list_size; ++i) {
        out.push_back(rows[static_cast<std::size_t>(permuted(draw, i))]);
      }
    }
  }
  return out;
}

}  // namespace belfry
