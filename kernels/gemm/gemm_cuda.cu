// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "kernels/core/branches.hpp"
#include "kernels/core/simt.hpp"
#include "kernels/gemm/gemm_plan.hpp"

namespace belfry::cuda {

namespace gemm_kernels {

/// c = beta c: a product over an empty K, which the library refuses.
__global__ void scale(Matrix<float> c, float beta) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (std::int64_t i = first; i < c.rows * c.cols; i += step) {
    float& element = c(i / c.cols, i % c.cols);
    element = beta == 0.0f ? 0.0f : beta * element;  // 0 overwrites without reading
  }
}

}  // namespace gemm_kernels

namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kMostBlocks = 1024;

std::int64_t depth_of(const Product& p) {
  return p.options.a == Transpose::yes ? p.a.rows : p.a.cols;
}

void scale(simt::Stream& stream, Matrix<float> c, float beta) {
  const std::int64_t blocks = (c.rows * c.cols + kThreads - 1) / kThreads;
  simt::launch({.grid = static_cast<unsigned>(std::min(blocks, kMostBlocks)),
                .block = kThreads,
                .stream = &stream},
               gemm_kernels::scale, c, beta);
}

/// True where nothing but the operands' places differ.
bool alike(const Product& x, const Product& y) {
  const auto same = [](const auto& s, const auto& t) {
    return s.rows == t.rows && s.cols == t.cols && s.pitch == t.pitch;
  };
  return same(x.a, y.a) && same(x.b, y.b) && same(x.c, y.c) && x.options.a == y.options.a &&
         x.options.b == y.options.b && x.options.alpha == y.options.alpha &&
         x.options.beta == y.options.beta && x.epilogue == y.epilogue;
}

std::int64_t elements_between(const float* from, const float* to) {
  return (reinterpret_cast<std::intptr_t>(to) - reinterpret_cast<std::intptr_t>(from)) /
         static_cast<std::int64_t>(sizeof(float));
}

/// Makes `next` a further member of the batch if it lies one stride on (the second one sets the strides).
/// cuBLASLt does not say what it makes of negative strides, so there are none; results must not overlap.
bool extend(Batch& batch, const Product& next) {
  const Product& p = batch.first;
  if (!alike(p, next)) return false;
  const std::int64_t a = elements_between(p.a.data, next.a.data),
                     b = elements_between(p.b.data, next.b.data),
                     c = elements_between(p.c.data, next.c.data),
                     bias = p.bias != nullptr ? elements_between(p.bias, next.bias) : 0;
  Batch longer = batch;
  ++longer.count;
  if (batch.count == 1) {
    longer.stride_a = a, longer.stride_b = b, longer.stride_c = c, longer.stride_bias = bias;
  }
  const std::int64_t n = batch.count;
  const bool in_step = a == n * longer.stride_a && b == n * longer.stride_b &&
                       c == n * longer.stride_c && bias == n * longer.stride_bias;
  const bool apart = a >= 0 && b >= 0 && c >= (p.c.rows - 1) * p.c.pitch + p.c.cols &&
                     bias >= (p.epilogue == Epilogue::bias_gradient ? p.c.cols : 0);
  if (!in_step || !apart || !Planner::instance().supports(longer)) return false;
  batch = longer;
  return true;
}

/// The products as few batches: each takes what comes after its first and fits, in ascending order of results.
std::vector<Batch> batches_of(std::vector<Product> products) {
  std::stable_sort(products.begin(), products.end(), [](const Product& x, const Product& y) {
    return reinterpret_cast<std::uintptr_t>(x.c.data) < reinterpret_cast<std::uintptr_t>(y.c.data);
  });
  std::vector<Batch> batches;
  std::vector<bool> taken(products.size());
  for (std::size_t i = 0; i < products.size(); ++i) {
    if (taken[i]) continue;
    Batch batch{.first = products[i]};
    for (std::size_t j = i + 1; j < products.size(); ++j) {
      if (!taken[j] && extend(batch, products[j])) taken[j] = true;
    }
    batches.push_back(batch);
  }
  return batches;
}

}  // namespace

bool supported(const Product& product) {
  if (product.epilogue == Epilogue::none) return true;
  if (product.c.empty() || depth_of(product) == 0) return false;
  return Planner::instance().supports({.first = product});
}

void multiply(const Context& ctx, simt::Stream& stream, const Product& product) {
  if (product.c.empty()) return;
  if (depth_of(product) == 0) return scale(stream, product.c, product.options.beta);
  Planner::instance().run(ctx, stream, {.first = product});
}

void multiply_all(const Context& ctx, std::span<const Product> products) {
  std::vector<Product> full;
  for (const Product& p : products) {
    if (p.c.empty()) continue;
    if (depth_of(p) == 0) {
      scale(ctx.stream(), p.c, p.options.beta);
    } else {
      full.push_back(p);
    }
  }
  const std::vector<Batch> batches = batches_of(std::move(full));
  const ArenaScope scope(ctx);
  auto branches = ctx.branches().fork(static_cast<int>(batches.size()));
  for (std::size_t i = 0; i < batches.size(); ++i) {
    Planner::instance().run(ctx, branches.branch(static_cast<int>(i)), batches[i]);
  }
  branches.join();
}

ProductCounters product_counters() {
  return Planner::instance().counters();
}

void gemm(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
          const GemmOptions& options) {
  const ArenaScope scope(ctx);
  multiply(ctx, ctx.stream(), {.a = a, .b = b, .c = c, .options = options});
}

}  // namespace belfry::cuda
