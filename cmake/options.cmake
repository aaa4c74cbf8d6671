# SPDX-License-Identifier: Apache-2.0
# What a build can be told.
option(BELFRY_TESTS "Build the tests" ON)
option(BELFRY_BENCH "Build the benchmarks" ON)
option(BELFRY_WERROR "Warnings are errors" OFF)
set(BELFRY_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(belfry_options INTERFACE)
target_compile_features(belfry_options INTERFACE cxx_std_20)
# -Wno-restrict: g++ 12 warns falsely about std::string (GCC bug 105329).
# -ffp-contract=off: a product and a sum are fused only where the code says fma, so that bits do not
# depend on the compiler's choice. No -march: instruction sets are chosen at run time.
target_compile_options(belfry_options INTERFACE
  $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wno-restrict;-ffp-contract=off>>
  $<BUILD_INTERFACE:$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${BELFRY_WERROR}>>:-Werror>>)
if(BELFRY_SANITIZE)
  target_compile_options(belfry_options INTERFACE -fsanitize=${BELFRY_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(belfry_options INTERFACE -fsanitize=${BELFRY_SANITIZE})
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

# The commit that a build reports (`belfry --version`, env.json); "unknown" outside of a checkout.
# Changes that are not committed are said ("-dirty"), as of the last configuration, which a new commit renews.
execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE BELFRY_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
execute_process(COMMAND git -C ${CMAKE_SOURCE_DIR} rev-parse --path-format=absolute --git-path logs/HEAD
  OUTPUT_VARIABLE BELFRY_HEAD_LOG OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(EXISTS "${BELFRY_HEAD_LOG}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${BELFRY_HEAD_LOG}")
endif()
if(NOT BELFRY_COMMIT AND EXISTS ${CMAKE_SOURCE_DIR}/bundle/commit)  # tools/gpu_bundle.sh
  file(READ ${CMAKE_SOURCE_DIR}/bundle/commit BELFRY_COMMIT LIMIT 12)
endif()
if(NOT BELFRY_COMMIT)
  set(BELFRY_COMMIT unknown)
endif()
configure_file(${CMAKE_SOURCE_DIR}/engine/build_info.hpp.in
               ${CMAKE_BINARY_DIR}/generated/engine/build_info.hpp @ONLY)
