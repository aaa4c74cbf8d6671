// SPDX-License-Identifier: Apache-2.0
#include "engine/layer.hpp"

#include <fmt/format.h>

#include "engine/cross_layer.hpp"
#include "engine/sequence_layers.hpp"
#include "kernels/dot_interaction/dot_interaction.hpp"
#include "kernels/dropout/dropout.hpp"
#include "kernels/l2_normalize/l2_normalize.hpp"
#include "kernels/layer_norm/layer_norm.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

namespace {

/// y = act(x W + b), Keras's Dense: glorot-uniform kernel, zero bias.
class Dense : public Layer {
 public:
  Dense(ParameterRegistry& registry, const std::string& name, std::int64_t inputs,
        std::int64_t units, Activation activation, bool use_bias)
      : registry_(registry), units_(units), activation_(activation) {
    InitConfig glorot, zeros;
    glorot.kind = InitKind::glorot_uniform;
    zeros.kind = InitKind::zeros;
    kernel_ = registry.add(name + ".kernel", inputs, units, false, glorot);
    if (use_bias) bias_ = registry.add(name + ".bias", 1, units, false, zeros);
  }
  std::int64_t output_width() const override { return units_; }
  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    if (activation_ != Activation::linear) z_ = plan.matrix(rows, units_);
  }
  std::optional<DenseCall> dense_call(WorkspacePlan& plan, Matrix<const float> x,
                                      Matrix<float> y) override {
    const Matrix<float> z =
        activation_ == Activation::linear ? Matrix<float>() : plan.at(z_, x.rows);
    return DenseCall{x, registry_.at(kernel_).matrix(), bias(), activation_, z, y};
  }
  std::optional<DenseGradCall> dense_grad_call(WorkspacePlan& plan, Matrix<const float> x,
                                               Matrix<const float> y, Matrix<float> d_y,
                                               Matrix<float> d_x) override {
    const Matrix<const float> z =
        activation_ == Activation::linear ? y : Matrix<const float>(plan.at(z_, x.rows));
    Parameter& kernel = registry_.at(kernel_);
    return DenseGradCall{x,   kernel.matrix(),          activation_, z,  y,
                         d_y, kernel.gradient_matrix(), d_bias(),    d_x};
  }

 private:
  Vector<const float> bias() {
    if (bias_ < 0) return {};
    return {registry_.at(bias_).value.data(), units_};
  }
  Vector<float> d_bias() {
    if (bias_ < 0) return {};
    return {registry_.at(bias_).gradient.data(), units_};
  }
  ParameterRegistry& registry_;
  std::int64_t units_;
  Activation activation_;
  int kernel_ = -1, bias_ = -1, z_ = -1;
};

/// Rows to unit length.
class L2Normalize : public Layer {
 public:
  explicit L2Normalize(std::int64_t width) : width_(width) {}
  std::int64_t output_width() const override { return width_; }
  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    inverse_norm_ = plan.matrix(1, rows);
  }
  void forward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    l2_normalize(ctx, run.x, run.y, {plan.at(inverse_norm_, 1).data, run.x.rows});
  }
  void backward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    l2_normalize_grad(ctx, run.y, {plan.at(inverse_norm_, 1).data, run.x.rows}, run.d_y, run.d_x);
  }

 private:
  std::int64_t width_;
  int inverse_norm_ = -1;
};

/// Keras's LayerNormalization: gamma 1 and beta 0 at first.
class LayerNorm : public Layer {
 public:
  LayerNorm(ParameterRegistry& registry, const std::string& name, std::int64_t width,
            double epsilon)
      : registry_(registry), width_(width), epsilon_(static_cast<float>(epsilon)) {
    InitConfig ones, zeros;
    ones.kind = InitKind::ones;
    zeros.kind = InitKind::zeros;
    gamma_ = registry.add(name + ".gamma", 1, width, false, ones);
    beta_ = registry.add(name + ".beta", 1, width, false, zeros);
  }
  std::int64_t output_width() const override { return width_; }
  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    mean_ = plan.matrix(1, rows);
    inverse_deviation_ = plan.matrix(1, rows);
  }
  void forward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    layer_norm(ctx, {run.x,
                     {registry_.at(gamma_).value.data(), width_},
                     {registry_.at(beta_).value.data(), width_},
                     epsilon_,
                     run.y,
                     {plan.at(mean_, 1).data, run.x.rows},
                     {plan.at(inverse_deviation_, 1).data, run.x.rows}});
  }
  void backward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    layer_norm_grad(ctx, {run.x,
                          {registry_.at(gamma_).value.data(), width_},
                          {plan.at(mean_, 1).data, run.x.rows},
                          {plan.at(inverse_deviation_, 1).data, run.x.rows},
                          run.d_y,
                          run.d_x,
                          {registry_.at(gamma_).gradient.data(), width_},
                          {registry_.at(beta_).gradient.data(), width_}});
  }

 private:
  ParameterRegistry& registry_;
  std::int64_t width_;
  float epsilon_;
  int gamma_ = -1, beta_ = -1, mean_ = -1, inverse_deviation_ = -1;
};

