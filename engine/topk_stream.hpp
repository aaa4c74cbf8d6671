// SPDX-License-Identifier: Apache-2.0
// TopKStream: the k best items of tile after tile of queries, in order. On the device one tile's lists cross to
// the host and are worked on there while the next tile is scored; on the CPU each tile's are there at once.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "kernels/core/device.hpp"
#include "kernels/core/streamed.hpp"
#include "kernels/core/transfer.hpp"
#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry {

class TopKStream {
 public:
  /// The lists of queries first, first + 1, ..., in host memory, as topk_scores leaves them.
  using Sink = std::function<void(std::int64_t first, Matrix<const float> scores,
                                  Matrix<const std::int32_t> rows)>;

  /// For tiles of at most `tile` queries. `allowed_bits` (host; empty: all) holds for every query.
  TopKStream(const Context& ctx, const PackedItems& items, std::int64_t heads, std::int64_t tile,
             std::int64_t k, Vector<const std::uint64_t> allowed_bits, Sink sink);

  /// Queues a tile: `queries` in the backend's memory, where they stay until ops queued later change them;
  /// lists in host memory (offsets need not begin at 0), which may change on return. Then the tile before
  /// goes to the sink (on the CPU: this one).
  void add(std::int64_t first, Matrix<const float> queries, const RowLists& exclude = {},
           const RowLists& only = {});
  /// Hands out the last tile. Without it (an exception, say) its lists are dropped.
  void finish();

  /// Time that the device took to score the tiles handed out so far; 0 on the CPU.
  double device_seconds() const { return device_seconds_; }

 private:
  /// Ragged lists of host memory on their way to the ops.
  struct Lists {
    explicit Lists(const SharedCopyQueue& queue) : offsets(queue), rows(queue) {}
    StreamedIn<std::int64_t> offsets;
    StreamedIn<std::int32_t> rows;
    std::vector<std::int64_t> rebased;
    RowLists put(const Context& ctx, const RowLists& host, std::int64_t n);
  };
  /// The results of one tile.
  struct Slot {
    Slot(const Context& ctx, std::int64_t n, const SharedCopyQueue& queue)
        : scores(ctx, n, queue), rows(ctx, n, queue) {
      if (ctx.backend() != Backend::cpu) time.emplace();
    }
    struct Time {
      simt::TimedEvent begin, end;
    };
    StreamedOut<float> scores;
    StreamedOut<std::int32_t> rows;
    std::optional<Time> time;
    std::int64_t first = 0, queries = 0;  // queries > 0: under way
  };
  void hand_out(Slot& slot);

  const Context& ctx_;
  PackedItems items_;
  std::int64_t heads_, tile_, k_;
  Uploaded<std::uint64_t> allowed_bits_;
  Sink sink_;
  SharedCopyQueue inward_ = std::make_shared<CopyQueue>(), outward_ = std::make_shared<CopyQueue>();
  Lists exclude_{inward_}, only_{inward_};
  std::deque<Slot> slots_;  // one on the CPU, two on the device
  std::size_t next_ = 0;
  double device_seconds_ = 0;
};

}  // namespace belfry
