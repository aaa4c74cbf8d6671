#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
