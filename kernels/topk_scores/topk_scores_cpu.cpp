#include "kernels/topk_scores/topk_scores.hpp"
