// SPDX-License-Identifier: Apache-2.0
#include "host/options.hpp"

#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace belfry::simt {

namespace {

void set(Options& o, const std::string& name, const std::string& value) {
  if (name == "order") {
    if (value != "fifo" && value != "lifo" && value != "random") {
      throw std::invalid_argument("BELFRY_SIMT: order is fifo, lifo or random");
    }
    o.order = value == "fifo" ? Order::fifo : value == "lifo" ? Order::lifo : Order::random;
  } else if (name == "seed") {
    o.seed = std::stoull(value);
  } else if (name == "resident") {
    o.resident_blocks = std::stoi(value);
  } else if (name == "yield") {
    o.atomic_yield = std::stoi(value);
  } else if (name == "bytes") {
    o.device_bytes = std::stoll(value);
  } else {
    throw std::invalid_argument("BELFRY_SIMT: unknown option " + name);
  }
}

Options from_environment() {
  Options o;
  const char* text = std::getenv("BELFRY_SIMT");
  std::istringstream parts(text != nullptr ? text : "");
  for (std::string part; std::getline(parts, part, ',');) {
    const auto equals = part.find('=');
    if (equals == std::string::npos) throw std::invalid_argument("BELFRY_SIMT: name=value,...");
    set(o, part.substr(0, equals), part.substr(equals + 1));
  }
  return o;
}

Failure failure_of(Fault fault) {
  switch (fault) {
    case Fault::config:
      return Failure::bad_launch;
    case Fault::capture:
      return Failure::capture;
    case Fault::stream:
      return Failure::bad_argument;
    case Fault::memory:
      return Failure::out_of_memory;
    default:
      return Failure::sticky;
  }
}

}  // namespace

Options& options() {
  static Options o = from_environment();
  return o;
}

const char* name_of(Fault fault) {
  static constexpr const char* kNames[] = {"config", "barrier", "warp",     "deadlock", "race",
                                           "bounds", "uninit",  "watchdog", "pointer",  "trap",
                                           "memory", "stream",  "capture"};
  return kNames[static_cast<int>(fault)];
}

Error::Error(Fault what, const std::string& text)
    : DeviceFailure(failure_of(what), std::string(name_of(what)) + ": " + text), fault(what) {}

}  // namespace belfry::simt
