// SPDX-License-Identifier: Apache-2.0
#include "engine/synthesize.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>

#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry {
namespace {

constexpr double kPrimaryShare = 0.7, kSecondaryShare = 0.2;  // the rest goes by popularity alone
constexpr double kZipfExponent = 0.75;
constexpr double kActivitySpread = 0.7;         // of the logarithm of a user's number of ratings
constexpr std::int64_t kFewest = 10;            // ratings a user, where the total allows it
constexpr std::int64_t kEpoch = 1'514'764'800;  // 2018-01-01
constexpr double kYears = 3 * 365.25 * 86400;   // users arrive over three years
constexpr double kGap = 8 * 3600;               // mean time between a user's ratings

/// What a stream of numbers is for; each user or item has one of each.
enum class Purpose : std::uint64_t { users = 1, items = 2, choice = 3, ratings = 4 };

class Numbers {
 public:
  Numbers(std::uint64_t seed, Purpose purpose, std::int64_t owner)
      : seed_(seed),
        sub_((static_cast<std::uint64_t>(purpose) << 40) + static_cast<std::uint64_t>(owner)) {}
  std::uint32_t word() {
    if (used_ == 4) {
      block_ = random_words(seed_, RandomStream::synthesise, sub_, index_++);
      used_ = 0;
    }
    return block_.v[used_++];
  }
  /// In (0, 1): never an end, so that its logarithm is finite and not 0.
  double uniform() { return (static_cast<double>(word()) + 0.5) * 0x1p-32; }
  double exponential() { return -std::log(uniform()); }
  double normal() {
    const double radius = std::sqrt(2.0 * exponential());
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }
  std::int64_t below(std::int64_t n) {
    const std::uint32_t hi = word(), lo = word();
    return static_cast<std::int64_t>(uniform_below(hi, lo, static_cast<std::uint64_t>(n)));
  }

