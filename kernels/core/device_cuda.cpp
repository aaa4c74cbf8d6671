// SPDX-License-Identifier: Apache-2.0
// device.hpp on the CUDA runtime. Host code only: an ordinary C++ compiler takes it too.
#include <cuda_runtime_api.h>

#include <atomic>
#include <mutex>
#include <unordered_map>

#include "kernels/core/cublaslt.hpp"
#include "kernels/core/device.hpp"
#include "kernels/core/device_cuda.hpp"

namespace belfry::simt {

cudaError_t probe_architecture();  // architecture_cuda.cu

namespace {

struct AtomicCounters {
  std::atomic<std::int64_t> allocations{0}, synchronisations{0}, launches{0}, graph_launches{0},
      live_bytes{0};
};
AtomicCounters counts;

Failure failure_of(cudaError_t code) {
  constexpr int kContained = 226;  // cudaErrorContained, which older toolkits have no name for
  if (static_cast<int>(code) == kContained) return Failure::sticky;
  switch (code) {
    case cudaErrorMemoryAllocation:
      return Failure::out_of_memory;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
      return Failure::no_device;
    case cudaErrorDevicesUnavailable:
      return Failure::busy;
    case cudaErrorInsufficientDriver:
      return Failure::old_driver;
    case cudaErrorStubLibrary:
      return Failure::no_driver;
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
      return Failure::broken_driver;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorUnsupportedPtxVersion:
      return Failure::wrong_architecture;
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorCooperativeLaunchTooLarge:
    case cudaErrorInvalidDeviceFunction:
      return Failure::bad_launch;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidDevicePointer:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorNotReady:
      return Failure::bad_argument;
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
      return Failure::capture;
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorUnknown:
      return Failure::sticky;
    default:  // the device is as it was; the call was wrong for it
      return Failure::bad_argument;
  }
}

std::string version_text(int cuda) {  // 13000 is 13.0
  return "CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
}

/// Why there is no GPU to begin with. The runtime calls a driver that is not there too old.
[[noreturn]] void raise_absent(cudaError_t code) {
  cudaGetLastError();
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const std::string wanted = "this build needs one for " + version_text(runtime) +
                             (runtime >= 13000 ? " (580)" : "") + " or newer";
  if (driver == 0) {
    throw DeviceFailure(Failure::no_driver, "there is no NVIDIA driver; " + wanted);
  }
  if (code == cudaErrorInsufficientDriver) {
    throw DeviceFailure(Failure::old_driver,
                        "the NVIDIA driver is one for " + version_text(driver) + "; " + wanted);
  }
  if (code == cudaErrorNoDevice) {
    throw DeviceFailure(Failure::no_device, "the NVIDIA driver knows of no GPU");
  }
  if (code == cudaErrorDevicesUnavailable) {
    throw DeviceFailure(Failure::busy, std::string("asking for GPUs: ") + cudaGetErrorString(code));
  }
  // No lack of a GPU: it is told even where a GPU was only looked for.
  throw DeviceFailure(
      Failure::broken_driver,
      "the NVIDIA driver (" + version_text(driver) +
          ") is there and fails: " + cudaGetErrorString(code) +
          "; after an update it has to be loaded again, by a restart at the latest");
}

}  // namespace

void raise(cudaError_t code, const std::string& what) {
  const Failure failure = failure_of(code);
  if (failure == Failure::no_driver || failure == Failure::old_driver ||
      failure == Failure::broken_driver) {
    raise_absent(code);
  }
  cudaGetLastError();  // a sticky one stays all the same
  throw DeviceFailure(failure, what + ": " + cudaGetErrorString(code));
}

namespace {

void check(cudaError_t code, const char* what) {
  if (code != cudaSuccess) raise(code, what);
}

cudaStream_t stream_of(const Stream* s) {
  return s != nullptr ? static_cast<cudaStream_t>(s->native()) : nullptr;
}

std::string text(const Dims& d) {
  const auto extent = [](const Extent& e) {
    return "(" + std::to_string(e.x) + "," + std::to_string(e.y) + "," + std::to_string(e.z) + ")";
  };
  return "launch of grid " + extent(d.grid) + ", block " + extent(d.block) + ", shared memory " +
         std::to_string(d.smem);
}

[[noreturn]] void raise_too_much_shared(const void* function, std::int64_t bytes) {
  cudaGetLastError();
  const char* name = "a kernel";
  cudaFuncAttributes attributes{};
  int device = 0, limit = 0;
  cudaFuncGetName(&name, function);
  cudaFuncGetAttributes(&attributes, function);
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  throw DeviceFailure(Failure::bad_launch, std::string(name) + ": " + std::to_string(bytes) +
                                               " bytes of dynamic and " +
                                               std::to_string(attributes.sharedSizeBytes) +
                                               " of static shared memory, this GPU gives a block " +
                                               std::to_string(limit));
}

/// More than 48 KiB of shared memory, static and dynamic together, must be asked for, once per kernel and
/// size. How much of it is static the run time knows; asking for less than that bound does no harm.
void allow_shared_memory(const void* function, std::int64_t bytes) {
  if (bytes == 0) return;
  static std::mutex mutex;
  static std::unordered_map<const void*, std::int64_t> allowed;
  const std::lock_guard<std::mutex> lock(mutex);
  std::int64_t& most = allowed[function];
  if (most >= bytes) return;
  const cudaError_t code = cudaFuncSetAttribute(
      function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (code == cudaErrorInvalidValue) raise_too_much_shared(function, bytes);
  check(code, "shared memory of a kernel");
  most = bytes;
}

}  // namespace

int device_count() {
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) raise_absent(code);
  if (count == 0) raise_absent(cudaErrorNoDevice);
  return count;
}

DeviceInfo device_info(int number) {
  const int count = device_count();
  if (number < 0 || number >= count) {
    throw DeviceFailure(Failure::no_device, "there is no GPU " + std::to_string(number) +
                                                ": this machine has " + std::to_string(count) +
                                                ", numbered from 0");
  }
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, number), "cudaGetDeviceProperties");
  DeviceInfo info{.name = p.name,
                  .major = p.major,
                  .minor = p.minor,
                  .multiprocessors = p.multiProcessorCount,
                  .memory_bytes = static_cast<std::int64_t>(p.totalGlobalMem)};
  check(cudaDriverGetVersion(&info.driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&info.runtime), "cudaRuntimeGetVersion");
  return info;
}

