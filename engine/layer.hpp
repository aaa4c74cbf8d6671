// SPDX-License-Identifier: Apache-2.0
// Layer: forward and backward over activations that a WorkspacePlan holds.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/parameter_registry.hpp"
#include "engine/workspace_plan.hpp"

namespace belfry {

class Layer {
 public:
  virtual ~Layer() = default;
  virtual std::int64_t output_width() const = 0;
  /// Asks for what forward must keep for backward, for batches of up to `rows` rows.
  virtual void plan(WorkspacePlan& plan, std::int64_t rows) = 0;
  /// y [B, output_width] from x [B, input_width].
  virtual void forward(const Context& ctx, WorkspacePlan& plan, Matrix<const float> x,
                       Matrix<float> y) = 0;
  /// Gradients of the layer's parameters (overwritten), and of x unless d_x is empty. x, y: as in the
  /// last forward of this batch; d_y may be overwritten.
  virtual void backward(const Context& ctx, WorkspacePlan& plan, Matrix<const float> x,
                        Matrix<const float> y, Matrix<float> d_y, Matrix<float> d_x) = 0;
};

/// Appends the layers that `config` stands for to `layers` (an mlp is several dense layers), registering
/// parameters "<network>.<number>.kernel" and ".bias"; returns the new width.
std::int64_t append_layers(const LayerConfig& config, const std::string& network,
                           std::int64_t input_width, ParameterRegistry& registry,
                           std::vector<std::unique_ptr<Layer>>& layers);

}  // namespace belfry
