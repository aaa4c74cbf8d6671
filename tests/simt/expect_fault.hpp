// SPDX-License-Identifier: Apache-2.0
// A planted fault, and what each build must make of it: rows of the table in README.md.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "device_array.hpp"

namespace belfry::test {

/// What a build sees of a fault.
enum class Seen {
  nothing,  // neither a report nor a wrong output
  output,   // a wrong output under some schedules: only a test that compares will notice
  report,   // simt::Error of the expected kind, under every schedule
  death,    // a sanitizer stops the process
};

struct Row {
  Seen plain, asan, check;
  simt::Fault fault = simt::Fault::race;  // of reports
  const char* death = "";                 // of deaths: part of the message
  std::function<void(simt::Options&)> adjust = [](simt::Options&) {};
};

inline std::vector<simt::Options> fault_schedules() {
  std::vector<simt::Options> all(5);
  all[1].order = simt::Order::lifo;
  all[1].resident_blocks = 2;
  for (int i = 0; i < 3; ++i) {
    all[2 + i].order = simt::Order::random;
    all[2 + i].seed = 1 + static_cast<std::uint64_t>(i);
    all[2 + i].resident_blocks = 2;
    all[2 + i].atomic_yield = 2;
  }
  return all;
}

/// `run` launches the faulty kernel and returns whether its output is right.
inline void expect_row(const Row& row, const std::function<bool()>& run) {
  const simt::Build build = simt::build();
  const Seen want = build == simt::Build::plain  ? row.plain
                    : build == simt::Build::asan ? row.asan
                                                 : row.check;
  int wrong = 0, index = 0;
  for (simt::Options options : fault_schedules()) {
    SCOPED_TRACE("schedule " + std::to_string(index++));
    row.adjust(options);
    const simt::ScopedOptions scope(options);
    if (want == Seen::death) {
      EXPECT_DEATH(run(), row.death);
      return;  // one schedule is enough: dying takes long
    }
    try {
      wrong += !run();
      EXPECT_NE(want, Seen::report) << "not reported";
    } catch (const simt::Error& e) {
      EXPECT_EQ(want, Seen::report) << e.what();
      EXPECT_STREQ(name_of(e.fault), name_of(row.fault)) << e.what();
    }
  }
  if (want == Seen::output) {
    EXPECT_GT(wrong, 0) << "right under every schedule";
  } else if (want == Seen::nothing) {
    EXPECT_EQ(wrong, 0);
  }
}

}  // namespace belfry::test
