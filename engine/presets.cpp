// SPDX-License-Identifier: Apache-2.0
// The texts of `belfry init`. "defaults" is written from the field lists, so it cannot fall behind.
#include "engine/config_schema.hpp"
#include "engine/config_toml.hpp"
#include "engine/presets_ranking.hpp"

namespace belfry {
namespace {

constexpr const char* kQuickstart =
    R"(# quickstart: recommendations from a table of ratings, with belfry's own defaults.
#
#   belfry init quickstart > quickstart.toml
#   belfry validate quickstart.toml
#   belfry train quickstart.toml
#   belfry recommend runs/quickstart --user 1 -k 10
#
# Every key but data.interactions may be left out; `belfry init defaults` shows all of them. Any key can be
# set for one run on the command line: belfry train quickstart.toml train.epochs=10 train.batch_size=512
schema = 1                       # version of this file's form
name = "quickstart"              # the run goes to runs/quickstart

[data]
# Paths are relative to this file. CSV, TSV, JSON lines, MovieLens, RecBole and adjacency lists are
# recognised, also as .gz and .zst.
interactions = "ratings.csv"     # one row an interaction: userId,movieId,rating,timestamp
user = "userId"                  # column of the user id
item = "movieId"                 # column of the item id
time = "timestamp"               # used by the methods of [split] that know time
items = "movies.csv"             # one row an item: movieId,title,genres
items_key = "movieId"            # its column with the item id
# where = "rating >= 4"          # keep only these rows
# weight = "rating"              # let a row count by this column

[split]
method = "random"                # also: temporal (one cut in time), leave-last-out, shuffle, file, none
test = 0.1                       # a fraction, or a number of rows such as 10_000
seed = 42

# The two towers: a user is the vector of its id, an item the vector of its id.
[[feature]]
name = "user"
of = "query"                     # the side that asks
kind = "id"                      # one learnt row for each id; its column is data.user
dim = 64                         # width of the vector

[[feature]]
name = "movie"
of = "candidate"                 # the side that is found
kind = "id"
dim = 64                         # both towers must end in the same width

[[task]]
kind = "retrieval"
similarity = "cosine"            # or "dot"
temperature = 0.15               # smaller: the loss looks harder at the nearest wrong items
sampling_correction = "frequency"  # popular items are often negatives; this takes that out of their scores
remove_accidental_hits = true    # a negative that is the row's own item is no negative
reduction = "mean"

[optimizer]
kind = "adam"
learning_rate = 0.01

[train]
epochs = 30                      # at most: early stopping ends it sooner
batch_size = 1024
seed = 42                        # same data and seed, same model, to the last bit
shuffle = "epoch"
early_stop = { metric = "ndcg@20", patience = 3 }  # on 5 % of the training rows; false: no early stop

[evaluate]
metrics = ["recall@20", "ndcg@20", "hit_rate@20", "mrr"]
exclude_seen = true              # a user's training items are never recommended again

[index]
k = 10                           # items a list
)";

constexpr const char* kBasicRetrieval =
    R"(# basic-retrieval: the basic retrieval tutorial of TensorFlow Recommenders (TFRS).
# A user is an id, a movie its title; dot product, summed in-batch softmax, Adagrad.
schema = 1
name = "basic-retrieval"
preset = "tfrs"                  # TFRS's defaults: dot product, SUM loss, no sampling correction, seen items
                                 # kept in evaluation, every item a candidate, uniform +-0.05 tables

[data]
interactions = "ratings.csv"     # MovieLens: userId,movieId,rating,timestamp
user = "userId"
items = "movies.csv"             # movieId,title,genres
items_key = "movieId"            # joins the two files
item = "title"                   # the item is the title: rows of one title are one item

[split]
method = "shuffle"               # ratings.shuffle(seed).take(n), .skip(n).take(m)
seed = 42
train = 0.8                      # the tutorial: 80_000 and 20_000 rows of MovieLens 100K
test = 0.2

[[feature]]                      # StringLookup + Embedding(n + 1, 32)
name = "user_id"
of = "query"
kind = "id"
dim = 32
oov = 1                          # one row for users that training never saw

[[feature]]
name = "movie_title"
of = "candidate"
kind = "id"
dim = 32
oov = 1

[[task]]                         # tfrs.tasks.Retrieval()
kind = "retrieval"
loss = "in-batch-softmax"
reduction = "sum"

[optimizer]                      # tf.keras.optimizers.Adagrad(0.1)
kind = "adagrad"
learning_rate = 0.1
initial_accumulator_value = 0.1
epsilon = 1e-7

[train]
epochs = 3
batch_size = 8192
shuffle = "once"                 # train.shuffle(100_000).batch(8192).cache(): the same batches each epoch
seed = 42

[evaluate]                       # tfrs.metrics.FactorizedTopK over all movies, and the per-user metrics
metrics = ["factorized_top_k/top_1_categorical_accuracy", "factorized_top_k/top_5_categorical_accuracy",
           "factorized_top_k/top_10_categorical_accuracy", "factorized_top_k/top_50_categorical_accuracy",
           "factorized_top_k/top_100_categorical_accuracy", "recall@20", "ndcg@20"]
)";

