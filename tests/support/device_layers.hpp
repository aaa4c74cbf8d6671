// SPDX-License-Identifier: Apache-2.0
// Dense layers that lie on the device, with what must come out of them.
#pragma once

#include <string>
#include <vector>

#include "kernels/dense/dense.hpp"
#include "kernels/gemm/gemm_products.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {

inline cuda::ProductCounters since(const cuda::ProductCounters& before) {
  const cuda::ProductCounters now = cuda::product_counters();
  return {now.heuristic_queries - before.heuristic_queries, now.calls - before.calls,
          now.batched - before.batched};
}

/// Consecutive pieces of one buffer: the order in memory is the order of the takes.
class Pool {
 public:
  Pool(const Context& ctx, std::int64_t n) : ctx_(ctx), buffer_(ctx.backend(), n, Fill::none) {}
  Matrix<float> matrix(std::int64_t rows, std::int64_t cols) {
    const Matrix<float> m(buffer_.data() + used_, rows, cols);
    used_ += (rows * cols + 63) / 64 * 64;
    require(used_ <= buffer_.size(), "Pool: too small");
    return m;
  }
  Matrix<float> matrix(const HostMatrix& host) {
    const Matrix<float> m = matrix(host.rows(), host.cols());
    write(m, host);
    return m;
  }
  void write(Matrix<float> m, const HostMatrix& host) {
    upload(ctx_, host.view().data, m.data, host.rows() * host.cols());
  }
  std::vector<float> read(Matrix<float> m) const {
    std::vector<float> values(static_cast<std::size_t>(m.rows * m.cols));
    download(ctx_, m.data, values.data(), m.rows * m.cols);
    return values;
  }

 private:
  const Context& ctx_;
  Buffer<float> buffer_;
  std::int64_t used_ = 0;
};

/// A layer whose data lie on the device, and what must come out, by float64.
struct DeviceLayer {
  HostMatrix host_x, host_kernel, host_d_y;
  std::vector<float> host_bias;
  Activation activation;
  Matrix<float> x, kernel, bias, z, y, d_y, d_kernel, d_bias, d_x;

  DeviceLayer(Random& random, Pool& pool, std::int64_t rows, std::int64_t inputs,
              std::int64_t units, Activation a)
      : activation(a),
        x(pool.matrix(rows, inputs)),
        kernel(pool.matrix(inputs, units)),
        bias(pool.matrix(1, units)),
        z(pool.matrix(rows, units)),
        y(pool.matrix(rows, units)),
        d_y(pool.matrix(rows, units)),
        d_kernel(pool.matrix(inputs, units)),
        d_bias(pool.matrix(1, units)),
        d_x(pool.matrix(rows, inputs)) {
    renew(random, pool);
  }
  /// Other values in the same places.
  void renew(Random& random, Pool& pool) {
    host_x = HostMatrix::normal(random, x.rows, x.cols);
    host_kernel = HostMatrix::normal(random, kernel.rows, kernel.cols, 0.3);
    host_d_y = HostMatrix::normal(random, d_y.rows, d_y.cols);
    host_bias = random.normals(bias.cols);
    pool.write(x, host_x);
    pool.write(kernel, host_kernel);
    pool.write(d_y, host_d_y);
    pool.write(bias, HostMatrix(1, bias.cols, host_bias));
  }
  /// Without a bias from here on.
  void drop_bias() {
    bias = d_bias = {};
    host_bias.clear();
  }
  DenseCall call() const { return {x, kernel, {bias.data, bias.cols}, activation, z, y}; }
  DenseGradCall grad_call() const {
    return {x, kernel, activation, z, y, d_y, d_kernel, {d_bias.data, d_bias.cols}, d_x};
  }
  void check(const Pool& pool) const {
    const Context cpu(Backend::cpu, 1);
    HostMatrix cpu_z(y.rows, y.cols), cpu_y(y.rows, y.cols),
        d = host_d_y, cpu_d_kernel(kernel.rows, kernel.cols), cpu_d_x(x.rows, x.cols);
    std::vector<float> cpu_d_bias(host_bias.size());
    belfry::dense(cpu, std::vector<DenseCall>{{host_x.view(), host_kernel.view(), view(host_bias),
                                               activation, cpu_z.view(), cpu_y.view()}});
    belfry::dense_grad(
        cpu, std::vector<DenseGradCall>{{host_x.view(), host_kernel.view(), activation,
                                         cpu_z.view(), cpu_y.view(), d.view(), cpu_d_kernel.view(),
                                         view(cpu_d_bias), cpu_d_x.view()}});
    SCOPED_TRACE("activation " + std::to_string(static_cast<int>(activation)) +
                 (host_bias.empty() ? ", no bias" : ""));
    expect_near(pool.read(y), cpu_y.values(), 2e-6, 4e-6, "y");
    expect_near(pool.read(d_kernel), cpu_d_kernel.values(), 2e-6, 1e-5, "d_kernel");
    expect_near(pool.read(d_bias), cpu_d_bias, 2e-6, 1e-5, "d_bias");
    expect_near(pool.read(d_x), cpu_d_x.values(), 2e-6, 4e-6, "d_x");
  }
};

template <class Layers>
void forward_and_backward(const Context& ctx, const Layers& layers) {
  std::vector<DenseCall> calls;
  std::vector<DenseGradCall> grad_calls;
  for (const DeviceLayer& l : layers) {
    calls.push_back(l.call());
    grad_calls.push_back(l.grad_call());
  }
  dense(ctx, calls);
  dense_grad(ctx, grad_calls);
}

}  // namespace belfry::test
