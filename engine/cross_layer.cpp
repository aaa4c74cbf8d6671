// SPDX-License-Identifier: Apache-2.0
#include "engine/cross_layer.hpp"

#include <fmt/format.h>

#include <vector>

#include "kernels/cross/cross.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

namespace {

class CrossLayer : public Layer {
 public:
  CrossLayer(const LayerConfig& config, const std::string& name, std::int64_t width,
             ParameterRegistry& registry)
      : config_(config), width_(width), registry_(registry) {
    InitConfig kernel, zeros;  // Keras's "truncated_normal"
    kernel.kind = InitKind::truncated_normal;
    kernel.stddev = 0.05;
    zeros.kind = InitKind::zeros;
    const std::int64_t rank = config.projection_dim;
    for (std::int64_t l = 0; l < config.num_layers; ++l) {
      Stage stage;
      const std::string at = fmt::format("{}.{}", name, l);
      if (rank > 0) stage.down = registry.add(at + ".projection", width, rank, false, kernel);
      stage.kernel = registry.add(at + ".kernel", rank > 0 ? rank : width, width, false, kernel);
      if (config.use_bias) stage.bias = registry.add(at + ".bias", 1, width, false, zeros);
      stages_.push_back(stage);
    }
  }

  std::int64_t output_width() const override { return width_; }

  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    for (Stage& s : stages_) {
      s.x = plan.matrix(rows, width_);  // of the first: not used
      s.p = plan.matrix(rows, width_);
      if (config_.preactivation != Activation::linear) s.z = plan.matrix(rows, width_);
      if (s.down >= 0) s.u = plan.matrix(rows, config_.projection_dim);
    }
    d_p_ = plan.matrix(rows, width_);
    d_x_ = plan.matrix(rows, width_);
    through_p_ = plan.matrix(rows, width_);
    if (config_.projection_dim > 0) d_u_ = plan.matrix(rows, config_.projection_dim);
  }

  void forward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const std::int64_t rows = run.x.rows;
    for (std::size_t l = 0; l < stages_.size(); ++l) {
      const Stage& s = stages_[l];
      const Matrix<const float> x = input_of(plan, l, run.x);
      const Matrix<float> p = plan.at(s.p, rows);
      Matrix<const float> projected = x;
      if (s.down >= 0) {
        projected = plan.at(s.u, rows);
        const DenseCall down{
            x, registry_.at(s.down).matrix(), {}, Activation::linear, {}, plan.at(s.u, rows)};
        dense(ctx, {&down, 1});
      }
      const DenseCall up{projected,
                         registry_.at(s.kernel).matrix(),
                         vector_of(s.bias, &Parameter::value),
                         config_.preactivation,
                         z_of(plan, s, rows),
                         p};
      dense(ctx, {&up, 1});
      const bool last = l + 1 == stages_.size();
      cross(ctx, {run.x, x, p, diag_scale(), last ? run.y : plan.at(stages_[l + 1].x, rows)});
    }
  }

  void backward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const std::int64_t rows = run.x.rows;
    const Matrix<float> d_x0 = run.d_x, d_p = plan.at(d_p_, rows);
    const Matrix<float> through_p = plan.at(through_p_, rows);
    Matrix<const float> d_y = run.d_y;
    for (std::size_t l = stages_.size(); l-- > 0;) {
      const Matrix<const float> x = input_of(plan, l, run.x);
      const Matrix<float> d_x = plan.at(d_x_, rows);
      CrossGradCall call;
      call.x0 = run.x;
      call.x = x;
      call.p = plan.at(stages_[l].p, rows);
      call.diag_scale = diag_scale();
      call.d_y = d_y;
      call.d_p = d_p;
      call.d_x0 = d_x0;
      if (l > 0) call.d_x = d_x;
      call.add_x0 = l + 1 < stages_.size();
      cross_grad(ctx, call);
      project_back(ctx, plan, stages_[l], x, d_p, through_p);
      add_matrix(ctx, through_p, l > 0 ? d_x : d_x0);
      d_y = d_x;
    }
  }

 private:
  struct Stage {
    int down = -1, kernel = -1, bias = -1;  // parameters
    int x = -1, p = -1, z = -1, u = -1;     // planned
  };
  float diag_scale() const { return static_cast<float>(config_.diag_scale); }
  Matrix<const float> input_of(WorkspacePlan& plan, std::size_t l, Matrix<const float> x0) const {
    if (l == 0) return x0;
    return plan.at(stages_[l].x, x0.rows);
  }
  Matrix<float> z_of(WorkspacePlan& plan, const Stage& s, std::int64_t rows) const {
    return s.z < 0 ? Matrix<float>() : plan.at(s.z, rows);
  }
  Vector<float> vector_of(int parameter, Buffer<float> Parameter::*member) {
    if (parameter < 0) return {};
    return {(registry_.at(parameter).*member).data(), width_};
  }

  /// The gradients of a stage's projection, and of x through it.
  void project_back(const Context& ctx, WorkspacePlan& plan, const Stage& s, Matrix<const float> x,
                    Matrix<float> d_p, Matrix<float> d_x) {
    const std::int64_t rows = x.rows;
    const Matrix<const float> p = plan.at(s.p, rows);
    const Matrix<const float> z = s.z < 0 ? p : Matrix<const float>(plan.at(s.z, rows));
    Parameter& kernel = registry_.at(s.kernel);
    DenseGradCall up{x,
                     kernel.matrix(),
                     config_.preactivation,
                     z,
                     p,
                     d_p,
                     kernel.gradient_matrix(),
                     vector_of(s.bias, &Parameter::gradient),
                     d_x};
    if (s.down < 0) return dense_grad(ctx, {&up, 1});
    up.x = plan.at(s.u, rows);
    up.d_x = plan.at(d_u_, rows);
    dense_grad(ctx, {&up, 1});
    Parameter& down = registry_.at(s.down);
    const DenseGradCall call{
        x, down.matrix(), Activation::linear, up.x, up.x, up.d_x, down.gradient_matrix(), {}, d_x};
    dense_grad(ctx, {&call, 1});
  }

  LayerConfig config_;
  std::int64_t width_;
  ParameterRegistry& registry_;
  std::vector<Stage> stages_;
  int d_p_ = -1, d_x_ = -1, through_p_ = -1, d_u_ = -1;
};

}  // namespace

std::unique_ptr<Layer> make_cross_layer(const LayerConfig& config, const std::string& name,
                                        std::int64_t width, ParameterRegistry& registry) {
  return std::make_unique<CrossLayer>(config, name, width, registry);
}

}  // namespace belfry
