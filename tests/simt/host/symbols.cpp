// SPDX-License-Identifier: Apache-2.0
#include "host/symbols.hpp"

#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <string_view>
#include <vector>

extern "C" const char __executable_start, _end;

namespace belfry::simt::host {

namespace {

std::uintptr_t find_load_address() {
  std::uintptr_t address = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<std::uintptr_t*>(out) = info->dlpi_addr;
        return 1;  // the first object is the program
      },
      &address);
  return address;
}

std::uintptr_t load_address() {
  static const std::uintptr_t address = find_load_address();
  return address;
}

std::string base_name(std::string_view path) {
  return std::string(path.substr(path.find_last_of('/') + 1));
}

/// The lines that addr2line prints. Binutils come with every compiler; without them: none.
std::vector<std::string> addr2line(const char* flags, std::uintptr_t offset) {
  char program[4096];
  const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
  if (n <= 0) return {};
  program[n] = 0;
  std::ostringstream command;
  command << "addr2line " << flags << " -e '" << program << "' 0x" << std::hex << offset
          << " 2>/dev/null";
  std::FILE* pipe = popen(command.str().c_str(), "r");
  if (pipe == nullptr) return {};
  std::vector<std::string> lines;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    std::string_view text(line);
    lines.emplace_back(text.substr(0, text.find('\n')));
  }
  pclose(pipe);
  return lines;
}

}  // namespace

std::uint32_t code_offset(const void* return_address) {
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(return_address) - load_address();
  return offset < (std::uintptr_t{1} << 31) ? static_cast<std::uint32_t>(offset) : 0;
}

std::string place_of(std::uint32_t offset) {
  if (offset == 0) return "unknown place";
  for (const std::string& line : addr2line("-i", offset - 1)) {
    if (line.find("/simt/host/") == std::string::npos && line.find("??") == std::string::npos) {
      return base_name(line.substr(0, line.find(" (")));
    }
  }
  std::ostringstream text;
  text << "code at +0x" << std::hex << offset;
  return text.str();
}

std::string place_of(const std::source_location& where) {
  return base_name(where.file_name()) + ":" + std::to_string(where.line());
}

std::string function_name(const void* address) {
  const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(address) - load_address();
  const std::vector<std::string> lines = addr2line("-f -C", offset);
  if (lines.empty() || lines[0].find("??") != std::string::npos) return "kernel";
  return lines[0].substr(0, lines[0].find('('));
}

bool in_program(const void* p) {
  // The linker's marks first: constants of kernels lie there.
  if (p >= static_cast<const void*>(&__executable_start) && p < static_cast<const void*>(&_end)) {
    return true;
  }
  struct Query {
    std::uintptr_t address;
    bool found;
  } query{reinterpret_cast<std::uintptr_t>(p), false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto* q = static_cast<Query*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
          if (segment.p_type == PT_LOAD && q->address >= begin &&
              q->address < begin + segment.p_memsz) {
            q->found = true;
          }
        }
        return q->found ? 1 : 0;
      },
      &query);
  return query.found;
}

}  // namespace belfry::simt::host
