// SPDX-License-Identifier: Apache-2.0
// The DAG of networks in plain float64: what NetworkGraph computes, by recursion over names.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/network.hpp"

namespace belfry::test {

using Rows64 = std::vector<std::vector<double>>;

inline double activate(Activation a, double z) {
  constexpr double kScale = 1.05070098735548049342, kAlpha = 1.67326324235437728482;
  switch (a) {
    case Activation::linear:
      return z;
    case Activation::relu:
      return std::max(z, 0.0);
    case Activation::gelu:
      return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0)));
    case Activation::tanh:
      return std::tanh(z);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-z));
    case Activation::elu:
      return z > 0 ? z : std::expm1(z);
    case Activation::selu:
      return kScale * (z > 0 ? z : kAlpha * std::expm1(z));
    case Activation::softplus:
      return std::log1p(std::exp(z));
    case Activation::swish:
      return z / (1 + std::exp(-z));
    case Activation::gelu_tanh:
      return 0.5 * z *
             (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (z + 0.044715 * z * z * z)));
  }
  throw std::logic_error("activation");
}

/// Parameters by name, each [rows, cols] row-major.
struct Parameter64 {
  std::int64_t rows = 0, cols = 0;
  std::vector<double> value;
};
using Parameters64 = std::map<std::string, Parameter64>;

struct NetworkOracle {
  std::vector<NetworkConfig> networks;
  std::vector<FeatureInput> features;
  std::vector<std::string> table_of;           ///< parameter name of each feature's table
  std::vector<std::vector<std::int32_t>> ids;  ///< per feature
  std::int64_t queries = 0;

  /// Output rows of a network or feature, at most `limit` of them.
  Rows64 output(const Parameters64& p, const std::string& name, std::int64_t limit) const {
    for (std::size_t f = 0; f < features.size(); ++f) {
      if (features[f].name == name) return lookup(p.at(table_of[f]), ids[f], limit);
    }
    for (const NetworkConfig& n : networks) {
      if (n.name == name) return run(p, n, limit);
    }
    throw std::logic_error("no network " + name);
  }

 private:
  static Rows64 lookup(const Parameter64& table, const std::vector<std::int32_t>& ids,
                       std::int64_t limit) {
    Rows64 out;
    for (std::size_t i = 0; i < ids.size() && static_cast<std::int64_t>(i) < limit; ++i) {
      const auto row = table.value.begin() + ids[i] * table.cols;
      out.emplace_back(row, row + table.cols);
    }
    return out;
  }
  Rows64 run(const Parameters64& p, const NetworkConfig& n, std::int64_t limit) const {
    Rows64 x;
    std::vector<Rows64> parts;
    for (const std::string& input : n.inputs) parts.push_back(output(p, input, limit));
    std::size_t rows = parts[0].size();
    for (const Rows64& part : parts) rows = std::min(rows, part.size());
    for (std::size_t i = 0; i < rows; ++i) {
      x.emplace_back();
      for (const Rows64& part : parts) x[i].insert(x[i].end(), part[i].begin(), part[i].end());
    }
    int number = 0;
    for (const LayerConfig& layer : n.layers) {
      if (layer.kind == LayerKind::l2_normalize) {
        for (auto& row : x) {
          double norm = 0;
          for (const double v : row) norm += v * v;
          for (double& v : row) v /= std::sqrt(norm);
        }
        ++number;
        continue;
      }
      for (std::size_t u = 0; u < layer.units.size(); ++u, ++number) {
        const bool last = u + 1 == layer.units.size();
        x = dense(p, n.name + "." + std::to_string(number), layer.use_bias,
                  last ? layer.final_activation : layer.activation, x);
      }
    }
    return x;
  }
  static Rows64 dense(const Parameters64& p, const std::string& name, bool bias, Activation a,
                      const Rows64& x) {
    const Parameter64& kernel = p.at(name + ".kernel");
    Rows64 y;
    for (const auto& row : x) {
      std::vector<double> out(static_cast<std::size_t>(kernel.cols));
      for (std::size_t j = 0; j < out.size(); ++j) {
        double z = bias ? p.at(name + ".bias").value[j] : 0;
        for (std::size_t k = 0; k < row.size(); ++k) z += row[k] * kernel.value[k * out.size() + j];
        out[j] = activate(a, z);
      }
      y.push_back(std::move(out));
    }
    return y;
  }
};

}  // namespace belfry::test
