#include "kernels/gemm/gemm.hpp"
