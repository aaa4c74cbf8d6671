// SPDX-License-Identifier: Apache-2.0
// Every table and weight by name, with its optimizer slots. Checkpoints, optimizers and exports iterate
// over it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/config.hpp"
#include "engine/safetensors.hpp"
#include "kernels/core/bf16.hpp"
#include "kernels/core/buffer.hpp"
#include "kernels/core/context.hpp"
#include "kernels/penalty/penalty.hpp"

namespace belfry {

struct Parameter {
  std::string name;  ///< "user_id.embedding", "query.0.kernel", "query.0.bias"
  std::int64_t rows = 0, cols = 0;
  bool table = false;  ///< its gradient comes as distinct rows
  InitConfig init;
  bool half = false;     ///< a table stored in bf16: value16 instead of value
  Buffer<float> value;   ///< [rows, cols]
  Buffer<bf16> value16;  ///< [rows, cols]
  Penalty penalty;       ///< joins the loss of every step
  PenaltyRows penalty_rows = PenaltyRows::batch;  ///< tables: which rows it counts
  /// [rows, cols] in training, of dense parameters and of tables all of whose rows are penalised.
  Buffer<float> gradient;
  Buffer<std::int32_t> every_row;    ///< 0 .. rows - 1, of such a table in bf16
  Buffer<std::int64_t> row_count;    ///< rows
  std::vector<Buffer<float>> slots;  ///< optimizer state
  OptimizerOptions optimizer;        ///< options.group indexes StepState::learning_rate
  float initial_accumulator = 0;     ///< first value of the first slot

  Matrix<float> matrix() { return value.matrix(rows, cols); }
  Matrix<const float> matrix() const { return value.matrix(rows, cols); }
  Matrix<bf16> matrix16() { return {value16.data(), rows, cols}; }
  /// Whether its gradient has every row, as that of a dense parameter.
  bool dense_gradient() const {
    return !table || (!penalty.none() && penalty_rows == PenaltyRows::all);
  }
  Matrix<float> gradient_matrix() { return gradient.matrix(rows, cols); }
};

class ParameterRegistry {
 public:
  /// Told of each parameter before its memory is taken, and may throw: name, rows, columns, whether in bf16.
  using Expect =
      std::function<void(const std::string& name, std::int64_t rows, std::int64_t cols, bool half)>;

  explicit ParameterRegistry(Backend backend, Expect expect = {})
      : backend_(backend), expect_(std::move(expect)) {}

  /// For sizes alone: parameters added from here on take no memory, and cannot be used.
  void measure_only() { measures_ = true; }
  /// Registers a parameter (the name must be new) and returns its number. Memory is taken here.
  int add(const std::string& name, std::int64_t rows, std::int64_t cols, bool table,
          const InitConfig& init, bool half = false);
  int size() const { return static_cast<int>(parameters_.size()); }
  Parameter& at(int number) { return parameters_[static_cast<std::size_t>(number)]; }
  const Parameter& at(int number) const { return parameters_[static_cast<std::size_t>(number)]; }
  /// -1 when there is none.
  int find(const std::string& name) const;

  /// Numbers the layers of a model that draw: no two of them draw alike.
  std::uint32_t next_random_stream() { return random_streams_++; }

  /// Moves all dense parameters, still zero, into one block, in order: so the layers of both towers lie at
  /// the same distance in every run, and are batched, or not, alike. Called once, when all are registered.
  void join_dense();
  /// Draws all initial values: element i of parameter p is a function of (seed, name of p, i) alone.
  void initialise(const Context& ctx, std::uint64_t seed);
  /// Error(usage) at the place of a group that fits no parameter.
  void check_groups(const OptimizerConfig& config) const;
  /// Values, dense gradients and optimizer slots in training.
  std::int64_t training_bytes(const OptimizerConfig& config) const;
  /// Chooses each parameter's optimizer by the config's groups and allocates slots and gradients. Errors as
  /// check_groups.
  void prepare_training(const OptimizerConfig& config);

  /// Gives back gradients and optimizer slots once training is over.
  void release_training();

  /// Values (and slots) for a file, which are taken when it is written: until then they and `ctx` stay.
  void add_to(const Context& ctx, SafetensorsWriter& writer, bool with_slots) const;
  /// Reads values (and slots) whose names and shapes must match; Error(bad_model) otherwise.
  void read_from(const Context& ctx, const SafetensorsFile& file, bool with_slots);
  std::int64_t bytes() const;  ///< values, gradients and slots

 private:
  Buffer<float> dense_block(Buffer<float> Parameter::*member);
  void list_every_row(Parameter& p);
  static const OptimizerGroupConfig& group_of(const OptimizerConfig& config, const Parameter& p);

  Backend backend_;
  Expect expect_;
  bool measures_ = false;
  std::uint32_t random_streams_ = 0;
  Buffer<float> dense_values_, dense_gradients_;  // of parameters that are no tables
  std::deque<Parameter> parameters_;
};

/// Shell-style match with '*' and '?'.
bool glob_match(const std::string& pattern, const std::string& text);

}  // namespace belfry
