// SPDX-License-Identifier: Apache-2.0
// What a model file contradicts itself in. Each refusal stands at the key that would have to change.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/config_check.hpp"
#include "engine/config_schema.hpp"
#include "engine/config_toml.hpp"
#include "engine/error.hpp"
#include "engine/nearest.hpp"
#include "engine/row_filter.hpp"
#include "engine/schedule.hpp"
#include "kernels/core/step_state.hpp"

namespace belfry {
namespace {

class Checker {
 public:
  explicit Checker(const Config& config) : c_(config) {}
  void run() {
    ranges();
    data();
    split();
    check_features(c_);
    for (std::size_t i = 0; i < c_.features.size(); ++i) feature_.emplace(c_.features[i].name, i);
    networks();
    towers();
    tasks();
    optimizer();
  }

 private:
  [[noreturn]] void refuse(const std::string& key, const std::string& what,
                           const std::string& hint = "") const {
    refuse_key(c_, key, what, hint);
  }

  /// The rules that the reader holds a file to, for structs that a program filled.
  void ranges() const {
    Config copy = c_;
    if (const auto complaint = schema::check_fields(schema::root_fields(copy))) {
      refuse(complaint->at, complaint->what, complaint->hint);
    }
    for (const schema::Section& s : schema::sections(copy)) {
      const auto complaint = schema::check_fields(s.fields);
      if (complaint) refuse(s.key + "." + complaint->at, complaint->what, complaint->hint);
    }
  }

  void data() const {
    const DataConfig& d = c_.data;
    if (d.interactions.empty()) {
      refuse("data.interactions", "\"interactions\" is missing in [data]",
             "it names the file of user-item rows");
    }
    if (!d.user.empty() && d.user == d.item) {
      refuse("data.item",
             "the user and the item are the same column " + schema::toml_string(d.user));
    }
    if (!c_.data.where.empty()) {
      try {
        RowFilter::parse(c_.data.where);
      } catch (const Error& e) {
        refuse("data.where", e.what());
      }
    }
    if (!d.items_key.empty() && d.items.empty()) {
      refuse("data.items_key", "\"items_key\" is given without an \"items\" table");
    }
    if (!d.users_key.empty() && d.users.empty()) {
      refuse("data.users_key", "\"users_key\" is given without a \"users\" table");
    }
  }

  void split() const {
    const SplitConfig& s = c_.split;
    if (s.method == SplitMethod::file && c_.data.test.empty()) {
      refuse("split.method", "split method \"file\" needs a test file",
             "name it by \"test\" in [data]");
    }
    if (s.method != SplitMethod::file && !c_.data.test.empty()) {
      refuse("data.test", "a test file is given, but rows are split by another method",
             "set split.method to \"file\"");
    }
    const bool sized = s.method == SplitMethod::random || s.method == SplitMethod::shuffle ||
                       s.method == SplitMethod::temporal;
    if (!sized && (s.train || s.test)) {
      refuse(s.test ? "split.test" : "split.train", "this split method has no use for amounts",
             "they are for \"random\", \"shuffle\" and \"temporal\"");
    }
    if (s.train && s.test && s.train->fraction && s.test->fraction &&
        s.train->value + s.test->value > 1 + 1e-9) {
      refuse("split.test", "the fractions \"train\" and \"test\" add up to more than 1");
    }
  }

  void networks() {
    for (std::size_t i = 0; i < c_.networks.size(); ++i) {
      const NetworkConfig& n = c_.networks[i];
      const std::string at = key_of("network", i, "name");
      check_name(c_, at, n.name);
      if (feature_.count(n.name) != 0) {
        refuse(at, "a network and a feature are both named \"" + n.name + "\"");
      }
      if (!network_.emplace(n.name, i).second) {
        refuse(at, "two networks are named \"" + n.name + "\"");
      }
    }
    std::vector<std::string> known = {"query", "candidate"};
    for (const auto& [name, i] : feature_) known.push_back(name);
    for (const auto& [name, i] : network_) known.push_back(name);
    for (std::size_t i = 0; i < c_.networks.size(); ++i) {
      inputs(i, known);
      layers(i);
      check_sequences(c_, i);
    }
    for (std::size_t i = 0; i < c_.networks.size(); ++i) cycle(i);
  }

