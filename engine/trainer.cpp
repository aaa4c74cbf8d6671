// SPDX-License-Identifier: Apache-2.0
#include "engine/trainer.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "engine/error.hpp"
#include "engine/rating_evaluation.hpp"
#include "kernels/step/step.hpp"

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
      own_folder_(checkpoints.empty() ? std::make_unique<TemporaryFolder>() : nullptr),
      checkpoints_(own_folder_ ? own_folder_->path() : std::move(checkpoints)),
      stream_(data, config.train, config.tasks),
      model_(ctx, config, data, stream_.batch_size(), stream_.max_candidates(), true),
      tasks_(make_tasks(config.tasks, model_.graph(), model_.plan(), stream_.batch_size(),
                        stream_.max_candidates(), config.train.precision, model_.heads())),
      optimizer_(config.optimizer, model_.registry()) {
  for (const TaskConfig& task : config.tasks) mean_loss_ &= task.mean_reduction;
  model_.commit(ctx);
  model_.registry().initialise(ctx, config.train.seed);
  ctx.write_state(StepState{});
  queue_ = make_step_queue(ctx, config.train.device_data, step_parts());
  if (config.train.early_stop) {
    train_items_ = items_by_user(data.user_count(), data.item_count(), {&data.train});
  }
}

StepParts Trainer::step_parts() {
  return {.registry = model_.registry(),
          .stream = stream_,
          .step = [this](const Context& ctx, const Batch& batch, const StepState* next,
                         double* loss) { make_update(ctx, batch, next, loss); },
          .state = [this](std::int64_t epoch, std::int64_t step,
                          std::int64_t update) { return state_of(epoch, step, update); },
          .table_ids =
              [this](int parameter, const Batch& batch) {
                return model_.graph().table_ids(parameter, batch.features, batch.queries,
                                                batch.candidates);
              }};
}

void Trainer::make_update(const Context& ctx, const Batch& batch, const StepState* next,
                          double* loss) {
  NetworkGraph& graph = model_.graph();
  begin_step(ctx, next);
  graph.forward(ctx, batch.features, batch.queries, batch.candidates, nullptr, true);
  graph.clear_gradients(ctx);
  for (const auto& task : tasks_) task->run(ctx, graph, batch, loss, task != tasks_.front());
  graph.backward(ctx, batch.features);
  optimizer_.step(ctx, graph, batch.plans, loss);
}

StepState Trainer::state_of(std::int64_t epoch, std::int64_t step, std::int64_t update) const {
  StepState state;
  state.step = update;
  state.seed = config_.train.seed;
  state.epoch = static_cast<std::uint64_t>(epoch);
  state.row_offset = step * stream_.batch_size();
  state.batch_rows = stream_.rows_of(step);
  optimizer_.set_learning_rates(state);
  return state;
}

double Trainer::summed(double loss, std::int64_t step) const {
  return mean_loss_ ? loss * static_cast<double>(stream_.rows_of(step)) : loss;
}

double Trainer::train_step(std::int64_t epoch, std::int64_t step) {
  queue_->submit({epoch, step, 1, updates_});
  const ChunkResult result = queue_->collect();
  ++updates_;
  check_status(result);
  return summed(result.losses.front(), step);
}

void Trainer::check_status(const ChunkResult& result) const {
  if (result.status == 0) return;
  std::size_t i = 0;  // the step is known where its loss shows it
  while (i + 1 < result.losses.size() && std::isfinite(result.losses[i])) ++i;
  const std::string where =
      fmt::format("step {}", result.chunk.update + static_cast<std::int64_t>(i) + 1);
  if ((result.status & kStatusIdOutOfRange) != 0) {
    throw ContractError(where + ": an id lies outside of its table");
  }
  throw Error(
      ExitCode::numerical, where, "the loss or a weight is no longer finite",
      "a smaller optimizer.learning_rate or a larger task.temperature may help; nothing was saved");
}

/// Steps until the end of the epoch or the next checkpoint, as many as a chunk takes.
std::int64_t Trainer::submit_steps(std::int64_t submitted) {
  const std::int64_t every = config_.train.checkpoint_steps;
  std::int64_t count = std::min(queue_->chunk_steps(), stream_.steps_per_epoch() - submitted);
  const std::int64_t update = updates_ + submitted - step_;
  if (every > 0) count = std::min(count, every - update % every);
  queue_->submit({epoch_, submitted, count, update});
  return count;
}

