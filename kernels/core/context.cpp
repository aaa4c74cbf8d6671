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

#include "kernels/core/branches.hpp"
#include "kernels/core/device.hpp"
#include "kernels/core/parallel.hpp"
#include "kernels/core/transfer.hpp"

namespace belfry {

namespace {
constexpr std::int64_t kAlignment = 64, kDeviceAlignment = 256;
constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
constexpr std::int64_t kSmallestBlock = std::int64_t{1} << 20;

std::int64_t round_up(std::int64_t n, std::int64_t to) {
  if (n > INT64_MAX - to) throw std::length_error("memory request overflows 64 bits");
  return (n + to - 1) / to * to;
}

void* allocate_on_device(std::int64_t bytes, Fill fill) {
  void* data = simt::device_malloc(bytes);
  if (fill == Fill::zeros && bytes > 0) simt::device_memset(data, 0, bytes);
  return data;
}
}  // namespace

void* allocate_bytes(Backend backend, std::int64_t bytes, Fill fill) {
  if (backend == Backend::cuda) return allocate_on_device(bytes, fill);
  if (bytes == 0) return nullptr;
  const bool huge = bytes >= 4 * kHugePage;
  const std::int64_t alignment = huge ? kHugePage : kAlignment;
  void* data = std::aligned_alloc(static_cast<std::size_t>(alignment),
                                  static_cast<std::size_t>(round_up(bytes, alignment)));
  if (data == nullptr) throw std::bad_alloc();
  if (huge) madvise(data, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // a hint; may fail
  if (fill == Fill::zeros) std::memset(data, 0, static_cast<std::size_t>(bytes));
  return data;
}

void free_bytes(Backend backend, void* data) noexcept {
  if (backend == Backend::cpu) return std::free(data);
  simt::device_free(data);
}

void* Arena::take_bytes(std::int64_t bytes) {
  bytes = round_up(bytes, backend_ == Backend::cpu ? kAlignment : kDeviceAlignment);
  while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    blocks_.emplace_back(backend_, std::max(bytes, std::max(kSmallestBlock, peak_)), Fill::none);
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
  if (backend_ == Backend::cpu && total_ == 0 && blocks_.size() > 1) {  // one will hold the peak
    blocks_.clear();
    block_ = 0;
    used_ = 0;
    try {
      blocks_.emplace_back(backend_, peak_, Fill::none);
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
  threads_ = threads > 0 ? threads : tbb::info::default_concurrency();
  workers_ = std::make_unique<Workers>(threads_);  // host work around a device's needs them too
  if (backend == Backend::cuda) stream_ = std::make_unique<simt::Stream>();
  state_buffer_ = Buffer<StepState>(backend, 1);
  state_ = state_buffer_.data();
  StepState first{};
  first.seed = seed;
  write_state(first);
}

Context::~Context() {
  branches_.reset();
  stream_.reset();  // waits for its work, which uses the arena
}

StepState Context::read_state() const {
  StepState state;
  download(*this, state_, &state, 1);
  return state;
}

void Context::write_state(const StepState& next) const {
  upload(*this, &next, state_, 1);
}

void Context::raise(std::uint32_t bits) const {
  require(backend_ == Backend::cpu, "Context::raise: kernels raise their own faults");
  std::atomic_ref<std::uint32_t>(state_->status).fetch_or(bits, std::memory_order_relaxed);
}

void Context::synchronise() const {
  if (stream_) stream_->sync();
}

simt::Stream& Context::stream() const {
  require(stream_ != nullptr, "Context::stream: only a CUDA context has one");
  return *stream_;
}

simt::Branches& Context::branches() const {
  if (!branches_) branches_ = std::make_unique<simt::Branches>(stream());
  return *branches_;
}

void upload_bytes(const Context& ctx, const void* host, void* to, std::int64_t bytes) {
  if (bytes == 0) return;
  if (ctx.backend() == Backend::cpu) {
    std::memcpy(to, host, static_cast<std::size_t>(bytes));
    return;
  }
  ctx.synchronise();
  simt::to_device(to, host, bytes);
}

void download_bytes(const Context& ctx, const void* from, void* host, std::int64_t bytes) {
  if (bytes == 0) return;
  if (ctx.backend() == Backend::cpu) {
    std::memcpy(host, from, static_cast<std::size_t>(bytes));
    return;
  }
  ctx.synchronise();
  simt::to_host(host, from, bytes);
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
