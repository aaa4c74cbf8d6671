// SPDX-License-Identifier: Apache-2.0
// Whole runs of models that rank: what they learn (the simulated device makes too few steps for that), what
// they answer, and that their files say all of it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/file_io.hpp"
#include "engine/model_file.hpp"
#include "engine/rating_evaluation.hpp"
#include "engine/recommender.hpp"
#include "engine/run.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

using Answer = std::vector<std::pair<float, std::int32_t>>;

constexpr std::int64_t kUsers = 30, kItems = 24, kRows = 600, kTest = 120;

/// Ratings from three tastes of users and items, with noise of up to 0.3, and context in each row.
std::string rating_rows(std::uint64_t seed, std::int64_t rows) {
  Random random(seed);
  std::string text = "user,item,rating,time,device,price,words\n";
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t u = random.below(kUsers), j = random.below(kItems);
    const double liked = u % 3 == j % 3 ? 4.5 : (u + j) % 3 == 1 ? 3.0 : 1.5;
    const double rating = liked + 0.3 * (2 * random.uniform() - 1);
    text += fmt::format("u{},i{},{:.2f},{},d{},{:.1f},red w{} w{}\n", u, j, rating, i,
                        random.below(4), 10 * random.uniform(), random.below(6), random.below(6));
  }
  return text;
}

std::string id_feature(const std::string& name, const std::string& side) {
  return fmt::format("[[feature]]\nname = \"{0}\"\nof = \"{1}\"\nkind = \"id\"\ndim = 6\n", name,
                     side);
}
const std::string kData =
    "[data]\ninteractions = \"r.csv\"\ntest = \"t.csv\"\nuser = \"user\"\nitem = \"item\"\n"
    "time = \"time\"\nlabel = \"rating\"\n[split]\nmethod = \"file\"\n";
const std::string kIds = id_feature("user", "query") + id_feature("item", "candidate");
const std::string kTrain =
    "[optimizer]\nkind = \"adam\"\nlearning_rate = 0.02\n"
    "[train]\nbatch_size = 60\nearly_stop = false\nepochs = " +
    std::string(on_device() ? "2\n" : "40\n");
const std::string kScore =
    "[[network]]\nname = \"score\"\ninputs = [\"user\", \"item\"]\n"
    "layers = [{ kind = \"mlp\", units = [16, 1] }]\n";
const std::string kRate = "[[task]]\nkind = \"ranking\"\nscore = \"score\"\nlabel = \"rating\"\n";
const std::string kRetrieve = "[[task]]\nkind = \"retrieval\"\n";

class RankingRun : public ::testing::Test {
 protected:
  RankingRun() {
    folder.write("r.csv", rating_rows(1, kRows));
    folder.write("t.csv", rating_rows(2, kTest));
  }

  RunResult train(const std::string& toml, const std::string& name, int threads = 2,
                  std::int64_t stop_at = 0) {
    const Context ctx = make_context(threads);
    Recorder recorder;
    std::stop_source stop;
    recorder.on_step = [&](const StepReport&) {
      if (recorder.steps == stop_at) stop.request_stop();
    };
    return train_run(ctx, folder.config(toml), folder.root() / name, recorder, stop.get_token());
  }
  std::string model_path(const std::string& name) {
    return RunFolder{folder.root() / name}.model();
  }

