// SPDX-License-Identifier: Apache-2.0
// Layer: forward and backward over activations that a WorkspacePlan holds.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/parameter_registry.hpp"
#include "engine/workspace_plan.hpp"
#include "kernels/core/steps.hpp"
#include "kernels/dense/dense.hpp"

namespace belfry {

struct LayerRun;

class Layer {
 public:
  virtual ~Layer() = default;
  virtual std::int64_t output_width() const = 0;
  /// Asks for what forward must keep for backward, for batches of up to `rows` rows.
  virtual void plan(WorkspacePlan& plan, std::int64_t rows) = 0;

  // A layer is either dense, and says so with the calls that stand for it, or has passes of its own.
  virtual std::optional<DenseCall> dense_call(WorkspacePlan&, Matrix<const float>, Matrix<float>) {
    return std::nullopt;
  }
  virtual std::optional<DenseGradCall> dense_grad_call(WorkspacePlan&, Matrix<const float>,
                                                       Matrix<const float>, Matrix<float>,
                                                       Matrix<float>) {
    return std::nullopt;
  }
  /// run.y [B, output_width] from run.x [B, input_width]; of sequences x, and most layers' y, is [B T, ..].
  virtual void forward(const Context&, WorkspacePlan&, const LayerRun& /*run*/) {}
  /// Gradients of the layer's parameters (overwritten), and run.d_x from run.d_y, which may be overwritten. x, y:
  /// as in the last forward of this batch.
  virtual void backward(const Context&, WorkspacePlan&, const LayerRun& /*run*/) {}
};

/// One layer of a batch at work: x -> y, and back d_y -> d_x.
struct LayerRun {
  Layer* layer = nullptr;
  Matrix<float> x, y, d_y, d_x;
  bool training = false;   ///< dropout drops
  std::int64_t steps = 0;  ///< T, where x are the steps of sequences (kernels/core/steps.hpp)
  StepMask mask;           ///< of those
};
/// Passes of layers that do not depend on each other, those of both towers at one depth: the dense ones go
/// to the device together.
void forward_layers(const Context& ctx, WorkspacePlan& plan, std::span<const LayerRun> runs);
void backward_layers(const Context& ctx, WorkspacePlan& plan, std::span<const LayerRun> runs);

/// Appends the layers that `config` stands for to `layers` (an mlp is several dense layers), registering
/// parameters "<network>.<number>.kernel" and ".bias"; returns the new width. parts: the widths of the
/// network's inputs where they are what the layer reads, else empty. steps: T where the input is sequences.
std::int64_t append_layers(const LayerConfig& config, const std::string& network,
                           std::int64_t input_width, const std::vector<std::int64_t>& parts,
                           std::int64_t steps, ParameterRegistry& registry,
                           std::vector<std::unique_ptr<Layer>>& layers);

Penalty penalty_of(const PenaltyConfig& config);
/// Penalties and initial values that `config` gives to the kernels and biases of its layer, which registered the
/// parameters from `first` on. Matrices of a gru's own state are penalised, but start as the layer has it.
void set_kernel_options(const LayerConfig& config, ParameterRegistry& registry, int first);

}  // namespace belfry
