#!/bin/bash
# tests/e2e/test_generations.sh: new data train the new stages and nothing else, and deletions reach old and
# new slices alike.
#
# Three imports, a training after each. What is trained is counted from `components`: an appended stage
# makes e_L passes over the records of its list. After deletions in old and new slices, one of them while
# the appended stages are being trained, a cluster that never saw the records must have the same digests.
E2E_SECONDS=280
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 24
rows=$(wc -l <"$SUBJECTS")
third=$((rows / 3))

# new_samples BEFORE PASSES: what the components that BEFORE does not list have cost, each trained once.
new_samples() {
  comm -13 <(cut -d' ' -f1 <<<"$1") <(digests m | cut -d' ' -f1) |
    awk -v passes="$2" 'NR == FNR { new[$1] = 1; next } $1 in new { sum += $3 * passes } END { print sum + 0 }' - <(digests m)
}
# extended WHAT BEFORE PASSES: trains, and holds it against the count.
extended() {
  local answer
  answer=$(json '[.components_trained, .samples_trained, .state]' train m --wait)
  expect_equal "$1: the new stages are trained, each once, and no sample more" "$answer" \
    "[$(comm -13 <(cut -d' ' -f1 <<<"$2") <(digests m | cut -d' ' -f1) | wc -l),$(new_samples "$2" "$3"),\"trained\"]"
  same_everywhere "$1: no component that was there has changed" \
    "$(grep -Ff <(cut -d' ' -f1 <<<"$2" | sed 's/$/ /') < <(digests m))" "$2"
}
part() { # part G: arguments that import the rows of generation G.
  case $1 in
    0) PART=("${TRAIN[@]}" --limit $third) ;;
    1) PART=("${TRAIN[@]}" --skip $third --limit $third) ;;
    2) PART=("${TRAIN[@]}" --skip $((2 * third))) ;;
  esac
}
add() { part "$1" && ctl --json import digits "${PART[@]}" >/dev/null; }
under_way() { [[ $(json .components_training status m) -ge 1 ]]; }
requests_done() { [[ $(json .requests_open status) == 0 ]]; }
never() { # never WHAT LAST SETTING..., LAST the last generation: the cluster that never saw the ids in $E2E_DIR/except.
  local what=$1 last=$2 found g key
  shift 2
  found=$(digests m)
  ctl schema digits >"$E2E_DIR/schema"
  key=$(json .placement_key dataset show digits)
  down
  start "$what-never" 1
  prepare
  for ((g = 0; g <= last; g++)); do
    part $g
    ctl --json import digits "${PART[@]}" --generation $g --schema "$E2E_DIR/schema" --placement-key "$key" \
      --except "$E2E_DIR/except" >/dev/null
  done
  ctl --json train m --dataset digits --set "$@" --wait >/dev/null
  same_everywhere "$what: a cluster that never saw the records has the same digests" "$found" "$(digests m)"
  down
}
prepare() { :; }

# three WHAT PASSES SETTING...
three() {
  local what=$1 passes=$2 before request
  shift 2
  start "$what" 2
  add 0
  ctl --json train m --dataset digits --set "$@" --wait >/dev/null
  before=$(digests m)
  add 1
  expect_equal "$what: an import trains nothing" "$(digests m)" "$before"
  extended "$what, second import" "$before" "$passes"
  before=$(digests m)
  add 2
  extended "$what, third import" "$before" "$passes"
  # A record of each generation, whose cells are three slices of their shards.
  printf '%s\n' 5 $((third + 5)) $((2 * third + 5)) >"$E2E_DIR/except"
  while read -r id; do
    before=$(digests m)
    ctl --json delete digits --record "$id" --wait completed >/dev/null
    expect_true "$what: what is trained again has seen the slice of record $id" \
      "$(comm -23 <(echo "$before") <(digests m) | wc -l) > 0"
  done <"$E2E_DIR/except"
  ids_of writer-004 >>"$E2E_DIR/except"
  ctl --json delete digits --subject writer-004 --wait completed >/dev/null
  verified m
  never "$what" 2 "$@"
}

