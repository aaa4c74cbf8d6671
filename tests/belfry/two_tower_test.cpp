// SPDX-License-Identifier: Apache-2.0
// The builder beside the model file: what both say must be the same bytes, whatever the data lies in.
#include "belfry/two_tower.hpp"

#include <gtest/gtest.h>

#include "belfry/belfry.hpp"
#include "engine/model.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

using data::Table;

constexpr const char* kDevice = on_device() ? "cuda" : "cpu";
const RunOptions kRun{kDevice, 1};

/// Ratings of 30 users, 24 movies of which two were never rated, titles that the ratings do not have.
struct Movies {
  Movies() {
    std::string ratings = "userId,movieId,rating,timestamp\n", movies = "movieId,title,genres\n";
    Random random(5);
    for (int i = 0; i < 700; ++i) {
      const auto u = random.below(30), m = 2 + random.below(22);
      users.push_back(std::to_string(u + 1));
      items.push_back(m + 1);
      stars.push_back(static_cast<double>(1 + random.below(9)) / 2);
      ratings += users.back() + "," + std::to_string(m + 1) + "," +
                 std::to_string(stars.back()).substr(0, 3) + "," + std::to_string(1000 + i) + "\n";
      times.push_back(1000 + i);
    }
    for (int m = 0; m < 24; ++m) {
      ids.push_back(m + 1);
      titles.push_back("Title " + std::to_string(m * 7 % 24));
      genres.push_back(m % 3 == 0 ? "Drama" : "Comedy|Kind " + std::to_string(m % 4));
      movies += std::to_string(m + 1) + "," + titles.back() + "," + genres.back() + "\n";
    }
    ratings_csv = folder.write("ratings.csv", ratings);
    movies_csv = folder.write("movies.csv", movies);
  }
  /// The model file's run, and the bytes of its model.
  std::string train(const std::string& toml, RunResult* result = nullptr) const {
    const Context ctx = make_context();
    Recorder observer;
    const RunResult r = train_run(ctx, folder.config(toml), folder.root() / "run", observer, {});
    if (result != nullptr) *result = r;
    return slurp(folder.root() / "run" / "model.safetensors");
  }
  std::string bytes_of(TwoTower& model) const {
    model.save(folder.path("saved.safetensors"));
    return slurp(folder.path("saved.safetensors"));
  }
  ModelFolder folder;
  std::string ratings_csv, movies_csv;
  std::vector<std::string> users, titles, genres;
  std::vector<std::int64_t> items, ids, times;
  std::vector<double> stars;
};

const Movies& movies() {
  static const Movies m;
  return m;
}

TwoTower quickstart(const Table& ratings, const Table& movies) {
  const auto users = Vocabulary::adapt(ratings["userId"]);
  const auto titles = Vocabulary::adapt(movies["title"]);
  const Tower query{Lookup{users}, Embedding{users.size(), 8}};
  const Tower candidate{Lookup{titles}, Embedding{titles.size(), 8}};
  TwoTower model{{"userId", query},
                 {"title", candidate},
                 Retrieval{{.metrics = {FactorizedTopK{movies["title"], candidate}}}},
                 {.preset = "tfrs", .run = kRun}};
  model.compile(Adagrad{.learning_rate = 0.5f});
  return model;
}

constexpr const char* kQuickstart = R"(preset = "tfrs"
[data]
interactions = "ratings.csv"
items = "movies.csv"
user = "userId"
item = "title"
[split]
method = "shuffle"
seed = 42
train = 560
test = 140
[[feature]]
name = "userId"
of = "query"
kind = "id"
vocabulary = "users.txt"
dim = 8
[[feature]]
name = "title"
of = "candidate"
kind = "id"
vocabulary = "titles.txt"
dim = 8
[optimizer]
kind = "adagrad"
learning_rate = 0.5
[train]
epochs = 3
batch_size = 64
seed = 7
)";

