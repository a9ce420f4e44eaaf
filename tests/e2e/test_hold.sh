#!/bin/bash
# tests/e2e/test_hold.sh: what is on legal hold is not deleted, whoever asks and however; the rest is.
E2E_SECONDS=180
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

today=$(date -u +%F)
people "$E2E_DIR/people.csv" 400
ROWS=("$E2E_DIR/people.csv" --label wage --subject who)
rows_of() { awk -F, -v who="$1" 'NR > 1 && $1 == who { print NR - 2 }' "$E2E_DIR/people.csv"; }
count_of() { rows_of "$1" | wc -l; }
denied() { json '.denied_because | [.not_found, .held, .conflict]' report --since "$today"; }
kept() { json '.records | length' show people --subject "$1"; }

start main 2
ctl --json import people "${ROWS[@]}" >/dev/null
ctl --json train m --dataset people --set hidden=4 epochs=2 shards=2 slices=2 --wait >/dev/null
before=$(digests m)

# --- Put, and refused ---

REASON='case 17/2026, Ångström & Co'
expect_equal "a subject is put on hold" \
  "$(json '[.subject, .reason, (.held_at | length > 0)]' hold people --subject p03 --reason "$REASON")" \
  "[\"p03\",\"$REASON\",true]"
since=$(json '.holds[0].held_at' hold list people)
expect_equal "the same again changes nothing" \
  "$(json '.held_at' hold people --subject p03 --reason "$REASON")" "$since"
expect_exit 4 "it is on hold already, for another reason" ctl hold people --subject p03 --reason other
expect_exit 4 "it is on legal hold: $REASON" ctl delete people --subject p03
first=$(rows_of p03 | head -1)
expect_exit 4 "it is on legal hold: $REASON" ctl delete people --record "$first"
expect_exit 4 "all of it is on legal hold: $REASON" ctl delete people --record $(rows_of p03)
expect_exit 4 "some of it is on legal hold, and nothing else of it is there: $REASON" \
  ctl delete people --record "$first" 999999
same_everywhere "nothing has changed" "$(digests m)" "$before"
expect_equal "refused deletions are counted as such" "$(denied)" "[0,4,0]"
expect_equal "nor is a request left" "$(json '.requests_open' status)" 0
expect_equal "plan counts what would stay" \
  "$(json '[.records, .records_held]' plan people --subject p03 p04)" "[$(count_of p04),$(count_of p03)]"
expect_equal "and plans for what is on hold alone" \
  "$(json '[.records, .records_held]' plan people --subject p03)" "[0,$(count_of p03)]"

# --- Of a mixed request the rest goes ---

UUID=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8d01
gone=$(rows_of p05 | head -1)
ask=(delete people --record "$first" "$gone" "$gone" 999999 --request $UUID)
answer='[.records_deleted, .ids.deleted, .ids.already_deleted, .ids.not_found, .ids.held, .records_held]'
expect_equal "the answer says how many got which, and why some stay" \
  "$(json "$answer + [.hold_reason]" "${ask[@]}" --wait completed)" "[1,2,0,1,1,1,null]"
expect_equal "the same request again has the same answer" "$(json "$answer" "${ask[@]}")" "[1,2,0,1,1,1]"
expect_equal "its acknowledgement says why" \
  "$(json '[.ids.deleted, .hold_reason]' delete people --record "$first" "$(rows_of p05 | sed -n 2p)")" \
  "[1,\"$REASON\"]"
ctl delete people --record "$first" "$(rows_of p05 | sed -n 3p)" >"$E2E_DIR/answer"
expect_equal "people are told, too" "$(grep -c "1 on hold\|on hold    1 records stay: $REASON" "$E2E_DIR/answer")" 2
expect_equal "all of it is still there" "$(kept p03)" "$(count_of p03)"

# --- One record of a subject ---

one=$(rows_of p07 | head -1)
expect_equal "a record is put on hold" "$(json '[.record, .reason]' hold people --record "$one" --reason why)" \
  "[\"$one\",\"why\"]"
expect_equal "deleting its subject deletes the others, and says how many stay" \
  "$(json "$answer + [.hold_reason]" delete people --subject p07 --request 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8d02)" \
  "[$(($(count_of p07) - 1)),1,0,0,0,1,\"why\"]"
