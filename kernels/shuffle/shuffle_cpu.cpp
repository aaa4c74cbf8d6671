#include "kernels/shuffle/shuffle.hpp"