void write_tokens(const std::string& name, const data::Column& column) {
  std::string text;
  const Vocabulary vocabulary = Vocabulary::adapt(column);
  for (const std::string& token : vocabulary.all_tokens()) text += token + "\n";
  movies().folder.write(name, text);
}

TEST(TwoTower, QuickstartIsTheModelFileToTheByte) {
  const Table ratings = data::read(movies().ratings_csv), titles = data::read(movies().movies_csv);
  write_tokens("users.txt", ratings["userId"]);
  write_tokens("titles.txt", titles["title"]);
  RunResult run;
  const std::string expected = movies().train(kQuickstart, &run);

  TwoTower model = quickstart(ratings, titles);
  const auto [train, test] = ratings.shuffle(42).split(560, 140);
  std::int64_t steps = 0;
  std::vector<double> losses;
  EXPECT_EQ(model.fit(train.batch(64),
                      {.epochs = 3,
                       .seed = 7,
                       .on_step = [&](const StepReport&) { ++steps; },
                       .on_epoch = [&](const EpochReport& r) { losses.push_back(r.loss_mean); }}),
            TrainOutcome::finished);
  EXPECT_EQ(steps, 3 * 9);
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_LT(losses[2], losses[0]);
  EXPECT_TRUE(movies().bytes_of(model) == expected);

  const Metrics metrics = model.evaluate(test.batch(64));
  EXPECT_EQ(metrics.metrics, run.evaluation->metrics);
  EXPECT_EQ(metrics["factorized_top_k/top_100_categorical_accuracy"], 1.0);  // of 24 movies
  EXPECT_EQ(metrics.test_rows, 140);
  EXPECT_THROW(metrics["ndcg@20"], Error);

  // The answers are those of the file, read by another model.
  TwoTower read = TwoTower::load(movies().folder.path("saved.safetensors"), kRun);
  const std::vector<std::string> users{"4", "30"};
  const Answers fresh = BruteForce{model}(users, {.k = 5}),
                again = BruteForce{read}(users, {.k = 5});
  ASSERT_EQ(fresh.size(), 2u);
  for (std::size_t q = 0; q < 2; ++q) {
    ASSERT_EQ(fresh[q].size(), 5u);
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(fresh[q][i].item, again[q][i].item);
      EXPECT_EQ(fresh[q][i].score, again[q][i].score);
    }
    EXPECT_GE(fresh[q][0].score, fresh[q][4].score);
  }
}

TEST(TwoTower, ArraysAreTheFileToTheByte) {
  const Movies& m = movies();
  Table ratings("my ratings"), titles("my movies");
  ratings.add("userId", std::span<const std::string>(m.users))
      .add("movieId", std::span<const std::int64_t>(m.items))
      .add("rating", std::span<const double>(m.stars))
      .add("timestamp", std::span<const std::int64_t>(m.times));
  titles.add("movieId", std::span<const std::int64_t>(m.ids))
      .add("title", std::span<const std::string>(m.titles))
      .add("genres", std::span<const std::string>(m.genres));
  const FitOptions options{.epochs = 1, .seed = 7};
  TwoTower arrays = quickstart(ratings, titles);
  arrays.fit(ratings.shuffle(3).split(0.5).first.batch(64), options);
  const Table file = data::read(m.ratings_csv);
  TwoTower files = quickstart(file, data::read(m.movies_csv));
  files.fit(file.shuffle(3).split(0.5).first.batch(64), options);
  EXPECT_TRUE(m.bytes_of(arrays) == m.bytes_of(files));
}