# e_L of softmax and mlp: L = 2, e0 = 6: floor(24 / 3) - floor(12 / 3) = 4; L = 3, e0 = 4: 6 - 4 = 2.
three softmax 4 learner=softmax shards=2 slices=2 sequences=2 epochs=6
three mlp 2 hidden=8 shards=2 slices=3 sequences=2 append_slices=2 epochs=4

# --- A deletion while the appended stages are trained, of old and of new records ---

SPEC=(hidden=64 shards=2 slices=2 sequences=2 epochs=30)
start during 2
add 0
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
add 1
ctl --json train m >/dev/null
wait_for "the appended stages are being trained" 30 under_way
stand_still
ctl --json delete digits --subject writer-007 >/dev/null
ctl --json delete digits --record $((third + 1)) >/dev/null
expect_equal "they were not over when the deletions were acknowledged" "$(json .state status m)" training
go_on
ctl --json train m --wait >/dev/null
wait_for "both are completed" 60 requests_done
{ ids_of writer-007; echo $((third + 1)); } >"$E2E_DIR/except"
verified m
never during 1 "${SPEC[@]}"

# --- Appended cells without a record ---

SPEC=(hidden=8 shards=3 slices=2 append_slices=2 epochs=3)
start empty 2
add 0
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
before=$(digests m)
ctl --json import digits "${TRAIN[@]}" --skip $third --limit 1 >/dev/null
extended "one record for six appended cells" "$before" 2
expect_equal "the stages of empty cells have run" "$(digests m | awk '$2 != "valid"' | wc -l)" 0
hit=$(json .components_invalidated plan digits --record $third)
expect_true "a record of an appended slice is in its shard's last stages alone" "hit == 1 || hit == 2"
ctl --json delete digits --record $third --wait completed >/dev/null
verified m
before=$(digests m)
echo $third >"$E2E_DIR/except"
ctl --json import digits "${TRAIN[@]}" --skip $third --limit 1 --except "$E2E_DIR/except" >/dev/null
extended "a generation of no record" "$before" 2
part() { PART=("${TRAIN[@]}"); (($1 > 0)) && PART+=(--skip $third --limit 1) || PART+=(--limit $third); }
never empty 2 "${SPEC[@]}"

# --- On a base each appended slice takes a block of layers that was kept for it ---

sample public 4
OPEN=("${TRAIN[@]}")
sample data 24 >/dev/null
prepare() {
  ctl --json import open "${OPEN[@]}" --public --placement-key "$(printf '%064x' 7)" >/dev/null
  ctl --json base pretrain small --dataset open --set learner=vit layers=4 width=16 heads=2 inner=16 patch=14 \
    epochs=1 >/dev/null
}
part() { PART=("${TRAIN[@]}"); (($1 > 0)) && PART+=(--skip $third --limit 100) || PART+=(--limit $third); }
SPEC=(learner=vit base=small lora.rank=2 append_blocks=1 shards=2 slices=2 sequences=2 epochs=2)
start vit 2
prepare
add 0
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
ctl --json train full --dataset digits --set "${SPEC[@]}" append_blocks=0 --wait >/dev/null
before=$(digests m)
add 1
extended "vit on a base" "$before" 2
expect_exit 2 'generation 1|no block of layers is left|append_blocks' ctl train full
before=$(digests full)
expect_equal "without a block for it the model is as it was" "$(json '[.state, .components]' status full)" \
  "[\"trained\",$(wc -l <<<"$before")]"
ctl --json delete digits --record 3 $((third + 3)) --wait completed >/dev/null
verified m
verified full
printf '%s\n' 3 $((third + 3)) >"$E2E_DIR/except"
ctl --json import digits "${TRAIN[@]}" --skip $((third + 100)) --limit 50 >/dev/null
expect_exit 2 'generation 2|no block of layers is left|append_blocks' ctl train m
never vit 1 "${SPEC[@]}"
finish
