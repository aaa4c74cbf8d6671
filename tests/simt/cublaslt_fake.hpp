// SPDX-License-Identifier: Apache-2.0
// cuBLASLt for the executor: the functions of kernels/core/cublaslt.hpp, on the real descriptors. It takes
// what kernels/gemm asks for (fp32, row or column order, transposes, strided batches, bias and ReLU
// epilogues, the bias gradient) and answers everything else as the library answers what it does not
// support. Products are queued on their stream and run when the executor comes to them.
//
// An algorithm that cuts K keeps its parts in the workspace and adds them in a second piece of work, so
// that two branches with one workspace spoil each other's results under some schedule. One that may cut K in
// place adds them in an order that depends on the schedule.
#pragma once

#include "kernels/core/cublaslt.hpp"

namespace belfry::simt::fake {

/// What the library of a test refuses beyond that: libraries and GPUs differ.
struct Refusals {
  bool bias_gradient = false;
  bool epilogues = false;
  bool batches_with_epilogue = false;
  bool everything = false;                        // no algorithm for anything
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;  // else what every product returns
};
Refusals& refusals();

}  // namespace belfry::simt::fake
