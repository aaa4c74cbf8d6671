// SPDX-License-Identifier: Apache-2.0
// The texts of `belfry init` for models that rank, or that read more than ids. What they share is written once.
#include "engine/presets_ranking.hpp"

namespace belfry {
namespace {

constexpr const char* kRandomSplit = "method = \"random\"\ntest = 0.1\n";
constexpr const char* kLastSplit =
    "method = \"leave-last-out\"        # what comes next: each user's last movie\n";

std::string head(const std::string& name, const std::string& about, const std::string& split) {
  return "# " + name + ": " + about + "\n#\n#   belfry init " + name + " > " + name +
         ".toml\n#   belfry train " + name + ".toml\n#\nschema = 1\nname = \"" + name + R"("

[data]
interactions = "ratings.csv"     # userId,movieId,rating,timestamp
user = "userId"
item = "movieId"
time = "timestamp"
items = "movies.csv"             # movieId,title,genres
items_key = "movieId"

[split]
)" + split;
}

/// A user's and a movie's id, `dim` columns each.
std::string ids(const std::string& dim) {
  return R"(
[[feature]]
name = "user"
of = "query"
kind = "id"
dim = )" +
         dim +
         R"(

[[feature]]
name = "movie"
of = "candidate"
kind = "id"
dim = )" +
         dim + "\n";
}

constexpr const char* kRatingHead = R"(
[[network]]                      # a network of both sides: one row a pair of user and movie
name = "rating"
inputs = ["user", "movie"]
layers = [{ kind = "mlp", units = [256, 64, 1], activation = "relu", final_activation = "linear" }]
)";

constexpr const char* kRatingTask = R"(
[[task]]
kind = "ranking"
score = "rating"                 # the network whose one column is the prediction
loss = "mse"                     # also mae, huber; bce, bce-logits for clicks
label = "rating"                 # the column that is learnt
)";

constexpr const char* kOptimizer = R"(
[optimizer]
kind = "adam"
learning_rate = 0.001
)";

constexpr const char* kTables = R"(
[[optimizer.group]]              # of all tables: larger steps, and they shrink a little, against noise
match = "*.embedding"
learning_rate = 0.01
weight_decay = 0.1
)";

constexpr const char* kTrain = R"(
[train]
epochs = 20
batch_size = 1024                # early stopping watches 5 % of the training rows
)";

/// A movie's genres, `dim` columns.
std::string genres(const std::string& dim) {
  return R"(
[[feature]]
name = "genres"
of = "candidate"
kind = "list"                    # "Comedy|Drama" is two values, of which the vectors are averaged
separator = "|"
dim = )" +
         dim + "\n";
}

/// When it was, as a number.
constexpr const char* kTime = R"(
[[feature]]
name = "time"                    # a column of the interactions is context: one value a row
of = "query"
kind = "number"
column = "timestamp"
normalise = true                 # mean 0 and deviation 1 over the training rows
)";

/// The same in buckets, `dim` columns.
std::string when(const std::string& dim) {
  return R"(
[[feature]]
name = "when"
of = "query"
kind = "bucket"
column = "timestamp"
boundaries = { quantiles = 100 } # or { linspace = 1000 }, or a list of numbers
dim = )" +
         dim + "\n";
}

constexpr const char* kContextFeatures = R"(
[[feature]]
name = "title_words"
of = "candidate"
kind = "text"                    # lower case, punctuation stripped, split at spaces
column = "title"
max_tokens = 10_000
pooling = "mean"                 # of the words' vectors
dim = 32

[[network]]
name = "query"
inputs = ["user", "when", "time"]
layers = [{ kind = "mlp", units = [64, 32], activation = "relu", final_activation = "linear" }]

[[network]]
name = "candidate"
inputs = ["movie", "title_words", "genres"]
layers = [{ kind = "mlp", units = [64, 32], activation = "relu", final_activation = "linear" }]

[[task]]
kind = "retrieval"
)";

constexpr const char* kMultitask = R"(
[[network]]                      # reads both towers: they learn from both tasks
name = "rating"
inputs = ["query", "candidate"]
layers = [{ kind = "mlp", units = [256, 128, 1], activation = "relu", final_activation = "linear" }]

[[task]]
kind = "retrieval"
weight = 1.0

[[task]]
kind = "ranking"
score = "rating"
loss = "mse"
label = "rating"
weight = 1.0

[index]
rank_by = "rating"               # recommend: retrieve 500, order them by the predicted rating, cut to k
retrieve = 500
)";

