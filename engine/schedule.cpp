// SPDX-License-Identifier: Apache-2.0
#include "engine/schedule.hpp"

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"

namespace belfry {

namespace {

constexpr float kPi = 3.14159265358979323846f;

/// step / decay_steps, or its whole part.
float periods(const ScheduleConfig& s, float step) {
  const float p = step / static_cast<float>(s.decay_steps);
  return s.staircase ? std::floor(p) : p;
}

float polynomial(const ScheduleConfig& s, float base, float step) {
  const float end = static_cast<float>(s.end_learning_rate);
  float length = static_cast<float>(s.decay_steps);
  if (s.cycle) {
    if (step > 0) length *= std::ceil(step / length);
  } else {
    step = std::min(step, length);
  }
  return (base - end) * std::pow(1.0f - step / length, static_cast<float>(s.power)) + end;
}

float cosine(const ScheduleConfig& s, float base, float step) {
  const float alpha = static_cast<float>(s.alpha), length = static_cast<float>(s.decay_steps);
  const float warm = static_cast<float>(s.warmup_steps);
  float top = base;
  if (warm > 0) {
    top = static_cast<float>(s.warmup_target);
    if (step < warm) return (top - base) * (step / warm) + base;
    step -= warm;
  }
  const float p = std::min(step, length) / length;
  return top * ((1.0f - alpha) * (0.5f * (1.0f + std::cos(kPi * p))) + alpha);
}

float cosine_restarts(const ScheduleConfig& s, float base, float step) {
  const float alpha = static_cast<float>(s.alpha);
  double length = s.decay_steps, start = 0, height = 1;
  if (s.t_mul == 1) {
    const double period = std::floor(static_cast<double>(step) / length);
    start = period * length;
    height = std::pow(s.m_mul, period);
  } else {
    while (static_cast<double>(step) >=
           start + length) {  // ends: lengths grow by a constant factor
      start += length;
      length *= s.t_mul;
      height *= s.m_mul;
    }
  }
  const float p = static_cast<float>((static_cast<double>(step) - start) / length);
  const float wave = 0.5f * static_cast<float>(height) * (1.0f + std::cos(kPi * p));
  return base * ((1.0f - alpha) * wave + alpha);
}

}  // namespace

void check_schedule(const ScheduleConfig& schedule, const SourcePlace& place) {
  const auto need = [&](bool condition, const char* what) {
    if (!condition) throw Error(ExitCode::usage, place, what);
  };
  const bool decays =
      schedule.kind != ScheduleKind::constant && schedule.kind != ScheduleKind::piecewise;
  need(!decays || (schedule.decay_steps > 0 && std::isfinite(schedule.decay_steps)),
       "the schedule's decay_steps must be positive");
  switch (schedule.kind) {
    case ScheduleKind::exponential:
      need(schedule.decay_rate > 0, "the schedule's decay_rate must be positive");
      break;
    case ScheduleKind::inverse_time:
      need(schedule.decay_rate >= 0, "the schedule's decay_rate must not be negative");
      break;
    case ScheduleKind::polynomial:
      need(schedule.power > 0, "the schedule's power must be positive");
      break;
    case ScheduleKind::cosine:
      need(schedule.warmup_steps >= 0, "the schedule's warmup_steps must not be negative");
      break;
    case ScheduleKind::cosine_restarts:
      need(schedule.t_mul >= 1, "the schedule's t_mul must be at least 1");
      break;
    case ScheduleKind::piecewise:
      need(schedule.values.size() == schedule.boundaries.size() + 1,
           "a piecewise schedule needs one value more than boundaries");
      need(std::is_sorted(schedule.boundaries.begin(), schedule.boundaries.end()),
           "the schedule's boundaries must ascend");
      break;
    case ScheduleKind::constant:
      break;
  }
}

float learning_rate(const ScheduleConfig& schedule, double base_rate, std::int64_t step) {
  const float base = static_cast<float>(base_rate), at = static_cast<float>(step);
  switch (schedule.kind) {
    case ScheduleKind::constant:
      return base;
    case ScheduleKind::exponential:
      return base * std::pow(static_cast<float>(schedule.decay_rate), periods(schedule, at));
    case ScheduleKind::inverse_time:
      return base / (1.0f + static_cast<float>(schedule.decay_rate) * periods(schedule, at));
    case ScheduleKind::polynomial:
      return polynomial(schedule, base, at);
    case ScheduleKind::cosine:
      return cosine(schedule, base, at);
    case ScheduleKind::cosine_restarts:
      return cosine_restarts(schedule, base, at);
    case ScheduleKind::piecewise: {
      const auto passed = std::lower_bound(schedule.boundaries.begin(), schedule.boundaries.end(),
                                           static_cast<double>(step));
      return static_cast<float>(schedule.values[passed - schedule.boundaries.begin()]);
    }
  }
  return base;
}

}  // namespace belfry
