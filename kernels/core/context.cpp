// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/context.hpp"

#include <sys/mman.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/core/parallel.hpp"

namespace belfry {

namespace {
constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
constexpr std::int64_t kSmallestBlock = std::int64_t{1} << 20;

std::int64_t round_up(std::int64_t n, std::int64_t to) {
  if (n > INT64_MAX - to) throw std::length_error("memory request overflows 64 bits");
  return (n + to - 1) / to * to;
}
}  // namespace

void* allocate_bytes(Backend backend, std::int64_t bytes) {
  if (backend != Backend::cpu) {
    throw DeviceError("memory: this build has no CUDA backend");
  }
  if (bytes == 0) return nullptr;
  const bool huge = bytes >= 4 * kHugePage;
  const std::int64_t alignment = huge ? kHugePage : kAlignment;
  void* data = std::aligned_alloc(static_cast<std::size_t>(alignment),
                                  static_cast<std::size_t>(round_up(bytes, alignment)));
  if (data == nullptr) throw std::bad_alloc();
  if (huge) madvise(data, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // a hint; may fail
  std::memset(data, 0, static_cast<std::size_t>(bytes));
  return data;
}

void free_bytes(Backend, void* data) noexcept {
  std::free(data);
}

void* Arena::take_bytes(std::int64_t bytes) {
  bytes = round_up(bytes, kAlignment);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.emplace_back(backend_, std::max(bytes, std::max(kSmallestBlock, peak_)));
    ++allocations_;
    used_ = 0;
  }
  void* data = blocks_[block_].data() + used_;
  used_ += bytes;
  total_ += bytes;
  peak_ = std::max(peak_, total_);
  return data;
}

Arena::Mark Arena::mark() const {
  return {block_, used_, total_};
}

void Arena::release(const Mark& mark) {
  block_ = mark.block;
  used_ = mark.used;
  total_ = mark.total;
  if (total_ == 0 && blocks_.size() > 1) {  // from now on one block holds the peak
    blocks_.clear();
    block_ = 0;
    used_ = 0;
    try {
      blocks_.emplace_back(backend_, peak_);
      ++allocations_;
    } catch (const std::bad_alloc&) {  // the next take asks again, where it may throw
    }
  }
}

/// The CPU's threads. (Library GEMMs inside tiles hold themselves to one thread, gemm_cpu.cpp.)
struct Context::Workers {
  explicit Workers(int threads)
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads)),
        arena(threads) {}
  tbb::global_control limit;
  tbb::task_arena arena;
};

Context::Context(Backend backend, int threads, std::uint64_t seed)
    : backend_(backend), arena_(backend) {
  if (backend != Backend::cpu) throw DeviceError("this build has no CUDA backend");
  threads_ = threads > 0 ? threads : tbb::info::default_concurrency();
  workers_ = std::make_unique<Workers>(threads_);
  state_buffer_ = Buffer<StepState>(backend, 1);
  state_ = new (state_buffer_.data()) StepState{};
  state_->seed = seed;
}

Context::~Context() = default;

void Context::raise(std::uint32_t bits) const {
  std::atomic_ref<std::uint32_t>(state_->status).fetch_or(bits, std::memory_order_relaxed);
}

void parallel_for(const Context& ctx, std::int64_t tiles, TileFunction f) {
  if (tiles <= 0) return;
  if (ctx.threads() == 1 || tiles == 1) {
    for (std::int64_t t = 0; t < tiles; ++t) f(t, 0);
    return;
  }
  ctx.workers().arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<std::int64_t>(0, tiles, 1),
        [&](const tbb::blocked_range<std::int64_t>& range) {
          const int worker = tbb::this_task_arena::current_thread_index();
          for (std::int64_t t = range.begin(); t != range.end(); ++t) f(t, worker);
        },
        tbb::simple_partitioner{});
  });
}

}  // namespace belfry