  void inputs(std::size_t i, const std::vector<std::string>& known) const {
    const NetworkConfig& n = c_.networks[i];
    if (n.inputs.empty()) {
      refuse(key_of("network", i, "inputs"), "network \"" + n.name + "\" has no inputs");
    }
    std::set<std::string> seen;
    for (std::size_t j = 0; j < n.inputs.size(); ++j) {
      const std::string& input = n.inputs[j];
      const std::string at = key_of("network", i, fmt::format("inputs.{}", j));
      if (std::find(known.begin(), known.end(), input) == known.end()) {
        refuse(at,
               fmt::format("network \"{}\" has an unknown input {}", n.name,
                           schema::toml_string(input)),
               nearest_hint(input, known));
      }
      if (!seen.insert(input).second) {
        refuse(at, fmt::format("network \"{}\" names its input \"{}\" twice", n.name, input));
      }
    }
  }

  void layers(std::size_t i) const {
    const NetworkConfig& n = c_.networks[i];
    for (std::size_t j = 0; j < n.layers.size(); ++j) {
      if (n.layers[j].kind == LayerKind::mlp && n.layers[j].units.empty()) {
        refuse(key_of("network", i, fmt::format("layers.{}.units", j)),
               "an mlp layer needs \"units\"", "such as units = [64, 32]");
      }
      const std::string layer = fmt::format("layers.{}", j);
      for (const auto& [key, init] : {std::pair("kernel_init", &n.layers[j].kernel_init),
                                      std::pair("bias_init", &n.layers[j].bias_init)}) {
        if (*init) check_init(c_, key_of("network", i, layer + "." + key), **init);
      }
      if (!n.layers[j].use_bias) no_bias(i, j);
      if (n.layers[j].kind == LayerKind::heads) heads(i, j);
      if (n.layers[j].kind != LayerKind::dot_interaction) continue;
      const std::string at = key_of("network", i, fmt::format("layers.{}", j));
      if (j > 0) refuse(at, "a dot-interaction must be the first layer: it reads the inputs apart");
      if (n.inputs.size() < 2) refuse(at, "a dot-interaction needs at least two inputs");
    }
  }

  /// What is said of the biases of a layer that has none.
  void no_bias(std::size_t i, std::size_t j) const {
    const LayerConfig& layer = c_.networks[i].layers[j];
    for (const auto& [key, said] : {std::pair("bias_l1", layer.bias_penalty.l1 != 0),
                                    std::pair("bias_l2", layer.bias_penalty.l2 != 0),
                                    std::pair("bias_init", layer.bias_init.has_value())}) {
      if (!said) continue;
      refuse(key_of("network", i, fmt::format("layers.{}.{}", j, key)),
             fmt::format("\"{}\" has no meaning here", key), "it needs use_bias = true");
    }
  }

  /// Several vectors of a query: only retrieval takes them, and only at the end of the query tower.
  void heads(std::size_t i, std::size_t layer) const {
    const NetworkConfig& n = c_.networks[i];
    const std::string at = key_of("network", i, fmt::format("layers.{}", layer));
    if (n.name != "query") refuse(at, "only the network \"query\" can end in heads");
    if (layer + 1 != n.layers.size()) refuse(at, "heads must be the last layer of the network");
    if (retrieval_task(c_) == nullptr) refuse(at, "heads need a retrieval task");
  }

