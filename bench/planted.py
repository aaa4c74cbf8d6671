#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Presets on made-up data whose best reachable metric is known: how much of it does training reach?

    bench/planted.py [BELFRY] [--seeds 5] [--only PRESET] [--at-least 0.95]

Each data set is drawn from a model that is known here, so that the best list or the best prediction for each test row can be written
down; "best" is what that oracle reaches on the same test rows, "without" what ignoring the plant reaches (the most popular unseen items,
or one score for all). With --at-least the exit code is 1 where the mean over the seeds falls short of that share of the best. Needs
Python 3.9, nothing else.
"""

import argparse
import bisect
import csv
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

GENRES = 8


def write(path, header, rows):
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


class Planted:
    """Train and test rows (user, movie, rating, time), genres of movies, and what the oracle and the ignorant reach."""

    def __init__(self, metric, train, test, genres, best, without):
        self.metric, self.train, self.test, self.genres, self.best, self.without = metric, train, test, genres, best, without

    def save(self, folder):
        header = ["userId", "movieId", "rating", "timestamp"]
        write(folder / "ratings.csv", header, self.train)
        write(folder / "test.csv", header, self.test)
        write(folder / "movies.csv", ["movieId", "title", "genres"],
              [(m, f"Movie {m}", "|".join(f"G{g}" for g in sorted(gs))) for m, gs in enumerate(self.genres)])


def recall(test, lists):
    """Mean over users of the share of their test movies that are in their list."""
    of = {}
    for user, movie, *_ in test:
        of.setdefault(user, []).append(movie)
    return statistics.mean(sum(m in set(lists[u]) for m in movies) / len(movies) for u, movies in of.items())


def best_unseen(weights, seen, k):
    return sorted((m for m in range(len(weights)) if m not in seen), key=lambda m: (-weights[m], m))[:k]


def retrieval(train, test, genres, weights_of, movies, k=20):
    seen, counts = {}, [0] * movies
    for user, movie, *_ in train:
        seen.setdefault(user, set()).add(movie)
        counts[movie] += 1
    users = {row[0] for row in test}
    best = recall(test, {u: best_unseen(weights_of(u), seen[u], k) for u in users})
    popular = recall(test, {u: best_unseen(counts, seen[u], k) for u in users})
    return Planted(f"recall@{k}", train, test, genres, best, popular)


def tastes(rng, users, movies, clusters, each, held):
    """A user draws movies, none twice, most of them from one cluster, by the movies' popularity. Genres tell the cluster's half."""
    cluster = [m % clusters for m in range(movies)]
    popularity = [math.exp(0.5 * rng.gauss(0, 1)) for _ in range(movies)]
    genres = [{cluster[m] % GENRES, GENRES + cluster[m] // GENRES} for m in range(movies)]
    taste = [rng.randrange(clusters) for _ in range(users)]

    def weights_of(user):
        return [p * (1.0 if cluster[m] == taste[user] else 0.1 / clusters) for m, p in enumerate(popularity)]

    train, test = [], []
    for user in range(users):
        weights, rows = weights_of(user), []
        # Efraimidis and Spirakis: successive draws without replacement are a race of exponential clocks.
        order = sorted(range(movies), key=lambda m: rng.expovariate(1.0) / weights[m])[:each]
        rng.shuffle(order)
        rows = [(user, m, 4, 10_000 * user + i) for i, m in enumerate(order)]
        train += rows[held:]
        test += rows[:held]
    return retrieval(train, test, genres, weights_of, movies)


def chains(rng, users, movies, clusters, each):
    """The next movie is of the cluster that follows the last movie's, seven times of ten; else any. Only the order tells."""
    cluster = [m % clusters for m in range(movies)]
    members = [[m for m in range(movies) if cluster[m] == c] for c in range(clusters)]
    follows = list(range(clusters))
    rng.shuffle(follows)
    last, train, test = {}, [], []
    for user in range(users):
        now, seen = rng.randrange(movies), set()
        for i in range(each):
            seen.add(now)
            (test if i == each - 1 else train).append((user, now, 4, 10_000 * user + i))
            if i == each - 2:
                last[user] = now
            after = [m for m in members[follows[cluster[now]]] if m not in seen]
            if not after or rng.random() >= 0.7:
                after = [m for m in range(movies) if m not in seen]
            now = rng.choice(after)

    def weights_of(user):
        follow = follows[cluster[last[user]]]
        return [1.0 if cluster[m] == follow else 0.0 for m in range(movies)]

    return retrieval(train, test, [{c % GENRES} for c in cluster], weights_of, movies)


