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
  } else if (name == "arch") {
    o.architecture = std::stoi(value);
    shared_memory_limit(o.architecture);  // refuses what is not known
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

std::int64_t shared_memory_limit(int architecture) {
  switch (architecture) {
    case 75:
      return 64 << 10;
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
    case 121:
      return 99 << 10;
    case 90:
    case 100:
    case 103:
    case 110:
      return 227 << 10;
    default:
      throw std::invalid_argument("simt: architecture " + std::to_string(architecture) +
                                  " is not known");
  }
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
