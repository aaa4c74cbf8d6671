# SPDX-License-Identifier: Apache-2.0
# The few ways in which targets are made here.

# One op: kernels/NAME/NAME_cpu.cpp, and NAME_cuda.cu where it exists and CUDA is built. Every op gets a
# line in the generated kernels/core/built_ops.hpp, which is what `kHasCuda::NAME` reads.
set(BELFRY_CUDA OFF)
set_property(GLOBAL PROPERTY BELFRY_OPS "")
function(belfry_add_op name)
  target_sources(belfry_kernels PRIVATE ${name}/${name}_cpu.cpp)
  set(cuda false)
  if(BELFRY_CUDA AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/${name}_cuda.cu)
    target_sources(belfry_kernels PRIVATE ${name}/${name}_cuda.cu)
    set(cuda true)
  endif()
  set_property(GLOBAL APPEND_STRING PROPERTY BELFRY_OPS "inline constexpr bool ${name} = ${cuda};\n")
endfunction()

function(belfry_write_built_ops)
  get_property(BELFRY_OPS GLOBAL PROPERTY BELFRY_OPS)
  configure_file(${CMAKE_SOURCE_DIR}/kernels/core/built_ops.hpp.in
                 ${CMAKE_BINARY_DIR}/generated/kernels/core/built_ops.hpp @ONLY)
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

# One benchmark executable STEM from bench/STEM.cpp, with Google Benchmark's main.
function(belfry_add_bench stem)
  add_executable(${stem} ${stem}.cpp)
  target_link_libraries(${stem} PRIVATE belfry_bench_support belfry_kernels benchmark::benchmark_main)
endfunction()
