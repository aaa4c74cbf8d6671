// SPDX-License-Identifier: Apache-2.0
// TFRS's quickstart: which movies go with which users, and three of them for user 42.
//
//   quickstart                              on made-up ratings, written into the current folder
//   quickstart ml-100k/u.data ml-100k/u.item        or ratings.csv movies.csv of a newer MovieLens
#include <algorithm>
#include <belfry/belfry.hpp>
#include <fstream>
#include <iostream>
#include <random>

namespace {

/// 400 users and 200 movies of eight kinds; a user mostly watches one kind.
void make_up_ratings() {
  std::ofstream ratings("ratings.csv"), movies("movies.csv");
  movies << "movieId,title,genres\n";
  for (int m = 1; m <= 200; ++m) {
    movies << m << ",Movie " << m << " (" << 1950 + m % 70 << "),Kind " << m % 8 << "\n";
  }
  ratings << "userId,movieId,rating,timestamp\n";
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const auto user = 1 + random() % 400;
    auto movie = 1 + random() % 200;
    if (random() % 10 != 0) movie = 1 + movie / 8 * 8 % 200 + user % 8;
    if (movie > 200) movie -= 8;
    ratings << user << "," << movie << "," << 1 + random() % 5 << "," << 900'000'000 + i << "\n";
  }
}

/// The first of two names that the table has: 100K and later MovieLens files differ.
std::string column(const belfry::data::Table& table, const char* one, const char* other) {
  const auto names = table.columns();
  return std::find(names.begin(), names.end(), one) != names.end() ? one : other;
}

void run(const std::string& ratings_file, const std::string& movies_file) {
  // Ratings data, and the features of all the available movies.
  const auto ratings = belfry::data::read(ratings_file);
  const auto movies = belfry::data::read(movies_file);
  const std::string user = column(ratings, "user_id", "userId");
  const std::string title = column(movies, "movie_title", "title");
  const auto user_ids = belfry::Vocabulary::adapt(ratings[user]);
  const auto titles = belfry::Vocabulary::adapt(movies[title]);

  // The two towers.
  const belfry::Tower user_model{belfry::Lookup{user_ids}, belfry::Embedding{user_ids.size(), 64}};
  const belfry::Tower movie_model{belfry::Lookup{titles}, belfry::Embedding{titles.size(), 64}};

  // The objective, with FactorizedTopK over the whole corpus. Ratings name a movie by its id: they are joined
  // with the table of the candidates.
  const belfry::Retrieval task{{.metrics = {belfry::FactorizedTopK{movies[title], movie_model}}}};
  belfry::TwoTower model{{user, user_model}, {title, movie_model}, task, {.preset = "tfrs"}};
  model.compile(belfry::Adagrad{.learning_rate = 0.5f});

  const auto [train, test] = ratings.shuffle(42).split(0.8);
  model.fit(train.batch(4096), {.epochs = 5, .seed = 42});
  const auto metrics = model.evaluate(test.batch(4096));
  std::cout << metrics["factorized_top_k/top_100_categorical_accuracy"] << '\n';

  belfry::BruteForce index{model};
  index.index(movies[title]);
  const std::vector<std::string> users{"42"};
  for (const auto& [movie, score] : index(users, {.k = 3})[0]) {
    std::cout << movie << '\t' << score << '\n';
  }
  model.save("quickstart.safetensors");
  index.write_faiss("movies.faiss");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 3) make_up_ratings();
    run(argc == 3 ? argv[1] : "ratings.csv", argc == 3 ? argv[2] : "movies.csv");
  } catch (const belfry::Error& error) {
    std::cerr << "error: " << error.what() << '\n';
    return static_cast<int>(error.code());
  }
}
