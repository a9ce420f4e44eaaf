#!/bin/bash
# tests/e2e/test_bulk.sh: deletions of many ids: an answer to each, others meanwhile, kill -9 in the middle;
# in the middle of everything else that a cluster does; and of everything.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

# rows FILE COUNT [COLUMN]: a row an id, told apart by its numbers.
rows() {
  awk -v count="$2" 'BEGIN { print "a,b,c,y"; for (i = 0; i < count; i++)
    printf "%d,%d,%.3f,%d\n", i % 97, i % 89, i / 1000, (i * 7 + int(i / 13)) % 3 == 0 }' >"$1"
}
SPEC=(learner=softmax shards=4 slices=3 sequences=2 epochs=1 batch=64)
UUID=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8e
answers() { cut -d, -f2 "$1" | sort | uniq -c | sed 's/^ *//' | tr '\n' ','; }
fenced() { json .state status "$1" 2>/dev/null | grep -q 'fenced\|erased\|repaired\|completed'; }
completed() { [[ $(json .state status "$1") == completed ]]; }
records() { json '[.datasets[] | select(.dataset == "'"$1"'").records] | add' dataset list; }
range() { # range FROM TO [PREFIX]: a file of ids, whose name it prints.
  seq "$1" "$2" | sed "s/^/${3:-}/" >"$E2E_DIR/ids-${3:-}$1-$2"
  echo "$E2E_DIR/ids-${3:-}$1-$2"
}

start main 2
rows "$E2E_DIR/d.csv" 30000
IMPORT=("$E2E_DIR/d.csv" --label y)
ctl --json import d "${IMPORT[@]}" >/dev/null
ctl --json train m --dataset d --set "${SPEC[@]}" --wait >/dev/null

# --- A million ids, of which nearly all are unknown; others go on meanwhile ---

{ seq 2000 11999; seq 100000 1088575; } >"$E2E_DIR/million" # 998,576
{ seq 2000 5 6000 ; for i in $(seq 10); do echo 7777; done; } >>"$E2E_DIR/million"
total=$(wc -l <"$E2E_DIR/million")
: >"$E2E_DIR/going"
( # Single deletions and predictions, one after the other.
  SCRATCH=$E2E_DIR/side
  mkdir "$SCRATCH"
  for ((id = 29000; id < 30000; id++)); do
    [[ -e $E2E_DIR/going ]] || break
    json .records_deleted delete d --record "$id" >>"$SCRATCH/deleted"
    ctl --json predict m "$E2E_DIR/d.csv" --limit 5 2>/dev/null | jq -rc .shards_total >>"$SCRATCH/predicted" ||
      echo none >>"$SCRATCH/predicted"
  done
) &
SIDE=$!
began=$(date +%s%N)
answer=$(json '[.records_deleted, .ids.deleted, .ids.already_deleted, .ids.not_found, .ids.held]' \
  delete d --from-csv "$E2E_DIR/million" --request ${UUID}01 --answers "$E2E_DIR/answers")
took=$((($(date +%s%N) - began) / 1000000))
rm "$E2E_DIR/going"
wait "$SIDE"
expect_equal "$total ids in $took ms: the answer counts them" "$answer" "[10000,10811,0,988576,0]"
expect_equal "the file has a line for each" "$(answers "$E2E_DIR/answers")" \
  "1 answer,10811 deleted,988576 not found,"
expect_equal "in the order in which they were asked for" \
  "$(cut -d, -f1 "$E2E_DIR/answers" | tail -n +2 | cmp - "$E2E_DIR/million" && echo same)" same
expect_equal "the same id ten times has ten answers" "$(tail -10 "$E2E_DIR/answers" | sort | uniq -c | sed 's/^ *//')" \
  "10 7777,deleted"
expect_number "$(wc -l <"$E2E_DIR/side/deleted") single deletions went on meanwhile" \
  "$(grep -c '^1$' "$E2E_DIR/side/deleted")" '>=' 5
expect_number "and predictions: $(sort "$E2E_DIR/side/predicted" | uniq -c | tr -s ' \n' ' ')" \
  "$(wc -l <"$E2E_DIR/side/predicted")" '>=' 5
