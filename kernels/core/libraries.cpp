// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/libraries.hpp"

#include <dnnl.h>
#include <hwy/targets.h>
#include <tbb/version.h>

#include "kernels/core/device.hpp"

namespace belfry {

namespace {

const char* isa_name(dnnl_cpu_isa_t isa) {
  switch (isa) {
    case dnnl_cpu_isa_sse41:
      return "SSE4.1";
    case dnnl_cpu_isa_avx:
      return "AVX";
    case dnnl_cpu_isa_avx2:
      return "AVX2";
    case dnnl_cpu_isa_avx2_vnni:
      return "AVX2-VNNI";
    case dnnl_cpu_isa_avx512_core:
      return "AVX-512";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "AVX-512-VNNI";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "AVX-512-BF16";
    default:
      return "beyond AVX-512-BF16 or default";
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> library_versions() {
  const dnnl_version_t* dnnl = dnnl_version();
  const auto join = [](int a, int b, int c) {
    return std::to_string(a) + "." + std::to_string(b) + "." + std::to_string(c);
  };
  return {{"oneDNN", join(dnnl->major, dnnl->minor, dnnl->patch) + ", " +
                         isa_name(dnnl_get_effective_cpu_isa())},
          {"oneTBB", TBB_runtime_version()},
          {"Highway", simd_target()}};
}

std::string device_name(const Context& ctx) {
  return ctx.backend() == Backend::cpu ? name_of(Backend::cpu) : simt::device_info().name;
}

std::string simd_target() {
  // The best set has the lowest bit.
  const auto targets = static_cast<std::int64_t>(hwy::SupportedTargets());
  return hwy::TargetName(targets & -targets);
}

}  // namespace belfry
