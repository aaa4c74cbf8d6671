// SPDX-License-Identifier: Apache-2.0
// The DAG of networks in plain float64: what NetworkGraph computes, by recursion over names.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/network.hpp"
#include "engine/sequence_layers.hpp"

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
  std::map<std::string, Rows64> numbers;  ///< of features without a table
  /// Of those pooled by mean, or read step by step.
  std::map<std::string, std::vector<std::vector<std::int32_t>>> lists;

  /// Output rows of a network or feature, at most `limit` of them.
  Rows64 output(const Parameters64& p, const std::string& name, std::int64_t limit) const {
    if (const auto found = numbers.find(name); found != numbers.end()) {
      return first(found->second, limit);
    }
    for (std::size_t f = 0; f < features.size(); ++f) {
      if (features[f].name != name) continue;
      if (lists.contains(name)) return means(p.at(table_of[f]), lists.at(name), limit);
      return lookup(p.at(table_of[f]), ids[f], limit);
    }
    for (const NetworkConfig& n : networks) {
      if (n.name == name) return run(p, n, limit);
    }
    throw std::logic_error("no network " + name);
  }

 private:
  static constexpr std::int64_t kTableBound = std::numeric_limits<std::int64_t>::max();
  static Rows64 first(const Rows64& rows, std::int64_t limit) {
    const auto n = std::min(static_cast<std::int64_t>(rows.size()), limit);
    return {rows.begin(), rows.begin() + n};
  }
  static Rows64 means(const Parameter64& table, const std::vector<std::vector<std::int32_t>>& bags,
                      std::int64_t limit) {
    Rows64 out;
    for (const auto& bag : bags) {
      out.emplace_back(static_cast<std::size_t>(table.cols));
      for (const std::int32_t id : bag) {
        for (std::size_t c = 0; c < out.back().size(); ++c) {
          out.back()[c] += table.value[static_cast<std::size_t>(id * table.cols) + c] /
                           static_cast<double>(bag.size());
        }
      }
    }
    return first(out, limit);
  }
  static Rows64 lookup(const Parameter64& table, const std::vector<std::int32_t>& ids,
                       std::int64_t limit) {
    Rows64 out;
    for (std::size_t i = 0; i < ids.size() && static_cast<std::int64_t>(i) < limit; ++i) {
      const auto row = table.value.begin() + ids[i] * table.cols;
      out.emplace_back(row, row + table.cols);
    }
    return out;
  }
  /// Each list by itself: its rows, without any padding, are the steps.
  Rows64 run_steps(const Parameters64& p, const NetworkConfig& n, std::int64_t limit) const {
    const auto& all = lists.at(n.inputs.front());
    std::size_t f = 0;
    while (features[f].name != n.inputs.front()) ++f;
    Rows64 out;
    for (std::size_t i = 0; i < all.size() && static_cast<std::int64_t>(i) < limit; ++i) {
      const Rows64 x = lookup(p.at(table_of[f]), all[i], kTableBound);
      out.push_back(layers(p, n, 1, x, static_cast<std::size_t>(p.at(table_of[f]).cols)).front());
    }
    return out;
  }
  Rows64 run(const Parameters64& p, const NetworkConfig& n, std::int64_t limit) const {
    if (starts_with_steps(n)) return run_steps(p, n, limit);
    Rows64 x;
    std::vector<Rows64> parts;
    for (const std::string& input : n.inputs) parts.push_back(output(p, input, limit));
    std::size_t rows = parts[0].size();
    for (const Rows64& part : parts) rows = std::min(rows, part.size());
    for (std::size_t i = 0; i < rows; ++i) {
      x.emplace_back();
      for (const Rows64& part : parts) x[i].insert(x[i].end(), part[i].begin(), part[i].end());
    }
    return layers(p, n, parts.size(), std::move(x));
  }
  /// width: of the steps, where x are those of a list.
  static Rows64 layers(const Parameters64& p, const NetworkConfig& n, std::size_t parts, Rows64 x,
                       std::size_t width = 0) {
    int number = 0;
    for (const LayerConfig& layer : n.layers) {
      if (layer.kind == LayerKind::mlp) width = static_cast<std::size_t>(layer.units.back());
      if (reads_steps(layer.kind)) {
        x = steps_layer(p, n.name + "." + std::to_string(number++), layer, x, width);
        width = static_cast<std::size_t>(output_width(layer, static_cast<std::int64_t>(width), {}));
        continue;
      }
      if (layer.kind == LayerKind::l2_normalize) {
        for (auto& row : x) {
          double norm = 0;
          for (const double v : row) norm += v * v;
          for (double& v : row) v /= std::sqrt(norm);
        }
        ++number;
        continue;
      }
      if (layer.kind != LayerKind::mlp) {
        const std::string at = n.name + "." + std::to_string(number++);
        x = layer.kind == LayerKind::cross        ? cross(p, at, layer, x)
            : layer.kind == LayerKind::layer_norm ? layer_norm(p, at, layer.epsilon, x)
                                                  : dot_interaction(parts, layer, x);
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
  /// A layer over the steps of one list.
  static Rows64 steps_layer(const Parameters64& p, const std::string& name,
                            const LayerConfig& layer, const Rows64& x, std::size_t width) {
    switch (layer.kind) {
      case LayerKind::gru:
        return {gru_state(p, name, layer.use_bias, x)};
      case LayerKind::attention:
        return attention(p, name, layer, x);
      case LayerKind::position_embedding: {
        const Parameter64& positions = p.at(name + ".positions");
        Rows64 y = x;
        for (std::size_t t = 0; t < y.size(); ++t) {
          for (std::size_t j = 0; j < y[t].size(); ++j) {
            y[t][j] += positions.value[t * y[t].size() + j];
          }
        }
        return y;
      }
      default:
        return {pooled(layer.sequence_pooling, x, width)};
    }
  }
  /// Of no steps: zeros.
  static std::vector<double> pooled(SequencePooling pooling, const Rows64& x, std::size_t width) {
    if (pooling == SequencePooling::last) return x.empty() ? std::vector<double>(width) : x.back();
    std::vector<double> mean(width);
    for (const auto& row : x) {
      for (std::size_t j = 0; j < width; ++j) mean[j] += row[j] / static_cast<double>(x.size());
    }
    return mean;
  }
  /// Keras's GRU with reset_after.
  static std::vector<double> gru_state(const Parameters64& p, const std::string& name, bool bias,
                                       const Rows64& x) {
    const Parameter64& recurrent = p.at(name + ".recurrent");
    const auto n = static_cast<std::size_t>(recurrent.rows);
    const auto b = [&](std::size_t row, std::size_t c) {
      return bias ? p.at(name + ".bias").value[row * 3 * n + c] : 0.0;
    };
    const auto times = [&](const std::vector<double>& v, const Parameter64& m, std::size_t c) {
      double sum = 0;
      for (std::size_t k = 0; k < v.size(); ++k) sum += v[k] * m.value[k * 3 * n + c];
      return sum;
    };
    std::vector<double> h(n);
    for (const std::vector<double>& row : x) {
      std::vector<double> next(n);
      for (std::size_t j = 0; j < n; ++j) {
        const auto in = [&](std::size_t c) {
          return times(row, p.at(name + ".kernel"), c) + b(0, c);
        };
        const auto re = [&](std::size_t c) { return times(h, recurrent, c) + b(1, c); };
        const double z = activate(Activation::sigmoid, in(j) + re(j));
        const double r = activate(Activation::sigmoid, in(n + j) + re(n + j));
        next[j] = z * h[j] + (1 - z) * std::tanh(in(2 * n + j) + r * re(2 * n + j));
      }
      h = next;
    }
    return h;
  }
  static Rows64 attention(const Parameters64& p, const std::string& name, const LayerConfig& layer,
                          const Rows64& x) {
    const auto width = static_cast<std::size_t>(p.at(name + ".kernel").rows);
    const auto heads = static_cast<std::size_t>(layer.num_heads);
    const auto keys = static_cast<std::size_t>(head_width(layer, static_cast<std::int64_t>(width)));
    const Rows64 joined = dense(p, name, layer.use_bias, Activation::linear, x);
    Rows64 out(x.size(), std::vector<double>(heads * keys));
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t seen = layer.causal ? i + 1 : x.size();
        std::vector<double> weight(seen);
        double sum = 0;
        for (std::size_t j = 0; j < seen; ++j) {
          double score = 0;
          for (std::size_t k = 0; k < keys; ++k) {
            score += joined[i][h * keys + k] * joined[j][(heads + h) * keys + k];
          }
          sum += weight[j] = std::exp(score / std::sqrt(static_cast<double>(keys)));
        }
        for (std::size_t j = 0; j < seen; ++j) {
          for (std::size_t k = 0; k < keys; ++k) {
            out[i][h * keys + k] += weight[j] / sum * joined[j][(2 * heads + h) * keys + k];
          }
        }
      }
    }
    Rows64 y = dense(p, name + ".output", layer.use_bias, Activation::linear, out);
    for (std::size_t i = 0; layer.residual && i < x.size(); ++i) {
      for (std::size_t j = 0; j < width; ++j) y[i][j] += x[i][j];
    }
    return y;
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
  static Rows64 cross(const Parameters64& p, const std::string& name, const LayerConfig& layer,
                      const Rows64& x0) {
    Rows64 x = x0;
    for (std::int64_t l = 0; l < layer.num_layers; ++l) {
      const std::string at = name + "." + std::to_string(l);
      Rows64 through = x;
      if (layer.projection_dim > 0) {
        const Parameters64 down{{"down.kernel", p.at(at + ".projection")}};
        through = dense(down, "down", false, Activation::linear, x);
      }
      through = dense(p, at, layer.use_bias, layer.preactivation, through);
      for (std::size_t i = 0; i < x.size(); ++i) {
        for (std::size_t j = 0; j < x[i].size(); ++j) {
          x[i][j] += x0[i][j] * (through[i][j] + layer.diag_scale * x[i][j]);
        }
      }
    }
    return x;
  }
  static Rows64 layer_norm(const Parameters64& p, const std::string& name, double epsilon,
                           Rows64 x) {
    for (auto& row : x) {
      const auto n = static_cast<double>(row.size());
      double mean = 0, variance = 0;
      for (const double v : row) mean += v / n;
      for (const double v : row) variance += (v - mean) * (v - mean) / n;
      for (std::size_t j = 0; j < row.size(); ++j) {
        row[j] = (row[j] - mean) / std::sqrt(variance + epsilon) * p.at(name + ".gamma").value[j] +
                 p.at(name + ".beta").value[j];
      }
    }
    return x;
  }
  /// Products of parts i and j <= i, row by row of the triangle; skip_gather: zeros above it.
  static Rows64 dot_interaction(std::size_t parts, const LayerConfig& layer, const Rows64& x) {
    Rows64 y;
    for (const auto& row : x) {
      const std::size_t width = row.size() / parts;
      y.emplace_back();
      for (std::size_t i = 0; i < parts; ++i) {
        for (std::size_t j = 0; j < parts; ++j) {
          const bool wanted = j < i || (j == i && layer.self_interaction);
          double product = 0;
          for (std::size_t k = 0; wanted && k < width; ++k) {
            product += row[i * width + k] * row[j * width + k];
          }
          if (wanted || layer.skip_gather) y.back().push_back(product);
        }
      }
    }
    return y;
  }
};

}  // namespace belfry::test