turn=$(json .since_start.longest_turn_ms status)
# 20 ms are what it may take (bench/deletions.c); here others may have the processor meanwhile.
expect_number "the main loop's longest turn: $turn ms" "$turn" '<=' 100
single=$(wc -l <"$E2E_DIR/side/deleted")
expect_equal "nothing of the dataset was leased while it was fenced" \
  "$(awk -v uuid="request=${UUID}01" '/event=bulk_sealed .*ids=999/ { inside = 1; seen++ }
    index($0, uuid) && /event=deletion_fenced/ { inside = 0; seen++ }
    inside && /event=lease_granted/ { leased++ } END { print seen, leased + 0 }' "$UNLEARN_DIR/run/unlearnd.log")" "2 0"
expect_equal "the records have gone" "$(records d)" $((30000 - 10000 - single))
expect_equal "the same request again has the same answers" \
  "$(json '[.records_deleted, .ids.not_found]' delete d --from-csv "$E2E_DIR/million" --request ${UUID}01 \
    --answers "$E2E_DIR/again") $(cmp "$E2E_DIR/answers" "$E2E_DIR/again" && echo same)" "[10000,988576] same"
expect_exit 4 "UUID was used before with another body" \
  ctl delete d --from-csv "$(range 2000 2999)" --request ${UUID}01
printf '"id"\n2000\n"100000",x\n29999\n' >"$E2E_DIR/few"
expect_equal "each answer of a few" "$(json .records_deleted delete d --from-csv "$E2E_DIR/few" \
  --answers "$E2E_DIR/answers") $(tr '\n' ' ' <"$E2E_DIR/answers")" \
  "1 id,answer 2000,already deleted 100000,not found 29999,deleted "
expect_exit 3 "none of the 1000 records" ctl delete d --from-csv "$(range 200001 201000)"
{ cat "$E2E_DIR/million"; seq 3000000 3200000; } >"$E2E_DIR/too_many"
expect_exit 4 "has more than 1048576 ids" ctl delete d --from-csv "$E2E_DIR/too_many"
wait_for "it is repaired" 60 completed ${UUID}01
verified m

# --- kill -9 in the middle of the fence, and of the upload ---

rows "$E2E_DIR/e.csv" 60000
ctl --json import e "$E2E_DIR/e.csv" --label y >/dev/null
ctl --json train e --dataset e --set "${SPEC[@]}" --wait >/dev/null
under_way() { { ctl status ${UUID}02 2>&1 || true; } | grep -qE 'not acknowledged yet: [1-9][0-9]* of its 50000'; }
ctl --json delete e --from-csv "$(range 0 49999)" --request ${UUID}02 >"$E2E_DIR/waited" 2>&1 || true &
ASK=$!
wait_for "the fence is under way" 30 under_way
pid=$(coordinator_pid)
kill -KILL "$pid"
wait_for "the coordinator is gone" 10 gone "$pid"
expect_equal "it was not acknowledged" "$(grep -c "event=deletion_fenced request=${UUID}02" "$UNLEARN_DIR/run/unlearnd.log" || true)" 0
up 2
expect_equal "it is known again at the start" "$(grep -c 'event=bulk_resumed .* ids=50000' "$UNLEARN_DIR/run/unlearnd.log")" 1
wait_for "and goes on by itself" 30 fenced ${UUID}02
wait "$ASK"
expect_equal "who has waited all the time is told" "$(jq -c '[.records_deleted, .ids.deleted]' "$E2E_DIR/waited")" "[50000,50000]"
answer=$(json '[.records_deleted, .ids.deleted, .ids.not_found]' delete e --from-csv "$(range 0 49999)" --request ${UUID}02 \
  --answers "$E2E_DIR/answers")
expect_equal "every id has its answer" "$answer $(answers "$E2E_DIR/answers")" \
  "[50000,50000,0] 1 answer,50000 deleted,"
expect_equal "and its record has gone" "$(records e)" 10000
wait_for "it is repaired" 60 completed ${UUID}02
verified e
found=$(digests e)

