// SPDX-License-Identifier: Apache-2.0
#include "engine/network.hpp"

#include <algorithm>

#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

namespace {

/// A joint network reads as many candidates as there are queries: each row its positive.
Ragged bags_of(Ragged ids, std::int64_t rows) {
  if (ids.bags > rows) {
    ids.bags = rows;  // of lists, nnz stays: a bound
    if (ids.offsets == nullptr) ids.nnz = rows;
  }
  return ids;
}

/// The two towers are the concatenation of their side's features unless the model says more.
std::vector<NetworkConfig> with_towers(std::vector<NetworkConfig> networks,
                                       const std::vector<FeatureInput>& features, bool retrieval) {
  const auto any = [&](auto&& test) { return std::any_of(networks.begin(), networks.end(), test); };
  for (const Side side : {Side::query, Side::candidate}) {
    const std::string name = side == Side::query ? "query" : "candidate";
    if (any([&](const NetworkConfig& n) { return n.name == name; })) continue;
    const bool read = any([&](const NetworkConfig& n) {
      return std::find(n.inputs.begin(), n.inputs.end(), name) != n.inputs.end();
    });
    if (!retrieval && !read) continue;
    NetworkConfig tower;
    tower.name = name;
    for (const FeatureInput& f : features) {
      const bool again = !tower.inputs.empty() && tower.inputs.back() == f.name;
      if (f.side == side && !again) tower.inputs.push_back(f.name);
    }
    networks.push_back(tower);
  }
  return networks;
}

}  // namespace

NetworkGraph::NetworkGraph(const std::vector<NetworkConfig>& networks,
                           std::vector<FeatureInput> features, ParameterRegistry& registry,
                           WorkspacePlan& plan, std::int64_t max_queries,
                           std::int64_t max_candidates, bool training, bool retrieval)
    : registry_(registry),
      plan_(plan),
      features_(std::move(features)),
      max_queries_(max_queries),
      max_candidates_(max_candidates) {
  std::vector<NetworkConfig> waiting = with_towers(networks, features_, retrieval);
  const auto known = [&](const std::string& name) {
    return std::any_of(features_.begin(), features_.end(),
                       [&](const FeatureInput& f) { return f.name == name; }) ||
           std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& n) { return n.name == name; });
  };
  while (!waiting.empty()) {  // a network is added once all its inputs are there
    const auto ready = std::find_if(waiting.begin(), waiting.end(), [&](const NetworkConfig& n) {
      return std::all_of(n.inputs.begin(), n.inputs.end(), known);
    });
    require(ready != waiting.end(), "NetworkGraph: an unknown input or a cycle of networks");
    add_node(*ready, registry);
    waiting.erase(ready);
  }
  for (Node& node : nodes_) {
    plan_node(node, plan, training);
    if (waves_.size() <= node.wave) waves_.resize(node.wave + 1);
    waves_[node.wave].push_back(static_cast<int>(&node - nodes_.data()));
  }
}

/// Appends what `name` stands for: a feature's lookups, or another network's output.
void NetworkGraph::add_inputs(const std::string& name, Node& node,
                              const ParameterRegistry& registry) const {
  const auto add = [&](bool feature, std::size_t number, std::int64_t width) {
    node.inputs.push_back({feature, static_cast<int>(number), node.concatenated, width});
    node.concatenated += width;
  };
  bool found = false;
  for (std::size_t f = 0; f < features_.size(); ++f) {
    const FeatureInput& input = features_[f];
    if (input.name != name) continue;
    add(true, f, input.parameter < 0 ? input.width : registry.at(input.parameter).cols);
    (input.side == Side::query ? node.query : node.candidate) = true;
    found = true;
  }
  if (found) return;
  const int number = find(name);
  const Node& source = nodes_[static_cast<std::size_t>(number)];
  add(false, static_cast<std::size_t>(number), source.width);
  node.query |= source.query;
  node.candidate |= source.candidate;
  node.wave = std::max(node.wave, source.wave + 1);
}

