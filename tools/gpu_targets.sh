#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gpu_targets.sh BUILD BIN: builds what a machine with a GPU runs and puts it into the folder BIN: the command, the
# executor's conformance tests, all other tests and all benchmarks as one program each, for they share the kernels.
# JOBS in the environment: compilers at a time (default: as many as there are cores).
set -euo pipefail
build=$1 bin=$2
programs=(apps/belfry tests/gpu/gpu_conformance_test tests/gpu/gpu_test bench/bench_cuda)
cmake --build "$build" -j "${JOBS:-$(nproc)}" --target "${programs[@]##*/}"
rm -rf "$bin"
mkdir -p "$bin"
cp -t "$bin" "${programs[@]/#/$build/}"