  std::vector<Answer> answers(const Context& ctx, LoadedModel& model, std::int64_t k,
                              const RecommendFilter& filter = {}) {
    std::vector<std::int32_t> users;
    for (std::int32_t u = 0; u < model.data.user_count(); ++u) users.push_back(u);
    users.push_back(-1);  // a stranger
    std::vector<Answer> out;
    Recommender(ctx, model, filter)
        .recommend(users, k, {},
                   [&](std::int64_t query, std::span<const std::int32_t> items,
                       std::span<const float> scores) {
                     EXPECT_EQ(query, static_cast<std::int64_t>(out.size()));
                     EXPECT_EQ(items.size(), scores.size());
                     out.emplace_back();
                     for (std::size_t i = 0; i < items.size(); ++i) {
                       out.back().emplace_back(scores[i], items[i]);
                     }
                   });
    EXPECT_EQ(out.size(), users.size());
    return out;
  }
  std::vector<float> scores(const Context& ctx, LoadedModel& model, std::int32_t user,
                            const std::vector<std::int32_t>& items) {
    std::vector<float> out(items.size());
    const QueryRows queries =
        queries_of_answers(model.data, std::vector<std::int32_t>(items.size(), user), {});
    model.model->score_pairs(ctx, model.model->graph().find("score"), queries, items, out.data());
    return out;
  }

  /// The model of a run says after a trip through another file what it said before; its predictions of the
  /// test rows are those that the run was judged by.
  void expect_the_file_says_all(const std::string& name, const MetricMap& judged) {
    const Context ctx = make_context(2);
    const auto model = load_model_file(ctx, model_path(name));
    const std::string copy = folder.path(name + "-copy.safetensors");
    write_model_file(ctx, copy, model->config, model->data, model->seen, *model->model,
                     model->index.get());
    EXPECT_EQ(sha256_of_file(copy), sha256_of_file(model_path(name)));
    const auto again = load_model_file(ctx, copy);
    EXPECT_EQ(answers(ctx, *again, 5), answers(ctx, *model, 5));
    const Interactions test = load_test_part(RunFolder{folder.root() / name}.test(), model->data);
    const MetricMap said = evaluate_ratings(ctx, *model->model, model->config, model->data, test);
    ASSERT_FALSE(said.empty());
    for (const auto& [metric, value] : said) EXPECT_EQ(value, judged.at(metric)) << metric;
  }
  void expect_the_same_of_one_and_three_threads(const std::string& toml,
                                                const std::string& sha256) {
    if (on_device()) return;
    EXPECT_EQ(train(toml, "one", 1).model_sha256, sha256);
    EXPECT_EQ(train(toml, "three", 3).model_sha256, sha256);
  }

  ModelFolder folder;
};

