#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nvcc_compiles.sh NVCC SOURCE_DIR FILE...: device code and host code of each file, warning-free.
# Exit 77 (skipped) without nvcc.
nvcc=$1 root=$2
shift 2
[ -x "$nvcc" ] || { echo "no nvcc"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for file in "$@"; do
  "$nvcc" -std=c++20 -arch=sm_90 -Werror all-warnings -Xcompiler -Wall -I "$root" -I "$root/tests/simt" \
    -c "$file" -o "$folder/object.o" || exit 1
done