DeviceInfo device_info() {
  device_count();
  int number = 0;
  check(cudaGetDevice(&number), "cudaGetDevice");
  return device_info(number);
}

void select_device(int number) {
  const DeviceInfo info = device_info(number);
  check(cudaSetDevice(number), "taking the GPU");
  const cudaError_t code = probe_architecture();
  if (code == cudaSuccess) return;
  if (failure_of(code) != Failure::wrong_architecture && code != cudaErrorInvalidDeviceFunction) {
    raise(code, "taking the GPU");
  }
  cudaGetLastError();
  throw DeviceFailure(Failure::wrong_architecture,
                      info.name + " has architecture " + std::to_string(info.major) +
                          std::to_string(info.minor) + ", this build has code for " +
                          built_architectures());
}

std::string built_architectures() {
  return BELFRY_CUDA_ARCHITECTURES;
}

std::string matrix_library() {
  const auto v = cuda::cublaslt().get_version();  // 130002 is 13.0.2
  return "cuBLASLt " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100);
}

Counters counters() {
  return {counts.allocations, counts.synchronisations, counts.launches, counts.graph_launches,
          counts.live_bytes};
}

namespace {
/// Sizes of live buffers, for Counters::live_bytes.
std::mutex sizes_mutex;
std::unordered_map<void*, std::int64_t> sizes;
}  // namespace

std::int64_t free_memory() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return static_cast<std::int64_t>(free);
}

void* device_malloc(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  void* p = nullptr;
  const cudaError_t code = cudaMalloc(&p, static_cast<std::size_t>(bytes));
  if (code != cudaSuccess) {
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    raise(code, std::to_string(bytes) + " bytes of device memory asked for, " +
                    std::to_string(free) + " of " + std::to_string(total) + " are free");
  }
  ++counts.allocations;
  counts.live_bytes += bytes;
  const std::lock_guard<std::mutex> lock(sizes_mutex);
  sizes[p] = bytes;
  return p;
}
void device_free(void* data) noexcept {
  if (data == nullptr) return;
  {  // before the address is free: another thread may get it at once
    const std::lock_guard<std::mutex> lock(sizes_mutex);
    if (const auto found = sizes.find(data); found != sizes.end()) {
      counts.live_bytes -= found->second;
      sizes.erase(found);
    }
  }
  cudaFree(data);
}
void* pinned_malloc(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  void* p = nullptr;
  const cudaError_t code = cudaMallocHost(&p, static_cast<std::size_t>(bytes));
  if (code == cudaErrorMemoryAllocation) {  // not the device's
    cudaGetLastError();
    throw DeviceFailure(
        Failure::out_of_host_memory,
        "out of host memory: " + std::to_string(bytes) + " bytes of page-locked memory asked for");
  }
  check(code, "pinned memory");
  ++counts.allocations;
  return p;
}
void pinned_free(void* data) noexcept {
  if (data != nullptr) cudaFreeHost(data);
}