TEST_F(RankingRun, RatingsAreLearned) {
  const std::string toml = kData + kIds + kScore + kRate + "loss = \"mse\"\n" + kTrain;
  const RunResult r = train(toml, "run");
  const MetricMap& metrics = r.evaluation.value().metrics;
  // The mean predictor's error is the ratings' deviation, 1.2; the noise leaves 0.17.
  EXPECT_LT(metrics.at("rmse"), on_device() ? 2 : 0.6);
  EXPECT_LT(metrics.at("mae"), metrics.at("rmse"));
  EXPECT_NEAR(metrics.at("mse"), metrics.at("rmse") * metrics.at("rmse"), 1e-6);
  expect_the_file_says_all("run", metrics);
  expect_the_same_of_one_and_three_threads(toml, r.model_sha256);

  const Context ctx = make_context(2);
  const auto model = load_model_file(ctx, model_path("run"));
  EXPECT_EQ(model->index, nullptr);
  // Without retrieval the network ranks all that the filter leaves.
  RecommendFilter filter;
  filter.exclude = {3};
  const auto lists = answers(ctx, *model, 7, filter);
  for (std::size_t u = 0; u < lists.size(); ++u) {
    Answer expected;
    std::vector<std::int32_t> items;
    for (std::int32_t i = 0; i < model->data.item_count(); ++i) {
      const auto* seen = model->seen.items.data();
      const bool known =
          static_cast<std::int64_t>(u) < model->data.user_count() &&
          std::binary_search(seen + model->seen.offsets[u], seen + model->seen.offsets[u + 1], i);
      if (i != 3 && !known) items.push_back(i);
    }
    const bool stranger = static_cast<std::int64_t>(u) == model->data.user_count();
    const auto s = scores(ctx, *model, stranger ? -1 : static_cast<std::int32_t>(u), items);
    for (std::size_t i = 0; i < items.size(); ++i) expected.emplace_back(s[i], items[i]);
    std::stable_sort(expected.begin(), expected.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    expected.resize(std::min<std::size_t>(expected.size(), 7));
    EXPECT_EQ(lists[u], expected) << u;
  }
}

TEST_F(RankingRun, RetrievedItemsAreOrderedByTheScore) {
  const std::string toml = kData + kIds + kScore + kRetrieve + "weight = 0.1\n" + kRate +
                           "[index]\nrank_by = \"score\"\nretrieve = 8\n" + kTrain;
  const RunResult r = train(toml, "run");
  const MetricMap& metrics = r.evaluation.value().metrics;
  EXPECT_LT(metrics.at("rmse"), on_device() ? 2 : 0.5);
  EXPECT_TRUE(metrics.contains("recall@20"));
  expect_the_file_says_all("run", metrics);
  expect_the_same_of_one_and_three_threads(toml, r.model_sha256);

  const Context ctx = make_context(2);
  const auto model = load_model_file(ctx, model_path("run"));
  const auto ranked = answers(ctx, *model, 5);
  model->config.index.rank_by.clear();
  const auto retrieved = answers(ctx, *model, 8);
  int reordered = 0;
  for (std::size_t u = 0; u < ranked.size(); ++u) {
    std::vector<std::int32_t> items;
    for (const auto& [score, item] : retrieved[u]) items.push_back(item);
    const bool stranger = static_cast<std::int64_t>(u) == model->data.user_count();
    const auto s = scores(ctx, *model, stranger ? -1 : static_cast<std::int32_t>(u), items);
    Answer expected;
    for (std::size_t i = 0; i < items.size(); ++i) expected.emplace_back(s[i], items[i]);
    std::sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    expected.resize(std::min<std::size_t>(expected.size(), 5));
    EXPECT_EQ(ranked[u], expected) << u;
    reordered += ranked[u].empty() || ranked[u][0].second == items[0] ? 0 : 1;
  }
  EXPECT_GT(reordered, 0);  // the network has a say
}

TEST_F(RankingRun, ResumedIsTheSameModel) {
  const std::string toml = kData + kIds + kScore + kRetrieve + kRate + kTrain;
  const RunResult whole = train(toml, "whole");
  for (const std::int64_t stop : {3, 10}) {
    EXPECT_EQ(train(toml, "cut", 2, stop).outcome, TrainOutcome::stopped);
    const Context ctx = make_context(1);
    Recorder recorder;
    const RunResult r = resume_run(ctx, folder.root() / "cut", {}, recorder, {});
    EXPECT_EQ(r.model_sha256, whole.model_sha256) << stop;
    EXPECT_EQ(r.evaluation.value().metrics, whole.evaluation.value().metrics);
  }
}

TEST_F(RankingRun, ListsAreLearned) {
  const std::string task = kRate +
                           "loss = \"listmle\"\ngroup_by = \"user\"\nlist_size = 4\n"
                           "lists_per_user = 6\n";
  const std::string toml = kData + kIds + kScore + task + kTrain;
  const RunResult r = train(toml, "run");
  const MetricMap& metrics = r.evaluation.value().metrics;
  EXPECT_EQ(metrics.count("rmse"), 0u);
  const std::string still =
      "[optimizer]\nkind = \"sgd\"\nlearning_rate = 1e-9\n"
      "[train]\nepochs = 1\nbatch_size = 60\nearly_stop = false\n";
  const double untrained =
      train(kData + kIds + kScore + task + still, "still").evaluation.value().metrics.at("ndcg");
  EXPECT_GT(metrics.at("ndcg"), untrained);
  EXPECT_GT(metrics.at("ndcg"), on_device() ? 0 : 0.9);
  expect_the_file_says_all("run", metrics);
  expect_the_same_of_one_and_three_threads(toml, r.model_sha256);

  // The six lists of a user are measured; TFRS's tutorial measures one.
  const Context ctx = make_context(2);
  const auto model = load_model_file(ctx, model_path("run"));
  const Interactions test = load_test_part(RunFolder{folder.root() / "run"}.test(), model->data);
  const auto ndcg = [&](const std::string& preset, std::int64_t lists) {
    Config config = model->config;
    config.preset = preset;
    config.tasks.at(0).lists_per_user = lists;
    return evaluate_ratings(ctx, *model->model, config, model->data, test).at("ndcg");
  };
  EXPECT_EQ(ndcg("", 6), metrics.at("ndcg"));
  EXPECT_NE(ndcg("", 1), metrics.at("ndcg"));
  EXPECT_EQ(ndcg("tfrs", 6), ndcg("", 1));
}

TEST_F(RankingRun, FeaturesOfAllKinds) {
  std::string items = "item,genres,year,shares,point,title\n";
  for (int i = 0; i < kItems; ++i) {
    items += fmt::format("i{},g{}|g{},{},{}|1,{} {},The item {}\n", i, i % 3, i % 5, 1990 + i,
                         i % 4 + 1, i % 3, i % 2, i % 7);
  }
  folder.write("m.csv", items);
  const auto feature = [](const char* name, const char* side, const char* kind, const char* keys) {
    return fmt::format("[[feature]]\nname = \"{}\"\nof = \"{}\"\nkind = \"{}\"\n{}", name, side,
                       kind, keys);
  };
  std::string data = kData;
  data.insert(data.find("test ="), "items = \"m.csv\"\n");
  const std::string toml =
      data + id_feature("user", "query") + id_feature("item", "candidate") + "table = \"items\"\n" +
      feature("device", "query", "hashed", "buckets = 3\ndim = 2\n") +
      feature("kind", "query", "category", "column = \"device\"\ndim = 2\n") +
      feature("price", "query", "number", "normalise = true\n") +
      feature("cost", "query", "bucket",
              "column = \"price\"\nboundaries = { quantiles = 4 }\ndim = 3\n") +
      feature("words", "query", "text", "max_tokens = 9\ndim = 3\n") +
      feature("history", "query", "sequence", "table = \"items\"\ndim = 6\nmax_length = 3\n") +
      feature(
          "who", "query", "unified",
          "column = \"user\"\nbuckets = 7\nchunks = 2\ntables = 2\ntable = \"all\"\ndim = 3\n") +
      feature(
          "what", "candidate", "unified",
          "column = \"item\"\nbuckets = 7\nchunks = 2\ntables = 2\ntable = \"all\"\ndim = 3\n") +
      feature("genres", "candidate", "list", "weights = \"shares\"\ndim = 4\n") +
      feature("title", "candidate", "text", "ngrams = 2\npooling = \"sqrtn\"\ndim = 3\n") +
      feature("point", "candidate", "vector", "separator = \" \"\ndim = 2\n") +
      feature("year", "candidate", "number", "normalise = true\n") +
      "[[network]]\nname = \"query\"\ninputs = [\"user\", \"device\", \"kind\", \"price\", "
      "\"cost\", \"words\", \"history\", \"who\"]\nlayers = [{ kind = \"mlp\", units = [8] }]\n"
      "[[network]]\nname = \"candidate\"\ninputs = [\"item\", \"genres\", \"title\", \"point\", "
      "\"year\", \"what\"]\nlayers = [{ kind = \"layer-norm\" }, { kind = \"mlp\", units = [8] }]\n"
      "[[network]]\nname = \"both\"\ninputs = [\"query\", \"candidate\"]\n"
      "layers = [{ kind = \"dot-interaction\", self_interaction = true }]\n"
      "[[network]]\nname = \"score\"\ninputs = [\"both\", \"query\", \"candidate\", \"price\", "
      "\"genres\"]\nlayers = [{ kind = \"cross\", num_layers = 2, projection_dim = 3 }, "
      "{ kind = \"dropout\", rate = 0.1 }, { kind = \"mlp\", units = [8, 1] }]\n" +
      kRetrieve + kRate + "[index]\nrank_by = \"score\"\nretrieve = 10\n" + kTrain;
  const RunResult r = train(toml, "run");
  const MetricMap& metrics = r.evaluation.value().metrics;
  EXPECT_LT(metrics.at("rmse"), on_device() ? 2 : 0.8);
  expect_the_file_says_all("run", metrics);
  expect_the_same_of_one_and_three_threads(toml, r.model_sha256);
  EXPECT_EQ(train(toml, "cut", 2, 7).outcome, TrainOutcome::stopped);
  const Context ctx = make_context(2);
  Recorder recorder;
  EXPECT_EQ(resume_run(ctx, folder.root() / "cut", {}, recorder, {}).model_sha256, r.model_sha256);
}

TEST_F(RankingRun, EarlyStoppingWatchesTheRankingMetric) {
  const std::string more =
      "[[network]]\nname = \"liked\"\ninputs = [\"user\", \"item\"]\n"
      "layers = [{ kind = \"mlp\", units = [1] }]\n";
  for (const bool two : {false, true}) {
    SCOPED_TRACE(two);
    const std::string toml =
        kData + kIds + kScore + (two ? more : "") + kRate +
        (two ? "[[task]]\nkind = \"ranking\"\nscore = \"liked\"\nlabel = \"rating\"\n"
               "loss = \"bce-logits\"\nlabel_above = 3.5\n"
             : "") +
        "[optimizer]\nkind = \"adam\"\nlearning_rate = 0.02\n[train]\nepochs = 6\n"
        "batch_size = 60\n";
    const Context ctx = make_context(2);
    Recorder recorder;
    const RunResult r = train_run(ctx, folder.config(toml), folder.root() / "run", recorder, {});
    ASSERT_GT(recorder.epochs.size(), 1u);
    double best = 1e9;
    for (const EpochReport& e : recorder.epochs) {
      ASSERT_TRUE(e.validation.has_value());
      EXPECT_GT(*e.validation, 0.0);
      EXPECT_EQ(e.best, *e.validation < best);
      best = std::min(best, *e.validation);
    }
    EXPECT_LT(best, *recorder.epochs[0].validation);  // it learns beyond the first epoch
    EXPECT_GT(r.best_epoch, 1);
    EXPECT_EQ(r.evaluation.value().metrics.count(two ? "score/rmse" : "rmse"), 1u);
    EXPECT_EQ(r.evaluation.value().metrics.count("liked/auc"), two ? 1u : 0u);
    // Learned from its own labels, 0 and 1, not from the first task's ratings; ln 2 is to know nothing.
    if (two) {
      EXPECT_LT(r.evaluation.value().metrics.at("liked/log_loss"), std::log(2.0));
    }
  }
}

TEST_F(RankingRun, WithoutAListToJudgeByNothingStopsEarly) {
  // Nobody has 12 validation rows: there is no NDCG to watch.
  const std::string toml = kData + kIds + kScore + kRate +
                           "loss = \"listmle\"\ngroup_by = \"user\"\nlist_size = 12\n"
                           "lists_per_user = 2\n[train]\nepochs = 5\nbatch_size = 120\n"
                           "early_stop = { metric = \"ndcg\", patience = 1 }\n";
  const Context ctx = make_context(2);
  Recorder recorder;
  const RunResult r = train_run(ctx, folder.config(toml), folder.root() / "run", recorder, {});
  EXPECT_EQ(r.epochs, 5);
  EXPECT_TRUE(recorder.noted("nothing of ndcg"));
  for (const EpochReport& e : recorder.epochs) EXPECT_FALSE(e.validation.has_value());
}

}  // namespace
}  // namespace belfry::test