constexpr const char* kTfrsQuickstart =
    R"(# tfrs-quickstart: the quickstart of TensorFlow Recommenders (TFRS).
# Trains on all rows and holds none out, as the quickstart does.
schema = 1
name = "tfrs-quickstart"
preset = "tfrs"                  # TFRS's own defaults everywhere

[data]
interactions = "ratings.csv"     # MovieLens: userId,movieId,rating,timestamp
user = "userId"
items = "movies.csv"             # movieId,title,genres
items_key = "movieId"
item = "title"                   # the item is the title

[split]
method = "none"                  # measure it on held-out rows: method = "shuffle", train = 0.8, test = 0.2

[[feature]]                      # StringLookup, adapted + Embedding(n, 64)
name = "user_id"
of = "query"
kind = "id"
dim = 64

[[feature]]
name = "movie_title"
of = "candidate"
kind = "id"
dim = 64

[optimizer]                      # tf.keras.optimizers.Adagrad(0.5)
kind = "adagrad"
learning_rate = 0.5

[train]
epochs = 3
batch_size = 4096
shuffle = "none"                 # ratings.batch(4096): rows in the order of the file
)";

constexpr const char* kDeepRetrieval =
    R"(# deep-retrieval: towers with more than an id, and dense layers on top of them.
schema = 1
name = "deep-retrieval"

[data]
interactions = "ratings.csv"     # userId,movieId,rating,timestamp
user = "userId"
item = "movieId"
time = "timestamp"
items = "movies.csv"             # movieId,title,genres
items_key = "movieId"

[split]
method = "random"
test = 0.1

[[feature]]
name = "user"
of = "query"
kind = "id"
dim = 64

[[feature]]
name = "movie"
of = "candidate"
kind = "id"
dim = 64

[[feature]]
name = "genres"                  # items of one genre text share what is learnt about it, new items too
of = "candidate"
kind = "category"                # a column of the items table; one learnt row for each value
column = "genres"
dim = 16

# A network concatenates its inputs and applies its layers. "query" and "candidate" are the two towers.
[[network]]
name = "query"
inputs = ["user"]
layers = [{ kind = "mlp", units = [64, 32], activation = "relu", final_activation = "linear" }]

[[network]]
name = "candidate"
inputs = ["movie", "genres"]
layers = [{ kind = "mlp", units = [64, 32], activation = "relu", final_activation = "linear" }]

[[task]]
kind = "retrieval"
similarity = "cosine"
temperature = 0.15

[optimizer]
kind = "adam"
learning_rate = 0.003            # dense layers like smaller steps than tables

[[optimizer.group]]              # the first group whose match fits a parameter's name is its optimizer
match = "*.embedding"
learning_rate = 0.01

[train]
epochs = 30
batch_size = 1024
early_stop = { metric = "ndcg@20", patience = 3 }

[evaluate]
metrics = ["recall@20", "ndcg@20"]
)";

constexpr const char* kEfficientServing =
    R"(# efficient-serving: many answers a second, and still the exact ones.
# Where TFRS's tutorial of this name builds an approximate index (ScaNN), belfry scores every item for every
# user, in tiles that stay in the cache, and keeps the best of each tile: the lists are those of an exhaustive
# search, and there is no recall to tune.
#
#   belfry init efficient-serving > efficient-serving.toml
#   belfry train efficient-serving.toml
#   belfry recommend runs/efficient-serving --user 1 -k 10
#   belfry recommend runs/efficient-serving --all -k 100 -o recs.csv       # or .tsv, .jsonl, .npy
#   belfry recommend runs/efficient-serving --all -k 100 --shard 0/4 -o recs-0.csv   # a quarter of the users
#
# Vectors for a service of your own, and exact search over vectors from anywhere:
#
#   belfry export runs/efficient-serving --queries q.npy --items v.npy
#   belfry search v.npy q.npy -k 100 -o top.npy
schema = 1
name = "efficient-serving"

