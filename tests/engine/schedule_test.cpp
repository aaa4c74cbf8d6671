// SPDX-License-Identifier: Apache-2.0
#include "engine/schedule.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/error.hpp"

namespace belfry::test {
namespace {

ScheduleConfig schedule(ScheduleKind kind, double decay_steps = 10) {
  ScheduleConfig s;
  s.kind = kind;
  s.decay_steps = decay_steps;
  return s;
}

TEST(Schedule, Constant) {
  EXPECT_EQ(learning_rate({}, 0.3, 0), 0.3f);
  EXPECT_EQ(learning_rate({}, 0.3, 1'000'000'000), 0.3f);
}

TEST(Schedule, Exponential) {
  ScheduleConfig s = schedule(ScheduleKind::exponential);
  s.decay_rate = 0.25;
  EXPECT_FLOAT_EQ(learning_rate(s, 2, 0), 2);
  EXPECT_FLOAT_EQ(learning_rate(s, 2, 5), 1);
  EXPECT_FLOAT_EQ(learning_rate(s, 2, 20), 0.125);
  s.staircase = true;
  EXPECT_FLOAT_EQ(learning_rate(s, 2, 9), 2);
  EXPECT_FLOAT_EQ(learning_rate(s, 2, 10), 0.5);
  EXPECT_EQ(learning_rate(s, 2, 100000), 0);
}

TEST(Schedule, InverseTime) {
  ScheduleConfig s = schedule(ScheduleKind::inverse_time);
  s.decay_rate = 0.5;
  EXPECT_FLOAT_EQ(learning_rate(s, 3, 0), 3);
  EXPECT_FLOAT_EQ(learning_rate(s, 3, 5), 2.4f);
  EXPECT_FLOAT_EQ(learning_rate(s, 3, 40), 1);
  s.staircase = true;
  EXPECT_FLOAT_EQ(learning_rate(s, 3, 19), 2);
}

TEST(Schedule, Polynomial) {
  ScheduleConfig s = schedule(ScheduleKind::polynomial);
  s.end_learning_rate = 1;
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 0), 5);
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 5), 3);
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 10), 1);
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 999), 1);
  s.power = 2;
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 5), 2);
  s.cycle = true;  // at 15 the period is 20: a quarter is left
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 0), 5);
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 10), 1);
  EXPECT_FLOAT_EQ(learning_rate(s, 5, 15), 1.25);
}

TEST(Schedule, Piecewise) {
  ScheduleConfig s = schedule(ScheduleKind::piecewise, 0);
  s.boundaries = {10, 20};
  s.values = {3, 2, 1};
  EXPECT_EQ(learning_rate(s, 99, 0), 3);
  EXPECT_EQ(learning_rate(s, 99, 10), 3) << "a boundary belongs to the part before it";
  EXPECT_EQ(learning_rate(s, 99, 11), 2);
  EXPECT_EQ(learning_rate(s, 99, 20), 2);
  EXPECT_EQ(learning_rate(s, 99, 21), 1);
  s.boundaries = {};
  s.values = {7};
  EXPECT_EQ(learning_rate(s, 99, 5), 7);
}

TEST(Schedule, Cosine) {
  ScheduleConfig s = schedule(ScheduleKind::cosine);
  EXPECT_FLOAT_EQ(learning_rate(s, 2, 0), 2);
  EXPECT_NEAR(learning_rate(s, 2, 5), 1, 1e-6);
  EXPECT_NEAR(learning_rate(s, 2, 10), 0, 1e-6);
  EXPECT_NEAR(learning_rate(s, 2, 11), 0, 1e-6);
  s.alpha = 0.5;
  EXPECT_NEAR(learning_rate(s, 2, 5), 1.5, 1e-6);
  EXPECT_NEAR(learning_rate(s, 2, 50), 1, 1e-6);
}

