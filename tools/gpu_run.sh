#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `./run gpu` does on a machine with a GPU: steps that write what they find as they go into validation/runs/ID. A
# call ends after about 9 minutes with exit code 75; called again it goes on where it was cut off.
#
# Usage: gpu_run.sh [--minutes N] [--id ID] [--out FOLDER] [STEP...]
#   --minutes N   ends with exit code 75 when N minutes are up (default: 9; 0: never); call again to go on
#   --id ID       the run to go on with (default: the newest that is not finished, else a new one)
#   --out FOLDER  also puts all results there as one archive
# Steps, in this order: machine build tests sanitize bench peers train record
# Exit: 0 all well, 1 something failed (it is recorded), 3 no GPU, 75 not finished.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD started=$SECONDS minutes=9 id="" out="" steps=()
while [ $# -gt 0 ]; do
  case $1 in
    --minutes) minutes=$2; shift 2 ;;
    --id) id=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    machine | build | tests | sanitize | bench | peers | train | record) steps+=("$1"); shift ;;
    *) echo "error: unknown step \"$1\"; see tools/gpu_run.sh" >&2; exit 2 ;;
  esac
done
[ ${#steps[@]} -gt 0 ] || steps=(machine build tests sanitize bench peers train record)

say() { echo "gpu: $*"; }
# Seconds that a piece of work may take: its own limit, or what is left of --minutes.
left() {
  local rest=$((minutes * 60 - (SECONDS - started)))
  if [ "$minutes" -gt 0 ] && [ "$rest" -lt "$1" ]; then echo "$rest"; else echo "$1"; fi
}
# limited SECONDS LOG COMMAND...: its exit code; 124 where it was ended. Of a log the last part is kept.
limited() {
  local seconds=$1 log=$2 code begun=$SECONDS
  shift 2
  [ "$seconds" -gt 0 ] || return 124
  timeout -k 10 "$seconds" "$@" >"$log.full" 2>&1
  code=$?
  tail -c 60000 "$log.full" | tr -d '\000' >"$log"
  rm -f "$log.full"
  [ "$code" = 137 ] && [ $((SECONDS - begun)) -ge "$seconds" ] && code=124  # deaf to the first signal
  return $code
}
# once FILE SECONDS LOG COMMAND...: limited, and its exit code, which FILE keeps: done already where that is
# there. 75, and no FILE, where --minutes and not its own limit cut it off: then it is done anew in the next call,
# as one of the first. What nearly a whole call was too short for is not tried again.
once() {
  local kept=$1 limit=$2 given code
  shift 2
  if [ ! -f "$kept" ]; then
    [ "$minutes" -gt 0 ] && [ "$limit" -gt $((minutes * 54)) ] && limit=$((minutes * 54))
    given=$(left "$limit")
    [ "$given" -ge 20 ] || return 75
    limited "$given" "$@"
    code=$?
    [ "$code" = 124 ] && [ "$given" -lt "$limit" ] && return 75
    [ "$code" = 75 ] && code=1  # a command's own
    echo "$code" >"$kept"
  fi
  return "$(cat "$kept")"
}

if ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  echo "error: no usable GPU: nvidia-smi finds none; what needs no GPU runs with ./run test" >&2
  exit 3
fi
newest_unfinished() {
  local folder found=""
  for folder in validation/runs/*/; do
    [ -d "$folder" ] && [ ! -f "$folder/run.json" ] && found=$(basename "$folder")
  done
  echo "$found"
}
new_id() {
  local device number=1
  device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1 | tr '[:upper:]' '[:lower:]' |
    grep -oE '[a-z]+[0-9]+[a-z]*' | head -1)
  # Numbers go up over all devices of a day: the ledger's ids are in order.
  while compgen -G "validation/runs/$(date -u +%F)-*-$number" >/dev/null; do number=$((number + 1)); done
  echo "$(date -u +%F)-${device:-gpu}-$number"
}
[ -n "$id" ] || id=$(newest_unfinished)
[ -n "$id" ] || id=$(new_id)
results=$root/validation/runs/$id
bin=$root/build/gpu/bin
mkdir -p "$results"
export PATH=$PATH:/usr/local/cuda/bin
runner=(env)
[ -x bundle/with_libs ] && runner=("$root/bundle/with_libs")
say "run $id"

# shellcheck source=tools/gpu_steps.sh
source tools/gpu_steps.sh
status=0
for step in "${steps[@]}"; do
  [ -f "$results/$step.done" ] && continue
  [ "$(left 600)" -ge 30 ] || { status=75; break; }
  say "$step"
  begun=$SECONDS
  "step_$step"
  code=$?
  [ "$code" = 75 ] && { status=75; break; }
  echo "exit $code, $((SECONDS - begun)) seconds" >"$results/$step.done"
  [ "$code" = 0 ] || status=1
  [ "$step" = build ] && [ "$code" != 0 ] && break
done
if [ -n "$out" ]; then
  mkdir -p "$out"
  tar -cz -C "$root/validation/runs" -f "$out/$id.tar.gz" "$id"
fi
[ "$status" = 75 ] && say "not finished; the same command goes on"
exit $status
