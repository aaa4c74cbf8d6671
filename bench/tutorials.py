#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tutorials of TensorFlow Recommenders on ml-latest-small's public split: what TFRS reached, what belfry reaches by the same recipe
(preset "tfrs"), and what it reaches with its own defaults on the same features and networks. Mean +- sd over seeds, then times.

    bench/tutorials.py [BELFRY] [--seeds 5] [--data DIR] [--only NAME]

DIR holds movies.csv and split/{train,test}.csv (default: $BELFRY_DATA_DIR/ml-latest-small). One thread. Seconds are CPU
seconds: of TFRS the median of its later epochs; of belfry the median epoch by the clock, times the share of the CPU that the process got.
Needs Python 3.9, nothing else.
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
import time

DATA = """[data]
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
ALL = ["user", "when", "time"]


def towers(query, *layers):
    features = USER + TITLE + WORDS + (WHEN + TIME if len(query) > 1 else "")
    return features + network("query", query, *layers) + network("candidate", ["movie", "words"], *layers)


def rated(inputs, *layers, rating=1.0):
    return network("rating", inputs, *layers) + RATING.format(rating)


def multitask(rating, retrieval):
    return USER + TITLE + RETRIEVAL.format(retrieval) + rated(["user", "movie"], mlp(256, 128, 1), rating=rating)


def dcn(*layers):
    return USER + TITLE + WHEN + GENRE + rated(["movie", "user", "when", "genre"], *layers)


def listwise(loss):
    return (USER + TITLE + network("rating", ["user", "movie"], mlp(256, 64, 1)) +
            f'[[task]]\nkind = "ranking"\nscore = "rating"\nloss = "{loss}"\ngroup_by = "user"\n'
            "list_size = 5\nlists_per_user = 50\n")


ONCE = train(3, 8192, "once", 0.1)
AGAIN, AGAIN_30 = train(3, 2048, "epoch", 0.1), train(30, 2048, "epoch", 0.1)
ADAM = train(8, 8192, "once", 0.01, "adam")
LISTS = train(30, 8192 * 5, "once", 0.1)
# Name: the model, TFRS's training of it, TFRS's seconds of an epoch and of an evaluation, and its results in the order of SHOWN.
RECIPES = {
    "quickstart": (feature("user", "query", "id", 64) + feature("movie", "candidate", "id", 64), train(3, 4096, "none", 0.5),
                   3.61, 15.43, ["0.0483 ± 0.0007", "0.0546 ± 0.0015", "0.0436 ± 0.0010"]),
    "basic_retrieval": (USER + TITLE, ONCE, 5.77, 15.36, ["0.1060 ± 0.0015", "0.1224 ± 0.0022", "0.1307 ± 0.0036"]),
    "context_features_without_timestamp": (towers(["user"], mlp(32)), AGAIN, 1.85, 15.96,
                                           ["0.0797 ± 0.0021", "0.0802 ± 0.0028", "0.0709 ± 0.0027"]),
    "context_features_with_timestamp": (towers(ALL, mlp(32)), AGAIN, 1.75, 16.59,
                                        ["0.0836 ± 0.0022", "0.0729 ± 0.0053", "0.0595 ± 0.0033"]),
    "deep_32": (towers(ALL, mlp(32)), AGAIN_30, 1.80, 17.37, ["0.0951 ± 0.0016", "0.0923 ± 0.0059", "0.0748 ± 0.0044"]),
    "deep_64_32": (towers(ALL, mlp(64, 32)), AGAIN_30, 1.78, 16.35, ["0.0868 ± 0.0026", "0.0666 ± 0.0078", "0.0495 ± 0.0047"]),
    "multitask_rating_1_retrieval_0": (multitask(1.0, 0.0), ONCE, 6.22, 15.33, ["", "", "", "1.0196 ± 0.0047"]),
    "multitask_rating_1_retrieval_1": (multitask(1.0, 1.0), ONCE, 6.40, 15.14,
                                       ["0.1059 ± 0.0015", "0.1226 ± 0.0020", "0.1308 ± 0.0033", "1.0856 ± 0.0873"]),
    "basic_ranking": (USER + TITLE + rated(["user", "movie"], mlp(256, 64, 1)), ONCE, 0.26, 0.14, ["", "", "", "1.0093 ± 0.0057"]),
    "dcn_cross": (dcn('{ kind = "cross" }', mlp(192, 192, 1)), ADAM, 0.50, 0.15, ["", "", "", "0.8749 ± 0.0028"]),
    "dcn_cross_low_rank_20": (dcn('{ kind = "cross", projection_dim = 20 }', mlp(192, 192, 1)), ADAM, 0.48, 0.15,
                              ["", "", "", "0.8814 ± 0.0062"]),
    "dcn_deep_only": (dcn(mlp(192, 192, 192, 1)), ADAM, 0.58, 0.17, ["", "", "", "0.8809 ± 0.0105"]),
    "listwise_mse": (listwise("mse"), LISTS, 0.48, 0.35, ["", "", "", "0.9348 ± 0.0029", "0.8944 ± 0.0031"]),
    "listwise_hinge": (listwise("pairwise-hinge"), LISTS, 0.44, 0.35, ["", "", "", "", "0.8949 ± 0.0025"]),
    "listwise_listmle": (listwise("listmle"), LISTS, 0.47, 0.38, ["", "", "", "", "0.8957 ± 0.0016"]),
}
# What the presets of these models say beside the defaults: without a retrieval loss, the usual early stopping would watch noise; lists of
# a user's ratings want smaller steps.
SLOW = "[optimizer]\nlearning_rate = 0.001\n"
OWN = {"multitask_rating_1_retrieval_0": '[train]\nearly_stop = { metric = "rmse", patience = 3 }\n',
       "listwise_mse": SLOW, "listwise_hinge": SLOW, "listwise_listmle": SLOW}
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
    """Metrics, the median epoch's and the evaluation's seconds."""
    before, start = cpu_seconds(), time.monotonic()
    out = subprocess.run([belfry, "train", model, f"train.seed={seed}", "--out", folder / "run", "--device", "cpu",
                          "--threads", "1", "--json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    share = min(1.0, (cpu_seconds() - before) / (time.monotonic() - start))
    lines = [json.loads(line) for line in out.splitlines()]
    evaluation = next(e for e in lines if e["event"] == "evaluate")
    epochs = [e["seconds"] for e in lines if e["event"] == "epoch"]
    return evaluation["metrics"], share * statistics.median(epochs), share * evaluation["seconds"]


def cell(runs, key):
    values = [metrics[key] for metrics, *_ in runs if key in metrics]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}" if values else "–"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("belfry", nargs="?", default="build/release/apps/belfry")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", default=os.path.join(os.environ.get("BELFRY_DATA_DIR", "../shared/data"), "ml-latest-small"))
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    data = pathlib.Path(args.data).resolve()
    print("| run | metric | TFRS | belfry, TFRS's recipe | belfry's defaults |\n|---|---|---|---|---|")
    times = []
    with tempfile.TemporaryDirectory() as temp:
        folder = pathlib.Path(temp)
        with_first_genre(data / "movies.csv", folder / "movies.csv")
        head = DATA.format(train=data / "split/train.csv", test=data / "split/test.csv", movies=folder / "movies.csv")
        for name, (model, training, epoch, evaluation, theirs) in RECIPES.items():
            if args.only not in name:
                continue
            columns = []
            for text in ('preset = "tfrs"\n' + head + model + training, head + model + OWN.get(name, "")):
                path = folder / f"{name}.toml"
                path.write_text(text)
                columns.append([run(args.belfry, path, seed, folder) for seed in range(1, args.seeds + 1)])
            for (key, title), their in zip(SHOWN, theirs):
                if their:
                    print(f"| {name} | {title} | {their} | {cell(columns[0], key)} | {cell(columns[1], key)} |", flush=True)
            own_epoch, own_evaluation = (statistics.median(r[i] for r in columns[0]) for i in (1, 2))
            times.append(f"| {name} | {epoch} | {own_epoch:.2f} | {evaluation} | {own_evaluation:.2f} |")
    print("\n| run | epoch: TFRS | belfry | evaluation: TFRS | belfry |\n|---|---|---|---|---|\n" + "\n".join(times))


if __name__ == "__main__":
    main()
