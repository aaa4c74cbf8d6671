#include "kernels/l2_normalize/l2_normalize.hpp"
