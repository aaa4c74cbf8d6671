# SPDX-License-Identifier: Apache-2.0
# Libraries of the CPU build; a missing one is named with its Debian package.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)  # only to hold oneDNN to one thread inside our tiles

function(belfry_require package debian)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} not found; on Debian: apt-get install ${debian}")
  endif()
endfunction()

belfry_require(TBB libtbb-dev)
belfry_require(hwy libhwy-dev)
belfry_require(tomlplusplus libtomlplusplus-dev)
belfry_require(nlohmann_json nlohmann-json3-dev)
belfry_require(fmt libfmt-dev)
belfry_require(CLI11 libcli11-dev)
belfry_require(tsl-robin-map robin-map-dev)
belfry_require(ZLIB zlib1g-dev)
belfry_require(OpenSSL libssl-dev COMPONENTS Crypto)

include(onednn)
find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)

if(BELFRY_TESTS OR BELFRY_BENCH)  # benchmarks verify themselves with the oracles of the tests
  belfry_require(GTest libgtest-dev)
endif()
if(BELFRY_BENCH)
  belfry_require(benchmark libbenchmark-dev)
endif()
