// SPDX-License-Identifier: Apache-2.0
// The one exception family of the engine that a user can meet: an exit code, a place, a text, a hint.
// Printed once, by apps/, as `error: WHERE: WHAT; HINT`.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace belfry {

/// Exit codes of the command (README, "Exit codes").
enum class ExitCode : int {
  ok = 0,
  usage = 2,
  no_gpu = 3,
  bad_data = 4,
  bad_model = 5,
  numerical = 6,
  io = 7,
  out_of_memory = 8,
  fatal_cuda = 9,
  peer = 10,
  stopped = 75,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, std::string where, std::string what, std::string hint = "")
      : std::runtime_error((where.empty() ? "" : where + ": ") + what +
                           (hint.empty() ? "" : "; " + hint)),
        code_(code),
        where_(std::move(where)) {}
  ExitCode code() const { return code_; }
  const std::string& where() const { return where_; }

 private:
  ExitCode code_;
  std::string where_;
};

}  // namespace belfry
