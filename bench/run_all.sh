#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_all.sh [FILTER] [BENCHMARK OPTIONS]: every benchmark that is built, as one table of ratios to what the
# same machine did in the same minute. FILTER is a regular expression over names. Fails if one fails.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
folder=${BELFRY_BENCH_DIR:-build/release/bench}
filter=${1:-.}
[ $# -gt 0 ] && shift

status=0
printf '%-24s %-46s %12s %12s %12s %10s\n' benchmark case 'CPU time' 'of FMA peak' 'of copy' 'x sgemm'
for binary in "$folder"/*_bench; do
  [ -x "$binary" ] || { echo "error: $folder: no benchmark is built" >&2; exit 1; }
  name=$(basename "$binary" _bench)
  log=$(mktemp)
  if ! "$binary" --benchmark_filter="$filter" "$@" >"$log" 2>&1; then
    # That nothing fits the filter is no failure of a benchmark.
    if ! grep -q 'Failed to match any benchmarks' "$log"; then
      tail -n 5 "$log" >&2
      echo "error: $name failed" >&2
      status=1
    fi
  fi
  # NAME TIME UNIT CPU UNIT ITERATIONS key=value ...
  awk -v op="$name" '
    function ratio(key) { return key in value ? sprintf("%.2f", value[key]) : "-" }
    $6 ~ /^[0-9]+$/ && $3 ~ /^(ns|us|ms|s)$/ {
      delete value
      for (i = 7; i <= NF; ++i) if (split($i, part, "=") == 2) value[part[1]] = part[2]
      printf "%-24s %-46s %12s %12s %12s %10s\n", op, $1, $4 " " $5, ratio("of_fma_peak"), ratio("of_copy"),
        ratio("time_of_sgemm")
    }' "$log"
  rm -f "$log"
done
exit $status
