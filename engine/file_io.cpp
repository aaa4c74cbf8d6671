#include "engine/file_io.hpp"
