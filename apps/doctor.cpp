// SPDX-License-Identifier: Apache-2.0
// belfry doctor: what this build can use on this machine.
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "apps/common.hpp"
#include "engine/run.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/device.hpp"
#include "kernels/core/libraries.hpp"

namespace belfry::app {

namespace {

std::string cuda_version(int version) {  // 13000 is 13.0
  return version == 0 ? "none" : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

/// The GPUs and the library of matrix products, and whether the first can be used, which is what --device auto
/// goes by.
void look_for_gpus(nlohmann::ordered_json& out) {
  bool library = true;
  try {
    out["cuda"]["cublaslt"] = simt::matrix_library();
  } catch (const DeviceError& e) {
    library = false;
    out["cuda"]["cublaslt"] = e.what();
  }
  try {
    const int count = simt::device_count();
    for (int i = 0; i < count; ++i) {
      const simt::DeviceInfo info = simt::device_info(i);
      out["gpu"][std::to_string(i)] = fmt::format(
          "{}, architecture {}{}, {} multiprocessors, {:.1f} GiB{}", info.name, info.major,
          info.minor, info.multiprocessors, static_cast<double>(info.memory_bytes) / (1 << 30),
          info.simulated ? ", simulated" : "");
      out["cuda"]["driver"] = cuda_version(info.driver);
      out["cuda"]["runtime"] = cuda_version(info.runtime);
    }
    simt::select_device(0);
    out["backends"]["cuda"] = library ? "available" : "needs cuBLASLt";
  } catch (const simt::DeviceFailure& e) {
    out["backends"]["cuda"] = e.what();
  }
}

int doctor(const CommonOptions& o) {
  const BuildInfo build = build_info();
  CommonOptions host = o;
  // A GPU that is full or broken must not keep its own report from being made, unless it was insisted on.
  if (host.device == "auto") host.device = "cpu";
  const auto ctx = make_context(host);
  nlohmann::ordered_json out{{"event", "doctor"},
                             {"version", build.version},
                             {"commit", build.commit},
                             {"compiler", build.compiler}};
  out["backends"] = {{"cpu", "available"}, {"cuda", "not in this build"}};
  if constexpr (kHasCuda::device) {
    out["cuda"]["architectures"] = simt::built_architectures();
    look_for_gpus(out);
  }
  out["threads"] = ctx->threads();
  out["memory_bytes"] = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  out["simd"] = simd_target();
  for (const auto& [name, value] : library_versions()) out["libraries"][name] = value;
  if (o.json) {
    result(out.dump());
    return 0;
  }
  for (const auto& [key, value] : out.items()) {
    if (key == "event") continue;
    if (!value.is_object()) {
      result(fmt::format("{:<14} {}", key,
                         value.is_string() ? value.get<std::string>() : value.dump()));
      continue;
    }
    for (const auto& [name, v] : value.items())
      result(fmt::format("{:<14} {:<12} {}", key, name, v.get<std::string>()));
  }
  return 0;
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  CLI::App* verb =
      app.add_subcommand("doctor", "devices, instruction sets, libraries, optional parts");
  auto o = std::make_shared<CommonOptions>();
  add_common_options(*verb, *o);
  verb->footer("Example: belfry doctor --json");
  verb->callback([o, &action] { action = [o] { return doctor(*o); }; });
}

}  // namespace belfry::app