Stream::Stream() {
  cudaStream_t s = nullptr;
  check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "a stream");
  native_ = s;
}
Stream::~Stream() {
  cudaStreamSynchronize(stream_of(this));
  cudaStreamDestroy(stream_of(this));
}
void Stream::sync() {
  ++counts.synchronisations;
  check(cudaStreamSynchronize(stream_of(this)), "waiting for a stream");
}
void Stream::wait(const Event& event) {
  check(cudaStreamWaitEvent(stream_of(this), static_cast<cudaEvent_t>(event.native_), 0),
        "a stream waits for an event");
}

Event::Event(bool timed) {
  cudaEvent_t e = nullptr;
  check(cudaEventCreateWithFlags(&e, timed ? cudaEventDefault : cudaEventDisableTiming),
        "an event");
  native_ = e;
}
Event::~Event() {
  cudaEventDestroy(static_cast<cudaEvent_t>(native_));
}
void Event::record(Stream& stream) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(native_), stream_of(&stream)),
        "recording an event");
}
void Event::sync() {
  ++counts.synchronisations;
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(native_)), "waiting for an event");
}
bool Event::done() const {
  const cudaError_t code = cudaEventQuery(static_cast<cudaEvent_t>(native_));
  if (code == cudaErrorNotReady) return false;
  check(code, "asking for an event");
  return true;
}
float TimedEvent::since(const TimedEvent& start) const {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(start.native_),
                             static_cast<cudaEvent_t>(native_)),
        "the time between two events");
  return ms;
}

Graph Graph::capture(Stream& stream, const std::function<void()>& body) {
  cudaStream_t s = stream_of(&stream);
  check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), "beginning a capture");
  cudaGraph_t graph = nullptr;
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(s, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(s, &graph), "ending a capture");
  cudaGraphExec_t exec = nullptr;
  const cudaError_t code = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  check(code, "making a graph");
  Graph made;
  made.native_ = exec;
  check(cudaGraphUpload(exec, s), "uploading a graph");  // so that its first launch costs no more
  return made;
}
Graph::~Graph() {
  if (native_ != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(native_));
}
void Graph::launch(Stream& stream) const {
  require(native_ != nullptr, "Graph::launch: empty");
  ++counts.graph_launches;
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(native_), stream_of(&stream)),
        "launch of a graph");
}

void to_device(void* device, const void* host, std::int64_t bytes) {
  if (bytes == 0) return;
  ++counts.synchronisations;
  check(cudaMemcpy(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice),
        "to_device");
  // From pageable memory it may return before the device has all of it, and our streams do not wait.
  check(cudaStreamSynchronize(nullptr), "to_device");
}
void to_device(void* device, const void* host, std::int64_t bytes, Stream& stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice,
                        stream_of(&stream)),
        "to_device");
}
void to_host(void* host, const void* device, std::int64_t bytes) {
  if (bytes == 0) return;
  ++counts.synchronisations;
  check(cudaMemcpy(host, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost),
        "to_host");
}
void to_host(void* host, const void* device, std::int64_t bytes, Stream& stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(host, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                        stream_of(&stream)),
        "to_host");
}
void device_copy(void* to, const void* from, std::int64_t bytes, Stream& stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                        stream_of(&stream)),
        "device_copy");
}
void device_memset(void* data, int byte, std::int64_t bytes) {
  if (bytes == 0) return;
  ++counts.synchronisations;
  check(cudaMemset(data, byte, static_cast<std::size_t>(bytes)), "device_memset");
  check(cudaStreamSynchronize(nullptr), "device_memset");
}
void device_memset(void* data, int byte, std::int64_t bytes, Stream& stream) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(data, byte, static_cast<std::size_t>(bytes), stream_of(&stream)),
        "device_memset");
}
void device_sync() {
  ++counts.synchronisations;
  check(cudaDeviceSynchronize(), "waiting for the device");
}

void launch_kernel(const Dims& dims, const KernelCall& call) {
  allow_shared_memory(call.function, dims.smem);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3{dims.grid.x, dims.grid.y, dims.grid.z};
  config.blockDim = dim3{dims.block.x, dims.block.y, dims.block.z};
  config.dynamicSmemBytes = static_cast<std::size_t>(dims.smem);
  config.stream = stream_of(dims.stream);
  cudaLaunchAttribute attribute{};
  if (dims.cooperative) {
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  ++counts.launches;
  const cudaError_t code =
      cudaLaunchKernelExC(&config, call.function, const_cast<void**>(call.arguments));
  if (code != cudaSuccess) raise(code, text(dims));
  if (dims.stream == nullptr) {
    ++counts.synchronisations;
    check(cudaStreamSynchronize(nullptr), "a kernel");
  }
}

}  // namespace belfry::simt
