#!/bin/bash
# tests/e2e/test_restart.sh: an acknowledged deletion survives kill -9 of the coordinator, goes on
# by itself after the next start, and takes effect once.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 16
SPEC=(hidden=256 shards=2 slices=2 epochs=40)
REQUEST=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8a01
SECOND=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8a02

kill_coordinator() {
  local pid
  pid=$(coordinator_pid)
  kill -KILL "$pid"
  wait_for "the coordinator is gone" 10 gone "$pid"
}
state_of() { json .state status "$1"; }
has_state() { [[ $(state_of "$1") == "$2" ]]; }
repair_runs() { [[ $(json '.components_training' status m) -ge 1 ]]; } # Not erased: workers still hold it.

start main 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
before=$(digests m)

# In the middle of a repair.
stand_still
ack=$(json '[.request, .records_deleted, .components_invalidated, .epoch]' delete digits \
  --subject writer-003 --request "$REQUEST")
wait_for "the repair runs" 30 repair_runs
kill_coordinator
go_on
expect_exit 5 "no coordinator|unlearnctl up" ctl status m
up 2
expect_equal "after kill -9 inside a repair the request is known and not completed" \
  "$(state_of "$REQUEST" | sed 's/^\(fenced\|erased\|repaired\)$/open/')" open
wait_for "the request goes on to completed by itself" 60 has_state "$REQUEST" completed
ok "killed inside a repair: started again, the request went on to completed"
expect_equal "the same request again gives the same answer" \
  "$(json '[.request, .records_deleted, .components_invalidated, .epoch]' delete digits \
    --subject writer-003 --request "$REQUEST")" "$ack"
expect_exit 4 "UUID was used before|another body" ctl delete digits --subject writer-004 \
  --request "$REQUEST"
expect_equal "the refused body deleted nothing" "$(json .records plan digits --subject writer-004)" \
  "$(ids_of writer-004 | wc -l)"
expect_equal "times of the states rise" "$(json '[.accepted_at, .fenced_at, .erased_at, .repaired_at,
  .completed_at] | (. == sort and all(. != null))' status "$REQUEST")" true
verified m

# Straight after the ack: the repair may not have begun.
ack=$(json .epoch delete digits --subject writer-009 --request "$SECOND")
kill_coordinator
up 2
expect_true "the epoch has not gone back" "$(json .epoch status) >= $ack"
wait_for "the second request goes on to completed" 60 has_state "$SECOND" completed
ok "killed straight after the ack: the request went on to completed"
expect_exit 3 "none of the|known" ctl plan digits --subject writer-009
expect_exit 3 "none of the|known" ctl plan digits --record "$(ids_of writer-009 | head -1)"
verified m

# Between ack and erasure: many records take several batches, and the signal follows the ack at
# once. The log tells whether it came in time; where not, once more.
seq 0 2999 >"$E2E_DIR/many"
SAMPLE=("${TRAIN[@]}")
KEPT=$SUBJECTS
sample big 64
hit=''
for n in 1 2 3 4 5 6; do
  ctl --json import "big$n" "${TRAIN[@]}" >/dev/null
  request=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8b0$n
  pid=$(coordinator_pid)
  ctl --json delete "big$n" --from-csv "$E2E_DIR/many" --request "$request" >"$SCRATCH/answer"
  kill -KILL "$pid"
  wait_for "the coordinator is gone" 10 gone "$pid"
  grep -q "event=request_erased request=$request" "$UNLEARN_DIR/run/unlearnd.log" || hit=$n
  up 2
  expect_equal "3000 records were acknowledged and are no longer found" \
    "$(json .records_deleted status "$request") $(json '.datasets[] | select(.dataset == "big'$n'").records' dataset list)" \
    "3000 $(($(wc -l <"$SUBJECTS") - 3000))"
  wait_for "the erasure completes" 30 has_state "$request" completed
  [[ -z $hit ]] || break
done
if [[ -n $hit ]]; then
  ok "killed between ack and erasure, at try $hit: the erasure went on"
else
  echo "# not shown: each of $n kills came after the erasure"
