#!/bin/bash
# tests/e2e/test_pretrain.sh: bases pre-trained here, models on them, and what becomes of both: deletions,
# refusals, exports, kill -9 while a base is trained and while it is retired.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/hf.sh"

sample data 12
BASE=(--dataset public --set learner=vit layers=4 width=16 heads=2 inner=32 patch=7)
VIT=(learner=vit shards=2 slices=2 lora.rank=2 epochs=1)
KEY=(--placement-key 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20)

kill_coordinator() {
  local pid
  pid=$(coordinator_pid)
  kill -KILL "$pid"
  wait_for "the coordinator is gone" 10 gone "$pid"
}
import_both() { # import_both EXCEPT: of the private dataset alone records are left out.
  ctl --json import public "${TRAIN[@]}" "${KEY[@]}" --public >/dev/null
  ctl --json import private "${TRAIN[@]}" "${KEY[@]}" --except "$1" >/dev/null
}
digest_of() { json .digest base show "$1"; }

: >"$E2E_DIR/none"
start main 2
import_both "$E2E_DIR/none"

# --- Pre-training ---

expect_equal "before there is a base, a public dataset loses records like any" \
  "$(json '[.state, .records_deleted > 0]' delete public --subject writer-003 --wait completed)" '["completed",true]'
expect_equal "a base is pre-trained" \
  "$(json '[.state, .kind, .weights, .dataset, .pretrained, .shape.layers]' base pretrain tiny "${BASE[@]}" epochs=2)" \
  '["valid","vit",10016,"public",true,4]'
expect_equal "its model is gone" "$(json .models model list)" '[]'
expect_equal "the same again finds it there" \
  "$(json '[.already_there, .digest]' base pretrain tiny "${BASE[@]}" epochs=2)" "[true,\"$(digest_of tiny)\"]"
expect_exit 4 'there is a base "tiny" already, made otherwise' ctl base pretrain tiny "${BASE[@]}" epochs=3
expect_exit 2 "learner vit stands on a base here" ctl base pretrain other "${BASE[@]}" base=tiny
expect_exit 2 "one piece|slices" ctl base pretrain other "${BASE[@]}" slices=2

# --- The client dies, then the coordinator ---

begun() { [[ $(json '.components_training // 0' model show base:slow) -ge 1 ]]; }
ctl --json base pretrain slow "${BASE[@]}" epochs=60 >/dev/null 2>&1 || true &
client=$!
wait_for "a base is being trained" 30 begun
# shellcheck disable=SC2046 # Several pids.
kill -KILL $(descendants "$client")
wait "$client"
expect_exit 4 'model "base:slow" exists with another spec' ctl base pretrain slow "${BASE[@]}" epochs=61
kill_coordinator
up 2
json .state base pretrain slow "${BASE[@]}" epochs=60 >"$E2E_DIR/second" &
second=$!
expect_equal "interrupted, its coordinator killed: the same again goes on to the end" \
  "$(json '[.state, .already_there]' base pretrain slow "${BASE[@]}" epochs=60)" '["valid",false]'
wait "$second"
expect_equal "and two that wait for the same base both get it" "$(cat "$E2E_DIR/second")" valid

# --- What a base has learnt cannot be unlearnt ---

records() { json '.datasets[] | select(.dataset == "public") | .records' dataset list; }
before=$(records)
expect_exit 4 'base "tiny" was pre-trained on this dataset' ctl delete public --subject writer-004
expect_exit 4 'base "tiny" was pre-trained on this dataset' ctl plan public --subject writer-004
expect_exit 4 'base "tiny" was pre-trained on this dataset' ctl dataset remove public
expect_exit 3 "known" ctl delete public --subject nobody
expect_equal "nothing was deleted" "$(records)" "$before"

# --- Models on a base ---

expect_exit 3 'no base "nobody"' ctl train m --dataset private --set "${VIT[@]}" base=nobody
expect_exit 2 "slices" ctl train m --dataset private --set "${VIT[@]}" base=tiny slices=5
hf_vit "$E2E_DIR/small" 4 16 2 32 14 7
ctl --json base import small "$E2E_DIR/small" >/dev/null
expect_exit 2 "28" ctl train m --dataset private --set "${VIT[@]}" base=small
expect_equal "no model came of it" "$(json .models model list)" '[]'
ctl --json train m --dataset private --set "${VIT[@]}" base=tiny --wait >/dev/null
ctl --json train g --dataset private --set "${VIT[@]}" base=tiny gradient_chunks=2 batch=8 --wait >/dev/null
expect_equal "the base says who stands on it" "$(json '.models | sort' base show tiny)" '["g","m"]'
expect_equal "and the model on what it stands" \
  "$(json '[.base, .base_digest]' model show m)" "[\"tiny\",\"$(digest_of tiny)\"]"
verified m
verified g
before=$(digests m)
answers() { json '[.accuracy, .loss]' evaluate m "${TEST[@]}"; }
answer=$(answers)
kill_coordinator
up 2
same_everywhere "after kill -9 and a start the components are the same" "$(digests m)" "$before"
expect_equal "and answer the same" "$(answers)" "$answer"

# --- An auditor ---

