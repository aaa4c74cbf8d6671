// SPDX-License-Identifier: Apache-2.0
#include "engine/model.hpp"

#include "engine/error.hpp"

namespace belfry {

namespace {

/// What counts as seen: it is masked in the evaluation and left out of answers.
ItemLists seen_items(const Config& config, const ModelData& data) {
  std::vector<const Interactions*> parts{&data.train};
  if (config.evaluate.mask_validation) parts.push_back(&data.validation);
  return items_by_user(data.user_count(), data.item_count(), parts);
}

}  // namespace

Model::Model(const Context& ctx, Config config, ModelData data, std::filesystem::path checkpoints)
    : ctx_(ctx), state_(std::make_unique<LoadedModel>()), trainable_(true) {
  state_->config = std::move(config);
  state_->data = std::move(data);
  trainer_ = std::make_unique<Trainer>(ctx, state_->config, state_->data, std::move(checkpoints));
}

Model::Model(const Context& ctx, const std::filesystem::path& file)
    : ctx_(ctx), state_(load_model_file(ctx, file)), indexed_(true) {}

Model::~Model() = default;

TowerNetworks& Model::networks() {
  return trainer_ != nullptr ? trainer_->model() : *state_->model;
}

TrainOutcome Model::fit(std::int64_t epochs, TrainObserver& observer, const std::stop_token& stop) {
  if (!trainable_) {
    throw Error(ExitCode::usage, "fit", "this model is not to be trained",
                "one that was read from a file only answers");
  }
  indexed_ = false;
  state_->config.train.epochs = epochs;
  return trainer_->run(observer, stop);
}

void Model::end_training() {
  if (trainable_) networks().registry().release_training();
  trainable_ = false;
}

ModelView Model::view() {
  if (!indexed_) {
    state_->index.reset();  // its room is wanted again
    state_->index = build_index(ctx_, networks(), state_->data);
    if (state_->seen.offsets.empty()) state_->seen = seen_items(state_->config, state_->data);
    indexed_ = true;
  }
  return {state_->config, state_->data, state_->seen, networks(), state_->index.get()};
}

Evaluation Model::evaluate(const Interactions& rows, std::uint64_t seed,
                           const std::vector<std::string>& metrics) {
  const ModelView now = view();
  EvaluationOptions options;
  for (const std::string& name : metrics.empty() ? config().evaluate.metrics : metrics) {
    const auto metric = parse_metric(name);
    if (!metric) throw Error(ExitCode::usage, "metrics", "unknown metric \"" + name + "\"");
    options.metrics.push_back(*metric);
  }
  if (options.metrics.empty()) options.metrics = default_metrics(config().preset);
  options.exclude_seen = config().evaluate.exclude_seen;
  options.seed = seed;
  return belfry::evaluate(ctx_, *now.model, now.config, now.data, now.index, now.seen, rows,
                          options);
}

void Model::save(const std::filesystem::path& file) {
  const ModelView now = view();
  write_model_file(ctx_, file, now.config, now.data, now.seen, *now.model, now.index);
}

}  // namespace belfry