[data]
interactions = "ratings.csv"     # userId,movieId,rating,timestamp
user = "userId"
item = "movieId"
time = "timestamp"
items = "movies.csv"             # movieId,title,genres
items_key = "movieId"

[split]
method = "random"
test = 0.1

[[feature]]
name = "user"
of = "query"
kind = "id"
dim = 64

[[feature]]
name = "movie"
of = "candidate"
kind = "id"
dim = 64                         # the cost of an answer is items x dim: 32 halves it

[[task]]
kind = "retrieval"
similarity = "cosine"            # vectors of length 1: one product is the whole score
temperature = 0.15

[train]
epochs = 30
batch_size = 1024
precision = "bf16"               # tables in half the memory, on the CPU and on a GPU
early_stop = { metric = "ndcg@20", patience = 3 }

[evaluate]
metrics = ["recall@10", "recall@100", "ndcg@20", "coverage@10"]
exclude_seen = true              # the search skips what a user has seen: it is never computed away afterwards
)";

const char* heading(const std::string& label) {
  if (label == "[data]")
    return "The files, and what their columns are. Paths are relative to this file.";
  if (label == "[split]") return "Which rows train, validate and test.";
  if (label == "[[feature]]")
    return "One for each column that describes a side; none: one id table a side.";
  if (label == "[[network]]")
    return "Layers over features; none: a tower is the concatenation of its features.";
  if (label == "[[task]]") return "What is learnt; several tasks share the towers.";
  if (label == "[optimizer]") return "How parameters follow their gradients.";
  if (label == "[[optimizer.group]]") {
    return "Another optimizer for some parameters; what it does not say it has from [optimizer].";
  }
  if (label == "[train]") return "The course of training.";
  if (label == "[evaluate]") return "What is measured.";
  if (label == "[index]") return "How items are found.";
  return "Where results go.";
}

std::string defaults_text() {
  Config c = default_config("");
  c.data.interactions = {"ratings.csv"};
  std::string out =
      "# defaults: every key with its default. \"#key = ...\" is unset, or belongs to another "
      "kind.\n\n";
  out += schema::explained_text(schema::root_fields(c), "");
  // Features, networks and groups have no default ones: they are shown as comments.
  FeatureConfig feature;
  feature.name = "user";
  NetworkConfig network{"query", {"user"}, {LayerConfig{}}, {}};
  network.layers[0].units = {64, 32};
  c.features.push_back(feature);
  c.networks.push_back(network);
  c.optimizer.groups.push_back(c.optimizer.main);
  c.optimizer.groups[0].match = "*.embedding";
  for (const schema::Section& s : schema::sections(c)) {
    const bool example =
        s.label == "[[feature]]" || s.label == "[[network]]" || s.label == "[[optimizer.group]]";
    const std::string prefix = example ? "#" : "";
    out += std::string("\n# ") + heading(s.label) + "\n" + prefix + s.label + "\n";
    out += schema::explained_text(s.fields, prefix);
    if (s.label != "[[network]]") continue;
    out += "\n# Keys of a layer, which stand inside layers = [{ ... }]:\n";
    out += schema::explained_text(schema::fields(c.networks[0].layers[0]), "#");
  }
  return out;
}

}  // namespace

const std::vector<PresetFile>& preset_files() {
  static const std::vector<PresetFile> files = [] {
    std::vector<PresetFile> all = {
        {"quickstart", "ratings and movies, belfry's own defaults", kQuickstart},
        {"deep-retrieval", "towers with features and dense layers", kDeepRetrieval},
    };
    for (PresetFile& file : ranking_preset_files()) all.push_back(std::move(file));
    all.push_back({"efficient-serving", "exact lists at speed: small tables, bulk answers, export",
                   kEfficientServing});
    all.push_back({"basic-retrieval", "the basic retrieval tutorial of TensorFlow Recommenders",
                   kBasicRetrieval});
    all.push_back(
        {"tfrs-quickstart", "the quickstart of TensorFlow Recommenders", kTfrsQuickstart});
    all.push_back({"defaults", "every key with its default", defaults_text()});
    return all;
  }();
  return files;
}

}  // namespace belfry