ctl --json export m --component 's0:[0,1]' -o "$E2E_DIR/whole" >/dev/null
expect_equal "an export holds its base" "$(json '[.result, .stages]' replay "$E2E_DIR/whole")" '["identical",2]'
ctl --json export m --component 's0:[0,1]' -o "$E2E_DIR/pointer" --without-base >/dev/null
expect_exit 2 "by digest alone|--base DIR" ctl replay "$E2E_DIR/pointer"
expect_exit 2 "holds the base|stands on" ctl replay "$E2E_DIR/pointer" --base "$E2E_DIR/small"
expect_equal "one that names it by digest is replayed with the auditor's copy" \
  "$(json .result replay "$E2E_DIR/pointer" --base "$E2E_DIR/whole")" identical
cp -r "$E2E_DIR/whole" "$E2E_DIR/forged"
printf '\001' | dd of="$E2E_DIR/forged/base.bin" bs=1 seek=$(($(stat -c %s "$E2E_DIR/whole/base.bin") - 3)) \
  conv=notrunc status=none
expect_exit 1 "holds another base" ctl replay "$E2E_DIR/forged"
claim() { # claim FILTER: the export says something else of its base.
  rm -rf "$E2E_DIR/forged"
  cp -r "$E2E_DIR/whole" "$E2E_DIR/forged"
  jq "$1" "$E2E_DIR/whole/export.json" >"$E2E_DIR/forged/export.json"
}
claim '.base_digest |= sub("^."; "z")'
expect_exit 1 "base_digest" ctl replay "$E2E_DIR/forged"
claim ".base_digest = \"$(digest_of small)\""
expect_exit 1 "holds another base" ctl replay "$E2E_DIR/forged"
claim '.base = "other"'
expect_exit 1 "two bases" ctl replay "$E2E_DIR/forged"
claim '.base = null | .base_digest = null | .has_base = false'
expect_exit 1 "two bases" ctl replay "$E2E_DIR/forged"
claim '.base_digest = null'
expect_exit 1 "base_digest" ctl replay "$E2E_DIR/forged"

# --- Deletion, and a cluster that never saw the records ---

expect_equal "a person is deleted from what stands on the base" \
  "$(json '[.state, .records_deleted > 0, .components_invalidated > 0]' delete private --subject writer-007 --wait completed)" \
  '["completed",true,true]'
verified m
verified g
expect_equal "the base is as it was" "$(json '[.state, .models_total]' base show tiny)" '["valid",2]'
found=$(digests m; digests g)
base=$(digest_of tiny) slow=$(digest_of slow)
ids_of writer-007 >"$E2E_DIR/except"
ids_of writer-003 >"$E2E_DIR/except.public"
start never 1
ctl --json import public "${TRAIN[@]}" "${KEY[@]}" --public --except "$E2E_DIR/except.public" >/dev/null
ctl --json import private "${TRAIN[@]}" "${KEY[@]}" --except "$E2E_DIR/except" >/dev/null
expect_equal "the base has the same digest where the deleted never were" \
  "$(json .digest base pretrain tiny "${BASE[@]}" epochs=2)" "$base"
expect_equal "so has the one whose training was interrupted" \
  "$(json .digest base pretrain slow "${BASE[@]}" epochs=60)" "$slow"
ctl --json train m --dataset private --set "${VIT[@]}" base=tiny --wait >/dev/null
ctl --json train g --dataset private --set "${VIT[@]}" base=tiny gradient_chunks=2 batch=8 --wait >/dev/null
same_everywhere "the models are those of a cluster that never saw the person" "$found" "$(digests m; digests g)"
down
use main

# --- Retired: all that stands on it goes at once, whenever the coordinator dies ---

for name in a b c; do
  ctl --json train "$name" --dataset private --set "${VIT[@]}" base=slow >/dev/null
done
standing() { json '[(.bases[] | select(.base == "slow") | .state), .bases[1].models_total]' base list; }
moments=(0 0.002 0.005 0.01 0.02 0.05)
whole=0
for moment in "${moments[@]}"; do
  ctl --json base retire slow >/dev/null 2>&1 || true &
  retire=$!
  sleep "$moment"
  kill_coordinator
  pkill -TERM -P "$retire" || true
  wait "$retire"
  up 2
  case $(standing) in
    '["valid",3]' | '["retired",0]') whole=$((whole + 1)) ;;
    *) not_ok "killed $moment s into a retirement" "$(standing)" "all or nothing" ;;
  esac
done
expect_equal "killed at ${#moments[@]} moments of a retirement: the base and its models, or neither" "$whole" \
  "${#moments[@]}"
ctl --json base retire slow >/dev/null
expect_equal "retired" "$(standing)" '["retired",0]'
expect_equal "its models are gone, others are not" "$(json '[.models[].model] | sort' model list)" '["g","m"]'
settled() { [[ $(json .requests_open status) == 0 ]]; }
wait_for "the removals complete" 30 settled
size=$(json .size log head)
expect_equal "a model on another base is retired with receipts" \
  "$(json '[.state, .models_removed, (.requests | length)]' base retire tiny)" '["retired",2,2]'
wait_for "the removals complete" 30 settled
expect_equal "each removal is in the log" "$(json .size log head)" $((size + 2))
expect_exit 4 'base "tiny" was retired' ctl train late --dataset private --set "${VIT[@]}" base=tiny
expect_exit 4 'base "tiny" was retired' ctl base pretrain tiny "${BASE[@]}" epochs=2
expect_equal "now the public dataset loses records again" \
  "$(json '[.state, .records_deleted > 0]' delete public --subject writer-004 --wait completed)" '["completed",true]'
down
finish