constexpr const char* kDcn = R"(
[[network]]                      # no towers: features of both sides cross
name = "rating"
inputs = ["user", "movie", "when", "genres"]
layers = [
  { kind = "cross", projection_dim = 20 },  # 0: full rank; num_layers = 3: stacked
  { kind = "mlp", units = [192, 192, 1], activation = "relu", final_activation = "linear" },
]
)";

constexpr const char* kDlrm = R"(
[[network]]                      # numbers, as wide as an embedding
name = "bottom"
inputs = ["time"]
layers = [{ kind = "mlp", units = [64, 16], activation = "relu", final_activation = "relu" }]

[[network]]                      # products of all pairs of its inputs, which must be of one width
name = "pairs"
inputs = ["user", "movie", "genres", "bottom"]
layers = [{ kind = "dot-interaction" }]

[[network]]
name = "click"
inputs = ["bottom", "pairs"]
layers = [{ kind = "mlp", units = [64, 32, 1], activation = "relu", final_activation = "linear" }]

[[task]]
kind = "ranking"
score = "click"
loss = "bce-logits"
label = "rating"
label_above = 3.5                # liked or not
)";

constexpr const char* kUnified = R"(
# Hashed embeddings that all features share: each value has `chunks` rows, one of them in each table in turn.
[[feature]]
name = "user"
of = "query"
kind = "unified"
column = "userId"
table = "shared"
tables = 2
chunks = 2
buckets = 4096
dim = 16

[[feature]]
name = "movie"
of = "candidate"
kind = "unified"
column = "movieId"
table = "shared"
tables = 2
chunks = 2
buckets = 4096
dim = 16

[[network]]
name = "rating"
inputs = ["user", "movie"]
layers = [{ kind = "mlp", units = [128, 64, 1], activation = "relu", final_activation = "linear" }]

[[task]]
kind = "ranking"
score = "rating"
loss = "bce-logits"
label = "rating"
label_above = 2.5
)";

constexpr const char* kListTask = R"(
[[task]]
kind = "ranking"
score = "rating"
loss = "listmle"                 # also pairwise-hinge, pairwise-logistic, softmax, approx-ndcg
label = "rating"
group_by = "user"                # lists of one user's rows
list_size = 5
lists_per_user = 20
)";

constexpr const char* kSequential = R"(
[[feature]]
name = "movie"
of = "candidate"
kind = "id"
dim = 64
table = "movies"

[[feature]]
name = "history"                 # the user's earlier movies by time
of = "query"
kind = "sequence"
max_length = 20
table = "movies"                 # the rows of the movies themselves
dim = 64

[[network]]
name = "query"
inputs = ["history"]             # read movie by movie: a network that has a layer of steps has one input
layers = [{ kind = "gru", units = 64 }]
# Self-attention instead:
# layers = [{ kind = "position-embedding" }, { kind = "dropout" }, { kind = "layer-norm" },
#           { kind = "attention", num_heads = 2, causal = true, residual = true },
#           { kind = "layer-norm" }, { kind = "mlp", units = [64, 64] },
#           { kind = "sequence-pool", pooling = "last" }]

[[task]]
kind = "retrieval"
)";

}  // namespace

std::vector<PresetFile> ranking_preset_files() {
  const auto file = [](const std::string& name, const std::string& about, const std::string& rest,
                       const char* tables = kTables, const char* split = kRandomSplit) {
    return PresetFile{name, about,
                      head(name, about + ".", split) + rest + kOptimizer + tables + kTrain};
  };
  const std::string rating = kRatingHead;
  return {
      file("basic-ranking", "predicted ratings of users and movies",
           ids("32") + rating + kRatingTask),
      file("multitask", "retrieval and ratings over shared towers", ids("32") + kMultitask),
      file("context-features", "towers that read time, words and genres",
           ids("32") + kTime + when("16") + genres("16") + kContextFeatures),
      file("dcn", "ratings by a deep and cross network",
           ids("32") + when("32") + genres("32") + kDcn + kRatingTask),
      file("dlrm", "likes by products of pairs of features",
           ids("16") + genres("16") + kTime + kDlrm),
      file("unified-embedding", "all features in shared hashed tables", kUnified),
      file("listwise", "the order of a user's movies, learnt on lists",
           ids("32") + rating + kListTask, ""),
      file("sequential", "the next movie, from those before in their order", kSequential, kTables,
           kLastSplit),
  };
}

}  // namespace belfry
