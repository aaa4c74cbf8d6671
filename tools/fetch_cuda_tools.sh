#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of nvdisasm: the toolkit's, else that of NVIDIA's wheel on PyPI, put into build/cuda-tools.
# The version is pinned: another one may print another table.
set -euo pipefail
cd "$(dirname "$0")/.."
version=13.2.86
for found in "$(command -v nvdisasm || true)" /usr/local/cuda/bin/nvdisasm build/cuda-tools/nvidia/cu13/bin/nvdisasm; do
  if [ -n "$found" ] && [ -x "$found" ]; then
    echo "$found"
    exit
  fi
done
into=build/cuda-tools
mkdir -p "$into"
python3 -m pip download -q --no-deps --only-binary :all: -d "$into/wheels" "nvidia-cuda-nvdisasm==$version" >&2
for wheel in "$into"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$into"; done
chmod +x "$into"/nvidia/cu13/bin/nvdisasm
echo "$into/nvidia/cu13/bin/nvdisasm"
