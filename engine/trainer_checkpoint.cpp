// SPDX-License-Identifier: Apache-2.0
// What a training checkpoint holds: every parameter and optimizer slot, and where training stands.
#include <fmt/format.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "engine/checkpoint_store.hpp"
#include "engine/error.hpp"
#include "engine/safetensors.hpp"
#include "engine/trainer.hpp"

namespace belfry {

namespace {

constexpr const char* kStateFile = "state.safetensors";

void write_parameters(const Context& ctx, const ParameterRegistry& registry, bool with_slots,
                      const std::filesystem::path& path) {
  SafetensorsWriter writer;
  registry.add_to(ctx, writer, with_slots);
  OutputFile file(path);
  writer.write(file);
  file.commit();
}

std::uint64_t bits(double value) {
  return std::bit_cast<std::uint64_t>(value);
}
/// What the batches of an epoch depend on, beside the data.
nlohmann::json batches_of(const TrainConfig& train) {
  return {{"seed", train.seed},
          {"batch_size", train.batch_size},
          {"shuffle", static_cast<int>(train.shuffle)},
          {"drop_remainder", train.drop_remainder}};
}
double from_bits(const nlohmann::json& json, const char* key) {
  return std::bit_cast<double>(json.at(key).get<std::uint64_t>());
}

}  // namespace

std::filesystem::path Trainer::best_file(std::int64_t epoch) const {
  return checkpoints_ / fmt::format("best-{}.safetensors", epoch);
}

void Trainer::save_best() {
  make_directory(checkpoints_);
  write_parameters(ctx_, model_.registry(), false, best_file(best_epoch_));
}

void Trainer::load_best() {
  model_.registry().read_from(ctx_, SafetensorsFile(best_file(best_epoch_)), false);
}

/// Once a checkpoint names the newest best file, older ones are of no use.
void Trainer::remove_other_best_files() const {
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints_)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("best-", 0) == 0 && entry.path() != best_file(best_epoch_)) {
      std::error_code ignored;
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

void Trainer::save_checkpoint() {
  if (own_folder_) return remove_other_best_files();
  nlohmann::json state;
  state["data_fingerprint"] = data_.fingerprint;
  state["epoch"] = epoch_;
  state["step_of_epoch"] = step_;
  state["step"] = updates_;
  state["batches"] = batches_of(config_.train);
  state["epoch_loss_bits"] = bits(epoch_loss_);
  state["epoch_examples"] = epoch_examples_;
  state["best_epoch"] = best_epoch_;
  state["best_metric_bits"] = bits(best_metric_);
  state["epochs_without_gain"] = epochs_without_gain_;
  CheckpointWriter writer(checkpoints_, updates_);
  write_parameters(ctx_, model_.registry(), true, writer.add(kStateFile));
  writer.commit(state.dump());
  prune_checkpoints(checkpoints_, config_.train.keep_checkpoints);
  remove_other_best_files();
}

bool Trainer::restore(TrainObserver& observer) {
  std::vector<std::string> warnings;
  const auto checkpoint = newest_valid_checkpoint(checkpoints_, warnings);
  for (const std::string& warning : warnings) observer.note("checkpoint passed over: " + warning);
  if (!checkpoint) return false;
  const std::string where = checkpoint->path().string();
  nlohmann::json state;
  try {
    state = nlohmann::json::parse(checkpoint->metadata());
    if (state.at("data_fingerprint").get<std::string>() != data_.fingerprint) {
      throw Error(ExitCode::bad_model, where,
                  "the data is not the data that this run was trained on",
                  "start a new run with `belfry train`");
    }
    epoch_ = state.at("epoch").get<std::int64_t>();
    step_ = state.at("step_of_epoch").get<std::int64_t>();
    if (step_ > 0 && state.at("batches") != batches_of(config_.train)) {
      throw Error(ExitCode::usage, where,
                  fmt::format("the run stands inside epoch {}, whose batches must stay the same",
                              epoch_ + 1),
                  "train.seed, batch_size, shuffle and drop_remainder can change between epochs");
    }
    epoch_loss_ = from_bits(state, "epoch_loss_bits");
    epoch_examples_ = state.at("epoch_examples").get<std::int64_t>();
    best_epoch_ = state.at("best_epoch").get<std::int64_t>();
    best_metric_ = from_bits(state, "best_metric_bits");
    epochs_without_gain_ = state.at("epochs_without_gain").get<std::int64_t>();
    updates_ = state.at("step").get<std::int64_t>();
    if (epoch_ < 0 || step_ < 0 || step_ >= stream_.steps_per_epoch() || best_epoch_ < 0 ||
        best_epoch_ > epoch_ || updates_ < 0) {
      throw Error(ExitCode::bad_model, where, "it says that training stands where it cannot");
    }
  } catch (const nlohmann::json::exception& e) {
    throw Error(ExitCode::bad_model, where, fmt::format("its state cannot be read ({})", e.what()));
  }
  model_.registry().read_from(ctx_, SafetensorsFile(checkpoint->file(kStateFile)), true);
  return true;
}

}  // namespace belfry
