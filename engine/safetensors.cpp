#include "engine/safetensors.hpp"
