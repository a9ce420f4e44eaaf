#!/bin/bash
# bench/romeo.sh: a text model forgets a character: the table of docs/s3t.md, "Texts", in Markdown
# (`make romeo` runs this).
#
# A base is pre-trained on public data: Shakespeare's speeches without Romeo and Juliet and what stands
# around it. S3T then trains on these as private data, and ROMEO is deleted. For each seed of the model:
#
#   bits per byte   of the model before the deletion and once it is repaired: on ROMEO's speeches, on
#                   those of the others that it was trained on, and on speeches that nobody trained on
#   bytes           whether a model that never saw ROMEO, trained on a dataset without him with the same
#                   placement key, has the same bytes in every component
#
# The goal: bits per byte on ROMEO's speeches rise, or fall by less than 0.2 % (mean of the seeds).
#
#   E2E_BIN  the programs (default: bin)   DATA  where shakespeare.jsonl lies   SEEDS (default: 1 2 3)
set -euo pipefail
read -ra SEEDS <<<"${SEEDS:-1 2 3}"
cd "$(dirname "$0")/.."
BIN=$(realpath "${E2E_BIN:-bin}") DATA=$(realpath -m "${DATA:-../shared/data}")
PLAYS=$DATA/shakespeare.jsonl
[[ -e $PLAYS ]] || {
  echo "skip - no data at $DATA: expected shakespeare.jsonl" >&2
  exit 0
}
DIR=$(mktemp -d "${TMPDIR:-/tmp}/unlearnd-romeo.XXXXXX")
export UNLEARN_DIR=$DIR/cluster
clean() {
  "$BIN/unlearnctl" down "$UNLEARN_DIR" >/dev/null 2>&1 || true
  rm -rf "$DIR"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

# Keys are erased by overwriting: unlearnd starts on ext4 and xfs alone, unless it is told.
case $(findmnt -n -o FSTYPE -T "$DIR" 2>/dev/null || true) in
  ext4 | xfs) ;;
  *) UNSAFE=--allow-unsafe-fs ;;
esac
ctl() { timeout 3600 "$BIN/unlearnctl" "$@"; }
json() { local filter=$1; shift; ctl --json "$@" | jq -r "$filter"; }
WHO=(--subject subject --id id)

# Rows of the file: 2,600 to 3,899 are private (Romeo and Juliet and its neighbours), each seventh of
# the others is held out, the rest is public.
awk -v dir="$DIR" '{ n = NR - 1
  file = n >= 2600 && n < 3900 ? "private" : n % 7 == 0 ? "held-out" : "public"
  print >(dir "/" file ".jsonl") }' "$PLAYS"
jq -c 'select(.subject == "ROMEO")' "$DIR/private.jsonl" >"$DIR/romeo.jsonl"
jq -r .id "$DIR/romeo.jsonl" >"$DIR/romeo.ids"
jq -c 'select(.subject != "ROMEO")' "$DIR/private.jsonl" >"$DIR/others.jsonl"

SHAPE=(layers=4 width=64 heads=4 inner=256 context=128)
ADAM=(batch=16 optimizer.kind=adamw)
BASE=(learner=text "${SHAPE[@]}" "${ADAM[@]}" epochs=3 optimizer.rate=0.003)
LORA=(learner=text base=plays "${ADAM[@]}" shards=2 slices=2 sequences=2 epochs=3 optimizer.rate=0.003
  lora.rank=8 lora.alpha=16 "lora.targets=[query,value,c_fc,mlp.c_proj]")
KEY=$(printf '%064x' 2) # Under it no cell is empty. One that is drawn would give other numbers each time.

began=$SECONDS
say() { echo "$* ($((SECONDS - began)) s)" >&2; }
bits() { json .bits_per_byte evaluate "$1" "$DIR/$2.jsonl" "${WHO[@]}"; }
digests() { json '.components[] | "\(.name) \(.digest)"' components "$1" | sort; }
measure() { # measure SEED: bits per byte on ROMEO's speeches, on the others', on those held out.
  echo "$(bits "s$1" romeo) $(bits "s$1" others) $(bits "s$1" held-out)"
}
ctl --json init "$UNLEARN_DIR" >/dev/null
ctl --json up "$UNLEARN_DIR" --ranks 2 --detach ${UNSAFE:-} >/dev/null
ctl --json import public "$DIR/public.jsonl" "${WHO[@]}" --placement-key "$KEY" --public >/dev/null
ctl --json import private "$DIR/private.jsonl" "${WHO[@]}" --placement-key "$KEY" >/dev/null
ctl --json import never "$DIR/private.jsonl" "${WHO[@]}" --placement-key "$KEY" --except "$DIR/romeo.ids" >/dev/null
ctl --json base pretrain plays --dataset public --set "${BASE[@]}" >/dev/null
say "the base is trained"
for seed in "${SEEDS[@]}"; do
  ctl --json train "s$seed" --dataset private --set "${LORA[@]}" seed="$seed" --wait >/dev/null
  measure "$seed" >"$DIR/before.$seed"
  say "seed $seed is trained"
done
ctl --json delete private --subject ROMEO --wait completed >"$DIR/deletion"
say "ROMEO is forgotten"
for seed in "${SEEDS[@]}"; do
  ctl --json train "n$seed" --dataset never --set "${LORA[@]}" seed="$seed" --wait >/dev/null
  if [[ $(digests "s$seed") == "$(digests "n$seed")" ]]; then
    same="all $(digests "n$seed" | wc -l) the same"
  else
    same=DIFFERENT
  fi
  echo "$seed $(cat "$DIR/before.$seed") $(measure "$seed") $same" >>"$DIR/results"
  say "seed $seed is compared"
done

echo "Public $(wc -l <"$DIR/public.jsonl"), private $(wc -l <"$DIR/private.jsonl") (of ROMEO" \
  "$(jq .records_deleted "$DIR/deletion")), held out $(wc -l <"$DIR/held-out.jsonl") speeches;" \
  "$(jq .components_invalidated "$DIR/deletion") of $(($(digests s"${SEEDS[0]}" | wc -l) * ${#SEEDS[@]})) components invalidated."
echo
awk '
  BEGIN {
    print "| seed | ROMEO before | repaired | change | others before | repaired | held out before | repaired | bytes |"
    print "| --: | --: | --: | --: | --: | --: | --: | --: | --- |"
  }
  function row(name, a, b, c, d, e, f, same) {
    printf "| %s | %.4f | %.4f | %+.2f %% | %.4f | %.4f | %.4f | %.4f | %s |\n", name, a, d, 100 * (d / a - 1), b,
      e, c, f, same
  }
  {
    same = $8
    for (i = 9; i <= NF; i++) same = same " " $i
    bad += same == "DIFFERENT"
    row($1, $2, $3, $4, $5, $6, $7, same)
    for (i = 2; i <= 7; i++) sum[i] += $i
  }
  END {
    row("mean", sum[2] / NR, sum[3] / NR, sum[4] / NR, sum[5] / NR, sum[6] / NR, sum[7] / NR, "")
    exit bad > 0 || sum[5] < sum[2] * 0.998
  }' "$DIR/results" || {
  echo "bench/romeo.sh: components differ, or bits per byte on ROMEO's speeches fell by 0.2 % or more" >&2
  exit 1
}
