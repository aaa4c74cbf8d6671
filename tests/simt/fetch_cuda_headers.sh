#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts CUDA's headers (no compiler, no driver) into build/cuda-headers, from NVIDIA's wheels on PyPI.
# For machines without the toolkit: the SIMT executor needs float4, bf16 and their kin.
set -euo pipefail
cd "$(dirname "$0")/../.."
into=build/cuda-headers
mkdir -p "$into"
python3 -m pip download -q --no-deps --only-binary :all: -d "$into/wheels" \
  'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*'
for wheel in "$into"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$into"; done
test -f "$into/nvidia/cu13/include/cuda_bf16.h"
