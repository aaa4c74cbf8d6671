// SPDX-License-Identifier: Apache-2.0
// Errors of the kernel layer, and require(): the executable precondition at the top of every op.
#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace belfry {

/// A caller broke an op's contract: a bug in the calling code, never a user's mistake.
struct ContractError : std::logic_error {
  using std::logic_error::logic_error;
};

/// The machine or a library failed: no such device, a backend without this op, a failed GPU call.
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws ContractError(text) unless `condition` holds. Always on, host side only.
inline void require(bool condition, const char* text) {
  if (!condition) throw ContractError(text);
}

/// The error of an op that the asked-for backend does not have: loud, and by name.
[[noreturn]] inline void throw_no_backend(const char* op) {
  throw DeviceError(std::string(op) + ": this build has no CUDA backend for this op");
}

/// a * b for sizes; throws std::length_error naming `what` where the product passes int64.
inline std::int64_t checked_product(std::int64_t a, std::int64_t b, const char* what) {
  std::int64_t product = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product)) {
    throw std::length_error(std::string(what) + ": size overflows 64 bits");
  }
  return product;
}

}  // namespace belfry
