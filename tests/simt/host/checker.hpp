// SPDX-License-Identifier: Apache-2.0
// The check build's notes on every byte of device memory: is it anybody's, was it written, who touched
// it last. Calls do nothing in the other builds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace belfry::simt::host {

struct Thread;

enum class Access : std::uint8_t { read, write, atomic };

/// Called by the compiler's hooks being linked in, before any kernel runs.
void enable_checking();

void note_allocated(const char* p, std::size_t bytes);
void note_freed(const char* p, std::size_t bytes);
/// The host wrote (copies, memset): the bytes count as written, by nobody in particular.
void note_host_write(const char* p, std::size_t bytes);
/// Host code that stands for device work reads: Error(uninit) if nobody wrote a byte of it.
void want_written(const char* p, std::size_t bytes, const char* what);
/// A copy under way: the target may not be read until it is written.
void note_undefined(const char* p, std::size_t bytes);
/// Shared memory that a block begins to use: addressable, unwritten, untouched by earlier blocks.
void note_shared(const char* p, std::size_t bytes);

/// One access of a running kernel; ends the launch on a fault.
void check_access(Thread& t, const void* p, std::size_t bytes, Access access, std::uint32_t code);
/// For memory outside of the device's: only the own stack, the program and pinned memory are allowed.
void check_foreign(Thread& t, const void* p, std::size_t bytes, std::uint32_t code);

}  // namespace belfry::simt::host
