#include "kernels/optimizer_step/optimizer_step.hpp"