def area_under_curve(scores, labels):
    """The chance that a positive row has the higher score, ties half."""
    negatives = sorted(s for s, y in zip(scores, labels) if not y)
    positives = [s for s, y in zip(scores, labels) if y]
    wins = sum(bisect.bisect_left(negatives, s) + bisect.bisect_right(negatives, s) for s in positives)
    return wins / (2 * len(positives) * len(negatives))


def opinions(rng, users, movies, each, context):
    """Likes (5) and dislikes (1) by the logistic law: three factors of users and movies; with `context` also genres and time."""
    taste = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(users)]
    trait = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(movies)]
    likes = [[rng.gauss(0, 1) for _ in range(GENRES)] for _ in range(users)]
    genres = [set(rng.sample(range(GENRES), rng.randint(1, 3))) for _ in range(movies)]
    rows, truth = [], []
    for user in range(users):
        for movie in rng.sample(range(movies), each):
            time = rng.random()
            opinion = 2 * sum(a * b for a, b in zip(taste[user], trait[movie])) / math.sqrt(3)
            if context:
                opinion += 1.5 * statistics.mean(likes[user][g] for g in genres[movie]) + 4 * (time - 0.5)
            rating = 5 if rng.random() < 1 / (1 + math.exp(-opinion)) else 1
            rows.append((user, movie, rating, 1_500_000_000 + int(time * 1e8)))
            truth.append(opinion)
    order = list(range(len(rows)))
    rng.shuffle(order)
    held, kept = order[:len(order) // 10], order[len(order) // 10:]
    train, test = [rows[i] for i in kept], [rows[i] for i in held]
    best = area_under_curve([truth[i] for i in held], [row[2] == 5 for row in test])
    return Planted("auc", train, test, genres, best, 0.5)


PLANTS = {
    "deep-retrieval": lambda rng: tastes(rng, users=2000, movies=1000, clusters=25, each=34, held=5),
    "efficient-serving": lambda rng: tastes(rng, users=2000, movies=1000, clusters=25, each=34, held=5),
    "sequential": lambda rng: chains(rng, users=2000, movies=400, clusters=40, each=30),
    "dlrm": lambda rng: opinions(rng, users=600, movies=300, each=200, context=True),
    "unified-embedding": lambda rng: opinions(rng, users=600, movies=300, each=200, context=False),
}


def reached(belfry, preset, plant, seed, folder):
    (folder / "model.toml").write_text(subprocess.run([belfry, "init", preset], check=True, capture_output=True, text=True).stdout)
    out = subprocess.run([belfry, "train", folder / "model.toml", "split.method=file", f"data.test={folder}/test.csv", f"train.seed={seed}",
                          "evaluate.metrics=[\"recall@20\"]", "--out", folder / "run", "--device", "cpu", "--threads", "1", "--json"],
                         check=True, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL).stdout
    events = [json.loads(line) for line in out.splitlines()]
    return next(e["metrics"] for e in events if e["event"] == "evaluate")[plant.metric]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("belfry", nargs="?", default="build/release/apps/belfry")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(PLANTS))
    parser.add_argument("--at-least", type=float, default=0.0)
    args = parser.parse_args()
    short = []
    print("| preset | metric | without | reached | best | share |\n|---|---|---|---|---|---|")
    for preset, draw in PLANTS.items():
        if args.only not in (None, preset):
            continue
        plant = draw(random.Random(7))
        with tempfile.TemporaryDirectory() as temp:
            folder = pathlib.Path(temp)
            plant.save(folder)
            values = [reached(args.belfry, preset, plant, seed, folder) for seed in range(1, args.seeds + 1)]
        mean = statistics.mean(values)
        share = mean / plant.best
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        print(f"| {preset} | {plant.metric} | {plant.without:.4f} | {mean:.4f}{spread} | {plant.best:.4f} | {share:.3f} |", flush=True)
        if share < args.at_least:
            short.append(preset)
    for preset in short:
        print(f"{preset}: below {args.at_least} of the best", file=sys.stderr)
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
