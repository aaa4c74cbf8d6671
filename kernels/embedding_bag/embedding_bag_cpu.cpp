#include "kernels/embedding_bag/embedding_bag.hpp"
