// SPDX-License-Identifier: Apache-2.0
#include "host/fiber.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace belfry::simt::host {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kGuard = kPage;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStack = 256 << 10;  // red zones make frames larger
#else
constexpr std::size_t kStack = 64 << 10;
#endif
constexpr std::size_t kStacksAtOnce = 32;

Fiber* starting = nullptr;  // whose first instruction comes next

#if defined(__SANITIZE_ADDRESS__)
void start_switch(void** save, const void* bottom, std::size_t bytes) {
  __sanitizer_start_switch_fiber(save, bottom, bytes);
}
void finish_switch(void* saved, const void** bottom, std::size_t* bytes) {
  __sanitizer_finish_switch_fiber(saved, bottom, bytes);
}
#else
void start_switch(void**, const void*, std::size_t) {}
void finish_switch(void*, const void**, std::size_t*) {}
#endif

}  // namespace

#if !defined(BELFRY_SIMT_UCONTEXT)

// belfry_simt_switch(void** save, void* load): callee-saved registers onto this stack, stacks swapped,
// the other's registers from there. Floating-point control words are left alone: kernels do not touch them.
extern "C" void belfry_simt_switch(void** save, void* load);
asm(R"(
.text
.type belfry_simt_switch, @function
belfry_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size belfry_simt_switch, . - belfry_simt_switch
)");

void Fiber::prepare(void (*entry)(void*), void* argument, std::size_t reserved) {
  entry_ = entry;
  argument_ = argument;
  fake_stack_ = nullptr;
  const auto top = (reinterpret_cast<std::uintptr_t>(this->top()) - reserved) & ~std::uintptr_t{15};
  auto* words = reinterpret_cast<void**>(top) - 2;
  words[0] = reinterpret_cast<void*>(&Fiber::start);  // where `ret` goes
  words[1] = nullptr;                                 // its return address: ends stack traces
  words -= 6;
  for (int i = 0; i < 6; ++i) words[i] = nullptr;
  stack_pointer_ = words;
}

void Fiber::enter() {
  starting = this;
  start_switch(&main_fake_stack_, bottom_, bytes_);
  belfry_simt_switch(&main_stack_pointer_, stack_pointer_);
  finish_switch(main_fake_stack_, nullptr, nullptr);
}

void Fiber::leave(bool last) {
  start_switch(last ? nullptr : &fake_stack_, main_bottom_, main_bytes_);
  belfry_simt_switch(&stack_pointer_, main_stack_pointer_);
  finish_switch(fake_stack_, &main_bottom_, &main_bytes_);
}

#else

void Fiber::prepare(void (*entry)(void*), void* argument, std::size_t reserved) {
  entry_ = entry;
  argument_ = argument;
  fake_stack_ = nullptr;
  getcontext(&context_);
  context_.uc_stack.ss_sp = bottom_;
  context_.uc_stack.ss_size = (bytes_ - reserved) & ~std::size_t{15};
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::start, 0);
}

void Fiber::enter() {
  starting = this;
  start_switch(&main_fake_stack_, bottom_, bytes_);
  swapcontext(&main_context_, &context_);
  finish_switch(main_fake_stack_, nullptr, nullptr);
}

void Fiber::leave(bool last) {
  start_switch(last ? nullptr : &fake_stack_, main_bottom_, main_bytes_);
  swapcontext(&context_, &main_context_);
  finish_switch(fake_stack_, &main_bottom_, &main_bytes_);
}

#endif

void Fiber::start() {
  Fiber* self = starting;
  finish_switch(nullptr, &self->main_bottom_, &self->main_bytes_);
  self->entry_(self->argument_);
  std::abort();  // entry never returns
}

void Fiber::abandon() {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(bottom_, bytes_);
#endif
}

Fiber* FiberPool::take() {
  if (free_.empty()) {
    const std::size_t each = kStack + kGuard;
    void* memory = mmap(nullptr, each * kStacksAtOnce, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    for (std::size_t i = 0; i < kStacksAtOnce; ++i) {
      char* guard = static_cast<char*>(memory) + i * each;
      if (mprotect(guard, kGuard, PROT_NONE) != 0) throw std::bad_alloc();
      // Tops at different places of their pages: else all of them compete for the same cache sets.
      const std::size_t shift = i * 128;
      all_.push_back(std::make_unique<Fiber>(guard + kGuard, kStack - shift));
      free_.push_back(all_.back().get());
    }
  }
  Fiber* fiber = free_.back();
  free_.pop_back();
  return fiber;
}

}  // namespace belfry::simt::host