/// belfry's own defaults (early stopping too), features of several kinds, networks, and two tasks.
TEST(TwoTower, FeaturesNetworksAndTasksAreTheModelFileToTheByte) {
  const std::string expected = movies().train(R"([data]
interactions = "ratings.csv"
items = "movies.csv"
user = "userId"
item = "movieId"
where = "rating >= 1"
[[feature]]
name = "userId"
of = "query"
kind = "id"
dim = 6
[[feature]]
name = "rating"
of = "query"
kind = "bucket"
boundaries = { quantiles = 4 }
dim = 3
[[feature]]
name = "movieId"
of = "candidate"
kind = "id"
dim = 5
[[feature]]
name = "genres"
of = "candidate"
kind = "list"
dim = 4
[[feature]]
name = "title"
of = "candidate"
kind = "hashed"
buckets = 10
dim = 2
[[network]]
name = "query"
inputs = ["userId", "rating"]
layers = [{ kind = "mlp", units = [12, 8] }]
[[network]]
name = "candidate"
inputs = ["movieId", "genres", "title"]
layers = [{ kind = "cross" }, { kind = "mlp", units = [8] }]
[[network]]
name = "stars"
inputs = ["query", "candidate"]
layers = [{ kind = "mlp", units = [4, 1] }]
[[task]]
kind = "retrieval"
temperature = 0.2
weight = 2.0
[[task]]
kind = "ranking"
score = "stars"
label = "rating"
[optimizer]
kind = "adam"
learning_rate = 0.02
[train]
epochs = 4
batch_size = 100
seed = 9
[evaluate]
metrics = ["recall@5"]
)");
  const Table ratings = data::read(movies().ratings_csv).where("rating >= 1");
  const Table items = data::read(movies().movies_csv);
  const Tower query{Lookup{}, Embedding{6},
                    Feature{"rating", Discretization{{{}, 0, 4}}, Embedding{3}},
                    layers::mlp({12, 8})};
  const Tower candidate{Lookup{},
                        Embedding{5},
                        Feature{"genres", ListLookup{}, Embedding{4}},
                        Feature{"title", HashedLookup{10}, Embedding{2}},
                        layers::cross(),
                        layers::mlp({8})};
  TwoTower model{{"userId", query},
                 {"movieId", candidate},
                 {Retrieval{{.temperature = 0.2, .weight = 2}},
                  Ranking{.score = "stars", .layers = {layers::mlp({4, 1})}, .label = "rating"}},
                 {.items = items, .run = kRun}};
  model.compile(Adam{.learning_rate = 0.02});
  model.config().evaluate.metrics = {"recall@5"};
  model.config().data.where = "rating >= 1";
  model.fit(ratings.batch(100), {.epochs = 4, .seed = 9});
  EXPECT_GT(model.model().data().validation.size(), 0);
  EXPECT_TRUE(movies().bytes_of(model) == expected);
  const double rmse = model.evaluate(ratings)["rmse"];
  EXPECT_TRUE(rmse > 0 && rmse < 3) << rmse;  // stars from 1 to 4.5
}

TEST(TwoTower, AModelFileIsAClientToo) {
  write_tokens("users.txt", data::read(movies().ratings_csv)["userId"]);
  write_tokens("titles.txt", data::read(movies().movies_csv)["title"]);
  const std::string expected = movies().train(kQuickstart);
  TwoTower model(load_config(movies().folder.path("model.toml"), {}), kRun);
  model.fit();
  EXPECT_TRUE(movies().bytes_of(model) == expected);
  EXPECT_EQ(model.evaluate().test_rows, 140);
}

