#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gpu_run_test.sh SOURCE: `./run gpu`'s steps on a made-up machine, whose GPU, compiler and binaries are stubs.
set -euo pipefail
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; cat "$work/log" 2>/dev/null; exit 1; }
stub() { mkdir -p "$(dirname "$1")"; { echo '#!/usr/bin/env bash'; cat; } >"$1"; chmod +x "$1"; }
tree=$work/tree fake=$work/fake
mkdir -p "$tree/validation" "$tree/build/gpu"
cp -r "$source/tools" "$tree/"
echo "user,item" >"$tree/build/gpu/ratings.csv"
export PATH=$fake:$PATH

# Without a GPU: said so, exit code 3.
stub "$fake/nvidia-smi" <<<'exit 9'
code=0; "$tree/tools/gpu_run.sh" >"$work/log" 2>&1 || code=$?
[ "$code" = 3 ] || fail "no GPU: exit code $code"
grep -q 'error: no usable GPU' "$work/log" || fail "no GPU: no word of it"
[ -z "$(ls "$tree/validation")" ] || fail "no GPU: something was written"

stub "$fake/nvidia-smi" <<'SH'
case $* in
  -L) [ -f "$CUT" ] && sleep 8; echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)' ;;
  *name,compute_cap,driver_version\ --format=csv,noheader) echo 'NVIDIA H200, 9.0, 580.1' ;;
  *) echo 'NVIDIA H200' ;;
esac
SH
# Ends benchmarks as if their time were up.
stub "$fake/timeout" <<SH
[ -f "\$CUT" ] && [[ \$* == *"bench_cuda shuffle"* ]] && exit 124
exec $(command -v timeout) "\$@"
SH
export CUT=$work/cut
stub "$fake/cmake" <<<'echo "CMake Error: not today"; exit 1'
stub "$fake/nvcc" <<<'echo "Cuda compilation tools, release 13.0, V13.0.88"'
stub "$fake/compute-sanitizer" <<'SH'
echo "========= ERROR SUMMARY: 0 errors"
[[ $2 = racecheck && -f $RACE ]] && { echo "========= RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warning)"; exit 86; }
exit 0
SH
export RACE=$work/race CRASH=$work/crash
for name in gpu_conformance_test gpu_test; do
  stub "$tree/bundle/bin/$name" <<'SH'
[ "${1:-}" = --files ] && { echo gather_test; echo shuffle_test; exit 0; }
suite=$(basename "$0")
[ "${1:-}" = --file ] && suite=gpu_$2
[ "$suite" = gpu_shuffle_test ] && [ -f "$CRASH" ] && exit 134
[ -z "${BELFRY_LAUNCH_COUNTS:-}" ] || echo "kernel_of_$suite 4" >"$BELFRY_LAUNCH_COUNTS"
for a; do case $a in --gtest_output=xml:*) cat >"${a#*xml:}" <<XML
<testsuites tests="2" failures="0" errors="0" time="0.5"><testsuite name="S">
<testcase name="A" classname="S" result="completed"><properties><property name="digest.ids" value="5"/></properties></testcase>
<testcase name="B" classname="S" result="completed"/></testsuite></testsuites>
XML
esac; done
SH
done
stub "$tree/bundle/bin/bench_cuda" <<'SH'
[ "$1" = --list ] && echo shuffle
[ "$1 $2" = "shuffle --json" ] && echo '{"results": [{"name": "copy", "of_copy": 0.9}]}' >"$3"
SH
stub "$tree/bundle/bin/belfry" <<<'echo "{}"'
printf '%040d\n' 7 >"$tree/bundle/commit"

