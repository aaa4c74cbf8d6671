// SPDX-License-Identifier: Apache-2.0
// What a program of somebody else looks like: made-up ratings, a model, its quality.
#include <cstdio>

#include "engine/config_toml.hpp"
#include "engine/run.hpp"
#include "engine/synthesize.hpp"

int main() {
  belfry::write_ratings_csv(belfry::synthesize({400, 200, 20'000, 5, 1}), "ratings.csv");
  const belfry::Context ctx(belfry::Backend::cpu, 1);
  belfry::RunObserver observer;
  const auto result =
      belfry::train_run(ctx, belfry::config_for_data("ratings.csv", {}), "run", observer, {});
  const double ndcg = result.evaluation->metrics.at("ndcg@20");
  std::printf("ndcg@20 %.3f, popularity %.3f\n", ndcg, result.evaluation->popularity.at("ndcg@20"));
  return ndcg > result.evaluation->popularity.at("ndcg@20") ? 0 : 1;
}
