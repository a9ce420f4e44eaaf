#!/bin/bash
# tests/e2e/test_exact.sh: a deletion leaves exactly what training without the records gives.
#
# For three trainings: delete; find from what changed in `components` in which cells the records
# were; the lineage rule then says which components must be invalid, and no other may change. A
# second cluster that never saw the records must end with the same digests.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

# cells BEFORE AFTER: "shard slice" of each cell that lost records. A cell explains a shard when the
# components that lost records are those whose list contains its slice: exactly the lineage rule.
lost_cells() {
  jq -rcn --rawfile before <(echo "$1") --rawfile after <(echo "$2") '
    def rows($text): [$text | rtrimstr("\n") / "\n" | .[] | . / " " |
      {name: .[0], shard: (.[0] | capture("s(?<s>[0-9]+):").s | tonumber),
       list: (.[0] | sub("^s[0-9]+:"; "") | fromjson), state: .[1], records: (.[2] | tonumber),
       digest: .[3]}];
    rows($before) as $b | (rows($after) | INDEX(.name)) as $a |
    ($b | group_by(.shard))[] | . as $shard |
    [$shard[] | select(.records != $a[.name].records) | .name] as $lost |
    select($lost | length > 0) |
    [$shard[].list[]] | unique |
    map(. as $r | select([$shard[] | select(.list | contains([$r])) | .name] == $lost)) |
    "\($shard[0].shard) \(map(tostring) | join(","))"'
}

# by_rule BEFORE CELLS: names of the components that the rule invalidates.
by_rule() {
  local shard slices
  while read -r shard slices; do
    [[ -z $shard ]] || awk -v head="s$shard:" -v slice="$slices" '
      $2 == "valid" && index($1, head) == 1 {
        list = $1; sub(/^s[0-9]+:\[/, "", list); sub(/\]$/, "", list)
        count = split(list, at, ",")
        for (i = 1; i <= count; i++) if (at[i] == slice) { print $1; next }
      }' <<<"$1"
  done <<<"$2" | sort
}

# exact_deletion MODEL DATASET OPTION ID...: all that one cluster can say about a deletion.
exact_deletion() {
  local model=$1 dataset=$2 before after plan answer cells rule changed
  shift 2
  before=$(digests "$model")
  plan=$(json '[.records, .components_invalidated]' plan "$dataset" "$@")
  expect_equal "plan changes nothing" "$(digests "$model")" "$before"
  answer=$(json '[.state, .records_deleted, .components_invalidated]' delete "$dataset" "$@" \
    --wait completed)
  after=$(digests "$model")
  cells=$(lost_cells "$before" "$after")
  if [[ ! $cells =~ ^([0-9]+\ [0-9]+$'\n'?)+$ ]]; then
    not_ok "each shard that lost records lost them in one slice" "$cells" "one slice a shard"
    return
  fi
  rule=$(by_rule "$before" "$cells")
  changed=$(comm -23 <(echo "$before") <(echo "$after") | cut -d' ' -f1)
  expect_equal "of $(wc -l <<<"$before") components, those that the lineage rule names changed, no other" \
    "$changed" "$rule"
  expect_equal "delete told the rule's number of components and all records" "$answer" \
    "[\"completed\",$(jq '.[0]' <<<"$plan"),$(wc -l <<<"$rule")]"
  expect_equal "plan had told the same" "$(jq '.[1]' <<<"$plan")" "$(wc -l <<<"$rule")"
  verified "$model"
}

# never_seen WHAT MODEL DATASET EXCEPT IMPORT...: the second cluster. SPEC is the training's.
never_seen() {
  local what=$1 model=$2 dataset=$3 except=$4 found
  shift 4
  found=$(digests "$model")
  as_if_never "$dataset-never" "$dataset" "$except" 1 "$@"
  ctl --json train "$model" --dataset "$dataset" --set "${SPEC[@]}" --wait >/dev/null
  same_everywhere "$what: a cluster that never saw the records has the same digests" "$found" \
    "$(digests "$model")"
  down
}

