// SPDX-License-Identifier: Apache-2.0
// What a model file contradicts itself in about networks that start with the steps of a list.
#include <fmt/format.h>

#include <algorithm>

#include "engine/config_check.hpp"
#include "engine/config_schema.hpp"
#include "engine/sequence_layers.hpp"
#include "kernels/attention/attention.hpp"

namespace belfry {

namespace {

std::string layer_key(std::size_t network, std::size_t layer, const char* key = "") {
  return key_of("network", network,
                fmt::format("layers.{}{}{}", layer, *key == '\0' ? "" : ".", key));
}

/// The list whose steps network i starts with.
const FeatureConfig& list_of(const Config& c, std::size_t i, std::size_t layer) {
  const NetworkConfig& n = c.networks[i];
  if (n.inputs.size() != 1) {
    refuse_key(
        c, layer_key(i, layer),
        fmt::format("this layer reads the steps of one list, and network \"{}\" has {} inputs",
                    n.name, n.inputs.size()),
        "give the list a network of its own, which this one reads");
  }
  const std::string at = key_of("network", i, "inputs.0");
  const auto found =
      std::find_if(c.features.begin(), c.features.end(),
                   [&](const FeatureConfig& f) { return f.name == n.inputs.front(); });
  if (found == c.features.end() ||
      (found->kind != FeatureKind::list && found->kind != FeatureKind::sequence)) {
    refuse_key(c, at,
               fmt::format("network \"{}\" reads steps, and its input \"{}\" has none", n.name,
                           n.inputs.front()),
               "a feature of kind \"sequence\" or \"list\" has them");
  }
  const auto number = static_cast<std::size_t>(found - c.features.begin());
  if (found->kind == FeatureKind::list && found->max_length == 0) {
    refuse_key(c, key_of("feature", number, "max_length"),
               fmt::format("network \"{}\" reads the steps of \"{}\", which needs \"max_length\"",
                           n.name, found->name));
  }
  if (!found->weights.empty()) {
    refuse_key(c, key_of("feature", number, "weights"),
               fmt::format("network \"{}\" reads the steps of \"{}\", which then have no weights",
                           n.name, found->name));
  }
  return *found;
}

void check_heads(const Config& c, std::size_t i, std::size_t layer, std::int64_t width) {
  const LayerConfig& l = c.networks[i].layers[layer];
  const std::int64_t keys = head_width(l, width);
  if (keys == 0) {
    refuse_key(c, layer_key(i, layer, "num_heads"),
               fmt::format("{} heads do not divide a width of {}", l.num_heads, width),
               "key_dim gives each its columns");
  }
  if (keys > kAttentionMaxKeys) {
    refuse_key(
        c, layer_key(i, layer, "num_heads"),
        fmt::format("a head would have {} columns, and has {} at most", keys, kAttentionMaxKeys),
        "more heads, or key_dim");
  }
}

}  // namespace

void check_sequences(const Config& c, std::size_t i) {
  const NetworkConfig& n = c.networks[i];
  if (!starts_with_steps(n)) return;
  const auto first = static_cast<std::size_t>(
      std::find_if(n.layers.begin(), n.layers.end(),
                   [](const LayerConfig& l) { return reads_steps(l.kind); }) -
      n.layers.begin());
  std::int64_t width = list_of(c, i, first).dim;
  bool ended = false;
  for (std::size_t j = 0; j < n.layers.size(); ++j) {
    const LayerConfig& l = n.layers[j];
    if (ended && reads_steps(l.kind)) {
      refuse_key(
          c, layer_key(i, j),
          fmt::format("network \"{}\" has no steps here: an earlier layer ended them", n.name));
    }
    if (l.kind == LayerKind::gru && l.units.size() != 1) {
      refuse_key(c, layer_key(i, j, "units"), "a gru layer needs \"units\", one number",
                 "such as units = 64");
    }
    if (l.kind == LayerKind::attention) check_heads(c, i, j, width);
    width = output_width(l, width, {});
    ended = ended || ends_steps(l.kind);
  }
  if (ended) return;
  refuse_key(c, key_of("network", i, "layers"),
             fmt::format("network \"{}\" never leaves the steps of its list", n.name),
             "end them by a layer of kind \"gru\" or \"sequence-pool\"");
}

}  // namespace belfry
