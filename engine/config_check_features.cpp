// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/config_check.hpp"
#include "engine/config_schema.hpp"
#include "engine/config_toml.hpp"
#include "engine/error.hpp"

namespace belfry {

std::string key_of(const char* list, std::size_t i, const std::string& key) {
  return fmt::format("{}.{}{}{}", list, i, key.empty() ? "" : ".", key);
}

const char* word(Side side) {
  return side == Side::query ? "query" : "candidate";
}

void refuse_key(const Config& config, const std::string& key, const std::string& what,
                const std::string& hint) {
  throw Error(ExitCode::usage, place_of(config, key), what, hint);
}

void check_name(const Config& c, const std::string& key, const std::string& name) {
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char ch) {
    return ch > 0x20 && ch != 0x7f &&
           std::string_view(".*?/[]=\"").find(static_cast<char>(ch)) == std::string_view::npos;
  });
  if (!plain) {
    refuse_key(c, key, schema::toml_string(name) + " cannot be a name",
               "letters, digits, _ and - are safe; a column of any name goes into \"column\"");
  }
}

void check_init(const Config& c, const std::string& key, const InitConfig& init) {
  if (init.kind == InitKind::uniform && init.low >= init.high) {
    refuse_key(c, key + ".low", "\"low\" must be less than \"high\"");
  }
}

namespace {

/// A history shares the items' table; a list may hold what another feature has one of.
bool share_vocabulary(FeatureKind a, FeatureKind b) {
  const auto lists_apart = [](FeatureKind x, FeatureKind y) {
    return (x == FeatureKind::sequence && y == FeatureKind::id) ||
           (x == FeatureKind::list && y == FeatureKind::category);
  };
  return a == b || lists_apart(a, b) || lists_apart(b, a);
}

/// What a kind of feature cannot do without.
void check_kind(const Config& c, std::size_t i) {
  const FeatureConfig& f = c.features[i];
  const BoundariesConfig& b = f.boundaries;
  const bool hashed = f.kind == FeatureKind::hashed || f.kind == FeatureKind::unified;
  if (hashed && f.buckets == 0) {
    refuse_key(c, key_of("feature", i, "buckets"), "a hashed feature needs \"buckets\"",
               "the rows of its table, such as buckets = 10000");
  }
  if (f.kind == FeatureKind::bucket) {
    const int given =
        (b.values.empty() ? 0 : 1) + (b.linspace > 0 ? 1 : 0) + (b.quantiles > 0 ? 1 : 0);
    if (given != 1) {
      refuse_key(c, key_of("feature", i, "boundaries"), "a bucket feature needs \"boundaries\"",
                 "a list of numbers, { linspace = N } or { quantiles = N }");
    }
    for (std::size_t j = 1; j < b.values.size(); ++j) {
      if (b.values[j] < b.values[j - 1]) {
        refuse_key(c, key_of("feature", i, fmt::format("boundaries.{}", j)),
                   "\"boundaries\" must not fall");
      }
    }
  }
  const bool separated = f.kind == FeatureKind::list || f.kind == FeatureKind::vector ||
                         f.kind == FeatureKind::sequence;
  if (separated && f.separator.empty()) {
    refuse_key(c, key_of("feature", i, "separator"), "\"separator\" must not be empty");
  }
  if (f.kind == FeatureKind::list && f.mask && f.mask->find(f.separator) != std::string::npos) {
    refuse_key(c, key_of("feature", i, "mask"), "\"mask\" has no meaning here",
               "it holds the separator, so no value of the list can be it");
  }
  if (f.penalty_rows && f.penalty == PenaltyConfig{}) {
    refuse_key(c, key_of("feature", i, "penalty_rows"), "\"penalty_rows\" has no meaning here",
               "it needs l1 or l2");
  }
  if (f.kind == FeatureKind::sequence && f.of == Side::candidate) {
    refuse_key(c, key_of("feature", i, "of"),
               "a sequence is a user's history: it is of the query side");
  }
  if (!f.mean != !f.variance) {
    refuse_key(c, key_of("feature", i, f.mean ? "mean" : "variance"),
               "\"mean\" and \"variance\" are given together, or both found in the data");
  }
}

/// Features that share a table must agree on what it is.
void check_tables(const Config& c) {
  std::map<std::string, std::size_t> first;
  for (std::size_t i = 0; i < c.features.size(); ++i) {
    const FeatureConfig& f = c.features[i];
    if (!has_table(f.kind)) continue;
    const std::string& table = f.table.empty() ? f.name : f.table;
    if (!f.table.empty()) check_name(c, key_of("feature", i, "table"), f.table);
    const auto [found, is_new] = first.emplace(table, i);
    if (is_new) continue;
    const FeatureConfig& g = c.features[found->second];
    const auto differ = [&](const char* key, const std::string& a, const std::string& b) {
      refuse_key(c, key_of("feature", i, key),
                 fmt::format("table \"{}\" is shared by \"{}\" with {} and \"{}\" with {}", table,
                             g.name, b, f.name, a));
    };
    if (f.dim != g.dim) differ("dim", fmt::format("dim {}", f.dim), fmt::format("dim {}", g.dim));
    if (f.oov != g.oov) differ("oov", fmt::format("oov {}", f.oov), fmt::format("oov {}", g.oov));
    if (f.vocabulary != g.vocabulary) {
      differ("vocabulary", "another vocabulary", "a vocabulary of its own");
    }
    if (!share_vocabulary(f.kind, g.kind)) differ("kind", "another kind", "one kind");
    if (f.buckets != g.buckets) differ("buckets", "other buckets", "its own buckets");
    if (f.tables != g.tables) differ("tables", "other tables", "its own tables");
    if (f.kind == FeatureKind::id && g.kind == FeatureKind::id && f.of != g.of) {
      differ("table", std::string("ids of the ") + word(f.of) + " side",
             std::string("ids of the ") + word(g.of) + " side");
    }
    const auto factors = [](const PenaltyConfig& p) {
      return fmt::format("l1 {} and l2 {}", p.l1, p.l2);
    };
    if (!(f.penalty == g.penalty)) {
      differ(f.penalty.l2 != g.penalty.l2 ? "l2" : "l1", factors(f.penalty), factors(g.penalty));
    }
    const PenaltyRows rows = default_penalty_rows(c.preset);
    if (f.penalty_rows.value_or(rows) != g.penalty_rows.value_or(rows)) {
      differ("penalty_rows", "other penalty_rows", "its own penalty_rows");
    }
    const InitConfig usual = default_embedding_init(c.preset);
    if (!(f.init.value_or(usual) == g.init.value_or(usual))) {
      differ("init", "another init", "one init");
    }
  }
}

}  // namespace

void check_features(const Config& c) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < c.features.size(); ++i) {
    const FeatureConfig& f = c.features[i];
    const std::string at = key_of("feature", i, "name");
    check_name(c, at, f.name);
    if (f.name == "query" || f.name == "candidate") {
      refuse_key(c, at, "a feature cannot be named like the tower \"" + f.name + "\"");
    }
    if (!names.insert(f.name).second) {
      refuse_key(c, at, "two features are named \"" + f.name + "\"");
    }
    if (f.init) check_init(c, key_of("feature", i, "init"), *f.init);
    check_kind(c, i);
  }
  check_tables(c);
}

}  // namespace belfry
