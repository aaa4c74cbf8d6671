// SPDX-License-Identifier: Apache-2.0
// Layers over the steps of a sequence (kernels/core/steps.hpp), which other layers take for rows: a GRU,
// self-attention, learned positions, pooling.
#pragma once

#include <memory>
#include <string>

#include "engine/config.hpp"
#include "engine/layer.hpp"
#include "engine/parameter_registry.hpp"

namespace belfry {

/// The layer `config` over rows of `width` columns, `steps` a sequence. Parameters:
///   gru                 NAME.kernel [D,3U], NAME.recurrent [U,3U], NAME.bias [2,3U], Keras's GRU and its
///                       initial values (glorot uniform, orthogonal, zero); the last state [B,U]
///   attention           NAME.kernel [D,3HK] and NAME.bias of queries, keys and values, in this order, and
///                       NAME.output.kernel [HK,D], NAME.output.bias, as tf.keras.layers.MultiHeadAttention
///                       over itself; each of the four matrices starts glorot uniform
///   sequence-pool       none; [B,D]
///   position-embedding  NAME.positions [T,D], row t is added to step t; starts uniform in +-0.05
std::unique_ptr<Layer> make_sequence_layer(const LayerConfig& config, const std::string& name,
                                           std::int64_t width, std::int64_t steps,
                                           ParameterRegistry& registry);

/// Columns of a head: key_dim, or what num_heads leaves of the width; 0: they do not divide it.
std::int64_t head_width(const LayerConfig& config, std::int64_t width);

}  // namespace belfry
