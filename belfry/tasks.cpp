// SPDX-License-Identifier: Apache-2.0
#include "belfry/tasks.hpp"

namespace belfry {

namespace {
template <class T>
void put(T& target, const std::optional<T>& given) {
  if (given) target = *given;
}
}  // namespace

TaskConfig Retrieval::config(const std::string& preset) const {
  TaskConfig task = default_config(preset).tasks.front();
  put(task.loss, options.loss);
  put(task.similarity, options.similarity);
  // As in a model file: the usual temperature is that of cosines.
  if (task.similarity == Similarity::dot) task.temperature = 1;
  put(task.temperature, options.temperature);
  put(task.negatives, options.negatives);
  put(task.sampling_correction, options.sampling_correction);
  put(task.remove_accidental_hits, options.remove_accidental_hits);
  put(task.mask_known_positives, options.mask_known_positives);
  put(task.num_hard_negatives, options.num_hard_negatives);
  put(task.mean_reduction, options.mean_reduction);
  task.weight = options.weight;
  return task;
}

TaskConfig Ranking::config() const {
  TaskConfig task;  // a preset speaks of retrieval
  task.kind = TaskKind::ranking;
  task.temperature = 1;
  task.score = score;
  task.ranking_loss = loss;
  task.label = label;
  task.label_above = label_above;
  task.group_by = group_by;
  task.list_size = list_size;
  task.weight = weight;
  return task;
}

Tasks::Tasks(std::initializer_list<Tasks> tasks) {
  for (const Tasks& t : tasks) {
    retrieval.insert(retrieval.end(), t.retrieval.begin(), t.retrieval.end());
    ranking.insert(ranking.end(), t.ranking.begin(), t.ranking.end());
    configs.insert(configs.end(), t.configs.begin(), t.configs.end());
  }
}

}  // namespace belfry
