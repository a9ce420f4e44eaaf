#!/bin/bash
# tests/e2e/test_status.sh: what status and report tell: they count what has happened, and add up.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 24 # So many that a cell keeps somebody when one is deleted.
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

# --- status: what the workers do, what waits, and the grid of cells ---

busy() { [[ $(json .workers_busy status) == 2 ]]; }
sums='([.cells[] | .valid + .training + .waiting + .empty] | add) as $cells
  | ([.shards[] | .valid + .training + .waiting + .empty] | add) as $shards | [.components, $cells, $shards]'
adds_up() { # adds_up WHEN: cells, shards and totals say the same.
  local answer
  answer=$(json "$sums | unique | length" status m)
  expect_equal "$1: cells and shards add up to all components" "$answer" 1
  expect_equal "$1: and each state to its own" "$(json '[([.cells[].valid] | add) == .components_valid,
    ([.cells[].training] | add) == .components_training, ([.cells[].waiting] | add) == .components_waiting,
    ([.cells[].empty] | add) == .components_empty] | all' status m)" true
}
ctl --json train m --dataset digits --set hidden=256 shards=2 slices=3 sequences=2 epochs=60 >/dev/null
some_valid() { [[ $(json .components_valid status m) -ge 2 ]]; }
wait_for "the first components are valid" 60 some_valid
stand_still
wait_for "both ranks train, and stand still" 30 busy
adds_up "while it is trained"
expect_equal "each worker tells its task" \
  "$(json '[.workers[].task | test("^m s[01]:")] | all, length' status | paste -sd' ')" "true 2"
expect_equal "two components are in training" "$(json '[.cells[].training] | add' status m)" 2
cancelled=$(json .since_start.stages_cancelled status)
# One of each cell of the slices 0 and 1: whatever is valid, or being trained, has read records of one of them.
request=$(json .request delete digits --subject writer-002 writer-006 writer-009 writer-010)
expect_equal "a stage that has read what is deleted is cancelled and counted" \
  "$(($(json .since_start.stages_cancelled status) > cancelled))" 1
open_one() { [[ $(json '.requests | [.fenced.count, .erased.count, .repaired.count]' status) == '[1,0,0]' ]]; }
# The workers stand still, and what they were training on lies in their memory: it cannot be erased.
wait_for "the request is fenced, and waits for its repair" 30 open_one
first=$(json '.requests_first' status)
expect_equal "it is listed with its state, age, and what it waits for" "$(jq -c '.[] | [.request, .kind, .name, .state, .late,
  .components_awaited > 0, .samples_left > 0, .awaited_more, .age_seconds > 0]' <<<"$first")" \
  "[\"$request\",\"delete\",\"digits\",\"fenced\",false,true,true,false,true]"
expect_equal "its age is that of the oldest of its state" "$(json .requests.fenced.oldest_at status)" \
  "$(jq -r '.[].accepted_at' <<<"$first")"
adds_up "after the deletion"
ctl status >"$E2E_DIR/people"
expect_equal "people see the same" "$(grep -c "^requests  *1 open: 1 fenced (oldest\|^$request  delete  digits  fenced\|^WORKER  *RANK\|^samples a second\|^longest turn" "$E2E_DIR/people")" 5
ctl status m >"$E2E_DIR/people"
expect_equal "and a grid of shards and slices" "$(grep -c '^SHARD  SLICE 0  SLICE 1  SLICE 2\|^    [01]  [0-9]' "$E2E_DIR/people")" 3
go_on
wait_for "the training ends" 90 all_valid m
waits() { json '[.requests_open, (.requests_first | length), .requests.erased.count]' status; }
none_waits() { [[ $(waits) == "[0,0,0]" ]]; }
wait_for "nothing waits any more" 30 none_waits
ok "nothing waits any more"
adds_up "when it is trained"
expect_equal "what was trained is counted" "$(json '.since_start as $s | .last_minute as $m | [$s.samples > 0, $s.components > 0,
  $s.longest_turn_ms > 0, $m.samples <= $s.samples, $m.longest_turn_ms <= $s.longest_turn_ms]' status)" '[true,true,true,true,true]'
expect_equal "the queues are empty" "$(json '[.store_jobs, .predictions, .workers_busy, .workers_total]' status)" "[0,0,0,2]"

# --watch: again and again, until Ctrl-C; no end of a cluster with --json.
timeout -s INT 3 "$E2E_BIN/unlearnctl" status --watch >"$E2E_DIR/watched" 9>&- || true
expect_true "--watch tells again and again" "$(lines_with '^coordinator' "$E2E_DIR/watched") >= 2"
expect_equal "into a file it does not clear the screen" "$(lines_with $'\033' "$E2E_DIR/watched")" 0
timeout -s INT 3 script -qec "exec $E2E_BIN/unlearnctl status --watch" /dev/null >"$E2E_DIR/screen" 2>&1 </dev/null 9>&- || true
expect_true "on a terminal it draws anew in the same place" "$(lines_with $'\033\\[H.*coordinator' "$E2E_DIR/screen") >= 2"
expect_exit 2 "--watch with --json" ctl --json status --watch
expect_equal "and of a model that is trained once" "$(json .state status m --watch)" trained
expect_exit 3 'no model "nobody"' ctl status nobody

# Limits: what they are, and how often they were met. Whoever asks for too much waits, and is answered.
expect_equal "limits are told, and nothing has met them" \
  "$(json '.limits | [.requests_per_s, .bytes_per_s, .delete_ids_per_s, .store_queue | .refused] + [.requests_per_s.most,
    .clients.connections >= 1, .workers.connections >= 2, .clients.cut_waiting]' status)" "[0,0,0,0,20000,true,true,0]"
down
sed -i 's/^requests_per_s:.*/requests_per_s: 1/' "$UNLEARN_DIR/config.yaml"
up 2
for _ in 1 2 3 4; do ctl --json dataset list >/dev/null; done
expect_equal "who asks too often is told to wait, and is answered" \
  "$(json '.limits.requests_per_s | [.most, .refused > 0]' status)" "[1,true]"
ctl status >"$E2E_DIR/people"
expect_equal "people see it" "$(grep -c '^limits  .* connections of clients.* [1-9][0-9]* requests refused' "$E2E_DIR/people")" 1
down
finish
