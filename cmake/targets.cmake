# SPDX-License-Identifier: Apache-2.0
# The few ways in which targets are made here.

# One op: the folder's CPU files (_cpu.cpp), and its kernel files (.cu) where CUDA is built.
set_property(GLOBAL PROPERTY BELFRY_OPS "")
function(belfry_add_op name)
  file(GLOB cpu_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*_cpu.cpp)
  target_sources(belfry_kernels PRIVATE ${cpu_files})
  file(GLOB kernel_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cu)
  if(BELFRY_CUDA)
    target_sources(belfry_kernels PRIVATE ${kernel_files})
  endif()
  set_property(GLOBAL APPEND PROPERTY BELFRY_OPS ${name})
  set_property(GLOBAL PROPERTY BELFRY_CPU_FILES_${name} ${cpu_files})
  set_property(GLOBAL PROPERTY BELFRY_KERNEL_FILES_${name} ${kernel_files})
endfunction()

# Writes kernels/core/built_ops.hpp into `folder`: what `kHasCuda::NAME` reads. `cuda`: whether the ops that
# have kernel files are built with them.
function(belfry_write_built_ops folder cuda)
  get_property(ops GLOBAL PROPERTY BELFRY_OPS)
  set(BELFRY_OPS "inline constexpr bool device = false;\n")
  if(cuda)
    set(BELFRY_OPS "inline constexpr bool device = true;\n")
  endif()
  foreach(op IN LISTS ops)
    get_property(kernel_files GLOBAL PROPERTY BELFRY_KERNEL_FILES_${op})
    if(cuda AND kernel_files)
      string(APPEND BELFRY_OPS "inline constexpr bool ${op} = true;\n")
    else()
      string(APPEND BELFRY_OPS "inline constexpr bool ${op} = false;\n")
    endif()
  endforeach()
  configure_file(${CMAKE_SOURCE_DIR}/kernels/core/built_ops.hpp.in
                 ${folder}/kernels/core/built_ops.hpp @ONLY)
endfunction()

# One test executable per source file; CTest names are PREFIX.Suite.Case. Those of prefix "cli" run the
# `belfry` command.
function(belfry_add_test prefix source)
  get_filename_component(stem ${source} NAME_WE)
  string(REPLACE "." "_" target "${prefix}_${stem}")
  add_executable(${target} ${source})
  target_link_libraries(${target} PRIVATE belfry_test_support belfry_engine GTest::gtest_main)
  if(prefix STREQUAL cli)
    add_dependencies(${target} belfry)
    target_compile_definitions(${target} PRIVATE BELFRY_BINARY="$<TARGET_FILE:belfry>")
  endif()
  gtest_discover_tests(${target} TEST_PREFIX "${prefix}." PROPERTIES TIMEOUT 600 DISCOVERY_TIMEOUT 60)
endfunction()

# What all gpu_* tests have: launches are counted (tests/support/launch_counts.cpp), so that the record of a GPU
# run knows which kernels ran. They are discovered when they are run: no GPU is there when they are built.
function(belfry_gpu_test_options target)
  target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests/support/launch_counts.cpp)
  target_include_directories(${target} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_link_options(${target} PRIVATE -Wl,--wrap=cudaLaunchKernelExC,--wrap=__cudaLaunchKernel)
  gtest_discover_tests(${target} TEST_PREFIX "gpu." DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT 600 LABELS gpu)
endfunction()

# A test of ops that runs on the CPU (names PREFIX.*), and with the same source on the device: in the three
# builds of the executor (simt-BUILD.*, cmake/simt.cmake) and on a GPU (gpu.*, tests/gpu). OPS are those
# whose kernels it needs, the ones that they call included. DEVICE_ONLY leaves the CPU out.
function(belfry_add_kernel_test prefix source)
  cmake_parse_arguments(PARSE_ARGV 2 arg "DEVICE_ONLY" "" "OPS")
  if(NOT arg_DEVICE_ONLY)
    belfry_add_test(${prefix} ${source})
  endif()
  belfry_add_simt_kernel_test(${source} ${arg_OPS})
  set_property(GLOBAL APPEND PROPERTY BELFRY_GPU_TEST_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/${source})
endfunction()

# A test of the engine that runs on the CPU, and with the same source in the simulated build of all of belfry and
# on a GPU (tests/gpu).
function(belfry_add_engine_test prefix source)
  belfry_add_test(${prefix} ${source})
  belfry_add_simt_engine_test(${source})
  set_property(GLOBAL APPEND PROPERTY BELFRY_GPU_TEST_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/${source})
endfunction()

# One benchmark executable STEM from bench/STEM.cpp, with Google Benchmark's main.
function(belfry_add_bench stem)
  add_executable(${stem} ${stem}.cpp)
  target_link_libraries(${stem} PRIVATE belfry_bench_support belfry_kernels benchmark::benchmark_main)
endfunction()