/// The files of TFRS's tutorial: integer ids, titles in Latin-1, joined by a key that both files have.
TEST(TwoTower, MovieLens100K) {
  std::string rows, items;
  for (std::size_t i = 0; i < movies().users.size(); ++i) {
    rows += movies().users[i] + "\t" + std::to_string(movies().items[i]) + "\t3\t" +
            std::to_string(movies().times[i]) + "\n";
  }
  for (int m = 1; m <= 24; ++m) {
    items += std::to_string(m) + "|Caf\xe9 " + std::to_string(m) + "|01-Jan-1995||http://x";
    for (int genre = 0; genre < 19; ++genre) items += "|0";
    items += "\n";
  }
  const Table ratings = data::read(movies().folder.write("u.data", rows));
  const Table titles = data::read(movies().folder.write("u.item", items));
  const auto users = Vocabulary::adapt(ratings["user_id"]);
  const auto names = Vocabulary::adapt(titles["movie_title"]);
  const Tower query{Lookup{users}, Embedding{users.size(), 8}};
  const Tower candidate{Lookup{names}, Embedding{names.size(), 8}};
  TwoTower model{
      {"user_id", query},
      {"movie_title", candidate},
      Retrieval{{.metrics = {FactorizedTopK{titles["movie_title"], candidate, {1, 24}}}}},
      {.run = {kDevice, 2}}};
  const auto [train, test] = ratings.shuffle(42).split(0.8);
  model.fit(train.batch(64), {.epochs = 2});
  const Metrics metrics = model.evaluate(test);
  EXPECT_EQ(metrics["factorized_top_k/top_24_categorical_accuracy"], 1.0);
  EXPECT_GT(metrics["recall@10"], 0.0);  // belfry's own metrics stay
  const std::vector<std::string> user{"12"};
  for (const auto& [title, score] : BruteForce{model}(user, {.k = 3})[0]) {
    EXPECT_TRUE(title.starts_with("Caf\xc3\xa9 ")) << title;
  }
}

TEST(TwoTower, EpochsInPartsAndAfterAStopAreTheSame) {
  const Table ratings = data::read(movies().ratings_csv), titles = data::read(movies().movies_csv);
  TwoTower whole = quickstart(ratings, titles), parts = quickstart(ratings, titles);
  whole.fit(ratings.batch(64), {.epochs = 3});
  parts.fit(ratings.batch(64), {.epochs = 1});
  EXPECT_NE(movies().bytes_of(parts), movies().bytes_of(whole));
  std::stop_source stop;
  const auto halt = [&](const StepReport& r) {
    if (r.epoch == 2) stop.request_stop();
  };
  EXPECT_EQ(parts.fit(ratings.batch(64), {.epochs = 1, .stop = stop.get_token(), .on_step = halt}),
            on_device() ? TrainOutcome::finished : TrainOutcome::stopped);
  while (parts.model().trainer()->epochs_done() < 3) parts.fit(ratings.batch(64), {.epochs = 1});
  EXPECT_TRUE(movies().bytes_of(parts) == movies().bytes_of(whole));
}

TEST(TwoTower, CheckpointsAreGoneOnWith) {
  const Table ratings = data::read(movies().ratings_csv), titles = data::read(movies().movies_csv);
  const std::string folder = movies().folder.path("checkpoints");
  TwoTower whole = quickstart(ratings, titles), half = quickstart(ratings, titles),
           other = quickstart(ratings, titles);
  whole.fit(ratings.batch(64), {.epochs = 3});
  half.fit(ratings.batch(64), {.epochs = 2, .checkpoints = folder});
  std::int64_t steps = 0;
  other.fit(ratings.batch(64),
            {.epochs = 3, .on_step = [&](const StepReport&) { ++steps; }, .checkpoints = folder});
  EXPECT_EQ(steps, 11);  // of the third epoch alone
  EXPECT_TRUE(movies().bytes_of(other) == movies().bytes_of(whole));
}

TEST(TwoTower, Answers) {
  const Table ratings = data::read(movies().ratings_csv), titles = data::read(movies().movies_csv);
  TwoTower model = quickstart(ratings, titles);
  model.fit(ratings.batch(64), {.epochs = 1});
  BruteForce index{model};
  EXPECT_EQ(index.size(), 24);
  const std::vector<std::string> user{"7"}, stranger{"nobody"};
  const auto all = index(user, {.k = 100})[0];
  EXPECT_EQ(all.size(), 24u);  // as TFRS: what was seen is among them
  const auto unseen = index(user, {.k = 100, .exclude_seen = true, .exclude = {all[0].item}})[0];
  EXPECT_LT(unseen.size(), 23u);
  for (const auto& [item, score] : unseen) EXPECT_NE(item, all[0].item);
  EXPECT_EQ(error_of([&] { index(stranger); }).code(), ExitCode::bad_data);
  EXPECT_EQ(index(stranger, {.k = 3, .cold = true})[0].size(), 3u);
  EXPECT_EQ(index.similar("Title 5", 4).size(), 4u);

  const std::vector<std::string> some{"Title 3", "Title 9", "no such title"};
  Table allowed;
  allowed.add("title", std::span<const std::string>(some));
  index.index(allowed["title"]);
  EXPECT_EQ(index.size(), 2);
  for (const auto& [item, score] : index(user, {.k = 10})[0]) {
    EXPECT_TRUE(item == "Title 3" || item == "Title 9");
  }
  // IndexFlatIP: header of 45 bytes, then 2 vectors of 8 numbers.
  index.write_faiss(movies().folder.path("i.faiss"));
  const std::string faiss = slurp(movies().folder.path("i.faiss"));
  EXPECT_EQ(faiss.substr(0, 4), "IxFI");
  EXPECT_EQ(faiss.size(), 45u + 2 * 8 * 4);
  EXPECT_EQ(slurp(movies().folder.path("i.faiss.ids")).size(),
            std::string("Title 3\nTitle 9\n").size());
}

