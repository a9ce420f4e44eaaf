#!/bin/bash
# bench/exactness.sh: what forgetting looks like from outside, as a table in Markdown
# (docs/exactness.md explains it; `make exactness` runs this).
#
# For each dataset and each deletion (1 % of the records at random; one whole class):
#
#   before        the sharded model, trained on everything
#   repaired      the same after the deletion was repaired
#   never seen    the same spec on a second cluster that imported everything else, same placement key
#   one piece     shards 1, slices 1: trained on everything
#   one, anew     the same after the deletion: all of it trained again from nothing
#
# forget, retain: accuracy on the deleted and on the other training records. test, ece: accuracy and
# expected calibration error on records that nobody trained on. attack: how well a loss threshold tells
# deleted records from held-out ones (area under the ROC curve; 0.5 = not at all): the share of pairs in
# which the deleted record has the smaller loss, ties half. For a class: held-out ones of that class.
#
#   E2E_BIN  the programs (default: bin)   DATA  where mnist-*.gz and adult-*.csv lie
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=$(realpath "${E2E_BIN:-bin}") DATA=$(realpath -m "${DATA:-../shared/data}")
[[ -e $DATA/adult-train.csv && -e $DATA/mnist-images-idx3-ubyte.gz ]] || {
  echo "skip - no data at $DATA: expected mnist-images-idx3-ubyte.gz, adult-train.csv, ..." >&2
  exit 0
}
DIR=$(mktemp -d "${TMPDIR:-/tmp}/unlearnd-exactness.XXXXXX")
CLUSTERS=()
clean() {
  local dir
  for dir in "${CLUSTERS[@]}"; do "$BIN/unlearnctl" down "$dir" >/dev/null 2>&1 || true; done
  rm -rf "$DIR"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

# Keys are erased by overwriting: unlearnd starts on ext4 and xfs alone, unless it is told.
case $(findmnt -n -o FSTYPE -T "$DIR" 2>/dev/null || true) in
  ext4 | xfs) ;;
  *) UNSAFE=--allow-unsafe-fs ;;
esac
ctl() { timeout 170 "$BIN/unlearnctl" "$@"; }
json() { local filter=$1; shift; ctl --json "$@" | jq -r "$filter"; }
start() { # start NAME: a new cluster, then in use.
  export UNLEARN_DIR=$DIR/$1
  CLUSTERS+=("$UNLEARN_DIR")
  ctl --json init "$UNLEARN_DIR" >/dev/null
  ctl --json up "$UNLEARN_DIR" --ranks 2 --detach ${UNSAFE:-} >/dev/null
}
stop() { ctl --json down "$UNLEARN_DIR" >/dev/null; }
# without LIST COUNT: the numbers 0 .. COUNT-1 that are not in LIST.
without() { awk -v count="$2" '{ gone[$1] } END { for (i = 0; i < count; i++) if (!(i in gone)) print i }' "$1"; }
auc() { # auc DELETED HELD_OUT: share of pairs with the smaller loss on the left.
  { sed 's/$/ d/' "$1"; sed 's/$/ h/' "$2"; } | sort -g | awk '
    { loss[NR] = $1; kind[NR] = $2; if ($2 == "d") d++; else h++ }
    END {
      for (i = 1; i <= NR; i = j) {
        a = b = 0
        for (j = i; j <= NR && loss[j] == loss[i]; j++) if (kind[j] == "d") a++; else b++
        sum += a * (h - seen_h - b) + a * b / 2
        seen_h += b
      }
      printf "%.3f", sum / (d * h)
    }'
}

# measure NAME MODEL SAMPLES SAME: a row of the table. Uses the case's variables.
measure() {
  local forget retain test bytes attack name=$1 model=$2
  forget=$(json .accuracy evaluate "$model" "${TRAIN[@]}" --except "$CASE/not-deleted" --losses "$CASE/loss-d")
  retain=$(json .accuracy evaluate "$model" "${TRAIN[@]}" --except "$CASE/not-kept")
  test=$(json '"\(.accuracy) \(.ece)"' evaluate "$model" "${TEST[@]}" --except "$CASE/not-test")
  json .accuracy evaluate "$model" "${TEST[@]}" --except "$CASE/not-attack" --losses "$CASE/loss-h" >/dev/null
  attack=$(auc "$CASE/loss-d" "$CASE/loss-h")
  bytes=$(json '[.components[] | select(.state == "valid") | .name] | "\(length) \(.[0])"' components "$model")
  rm -rf "$CASE/spec"
  ctl --json export "$model" --component "${bytes#* }" -o "$CASE/spec" --without-records >/dev/null
  bytes=$((${bytes%% *} * 4 * $(jq .param_count "$CASE/spec/export.json")))
  awk -v name="$name" -v forget="$forget" -v retain="$retain" -v test="$test" -v attack="$attack" \
    -v bytes="$bytes" -v samples="$3" -v same="$4" 'BEGIN {
      split(test, t, " ")
      printf "| %s | %.3f | %.3f | %.3f | %.3f | %s | %.0f | %s | %s |\n", name, forget, retain, t[1], t[2],
        attack, bytes / 1024, samples, same
    }'
}