expect_equal "the one stays" "$(json '[.records[].id]' show people --subject p07)" "[\"$one\"]"
expect_exit 4 "it is on legal hold: why" ctl delete people --subject p07
expect_equal "a deleted record of the subject does not come back, and the held one is there already" \
  "$(json '[.records, .skipped]' import people "${ROWS[@]}")" "[0,400]"

# --- What cannot be held ---

expect_exit 3 "no record of this id is known" ctl hold people --record 999999 --reason x
expect_exit 3 "no record of this subject is known" ctl hold people --subject nobody --reason x
expect_exit 3 "no record of this id is left to hold: it was deleted" ctl hold people --record "$gone" --reason x
ctl --json delete people --subject p09 >/dev/null
expect_exit 3 "no record of this subject is left to hold: it was deleted" ctl hold people --subject p09 --reason x
expect_exit 3 'dataset "nowhere"' ctl hold nowhere --subject p03 --reason x
expect_exit 3 'this subject is not on hold' ctl hold release people --subject p04
expect_exit 3 'this record is not on hold' ctl hold release people --record "$first"
expect_exit 2 "why?" ctl hold people --subject p04
expect_exit 2 "nobody is given" ctl hold people --reason x
expect_exit 2 "both are given" ctl hold people --record 1 --subject p04 --reason x
expect_exit 2 "reason" ctl hold people --subject p04 --reason "$(printf 'x%.0s' {1..256})"
expect_exit 2 "expected DATASET" ctl hold
expect_exit 4 "on legal hold: release them first" ctl dataset remove people

# --- The list, and after a crash ---

for i in $(seq 10 39); do
  ctl --json hold people --subject "p$i" --reason "case $i" >/dev/null
done
list() { json '[.holds[] | "\(.record // "") \(.subject // "") \(.reason)"] | sort' hold list people; }
listed=$(list)
expect_equal "the list has them all" "$(jq length <<<"$listed")" 32
expect_equal "with whom and why" "$(jq "index(\" p03 $REASON\") != null and index(\"$one  why\") != null" <<<"$listed")" true
pid=$(coordinator_pid)
kill -KILL "$pid"
wait_for "the coordinator is gone" 10 gone "$pid"
up 2
expect_equal "after kill -9 it is the same" "$(list)" "$listed"
expect_exit 4 "it is on legal hold: $REASON" ctl delete people --subject p03
ctl hold list people >"$E2E_DIR/table"
expect_equal "people get a table" "$(grep -c "^subject  *p03 .* $REASON\|^record  *$one .* why" "$E2E_DIR/table")" 2

# --- Released ---

expect_equal "released" "$(json '[.subject, .released]' hold release people --subject p03)" '["p03",true]'
expect_exit 3 'this subject is not on hold' ctl hold release people --subject p03
expect_equal "then it is deleted" "$(json "$answer" delete people --subject p03 --wait completed)" \
  "[$(count_of p03),1,0,0,0,0]"
expect_exit 3 "nothing is held" ctl show people --subject p03
ctl --json hold release people --record "$one" >/dev/null
expect_equal "so is the record" "$(json "$answer" delete people --subject p07 --wait completed)" "[1,1,0,0,0,0]"
verified m
for i in $(seq 10 39); do
  ctl --json hold release people --subject "p$i" >/dev/null
done
expect_equal "none is left" "$(list)" "[]"
expect_equal "the dataset can be removed" "$(json .kind dataset remove people)" "remove dataset"

# --- Nobody is named ---

ctl receipt $UUID -o "$E2E_DIR/receipt" >/dev/null
files_with() { { grep -laE "$1" "$UNLEARN_DIR"/run/unlearnd.log "$E2E_DIR/receipt" || true; } | wc -l; }
expect_equal "no log and no receipt has a reason or a name" \
  "$(files_with 'deletion_fenced|UNLRCT') $(files_with 'case 17|Ångström|case 3[0-9]|p03|p07')" "2 0"
printf 'case 17/2026\ncase 33\n' >"$E2E_DIR/needles"
expect_equal "and nothing on the disk has a reason that was given" \
  "$(json .found scan "$UNLEARN_DIR" --needle "$E2E_DIR/needles")" 0
down
finish