held=$(records d)
hold half 60000
ctl --json delete d --from-csv "$(range 12000 27999)" --request ${UUID}03 --dir "$HELD" >/dev/null 2>&1 || true &
ASK=$!
half() { { ctl status ${UUID}03 2>&1 || true; } | grep -q 'not acknowledged yet: 0 of its [1-9]'; }
wait_for "half of the ids have come" 30 half
pid=$(coordinator_pid)
kill -KILL "$pid"
wait_for "the coordinator is gone" 10 gone "$pid"
pkill -TERM -P "$ASK" || true # It would wait a minute for an answer.
wait "$ASK" || true
up 2
expect_exit 3 "no request with this UUID" ctl status ${UUID}03
expect_equal "what had not come whole has done nothing" "$(records d)" "$held"
expect_equal "asked again it is done" "$(json .records_deleted delete d --from-csv "$(range 12000 27999)" --request ${UUID}03)" 16000

# --- In the middle of a training, a verification, a compaction, an import, a move to another profile ---

trains() { [[ $(json '.components_training' status "$1") -ge 1 ]]; }
rows "$E2E_DIR/f.csv" 40000
ctl --json import f "$E2E_DIR/f.csv" --label y >/dev/null
ctl --json train f --dataset f --set "${SPEC[@]}" epochs=6 >/dev/null
wait_for "a training runs" 30 trains f
at=0
bulk() { # bulk NAME: 3,000 more ids of f.
  expect_equal "3000 records during $1" "$(json .records_deleted delete f --from-csv "$(range $at $((at + 2999)))")" 3000
  at=$((at + 3000))
}
bulk "a training"
wait_for "it is trained" 60 all_valid f
(SCRATCH=$E2E_DIR/side; ctl --json verify f --components all >"$SCRATCH/verify" 2>&1) &
SIDE=$!
verifies() { json '.workers[].task' status | grep -q 'f s'; }
wait_for "a verification runs" 30 verifies
bulk "a verification"
wait "$SIDE"
expect_equal "it found no difference" "$(jq .different "$E2E_DIR/side/verify")" 0
(SCRATCH=$E2E_DIR/side; ctl --json compact >"$SCRATCH/compact" 2>&1) &
SIDE=$!
bulk "a compaction"
wait "$SIDE"
expect_equal "it is compacted" "$(jq 'has("error")' "$E2E_DIR/side/compact")" false
sed '1!s/^/9/' "$E2E_DIR/f.csv" >"$E2E_DIR/g.csv"
(SCRATCH=$E2E_DIR/side; ctl --json import f "$E2E_DIR/g.csv" --label y --id-prefix g >"$SCRATCH/import" 2>&1) &
SIDE=$!
bulk "an import"
wait "$SIDE"
expect_equal "it has landed" "$(jq .records "$E2E_DIR/side/import")" 40000
expect_equal "with ids that can be deleted" \
  "$(json .records_deleted delete f --from-csv "$(range 0 999 g)")" 1000
ctl --json train f --wait >/dev/null
if grep -qm1 sse4_2 /proc/cpuinfo; then
  down
  sed -i 's/^blas_core:.*/blas_core: Nehalem/' "$UNLEARN_DIR/config.yaml"
  up 2
  ctl --json train f --reprofile >/dev/null
  wait_for "the model moves to another profile" 30 trains f
  bulk "a move to another numeric profile"
  wait_for "it has moved" 90 all_valid f
  expect_equal "all of it" "$(json '[.components[] | select(.state == "valid") | .core] | unique' components f)" '["Nehalem"]'
fi
verified f

# --- Everything ---

cat "$(range 0 39999)" "$(range 0 39999 g)" >"$E2E_DIR/both"
before=$(records f)
expect_equal "all that there is" "$(json '[.records_deleted, .ids.not_found]' delete f --from-csv "$E2E_DIR/both" \
  --request ${UUID}04)" "[$before,0]"
expect_equal "nothing is left" "$(records f)" 0
expect_exit 5 "no shard of model|all that it was trained on was deleted" ctl predict f "$E2E_DIR/f.csv" --limit 1
expect_exit 5 "no shard of model" ctl evaluate f "$E2E_DIR/f.csv" --limit 1
expect_equal "deleted ids do not come back" "$(json '[.records, .skipped]' import f "$E2E_DIR/f.csv" --label y)" "[0,40000]"
expect_equal "new ones are imported" "$(json .records import f "$E2E_DIR/f.csv" --label y --id-prefix h --limit 5000)" 5000
ctl --json train f --wait >/dev/null
expect_equal "and learnt" "$(json '.predictions | length' predict f "$E2E_DIR/f.csv" --limit 7)" 7
verified f
down
finish
