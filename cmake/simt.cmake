# SPDX-License-Identifier: Apache-2.0
# Kernel files (.cu) on the host executor of tests/simt, in three builds:
#   plain  optimised; outputs are compared
#   asan   address and undefined-behaviour sanitizers, leaks; device memory is closed to host code
#   check  every access of a kernel is watched: bounds, uninitialised reads, data races
# CUDA's headers (float4, bf16) are needed, no more of CUDA: the toolkit's, else the header wheels that
# tests/simt/fetch_cuda_headers.sh puts into build/cuda-headers.
set(BELFRY_SIMT_BUILDS plain asan check)

find_program(BELFRY_NVCC nvcc HINTS /usr/local/cuda/bin)
set(BELFRY_CUDA_HINTS ${CMAKE_SOURCE_DIR}/build/cuda-headers/nvidia/cu13/include)
if(BELFRY_NVCC)
  get_filename_component(nvcc_real ${BELFRY_NVCC} REALPATH)
  get_filename_component(nvcc_bin ${nvcc_real} DIRECTORY)
  list(PREPEND BELFRY_CUDA_HINTS ${nvcc_bin}/../include)
endif()
find_path(BELFRY_CUDA_INCLUDE cuda_bf16.h HINTS ${BELFRY_CUDA_HINTS} PATHS /usr/local/cuda/include)
set(BELFRY_SIMT ON)
if(BELFRY_SANITIZE)
  set(BELFRY_SIMT OFF)
  set(BELFRY_SIMT_ABSENCE "simt: a sanitized build leaves kernel tests out, they bring their own sanitizers")
elseif(NOT BELFRY_CUDA_INCLUDE)
  set(BELFRY_SIMT OFF)
  set(BELFRY_SIMT_ABSENCE "simt: CUDA's headers not found (tests/simt/fetch_cuda_headers.sh gets them): kernel tests are skipped")
endif()
if(NOT BELFRY_SIMT)
  message(STATUS "${BELFRY_SIMT_ABSENCE}")
endif()