  /// Follows the inputs of network i; `path_` holds the networks on the way.
  void cycle(std::size_t i) {
    if (!done_.insert(i).second) return;
    path_.push_back(i);
    const NetworkConfig& n = c_.networks[i];
    for (std::size_t j = 0; j < n.inputs.size(); ++j) {
      const auto next = network_.find(n.inputs[j]);
      if (next == network_.end()) continue;
      const auto start = std::find(path_.begin(), path_.end(), next->second);
      if (start != path_.end()) {
        std::string way;
        for (auto at = start; at != path_.end(); ++at) way += c_.networks[*at].name + " <- ";
        refuse(key_of("network", i, fmt::format("inputs.{}", j)),
               "networks read each other in a circle: " + way + next->first);
      }
      cycle(next->second);
    }
    path_.pop_back();
  }

  void towers() {
    for (std::size_t t = 0; t < c_.tasks.size(); ++t) ranking_network(t);
    if (retrieval_task(c_) == nullptr) return unused();
    for (const Side side : {Side::query, Side::candidate}) {
      const auto tower = network_.find(word(side));
      if (tower != network_.end()) {
        one_side(tower->second, side, tower->second, "");
      } else {
        for (const FeatureConfig& f : c_.features) {
          if (f.of == side) used_.insert(f.name);
        }
      }
    }
    unused();
    const std::int64_t q = width_of_head(), v = width_of_tower(Side::candidate);
    if (q > 0 && v > 0 && q != v && query_heads(c_) > 1) {
      refuse(heads_key(),
             fmt::format("a head of the query tower is {} wide and the candidate tower {}", q, v),
             "the query tower must be as wide as all its heads together");
    }
    if (q > 0 && v > 0 && q != v) {
      refuse(width_key(Side::candidate),
             fmt::format("the query tower is {} wide and the candidate tower {}", q, v),
             "both must end in the same width");
    }
  }

  /// The score of a ranking task is a network of one column; it may read anything.
  void ranking_network(std::size_t t) {
    const TaskConfig& task = c_.tasks[t];
    if (task.kind != TaskKind::ranking) return;
    const std::string at = key_of("task", t, "score");
    if (task.score.empty()) {
      refuse(at, "a ranking task needs \"score\"", "the name of a network one column wide");
    }
    const auto network = network_.find(task.score);
    if (network == network_.end()) {
      std::vector<std::string> known;
      for (const auto& [name, i] : network_) known.push_back(name);
      refuse(at, fmt::format("there is no network {}", schema::toml_string(task.score)),
             nearest_hint(task.score, known));
    }
    use(task.score);
    if (width(task.score) != 1) {
      refuse(at,
             fmt::format("the network \"{}\" is {} columns wide, and a score is one", task.score,
                         width(task.score)),
             "end it with an mlp whose last unit is 1");
    }
    for (std::size_t u = 0; u < t; ++u) {
      if (c_.tasks[u].kind == TaskKind::ranking && c_.tasks[u].score == task.score) {
        refuse(at, "two tasks have the same score \"" + task.score + "\"");
      }
    }
  }

  /// Marks an input and all that it reads as used.
  void use(const std::string& name) {
    if (!used_.insert(name).second) return;
    if (const auto network = network_.find(name); network != network_.end()) {
      for (const std::string& input : c_.networks[network->second].inputs) use(input);
      return;
    }
    if (name != "query" && name != "candidate") return;
    for (const FeatureConfig& f : c_.features) {  // a tower that is not spelled out
      if (word(f.of) == name) used_.insert(f.name);
    }
  }

  /// A tower reads features of its own side alone, also through other networks.
  void one_side(std::size_t i, Side side, std::size_t tower, const std::string& entry) {
    const NetworkConfig& n = c_.networks[i];
    used_.insert(n.name);
    for (std::size_t j = 0; j < n.inputs.size(); ++j) {
      const std::string& input = n.inputs[j];
      used_.insert(input);
      const std::string at =
          entry.empty() ? key_of("network", tower, fmt::format("inputs.{}", j)) : entry;
      const auto feature = feature_.find(input);
      const bool other_tower = input == word(side == Side::query ? Side::candidate : Side::query);
      if (other_tower || (feature != feature_.end() && c_.features[feature->second].of != side)) {
        refuse(at, fmt::format("the {} tower cannot read \"{}\", which is of the other side",
                               word(side), input));
      }
      const auto network = network_.find(input);
      if (network != network_.end()) one_side(network->second, side, tower, at);
    }
  }

