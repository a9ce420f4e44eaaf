#!/bin/bash
# tests/e2e/test_server.sh: what an operator does on the coordinator's machine: logs, and settings that are read
# again while it runs, by unlearnctl reload and by SIGHUP.
E2E_SECONDS=120
source "$(dirname "$0")/lib.sh"

start main 1
sample data 12
LOG=$UNLEARN_DIR/run/unlearnd.log
CONFIG=$UNLEARN_DIR/config.yaml
set_to() { sed -i "s#^$1:.*#$1: $2#" "$CONFIG"; }

# --- reload

expect_equal "nothing has changed" "$(json . reload)" '{"restart":[],"taken":[]}'
set_to due 5d
set_to log_level debug
set_to ranks 3
set_to predict_threads 3
set_to listen tcp://127.0.0.1:7070
expect_equal "it tells what is taken over, and what waits" "$(json '.taken, .restart | sort | join(" ")' reload | paste -sd'|')" \
  "due log_level ranks|listen predict_threads"
expect_equal "again: what waits still does" "$(json '.taken, .restart | sort | join(" ")' reload | paste -sd'|')" "|listen predict_threads"
expect_equal "people read a sentence" "$(ctl reload "$UNLEARN_DIR")" "waits for a restart: listen predict_threads"
ctl --json import digits "${TRAIN[@]}" >/dev/null
request=$(json .request delete digits --record 3)
days=$(json '((.due_at | sub("\\.[0-9]+Z$"; "Z") | fromdate) - (.accepted_at | sub("\\.[0-9]+Z$"; "Z") | fromdate)) / 86400' \
  status "$request")
expect_equal "a deletion is due in five days now" "$days" 5
set_to log_level error
ctl reload >/dev/null
before=$(wc -l <"$LOG")
ctl --json delete digits --record 4 >/dev/null
expect_equal "at level error nothing is logged of a deletion" "$(wc -l <"$LOG")" "$before"
set_to log_level info
pid=$(coordinator_pid)
kill -HUP "$pid"
logged() { tail -n +$((before + 1)) "$LOG" | grep -q 'event=settings_read taken=" log_level"'; }
wait_for "SIGHUP does the same" 10 logged
ok "SIGHUP does the same"
expect_equal "it is the same process" "$(coordinator_pid)" "$pid"

cp "$CONFIG" "$E2E_DIR/config"
set_to due yesterday
set_to log_level error
expect_exit 2 "nothing was changed|due" ctl reload
expect_equal "that is logged" "$(lines_with 'event=settings_refused' "$LOG")" 1
echo "log_levels: info" >>"$E2E_DIR/config"
cp "$E2E_DIR/config" "$CONFIG"
expect_exit 2 "unknown key|log_levels" ctl reload
sed -i '/^log_levels/d' "$CONFIG"
set_to log_level loud
expect_exit 2 "log_level is|expected debug, info or error" ctl reload
set_to log_level info
kill -STOP "$pid"
expect_exit 5 "does not answer" ctl reload
kill -CONT "$pid"

# --- logs

# What had been stopped is told yet: a rank that comes back.
rests() {
  local before
  before=$(cat "$LOG" "$UNLEARN_DIR/run/fleet.log" | wc -l)
  sleep 1
  (($(cat "$LOG" "$UNLEARN_DIR/run/fleet.log" | wc -l) == before))
}
wait_for "nothing more is told" 30 rests
expect_equal "the last line of the log" "$(ctl logs --lines 1)" "$(tail -n 1 "$LOG")"
expect_equal "as many as are asked for" "$(ctl logs "$UNLEARN_DIR" -n 7)" "$(tail -n 7 "$LOG")"
expect_equal "all, where there are not so many" "$(ctl logs --lines 10000)" "$(cat "$LOG")"
expect_equal "none" "$(ctl logs --lines 0)" ""
expect_equal "of the fleet" "$(ctl logs --fleet --lines 3)" "$(tail -n 3 "$UNLEARN_DIR/run/fleet.log")"
expect_equal "in one object" "$(json '.lines | length' logs --lines 4)" 4
# No function of lib.sh: that would be a subshell of its own, which ends as its command does not.
"$E2E_BIN/unlearnctl" logs --follow --lines 2 >"$E2E_DIR/followed" 2>"$E2E_DIR/error" 9>&- & follower=$!
seen() { grep -q "$1" "$E2E_DIR/followed"; }
wait_for "two lines come at once" 10 test -s "$E2E_DIR/followed"
ctl --json delete digits --record 5 >/dev/null
wait_for "what is logged afterwards comes, too" 10 seen 'event=deletion_fenced\|event=deletion'
: >"$LOG" # As logrotate does with copytruncate.
ctl reload >/dev/null
wait_for "a log that is cut is followed from its beginning" 10 seen 'event=settings_read'
cp "$LOG" "$LOG.new"
echo "t=now event=another_file" >>"$LOG.new"
mv "$LOG.new" "$LOG"
wait_for "so is one that takes its place" 10 seen another_file
ok "a log is followed: growing, cut, replaced"
kill -INT "$follower"
code=0
wait $follower || code=$?
expect_equal "Ctrl-C ends it in order" "$code" 0
expect_exit 2 "--follow has no end" ctl logs --follow --json
expect_exit 3 "no cluster" ctl logs "$E2E_DIR/nowhere"
rm "$UNLEARN_DIR/run/fleet.log"
expect_exit 3 "fleet.log|journalctl" ctl logs --fleet
down
expect_exit 5 "no coordinator runs" ctl reload

# What the settings say holds from the start, unless the command line says something else.
set_to listen 'tcp://127.0.0.1:*'
set_to log_level error
: >"$LOG"
up 0
expect_equal "log_level holds from the start" "$(lines_with event=coordinator_started "$LOG")" 0
down
finish
