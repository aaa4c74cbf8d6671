// SPDX-License-Identifier: Apache-2.0
#include "engine/sequence_layers.hpp"

#include <cmath>

#include "kernels/attention/attention.hpp"
#include "kernels/bias_act/bias_act.hpp"
#include "kernels/gru/gru.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"
#include "kernels/sequence_pool/sequence_pool.hpp"

namespace belfry {

namespace {

InitConfig init_of(InitKind kind) {
  InitConfig init;
  init.kind = kind;
  return init;
}

Vector<float> as_vector(Buffer<float>& values) {
  return {values.data(), values.size()};
}

/// The state behind the last step.
class Gru : public Layer {
 public:
  Gru(ParameterRegistry& registry, const std::string& name, std::int64_t inputs, std::int64_t units,
      bool use_bias)
      : registry_(registry), units_(units) {
    kernel_ =
        registry.add(name + ".kernel", inputs, 3 * units, false, init_of(InitKind::glorot_uniform));
    recurrent_ =
        registry.add(name + ".recurrent", units, 3 * units, false, init_of(InitKind::orthogonal));
    if (use_bias) {
      bias_ = registry.add(name + ".bias", 2, 3 * units, false, init_of(InitKind::zeros));
    }
  }
  std::int64_t output_width() const override { return units_; }
  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    gates_ = plan.matrix(rows, 4 * units_);
    states_ = plan.matrix(rows, units_);
  }
  void forward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const Matrix<float> states = plan.at(states_, run.x.rows);
    gru(ctx, {.x = run.x,
              .steps = run.steps,
              .mask = run.mask,
              .parameters = parameters(),
              .gates = plan.at(gates_, run.x.rows),
              .states = states});
    copy_matrix(ctx, step_of(states, run.steps, run.steps - 1), run.y);
  }
  void backward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    gru_grad(ctx, {.x = run.x,
                   .steps = run.steps,
                   .mask = run.mask,
                   .parameters = parameters(),
                   .states = plan.at(states_, run.x.rows),
                   .gates = plan.at(gates_, run.x.rows),
                   .d_states = {},
                   .d_last = run.d_y,
                   .d_kernel = registry_.at(kernel_).gradient_matrix(),
                   .d_recurrent = registry_.at(recurrent_).gradient_matrix(),
                   .d_bias = bias_ < 0 ? Matrix<float>() : registry_.at(bias_).gradient_matrix(),
                   .d_x = run.d_x});
  }

 private:
  GruParameters parameters() const {
    return {registry_.at(kernel_).matrix(), registry_.at(recurrent_).matrix(),
            bias_ < 0 ? Matrix<float>() : registry_.at(bias_).matrix()};
  }
  ParameterRegistry& registry_;
  std::int64_t units_;
  int kernel_ = -1, recurrent_ = -1, bias_ = -1, gates_ = -1, states_ = -1;
};

/// Heads over queries, keys and values of every step, made by one product, and the product that puts
/// them together.
class SelfAttention : public Layer {
 public:
  SelfAttention(ParameterRegistry& registry, const std::string& name, std::int64_t width,
                const LayerConfig& config)
      : registry_(registry),
        width_(width),
        inner_(config.num_heads * head_width(config, width)),
        heads_(config.num_heads),
        causal_(config.causal),
        residual_(config.residual) {
    require(inner_ > 0, "make_sequence_layer: heads do not divide the width");
    InitConfig each;  // glorot uniform of [D,HK], not of the three side by side
    each.kind = InitKind::uniform;
    each.high = std::sqrt(6.0 / static_cast<double>(width + inner_));
    each.low = -each.high;
    kernel_ = registry.add(name + ".kernel", width, 3 * inner_, false, each);
    output_kernel_ = registry.add(name + ".output.kernel", inner_, width, false,
                                  init_of(InitKind::glorot_uniform));
    if (!config.use_bias) return;
    bias_ = registry.add(name + ".bias", 1, 3 * inner_, false, init_of(InitKind::zeros));
    output_bias_ = registry.add(name + ".output.bias", 1, width, false, init_of(InitKind::zeros));
  }
  std::int64_t output_width() const override { return width_; }
  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    joined_ = plan.matrix(rows, 3 * inner_);
    attended_ = plan.matrix(rows, inner_);
    log_sum_ = plan.matrix(rows, heads_);
  }
  void forward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const std::int64_t rows = run.x.rows;
    const Matrix<float> joined = plan.at(joined_, rows), attended = plan.at(attended_, rows);
    multiply(ctx, run.x, kernel_, bias_, joined);
    attention(ctx, {part(joined, 0), part(joined, 1), part(joined, 2), options(run), attended,
                    plan.at(log_sum_, rows)});
    multiply(ctx, attended, output_kernel_, output_bias_, run.y);
    if (residual_) add_matrix(ctx, run.x, run.y);
  }
  void backward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const std::int64_t rows = run.x.rows;
    const Matrix<float> joined = plan.at(joined_, rows), attended = plan.at(attended_, rows);
    ArenaScope scope(ctx);
    const auto scratch = [&](std::int64_t cols) {
      return Matrix<float>(ctx.arena().take<float>(rows * cols), rows, cols);
    };
    const Matrix<float> d_joined = scratch(3 * inner_), d_attended = scratch(inner_);
    multiply_grad(ctx, attended, output_kernel_, output_bias_, run.y, run.d_y, d_attended);
    attention_grad(ctx, {part(joined, 0), part(joined, 1), part(joined, 2), options(run), attended,
                         plan.at(log_sum_, rows), d_attended, part(d_joined, 0), part(d_joined, 1),
                         part(d_joined, 2)});
    multiply_grad(ctx, run.x, kernel_, bias_, joined, d_joined, run.d_x);
    if (residual_) add_matrix(ctx, run.d_y, run.d_x);
  }

 private:
  Matrix<float> part(Matrix<float> joined, std::int64_t number) const {
    return joined.columns(number * inner_, inner_);
  }
  AttentionOptions options(const LayerRun& run) const {
    return {.steps = run.steps, .heads = heads_, .mask = run.mask, .causal = causal_};
  }
  void multiply(const Context& ctx, Matrix<const float> x, int kernel, int bias, Matrix<float> y) {
    DenseCall call;
    call.x = x;
    call.kernel = registry_.at(kernel).matrix();
    if (bias >= 0) call.bias = as_vector(registry_.at(bias).value);
    call.y = y;
    dense(ctx, {&call, 1});
  }
  /// d_y is kept: its layer is linear.
  void multiply_grad(const Context& ctx, Matrix<const float> x, int kernel, int bias,
                     Matrix<const float> y, Matrix<float> d_y, Matrix<float> d_x) {
    DenseGradCall call;
    call.x = x;
    call.kernel = std::as_const(registry_).at(kernel).matrix();
    call.z = call.y = y;
    call.d_y = d_y;
    call.d_kernel = registry_.at(kernel).gradient_matrix();
    if (bias >= 0) call.d_bias = as_vector(registry_.at(bias).gradient);
    call.d_x = d_x;
    dense_grad(ctx, {&call, 1});
  }
  ParameterRegistry& registry_;
  std::int64_t width_, inner_, heads_;
  bool causal_, residual_;
  int kernel_ = -1, bias_ = -1, output_kernel_ = -1, output_bias_ = -1;
  int joined_ = -1, attended_ = -1, log_sum_ = -1;
};

