// SPDX-License-Identifier: Apache-2.0
#include "bench/cuda_support.hpp"

int main(int argc, char** argv) {
  return belfry::bench::cuda_bench_main(argc, argv);
}