  void unused() const {
    for (std::size_t i = 0; i < c_.networks.size(); ++i) {
      const std::string& name = c_.networks[i].name;
      if (name != "query" && name != "candidate" && used_.count(name) == 0) {
        refuse(key_of("network", i, "name"), "network \"" + name + "\" is used by no task",
               "a tower or the score of a ranking task may read it");
      }
    }
    for (std::size_t i = 0; i < c_.features.size(); ++i) {
      const FeatureConfig& f = c_.features[i];
      if (used_.count(f.name) == 0) {
        refuse(key_of("feature", i, "name"), "feature \"" + f.name + "\" is used by no network",
               fmt::format("add it to the inputs of \"{}\", or remove it", word(f.of)));
      }
    }
  }

  std::int64_t width(const std::string& name) const {
    const auto feature = feature_.find(name);
    if (feature != feature_.end()) return width_of(c_.features[feature->second]);
    const auto network = network_.find(name);
    if (network == network_.end()) {
      return width_of_features(name == "query" ? Side::query : Side::candidate);
    }
    const NetworkConfig& n = c_.networks[network->second];
    std::vector<std::int64_t> parts;
    std::int64_t sum = 0;
    for (const std::string& input : n.inputs) sum += parts.emplace_back(width(input));
    for (const LayerConfig& layer : n.layers) {
      const std::int64_t before = sum;
      sum = output_width(layer, before, parts);
      if (sum == 0 && before > 0) {
        refuse(key_of("network", network->second, "layers"),
               "the inputs of a dot-interaction must be of one width");
      }
      parts.clear();
    }
    return sum;
  }
  static std::int64_t width_of(const FeatureConfig& f) {
    if (f.kind == FeatureKind::number) return 1;
    return f.kind == FeatureKind::unified ? f.dim * f.chunks : f.dim;
  }

  /// 0: the side has no features yet; its id tower is filled in when the data is known.
  std::int64_t width_of_features(Side side) const {
    std::int64_t sum = 0;
    for (const FeatureConfig& f : c_.features) sum += f.of == side ? width_of(f) : 0;
    return sum;
  }
  std::int64_t width_of_tower(Side side) const { return width(word(side)); }

  /// Of one of the query tower's vectors.
  std::int64_t width_of_head() const {
    const std::int64_t all = width_of_tower(Side::query), heads = query_heads(c_);
    if (all % heads == 0) return all / heads;
    refuse(heads_key(),
           fmt::format("the query tower is {} wide, which {} heads do not divide", all, heads));
  }
  std::string heads_key() const {
    const std::size_t i = network_.at("query");
    return key_of("network", i, fmt::format("layers.{}.count", c_.networks[i].layers.size() - 1));
  }

  /// The key that decides a tower's width.
  std::string width_key(Side side) const {
    const auto network = network_.find(word(side));
    if (network != network_.end()) {
      const NetworkConfig& n = c_.networks[network->second];
      for (std::size_t j = n.layers.size(); j-- > 0;) {
        if (n.layers[j].kind == LayerKind::mlp) {
          return key_of("network", network->second, fmt::format("layers.{}.units", j));
        }
      }
      return key_of("network", network->second, "inputs");
    }
    for (std::size_t i = 0; i < c_.features.size(); ++i) {
      if (c_.features[i].of == side) return key_of("feature", i, "dim");
    }
    return "feature";
  }

