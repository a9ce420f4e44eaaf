#!/usr/bin/env bash
# Workers keep cells and parents between stages, and no bit changes by it: not without deletions, not with
# them, not where workers are killed or cut off, or the coordinator is killed, before all is wiped.
# What has seen a deleted record is wiped, weights as well as cells.
#
# Method: the same spec on the same records with the cache off gives the digests that count. That deletions
# are honoured is what verify and a cluster that never saw the records say: verify fetches all from the
# store.
source "$(dirname "$0")/lib.sh"

SPEC=(--set hidden=16 shards=2 slices=4 epochs=2 seed=3)
of_all() { # of_all FIELD: of all workers together.
  json "[.workers[].$1] | add // 0" status
}

test_more() { (($(lines_with "$1" "$2") > $3)); } # test_more PATTERN FILE COUNT

# --- The same bits with and without ---
sample digits 16
EXCEPT=$E2E_DIR/except
ids_of writer-003 >"$EXCEPT"
ids_of writer-005 >>"$EXCEPT"
LEASE_MS=2000
start on 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits "${SPEC[@]}" --wait >/dev/null
FOUND=$(of_all found_bytes) PULLED=$(of_all pulled_bytes)
expect_true "stages find cells and parents: $FOUND bytes found, $PULLED pulled" "$FOUND > 0"
expect_true "status tells what ranks hold" "$(of_all held_bytes) > 0"
ON=$(digests m)
for writer in writer-003 writer-005; do
  ctl --json delete digits --subject "$writer" --wait completed >/dev/null
done
AFTER=$(digests m)
verified m
down

UP_OPTIONS+=(--cache 0)
start off 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits "${SPEC[@]}" --wait >/dev/null
same_everywhere "the cache changes no bit" "$ON" "$(digests m)"
expect_equal "without it nothing is found" "$(of_all found_bytes)" 0
expect_equal "nor kept" "$(of_all held_bytes)" 0
as_if_never never digits "$EXCEPT" 2 "${TRAIN[@]}"
ctl --json train m --dataset digits "${SPEC[@]}" --wait >/dev/null
same_everywhere "with deletions in between it trains what a cluster has that never saw them" "$AFTER" "$(digests m)"
down
use off
down

# --- Weights that had seen the record go with it, also where nothing is trained in their place ---
# Records are small here and weights large (784 x 256 numbers), so the bytes that ranks hold tell which of them.
UP_OPTIONS=("${UP_OPTIONS[@]:0:${#UP_OPTIONS[@]}-2}")
WEIGHTS=800000
holds_weights() { (($(of_all held_bytes) >= WEIGHTS)); }
holds_none() { (($(of_all held_bytes) < WEIGHTS)); }
past_fence() { [[ $(json .state status "$1") != fenced ]]; }
start lineage 1
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=256 shards=1 slices=2 sequences=1 epochs=1 --policy batch:1000 --wait >/dev/null
wait_for "what the rank holds is told" 10 holds_weights
# A record of the first slice: all weights have seen it.
for id in $(ids_of writer-000) $(ids_of writer-001); do
  HIT=$(json .components_invalidated plan digits --record "$id")
  ((HIT < 2)) || break
done
expect_equal "a record that all weights have seen is found" "$HIT" 2
REQUEST=$(json .request delete digits --record "$id")
wait_for "it is erased" 20 past_fence "$REQUEST"
wait_for "no rank holds weights that have seen it" 5 holds_none
ok "no rank holds weights that have seen it: $(of_all held_bytes) bytes held"
down

# --- Nothing is erased while a worker may hold it ---
state_of() { json .state status "$1"; }
is_at() { [[ $(state_of "$1") == "$2" ]]; }
is_past() { [[ $(state_of "$1") != fenced ]]; }
# Deletes while no worker can answer. $REQUEST is then fenced, and stays so.
delete_unanswered() { # delete_unanswered WRITER
  stand_still
  REQUEST=$(json .request delete digits --subject "$1")
  sleep 0.8
  expect_equal "a request is not erased while workers owe an answer" "$(state_of "$REQUEST")" fenced
}
LEASE_MS=3000
start deaths 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits "${SPEC[@]}" --wait >/dev/null

delete_unanswered writer-003
go_on
wait_for "it is erased when they have answered" 2 is_past "$REQUEST"
ok "it is erased when they have answered"
wait_for "it is completed" 30 is_at "$REQUEST" completed

# Killed between Forget and its answer.
delete_unanswered writer-005
kill -KILL $(worker_pids)
wait_for "it is erased when the workers are gone" 10 is_past "$REQUEST"
ok "it is erased when the workers that had not answered are gone"
wait_for "it is completed" 60 is_at "$REQUEST" completed
ok "and completed by those that came after them"

# Cut off: silent for longer than a lease lives, and then there again. Their fleet, which would put others in
# their place, stands still meanwhile.
fleet=$(cat "$UNLEARN_DIR/run/fleet.pid")
kill -STOP "$fleet"
delete_unanswered writer-000
wait_for "it is erased when the workers are cut off" 10 is_past "$REQUEST"
ok "it is erased when workers that do not answer are cut off"
CUT=$(lines_with 'event=forgotten\|event=coordinator_silent' "$UNLEARN_DIR/run/fleet.log")
go_on
wait_for "they are told that nobody knows them" 10 \
  test_more 'event=forgotten\|event=coordinator_silent' "$UNLEARN_DIR/run/fleet.log" "$CUT"
ok "they hold nothing before they are accepted again"
kill -CONT "$fleet"
wait_for "it is completed" 60 is_at "$REQUEST" completed

# The coordinator dies; workers of its earlier run may hold what it does not know of.
ctl --json train again --dataset digits "${SPEC[@]}" --wait >/dev/null # New workers hold little.
delete_unanswered writer-001
kill -KILL "$(coordinator_pid)"
go_on
up 2
expect_equal "after a restart nothing is erased at once" "$(state_of "$REQUEST")" fenced
wait_for "it is erased when no worker of the earlier run can hold anything" 10 is_past "$REQUEST"
ok "but when no worker of the earlier run can hold anything"
wait_for "it is completed" 60 is_at "$REQUEST" completed
verified m
for writer in writer-000 writer-001 writer-003 writer-005; do ids_of "$writer"; done >"$EXCEPT"
HERE=$(digests m)
as_if_never never2 digits "$EXCEPT" 2 "${TRAIN[@]}"
ctl --json train m --dataset digits "${SPEC[@]}" --wait >/dev/null
same_everywhere "after all that the components are those of a cluster that never saw the records" "$HERE" "$(digests m)"
finish
