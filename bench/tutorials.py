#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tutorials of TensorFlow Recommenders on ml-latest-small's public split: TFRS's recipe (preset "tfrs"), several seeds, mean +- sd.

    bench/tutorials.py [BELFRY] [--seeds 5] [--data DIR]

DIR holds movies.csv and split/{train,test}.csv (default: $BELFRY_DATA_DIR/ml-latest-small). One thread; CPU seconds of training are those
of whole processes (reading and evaluation included). Needs Python 3.11, nothing else.
"""

import argparse
import csv
import json
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile

DATA = """preset = "tfrs"
[data]
interactions = "{train}"
test = "{test}"
items = "{movies}"
item = "title"
label = "rating"
[split]
method = "file"
[evaluate]
exclude_seen = true
metrics = ["factorized_top_k/top_100_categorical_accuracy", "recall@20", "ndcg@20"]
"""


def feature(name, side, kind, dim=None, **more):
    lines = [f'name = "{name}"', f'of = "{side}"', f'kind = "{kind}"']
    lines += [f"dim = {dim}"] if dim else []
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "[[feature]]\n" + "\n".join(lines) + "\n"


def network(name, inputs, *layers):
    return f'[[network]]\nname = "{name}"\ninputs = {json.dumps(inputs)}\nlayers = [{", ".join(layers)}]\n'


def mlp(*units):
    return f'{{ kind = "mlp", units = {list(units)} }}'


def train(epochs, batch, shuffle, rate, kind="adagrad"):
    return (f'[train]\nepochs = {epochs}\nbatch_size = {batch}\nshuffle = "{shuffle}"\n'
            f'[optimizer]\nkind = "{kind}"\nlearning_rate = {rate}\n')


USER = feature("user", "query", "id", 32)
TITLE = feature("movie", "candidate", "id", 32)
WHEN = feature("when", "query", "bucket", 32, column='"timestamp"', boundaries="{ linspace = 1000 }")
TIME = feature("time", "query", "number", column='"timestamp"', normalise="true")
WORDS = feature("words", "candidate", "text", 32, column='"title"')
GENRE = feature("genre", "candidate", "category", 32, column='"first_genre"')
RATING = '[[task]]\nkind = "ranking"\nscore = "rating"\nloss = "mse"\nweight = {}\n'
RETRIEVAL = '[[task]]\nkind = "retrieval"\nweight = {}\n'


def towers(query, *layers):
    features = USER + TITLE + WORDS + (WHEN + TIME if len(query) > 1 else "")
    return (features + network("query", query, *layers) +
            network("candidate", ["movie", "words"], *layers))


def multitask(rating, retrieval):
    return (USER + TITLE + network("rating", ["user", "movie"], mlp(256, 128, 1)) +
            RETRIEVAL.format(retrieval) + RATING.format(rating) + train(3, 8192, "once", 0.1))


def dcn(*layers):
    return (USER + TITLE + WHEN + GENRE +
            network("rating", ["movie", "user", "when", "genre"], *layers) + RATING.format(1.0) +
            train(8, 8192, "once", 0.01, "adam"))


def listwise(loss):
    return (USER + TITLE + network("rating", ["user", "movie"], mlp(256, 64, 1)) +
            f'[[task]]\nkind = "ranking"\nscore = "rating"\nloss = "{loss}"\ngroup_by = "user"\n'
            "list_size = 5\nlists_per_user = 50\n" + train(30, 8192 * 5, "once", 0.1))


ALL = ["user", "when", "time"]
RECIPES = {
    "quickstart": feature("user", "query", "id", 64) + feature("movie", "candidate", "id", 64) +
                  train(3, 4096, "none", 0.5),
    "basic_retrieval": USER + TITLE + train(3, 8192, "once", 0.1),
    "context_features_without_timestamp": towers(["user"], mlp(32)) + train(3, 2048, "epoch", 0.1),
    "context_features_with_timestamp": towers(ALL, mlp(32)) + train(3, 2048, "epoch", 0.1),
    "deep_32": towers(ALL, mlp(32)) + train(30, 2048, "epoch", 0.1),
    "deep_64_32": towers(ALL, mlp(64, 32)) + train(30, 2048, "epoch", 0.1),
    "multitask_rating_0_retrieval_1": multitask(0.0, 1.0),
    "multitask_rating_1_retrieval_0": multitask(1.0, 0.0),
    "multitask_rating_1_retrieval_1": multitask(1.0, 1.0),
    "basic_ranking": USER + TITLE + network("rating", ["user", "movie"], mlp(256, 64, 1)) +
                     RATING.format(1.0) + train(3, 8192, "once", 0.1),
    "dcn_cross": dcn('{ kind = "cross" }', mlp(192, 192, 1)),
    "dcn_cross_low_rank_20": dcn('{ kind = "cross", projection_dim = 20 }', mlp(192, 192, 1)),
    "dcn_deep_only": dcn(mlp(192, 192, 192, 1)),
    "listwise_mse": listwise("mse"),
    "listwise_hinge": listwise("pairwise-hinge"),
    "listwise_listmle": listwise("listmle"),
}
SHOWN = [("factorized_top_k/top_100_categorical_accuracy", "top-100"), ("recall@20", "recall@20"),
         ("ndcg@20", "NDCG@20"), ("rmse", "RMSE"), ("ndcg", "NDCG of lists")]


def with_first_genre(source, target):
    """movies.csv with the first of each movie's genres as a column of its own."""
    with open(source, encoding="utf-8", newline="") as rows, open(target, "w", encoding="utf-8", newline="") as out:
        reader, writer = csv.DictReader(rows), csv.writer(out)
        writer.writerow(["movieId", "title", "genres", "first_genre"])
        for row in reader:
            writer.writerow([row["movieId"], row["title"], row["genres"], row["genres"].split("|")[0]])


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(belfry, model, seed, folder):
    before = cpu_seconds()
    out = subprocess.run([belfry, "train", model, f"train.seed={seed}", "--out", folder / "run", "--device", "cpu",
                          "--threads", "1", "--json"], check=True, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    return next(e["metrics"] for e in lines if e["event"] == "evaluate"), cpu_seconds() - before


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("belfry", nargs="?", default="build/release/apps/belfry")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", default=os.path.join(os.environ.get("BELFRY_DATA_DIR", "../shared/data"), "ml-latest-small"))
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    data = pathlib.Path(args.data).resolve()
    print("| run | " + " | ".join(name for _, name in SHOWN) + " | CPU s |")
    print("|---|" + "---|" * (len(SHOWN) + 1))
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(temp)
        with_first_genre(data / "movies.csv", folder / "movies.csv")
        head = DATA.format(train=data / "split/train.csv", test=data / "split/test.csv", movies=folder / "movies.csv")
        for name, recipe in RECIPES.items():
            if args.only not in name:
                continue
            model = folder / f"{name}.toml"
            model.write_text(head + recipe)
            runs = [run(args.belfry, model, seed, folder) for seed in range(1, args.seeds + 1)]
            cells = []
            for key, _ in SHOWN:
                values = [metrics[key] for metrics, _ in runs if key in metrics]
                spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.4f}{spread}" if values else "–")
            cpu = statistics.median(seconds for _, seconds in runs)
            print(f"| {name} | " + " | ".join(cells) + f" | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
