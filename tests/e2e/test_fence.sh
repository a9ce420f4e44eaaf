#!/bin/bash
# tests/e2e/test_fence.sh: no reply after the ack of a deletion holds what the record has taught.
#
# A loop asks for predictions, one process each, and notes when it began to ask. Whatever was asked
# after the ack came back must have the ack's epoch or a later one, and its numbers must be those
# of the components that are still valid.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 16
ROWS=("${TEST[0]}" --limit 20)
REPLIES=$E2E_DIR/replies
loops=''

# One reply as an object: when it was asked for (ns), exit code, answer.
ask() { # MODEL
  local at code=0 answer
  at=$(date +%s%N)
  answer=$(ctl --json predict "$1" "${ROWS[@]}" 2>/dev/null) || code=$?
  jq -c --arg at "$at" --arg code "$code" '. + {at: ($at | tonumber), code: ($code | tonumber)}' \
    <<<"$answer"
}
ask_on() { # MODEL: until the file is taken away.
  while [[ -e $E2E_DIR/asking ]]; do ask "$1"; done >>"$REPLIES"
}
ask_begin() { : >"$REPLIES" >"$E2E_DIR/asking"; ask_on "$1" & ASKING=$!; }
ask_end() { rm "$E2E_DIR/asking"; wait "$ASKING"; }
replies() { # replies FROM TO [FILTER]: of those asked in between, in order.
  jq -sc --arg from "$1" --arg to "$2" "[.[] | select(.at > (\$from | tonumber) and
    .at < (\$to | tonumber))] | ${3:-.}" "$REPLIES"
}
now() { date +%s%N; }
count_is() { (($(wc -l <"$REPLIES") >= $1)); }
more_replies() { # Waits for five more.
  wait_for "more replies" 30 count_is $(($(wc -l <"$REPLIES") + 5))
}
completed() { [[ $(json .state status "$1") == completed ]]; }

# deletion SUBJECT: sets EPOCH, ACKED and DONE: its epoch, when the ack was there, when it was
# completed; SHARD: which one changed. The repair waits until some replies have come.
deletion() {
  local ack before
  before=$(digests m)
  stand_still
  ack=$(json . delete digits --subject "$1")
  ACKED=$(now)
  EPOCH=$(jq .epoch <<<"$ack")
  more_replies
  go_on
  wait_for "the repair" 90 completed "$(jq -r .request <<<"$ack")"
  DONE=$(now)
  SHARD=$(comm -23 <(echo "$before") <(digests m) | cut -d: -f1)
}

# --- Two shards: one repairs, the other answers alone ---

start two 2
# Under PLACEMENT_KEY writer-000 lies in shard 0 and writer-001 in shard 1 of 2: checked below.
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=256 shards=2 slices=1 epochs=20 --wait >/dev/null
ask_begin m
more_replies
BEGIN=$(now)
deletion writer-000
first="$EPOCH $ACKED $DONE $SHARD"
more_replies
BETWEEN=$(now)
deletion writer-001
second="$EPOCH $ACKED $DONE $SHARD"
more_replies
ask_end
END=$(now)
read -r epoch1 acked1 done1 shard1 <<<"$first"
read -r epoch2 acked2 done2 shard2 <<<"$second"
expect_equal "the two deletions hit one shard each" "$(sort <<<"$shard1"$'\n'"$shard2" | tr '\n' ' ')" \
  "s0 s1 "
expect_true "$(wc -l <"$REPLIES") predictions were asked for meanwhile; none failed" \
  "$(jq -s '[.[] | select(.code != 0)] | length' "$REPLIES") == 0"
expect_equal "before: both shards answer" \
  "$(replies 0 "$BEGIN" '[.[] | [.shards_used, .shards_total, .degraded]] | unique')" "[[2,2,false]]"
for which in "1 $epoch1 $acked1 $done1" "2 $epoch2 $acked2 $done2"; do
  read -r n epoch acked done <<<"$which"
  expect_equal "deletion $n: every reply after the ack has its epoch, $epoch, or a later one" \
    "$(replies "$acked" "$END" "[.[] | select(.epoch < $epoch)] | length")" 0
  expect_true "deletion $n: $(replies "$acked" "$done" length) replies while its shard was repaired" \
    "$(replies "$acked" "$done" length) >= 3"
  expect_equal "deletion $n: the first of them says degraded, 1 shard of 2" \
    "$(replies "$acked" "$done" '.[0] | [.shards_used, .shards_total, .degraded]')" "[1,2,true]"
  # Once full again it stays so; the last ones may have been asked just after the repair.
  expect_equal "deletion $n: degraded and full replies do not alternate" \
    "$(replies "$acked" "$done" '[.[].degraded] | . == (sort | reverse)')" true
  expect_equal "deletion $n: the remaining shard's answers are the same all the time" \
    "$(replies "$acked" "$done" '[.[] | select(.degraded) | .predictions] | unique | length')" 1
