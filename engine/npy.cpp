#include "engine/npy.hpp"
