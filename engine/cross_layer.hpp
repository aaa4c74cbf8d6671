// SPDX-License-Identifier: Apache-2.0
// The layer "cross": DCN-v2's stack of feature crosses, full or low rank.
#pragma once

#include <memory>
#include <string>

#include "engine/layer.hpp"

namespace belfry {

/// x_0 = x;  x_{l+1} = x_0 * (act(projection_l(x_l)) + diag_scale x_l) + x_l;  y = the last. A projection is one
/// dense layer, or one without bias down to projection_dim and one back up. Parameters
/// "<name>.<l>.kernel", ".bias", and ".projection" (down) where it is of low rank.
/// See tfrs.layers.feature_interaction.Cross, MultiLayerDCN.
std::unique_ptr<Layer> make_cross_layer(const LayerConfig& config, const std::string& name,
                                        std::int64_t width, ParameterRegistry& registry);

}  // namespace belfry