done
expect_equal "after each repair both shards answer again" \
  "$(replies "$done1" "$BETWEEN" '[.[] | .degraded] | unique')$(replies "$done2" "$END" \
    '[.[] | .degraded] | unique')" "[false][false]"

# What the ensemble said between the two deletions is the mean of what each shard said alone: of the
# shard that was never touched (during the first repair) and of the repaired one (during the second).
# So none of these replies held an output of the component that had seen writer-000.
parts=$(jq -cn --argjson old "$(replies 0 "$BEGIN" '.[0].predictions')" \
  --argjson one "$(replies "$acked1" "$done1" '.[0].predictions')" \
  --argjson all "$(replies "$done1" "$BETWEEN" '.[0].predictions')" \
  --argjson other "$(replies "$acked2" "$done2" '.[0].predictions')" '
  [range($all | length) |
    select([$old[.], $one[.], $all[.], $other[.]] | map(.label) | unique | length == 1) |
    {old: $old[.].probability, one: $one[.].probability, all: $all[.].probability,
     other: $other[.].probability}]')
expect_true "$(jq length <<<"$parts") rows were given the same label by all" "$(jq length <<<"$parts") >= 3"
expect_equal "the mean of the two single shards is the repaired ensemble's answer" \
  "$(jq 'all((.one + .other) / 2 - .all | fabs < 1e-5)' <<<"$parts")" true
expect_equal "and not the answer from before the deletion" \
  "$(jq 'all((.one + .other) / 2 - .old | fabs < 1e-5)' <<<"$parts")" false
verified m
down

# --- Predictions that are being computed when the ack is sent ---
#
# Large ones, always some in the coordinator's threads. Whoever asked before the ack may be answered
# after it: such a reply has the ack's epoch, and therefore must not hold the shard that was hit.

start flight 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=768 shards=2 slices=1 epochs=12 --wait >/dev/null
ROWS=("${TRAIN[0]}")
: >"$REPLIES" >"$E2E_DIR/asking"
for n in 1 2 3; do
  while [[ -e $E2E_DIR/asking ]]; do ask m | jq -c 'del(.predictions)'; done >>"$REPLIES" &
  loops+=" $!"
done
more_replies
epochs=()
for n in 2 3 4 5 6; do
  deletion "writer-00$n"
  epochs+=("$EPOCH")
done
rm "$E2E_DIR/asking"
wait $loops
while read -r epoch; do
  jq -c --argjson epoch "$epoch" 'select(.code == 0 and .epoch == $epoch)' "$REPLIES"
done < <(printf '%s\n' "${epochs[@]}") >"$E2E_DIR/between"
expect_true "$(wc -l <"$E2E_DIR/between") large replies have the epoch of one of ${#epochs[@]} acks" \
  "$(wc -l <"$E2E_DIR/between") >= 3"
expect_equal "none of them holds the shard that was hit, whenever it was asked for" \
  "$(jq -sc '[.[] | select(.shards_used != 1 or (.degraded | not))] | length' "$E2E_DIR/between")" 0
ROWS=("${TEST[0]}" --limit 20)
down

# --- One shard, one slice: nobody is left to answer until the repair ---

start one 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=128 shards=1 slices=1 epochs=20 --wait >/dev/null
stale=$(ask m | jq -c .predictions)
ask_begin m
more_replies
deletion writer-000
more_replies
ask_end
expect_equal "after the ack every reply is UNAVAILABLE or has the ack's epoch" \
  "$(replies "$ACKED" "$(now)" "[.[] | select(.code != 5 and (.code != 0 or .epoch < $EPOCH))] | length")" 0
expect_true "UNAVAILABLE (exit 5): $(replies "$ACKED" "$DONE" '[.[] | select(.code == 5)] | length') times until the repair" \
  "$(replies "$ACKED" "$DONE" '[.[] | select(.code == 5)] | length') >= 3"
expect_equal "the first reply after the ack is UNAVAILABLE" "$(replies "$ACKED" "$DONE" '.[0].code')" 5
expect_equal "after the repair it answers" "$(replies "$DONE" "$(now)" '[.[].code] | unique')" "[0]"
expect_equal "never, after the ack, with the answers from before" \
  "$(jq -sc --argjson stale "$stale" --arg acked "$ACKED" '[.[] |
    select(.at > ($acked | tonumber) and .predictions == $stale)] | length' "$REPLIES")" 0
expect_equal "which were its answers before the deletion" \
  "$(jq -sc --argjson stale "$stale" '.[0].predictions == $stale' "$REPLIES")" true
ctl --json delete digits --subject writer-002 >/dev/null
expect_exit 5 "no shard of model|training" ctl predict m "${ROWS[@]}"
expect_exit 5 "no shard of model" ctl evaluate m "${TEST[@]}"
down
finish
