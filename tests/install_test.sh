#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# install_test.sh SOURCE BUILD CMAKE: installs a build into a prefix of its own, then builds and runs a
# program against what was installed.
set -euo pipefail
source=$1 build=$2 cmake=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

"$cmake" --install "$build" --prefix "$work/prefix" >"$work/log" || { cat "$work/log"; fail "install"; }
cd "$work/prefix"
bin/belfry --version | grep -q '^belfry ' || fail "the installed command does not run"
find . -name LICENSE | grep . >/dev/null || fail "no LICENSE"
# No grep -q behind a pipe: it would end find early, which pipefail takes for a failure.
find . -name '*.hpp' | grep engine/run.hpp >/dev/null || fail "no headers"
find . -name '*.hpp' | grep belfry/belfry.hpp >/dev/null || fail "no public headers"
find . -name '*_test*' -o -name '*.cpp' | grep . && fail "sources are installed"

"$cmake" -S "$source/tests/install" -B "$work/consumer" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package(belfry)"; }
"$cmake" --build "$work/consumer" >"$work/log" 2>&1 || { cat "$work/log"; fail "the program does not build"; }
cd "$work"
consumer/consumer || fail "the program does not run"

# The example is built by its own CMake file and run on ratings that it makes up; the model file beside it then
# gives the same bytes through the command, from vocabularies that are counted here by other means.
"$cmake" -S "$source/examples/quickstart" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package(belfry 0.1 COMPONENTS engine)"; }
"$cmake" --build "$work/build" >"$work/log" 2>&1 || { cat "$work/log"; fail "the quickstart does not build"; }
mkdir "$work/quickstart" && cd "$work/quickstart"
../build/quickstart >out || fail "the quickstart does not run"
[ "$(wc -l <out)" = 4 ] || fail "the quickstart prints one metric and three movies: $(cat out)"
awk 'NR == 1 && !($1 > 0.6 && $1 <= 1) { exit 1 }' out || fail "top-100 accuracy of 200 movies: $(cat out)"
awk -F'\t' 'NR > 1 && (NF != 2 || $1 !~ /^Movie [0-9]+ \([0-9]+\)$/ || (NR > 2 && $2 > last)) { exit 1 } { last = $2 }' \
  out || fail "three movies with falling scores: $(cat out)"
count() { tail -n +2 "$1" | cut -d, -f"$2" | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2r | sed 's/^ *[0-9]* //'; }
count ratings.csv 1 >users.txt
count movies.csv 2 >titles.txt
cp "$source/examples/quickstart/quickstart.toml" .
"$work/prefix/bin/belfry" train quickstart.toml --device cpu -q --out run >/dev/null || fail "belfry train quickstart.toml"
cmp quickstart.safetensors run/model.safetensors || fail "the program and the model file differ"
cd "$work"

completion=$(find "$work/prefix" -path '*bash-completion/completions/belfry')
[ -n "$completion" ] || fail "no completions"
complete_words() { COMP_WORDS=(belfry "$@"); COMP_CWORD=$#; _belfry; echo "${COMPREPLY[*]}"; }
# shellcheck disable=SC1090
source "$completion"
[ "$(complete_words tr)" = train ] || fail "completion of a verb"
[[ " $(complete_words recommend --e) " == *" --exclude-seen "* ]] || fail "completion of an option"
[[ " $(complete_words train --th) " == *" --threads "* ]] || fail "completion of a common option"