# one_case DATASET WHAT ROWS: with lists of row numbers in $CASE: gone (deleted), held (of the files in
# TRAIN, but not trained on), not-test and not-attack (of those in TEST, but not held out; nor of the
# deleted class).
one_case() {
  local dataset=$1 what=$2 key plan digests never same samples alone d
  without "$CASE/gone" "$3" >"$CASE/not-deleted"
  sort -nu "$CASE/gone" "$CASE/held" >"$CASE/not-kept"
  mapfile -t gone <"$CASE/gone"
  start "$dataset-${what%% *}"
  # Two datasets with the same records: what a deletion costs is told for all models of one.
  ctl --json import s "${TRAIN[@]}" --except "$CASE/held" >/dev/null
  key=$(json .placement_key dataset show s)
  ctl schema s >"$CASE/schema"
  ctl --json import m "${TRAIN[@]}" --except "$CASE/held" --schema "$CASE/schema" --placement-key "$key" >/dev/null
  samples=$(json .samples_trained train s --dataset s --set "${SPEC[@]}" "${SHARDED[@]}" --wait)
  alone=$(json .samples_trained train m --dataset m --set "${SPEC[@]}" shards=1 slices=1 --wait)
  echo
  echo "**$dataset, $what deleted** (${#gone[@]} of $(json .records dataset show s) training records; training from nothing is $samples samples sharded, $alone in one piece)"
  echo
  echo "| model | forget | retain | test | ece | attack | weights, KiB | samples retrained | bytes |"
  echo "| --- | --: | --: | --: | --: | --: | --: | --: | --- |"
  measure before s 0 ""
  measure "one piece" m 0 "" >"$CASE/row"
  plan=$(json .samples_to_retrain plan s --record "$((${gone[0]}))")
  for d in s m; do
    ctl --json delete "$d" --record "${gone[@]}" --wait fenced >/dev/null
  done
  until [[ $(json .requests_open status) == 0 ]]; do sleep 0.1; done
  samples=$(($(json .run_samples model show s) - samples))
  alone=$(($(json .run_samples model show m) - alone))
  digests=$(json '.components[] | "\(.name) \(.digest)"' components s | sort)
  measure repaired s "$samples" "" >"$CASE/repaired"
  measure "one, anew" m "$alone" "" >>"$CASE/row"
  stop
  start "$dataset-${what%% *}-never"
  ctl --json import s "${TRAIN[@]}" --schema "$CASE/schema" --placement-key "$key" \
    --except "$CASE/not-kept" >/dev/null
  ctl --json train s --dataset s --set "${SPEC[@]}" "${SHARDED[@]}" --wait >/dev/null
  never=$(json '.components[] | "\(.name) \(.digest)"' components s | sort)
  [[ $digests == "$never" ]] && same="all $(wc -l <<<"$never") the same" || same="DIFFERENT"
  sed "s/|  |$/| $same |/" "$CASE/repaired"
  measure "never seen" s "-" "$same"
  stop
  cat "$CASE/row"
  echo
  echo "One record alone: $plan samples."
  [[ $same != DIFFERENT ]]
}

random_rows() { # random_rows COUNT OF: a fixed draw.
  awk -v want="$1" -v of="$2" 'BEGIN {
    x = 12345
    while (n < want) { x = (x * 1103515245 + 12345) % 2147483648; i = int(x / 2147483648 * of); if (!(i in got)) { got[i]; n++; print i } }
  }' | sort -n
}

echo "Made by bench/exactness.sh on $(date -u +%F): $(nproc) cores of $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), 2 ranks."

# --- MNIST: 10,000 digits; every fifth is held out (the second half of the file is the easier one) ---

TRAIN=("$DATA/mnist-images-idx3-ubyte.gz" "$DATA/mnist-labels-idx1-ubyte.gz") TEST=("${TRAIN[@]}")
SPEC=(hidden=64 epochs=20 batch=16 optimizer.rate=0.02) SHARDED=(shards=4 slices=3)
zcat "$DATA/mnist-labels-idx1-ubyte.gz" | tail -c +9 | od -An -v -tu1 -w1 | awk '{print $1}' >"$DIR/labels"
for CASE in "$DIR/a" "$DIR/b"; do
  mkdir "$CASE"
  seq 0 9999 | awk '$1 % 5 == 4' >"$CASE/held"
  seq 0 9999 | awk '$1 % 5 != 4' >"$CASE/not-test"
done
CASE=$DIR/a
random_rows 100 10000 | awk '$1 % 5 != 4' >"$CASE/gone"
cp "$CASE/not-test" "$CASE/not-attack"
one_case MNIST "1 %" 10000
CASE=$DIR/b
awk '(NR - 1) % 5 != 4 && $1 == 3 { print NR - 1 }' "$DIR/labels" >"$CASE/gone"
awk '(NR - 1) % 5 != 4 || $1 != 3 { print NR - 1 }' "$DIR/labels" >"$CASE/not-attack"
one_case MNIST "the class 3" 10000

# --- Adult: the census; the class is ">50K" ---

TRAIN=("$DATA/adult-train.csv" --label income) TEST=("$DATA/adult-test.csv" --label income)
SPEC=(hidden=64 epochs=20 batch=16 optimizer.rate=0.02) SHARDED=(shards=4 slices=3)
for CASE in "$DIR/c" "$DIR/d"; do
  mkdir "$CASE"
  echo none | tee "$CASE/held" "$CASE/not-test" >"$CASE/not-attack"
done
CASE=$DIR/c
random_rows 325 32561 >"$CASE/gone"
one_case Adult "1 %" 32561
CASE=$DIR/d
awk -F, 'NR > 1 && $NF == ">50K" { print NR - 2 }' "$DATA/adult-train.csv" >"$CASE/gone"
awk -F, 'NR > 1 && $NF != ">50K" { print NR - 2 }' "$DATA/adult-test.csv" >"$CASE/not-attack"
one_case Adult "the class >50K" 32561
echo
echo "Took $SECONDS s."
