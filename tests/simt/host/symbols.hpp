// SPDX-License-Identifier: Apache-2.0
// From code addresses to source lines, for reports.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>

namespace belfry::simt::host {

/// A code address relative to where the program was loaded; fits 31 bits. 0 is unknown.
std::uint32_t code_offset(const void* return_address);
/// "file.cu:33", the innermost line that is not of the executor itself.
std::string place_of(std::uint32_t offset);
std::string place_of(const std::source_location& where);
/// The name of the function at `address`.
std::string function_name(const void* address);
/// True if p lies in the program or a shared library: constants, tables.
bool in_program(const void* p);

}  // namespace belfry::simt::host
