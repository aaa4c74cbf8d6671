// SPDX-License-Identifier: Apache-2.0
#include "engine/layer.hpp"

#include <fmt/format.h>

#include "kernels/l2_normalize/l2_normalize.hpp"

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
  void forward(const Context& ctx, WorkspacePlan& plan, Matrix<const float> x,
               Matrix<float> y) override {
    l2_normalize(ctx, x, y, {plan.at(inverse_norm_, 1).data, x.rows});
  }
  void backward(const Context& ctx, WorkspacePlan& plan, Matrix<const float> x,
                Matrix<const float> y, Matrix<float> d_y, Matrix<float> d_x) override {
    if (d_x.data == nullptr) return;
    l2_normalize_grad(ctx, y, {plan.at(inverse_norm_, 1).data, x.rows}, d_y, d_x);
  }

 private:
  std::int64_t width_;
  int inverse_norm_ = -1;
};

}  // namespace

void forward_layers(const Context& ctx, WorkspacePlan& plan, std::span<const LayerRun> runs) {
  std::vector<DenseCall> calls;
  for (const LayerRun& run : runs) {
    if (auto call = run.layer->dense_call(plan, run.x, run.y)) {
      calls.push_back(*call);
    } else {
      run.layer->forward(ctx, plan, run.x, run.y);
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
      run.layer->backward(ctx, plan, run.x, run.y, run.d_y, run.d_x);
    }
  }
  if (!calls.empty()) dense_grad(ctx, calls);
}

std::int64_t append_layers(const LayerConfig& config, const std::string& network,
                           std::int64_t input_width, ParameterRegistry& registry,
                           std::vector<std::unique_ptr<Layer>>& layers) {
  std::int64_t width = input_width;
  if (config.kind == LayerKind::l2_normalize) {
    layers.push_back(std::make_unique<L2Normalize>(width));
    return width;
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
