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
find . -name '*_test*' -o -name '*.cpp' | grep . && fail "sources are installed"

"$cmake" -S "$source/tests/install" -B "$work/consumer" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package(belfry)"; }
"$cmake" --build "$work/consumer" >"$work/log" 2>&1 || { cat "$work/log"; fail "the program does not build"; }
cd "$work"
consumer/consumer || fail "the program does not run"

completion=$(find "$work/prefix" -path '*bash-completion/completions/belfry')
[ -n "$completion" ] || fail "no completions"
complete_words() { COMP_WORDS=(belfry "$@"); COMP_CWORD=$#; _belfry; echo "${COMPREPLY[*]}"; }
# shellcheck disable=SC1090
source "$completion"
[ "$(complete_words tr)" = train ] || fail "completion of a verb"
[[ " $(complete_words recommend --e) " == *" --exclude-seen "* ]] || fail "completion of an option"
[[ " $(complete_words train --th) " == *" --threads "* ]] || fail "completion of a common option"