void NetworkGraph::add_node(const NetworkConfig& config, ParameterRegistry& registry) {
  Node node;
  node.name = config.name;
  std::vector<std::int64_t> parts;  // width of each input, for layers that treat them as equals
  for (const std::string& name : config.inputs) {
    const std::int64_t before = node.concatenated;
    add_inputs(name, node, registry);
    parts.push_back(node.concatenated - before);
  }
  require(node.concatenated > 0, "NetworkGraph: a network without inputs");
  node.width = node.concatenated;
  if (starts_with_steps(config)) {
    require(node.inputs.size() == 1 && node.inputs.front().feature,
            "NetworkGraph: steps of more than one list");
    node.steps = features_[static_cast<std::size_t>(node.inputs.front().number)].steps;
    require(node.steps > 0, "NetworkGraph: steps of a feature that is no list, or without a bound");
  }
  bool ended = node.steps == 0;
  for (const LayerConfig& layer : config.layers) {
    require(!ended || !reads_steps(layer.kind), "NetworkGraph: a layer of steps behind their end");
    const int first = registry.size();
    node.width =
        append_layers(layer, config.name, node.width, parts, node.steps, registry, node.layers);
    set_kernel_options(layer, registry, first);
    parts.clear();
    if (!ends_steps(layer.kind)) continue;
    ended = true;
    node.step_activations = node.layers.size();
  }
  require(ended, "NetworkGraph: a network that ends with steps");
  nodes_.push_back(std::move(node));
}

void NetworkGraph::plan_node(Node& node, WorkspacePlan& plan, bool training) {
  const std::int64_t rows = node.candidate && !node.query ? max_candidates_ : max_queries_;
  const auto add = [&](std::int64_t width) {
    const std::int64_t all = rows_at(node, node.activation.size(), rows);
    node.activation.push_back(plan.matrix(all, width));
    if (training) node.d_activation.push_back(plan.matrix(all, width));
  };
  add(node.concatenated);
  for (std::size_t l = 0; l < node.layers.size(); ++l) {
    node.layers[l]->plan(plan, rows_at(node, l, rows));
    add(node.layers[l]->output_width());
  }
}

int NetworkGraph::find(const std::string& name) const {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].name == name) return static_cast<int>(i);
  }
  throw ContractError("NetworkGraph: no network is named " + name);
}

void NetworkGraph::forward(const Context& ctx, FeatureBatches features, std::int64_t queries,
                           std::int64_t candidates, const Side* only, bool training) {
  require(features.size() == features_.size(), "NetworkGraph: one entry a feature");
  queries_ = queries;
  candidates_ = candidates;
  for (const std::vector<int>& wave : waves_) {
    std::size_t depth = 0;
    for (const int n : wave) {
      const Node& node = nodes_[static_cast<std::size_t>(n)];
      if (!runs(node, only)) continue;
      concatenate(ctx, node, features);
      depth = std::max(depth, node.layers.size());
    }
    for (std::size_t l = 0; l < depth; ++l) {
      at_work_.clear();
      for (const int n : wave) {
        const Node& node = nodes_[static_cast<std::size_t>(n)];
        if (runs(node, only) && l < node.layers.size())
          at_work_.push_back(run_of(node, l, features, training));
      }
      forward_layers(ctx, plan_, at_work_);
    }
  }
}

/// Layer `layer` of a node with the batch's activations, and for backward their gradients.
LayerRun NetworkGraph::run_of(const Node& node, std::size_t layer, FeatureBatches features,
                              bool training) {
  const std::int64_t rows = rows_of(node), in = rows_at(node, layer, rows),
                     out = rows_at(node, layer + 1, rows);
  LayerRun run;
  run.layer = node.layers[layer].get();
  run.x = plan_.at(node.activation[layer], in);
  run.y = plan_.at(node.activation[layer + 1], out);
  run.training = training;
  if (training) {
    run.d_y = plan_.at(node.d_activation[layer + 1], out);
    run.d_x = plan_.at(node.d_activation[layer], in);
  }
  if (layer < node.step_activations) {
    run.steps = node.steps;
    run.mask.lengths = features[static_cast<std::size_t>(node.inputs.front().number)].lengths;
  }
  return run;
}

TableIds NetworkGraph::lookup_of(const Node& node, const Input& input, FeatureBatches features,
                                 std::int64_t rows) const {
  const auto number = static_cast<std::size_t>(input.number);
  Ragged ids = features[number].ids;
  if (node.steps == 0) return {bags_of(ids, rows), features_[number].pooling};
  ids.offsets = features[number].step_offsets;  // a bag a step
  ids.bags = rows * node.steps;
  return {ids, Pooling::sum};
}

