#!/bin/bash
# tests/e2e/test_status.sh: what status and report tell: they count what has happened, and add up.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 12
today=$(date -u +%F)
start main 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json import others "${TRAIN[@]}" --public >/dev/null

# --- report ---

report() { json "$1" report --since "$today" "${@:2}"; }
counts='[.received, .complied, .nothing_left, .open, .denied, .denied_because.not_found, .denied_because.held,
  .denied_because.conflict, .records_deleted]'
expect_equal "nothing has happened" "$(report "$counts")" "[0,0,0,0,0,0,0,0,0]"
expect_equal "of nothing there is no median" "$(report '[.days_to_complete | .requests, .median, .mean]')" '[0,null,null]'
UUID=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8c01
one=$(json .records_deleted delete digits --subject writer-003 --request $UUID --wait completed)
two=$(json .records_deleted delete digits --subject writer-004 writer-005 --wait completed)
json .state delete digits --subject writer-003 --wait completed >/dev/null # Nothing is left.
json .state delete digits --subject writer-003 --request $UUID >/dev/null  # The same once more: no other request.
expect_exit 3 "0 records and 1 subjects" ctl delete digits --subject nobody
expect_exit 3 "1 records and 0 subjects" ctl delete digits --record 999999
expect_exit 3 "0 records and 1 subjects" ctl delete others --subject nobody
expect_exit 4 "UUID was used before" ctl delete digits --subject writer-006 --request $UUID
expect_equal "received, complied with, denied and why" "$(report "$counts")" "[7,3,1,0,4,3,0,1,$((one + two))]"
expect_equal "of one dataset" "$(report "$counts" --dataset others)" "[1,0,0,0,1,1,0,0,0]"
expect_equal "days from accepted to completed, of all three; to erased no longer" "$(report '.days_to_complete as $c
  | .days_to_erase as $e | [$c.requests, $e.requests, $c.mean > 0, $c.median > 0, $c.median >= $e.median, $c.mean < 1]')" \
  '[3,3,true,true,true,true]'
times() { json '[.accepted_at, .completed_at] | map(.[0:19] + "Z" | fromdate) | .[1] - .[0]' status "$UUID"; }
expect_number "they are those of the requests, nearly" "$(times)" '<=' "$(report '.days_to_complete.mean * 3 * 86400 + 2')"
expect_equal "nobody is named" "$(ctl --json report --since "$today" | grep -c 'writer\|nobody\|0b9d6a52' || true)" 0
ctl report --since "$today" >"$E2E_DIR/table"
expect_equal "people get a table" "$(grep -c '^received  *7 *$\|^complied with  *3 \|^completed  *3 ' "$E2E_DIR/table")" 3
expect_exit 2 "--since" ctl report
expect_exit 2 "--since: not a day|2026-01-31" ctl report --since 2026-02-30
expect_exit 2 "lies after" ctl report --since "$today" --until 2026-01-01
expect_exit 3 'no dataset "nowhere"' ctl report --since "$today" --dataset nowhere
expect_equal "yesterday there was nothing" \
  "$(json "$counts" report --since 2026-01-01 --until "$(date -u -d yesterday +%F)")" "[0,0,0,0,0,0,0,0,0]"

before=$(report "$counts")
pid=$(coordinator_pid)
expect_exit 3 "0 records and 1 subjects" ctl delete digits --subject nobody
kill -KILL "$pid"
wait_for "the coordinator is gone" 10 gone "$pid"
up 2
expect_equal "what was denied is counted after kill -9, too" "$(report "$counts")" \
  "$(jq -c '.[0] += 1 | .[4] += 1 | .[5] += 1' <<<"$before")"
json .state dataset remove others >/dev/null
expect_equal "also of a dataset that is gone" "$(report "$counts" --dataset others)" "[1,0,0,0,1,1,0,0,0]"
down
finish