verdict() { python3 - "$tree" "$1" <<'PY'
import json, sys
sys.path.insert(0, sys.argv[1] + "/tools")
import ledger_rules
run = json.load(open(f"{sys.argv[1]}/validation/runs/{sys.argv[2]}/run.json"))
assert not ledger_rules.faults_of_run(run), ledger_rules.faults_of_run(run)
assert [s["ran"] for s in run["suites"]] == [2, 2, 2], run["suites"]
names = [s["binary"] for s in run["suites"]]
assert names == ["gpu_conformance_test", "gpu_gather_test", "gpu_shuffle_test"], names
assert run["suites"][2]["digests"] == {"S.A ids": "5"}, run["suites"]
assert run["kernels"]["kernel_of_gpu_shuffle_test"]["launches"] == 4, run["kernels"]
assert run["device"]["name"] == "NVIDIA H200" and run["binaries"] == "carried", run
assert run["bench"] == {"shuffle_cuda": {"results": [{"name": "copy", "of_copy": 0.9}]}}, run["bench"]
print(run["result"], run["sanitizer"]["racecheck"])
PY
}

# A run in two parts: the time is up, and the second call goes on.
code=0; "$tree/tools/gpu_run.sh" --id 2026-01-01-h200-1 machine build >"$work/log" 2>&1 || code=$?
[ "$code" = 0 ] || fail "first part: exit code $code"
grep -q 'carried binaries' "$work/log" || fail "the carried binaries were not taken"
"$tree/tools/gpu_run.sh" --out "$work/out" >"$work/log" 2>&1 || fail "second part"
grep -q 'run 2026-01-01-h200-1' "$work/log" || fail "the unfinished run was not gone on with"
[ "$(verdict 2026-01-01-h200-1)" = "pass 0" ] || fail "a good run: $(verdict 2026-01-01-h200-1)"
grep -q run.json <<<"$(tar -tzf "$work/out/2026-01-01-h200-1.tar.gz")" || fail "no archive of the results"

# Races that the sanitizer finds make a failing run, which is recorded as one.
touch "$RACE"
code=0; "$tree/tools/gpu_run.sh" --id 2026-01-02-h200-1 >"$work/log" 2>&1 || code=$?
[ "$code" = 1 ] || fail "a run with races: exit code $code"
[ "$(verdict 2026-01-02-h200-1)" = "fail 6" ] || fail "a run with races: $(verdict 2026-01-02-h200-1)"

# A test that ends badly without a word counts as a failure; so does one that was skipped.
rm "$RACE"
touch "$CRASH"
code=0; "$tree/tools/gpu_run.sh" --id 2026-01-03-h200-1 >"$work/log" 2>&1 || code=$?
[ "$code" = 1 ] || fail "a crash: exit code $code"
grep -q '"failed": 1' "$tree/validation/runs/2026-01-03-h200-1/run.json" || fail "a crash is not recorded"

# A benchmark that --minutes cut off leaves nothing behind, and is done in the next call.
id=2026-01-04-h200-1 results=$tree/validation/runs/2026-01-04-h200-1
rm "$CRASH"
touch "$CUT"
code=0; "$tree/tools/gpu_run.sh" --id $id --minutes 1 >"$work/log" 2>&1 || code=$?
[ "$code" = 75 ] || fail "a cut: exit code $code"
[ ! -f "$results/bench/shuffle_cuda.exit" ] && [ ! -f "$results/bench.done" ] || fail "a cut counts as done"
rm "$CUT"
"$tree/tools/gpu_run.sh" >"$work/log" 2>&1 || fail "after a cut"
[ "$(verdict $id)" = "pass 0" ] || fail "after a cut: $(verdict $id)"

# What was found, and what was not looked for, make a run no pass.
again() { rm -f "$results/run.json"; python3 "$tree/tools/gpu_record.py" "$results" >"$work/log" || fail "record"; }
echo 77 >"$results/bench/shuffle_cuda.exit"; again
[ "$(verdict $id)" = "pass 0" ] || fail "a skipped benchmark: $(verdict $id)"
rm "$results"/sanitizer/racecheck.gpu_shuffle_test.exit; again
[ "$(verdict $id)" = "partial None" ] || fail "a tool that did not run: $(verdict $id)"
echo 1 >"$results/bench/shuffle_cuda.exit"; again
[ "$(verdict $id)" = "fail None" ] || fail "a failing benchmark: $(verdict $id)"
echo "gpu_run: as it should be"
