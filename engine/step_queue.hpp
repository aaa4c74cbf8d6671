// SPDX-License-Identifier: Apache-2.0
// StepQueue: training steps go in, in order; their losses come out later. On the CPU a step is done when it
// is submitted. On the device whole chunks of steps are captured graphs, and the host only waits for losses
// of chunks that lie behind the one at work.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/batch_stream.hpp"
#include "engine/parameter_registry.hpp"
#include "kernels/core/context.hpp"

namespace belfry {

/// Steps [first, first + count) of `epoch`, the first of which is update number `update` (from 0).
struct Chunk {
  std::int64_t epoch = 0, first = 0, count = 0, update = 0;
};

/// What came back of a chunk.
struct ChunkResult {
  Chunk chunk;
  std::vector<double> losses;  ///< of each step, as the task summed it
  std::uint32_t status = 0;    ///< StatusBit, of all steps so far
};

/// All that a step does once its batch is there; `next` and `loss` lie in the backend's memory. Runs on the
/// device as it is, or while a graph is captured: it neither allocates nor waits.
using StepFunction = std::function<void(const Context& ctx, const Batch& batch,
                                        const StepState* next, double* loss)>;
/// The ids of a table in a batch, in the order of its uses in the step (NetworkGraph::table_ids).
using TableIdsFunction = std::function<std::vector<TableIds>(int parameter, const Batch& batch)>;
/// The state with which update number `update`, of step `step` in `epoch`, is made.
using StateFunction =
    std::function<StepState(std::int64_t epoch, std::int64_t step, std::int64_t update)>;

class StepQueue {
 public:
  virtual ~StepQueue() = default;
  /// Steps that a chunk may have.
  virtual std::int64_t chunk_steps() const = 0;
  /// Whether another chunk may be submitted before the oldest is collected.
  virtual bool has_room() const = 0;
  virtual std::int64_t under_way() const = 0;  ///< chunks submitted and not collected
  virtual void submit(const Chunk& chunk) = 0;
  /// The result of the oldest chunk; waits for it.
  virtual ChunkResult collect() = 0;
};

/// What a queue is made of. The references must outlive it.
struct StepParts {
  const ParameterRegistry& registry;
  BatchStream& stream;
  StepFunction step;
  StateFunction state;
  TableIdsFunction table_ids;
};

/// The queue of ctx's backend.
std::unique_ptr<StepQueue> make_step_queue(const Context& ctx, DataPlacement placement,
                                           StepParts parts);

}  // namespace belfry
