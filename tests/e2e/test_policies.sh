#!/bin/bash
# tests/e2e/test_policies.sh: when deletions are repaired: due dates, haste, batches, shared repairs,
# training that is cancelled and begun again, and what is told of all that.
E2E_SECONDS=280
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 24
start main 1
LOG=$UNLEARN_DIR/run/unlearnd.log
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json import others "${TRAIN[@]}" >/dev/null
spec=(--set hidden=32 shards=3 slices=3 epochs=6)
ctl --json train m --dataset digits "${spec[@]}" --wait >/dev/null

grants() { sed -n 's/.*event=lease_granted .*model='"$1"' component=\([^ ]*\) .*/\1/p' "$LOG"; }
model_number() { sed -n 's/.*event=train_accepted model=\([0-9]*\) .*/\1/p' "$LOG" | tail -1; }
M=$(model_number)
deleted() { json '.request' delete digits --subject "$@"; }
is() { [[ $(json .state status "$1") == "$2" ]]; }
busy_one() { [[ $(json .workers_busy status) == 1 ]]; }
BUSY=0
# busy SECONDS: the only rank trains a stage of another dataset, about so long.
busy() {
  ctl --json train busy-$((++BUSY)) --dataset others --set hidden=512 shards=1 slices=1 epochs=$((25 * $1)) >/dev/null
  wait_for "the rank is busy" 30 busy_one
}

# --- Due dates ---

