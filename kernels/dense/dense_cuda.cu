// SPDX-License-Identifier: Apache-2.0
// dense on the device: the products of all calls side by side, with as much of bias and activation in their
// epilogues as cuBLASLt has in Keras's form. Its GELU is the tanh form and is not ours; the others it does
// not have: those go through bias_act. Its backward ReLU epilogue is left alone: it would save the pass of
// bias_act_grad, but sits in the product of the layer above and wants a bit mask of 128-bit rows.
#include <vector>

#include "kernels/dense/dense.hpp"
#include "kernels/gemm/gemm_products.hpp"

namespace belfry::cuda {

namespace {

/// What can ride in the product of a forward call.
Epilogue forward_epilogue(const DenseCall& c) {
  if (c.activation == Activation::relu) {
    return c.bias.empty() ? Epilogue::relu : Epilogue::relu_bias;
  }
  return c.bias.empty() ? Epilogue::none : Epilogue::bias;
}

/// A forward call's product, and what is left to do after it.
struct Forward {
  Product product;
  bool add_bias = false, activate = false;
};

Forward forward_of(const DenseCall& c) {
  const bool linear = c.activation == Activation::linear, relu = c.activation == Activation::relu;
  // The library only reads a bias that it adds.
  Forward f{.product = {.a = c.x,
                        .b = c.kernel,
                        .c = linear || relu ? c.y : c.z,
                        .options = {},
                        .epilogue = forward_epilogue(c),
                        .bias = const_cast<float*>(c.bias.data)},
            .activate = !linear && !relu};
  if (!supported(f.product)) {
    f.product.c = linear ? c.y : c.z;
    f.product.epilogue = Epilogue::none;
    f.product.bias = nullptr;
    f.add_bias = !c.bias.empty();
    f.activate = !linear;
  }
  return f;
}

/// d_kernel = x^T d_z, and with it the d_bias of a linear layer, whose d_z is there from the start.
Product kernel_gradient(const DenseGradCall& c) {
  Product p{.a = c.x, .b = c.d_y, .c = c.d_kernel, .options = {.a = Transpose::yes}};
  if (c.activation != Activation::linear || c.d_bias.empty()) return p;
  Product with_bias = p;
  with_bias.epilogue = Epilogue::bias_gradient;
  with_bias.bias = c.d_bias.data;
  return supported(with_bias) ? with_bias : p;
}

}  // namespace

void dense(const Context& ctx, std::span<const DenseCall> calls) {
  std::vector<Forward> forwards;
  std::vector<Product> products;
  for (const DenseCall& c : calls) {
    forwards.push_back(forward_of(c));
    products.push_back(forwards.back().product);
  }
  multiply_all(ctx, products);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const DenseCall& c = calls[i];
    const Forward& f = forwards[i];
    if (!f.add_bias && !f.activate) continue;
    cuda::bias_act(ctx, f.product.c, f.add_bias ? c.bias : Vector<const float>(), c.activation,
                   c.y);
  }
}

void dense_grad(const Context& ctx, std::span<const DenseGradCall> calls) {
  std::vector<Product> products;
  for (const DenseGradCall& c : calls) {
    products.push_back(kernel_gradient(c));
    if (products.back().epilogue == Epilogue::none) {
      // The linear gradient reads neither z nor y; that of relu, which leaves z alone, reads y only.
      const bool linear = c.activation == Activation::linear;
      const Matrix<const float> z = linear ? c.d_y : c.z, y = linear ? c.d_y : c.y;
      cuda::bias_act_grad(ctx, z, y, c.d_y, c.activation, c.d_y, c.d_bias);
    }
    if (c.d_x.data != nullptr) {
      products.push_back({.a = c.d_y, .b = c.kernel, .c = c.d_x, .options = {.b = Transpose::yes}});
    }
  }
  multiply_all(ctx, products);
}

}  // namespace belfry::cuda
