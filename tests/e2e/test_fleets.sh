#!/bin/bash
# tests/e2e/test_fleets.sh: two fleets join one coordinator and share the work; one after the other is started
# anew while they train and clients predict, and nothing is lost; one ends, and the other goes on.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

sample data 16
SPEC=(hidden=384 shards=3 slices=3 epochs=120)
start main 0
LOG=$UNLEARN_DIR/run/unlearnd.log

declare -A FLEET
join() { # join NAME RANKS [ARGUMENT...]: a fleet beside others, with a log of its own.
  "$E2E_BIN/unlearn-fleet" "${FLEET_KEYS[@]}" --rendezvous "$UNLEARN_DIR/run/workers" --ranks "$2" "${@:3}" \
    2>>"$E2E_DIR/$1.log" 9>&- &
  FLEET[$1]=$!
}
ranks_of() { # Pids of its workers.
  local pid
  for pid in $(descendants "${FLEET[$1]}"); do
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == unlearn-worker ]] && echo "$pid"
  done
  return 0
}
joined() { [[ $(json '[.workers_total, .fleets] | join(" ")' status) == "$1 $2" ]]; }
trained_by() { lines_with event=stage_trained "$E2E_DIR/$1.log"; }
both_busy() { [[ $(json .workers_busy status) == 3 ]]; }
ended_by() { lines_with "event=$2" "$E2E_DIR/$1.log"; }

join left 2
echo "localhost slots=1" >"$E2E_DIR/hosts"
join right 1 --hostfile "$E2E_DIR/hosts"
wait_for "three ranks in two fleets join" 60 joined 3 2
ok "two fleets have joined"
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set "${SPEC[@]}" >/dev/null
wait_for "all ranks of both train" 30 both_busy

# --- Rolling restart: clients ask all the while.

: >"$E2E_DIR/asking"
ask() {
  local code
  while [[ -e $E2E_DIR/asking ]]; do
    code=0
    ctl --json predict m "${TEST[0]}" --limit 3 >/dev/null 2>"$E2E_DIR/error.ask" || code=$?
    echo "$code"
  done >"$E2E_DIR/asked"
}
some_valid() { [[ $(json '.components[].state' components m | grep -c valid) -ge 1 ]]; }
wait_for "something is there to predict with" 60 some_valid
ask & asker=$!
replaced() { # FLEET OLD-PIDS RANKS: it has new ranks, and all of them have joined.
  local pid
  [[ $(ranks_of "$1" | wc -l) == "$3" ]] || return 1
  for pid in $2; do [[ -n $pid ]] && ! grep -qx "$pid" <<<"$(ranks_of "$1")" || return 1; done
  joined 3 2
}
for fleet in left right; do
  old=$(ranks_of $fleet)
  count=$(wc -l <<<"$old")
  expect_equal "training is under way when $fleet is to start anew" "$(json .state status m)" training
  kill -HUP "${FLEET[$fleet]}"
  wait_for "$fleet has new ranks" 60 replaced $fleet "$old" "$count"
  ok "$fleet: $count new ranks"
done
expect_equal "each drained first" "$(lines_with event=fleet_draining "$LOG")" 2
expect_equal "no stage was given up, by anybody" \
  "$(lines_with 'event=\(lease_expired\|worker_lost\|stage_failed\|lease_cancelled\)' "$LOG") $(ended_by left stage_cancelled) $(ended_by right stage_cancelled)" "0 0 0"
wait_for "all is trained" 120 all_valid m
expect_equal "each stage was lent once" "$(lines_with event=lease_granted "$LOG")" 9
rm "$E2E_DIR/asking"
wait $asker
expect_true "$(wc -l <"$E2E_DIR/asked") predictions were asked for meanwhile, and each was answered" \
  "$(grep -c '^0$' "$E2E_DIR/asked") >= 5 && $(grep -vc '^0$' "$E2E_DIR/asked" || true) == 0"
expect_true "left trained $(trained_by left) stages, right $(trained_by right)" \
  "$(trained_by left) >= 2 && $(trained_by right) >= 2 && $(trained_by left) + $(trained_by right) == 9"
two=$(digests m)

# --- One fleet ends in the middle of a repair; the other does the rest.

ctl --json delete digits --subject writer-000 writer-001 writer-003 >/dev/null
wait_for "both repair" 30 both_busy
kill -STOP $(ranks_of right) # So that something is left; shorter than a lease lives.
kill -TERM "${FLEET[left]}"
wait "${FLEET[left]}" || true
one_left() { [[ $(json .workers_total status) == 1 ]]; }
wait_for "one rank is left" 30 one_left
expect_equal "the repair is not over then" "$(json .state status m)" training
kill -CONT $(ranks_of right)
wait_for "the other ends it" 120 all_valid m
ok "one fleet ended, the other ended the repair"
verified m

# --- A host file in which something is wrong.

echo "localhost slots=many" >"$E2E_DIR/hosts"
code=0
"$E2E_BIN/unlearn-fleet" "${FLEET_KEYS[@]}" --rendezvous "$UNLEARN_DIR/run/workers" --ranks 1 --hostfile "$E2E_DIR/hosts" \
  2>"$E2E_DIR/wrong.log" 9>&- || code=$?
expect_equal "a fleet does not start over it, and says why" \
  "$code $(grep -o 'hosts, line 1: slots: found many, expected a number from 1 on' "$E2E_DIR/wrong.log")" \
  "1 hosts, line 1: slots: found many, expected a number from 1 on"
old=$(ranks_of right)
kill -HUP "${FLEET[right]}"
told() { [[ $(grep -c 'event=restart_refused .*line 1: slots: found many' "$E2E_DIR/right.log") == 1 ]]; }
wait_for "a restart over it is refused" 10 told
sleep 1
expect_equal "the ranks that run stay, and were not asked to drain" \
  "$(ranks_of right) $(lines_with event=fleet_draining "$LOG")" "$old 2"
echo "localhost slots=1" >"$E2E_DIR/hosts"

# --- Not to be waited for: a second signal, and a coordinator that is away.

old=$(ranks_of right)
ctl --json train n --dataset digits --set "${SPEC[@]}" epochs=2000 >/dev/null
busy() { [[ $(json .workers_busy status) == 1 ]]; }
wait_for "the rank is at a long stage" 30 busy
kill -HUP "${FLEET[right]}"
draining() { [[ $(lines_with event=fleet_draining "$LOG") == 3 ]]; }
wait_for "it drains" 10 draining
sleep 1
expect_equal "a restart waits for a stage" "$(ranks_of right)" "$old"
kill -HUP "${FLEET[right]}"
new() { [[ $(ranks_of right | wc -l) == 1 && $(ranks_of right) != "$old" ]]; }
wait_for "a second signal does not" 30 new
ok "a second signal does not wait"
wait_for "it has joined again" 60 joined 1 1
old=$(ranks_of right)
kill -KILL "$(coordinator_pid)"
kill -HUP "${FLEET[right]}"
wait_for "without a coordinator nobody is waited for" 30 new
ok "without a coordinator nobody is waited for"
kill -TERM "${FLEET[right]}"
wait "${FLEET[right]}" || true

# --- The bytes of one fleet.

start alone 1
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
same_everywhere "two fleets, started anew on the way, give the digests of one rank" "$two" "$(digests m)"
down
finish
