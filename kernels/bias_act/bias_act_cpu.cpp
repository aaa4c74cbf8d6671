#include "kernels/bias_act/bias_act.hpp"