# --- One sequence, a subject and then some records of another ---

sample data 24
start digits
ctl --json import digits "${TRAIN[@]}" >/dev/null
SPEC=(hidden=24 shards=3 slices=3 epochs=4)
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
verified m
exact_deletion m digits --subject writer-005
mapfile -t ids < <(ids_of writer-011 | head -7)
exact_deletion m digits --record "${ids[@]}"
{ ids_of writer-005; printf '%s\n' "${ids[@]}"; } >"$E2E_DIR/except"
never_seen "subject and records" m digits "$E2E_DIR/except" "${TRAIN[@]}"
use digits
down

# --- Three sequences, and everything else of a spec that decides bits ---

SPEC=(hidden=16,8 activation=gelu dropout=0.2 optimizer.kind=adamw optimizer.rate=0.003 batch=13
  gradient_chunks=2 shards=2 slices=3 sequences=3 epochs=3 seed=99 aggregate=mean_logit)
start gelu
ctl --json import gelu "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset gelu --set "${SPEC[@]}" --wait >/dev/null
exact_deletion m gelu --subject writer-002
ids_of writer-002 >"$E2E_DIR/except"
never_seen "sequences, dropout, gelu, adamw, gradient chunks" m gelu "$E2E_DIR/except" "${TRAIN[@]}"
use gelu
down

# --- Standardised columns, missing values, categories, a number to predict, ids without a subject ---

people "$E2E_DIR/people.csv" 400
cut -d, -f2- "$E2E_DIR/people.csv" >"$E2E_DIR/nobody.csv"
SPEC=(hidden=12 activation=tanh shards=2 slices=2 sequences=2 epochs=6 optimizer.rate=0.01)
start wages
import=("$E2E_DIR/people.csv" --label wage --subject who)
ctl --json import wages "${import[@]}" >/dev/null
schema=$(json '[.label.type, [.columns[] | select(.type == "numeric" and .standardise) | .name]]' schema wages)
expect_equal "numeric columns are standardised and the label is a number" "$schema" \
  '["number",["age","hours"]]'
ctl --json train m --dataset wages --set "${SPEC[@]}" --wait >/dev/null
exact_deletion m wages --subject p07
awk -F, '$1 == "p07" { print NR - 2 }' "$E2E_DIR/people.csv" >"$E2E_DIR/except"
never_seen "regression on a CSV with missing values" m wages "$E2E_DIR/except" "${import[@]}"
use wages

# Without subjects each record is placed by its own id: several records, several cells, one request.
import=("$E2E_DIR/nobody.csv" --label wage)
ctl --json import alone "${import[@]}" >/dev/null
ctl --json train a --dataset alone --set "${SPEC[@]}" --wait >/dev/null
before=$(digests a)
exact_deletion a alone --record 17
expect_equal "a model of another dataset is untouched" \
  "$(json '.components_valid' status m)" "$(json '.components' status m)"
printf '%s\n' 3 44 101 250 399 >"$E2E_DIR/except"
ctl --json delete alone --from-csv "$E2E_DIR/except" --wait completed >/dev/null
echo 17 >>"$E2E_DIR/except"
never_seen "six records of many cells" a alone "$E2E_DIR/except" "${import[@]}"
use wages

# --- Where no placement key is given, each dataset draws one of its own ---

for name in first second; do
  PLACEMENT_KEY='' ctl --json import "$name" "${import[@]}" >/dev/null
done
keys=$({ json .placement_key dataset show first; json .placement_key dataset show second; } | sort -u)
expect_equal "two datasets, two keys, neither of them one that was given" \
  "$(grep -cE '^[0-9a-f]{64}$' <<<"$keys") $(grep -c "$PLACEMENT_KEY" <<<"$keys" || true)" "2 0"
ctl --json train f --dataset first --set "${SPEC[@]}" --wait >/dev/null
exact_deletion f first --record 5
down
finish
