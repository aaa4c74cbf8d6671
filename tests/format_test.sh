#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every source stands as clang-format would write it. Exit 77 (skipped) without clang-format or git.
cd "$1" || exit 1
command -v clang-format >/dev/null || { echo "clang-format is not installed"; exit 77; }
files=$(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh') || exit 77
clang-format --dry-run --Werror $files