/// The inputs of a node side by side.
void NetworkGraph::concatenate(const Context& ctx, const Node& node, FeatureBatches features) {
  const std::int64_t rows = rows_of(node);
  const Matrix<float> x = plan_.at(node.activation[0], rows_at(node, 0, rows));
  for (const Input& input : node.inputs) {
    const Matrix<float> part = x.columns(input.first, input.width);
    if (input.feature) {
      const FeatureInput& f = features_[static_cast<std::size_t>(input.number)];
      const FeatureBatch& batch = features[static_cast<std::size_t>(input.number)];
      if (f.parameter < 0) {
        copy_matrix(ctx, batch.numbers.slice(0, rows), part);
        continue;
      }
      const TableIds use = lookup_of(node, input, features, rows);
      Parameter& table = registry_.at(f.parameter);
      if (table.half) {
        embedding_bag(ctx, table.matrix16(), use.ids, use.pooling, part);
      } else {
        embedding_bag(ctx, table.matrix(), use.ids, use.pooling, part);
      }
    } else {
      const Node& source = nodes_[static_cast<std::size_t>(input.number)];
      copy_matrix(ctx, plan_.at(source.activation.back(), rows), part);
    }
  }
}

Matrix<float> NetworkGraph::output(int network) {
  Node& node = nodes_[static_cast<std::size_t>(network)];
  return plan_.at(node.activation.back(), rows_of(node));
}

Matrix<float> NetworkGraph::d_output(int network) {
  Node& node = nodes_[static_cast<std::size_t>(network)];
  return plan_.at(node.d_activation.back(), rows_of(node));
}

void NetworkGraph::clear_gradients(const Context& ctx) {
  clear_.clear();
  for (std::size_t n = 0; n < nodes_.size(); ++n) clear_.push_back(d_output(static_cast<int>(n)));
  set_zero(ctx, clear_);
}

void NetworkGraph::backward(const Context& ctx, FeatureBatches features) {
  uses_.clear();
  for (auto wave = waves_.rbegin(); wave != waves_.rend(); ++wave) {
    std::size_t depth = 0;
    for (const int n : *wave) {
      depth = std::max(depth, nodes_[static_cast<std::size_t>(n)].layers.size());
    }
    for (std::size_t l = depth; l-- > 0;) {
      at_work_.clear();
      for (const int n : *wave) {
        const Node& node = nodes_[static_cast<std::size_t>(n)];
        if (l < node.layers.size()) at_work_.push_back(run_of(node, l, features, true));
      }
      backward_layers(ctx, plan_, at_work_);
    }
    for (auto n = wave->rbegin(); n != wave->rend(); ++n) {
      distribute(ctx, nodes_[static_cast<std::size_t>(*n)], features);
    }
  }
}

/// The gradient of a node's inputs to where they came from: table uses, and outputs of other nodes.
void NetworkGraph::distribute(const Context& ctx, const Node& node, FeatureBatches features) {
  const std::int64_t rows = rows_of(node);
  const Matrix<float> d_x = plan_.at(node.d_activation[0], rows_at(node, 0, rows));
  for (const Input& input : node.inputs) {
    const Matrix<float> part = d_x.columns(input.first, input.width);
    if (input.feature) {
      const FeatureInput& f = features_[static_cast<std::size_t>(input.number)];
      if (f.parameter < 0) continue;  // numbers have no gradient
      const TableIds use = lookup_of(node, input, features, rows);
      uses_.push_back({f.parameter, use.ids, use.pooling, part});
    } else {
      const Node& source = nodes_[static_cast<std::size_t>(input.number)];
      add_matrix(ctx, part, plan_.at(source.d_activation.back(), rows));
    }
  }
}

std::vector<TableIds> NetworkGraph::table_ids(int parameter, FeatureBatches features,
                                              std::int64_t queries, std::int64_t candidates) const {
  std::vector<TableIds> out;
  for (auto wave = waves_.rbegin(); wave != waves_.rend(); ++wave) {  // as backward does
    for (auto n = wave->rbegin(); n != wave->rend(); ++n) {
      const Node& node = nodes_[static_cast<std::size_t>(*n)];
      for (const Input& input : node.inputs) {
        if (!input.feature) continue;
        const FeatureInput& f = features_[static_cast<std::size_t>(input.number)];
        if (f.parameter != parameter) continue;
        out.push_back(lookup_of(node, input, features, rows_of(node, queries, candidates)));
      }
    }
  }
  return out;
}

std::vector<TableUse> NetworkGraph::uses_of(int parameter) const {
  std::vector<TableUse> out;
  for (const Use& use : uses_) {
    if (use.parameter == parameter) out.push_back({use.ids, use.pooling, use.d_y});
  }
  return out;
}

std::vector<Matrix<float>> NetworkGraph::gradient_rows_of(int parameter) const {
  std::vector<Matrix<float>> out;
  for (const Use& use : uses_) {
    if (use.parameter == parameter) out.push_back(use.d_y);
  }
  return out;
}

}  // namespace belfry
