// SPDX-License-Identifier: Apache-2.0
// Counts every launch of a test program on a GPU, libraries' kernels included, and writes "NAME COUNT" lines
// into the file that BELFRY_LAUNCH_COUNTS names when the program ends. What was compiled but never ran is
// then known. Linked with --wrap of the two functions through which all launches go; a launch that a graph
// records counts once, when it is recorded.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace {

class LaunchCounts {
 public:
  void add(const void* kernel) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++counts_[kernel];
  }
  ~LaunchCounts() {
    const char* path = std::getenv("BELFRY_LAUNCH_COUNTS");
    if (path == nullptr) return;
    std::map<std::string, std::int64_t> by_name;
    for (const auto& [kernel, count] : counts_) {
      const char* name = nullptr;
      if (cudaFuncGetName(&name, kernel) == cudaSuccess) by_name[name] += count;
    }
    std::FILE* file = std::fopen(path, "w");
    if (file == nullptr) return;
    for (const auto& [name, count] : by_name) {
      std::fprintf(file, "%s %lld\n", name.c_str(), static_cast<long long>(count));
    }
    std::fclose(file);
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::int64_t> counts_;
};

LaunchCounts& launch_counts() {
  // Made after the runtime's own registration of kernels, so written before that is undone.
  static LaunchCounts counts;
  return counts;
}

}  // namespace

extern "C" {

cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                       void** arguments);
cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                       void** arguments) {
  launch_counts().add(function);
  return __real_cudaLaunchKernelExC(config, function, arguments);
}

cudaError_t __real___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                      std::size_t smem, cudaStream_t stream);
cudaError_t __wrap___cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                      std::size_t smem, cudaStream_t stream) {
  launch_counts().add(kernel);
  return __real___cudaLaunchKernel(kernel, grid, block, arguments, smem, stream);
}

}  // extern "C"