TEST(Schedule, CosineWarmUp) {
  ScheduleConfig s = schedule(ScheduleKind::cosine);
  s.warmup_steps = 4;
  s.warmup_target = 3;
  EXPECT_FLOAT_EQ(learning_rate(s, 1, 0), 1);
  EXPECT_FLOAT_EQ(learning_rate(s, 1, 2), 2);
  EXPECT_FLOAT_EQ(learning_rate(s, 1, 4), 3);
  EXPECT_NEAR(learning_rate(s, 1, 9), 1.5, 1e-6);
  EXPECT_NEAR(learning_rate(s, 1, 14), 0, 1e-6);
  EXPECT_FLOAT_EQ(learning_rate(s, 0, 0), 0);
}

TEST(Schedule, CosineRestarts) {
  ScheduleConfig s = schedule(ScheduleKind::cosine_restarts);
  s.m_mul = 0.5;  // periods 10, 20, 40 of heights 1, 1/2, 1/4
  EXPECT_FLOAT_EQ(learning_rate(s, 4, 0), 4);
  EXPECT_NEAR(learning_rate(s, 4, 5), 2, 1e-6);
  EXPECT_FLOAT_EQ(learning_rate(s, 4, 10), 2);
  EXPECT_NEAR(learning_rate(s, 4, 20), 1, 1e-6);
  EXPECT_FLOAT_EQ(learning_rate(s, 4, 30), 1);
  s.t_mul = 1;
  EXPECT_NEAR(learning_rate(s, 4, 15), 1, 1e-6);
  EXPECT_FLOAT_EQ(learning_rate(s, 4, 30), 0.5);
  s.alpha = 0.5;  // the floor does not shrink with the height
  EXPECT_FLOAT_EQ(learning_rate(s, 4, 30), 2.25);
}

TEST(Schedule, NeverIncreasesWithoutCycleOrWarmUp) {
  for (const ScheduleKind kind : {ScheduleKind::exponential, ScheduleKind::inverse_time,
                                  ScheduleKind::polynomial, ScheduleKind::cosine}) {
    ScheduleConfig s = schedule(kind, 97);
    s.decay_rate = 0.5;
    for (std::int64_t step = 1; step < 300; ++step) {
      EXPECT_LE(learning_rate(s, 0.1, step), learning_rate(s, 0.1, step - 1)) << step;
      EXPECT_GE(learning_rate(s, 0.1, step), 0.0f) << step;
    }
  }
}

TEST(Schedule, RefusesWhatCannotBeEvaluated) {
  const auto code = [](const ScheduleConfig& s) {
    try {
      check_schedule(s, SourcePlace("model.toml:3:1"));
    } catch (const Error& e) {
      EXPECT_EQ(e.where(), "model.toml:3:1");
      return e.code();
    }
    return ExitCode::ok;
  };
  EXPECT_EQ(code({}), ExitCode::ok);
  EXPECT_EQ(code(schedule(ScheduleKind::cosine)), ExitCode::ok);
  EXPECT_EQ(code(schedule(ScheduleKind::cosine, 0)), ExitCode::usage);
  EXPECT_EQ(code(schedule(ScheduleKind::exponential)), ExitCode::usage) << "no decay rate";
  ScheduleConfig s = schedule(ScheduleKind::inverse_time);
  s.decay_rate = -1;
  EXPECT_EQ(code(s), ExitCode::usage);
  s = schedule(ScheduleKind::polynomial);
  s.power = 0;
  EXPECT_EQ(code(s), ExitCode::usage);
  s = schedule(ScheduleKind::cosine);
  s.warmup_steps = -1;
  EXPECT_EQ(code(s), ExitCode::usage);
  s = schedule(ScheduleKind::cosine_restarts);
  s.t_mul = 0.5;
  EXPECT_EQ(code(s), ExitCode::usage);
  s = schedule(ScheduleKind::piecewise, 0);
  EXPECT_EQ(code(s), ExitCode::usage) << "no values";
  s.boundaries = {2, 1};
  s.values = {1, 2, 3};
  EXPECT_EQ(code(s), ExitCode::usage);
  s.boundaries = {1, 2};
  EXPECT_EQ(code(s), ExitCode::ok);
}

}  // namespace
}  // namespace belfry::test
