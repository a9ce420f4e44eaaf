#!/bin/bash
# tests/e2e/test_sequences.sh: B sequences by each policy, for mlp: which components there are, that a
# prefix which sequences share is trained once, and that a deletion, also in a later generation,
# leaves what a cluster has that never saw the records.
#
# The orders are those of docs/format.md, "Orders", which an independent program made; the names of
# the components follow from them here.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"

# names SHARDS APPENDED ORDER...: "s0:[2,0]" of every prefix of every order, each once. APPENDED: the
# slices behind each order, or "".
names() {
  local shards=$1 appended=$2 order shard i list
  shift 2
  for order in "$@"; do
    order+=$appended
    for ((shard = 0; shard < shards; shard++)); do
      list=''
      for ((i = 0; i < ${#order}; i++)); do
        list+=${list:+,}${order:i:1}
        echo "s$shard:[$list]"
      done
    done
  done | sort -u
}
listed() { digests m | cut -d' ' -f1; }

sample data 24
mapfile -t gone < <(ids_of writer-003; ids_of writer-017)
printf '%s\n' "${gone[@]}" >"$E2E_DIR/except"
SHAPE=(hidden=8 shards=2 slices=4 sequences=3 epochs=3)
rows=$(wc -l <"$SUBJECTS")
first=$((rows * 2 / 3)) # Rows of generation 0; the others are imported later.

# policy WHAT ORDERS SETTING...
policy() {
  local what=$1 trained found key
  local -a orders
  read -ra orders <<<"$2"
  shift 2
  start "$what"
  ctl --json import digits "${TRAIN[@]}" --limit "$first" >/dev/null
  trained=$(json .components_trained train m --dataset digits --set "${SHAPE[@]}" "$@" --wait)
  expect_equal "$what: the components are the prefixes of ${orders[*]}" "$(listed)" \
    "$(names 2 '' "${orders[@]}")"
  expect_equal "$what: each is trained once" "$trained" "$(names 2 '' "${orders[@]}" | wc -l)"
  ctl --json import digits "${TRAIN[@]}" --skip "$first" >/dev/null
  ctl --json train m --wait >/dev/null
  expect_equal "$what: the later generation's slice stands at the end of each" "$(listed)" \
    "$(names 2 4 "${orders[@]}")"
  ctl --json delete digits --subject writer-003 --wait completed >/dev/null
  ctl --json delete digits --subject writer-017 --wait completed >/dev/null
  verified m
  found=$(digests m)
  ctl schema digits >"$E2E_DIR/schema"
  key=$(json .placement_key dataset show digits)
  kill -KILL "$(coordinator_pid)" # A restart finds the same components.
  wait_for "the end of the coordinator" 10 gone "$(coordinator_pid)"
  down 2>/dev/null || true
  up 2
  same_everywhere "$what: the same after a restart" "$(digests m)" "$found"
  down
  start "$what-never" 1
  ctl --json import digits "${TRAIN[@]}" --limit "$first" --schema "$E2E_DIR/schema" \
    --placement-key "$key" --except "$E2E_DIR/except" >/dev/null
  ctl --json import digits "${TRAIN[@]}" --skip "$first" --generation 1 \
    --except "$E2E_DIR/except" >/dev/null
  ctl --json train m --dataset digits --set "${SHAPE[@]}" "$@" --wait >/dev/null
  same_everywhere "$what: a cluster that never saw the records has the same digests" "$found" \
    "$(digests m)"
  down
}

policy rotation '0123 1230 2301'
policy random '1320 1302 1032' sequence_policy=random
policy bms '2301 3210 1032' sequence_policy=bms 'slice_probabilities=[6,2,1,1]'
policy sampling '0132 1230 0321' sequence_policy=sampling 'slice_probabilities=[6,2,1,1]'

# --- What does not fit is refused, and nothing is made of it ---

use rotation-never
up 1
train() { ctl train other --dataset digits --set "$@"; }
expect_exit 2 'sequences is 5|number of slices, 4' train slices=4 sequences=5 sequence_policy=bms
expect_exit 2 'slice_probabilities has 3 numbers|4 slices' \
  train slices=4 sequence_policy=sampling slice_probabilities=1,2,3
expect_exit 2 'slice_probabilities are all 0' \
  train slices=2 sequence_policy=bms slice_probabilities=0,0
expect_exit 2 'sequence_policy is best|rotation, random, bms, sampling' train sequence_policy=best
# The coordinator's own refusal: only drawing tells that there are not enough.
expect_exit 2 'found 2 different orders of 3 slices, expected 3|fewer sequences' \
  train slices=3 sequences=3 sequence_policy=sampling slice_probabilities=1,0,0
expect_exit 3 'no model "other"' ctl model show other

# The help of train is made from the table that everything goes through: each key once.
help=$(ctl train --help)
expect_equal "train --help lists the spec's keys" \
  "$(sed -n '/^Keys of a spec/,$p' <<<"$help" | grep -oE '^  [a-z][a-z0-9_.]*' | tr -d ' ' | sort)" \
  "$(json '.spec | keys[]' model show m | sort)"
down
finish