TEST(TwoTower, SaysWhatIsWrong) {
  const Table ratings = data::read(movies().ratings_csv), titles = data::read(movies().movies_csv);
  const auto refused = [](auto&& f, ExitCode code, const std::string& part) {
    const Error error = error_of(f);
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  };
  TwoTower model = quickstart(ratings, titles);
  refused([&] { model.save("x"); }, ExitCode::usage, "fit comes first");
  refused([&] { ratings["userid"]; }, ExitCode::bad_data, "did you mean \"userId\"");
  refused([&] { ratings.split(600, 101); }, ExitCode::usage, "it has 700");
  refused([&] { Tower{Embedding{8}}; }, ExitCode::usage, "needs a Lookup");
  refused([&] { Feature("genres", Lookup{}); }, ExitCode::usage, "needs an Embedding");
  refused(
      [&] {
        TwoTower({"userId", {Lookup{}}}, {"movieId", {Lookup{}, Embedding{8}}}, Retrieval{});
      },
      ExitCode::usage, "needs an Embedding");
  refused([&] { model.fit(titles.batch(10)); }, ExitCode::bad_data, "no column");

  const Tower query{Lookup{}, Embedding{31 + 100, 8}}, candidate{Lookup{}, Embedding{9}},
      same{Lookup{}, Embedding{8}};
  TwoTower high{{"userId", query}, {"movieId", same}, Retrieval{}, {.run = kRun}};
  refused([&] { high.fit(ratings); }, ExitCode::usage, "Embedding has 131 rows");
  TwoTower uneven{{"userId", same}, {"movieId", candidate}, Retrieval{}, {.run = kRun}};
  refused([&] { uneven.fit(ratings); }, ExitCode::usage, "8");
  refused(
      [&] {
        TwoTower({"userId", same}, {"title", same},
                 Retrieval{{.metrics = {FactorizedTopK{titles["title"], candidate}}}});
      },
      ExitCode::usage, "not the candidate tower");
  TwoTower cold{{"userId", same}, {"movieId", same}, Retrieval{{.temperature = -1}}, {.run = kRun}};
  refused([&] { cold.fit(ratings); }, ExitCode::usage, "temperature");

  model.fit(ratings.batch(64), {.epochs = 1});
  refused([&] { model.fit(ratings.shuffle(1).batch(64)); }, ExitCode::usage, "other rows");
  refused([&] { model.fit(ratings.batch(63)); }, ExitCode::usage, "other rows or batches");
  refused([&] { model.compile(Adam{}); }, ExitCode::usage, "has its optimizer");
  refused([&] { BruteForce{model}(std::vector<std::string>{"1"}, {.k = 0}); }, ExitCode::usage,
          "k");
  TwoTower read(TwoTower::load(
      (model.save(movies().folder.path("m.safetensors")), movies().folder.path("m.safetensors")),
      kRun));
  refused([&] { read.fit(); }, ExitCode::usage, "only answers");
}

}  // namespace
}  // namespace belfry::test
