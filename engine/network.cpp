// SPDX-License-Identifier: Apache-2.0
#include "engine/network.hpp"

#include <algorithm>
#include <cstring>

namespace belfry {

namespace {

void copy_rows(Matrix<const float> from, Matrix<float> to) {
  for (std::int64_t r = 0; r < from.rows; ++r) {
    std::memcpy(to.row(r), from.row(r), static_cast<std::size_t>(from.cols) * sizeof(float));
  }
}

void add_rows(Matrix<const float> from, Matrix<float> to) {
  for (std::int64_t r = 0; r < from.rows; ++r) {
    for (std::int64_t c = 0; c < from.cols; ++c) to(r, c) += from(r, c);
  }
}

/// The two towers are the concatenation of their side's features unless the model says more.
std::vector<NetworkConfig> with_towers(std::vector<NetworkConfig> networks,
                                       const std::vector<FeatureInput>& features) {
  for (const Side side : {Side::query, Side::candidate}) {
    const std::string name = side == Side::query ? "query" : "candidate";
    const bool given = std::any_of(networks.begin(), networks.end(),
                                   [&](const NetworkConfig& n) { return n.name == name; });
    if (given) continue;
    NetworkConfig tower;
    tower.name = name;
    for (const FeatureInput& f : features) {
      if (f.side == side) tower.inputs.push_back(f.name);
    }
    networks.push_back(tower);
  }
  return networks;
}

}  // namespace

NetworkGraph::NetworkGraph(const std::vector<NetworkConfig>& networks,
                           std::vector<FeatureInput> features, ParameterRegistry& registry,
                           WorkspacePlan& plan, std::int64_t max_queries,
                           std::int64_t max_candidates, bool training)
    : registry_(registry),
      plan_(plan),
      features_(std::move(features)),
      max_queries_(max_queries),
      max_candidates_(max_candidates) {
  std::vector<NetworkConfig> waiting = with_towers(networks, features_);
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
  for (Node& node : nodes_) plan_node(node, plan, training);
}

void NetworkGraph::add_node(const NetworkConfig& config, ParameterRegistry& registry) {
  Node node;
  node.name = config.name;
  for (const std::string& name : config.inputs) {
    Input input;
    input.first = node.concatenated;
    const auto f = std::find_if(features_.begin(), features_.end(),
                                [&](const FeatureInput& x) { return x.name == name; });
    if (f != features_.end()) {
      input.feature = true;
      input.number = static_cast<int>(f - features_.begin());
      input.width = registry.at(f->parameter).cols;
      (f->side == Side::query ? node.query : node.candidate) = true;
    } else {
      input.number = find(name);
      const Node& source = nodes_[static_cast<std::size_t>(input.number)];
      input.width = source.width;
      node.query |= source.query;
      node.candidate |= source.candidate;
    }
    node.concatenated += input.width;
    node.inputs.push_back(input);
  }
  require(node.concatenated > 0, "NetworkGraph: a network without inputs");
  node.width = node.concatenated;
  for (const LayerConfig& layer : config.layers) {
    node.width = append_layers(layer, config.name, node.width, registry, node.layers);
  }
  nodes_.push_back(std::move(node));
}

void NetworkGraph::plan_node(Node& node, WorkspacePlan& plan, bool training) {
  const std::int64_t rows = node.candidate && !node.query ? max_candidates_ : max_queries_;
  node.activation.push_back(plan.matrix(rows, node.concatenated));
  if (training) node.d_activation.push_back(plan.matrix(rows, node.concatenated));
  for (const auto& layer : node.layers) {
    layer->plan(plan, rows);
    node.activation.push_back(plan.matrix(rows, layer->output_width()));
    if (training) node.d_activation.push_back(plan.matrix(rows, layer->output_width()));
  }
}

int NetworkGraph::find(const std::string& name) const {
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].name == name) return static_cast<int>(i);
  }
  throw ContractError("NetworkGraph: no network is named " + name);
}

std::int64_t NetworkGraph::rows_of(const Node& node) const {
  return node.candidate && !node.query ? candidates_ : queries_;
}

void NetworkGraph::forward(const Context& ctx, FeatureIds ids, std::int64_t queries,
                           std::int64_t candidates, const Side* only) {
  require(ids.size() == features_.size(), "NetworkGraph: one list of ids a feature");
  queries_ = queries;
  candidates_ = candidates;
  for (Node& node : nodes_) {
    if (only != nullptr && (*only == Side::query ? node.candidate : node.query)) continue;
    forward_node(ctx, node, ids);
  }
}

void NetworkGraph::forward_node(const Context& ctx, Node& node, FeatureIds ids) {
  const std::int64_t rows = rows_of(node);
  Matrix<float> x = plan_.at(node.activation[0], rows);
  for (const Input& input : node.inputs) {
    Matrix<float> part = x.columns(input.first, input.width);
    if (input.feature) {
      const FeatureInput& f = features_[static_cast<std::size_t>(input.number)];
      Ragged bags = ids[static_cast<std::size_t>(input.number)];
      // A joint network reads as many candidates as there are queries: each row its positive.
      if (bags.offsets == nullptr && bags.bags > rows) bags.bags = bags.nnz = rows;
      embedding_bag(ctx, registry_.at(f.parameter).matrix(), bags, f.pooling, part);
    } else {
      const Node& source = nodes_[static_cast<std::size_t>(input.number)];
      copy_rows(plan_.at(source.activation.back(), rows), part);
    }
  }
  for (std::size_t l = 0; l < node.layers.size(); ++l) {
    Matrix<float> y = plan_.at(node.activation[l + 1], rows);
    node.layers[l]->forward(ctx, plan_, x, y);
    x = y;
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

void NetworkGraph::clear_gradients() {
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    Matrix<float> d = d_output(static_cast<int>(n));
    for (std::int64_t r = 0; r < d.rows; ++r) std::fill(d.row(r), d.row(r) + d.cols, 0.0f);
  }
}

void NetworkGraph::backward(const Context& ctx, FeatureIds ids) {
  uses_.clear();
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) backward_node(ctx, *node, ids);
}

void NetworkGraph::backward_node(const Context& ctx, Node& node, FeatureIds ids) {
  const std::int64_t rows = rows_of(node);
  for (std::size_t l = node.layers.size(); l-- > 0;) {
    node.layers[l]->backward(
        ctx, plan_, plan_.at(node.activation[l], rows), plan_.at(node.activation[l + 1], rows),
        plan_.at(node.d_activation[l + 1], rows), plan_.at(node.d_activation[l], rows));
  }
  const Matrix<float> d_x = plan_.at(node.d_activation[0], rows);
  for (const Input& input : node.inputs) {
    const Matrix<float> part = d_x.columns(input.first, input.width);
    if (input.feature) {
      const FeatureInput& f = features_[static_cast<std::size_t>(input.number)];
      Ragged bags = ids[static_cast<std::size_t>(input.number)];
      if (bags.offsets == nullptr && bags.bags > rows) bags.bags = bags.nnz = rows;
      uses_.push_back({f.parameter, bags, f.pooling, part});
    } else {
      Node& source = nodes_[static_cast<std::size_t>(input.number)];
      add_rows(part, plan_.at(source.d_activation.back(), rows));
    }
  }
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