 private:
  std::uint64_t seed_, sub_, index_ = 0;
  Philox4 block_{};
  int used_ = 4;
};

void check(const SynthesisOptions& o) {
  const auto refuse = [](const std::string& what) {
    throw Error(ExitCode::usage, "synthesize", what);
  };
  if (o.users < 1 || o.items < 1) refuse("users and items must be at least 1");
  if (o.users > INT32_MAX || o.items > INT32_MAX) refuse("ids are 32-bit numbers");
  if (o.clusters < 1 || o.clusters > o.items) refuse("clusters must be between 1 and items");
  if (o.ratings < 0 || o.ratings > o.users * o.items) {
    refuse("ratings must be between 0 and users x items: no user rates an item twice");
  }
}

/// Popularity and cluster of each item: two independent shuffles, so that every cluster has its
/// popular and its rare items.
struct Catalogue {
  explicit Catalogue(const SynthesisOptions& o)
      : cluster(o.items), popularity(o.items), bias(o.items), total(o.clusters, 0.0) {
    Numbers keys(o.seed, Purpose::items, o.items);
    const auto key = [&] { return (std::uint64_t{keys.word()} << 32) | keys.word(); };
    const Permutation ranks = make_permutation(key(), 0, o.items);
    const Permutation places = make_permutation(key(), 0, o.items);
    for (std::int64_t i = 0; i < o.items; ++i) {
      cluster[i] = static_cast<std::int32_t>(permuted(places, i) % o.clusters);
      popularity[i] = std::pow(static_cast<double>(permuted(ranks, i) + 1), -kZipfExponent);
      bias[i] = 0.3 * Numbers(o.seed, Purpose::items, i).normal();
      total[cluster[i]] += popularity[i];
      everything += popularity[i];
    }
  }
  std::vector<std::int32_t> cluster;
  std::vector<double> popularity, bias, total;
  double everything = 0;
};

struct User {
  std::int32_t primary = 0, secondary = 0;
  double activity = 1, bias = 0;
  std::int64_t start = 0;
};

User make_user(const SynthesisOptions& o, std::int64_t user) {
  Numbers n(o.seed, Purpose::users, user);
  User u;
  u.primary = static_cast<std::int32_t>(n.below(o.clusters));
  if (o.clusters > 1) {
    const std::int64_t step = 1 + n.below(o.clusters - 1);
    u.secondary = static_cast<std::int32_t>((u.primary + step) % o.clusters);
  }
  u.activity = std::exp(kActivitySpread * n.normal());
  u.bias = 0.3 * n.normal();
  u.start = kEpoch + static_cast<std::int64_t>(n.uniform() * kYears);
  return u;
}

/// Ratings of each user, in proportion to activity, at most half the catalogue where that is enough.
std::vector<std::int64_t> count_ratings(const SynthesisOptions& o, const std::vector<User>& users) {
  const std::int64_t even = o.ratings / o.users;
  const std::int64_t fewest = std::min({kFewest, even, o.items});
  const std::int64_t most = std::max({o.items / 2, even + 1, fewest});
  double activity = 0;
  for (const User& u : users) activity += u.activity;
  std::vector<std::int64_t> counts;
  std::int64_t left = o.ratings;
  const auto spare = static_cast<double>(o.ratings - fewest * o.users);
  for (const User& u : users) {
    const auto more = static_cast<std::int64_t>(spare * u.activity / activity);
    counts.push_back(std::min({fewest + more, most, o.items}));
    left -= counts.back();
  }
  for (std::int64_t u = 0; left > 0; u = (u + 1) % o.users) {
    if (counts[u] < std::min(most, o.items)) {
      ++counts[u];
      --left;
    }
  }
  return counts;
}

/// The user's items: successive draws without replacement, as a race of exponential clocks whose
/// speeds are the weights (Efraimidis and Spirakis 2006).
void choose_items(const SynthesisOptions& o, const Catalogue& c, const User& u, std::int64_t user,
                  std::int64_t count, std::vector<std::pair<double, std::int32_t>>& race) {
  Numbers n(o.seed, Purpose::choice, user);
  race.clear();
  for (std::int64_t i = 0; i < o.items; ++i) {
    double weight = (1 - kPrimaryShare - kSecondaryShare) / c.everything;
    if (c.cluster[i] == u.primary) weight += kPrimaryShare / c.total[u.primary];
    if (c.cluster[i] == u.secondary) weight += kSecondaryShare / c.total[u.secondary];
    race.emplace_back(n.exponential() / (weight * c.popularity[i]), static_cast<std::int32_t>(i));
  }
  std::nth_element(race.begin(), race.begin() + count, race.end());
  race.resize(count);
  // The winners come in no order (nth_element's own), so they get one before random numbers follow.
  std::sort(race.begin(), race.end(), [](auto a, auto b) { return a.second < b.second; });
}

void rate(const SynthesisOptions& o, const Catalogue& c, const User& u, std::int64_t user,
          std::vector<std::pair<double, std::int32_t>>& chosen,
          std::vector<SyntheticRating>& rows) {
  Numbers n(o.seed, Purpose::ratings, user);
  // A fresh random order: else the favourites would all come first, and time would tell.
  for (auto& entry : chosen) entry.first = n.uniform();
  std::sort(chosen.begin(), chosen.end());
  double time = static_cast<double>(u.start);
  for (const auto& [key, item] : chosen) {
    const std::int32_t cluster = c.cluster[item];
    const double taste = cluster == u.primary ? 0.9 : cluster == u.secondary ? 0.4 : -0.6;
    const double opinion = 3.2 + taste + u.bias + c.bias[item] + 0.5 * n.normal();
    const double halves = std::clamp(std::round(2 * opinion), 1.0, 10.0);
    time += 1 + kGap * n.exponential();
    rows.push_back({static_cast<std::int32_t>(user + 1), item + 1, static_cast<float>(halves / 2),
                    static_cast<std::int64_t>(time)});
  }
}

}  // namespace

SyntheticRatings synthesize(const SynthesisOptions& options) {
  check(options);
  const Catalogue catalogue(options);
  std::vector<User> users;
  for (std::int64_t u = 0; u < options.users; ++u) users.push_back(make_user(options, u));
  const auto counts = count_ratings(options, users);
  SyntheticRatings out;
  out.item_cluster = catalogue.cluster;
  out.rows.reserve(options.ratings);
  std::vector<std::pair<double, std::int32_t>> chosen;
  chosen.reserve(options.items);
  for (std::int64_t u = 0; u < options.users; ++u) {
    out.user_cluster.push_back(users[u].primary);
    choose_items(options, catalogue, users[u], u, counts[u], chosen);
    rate(options, catalogue, users[u], u, chosen, out.rows);
  }
  return out;
}

void write_ratings_csv(const SyntheticRatings& ratings, const std::filesystem::path& path,
                       bool text_ids) {
  OutputFile file(path);
  file.write("userId,movieId,rating,timestamp\n");
  std::string line;
  const auto number = [&](std::int64_t value) {
    std::array<char, 24> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    line.append(digits.data(), end);
  };
  for (const SyntheticRating& r : ratings.rows) {
    line.clear();
    if (text_ids) line += "user_";
    number(r.user);
    line += text_ids ? ",item_" : ",";
    number(r.item);
    const auto halves = static_cast<std::int64_t>(2 * r.rating);
    line += ',';
    number(halves / 2);
    line += halves % 2 != 0 ? ".5," : ".0,";
    number(r.timestamp);
    line += '\n';
    file.write(line);
  }
  file.commit();
}

}  // namespace belfry