void Trainer::collect_steps(TrainObserver& observer) {
  const ChunkResult result = queue_->collect();
  check_status(result);
  const std::int64_t steps = stream_.steps_per_epoch();
  for (const double loss : result.losses) {
    epoch_loss_ += summed(loss, step_);
    epoch_examples_ += stream_.rows_of(step_);
    ++step_;
    ++updates_;
    observer.step({epoch_ + 1, config_.train.epochs, step_, steps, epoch_examples_,
                   std::min(steps * stream_.batch_size(), stream_.rows()),
                   epoch_loss_ / static_cast<double>(epoch_examples_)});
  }
}

bool Trainer::train_epoch(TrainObserver& observer, const std::stop_token& stop) {
  const std::int64_t steps = stream_.steps_per_epoch(), every = config_.train.checkpoint_steps;
  const double start = now();
  std::int64_t submitted = step_;
  while (step_ < steps) {
    const bool stopping = stop.stop_requested();
    if (stopping && queue_->under_way() == 0) {
      save_checkpoint();
      return false;
    }
    // A checkpoint holds the parameters as they are: nothing may be under way beyond its step.
    const auto at_checkpoint = [&] {
      return every > 0 && submitted > step_ && (updates_ + submitted - step_) % every == 0;
    };
    while (!stopping && submitted < steps && queue_->has_room() && !at_checkpoint()) {
      submitted += submit_steps(submitted);
    }
    collect_steps(observer);
    if (every > 0 && step_ < steps && queue_->under_way() == 0 && updates_ % every == 0) {
      save_checkpoint();
    }
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
    report.validation = validation_metric();
  }
  if (report.validation) {
    const double metric = *report.validation;
    const bool smaller = smaller_is_better(config_.train.early_stop->metric);
    report.best = best_epoch_ == 0 || (smaller ? metric < best_metric_ : metric > best_metric_);
    if (report.best) {
      best_metric_ = metric;
      best_epoch_ = epoch_;
      epochs_without_gain_ = 0;
      save_best();
    } else {
      ++epochs_without_gain_;
    }
  }
  if (config_.train.early_stop && data_.validation.size() > 0 && !report.validation &&
      epoch_ == 1) {
    observer.note(fmt::format("the validation rows say nothing of {}: no early stop",
                              config_.train.early_stop->metric));
  }
  // Told before it is saved: what was told twice after a kill is known by its number.
  observer.epoch(report);
  save_checkpoint();
}

TrainOutcome Trainer::run(TrainObserver& observer, const std::stop_token& stop) {
  const auto patience = config_.train.early_stop ? config_.train.early_stop->patience : 0;
  while (epoch_ < config_.train.epochs) {
    if (best_epoch_ > 0 && epochs_without_gain_ >= patience) {
      observer.note(fmt::format("stopped early: {} is no better since epoch {}",
                                config_.train.early_stop->metric, best_epoch_));
      break;
    }
    if (!train_epoch(observer, stop)) return TrainOutcome::stopped;
    end_epoch(observer);
  }
  if (best_epoch_ > 0 && best_epoch_ != epoch_) load_best();
  return TrainOutcome::finished;
}

std::optional<double> Trainer::validation_metric() {
  const std::string& name = config_.train.early_stop->metric;
  if (is_rating_metric(name)) {
    const MetricMap metrics = evaluate_ratings(ctx_, model_, config_, data_, data_.validation);
    const auto at = metrics.find(name);
    if (at == metrics.end()) return std::nullopt;
    return at->second;
  }
  EvaluationOptions options;
  options.metrics = {*parse_metric(config_.train.early_stop->metric)};
  options.exclude_seen = config_.evaluate.exclude_seen;
  options.baselines = false;
  const auto index = build_index(ctx_, model_, data_);
  const Evaluation result =
      evaluate(ctx_, model_, config_, data_, index.get(), train_items_, data_.validation, options);
  const auto at = result.metrics.find(options.metrics.front().name());
  return at == result.metrics.end() ? 0.0 : at->second;
}

}  // namespace belfry