  void tasks() const {
    if (c_.tasks.empty()) refuse("task", "there is no task");
    double weight = 0;
    int retrievals = 0, lists = 0;
    for (std::size_t i = 0; i < c_.tasks.size(); ++i) {
      const TaskConfig& t = c_.tasks[i];
      const NegativesConfig& n = t.negatives;
      weight += t.weight;
      if (t.kind == TaskKind::ranking) {
        if (t.list_size > 0 && ++lists > 1) {
          refuse(key_of("task", i, "list_size"), "only one task can draw lists");
        }
        check_ranking_task(c_, i);
        continue;
      }
      if (++retrievals > 1) refuse(key_of("task", i, "kind"), "only one task can be of retrieval");
      if (!n.in_batch && n.uniform == 0 && n.popularity == 0) {
        refuse(key_of("task", i, "negatives"), "the task has no negatives",
               "in_batch = true, or a number of uniform or popularity ones");
      }
      if (!n.in_batch && t.loss == RetrievalLoss::in_batch_softmax) {
        refuse(key_of("task", i, "negatives.in_batch"),
               "loss \"in-batch-softmax\" needs in-batch negatives",
               "loss = \"sampled-softmax\" does without");
      }
    }
    if (weight <= 0) refuse("task.0.weight", "all tasks have weight 0");
    check_early_stop(c_);
    if (!c_.index.rank_by.empty()) {
      const bool known = std::any_of(c_.tasks.begin(), c_.tasks.end(), [&](const TaskConfig& t) {
        return t.kind == TaskKind::ranking && t.score == c_.index.rank_by;
      });
      if (!known) {
        refuse("index.rank_by", fmt::format("no ranking task has the score {}",
                                            schema::toml_string(c_.index.rank_by)));
      }
    }
  }

  void optimizer() const {
    const OptimizerConfig& o = c_.optimizer;
    const int clips = (o.clipvalue ? 1 : 0) + (o.clipnorm ? 1 : 0) + (o.global_clipnorm ? 1 : 0);
    if (clips > 1) {
      refuse(o.global_clipnorm ? "optimizer.global_clipnorm" : "optimizer.clipnorm",
             "only one of clipvalue, clipnorm and global_clipnorm can be set");
    }
    one_optimizer(o.main, "optimizer");
    if (o.groups.size() >= kMaxParameterGroups) {
      refuse(key_of("optimizer.group", kMaxParameterGroups - 1, ""),
             fmt::format("there are at most {} optimizer groups", kMaxParameterGroups - 1));
    }
    for (std::size_t i = 0; i < o.groups.size(); ++i) {
      one_optimizer(o.groups[i], key_of("optimizer.group", i, ""));
      if (o.groups[i].match.empty()) {
        refuse(key_of("optimizer.group", i, "match"), "\"match\" must not be empty",
               "\"*\" matches every parameter");
      }
    }
  }

  void one_optimizer(const OptimizerGroupConfig& g, const std::string& at) const {
    const ScheduleConfig& s = g.schedule;
    if (g.options.nesterov && g.options.momentum == 0) {
      refuse(at + ".nesterov", "\"nesterov\" needs a \"momentum\" above 0");
    }
    if (g.options.clip_accumulator_update && g.options.use_standard_accumulator_update) {
      refuse(at + ".clip_accumulator_update",
             "a gradient cannot be clipped for an accumulator that is updated before the clipping",
             "set one of \"clip_accumulator_update\" and \"use_standard_accumulator_update\"");
    }
    if (s.kind != ScheduleKind::piecewise)
      return check_schedule(s, SourcePlace(place_of(c_, at + ".schedule")));
    if (s.values.size() != s.boundaries.size() + 1) {
      refuse(at + ".schedule.values",
             fmt::format("a piecewise schedule with {} boundaries needs {} values, not {}",
                         s.boundaries.size(), s.boundaries.size() + 1, s.values.size()));
    }
    for (std::size_t i = 1; i < s.boundaries.size(); ++i) {
      if (s.boundaries[i] <= s.boundaries[i - 1]) {
        refuse(fmt::format("{}.schedule.boundaries.{}", at, i), "\"boundaries\" must rise");
      }
    }
  }

  const Config& c_;
  std::map<std::string, std::size_t> feature_, network_;
  std::set<std::string> used_;
  std::set<std::size_t> done_;
  std::vector<std::size_t> path_;
};

}  // namespace

void check_config(const Config& config) {
  Checker(config).run();
}

}  // namespace belfry
