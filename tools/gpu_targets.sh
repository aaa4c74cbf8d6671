#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gpu_targets.sh BUILD: builds what a machine with a GPU runs: the command, gpu_* tests, *_cuda benchmarks.
set -euo pipefail
build=$1
targets=$(cmake --build "$build" --target help | tr -s ' :.' '\n' | grep -xE 'gpu_\w+|\w+_cuda|belfry' | sort -u)
[ -n "$targets" ] || { echo "error: $build has no targets for a GPU" >&2; exit 1; }
# shellcheck disable=SC2086
cmake --build "$build" -j "$(nproc)" --target $targets
