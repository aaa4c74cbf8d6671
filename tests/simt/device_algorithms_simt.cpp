// SPDX-License-Identifier: Apache-2.0
// kernels/core/device_algorithms.hpp on the executor: host work, queued on the stream in a kernel's place.
#include "kernels/core/device_algorithms.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "host/checker.hpp"
#include "host/memory.hpp"
#include "host/queue.hpp"

namespace belfry::cuda {

namespace {

using namespace simt::host;

void want(const void* p, std::size_t bytes, const char* what) {
  if (!device_region().covers(static_cast<const char*>(p), bytes)) {
    throw simt::Error(simt::Fault::bounds, std::string(what) + ": not inside of one device buffer");
  }
}

template <class T>
std::vector<T> fetch(const T* data, std::int64_t n, const char* what) {
  const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
  want(data, bytes, what);
  std::vector<T> values(static_cast<std::size_t>(n));
  std::memcpy(values.data(), data, bytes);
  return values;
}
template <class T>
void store(T* data, const std::vector<T>& values, const char* what) {
  const std::size_t bytes = values.size() * sizeof(T);
  want(data, bytes, what);
  std::memcpy(data, values.data(), bytes);
  note_host_write(reinterpret_cast<const char*>(data), bytes);
}

template <class Key>
void sort(const Key* keys, const std::uint32_t* values, std::int64_t n, int begin_bit, int end_bit,
          Key* sorted_keys, std::uint32_t* sorted_values) {
  constexpr const char* kWhat = "sort_pairs";
  const DeviceOpen open;
  const std::vector<Key> key = fetch(keys, n, kWhat);
  const std::vector<std::uint32_t> value = fetch(values, n, kWhat);
  std::vector<std::uint32_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0u);
  const int width = end_bit - begin_bit;
  const Key mask = width >= static_cast<int>(8 * sizeof(Key))
                       ? static_cast<Key>(~Key{0})
                       : static_cast<Key>((Key{1} << width) - 1);
  const auto digits = [&](std::uint32_t i) { return (key[i] >> begin_bit) & mask; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return digits(a) < digits(b); });
  std::vector<Key> key_out;
  std::vector<std::uint32_t> value_out;
  for (const std::uint32_t i : order) {
    key_out.push_back(key[i]);
    value_out.push_back(value[i]);
  }
  store(sorted_keys, key_out, kWhat);
  store(sorted_values, value_out, kWhat);
}

template <class Key>
void queue_sort(const Context& ctx, const Key* keys, const std::uint32_t* values, std::int64_t n,
                int begin_bit, int end_bit, Key* sorted_keys, std::uint32_t* sorted_values) {
  if (n == 0) return;
  simt::enqueue(&ctx.stream(), "sort_pairs",
                [=] { sort(keys, values, n, begin_bit, end_bit, sorted_keys, sorted_values); });
}

template <class In, class Out>
void queue_scan(const Context& ctx, const In* in, std::int64_t n, Out* out) {
  if (n == 0) return;
  simt::enqueue(&ctx.stream(), "exclusive_sum", [=] {
    const DeviceOpen open;
    const std::vector<In> values = fetch(in, n, "exclusive_sum");
    std::vector<Out> sums(values.size());
    std::exclusive_scan(values.begin(), values.end(), sums.begin(), Out{0});
    store(out, sums, "exclusive_sum");
  });
}

}  // namespace

void sort_pairs(const Context& ctx, const std::uint64_t* keys, const std::uint32_t* values,
                std::int64_t n, int begin_bit, int end_bit, std::uint64_t* sorted_keys,
                std::uint32_t* sorted_values) {
  queue_sort(ctx, keys, values, n, begin_bit, end_bit, sorted_keys, sorted_values);
}

void sort_pairs(const Context& ctx, const std::uint32_t* keys, const std::uint32_t* values,
                std::int64_t n, int begin_bit, int end_bit, std::uint32_t* sorted_keys,
                std::uint32_t* sorted_values) {
  queue_sort(ctx, keys, values, n, begin_bit, end_bit, sorted_keys, sorted_values);
}

void exclusive_sum(const Context& ctx, const std::uint32_t* in, std::int64_t n,
                   std::uint32_t* out) {
  queue_scan(ctx, in, n, out);
}

void exclusive_sum(const Context& ctx, const std::int32_t* in, std::int64_t n, std::int64_t* out) {
  queue_scan(ctx, in, n, out);
}

}  // namespace belfry::cuda
