// SPDX-License-Identifier: Apache-2.0
// Stackful coroutines on guarded stacks: fifteen instructions of assembly on x86-64, ucontext elsewhere.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#if !defined(__x86_64__) && !defined(BELFRY_SIMT_UCONTEXT)
#define BELFRY_SIMT_UCONTEXT
#endif
#if defined(BELFRY_SIMT_UCONTEXT)
#include <ucontext.h>
#endif

namespace belfry::simt::host {

/// One stack. `entry(argument)` must end by switching away and is never resumed after that.
class Fiber {
 public:
  Fiber(char* bottom, std::size_t bytes) : bottom_(bottom), bytes_(bytes) {}

  /// Prepares the stack for entry(argument), leaving `reserved` bytes at its top alone.
  void prepare(void (*entry)(void*), void* argument, std::size_t reserved);
  /// From the scheduler to the fiber; returns when the fiber leaves.
  void enter();
  /// From the fiber back to the scheduler; returns when entered again. `last`: it never will be.
  void leave(bool last);
  /// Forgets what lies on an abandoned stack (ASan).
  void abandon();

  char* top() const { return bottom_ + bytes_; }
  bool holds(const void* p) const { return p >= bottom_ && p < bottom_ + bytes_; }

 private:
  static void start();

  char* bottom_;
  std::size_t bytes_;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  void* fake_stack_ = nullptr;       // ASan's, of the fiber
  void* main_fake_stack_ = nullptr;  // and of the scheduler
  const void* main_bottom_ = nullptr;
  std::size_t main_bytes_ = 0;
#if defined(BELFRY_SIMT_UCONTEXT)
  ucontext_t context_{}, main_context_{};
#else
  void* stack_pointer_ = nullptr;
  void* main_stack_pointer_ = nullptr;
#endif
};

/// Stacks for reuse, the warm ones first.
class FiberPool {
 public:
  Fiber* take();
  void give(Fiber* fiber) { free_.push_back(fiber); }

 private:
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> free_;
};

}  // namespace belfry::simt::host