# The executor in one build, and how kernel files are compiled for it.
function(belfry_add_simt_executor build)
  set(folder ${CMAKE_SOURCE_DIR}/tests/simt)
  file(GLOB device_files CONFIGURE_DEPENDS ${folder}/*_simt.cpp ${folder}/*_fake.cpp)
  add_library(belfry_simt_${build} OBJECT EXCLUDE_FROM_ALL
    ${device_files} ${folder}/host/barrier.cpp ${folder}/host/checker.cpp
    ${folder}/host/clocks.cpp ${folder}/host/copies.cpp ${folder}/host/fiber.cpp
    ${folder}/host/memory.cpp ${folder}/host/options.cpp ${folder}/host/queue.cpp
    ${folder}/host/scheduler.cpp ${folder}/host/symbols.cpp ${folder}/host/warp.cpp
    $<$<STREQUAL:${build},check>:${folder}/host/tsan_hooks.cpp>)
  target_compile_definitions(belfry_simt_${build} PUBLIC BELFRY_SIMT)
  target_include_directories(belfry_simt_${build} PUBLIC ${CMAKE_SOURCE_DIR} ${folder})
  target_include_directories(belfry_simt_${build} SYSTEM PUBLIC
    ${BELFRY_CUDA_INCLUDE} ${BELFRY_CUDA_INCLUDE}/cccl)  # nv/target lies there in the wheels
  # -g1: lines for reports. Float casts of float4 alias; sums are fused only where the code says fma.
  target_compile_options(belfry_simt_${build} PUBLIC -Wall -Wextra $<$<BOOL:${BELFRY_WERROR}>:-Werror>
    -Wno-unknown-pragmas -g1 -fno-strict-aliasing -ffp-contract=off)  # nvcc's unroll
  if(build STREQUAL asan)
    target_compile_options(belfry_simt_asan PUBLIC -O1 -fsanitize=address,undefined
      -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(belfry_simt_asan PUBLIC -fsanitize=address,undefined)
  else()
    target_compile_options(belfry_simt_${build} PUBLIC -O2)
  endif()
  if(build STREQUAL check)
    # No -fsanitize=thread here: libtsan stays out, tsan_hooks.cpp is in its place.
    target_link_options(belfry_simt_check PUBLIC -Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset)
  endif()
endfunction()

# belfry_add_simt(NAME sources... [LINK libraries...]): the executables simt_BUILD_NAME, whose tests CTest
# knows as simt-BUILD.Suite.Case. Sources ending in .cu are kernel files.
function(belfry_add_simt name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LINK")
  if(NOT BELFRY_SIMT)
    return()
  endif()
  set(kernel_files ${arg_UNPARSED_ARGUMENTS})
  list(FILTER kernel_files INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${kernel_files} PROPERTIES LANGUAGE CXX)
  foreach(build IN LISTS BELFRY_SIMT_BUILDS)
    if(NOT TARGET belfry_simt_${build})
      belfry_add_simt_executor(${build})
    endif()
    set(target simt_${build}_${name})
    # Kernel files first, and in a library of their own for their own flags: where an inline function is
    # in several objects the linker takes the first, which must be the watched one.
    add_library(${target}_kernels OBJECT ${kernel_files})
    target_compile_options(${target}_kernels PRIVATE -x c++ $<$<STREQUAL:${build},check>:-fsanitize=thread>)
    target_link_libraries(${target}_kernels PRIVATE belfry_simt_${build} GTest::gtest ${arg_LINK})
    set(others ${arg_UNPARSED_ARGUMENTS})
    list(FILTER others EXCLUDE REGEX "\\.cu$")
    add_executable(${target} $<TARGET_OBJECTS:${target}_kernels> ${others})
    target_link_libraries(${target} PRIVATE belfry_simt_${build} $<TARGET_NAME_IF_EXISTS:belfry_kernels_simt>
      ${arg_LINK} GTest::gtest_main)
    gtest_discover_tests(${target} TEST_PREFIX "simt-${build}." DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT 300 LABELS simt-${build})
  endforeach()
endfunction()

# The parts of belfry on the executor. Ops' kernel files are a library each, so that a test waits for its own
# alone; what has no kernels is compiled once for the three builds.
set(BELFRY_SIMT_GENERATED ${CMAKE_BINARY_DIR}/generated_simt)
function(belfry_simt_host_options target)
  target_compile_definitions(${target} PRIVATE BELFRY_SIMT)
  # The simulated build's own built_ops.hpp comes before the other one.
  target_include_directories(${target} BEFORE PRIVATE ${BELFRY_SIMT_GENERATED} ${CMAKE_SOURCE_DIR}
    ${CMAKE_SOURCE_DIR}/tests/simt ${CMAKE_BINARY_DIR}/generated)
  target_include_directories(${target} SYSTEM PRIVATE ${BELFRY_CUDA_INCLUDE} ${BELFRY_CUDA_INCLUDE}/cccl)
  target_link_libraries(${target} PRIVATE belfry_options TBB::tbb hwy::hwy DNNL::dnnl OpenMP::OpenMP_CXX
    Threads::Threads)
endfunction()

function(belfry_add_simt_kernels)
  if(NOT BELFRY_SIMT)
    return()
  endif()
  belfry_write_built_ops(${BELFRY_SIMT_GENERATED} ON)
  set(folder ${CMAKE_SOURCE_DIR}/kernels)
  get_property(ops GLOBAL PROPERTY BELFRY_OPS)
  file(GLOB host_files CONFIGURE_DEPENDS ${folder}/core/*.cpp)
  list(FILTER host_files EXCLUDE REGEX "/(device_[a-z]*|cublaslt)\\.cpp$")
  foreach(op IN LISTS ops)
    get_property(op_files GLOBAL PROPERTY BELFRY_CPU_FILES_${op})
    list(APPEND host_files ${op_files})
  endforeach()
  add_library(belfry_kernels_simt STATIC EXCLUDE_FROM_ALL ${host_files})
  belfry_simt_host_options(belfry_kernels_simt)
  foreach(build IN LISTS BELFRY_SIMT_BUILDS)
    if(NOT TARGET belfry_simt_${build})
      belfry_add_simt_executor(${build})
    endif()
    foreach(op IN LISTS ops)
      get_property(files GLOBAL PROPERTY BELFRY_KERNEL_FILES_${op})
      if(files)
        # In this directory alone: in kernels/ the same files are nvcc's.
        set_source_files_properties(${files} PROPERTIES LANGUAGE CXX)
        add_library(belfry_simt_${build}_${op} OBJECT EXCLUDE_FROM_ALL ${files})
        target_compile_options(belfry_simt_${build}_${op} PRIVATE -x c++
          $<$<STREQUAL:${build},check>:-fsanitize=thread>)
        target_include_directories(belfry_simt_${build}_${op} BEFORE PRIVATE ${BELFRY_SIMT_GENERATED})
        target_link_libraries(belfry_simt_${build}_${op} PRIVATE belfry_simt_${build})
      endif()
    endforeach()
  endforeach()
endfunction()

# The objects of ops' kernels in a build, to stand first in an executable (see belfry_add_simt).
function(belfry_simt_objects out build)
  set(objects "")
  foreach(op IN LISTS ARGN)
    if(TARGET belfry_simt_${build}_${op})
      list(APPEND objects $<TARGET_OBJECTS:belfry_simt_${build}_${op}>)
    endif()
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()

# simt_BUILD_STEM from a test source and the kernels of `ops`.
function(belfry_add_simt_kernel_test source)
  if(NOT BELFRY_SIMT)
    return()
  endif()
  get_filename_component(stem ${source} NAME_WE)
  add_library(simt_${stem} OBJECT EXCLUDE_FROM_ALL ${source})
  belfry_simt_host_options(simt_${stem})
  target_compile_definitions(simt_${stem} PRIVATE BELFRY_TEST_BACKEND=cuda
    BELFRY_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(simt_${stem} PRIVATE GTest::gtest nlohmann_json::nlohmann_json)
  foreach(build IN LISTS BELFRY_SIMT_BUILDS)
    set(target simt_${build}_${stem})
    belfry_simt_objects(objects ${build} ${ARGN})
    add_executable(${target} ${objects} $<TARGET_OBJECTS:simt_${stem}>
      $<TARGET_OBJECTS:belfry_test_golden>)
    target_link_libraries(${target} PRIVATE belfry_simt_${build} belfry_kernels_simt GTest::gtest_main
      TBB::tbb hwy::hwy DNNL::dnnl OpenMP::OpenMP_CXX Threads::Threads ${CMAKE_DL_LIBS})
    gtest_discover_tests(${target} TEST_PREFIX "simt-${build}." DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT 300 LABELS simt-${build})
  endforeach()
endfunction()

# The whole of belfry on the simulated device: the engine, and the command as `belfry_simt`.
function(belfry_add_simt_engine)
  if(NOT BELFRY_SIMT)
    return()
  endif()
  get_target_property(engine_files belfry_engine SOURCES)
  list(REMOVE_DUPLICATES engine_files)
  list(TRANSFORM engine_files PREPEND ${CMAKE_SOURCE_DIR}/engine/ REGEX "^[^/]")  # those of belfry/ are absolute
  add_library(belfry_engine_simt STATIC EXCLUDE_FROM_ALL ${engine_files})
  belfry_simt_host_options(belfry_engine_simt)
  target_link_libraries(belfry_engine_simt PRIVATE tomlplusplus::tomlplusplus fmt::fmt ZLIB::ZLIB PkgConfig::ZSTD
    PkgConfig::XXHASH OpenSSL::Crypto nlohmann_json::nlohmann_json tsl::robin_map)
  get_target_property(app_files belfry SOURCES)
  list(TRANSFORM app_files PREPEND ${CMAKE_SOURCE_DIR}/apps/)
  get_property(ops GLOBAL PROPERTY BELFRY_OPS)
  belfry_simt_objects(objects plain ${ops})
  add_executable(belfry_simt ${objects} ${app_files})
  belfry_simt_host_options(belfry_simt)
  target_link_libraries(belfry_simt PRIVATE belfry_simt_plain belfry_engine_simt belfry_kernels_simt
    CLI11::CLI11 fmt::fmt nlohmann_json::nlohmann_json)
endfunction()

# simt_plain_STEM from a test of the engine.
function(belfry_add_simt_engine_test source)
  if(NOT BELFRY_SIMT)
    return()
  endif()
  get_filename_component(stem ${source} NAME_WE)
  get_property(ops GLOBAL PROPERTY BELFRY_OPS)
  belfry_simt_objects(objects plain ${ops})
  add_executable(simt_plain_${stem} ${objects} ${source} $<TARGET_OBJECTS:belfry_test_golden>)
  belfry_simt_host_options(simt_plain_${stem})
  target_compile_definitions(simt_plain_${stem} PRIVATE BELFRY_TEST_BACKEND=cuda
    BELFRY_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(simt_plain_${stem} PRIVATE belfry_simt_plain belfry_engine_simt belfry_kernels_simt
    GTest::gtest_main nlohmann_json::nlohmann_json fmt::fmt)
  gtest_discover_tests(simt_plain_${stem} TEST_PREFIX "simt-plain." DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT 600 LABELS simt-plain)
endfunction()

# bench_simt: the GPU's benchmarks on the simulated device, to see whether they are right. Their times mean nothing.
function(belfry_add_simt_bench)
  get_property(ops GLOBAL PROPERTY BELFRY_OPS)
  belfry_simt_objects(objects plain ${ops})
  add_executable(bench_simt EXCLUDE_FROM_ALL ${objects} ${ARGN})
  belfry_simt_host_options(bench_simt)
  target_link_libraries(bench_simt PRIVATE belfry_simt_plain belfry_engine_simt belfry_kernels_simt
    nlohmann_json::nlohmann_json fmt::fmt)
endfunction()

# One test that says so where the builds above are missing.
function(belfry_add_simt_absence_test)
  if(NOT BELFRY_SIMT)
    add_test(NAME simt COMMAND sh -c "echo \"${BELFRY_SIMT_ABSENCE}\"; exit 77")
    set_tests_properties(simt PROPERTIES SKIP_RETURN_CODE 77)
  endif()
endfunction()
