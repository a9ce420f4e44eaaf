#!/bin/bash
# tests/e2e/test_notify.sh: what a service manager is told, over the real sockets of sd_notify: ready when it
# answers, alive as long as the loop turns, about to end; and the units in deploy/ are what systemd reads.
E2E_SECONDS=120
source "$(dirname "$0")/lib.sh"

listen() { # listen NAME SOCKET: what comes there is written to NAME.
  : >"$E2E_DIR/$1"
  build/release/e2e/notify listen "$2" >"$E2E_DIR/$1" 2>&1 9>&- &
  wait_for "$1 is listened at" 10 grep -q listening "$E2E_DIR/$1"
}
told() { # told NAME PATTERN
  grep -q -- "$2" "$E2E_DIR/$1"
}
count() { lines_with "$2" "$E2E_DIR/$1"; }

use main
ctl --json init "$UNLEARN_DIR" >/dev/null
PATH_SOCKET=$E2E_DIR/manager ABSTRACT=@$E2E_DIR/fleet
listen coordinator "$PATH_SOCKET"
listen fleet "$ABSTRACT"
LOG=$E2E_DIR/log

NOTIFY_SOCKET=$PATH_SOCKET WATCHDOG_USEC=600000 \
  "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR" 2>>"$LOG" 9>&- &
pid=$!
wait_for "it is ready" 30 told coordinator '^READY=1$'
expect_equal "when it says so, it answers" "$(json .alive health)" true
env_of() { tr '\0' '\n' <"/proc/$1/environ" | grep -c '^NOTIFY_SOCKET=' || true; }
wait_for "it tells how things stand" 10 told coordinator '^STATUS=0 workers, 0 open requests$'

NOTIFY_SOCKET=$ABSTRACT WATCHDOG_USEC=600000 WATCHDOG_PID=1 \
  "$E2E_BIN/unlearn-fleet" "${FLEET_KEYS[@]}" --rendezvous "$UNLEARN_DIR/run/workers" --ranks 2 2>>"$E2E_DIR/fleet.log" 9>&- &
fleet=$!
wait_for "the fleet is ready" 60 told fleet '^READY=1$'
expect_equal "when all its ranks have joined" "$(json .workers health)" 2
expect_equal "that is its status, too" "$(count fleet '^STATUS=2 of 2 ranks have joined$')" 1
wait_for "the coordinator tells of them" 10 told coordinator '^STATUS=2 workers, 0 open requests$'
mpirun=$(pgrep -P $fleet)
expect_equal "mpirun cannot speak for the fleet" "$(env_of "$mpirun")" 0
expect_equal "a watchdog that watches another process hears nothing" "$(count fleet WATCHDOG)" 0

# Alive: at least every 300 ms. A loop that hangs, though the other threads go on: silence.
before=$(count coordinator '^WATCHDOG=1$')
sleep 2
beats=$(($(count coordinator '^WATCHDOG=1$') - before))
expect_true "$beats signs of life in 2 s (600 ms of watchdog)" "5 <= beats && beats <= 8"
if build/release/e2e/notify freeze $pid 0 2>/dev/null; then
  build/release/e2e/notify freeze $pid 3 &
  frozen=$!
else
  echo "# no thread can be stopped by itself here: the whole process is"
  (kill -STOP $pid; sleep 3; kill -CONT $pid) &
  frozen=$!
fi
sleep 0.5
before=$(count coordinator '^WATCHDOG=1$')
sleep 2
expect_equal "a loop that hangs is silent" "$(($(count coordinator '^WATCHDOG=1$') - before))" 0
wait $frozen
again() { (($(count coordinator '^WATCHDOG=1$') > before)); }
wait_for "it goes on" 10 again

kill -HUP $pid
reloaded() { [[ $(count coordinator "^READY=1$") == 2 ]]; }
wait_for "it is ready again after it has read its settings" 10 reloaded
expect_equal "and had said that it reads them" "$(count coordinator "^RELOADING=1;MONOTONIC_USEC=[0-9]*$")" 1

kill -TERM $fleet
wait $fleet || true
expect_equal "the fleet says that it ends" "$(count fleet '^STOPPING=1$')" 1
kill -TERM $pid
wait $pid || true
expect_equal "and so does the coordinator, once" "$(count coordinator '^STOPPING=1$')" 1

# Nobody listens, or nonsense: said, and no reason to stay away.
start_with() { # VARIABLE=VALUE...: its log, when it has answered and ended.
  : >"$LOG"
  env "$@" "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR" 2>>"$LOG" 9>&- &
  local pid=$!
  wait_for "it starts with $*" 30 grep -q event=coordinator_started "$LOG"
  kill -TERM $pid
  wait $pid || true
  grep event=manager_not_told "$LOG" | sed 's/.*reason=//'
}
expect_equal "a socket that is gone is told" \
  "$(start_with NOTIFY_SOCKET="$E2E_DIR/gone" | grep -c 'where nobody listens: No such file')" 1
expect_equal "so is a name that is none" \
  "$(start_with NOTIFY_SOCKET=gone | grep -c 'is \\*"gone\\*", expected an absolute path or @NAME')" 1
expect_equal "and a period that is none" \
  "$(start_with NOTIFY_SOCKET="$PATH_SOCKET" WATCHDOG_USEC=soon | grep -c WATCHDOG_USEC)" 1

if command -v systemd-analyze >/dev/null; then
  for unit in deploy/systemd/*.service; do
    # As if installed: the program is where this test has it.
    sed "s#^\(ExecStart=\)/usr/bin/#\1$E2E_BIN/#" "$unit" >"$E2E_DIR/${unit##*/}"
    found=$(systemd-analyze verify --man=no "$E2E_DIR/${unit##*/}" 2>&1 | grep "${unit##*/}" || true)
    expect_equal "systemd reads ${unit##*/} without a complaint" "$found" ""
  done
fi
finish
