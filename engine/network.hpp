// SPDX-License-Identifier: Apache-2.0
// NetworkGraph: the DAG of a model. A network is a named chain of layers over the concatenation of
// features and other networks. Towers read one side; a joint network reads both, row by row.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/feature_values.hpp"
#include "engine/layer.hpp"
#include "engine/parameter_registry.hpp"
#include "engine/workspace_plan.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"

namespace belfry {

/// A feature as the graph sees it: a lookup into a registered table, or numbers. Several may have one name:
/// together they are that input, in order.
struct FeatureInput {
  std::string name;
  Side side = Side::query;
  int parameter = -1;  ///< the table in the registry; -1: numbers
  Pooling pooling = Pooling::sum;
  std::int64_t width = 0;  ///< of numbers
  std::int64_t steps = 0;  ///< T of a list that some network reads step by step
};

/// The features of one batch, in the order of the graph's.
using FeatureBatches = std::span<const FeatureBatch>;

class NetworkGraph {
 public:
  /// Networks in any order; those named "query" and "candidate" are the towers (made as the plain
  /// concatenation of their side's features where not given; without retrieval only if another network
  /// reads them). Unknown inputs and cycles were refused by
  /// check_config; here they are ContractErrors. Batches: query and joint rows up to max_queries,
  /// candidate rows up to max_candidates.
  NetworkGraph(const std::vector<NetworkConfig>& networks, std::vector<FeatureInput> features,
               ParameterRegistry& registry, WorkspacePlan& plan, std::int64_t max_queries,
               std::int64_t max_candidates, bool training, bool retrieval = true);

  /// Number of a network; ContractError when there is none.
  int find(const std::string& name) const;
  std::int64_t width(int network) const { return nodes_[static_cast<std::size_t>(network)].width; }

  /// Runs the networks of one side (side given) or all of them, for `queries` query rows and
  /// `candidates` candidate rows; features that are not run may be empty. training: for the sake of backward.
  void forward(const Context& ctx, FeatureBatches features, std::int64_t queries,
               std::int64_t candidates, const Side* only = nullptr, bool training = false);
  /// The output of a network after forward, [rows, width].
  Matrix<float> output(int network);
  /// Where the gradient of a network's output is to be put before backward: zero it, or write all of it.
  Matrix<float> d_output(int network);
  /// Sets all output gradients to zero (done once a step, before tasks add theirs).
  void clear_gradients(const Context& ctx);
  /// From the output gradients to dense parameter gradients, and to one TableUse a lookup.
  void backward(const Context& ctx, FeatureBatches features);
  /// The ids of table `parameter` in a batch of those sizes, in the order in which uses_of will name them.
  std::vector<TableIds> table_ids(int parameter, FeatureBatches features, std::int64_t queries,
                                  std::int64_t candidates) const;
  /// Uses of table `parameter` in the last backward, in a fixed order (features in order of networks).
  std::vector<TableUse> uses_of(int parameter) const;
  /// The gradient rows of those uses, to be clipped before they are summed.
  std::vector<Matrix<float>> gradient_rows_of(int parameter) const;

 private:
  struct Input {
    bool feature = false;
    int number = 0;          // of the feature or node
    std::int64_t first = 0;  // first column in the concatenation
    std::int64_t width = 0;
  };
  struct Node {
    std::string name;
    std::vector<Input> inputs;
    std::vector<std::unique_ptr<Layer>> layers;
    std::vector<int> activation,
        d_activation;  // [layers + 1]: concatenation, then each layer's output
    std::int64_t width = 0, concatenated = 0;
    bool query = false, candidate = false;  // sides that it depends on
    std::int64_t steps = 0;                 // T of a network that starts with steps
    std::size_t step_activations = 0;       // so many of the first have T rows a list
    std::size_t wave = 0;
  };
  void add_inputs(const std::string& name, Node& node, const ParameterRegistry& registry) const;
  void add_node(const NetworkConfig& config, ParameterRegistry& registry);
  void plan_node(Node& node, WorkspacePlan& plan, bool training);
  std::int64_t rows_of(const Node& node) const { return rows_of(node, queries_, candidates_); }
  static std::int64_t rows_of(const Node& node, std::int64_t queries, std::int64_t candidates) {
    return node.candidate && !node.query ? candidates : queries;
  }
  /// Rows of activation `number` in a batch.
  static std::int64_t rows_at(const Node& node, std::size_t number, std::int64_t rows) {
    return number < node.step_activations ? rows * node.steps : rows;
  }
  /// What a node looks up of a feature in a batch of `rows`, and how it is pooled.
  TableIds lookup_of(const Node& node, const Input& input, FeatureBatches features,
                     std::int64_t rows) const;
  void concatenate(const Context& ctx, const Node& node, FeatureBatches features);
  void distribute(const Context& ctx, const Node& node, FeatureBatches features);
  LayerRun run_of(const Node& node, std::size_t layer, FeatureBatches features, bool training);
  bool runs(const Node& node, const Side* only) const {
    return only == nullptr || !(*only == Side::query ? node.candidate : node.query);
  }

  ParameterRegistry& registry_;
  WorkspacePlan& plan_;
  std::vector<FeatureInput> features_;
  std::vector<Node> nodes_;              // in topological order
  std::vector<std::vector<int>> waves_;  // nodes that need nodes of earlier waves alone
  std::int64_t max_queries_, max_candidates_;
  std::int64_t queries_ = 0, candidates_ = 0;
  struct Use {
    int parameter;
    Ragged ids;
    Pooling pooling;
    Matrix<float> d_y;
  };
  std::vector<Use> uses_;
  std::vector<Matrix<float>> clear_;  // scratch of clear_gradients
  std::vector<LayerRun> at_work_;     // and of the passes
};

}  // namespace belfry
