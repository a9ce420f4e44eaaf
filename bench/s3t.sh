#!/bin/bash
# bench/s3t.sh: what S3T keeps when slices are lost and nothing is repaired, as tables in Markdown
# (docs/s3t.md explains them; `make s3t` runs this).
#
# MNIST: private records = rows 0 to 5,999, test = rows 6,000 to 7,999, a base pre-trained on the digits
# 0-4 of rows 8,000 to 9,999; 3 shards, 4 slices.
#
#   one training   all adapters of the base trained at once on all private records: shards 1, slices 1
#   B = 1, B = 4   S3T with one and with four sequences
#   lost           one slice of every shard is deleted and no rank is there to repair: the mean over all
#                  64 choices of the slices. A shard without a prefix is left out; choices that leave no
#                  shard are counted apart.
#   repaired       after one of these deletions, with ranks; all components verified
#
#   E2E_BIN  the programs (default: bin)   DATA  where mnist-*.gz lie
#   BASE, LORA  keys of the specs, in place of the ones below   CHOICES  fewer than all 64
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=$(realpath "${E2E_BIN:-bin}") DATA=$(realpath -m "${DATA:-../shared/data}")
[[ -e $DATA/mnist-images-idx3-ubyte.gz ]] || {
  echo "skip - no data at $DATA: expected mnist-images-idx3-ubyte.gz, mnist-labels-idx1-ubyte.gz" >&2
  exit 0
}
SHARDS=3 SLICES=4
read -ra BASE <<<"${BASE:-learner=vit patch=7 width=64 layers=4 heads=4 inner=128 epochs=30 batch=32 optimizer.kind=adamw optimizer.rate=0.001 seed=7}"
read -ra LORA <<<"${LORA:-learner=vit base=digits lora.rank=16 lora.alpha=4 lora.dropout=0.1 lora.targets=query,key,value,attention.output.dense,intermediate.dense,output.dense epochs=10 batch=32 optimizer.kind=adamw optimizer.rate=0.002 seed=7}"
DIR=$(mktemp -d "${TMPDIR:-/tmp}/unlearnd-s3t.XXXXXX")
CLUSTERS=()
clean() {
  local dir
  for dir in "${CLUSTERS[@]}"; do "$BIN/unlearnctl" down "$dir" >/dev/null 2>&1 || true; done
  rm -rf "$DIR"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

ctl() { timeout 900 "$BIN/unlearnctl" "$@"; }
json() { local filter=$1; shift; ctl --json "$@" | jq -r "$filter"; }
use() { # use NAME: the cluster in use from here on.
  export UNLEARN_DIR=$DIR/$1
  CLUSTERS+=("$UNLEARN_DIR")
}
up() { ctl --json up "$UNLEARN_DIR" --ranks "$1" --detach >/dev/null; }
down() { ctl --json down "$UNLEARN_DIR" >/dev/null; }
copy() { # copy FROM TO: a cluster that is down, with its files beside it.
  local part
  for part in "$DIR/$1" "$DIR/$1".*; do cp -a "$part" "$DIR/$2${part#"$DIR/$1"}"; done
}

IMAGES=("$DATA/mnist-images-idx3-ubyte.gz" "$DATA/mnist-labels-idx1-ubyte.gz")
TEST=("${IMAGES[@]}" --skip 6000 --limit 2000)

# ids DIR: the ids in an exported component's records.bin (docs/format.md, "Exports"): a head of 21 bytes,
# then records of u128 sid, u128 rid, u32 length and row, u16 length and id, u16 length and subject.
ids() {
  od -An -v -tu1 -w1 "$1/records.bin" | awk '
    BEGIN { skip = 21; want = "row"; id = "" }
    skip > 0 { skip--; next }
    want == "row" && n < 32 { n++; next }
    want == "row" { len += $1 * 256 ^ (n++ - 32); if (n == 36) { skip = len; n = len = 0; want = "id" }; next }
    want == "id" && n < 2 { len += $1 * 256 ^ n++; next }
    want == "id" { id = id sprintf("%c", $1); if (++n == len + 2) { print id; id = ""; n = len = 0; want = "subject" }; next }
    want == "subject" { len += $1 * 256 ^ n++; if (n == 2) { skip = len; n = len = 0; want = "row" } }'
}

accuracy() { # accuracy MODEL: and how many shards answered; "none 0" where none is left.
  local answer
  answer=$(json '"\(.accuracy) \(.shards_used)"' evaluate "$1" "${TEST[@]}" 2>/dev/null) || answer="none 0"
  echo "$answer"
}

# --- Train ---

zcat "${IMAGES[1]}" | tail -c +9 | od -An -v -tu1 -w1 | awk '$1 > 4 { print NR - 1 }' >"$DIR/above-4"
use whole
ctl --json init "$UNLEARN_DIR" >/dev/null
up 2
ctl --json import public "${IMAGES[@]}" --skip 8000 --except "$DIR/above-4" --public --placement-key "$(printf '%064x' 4)" >/dev/null
ctl --json base pretrain digits --dataset public --set "${BASE[@]}" >/dev/null
ctl --json import private "${IMAGES[@]}" --limit 6000 --placement-key "$(printf '%064x' 3)" >/dev/null
train() { # train NAME KEYS...: one row of figures.
  local name=$1
  shift
  json '"\(.components_trained) \(.samples_trained) \(.seconds)"' train "$name" --dataset private \
    --set "${LORA[@]}" "$@" --wait
}
one=$(train one shards=1 slices=1)
b1=$(train b1 shards=$SHARDS slices=$SLICES sequences=1)
b4=$(train b4 shards=$SHARDS slices=$SLICES sequences=4)
one_accuracy=$(accuracy one) b1_accuracy=$(accuracy b1) b4_accuracy=$(accuracy b4)
echo "trained: one $one, $one_accuracy; B = 1 $b1, $b1_accuracy; B = 4 $b4, $b4_accuracy" >&2
for ((shard = 0; shard < SHARDS; shard++)); do
  for ((slice = 0; slice < SLICES; slice++)); do
    ctl --json export b4 --component "s$shard:[$slice]" -o "$DIR/cell" --with-ids >/dev/null
    ids "$DIR/cell" >"$DIR/cell-$shard-$slice"
    rm -rf "$DIR/cell"
  done
done
down

# --- Lose one slice of every shard, nothing repaired ---

lose() { # lose CHOICE: "slice slice slice"; deletes these cells of the cluster in use.
  local -a slice
  local shard
  read -ra slice <<<"$1"
  for ((shard = 0; shard < SHARDS; shard++)); do
    cat "$DIR/cell-$shard-${slice[shard]}"
  done >"$DIR/gone"
  ctl --json delete private --from-csv "$DIR/gone" >/dev/null
}
choices() {
  local a b c
  for a in 0 1 2 3; do for b in 0 1 2 3; do for c in 0 1 2 3; do echo "$a $b $c"; done; done; done
}
choices | head -n "${CHOICES:-64}" >"$DIR/choices"
while read -r choice; do
  copy whole lost
  use lost
  up 0
  lose "$choice"
  echo "$choice $(accuracy b1) $(accuracy b4)" >>"$DIR/losses"
  down
  rm -rf "$DIR"/lost "$DIR"/lost.*
done <"$DIR/choices"

# --- Repair ---

copy whole repaired
use repaired
up 2
lose "1 2 0"
until [[ $(json .requests_open status) == 0 ]]; do sleep 0.2; done
repaired1=$(accuracy b1) repaired4=$(accuracy b4) repaired_one=$(accuracy one)
same=$(json '"\(.identical) of \(.components) verified"' verify b4 --components all)
down

# --- The table ---

echo "Made by bench/s3t.sh on $(date -u +%F): $(nproc) cores of $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), 2 ranks."
echo "Base: ${BASE[*]}. Adapters: ${LORA[*]}."
echo
awk -v one="$one_accuracy $one" -v b1="$b1_accuracy $b1" -v b4="$b4_accuracy $b4" -v r="$repaired_one" \
  -v r1="$repaired1" -v r4="$repaired4" -v same="$same" '
  function row(name, whole, lost, worst, none, fixed, cost, a) {
    split(whole, a, " ")
    printf "| %s | %.4f | %s | %s | %s | %.4f | %d | %d | %.0f |\n", name, a[1], lost, worst, none, fixed, a[3], a[4], a[5]
  }
  { if ($4 == "none") none1++; else { sum1 += $4; n1++; if (n1 == 1 || $4 < worst1) worst1 = $4 }
    if ($6 == "none") none4++; else { sum4 += $6; n4++; if (n4 == 1 || $6 < worst4) worst4 = $6 } }
  END {
    print "| model | test accuracy | one slice of each shard lost, mean | worst | no shard left | repaired | components | samples | seconds |"
    print "| --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    row("one training", one, "-", "-", "-", r)
    row("S3T, B = 1", b1, sprintf("%.4f", sum1 / n1), sprintf("%.4f", worst1), none1 + 0 " of " NR, r1)
    row("S3T, B = 4", b4, sprintf("%.4f", sum4 / n4), sprintf("%.4f", worst4), none4 + 0 " of " NR, r4)
    printf "\nAfter the repair: %s.\n", same
  }' "$DIR/losses"
echo
echo "Took $SECONDS s."
