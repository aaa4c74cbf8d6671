# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The steps of gpu_run.sh, which sources this. A step writes into $results, is done again from where it was cut
# off, and returns 75 where the time is up.

step_machine() {
  {
    nvidia-smi
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,clocks.max.sm,power.limit --format=csv
    nvcc --version
    c++ --version | head -1
    cmake --version | head -1
    lscpu | head -20
    python3 -c 'import torch; print("torch", torch.__version__)'
  } >"$results/machine.txt" 2>&1
  return 0
}

# nvcc, CMake and a compiler build the tree; where that fails, the carried binaries serve.
step_build() {
  local code
  if command -v nvcc >/dev/null && command -v cmake >/dev/null; then
    limited "$(left 580)" "$results/build.log" tools/gpu_build.sh "$bin"
    code=$?
    if [ "$code" = 0 ]; then
      echo built >"$results/binaries.txt"
      return 0
    fi
    if [ "$code" = 124 ]; then  # what is built stays; but not for ever
      echo cut >>"$results/build.cuts"
      [ "$(wc -l <"$results/build.cuts")" -ge 6 ] || return 75
    fi
    grep -m 3 -iE 'error' "$results/build.log" | cut -c1-300
  fi
  if [ ! -d bundle/bin ]; then
    say "the build failed ($results/build.log), and no binaries were carried"
    return 1
  fi
  say "no build; using the carried binaries"
  rm -rf "$bin" && mkdir -p "$bin" && cp bundle/bin/* "$bin" && echo carried >"$results/binaries.txt"
}

# Suites, each a process: the executor's conformance tests, then the files of gpu_test, of ops with stale or never
# seen kernels first. gpu_FILE's counterpart on the simulated device is simt_plain_FILE (tools/ledger.py replay).
suites_in_order() {
  local every op
  every=$("${runner[@]}" "$bin/gpu_test" --files 2>/dev/null | sed 's/^/gpu_/')
  [ -n "$every" ] || every=gpu_test  # it does not even start, which its run then shows
  {
    echo gpu_conformance_test
    timeout 120 python3 tools/ledger.py status --order 2>/dev/null | awk '$1 != "valid" { print $2 }' | awk '!seen[$0]++' |
      while read -r op; do grep "^gpu_$op" <<<"$every"; done
    echo "$every"
  } | awk '!seen[$0]++'
}
suites() {
  [ -s "$results/suites.txt" ] || suites_in_order >"$results/suites.txt"
  cat "$results/suites.txt"
}
# What runs a suite, as the array `command`.
command_of() {
  case $1 in
    gpu_conformance_test | gpu_test) command=("$bin/$1") ;;
    *) command=("$bin/gpu_test" --file "${1#gpu_}") ;;
  esac
}
step_tests() {
  local name code failed=0 command
  mkdir -p "$results/tests"
  for name in $(suites); do
    command_of "$name"
    BELFRY_LAUNCH_COUNTS="$results/tests/$name.launches" once "$results/tests/$name.exit" 300 \
      "$results/tests/$name.log" "${runner[@]}" "${command[@]}" --gtest_brief=1 \
      --gtest_output="xml:$results/tests/$name.xml"
    code=$?
    [ "$code" = 75 ] && return 75
    [ "$code" = 0 ] || { failed=1; say "$name failed, exit code $code"; }
  done
  return $failed
}

# The tests' shapes are small already. A tool that finds something says so by exit code 86.
sanitize_one() {
  local command
  command_of "$2"
  once "$results/sanitizer/$1.$2.exit" 240 "$results/sanitizer/$1.$2.log" \
    "${runner[@]}" compute-sanitizer --tool "$1" --error-exitcode 86 "${command[@]}" --gtest_brief=1
}
step_sanitize() {
  local tool name bad
  command -v compute-sanitizer >/dev/null || { say "no compute-sanitizer"; return 1; }
  mkdir -p "$results/sanitizer"
  for tool in memcheck racecheck synccheck initcheck; do
    for name in $(suites); do
      [ -f "$results/sanitizer/$tool.$name.exit" ] && continue
      [ "$(left 240)" -ge 20 ] || { wait; return 75; }
      while [ "$(jobs -rp | wc -l)" -ge 4 ]; do wait -n; done
      sanitize_one "$tool" "$name" &
    done
  done
  wait
  for tool in memcheck racecheck synccheck initcheck; do
    for name in $(suites); do
      [ -f "$results/sanitizer/$tool.$name.exit" ] || return 75  # the last ones were cut off
    done
  done
  bad=$(grep -Lx 0 "$results"/sanitizer/*.exit)
  [ -z "$bad" ] || { say "not clean: $(basename -a $bad | tr '\n' ' ')"; return 1; }
}

# A benchmark an op.
step_bench() {
  local op ops name code failed=0
  mkdir -p "$results/bench"
  ops=$("${runner[@]}" "$bin/bench_cuda" --list 2>/dev/null)
  [ -n "$ops" ] || { say "no benchmarks"; return 1; }
  for op in $ops; do
    name=${op}_cuda
    once "$results/bench/$name.exit" 240 "$results/bench/$name.log" "${runner[@]}" "$bin/bench_cuda" "$op" \
      --json "$results/bench/$name.json"
    code=$?
    case $code in
      0) ;;
      75) return 75 ;;
      77) say "$name was skipped" ;;
      *) failed=1; say "$name failed, exit code $code" ;;
    esac
  done
  return $failed
}

step_peers() {
  python3 -c 'import torch' 2>/dev/null || { say "no PyTorch: no comparison"; return 0; }
  once "$results/peers.exit" 560 "$results/peers.log" python3 bench/peers/torch_two_tower.py --out "$results/peers.json"
}

# The whole command, from a file of ratings to a trained model, and its answers for everybody.
step_train() {
  local data=build/gpu/ratings.csv run=build/gpu/run device code failed=0
  [ -f "$data" ] || python3 tools/make_ratings.py 5000000 "$data" || return 1
  for device in cuda cpu; do
    [ -f "$results/train-$device.exit" ] || rm -rf "$run-$device" "$run-$device.partial"
    once "$results/train-$device.exit" 200 "$results/train-$device.log" "${runner[@]}" "$bin/belfry" train "$data" \
      --out "$run-$device" --device "$device" --json --seed 1 train.epochs=1 train.batch_size=8192
    code=$?
    [ "$code" = 75 ] && return 75
    [ "$code" = 0 ] || failed=1
  done
  once "$results/recommend.exit" 120 "$results/recommend.log" "${runner[@]}" "$bin/belfry" recommend "$run-cuda" \
    --all -k 100 --device cuda -o build/gpu/recommendations.csv
  code=$?
  [ "$code" = 75 ] && return 75
  [ "$code" = 0 ] || failed=1
  cp "$run-cuda/metrics.jsonl" "$results/train-metrics.jsonl" 2>/dev/null
  return $failed
}

step_record() {
  python3 tools/gpu_record.py "$results" || return 1
  if git rev-parse HEAD >/dev/null 2>&1; then
    python3 tools/ledger.py add "$results/run.json"
  else
    say "no git history here: take $results along, then tools/ledger.py add .../run.json"
  fi
}
