// SPDX-License-Identifier: Apache-2.0
#include "engine/device_choice.hpp"

#include <fmt/format.h>

#include <charconv>

namespace belfry {

Error error_of(const simt::DeviceFailure& failure, const std::string& where) {
  switch (failure.failure) {
    case simt::Failure::not_built:
    case simt::Failure::no_driver:
    case simt::Failure::old_driver:
    case simt::Failure::broken_driver:
    case simt::Failure::no_device:
    case simt::Failure::wrong_architecture:
      return Error(ExitCode::no_gpu, where, failure.what(),
                   "--device cpu does the same, up to rounding");
    case simt::Failure::busy:
      return Error(ExitCode::no_gpu, where, failure.what(),
                   "nvidia-smi lists who uses it; --device cpu does the same, up to rounding");
    case simt::Failure::out_of_memory:
      return Error(ExitCode::out_of_memory, where, failure.what(),
                   "fewer items, a smaller dim or batch_size need less; --device cpu uses the "
                   "machine's memory");
    case simt::Failure::out_of_host_memory:
      return Error(ExitCode::out_of_memory, where, failure.what(),
                   "fewer items, a smaller dim or batch_size need less");
    case simt::Failure::bad_launch:
    case simt::Failure::bad_argument:
    case simt::Failure::capture:
      return Error(ExitCode::fatal_cuda, where, fmt::format("CUDA refused: {}", failure.what()),
                   "this is a bug in belfry");
    case simt::Failure::sticky:
      break;
  }
  return Error(ExitCode::fatal_cuda, where, fmt::format("CUDA failed: {}", failure.what()),
               "what was on it is lost; if it happens again, try --device cpu");
}

namespace {

using Inform = std::function<void(const std::string&)>;

/// The N of cuda:N, 0 for cuda. The number is checked even where no GPU can be used.
int gpu_number(const std::string& device, const std::string& option) {
  if (device == "cuda") return 0;
  const char* end = device.data() + device.size();
  int number = -1;
  if (device.starts_with("cuda:")) {
    const auto [rest, error] = std::from_chars(device.data() + 5, end, number);
    if (error == std::errc() && rest == end && number >= 0) return number;
    throw Error(ExitCode::usage, option, fmt::format("\"{}\" is not cuda:N", device));
  }
  throw Error(ExitCode::usage, option,
              fmt::format("\"{}\" is none of auto, cpu, cuda, cuda:N", device));
}

/// Makes a GPU the one to be used, once it and the library of matrix products are known to be there.
void take_gpu(int number) {
  simt::select_device(number);
  simt::matrix_library();
}

/// A failure in a line: `belfry doctor` has the rest, which files were tried and so on.
std::string first_line(const DeviceError& e) {
  const std::string text = e.what();
  return text.substr(0, text.find('\n'));
}

/// A GPU if there is one. That there is none is nothing to speak of; that one cannot be used is.
Backend automatic_backend(const Inform& inform) {
  try {
    take_gpu(0);
    const simt::DeviceInfo info = simt::device_info();
    if (info.simulated) return Backend::cpu;  // far slower; --device cuda takes it
    inform(fmt::format("device  {} (--device cpu leaves it alone)", info.name));
    return Backend::cuda;
  } catch (const DeviceError& e) {
    const auto* failure = dynamic_cast<const simt::DeviceFailure*>(&e);
    if (failure == nullptr || (failure->failure != simt::Failure::not_built &&
                               failure->failure != simt::Failure::no_driver &&
                               failure->failure != simt::Failure::no_device)) {
      inform(fmt::format("device  cpu: the GPU cannot be used: {}", first_line(e)));
    }
    return Backend::cpu;
  }
}

}  // namespace

Backend choose_backend(const std::string& device, const std::string& option, const Inform& inform) {
  if (device == "cpu") return Backend::cpu;
  if (device == "auto") return automatic_backend(inform);
  const std::string where = option + " " + device;
  try {
    take_gpu(gpu_number(device, option));
    return Backend::cuda;
  } catch (const simt::DeviceFailure& e) {
    throw error_of(e, where);
  } catch (const DeviceError& e) {
    throw Error(ExitCode::no_gpu, where, first_line(e),
                "--device cpu needs none; belfry doctor shows what was tried");
  }
}

}  // namespace belfry