fi

# Many single deletions at once share the steps that follow: killed among these, three times.
ctl --json import flood "${TRAIN[@]}" >/dev/null
: >"$SCRATCH/acked"
one_by_one() {
  local i
  for ((i = $1; i < $1 + 160; i++)); do
    ctl --json delete flood --record "$i" >/dev/null 2>&1 || return 0
    echo "$i" >>"$SCRATCH/acked"
  done
}
acked() { [[ $(wc -l <"$SCRATCH/acked") -ge $1 ]]; }
for round in 1 2 3; do
  had=$(wc -l <"$SCRATCH/acked")
  loops=()
  for n in 0 1 2 3 4 5; do
    one_by_one $((1000 * (round - 1) + 160 * n)) &
    loops+=($!)
  done
  wait_for "deletions are acknowledged" 30 acked $((had + 40 * round))
  kill_coordinator
  for pid in "${loops[@]}"; do
    pkill -TERM -P "$pid" || true # It would wait a minute for an answer.
  done
  wait "${loops[@]}" || true
  up 2
done
nothing_open() { [[ $(json '.requests_open' status) == 0 ]]; }
wait_for "all requests complete" 60 nothing_open
expect_equal "each record whose deletion was acknowledged is gone" \
  "$(while read -r id; do ctl plan flood --record "$id" >/dev/null 2>&1 && echo "$id"; done \
    <"$SCRATCH/acked")" ""
expect_true "the log has a receipt for each" \
  "$(json .size log head) >= $(wc -l <"$SCRATCH/acked")"
ok "killed three times in a flood of single deletions ($(wc -l <"$SCRATCH/acked") acknowledged): all went on to completed"

# In the middle of an import, which is held half way: it has not landed at all, and can be made again.
sample large 400
import_runs() { [[ $(json .store_bytes status) -gt $((size + 2000000)) ]]; }
size=$(json .store_bytes status)
hold large 8000000
ctl --json import large "${TRAIN[@]}" --dir "$HELD" >/dev/null 2>&1 || true &
import=$!
wait_for "an import is under way" 30 import_runs
kill_coordinator
up 2
expect_equal "nothing of the import has landed" \
  "$(json '[.datasets[] | select(.dataset == "large").records] | add' dataset list)" null
expect_equal "the same import again lands whole" "$(json '[.records, .skipped]' import large "${TRAIN[@]}")" \
  "[$(wc -l <"$SUBJECTS"),0]"
pkill -TERM -P "$import" || true # It would wait a minute for an answer.
wait "$import"
TRAIN=("${SAMPLE[@]}") SUBJECTS=$KEPT

# Fleet and coordinator together, while idle; and a training that had begun.
ctl --json train n --dataset digits --set "${SPEC[@]}" seed=8 >/dev/null
trains() { [[ $(json '.components_training' status n) -ge 1 ]]; }
wait_for "a training runs" 30 trains
kill_coordinator
down
up 2
wait_for "a training goes on after a kill -9" 90 all_valid n
ok "killed inside a training: started again, it went on"
found=$(digests m; digests n)
{ ids_of writer-003; ids_of writer-009; } >"$E2E_DIR/except"
as_if_never never digits "$E2E_DIR/except" 2 "${TRAIN[@]}"
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
ctl --json train n --dataset digits --set "${SPEC[@]}" seed=8 --wait >/dev/null
same_everywhere "digests are those of a cluster that never saw the two writers" "$found" \
  "$(digests m; digests n)"
expect_differ "and they are not those from before the deletions" "$found" "$before"
down
use main
down
# Also the fleets of the coordinators that were killed: a fleet must not outlive its cluster.
programs_left() {
  local pid
  for pid in $(ours); do
    case $(cat "/proc/$pid/comm" 2>/dev/null || true) in
      unlearnd | unlearn-* | mpirun | orted) echo -n "$pid $(cat "/proc/$pid/comm" 2>/dev/null) " ;;
    esac
  done
}
expect_equal "after down no process is left" "$(programs_left)" ""
finish
