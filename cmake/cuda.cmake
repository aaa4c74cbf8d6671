# SPDX-License-Identifier: Apache-2.0
# The CUDA backend: built where nvcc is found, for BELFRY_CUDA_ARCHITECTURES. Nothing of CUDA but its static
# run time is linked: the driver and cuBLASLt are opened on first use, so that the binary starts without them.
set(BELFRY_CUDA AUTO CACHE STRING "The CUDA backend: ON, OFF, or AUTO (where nvcc is found)")
set(BELFRY_CUDA_ARCHITECTURES 90 CACHE STRING "GPU architectures to build for, e.g. 75;80;86;89;90;100;120")
option(BELFRY_GPU_TESTS "Build the tests and benchmarks that need a GPU" OFF)

if(BELFRY_SANITIZE AND BELFRY_CUDA STREQUAL AUTO)
  set(BELFRY_CUDA OFF)
endif()
if(BELFRY_CUDA STREQUAL AUTO)
  include(CheckLanguage)
  find_program(nvcc nvcc HINTS /usr/local/cuda/bin)
  if(nvcc AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${nvcc})
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(BELFRY_CUDA ON)
  else()
    set(BELFRY_CUDA OFF)
  endif()
endif()

if(BELFRY_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES ${BELFRY_CUDA_ARCHITECTURES})
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  # -fmad=false: as -ffp-contract=off on the host, a product and a sum are fused only where the code says fma.
  # Members of views are constexpr and so usable in kernels; 554: Vector<const T> to itself is no conversion.
  string(APPEND CMAKE_CUDA_FLAGS " -fmad=false -lineinfo --expt-relaxed-constexpr -diag-suppress=554"
    " -Werror all-warnings -Xcompiler=-Wall,-Wextra")
  message(STATUS "CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
else()
  message(STATUS "CUDA: not built (no nvcc, or BELFRY_CUDA=OFF); everything runs on the CPU")
endif()
