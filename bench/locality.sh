#!/bin/bash
# bench/locality.sh: what workers fetch, and how long a training takes, with and without the memory that they
# keep cells and parents in, as a table in Markdown (docs/performance.md; `make bench-locality` runs this).
#
# The built-in digits of WRITERS writers, 2 ranks, models of many stages; each is trained RUNS times with the
# cache on and off in turns, then a writer is deleted. Bytes count both trainings. Ends with 1 where the two
# give other bits.
#
#   E2E_BIN  the programs (default: bin)   WRITERS (800)   RUNS (5)
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=$(realpath "${E2E_BIN:-bin}")
DIR=$(mktemp -d "${TMPDIR:-/tmp}/unlearnd-locality.XXXXXX")
export UNLEARN_DIR=$DIR/cluster
clean() {
  "$BIN/unlearnctl" down "$UNLEARN_DIR" >/dev/null 2>&1 || true
  rm -rf "$DIR"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

ctl() { timeout 300 "$BIN/unlearnctl" "$@"; }
json() { local filter=$1; shift; ctl --json "$@" | jq -r "$filter"; }
middle() { sort -n <<<"$1" | sed '/^$/d' | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

ctl --json sample "$DIR/digits" --writers "${WRITERS:-800}" >/dev/null
train() { # train CACHE KEY=VALUE...: sets SECONDS_ PULLED FOUND DIGESTS
  local cache=$1
  shift
  rm -rf "$UNLEARN_DIR"*
  ctl --json init "$UNLEARN_DIR" >/dev/null
  ctl --json up "$UNLEARN_DIR" --ranks 2 --cache "$cache" --detach --allow-unsafe-fs >/dev/null 2>&1
  ctl --json import digits "$DIR/digits/train-images-idx3-ubyte" "$DIR/digits/train-labels-idx1-ubyte" \
    --subjects "$DIR/digits/train-subjects.txt" --placement-key "$(printf '%064x' 7)" >/dev/null
  SECONDS_=$(json .seconds train m --dataset digits --set "$@" --wait)
  ctl --json delete digits --subject writer-003 --wait completed >/dev/null
  PULLED=$(json '[.workers[].pulled_bytes] | add' status) FOUND=$(json '[.workers[].found_bytes] | add' status)
  DIGESTS=$(json '.components[] | "\(.name) \(.digest)"' components m | sort | sha256sum)
  ctl --json down "$UNLEARN_DIR" >/dev/null
}

echo "| model | cache | fetched | found | training |"
echo "|---|---|---|---|---|"
for spec in "learner=softmax shards=4 slices=8 epochs=1 batch=64" "hidden=64 shards=4 slices=8 epochs=5 batch=32" \
  "hidden=64 shards=1 slices=16 epochs=5 batch=32"; do
  read -ra keys <<<"$spec"
  declare -A seconds=([0]='' [256]='') pulled=([0]='' [256]='') found=([0]='' [256]='')
  first=''
  for ((run = 0; run < ${RUNS:-5}; run++)); do
    for cache in 0 256; do
      train "$cache" "${keys[@]}"
      seconds[$cache]+=$SECONDS_$'\n' pulled[$cache]+=$PULLED$'\n' found[$cache]+=$FOUND$'\n'
      first=${first:-$DIGESTS}
      [[ $DIGESTS == "$first" ]] || { echo "other bits: $spec, cache $cache" >&2; exit 1; }
    done
  done
  for cache in 0 256; do
    times=$(sed '/^$/d' <<<"${seconds[$cache]}" | sort -n)
    echo "| $spec | $cache MiB | $(($(middle "${pulled[$cache]}") / 1000000)) MB |" \
      "$(($(middle "${found[$cache]}") / 1000000)) MB |" \
      "$(middle "$times") s ($(head -1 <<<"$times")-$(tail -1 <<<"$times")) |"
  done
done