/// Drops in training alone.
class DropoutLayer : public Layer {
 public:
  DropoutLayer(std::int64_t width, double rate, std::uint32_t stream)
      : width_(width), options_{static_cast<float>(rate), stream} {}
  std::int64_t output_width() const override { return width_; }
  void plan(WorkspacePlan&, std::int64_t) override {}
  void forward(const Context& ctx, WorkspacePlan&, const LayerRun& run) override {
    if (run.training) {
      dropout(ctx, run.x, options_, run.y);
    } else {
      copy_matrix(ctx, run.x, run.y);
    }
  }
  void backward(const Context& ctx, WorkspacePlan&, const LayerRun& run) override {
    dropout(ctx, run.d_y, options_, run.d_x);  // the same elements of the same step
  }

 private:
  std::int64_t width_;
  Dropout options_;
};

/// DLRM's products of all pairs of a network's inputs.
class DotInteractionLayer : public Layer {
 public:
  explicit DotInteractionLayer(const DotInteraction& shape) : shape_(shape) {}
  std::int64_t output_width() const override { return shape_.width(); }
  void plan(WorkspacePlan&, std::int64_t) override {}
  void forward(const Context& ctx, WorkspacePlan&, const LayerRun& run) override {
    dot_interaction(ctx, run.x, shape_, run.y);
  }
  void backward(const Context& ctx, WorkspacePlan&, const LayerRun& run) override {
    dot_interaction_grad(ctx, run.x, shape_, run.d_y, run.d_x);
  }

 private:
  DotInteraction shape_;
};

}  // namespace

Penalty penalty_of(const PenaltyConfig& config) {
  return {static_cast<float>(config.l1), static_cast<float>(config.l2)};
}

void set_kernel_options(const LayerConfig& config, ParameterRegistry& registry, int first) {
  for (int p = first; p < registry.size(); ++p) {
    Parameter& parameter = registry.at(p);
    const std::string& name = parameter.name;
    // Keras has options of their own for recurrent kernels: they keep their initial values, unpenalised.
    const bool bias = name.ends_with(".bias");
    const bool kernel = name.ends_with(".kernel") || name.ends_with(".projection");
    if (!bias && !kernel) continue;
    parameter.penalty = penalty_of(bias ? config.bias_penalty : config.penalty);
    const std::optional<InitConfig>& init = bias ? config.bias_init : config.kernel_init;
    if (init) parameter.init = *init;
  }
}

void forward_layers(const Context& ctx, WorkspacePlan& plan, std::span<const LayerRun> runs) {
  std::vector<DenseCall> calls;
  for (const LayerRun& run : runs) {
    if (auto call = run.layer->dense_call(plan, run.x, run.y)) {
      calls.push_back(*call);
    } else {
      run.layer->forward(ctx, plan, run);
    }
  }
  if (!calls.empty()) dense(ctx, calls);
}

void backward_layers(const Context& ctx, WorkspacePlan& plan, std::span<const LayerRun> runs) {
  std::vector<DenseGradCall> calls;
  for (const LayerRun& run : runs) {
    if (auto call = run.layer->dense_grad_call(plan, run.x, run.y, run.d_y, run.d_x)) {
      calls.push_back(*call);
    } else {
      run.layer->backward(ctx, plan, run);
    }
  }
  if (!calls.empty()) dense_grad(ctx, calls);
}

std::int64_t append_layers(const LayerConfig& config, const std::string& network,
                           std::int64_t input_width, const std::vector<std::int64_t>& parts,
                           std::int64_t steps, ParameterRegistry& registry,
                           std::vector<std::unique_ptr<Layer>>& layers) {
  std::int64_t width = input_width;
  const std::string name = fmt::format("{}.{}", network, layers.size());
  switch (config.kind) {
    case LayerKind::mlp:
      break;
    case LayerKind::heads:  // its output is read as several vectors: nothing is computed
      return width;
    case LayerKind::l2_normalize:
      layers.push_back(std::make_unique<L2Normalize>(width));
      return width;
    case LayerKind::cross:
      layers.push_back(make_cross_layer(config, name, width, registry));
      return width;
    case LayerKind::layer_norm:
      layers.push_back(std::make_unique<LayerNorm>(registry, name, width, config.epsilon));
      return width;
    case LayerKind::dot_interaction: {
      require(output_width(config, width, parts) > 0, "append_layers: unequal inputs");
      layers.push_back(std::make_unique<DotInteractionLayer>(DotInteraction{
          static_cast<std::int64_t>(parts.size()), config.self_interaction, config.skip_gather}));
      return layers.back()->output_width();
    }
    case LayerKind::dropout:
      layers.push_back(
          std::make_unique<DropoutLayer>(width, config.rate, registry.next_random_stream()));
      return width;
    case LayerKind::gru:
    case LayerKind::attention:
    case LayerKind::sequence_pool:
    case LayerKind::position_embedding:
      layers.push_back(make_sequence_layer(config, name, width, steps, registry));
      return layers.back()->output_width();
  }
  for (std::size_t u = 0; u < config.units.size(); ++u) {
    const bool last = u + 1 == config.units.size();
    layers.push_back(std::make_unique<Dense>(
        registry, fmt::format("{}.{}", network, layers.size()), width, config.units[u],
        last ? config.final_activation : config.activation, config.use_bias));
    width = config.units[u];
  }
  return width;
}

}  // namespace belfry
