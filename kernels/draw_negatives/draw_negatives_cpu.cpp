#include "kernels/draw_negatives/draw_negatives.hpp"
