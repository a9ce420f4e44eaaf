#!/bin/bash
# tests/e2e/test_flood.sh: floods of deletions: 100,000 from one owner, and from 100 owners at once. Each is
# acknowledged and carried out, nobody waits much longer than others, predictions go on, and what is trained anew
# is trained for many deletions together.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

FLOOD=build/release/e2e/flood PULSE=build/release/e2e/pulse
SLOWEST_MS=2000 # Of an answer to others; on an idle machine it is some 100.
OWNERS=100 EACH=50 # Deletions of each of them.
ROWS=110000
ulimit -n 4096 2>/dev/null || skip "100 clients need more open files than $(ulimit -n)"
# Stages that were begun: also those that a deletion broke off.
begun() { lines_with 'event=lease_granted' "$UNLEARN_DIR/run/unlearnd.log"; }
left() { json .records dataset show people; }

# beside COMMAND...: it runs, and a client meanwhile asks a model that loses nothing. What it found goes to $E2E_DIR/predictions.
beside() {
  local asking
  "$PULSE" "$UNLEARN_DIR" 120 other 10 786 >"$E2E_DIR/predictions" 2>"$E2E_DIR/predictions.error" 9>&- & asking=$!
  "$@"
  kill -TERM "$asking"
  wait "$asking"
}
served() { # served WHAT
  local answered failed slowest
  read -r answered failed slowest <<<"$(jq -r '"\(.answered) \(.failed) \(.max | ceil)"' "$E2E_DIR/predictions")"
  ((failed == 0)) || sed 's/^/#   /' "$E2E_DIR/predictions.error" | sort | uniq -c | head -3
  expect_true "$1: meanwhile $answered predictions were answered, $failed not, the slowest after $slowest ms" \
    "answered > 100 && failed == 0 && slowest < $SLOWEST_MS"
}
# flood NAME FIRST EACH IDS KEY...: what it found goes to $E2E_DIR/NAME.
flood() {
  local name=$1
  shift
  timeout 120 "$FLOOD" "$UNLEARN_DIR" people "$@" >"$E2E_DIR/$name" 2>"$E2E_DIR/$name.error" 9>&-
  [[ ! -s $E2E_DIR/$name.error ]] || sed 's/^/#   /' "$E2E_DIR/$name.error" | sort | uniq -c | sort -rn | head -3
}
told() { jq -r "$2" "$E2E_DIR/$1"; }

start flood 1
people "$E2E_DIR/people.csv" "$ROWS"
ctl --json import people "$E2E_DIR/people.csv" --label wage >/dev/null
ctl --json train m --dataset people --set learner=softmax shards=4 slices=4 epochs=1 --wait >/dev/null
sample data 12
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train other --dataset digits --set hidden=16 shards=2 slices=2 epochs=3 --wait >/dev/null
for ((i = 0; i < OWNERS; i++)); do
  ctl --json key add "owner-$i" --role owner --dataset people --output "$E2E_DIR/$i.key" >/dev/null
done
before=$(begun)

# --- 100,000 from one: 9 requests of 10,000 ids and 10,000 of one, on 59 connections at once; beside it another's

from_one() {
  local owner=$E2E_DIR/0.key flooding=() large=() small=()
  for ((i = 0; i < 50; i++)); do small+=("$owner"); done
  for ((i = 0; i < 9; i++)); do large+=("$owner"); done
  flood large 0 1 10000 "${large[@]}" & flooding+=($!)
  flood small 90000 200 1 "${small[@]}" & flooding+=($!)
  flood other 100000 100 1 "$E2E_DIR/1.key"
  wait "${flooding[@]}"
}
beside from_one
expect_equal "100,000 deletions of one owner are acknowledged, in $(told large .seconds) and $(told small .seconds) s" \
  "$(told large '"\(.acknowledged) \(.failed)"') $(told small '"\(.acknowledged) \(.failed)"')" "9 0 10000 0"
expect_true "meanwhile another's 100 are, the slowest after $(told other .slowest_ms) ms" \
  "$(told other .acknowledged) == 100 && $(told other .slowest_ms) < SLOWEST_MS"
served "100,000 from one"
expect_equal "they have been carried out, each once" "$(left)" $((ROWS - 100000 - 100))

# --- From 100 at once, each with a key of its own

mapfile -t keys < <(seq -f "$E2E_DIR/%g.key" 0 $((OWNERS - 1)))
beside flood owners 100100 "$EACH" 1 "${keys[@]}"
read -r acknowledged failed slowest_ms median slowest < <(
  told owners '"\(.acknowledged) \(.failed) \(.slowest_ms) \(.median_s * 1000 | floor) \(.slowest_s * 1000 | floor)"')
expect_true "$OWNERS owners delete $EACH each: $acknowledged acknowledged, $failed not, the slowest after $slowest_ms ms" \
  "acknowledged == OWNERS * EACH && failed == 0 && slowest_ms < SLOWEST_MS"
expect_true "none is served worse: all of an owner's took $median ms, of the slowest owner $slowest ms" "slowest < 3 * median"
served "$OWNERS owners at once"
expect_equal "they have been carried out, each once" "$(left)" $((ROWS - 100100 - OWNERS * EACH))

# --- What it cost, and what stands afterwards

wait_for "the model is repaired" 60 all_valid m
deleted=$((100100 + OWNERS * EACH))
count=$(($(begun) - before))
expect_true "$count stages were begun to train what is left, for $deleted deletions" "count > 0 && count < deleted / 500"
verified m
kill -KILL "$(coordinator_pid)"
down 2>/dev/null || true
up 1
expect_equal "killed and started again, none of the records is back" "$(left)" $((ROWS - deleted))
down
finish
