#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gpu_build.sh BIN: builds the command, the GPU's tests and benchmarks, and puts them into BIN. Libraries are the
# machine's, else those that gpu_bundle.sh carried.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
build=build/gpu
options=(-S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DBELFRY_CUDA=ON -DBELFRY_GPU_TESTS=ON
  -DBELFRY_BENCH=OFF)
command -v ninja >/dev/null && options+=(-G Ninja)
if [ -d bundle/deps ]; then
  deps=$PWD/bundle/deps/usr
  if [ ! -d "$build/googletest/lib" ] && [ ! -d "$build/googletest/lib64" ]; then
    cmake -S bundle/googletest -B "$build/googletest-build" -DCMAKE_BUILD_TYPE=Release -DBUILD_GMOCK=OFF \
      -DCMAKE_INSTALL_PREFIX="$PWD/$build/googletest"
    cmake --build "$build/googletest-build" --target install -j "$(nproc)"
  fi
  options+=("-DCMAKE_PREFIX_PATH=$PWD/$build/googletest;$deps" "-DPKG_CONFIG_EXECUTABLE=$PWD/bundle/pkg-config"
    -DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu "-DOPENSSL_ROOT_DIR=$deps"
    "-DCMAKE_CXX_FLAGS=-isystem $deps/include -isystem $deps/include/x86_64-linux-gnu"
    "-DCMAKE_CUDA_FLAGS=-isystem $deps/include"
    "-DCMAKE_EXE_LINKER_FLAGS=-L$deps/lib/x86_64-linux-gnu -Wl,-rpath-link,$deps/lib/x86_64-linux-gnu")
  # Test binaries are run while they are built, to list their tests.
  export LD_LIBRARY_PATH=$deps/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
cmake "${options[@]}"
tools/gpu_targets.sh "$build" "$bin"
