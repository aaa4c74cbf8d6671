// SPDX-License-Identifier: Apache-2.0
// Learning rates over steps, as Keras's schedules define them.
#pragma once

#include <cstdint>

#include "engine/config.hpp"

namespace belfry {

/// Throws Error(usage) at `place` unless the schedule can be evaluated at every step.
void check_schedule(const ScheduleConfig& schedule, const SourcePlace& place);

/// The rate of update number `step` (from 0), for a schedule that check_schedule accepts.
///   constant         base
///   exponential      base decay_rate ^ (step / decay_steps)            staircase: the exponent floored
///   inverse_time     base / (1 + decay_rate step / decay_steps)        staircase: the quotient floored
///   polynomial       (base - end) (1 - p)^power + end, p = min(step, decay_steps) / decay_steps;
///                    cycle: decay_steps grows to its next multiple >= step instead
///   piecewise        values[i], i the first with step <= boundaries[i]; base is not used
///   cosine           top ((1 - alpha) (1 + cos(pi p)) / 2 + alpha), p = min(step, decay_steps) / decay_steps.
///                    warmup_steps > 0: first linearly from base to top = warmup_target, then p counts
///                    from there; otherwise top = base
///   cosine_restarts  the same in periods of decay_steps, decay_steps t_mul, ..., their height (but not
///                    the floor alpha) times m_mul each
/// Evaluated in float32 as in Keras: a rate is what its optimizer would have seen, up to the last bits.
float learning_rate(const ScheduleConfig& schedule, double base_rate, std::int64_t step);

}  // namespace belfry