/// The mean or the last of a sequence's steps.
class SequencePool : public Layer {
 public:
  SequencePool(std::int64_t width, SequencePooling pooling) : width_(width), pooling_(pooling) {}
  std::int64_t output_width() const override { return width_; }
  void plan(WorkspacePlan&, std::int64_t) override {}
  void forward(const Context& ctx, WorkspacePlan&, const LayerRun& run) override {
    sequence_pool(ctx, run.x, {run.steps, run.mask, pooling_}, run.y);
  }
  void backward(const Context& ctx, WorkspacePlan&, const LayerRun& run) override {
    sequence_pool_grad(ctx, run.d_y, {run.steps, run.mask, pooling_}, run.d_x);
  }

 private:
  std::int64_t width_;
  SequencePooling pooling_;
};

/// A row of its own for each step, added as a bias is: a sequence is one row of T D columns.
class PositionEmbedding : public Layer {
 public:
  PositionEmbedding(ParameterRegistry& registry, const std::string& name, std::int64_t width,
                    std::int64_t steps)
      : registry_(registry), width_(width) {
    InitConfig uniform;  // Keras's Embedding
    uniform.kind = InitKind::uniform;
    positions_ = registry.add(name + ".positions", steps, width, false, uniform);
  }
  std::int64_t output_width() const override { return width_; }
  void plan(WorkspacePlan& plan, std::int64_t rows) override {
    packed_ = plan.matrix(1, checked_product(rows, width_, "PositionEmbedding"));
  }
  void forward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const Matrix<float> packed = pack(ctx, plan, run.x);
    const Matrix<float> lists = lists_of(packed, run.steps);
    bias_act(ctx, lists, as_vector(registry_.at(positions_).value), Activation::linear, lists);
    copy_matrix(ctx, packed, run.y);
  }
  void backward(const Context& ctx, WorkspacePlan& plan, const LayerRun& run) override {
    const Matrix<float> lists = lists_of(pack(ctx, plan, run.d_y), run.steps);
    bias_act_grad(ctx, lists, lists, lists, Activation::linear, lists,
                  as_vector(registry_.at(positions_).gradient));
    copy_matrix(ctx, run.d_y, run.d_x);
  }

 private:
  /// A copy without gaps between its rows.
  Matrix<float> pack(const Context& ctx, WorkspacePlan& plan, Matrix<const float> x) {
    const Matrix<float> packed(plan.at(packed_, 1).data, x.rows, width_);
    copy_matrix(ctx, x, packed);
    return packed;
  }
  Matrix<float> lists_of(Matrix<float> packed, std::int64_t steps) const {
    return {packed.data, packed.rows / steps, steps * width_};
  }
  ParameterRegistry& registry_;
  std::int64_t width_;
  int positions_ = -1, packed_ = -1;
};

}  // namespace

std::int64_t head_width(const LayerConfig& config, std::int64_t width) {
  if (config.key_dim > 0) return config.key_dim;
  return width % config.num_heads == 0 ? width / config.num_heads : 0;
}

std::unique_ptr<Layer> make_sequence_layer(const LayerConfig& config, const std::string& name,
                                           std::int64_t width, std::int64_t steps,
                                           ParameterRegistry& registry) {
  switch (config.kind) {
    case LayerKind::gru:
      require(config.units.size() == 1, "make_sequence_layer: a gru has one width");
      return std::make_unique<Gru>(registry, name, width, config.units.front(), config.use_bias);
    case LayerKind::attention:
      return std::make_unique<SelfAttention>(registry, name, width, config);
    case LayerKind::sequence_pool:
      return std::make_unique<SequencePool>(width, config.sequence_pooling);
    case LayerKind::position_embedding:
      return std::make_unique<PositionEmbedding>(registry, name, width, steps);
    default:
      throw ContractError("make_sequence_layer: no layer of steps");
  }
}

}  // namespace belfry
