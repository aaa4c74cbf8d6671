// SPDX-License-Identifier: Apache-2.0
// cuBLASLt's functions, behind a table: the library is opened when the first matrix product asks for
// it, so that a CUDA build starts, and says what is missing, on a machine without it. On the SIMT
// executor the table is the one of tests/simt/cublaslt_fake.cpp.
#pragma once

#include <cublasLt.h>

#include <string>
#include <vector>

namespace belfry::cuda {

struct CublasLt {
  decltype(&::cublasLtGetVersion) get_version;
  decltype(&::cublasLtGetStatusString) status_string;
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtMatmulDescCreate) desc_create;
  decltype(&::cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&::cublasLtMatrixLayoutCreate) layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&::cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&::cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&::cublasLtMatmul) matmul;
};

/// The library of this process; opened by the first call. DeviceError that names what was tried when
/// there is none; the next call tries again.
const CublasLt& cublaslt();

/// Where the library is looked for, in order: $BELFRY_CUBLAS alone if it is set (a file), else the
/// loader's own search for version 13, then 12, then the same names in the toolkit's folder
/// ($CUDA_HOME, $CUDA_PATH, /usr/local/cuda) and in the `nvidia` packages of Python installations
/// ($VIRTUAL_ENV, $CONDA_PREFIX, python3 on the PATH, the user's own, the system's).
std::vector<std::string> cublaslt_candidates();

/// Opens the first of `candidates` that has all functions.
CublasLt open_cublaslt(const std::vector<std::string>& candidates);

}  // namespace belfry::cuda
