#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts CUDA's headers (no compiler, no driver, no library) into build/cuda-headers, from NVIDIA's wheels on
# PyPI. For machines without the toolkit: the SIMT executor needs float4, bf16 and their kin, and cuBLASLt's
# descriptors. Of the wheels only the include folders are kept; that of cuBLAS is 420 MB to download.
set -euo pipefail
cd "$(dirname "$0")/../.."
into=build/cuda-headers
include=$into/nvidia/cu13/include
if [ -f "$include/cuda_bf16.h" ] && [ -f "$include/cublasLt.h" ]; then exit 0; fi
mkdir -p "$into"
trap 'rm -rf "$into/wheels"' EXIT
python3 -m pip download -q --no-deps --only-binary :all: -d "$into/wheels" \
  'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*' 'nvidia-cublas==13.0.*'
python3 - "$into" "$into"/wheels/*.whl <<'PYTHON'
import sys
import zipfile

for path in sys.argv[2:]:
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(sys.argv[1], [name for name in wheel.namelist() if "/include/" in name])
PYTHON
test -f "$include/cuda_bf16.h" && test -f "$include/cublasLt.h"