days_to() { jq -n --arg a "$1" --arg b "$2" '($b[0:19] + "Z" | fromdate) - ($a[0:19] + "Z" | fromdate) | . / 86400'; }
answer=$(json . delete digits --subject writer-012 --due ccpa --wait repaired)
expect_equal "ccpa: 45 days" "$(days_to "$(jq -r .accepted_at <<<"$answer")" "$(jq -r .due_at <<<"$answer")")" 45
answer=$(json . delete digits --subject writer-013 --wait completed)
# The same day of the next month, or its last one.
accepted=$(jq -r '.accepted_at[0:10]' <<<"$answer")
last=$(date -ud "${accepted%-*}-01 +2 months -1 day" +%d)
day=${accepted##*-}
expect_equal "without --due: a month of the calendar" "$(jq -r '.due_at[0:10]' <<<"$answer")" \
  "$(date -ud "${accepted%-*}-01 +1 month" +%Y-%m)-$(printf %02d $((10#$day > 10#$last ? 10#$last : 10#$day)))"
expect_equal "in time, and nothing is expected any more" "$(jq -c '[.late, .expected_at, .at_once]' <<<"$answer")" '[false,null,true]'
before=$(json .records dataset show digits)
expect_exit 2 "not in the future" ctl delete digits --subject writer-000 --due 2020-02-02
expect_exit 2 "none of gdpr, ccpa" ctl delete digits --subject writer-000 --due soon
expect_exit 2 "more than 3660 days" ctl delete digits --subject writer-000 --due 9999d
expect_equal "what is refused changes nothing" "$(json .records dataset show digits)" "$before"
UUID=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8d01
first=$(json .due_at delete digits --subject writer-015 --due 30d --request $UUID)
sleep 1.1
expect_equal "the same request again has the due date that it had" \
  "$(json .due_at delete digits --subject writer-015 --due 30d --request $UUID)" "$first"
expect_exit 4 "UUID was used before" ctl delete digits --subject writer-015 --due 31d --request $UUID
wait_for "all is repaired" 60 all_valid m

# --- The order of the work: one rank, which is busy while the requests come ---
# Under PLACEMENT_KEY, 3 shards and 3 slices: shard and slice of writers 1: 22, 3: 02, 6: 12, 14: 12.

busy 2
from=$(grants "$M" | wc -l)
far=$(deleted writer-001 --due 60d)
near=$(deleted writer-003 --due 10d)
deleted writer-006 --due 20d >/dev/null
shared=$(deleted writer-014 --due 90d)
wait_for "the one that is due last waits, too" 10 is "$shared" erased
expect_equal "both wait" "$(json .state status "$near") $(json .state status "$far")" "erased erased"
expect_true "status tells when they are expected" "$(json '[.requests_first[] | select(.expected_at != null)] | length' status) == 4"
expect_equal "and lists them by due date" "$(json '[.requests_first[].request] | [.[0], .[2], .[3]] | @csv' status)" \
  "\"$near\",\"$far\",\"$shared\""
wait_for "all is repaired" 60 all_valid m
expect_equal "what is due first is trained first, and two deletions in a slice share a repair" \
  "$(grants "$M" | tail -n +$((from + 1)) | paste -sd' ')" "s0:[0,1,2] s1:[0,1,2] s2:[0,1,2]"
wait_for "the last one is completed" 30 is "$shared" completed

busy 2
from=$(grants "$M" | wc -l)
late=$(deleted writer-007 --due 60d) # 22
deleted writer-005 --due 10d >/dev/null # 02
ctl --json delete digits --subject writer-007 --due 60d --request "$late" --wait repaired >"$E2E_DIR/hasty"
expect_equal "a request that comes again with haste comes first" \
  "$(grants "$M" | sed -n "$((from + 1))p") $(jq -r .at_once "$E2E_DIR/hasty")" "s2:[0,1,2] true"
wait_for "all is repaired" 60 all_valid m

# --- Late ---

# A due date is a whole second: asked at the end of one, the next is over at once.
in_seconds() { # in_seconds N
  sleep "$(awk '{ printf "%.2f", 1 - ($1 - int($1)) }' <<<"$EPOCHREALTIME")"
  date -u -d "+$1 seconds" +%FT%TZ
}
busy 3
answer=$(json . delete digits --subject writer-019 --due "$(in_seconds 2)") # 02
uuid=$(jq -r .request <<<"$answer")
is_late() { [[ $(json '.requests_first[] | select(.request == "'"$uuid"'") | .late' status) == true ]]; }
wait_for "a request that waits beyond its due date is late" 10 is_late
logged() { (($(lines_with "event=deletion_late request=$uuid" "$LOG") > 0)); }
wait_for "the log says so" 5 logged
expect_equal "once" "$(lines_with "event=deletion_late request=$uuid" "$LOG")" 1
wait_for "it is repaired nevertheless" 60 is "$uuid" completed
expect_equal "and it is told that it was late" "$(json .late status "$uuid")" true
expect_equal "the report counts it" "$(json .complied_late report --since "$(date -u +%F)")" 1

# --- What it will cost ---

ctl plan digits --subject writer-000 >"$E2E_DIR/plan"
expect_equal "plan tells work and time, and how sure it is" \
  "$(json '[.seconds_estimated > 0, .seconds_error >= 0, .seconds_error < 3, .seconds_wall >= .seconds_estimated * 0.999] | all' plan digits --subject writer-000) $(lines_with '^work .*give or take\|^time .*on the ranks' "$E2E_DIR/plan")" "true 2"
# What cannot be done in time is told with the ack.
ctl --json train slow --dataset digits --set hidden=512 shards=1 slices=1 epochs=60 --wait >/dev/null
answer=$(json . delete digits --subject writer-020 --due "$(in_seconds 2)" || true)
expect_equal "the ack says that it will be late" "$(jq -c '[.late, .expected_at > .due_at]' <<<"$answer")" '[true,true]'
ctl status "$(jq -r .request <<<"$answer")" >"$E2E_DIR/late"
expect_equal "people read it, too" "$(lines_with '^due .*expected by .*: LATE$' "$E2E_DIR/late")" 1
ctl --json model remove slow >/dev/null
wait_for "all is repaired" 60 all_valid m

# --- Batches ---

expect_equal "the policy of a model is deadline at first" "$(json .policy model show m)" deadline
expect_equal "and can be changed" "$(json .policy model set m --policy batch:3)" batch:3
expect_exit 2 "repair policy is none of" ctl model set m --policy batch:0
expect_exit 2 "repair policy is none of" ctl model set m --policy lazy
expect_exit 2 "expected --policy" ctl model set m
expect_exit 3 'no model "nobody"' ctl model set nobody --policy eager
expect_exit 2 "repair policy is none of" ctl train m2 --dataset digits "${spec[@]}" --policy batch:x
expect_exit 3 'no model "m2"' ctl model show m2
from=$(grants "$M" | wc -l)
one=$(deleted writer-009) # 01
two=$(deleted writer-010) # 01
wait_for "the second is erased" 10 is "$two" erased
sleep 0.5
expect_equal "nothing is repaired before the batch is full" \
  "$(grants "$M" | tail -n +$((from + 1)) | wc -l) $(json '[.held, .gathered, .state]' model show m)" '0 [true,2,"training"]'
ctl model show m >"$E2E_DIR/held"
expect_equal "people read why" "$(lines_with '^policy .*batch:3; repairs are held back: 2 deletions' "$E2E_DIR/held")" 1
kill -KILL "$(coordinator_pid)"
wait_for "the coordinator is gone" 10 gone "$(coordinator_pid)"
up 1
wait_for "after a restart what had gathered is repaired" 60 is "$two" completed
expect_equal "and the policy is what it was" "$(json .policy model show m)" batch:3
from=$(grants "$M" | wc -l)
deleted writer-000 >/dev/null # 10
deleted writer-008 >/dev/null # 10
three=$(deleted writer-023) # 21
wait_for "the third releases them" 60 is "$three" completed
wait_for "all is repaired" 60 all_valid m
# The two were all that shard 1 had in slice 0: [0] is empty now.
expect_equal "each component once" "$(grants "$M" | tail -n +$((from + 1)) | sort | paste -sd' ')" \
  "s1:[0,1,2] s1:[0,1] s2:[0,1,2] s2:[0,1]"
one=$(deleted writer-004) # 21
expect_equal "haste releases a batch" "$(json .state delete digits --subject writer-011 --wait repaired | sed 's/completed/repaired/')" repaired
wait_for "all of it" 30 is "$one" completed
expect_equal "train --policy changes it, too" \
  "$(ctl --json train m --policy eager >/dev/null; json .policy model show m)" eager
verified m

# --- Training that has read what is deleted ---

start long 1
LOG=$UNLEARN_DIR/run/unlearnd.log
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=256 shards=2 slices=2 epochs=200 >/dev/null
M=$(model_number)
trains() { [[ $(grants "$M" | tail -1) == "$1" && $(json .workers_busy status) == 1 ]]; }
ns() { date -d "$1" +%s%N; }
wait_for "the second stage is trained" 100 trains "s0:[0,1]"
# Under PLACEMENT_KEY, 2 shards and 2 slices: writers 0: 01, 3: 01, 5: 00, 9: 00, 10: 00, 12: 00, 13: 00.
fenced=()
for writer in 000 003; do
  from=$(grants "$M" | wc -l)
  answer=$(json . delete digits --subject writer-$writer)
  granted() { (($(grants "$M" | wc -l) > from)); }
  wait_for "the stage is begun again" 20 granted
  expect_equal "on its clean parent" "$(grants "$M" | tail -1)" "s0:[0,1]"
  cancelled=$(sed -n 's/^t=\([^ ]*\) .*event=lease_cancelled.*/\1/p' "$LOG" | tail -1)
  stopped=$(sed -n 's/^t=\([^ ]*\) .*event=stage_cancelled.*/\1/p' "$UNLEARN_DIR/run/fleet.log" | tail -1)
  at=$(ns "$(jq -r .fenced_at <<<"$answer")")
  fenced+=($(((${at:+$(ns "$cancelled")} - at) / 1000000)) $((($(ns "$stopped") - at) / 1000000)))
done
echo "# ms from the fence until the lease ended and the rank stopped: ${fenced[*]}"
best=$(printf '%s\n' "${fenced[1]}" "${fenced[3]}" | sort -n | head -1)
expect_true "the rank stopped within 100 ms of the fence" "$best >= 0 && $best <= 100"
expect_equal "two in a row are no alarm yet" "$(json .churn status m)" null
answer=$(json . delete digits --subject writer-005)
wait_for "a deletion in the first slice has the parent trained again" 20 trains "s0:[0]"
expect_equal "three stages in a row: shard 0 gets nothing done" \
  "$(json '[.churn.shard, .churn.cancelled, .churn.per_second > 0, .cancelled_stages]' status m)" '[0,3,true,3]'
ctl status m >"$E2E_DIR/churn"
expect_equal "people read it, too" "$(lines_with '^churn .*shard 0 gets nothing done: 3 stages\|^cancelled .*3 stages' "$E2E_DIR/churn")" 2
calm() { [[ $(json .churn status m) == null ]]; }
wait_for "when a stage is done it is over" 100 calm
down
use main
down
finish
