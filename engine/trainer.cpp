// SPDX-License-Identifier: Apache-2.0
#include "engine/trainer.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "engine/error.hpp"

namespace belfry {

namespace {
double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
}  // namespace

Trainer::Trainer(const Context& ctx, const Config& config, const ModelData& data,
                 std::filesystem::path checkpoints)
    : ctx_(ctx),
      config_(config),
      data_(data),
      checkpoints_(std::move(checkpoints)),
      stream_(data, config.train, config.tasks.front()),
      model_(ctx, config, data, stream_.batch_size(), stream_.max_candidates(), true),
      task_(config.tasks.front(), model_.graph(), model_.plan(), stream_.batch_size(),
            stream_.max_candidates()),
      optimizer_(config.optimizer, model_.registry()) {
  model_.commit(ctx);
  model_.registry().initialise(ctx, config.train.seed);
  *ctx.state() = StepState{};
  ctx.state()->seed = config.train.seed;
  if (config.train.early_stop) {
    train_items_ = items_by_user(data.user_count(), data.item_count(), {&data.train});
  }
}

double Trainer::train_step(std::int64_t epoch, std::int64_t step) {
  NetworkGraph& graph = model_.graph();
  double loss = 0;
  const Batch& batch = stream_.make(ctx_, epoch, step);
  graph.forward(ctx_, batch.ids, batch.queries, batch.candidates);
  graph.clear_gradients();
  task_.run(ctx_, graph, batch, &loss);
  graph.backward(ctx_, batch.ids);
  optimizer_.step(ctx_, graph);
  check_status();
  return task_.config().mean_reduction ? loss * static_cast<double>(batch.queries) : loss;
}

void Trainer::check_status() const {
  const std::uint32_t status = ctx_.state()->status;
  if (status == 0) return;
  const std::string where = fmt::format("step {}", ctx_.state()->step);
  if ((status & kStatusIdOutOfRange) != 0) {
    throw ContractError(where + ": an id lies outside of its table");
  }
  throw Error(
      ExitCode::numerical, where, "the loss or a weight is no longer finite",
      "a smaller optimizer.learning_rate or a larger task.temperature may help; nothing was saved");
}

bool Trainer::train_epoch(TrainObserver& observer, const std::stop_token& stop) {
  const std::int64_t steps = stream_.steps_per_epoch();
  const double start = now();
  while (step_ < steps) {
    if (stop.stop_requested()) {
      save_checkpoint();
      return false;
    }
    const std::int64_t rows =
        std::min(stream_.batch_size(), data_.train.size() - step_ * stream_.batch_size());
    epoch_loss_ += train_step(epoch_, step_);
    epoch_examples_ += rows;
    ++step_;
    observer.step({epoch_ + 1, config_.train.epochs, step_, steps, epoch_examples_,
                   std::min(steps * stream_.batch_size(), data_.train.size()),
                   epoch_loss_ / static_cast<double>(epoch_examples_)});
    const std::int64_t every = config_.train.checkpoint_steps;
    if (every > 0 && step_ < steps && ctx_.state()->step % every == 0) save_checkpoint();
  }
  epoch_seconds_ = now() - start;
  return true;
}

void Trainer::end_epoch(TrainObserver& observer) {
  EpochReport report;
  report.epoch = epoch_ + 1;
  report.steps = step_;
  report.examples = epoch_examples_;
  report.loss_mean = epoch_loss_ / static_cast<double>(std::max<std::int64_t>(1, epoch_examples_));
  report.seconds = epoch_seconds_;
  ++epoch_;
  step_ = 0;
  epoch_loss_ = 0;
  epoch_examples_ = 0;
  if (config_.train.early_stop && data_.validation.size() > 0) {
    const double metric = validation_metric();
    report.validation = metric;
    report.best = best_epoch_ == 0 || metric > best_metric_;
    if (report.best) {
      best_metric_ = metric;
      best_epoch_ = epoch_;
      epochs_without_gain_ = 0;
      save_best();
    } else {
      ++epochs_without_gain_;
    }
  }
  // Told before it is saved: what was told twice after a kill is known by its number.
  observer.epoch(report);
  save_checkpoint();
}

TrainOutcome Trainer::run(TrainObserver& observer, const std::stop_token& stop) {
  const auto patience = config_.train.early_stop ? config_.train.early_stop->patience : 0;
  while (epoch_ < config_.train.epochs) {
    if (best_epoch_ > 0 && epochs_without_gain_ >= patience) {
      observer.note(fmt::format("stopped early: {} has not risen since epoch {}",
                                config_.train.early_stop->metric, best_epoch_));
      break;
    }
    if (!train_epoch(observer, stop)) return TrainOutcome::stopped;
    end_epoch(observer);
  }
  if (best_epoch_ > 0 && best_epoch_ != epoch_) load_best();
  return TrainOutcome::finished;
}

double Trainer::validation_metric() {
  EvaluationOptions options;
  options.metrics = {*parse_metric(config_.train.early_stop->metric)};
  options.exclude_seen = config_.evaluate.exclude_seen;
  options.baselines = false;
  const ItemIndex index = build_index(ctx_, model_, data_);
  const Evaluation result =
      evaluate(ctx_, model_, data_, index, train_items_, data_.validation, options);
  return result.metrics.empty() ? 0.0 : result.metrics.begin()->second;
}

}  // namespace belfry
