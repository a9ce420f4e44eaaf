#!/bin/bash
# tests/e2e/test_health.sh: probes tell whether the coordinator lives and is ready; SIGTERM lets it answer
# what was asked, give its leases back and lose nothing; it comes back while the fleet stays.
E2E_SECONDS=200
source "$(dirname "$0")/lib.sh"

sample data 16
use main
ctl --json init "$UNLEARN_DIR" >/dev/null
expect_exit 5 "no coordinator" ctl health
up 2
expect_equal "it lives and is ready" "$(json '[.alive, .ready, .draining, .workers]' health)" "[true,true,false,2]"
expect_equal "with the workers that are asked for" "$(json .ready health --ready --workers 2)" true
expect_exit 5 "2 workers have joined, expected at least 3" ctl health --workers 3
expect_equal "that is told in one object" "$( (ctl --json health --workers 3 2>/dev/null || true) | jq -sc "[length, (.[0] | has(\"error\"))]")" "[1,true]"
expect_exit 2 "--workers" ctl health --workers x

LOG=$UNLEARN_DIR/run/unlearnd.log
FLEET=$UNLEARN_DIR/run/fleet.log
SPEC=(hidden=256 shards=2 slices=2 epochs=60)
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null

# Clients that ask all the while: predictions, and a deletion of a record each.
ask() { # ask LOOP: until the file is gone; each answer with its exit code.
  local at=$1 code uuid
  while [[ -e $E2E_DIR/asking ]]; do
    code=0 uuid=$(cat /proc/sys/kernel/random/uuid)
    ctl --json delete digits --record "$at" --request "$uuid" >/dev/null 2>"$E2E_DIR/error.$1" || code=$?
    echo "$code $uuid"
    at=$((at + 4))
    code=0
    ctl --json predict m "${TEST[0]}" --limit 3 >/dev/null 2>"$E2E_DIR/error.$1" || code=$?
    echo "$code predict"
  done >"$E2E_DIR/asked.$1"
}
busy() { [[ $(json .workers_busy status) == 2 ]]; }
wait_for "all is trained" 30 all_valid m
: >"$E2E_DIR/asking"
for loop in 1 2 3; do ask $loop & loops[loop]=$!; done
wait_for "both ranks repair" 30 busy
pid=$(coordinator_pid)
kill -TERM "$pid"
about_to_end() { ! ctl health --ready >/dev/null 2>"$E2E_DIR/health" && grep -q "about to end" "$E2E_DIR/health"; }
wait_for "a probe learns that it is about to end" 10 about_to_end
sleep 0.3
rm "$E2E_DIR/asking" # The drain waits until nobody asks.
wait_for "it ends" 15 gone "$pid"
wait "${loops[@]}"
cat "$E2E_DIR"/asked.* >"$E2E_DIR/asked"
expect_true "$(grep -c '^0 ' "$E2E_DIR/asked") requests were answered, and none was refused or lost" \
  "$(lines_with '^0 ' "$E2E_DIR/asked") > 3 && $(grep -vc '^0 ' "$E2E_DIR/asked" || true) == 0"
expect_equal "the log says that it drained, and ended in order" \
  "$(lines_with 'event=coordinator_draining signal=15' "$LOG") $(lines_with 'event=coordinator_ended code=0' "$LOG")" "1 1"
expect_true "its leases were given back" "$(lines_with 'event=stage_cancelled' "$FLEET") >= 1"
granted_after=$(sed -n '/event=coordinator_draining/,$p' "$LOG" | lines_with 'event=lease_granted' /dev/stdin)
expect_equal "and none was granted after the signal" "$granted_after" 0
expect_exit 5 "no coordinator" ctl health

# Back again: the fleet has stayed.
"$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR" 2>>"$LOG" 9>&- &
ready() { ctl health --workers 2 >/dev/null 2>&1; }
wait_for "the workers are back" 60 ready
missing=0
while read -r code uuid; do
  [[ $code != 0 || $uuid == predict ]] || json .state status "$uuid" >/dev/null || missing=$((missing + 1))
done <"$E2E_DIR/asked"
expect_equal "every deletion that was acknowledged is known" "$missing" 0
wait_for "and is carried out" 90 all_valid m
# A second signal does not wait.
: >"$E2E_DIR/asking"
ask 1 & loops=($!)
pid=$(coordinator_pid)
sleep 0.3
kill -TERM "$pid"
sleep 0.2
kill -TERM "$pid"
wait_for "a second signal ends it at once" 3 gone "$pid"
rm "$E2E_DIR/asking"
wait "${loops[@]}" || true
up 2
wait_for "all is repaired" 60 all_valid m # Deletions of the last moment, too.
verified m
down
finish
