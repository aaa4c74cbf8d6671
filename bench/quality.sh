#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Quality on public data with default settings, and TFRS's recipe over five seeds.
#   bench/quality.sh [DATA_DIR] [OUT_DIR]      DATA_DIR defaults to $BELFRY_DATA_DIR, else ../shared/data
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(cd "${1:-${BELFRY_DATA_DIR:-../shared/data}}" && pwd)
out=${2:-runs/quality}
belfry=$PWD/build/release/apps/belfry
export BELFRY_THREADS=${BELFRY_THREADS:-1}
mkdir -p "$out"

model_file() {  # NAME TRAIN TEST
  printf '[data]\ninteractions = "%s"\ntest = "%s"\n' "$data/$2" "$data/$3" >"$out/$1.toml"
}
run() {  # NAME ARGS...: prints the last metrics and the CPU time
  local name=$1; shift
  echo "== $name"
  { time -p "$belfry" train "$@" --out "$out/$name" -q --progress none; } 2>&1 | grep -v '^sys'
}

model_file ml-latest-small ml-latest-small/split/train.csv ml-latest-small/split/test.csv
model_file amazon-electronics amazon-electronics/train.tsv amazon-electronics/test.tsv
model_file gowalla gowalla/train.txt gowalla/test.txt
for set in ml-latest-small amazon-electronics gowalla; do run $set "$out/$set.toml"; done

"$belfry" init basic-retrieval >"$out/basic-retrieval.toml"
for seed in 1 2 3 4 5; do
  run basic-retrieval-$seed "$out/basic-retrieval.toml" split.method=file evaluate.exclude_seen=true train.seed=$seed \
    data.interactions="$data/ml-latest-small/split/train.csv" data.test="$data/ml-latest-small/split/test.csv" \
    data.items="$data/ml-latest-small/movies.csv"
done
