#!/bin/bash
# tests/e2e/test_receipts.sh: receipts and their log, seen by somebody who trusts nobody: every byte
# flipped in turn, another key, cut files, and logs that were rolled back, forked and rewritten by
# putting an older copy of the data directory back.
E2E_SECONDS=280
source "$(dirname "$0")/lib.sh"

sample data 16
FIRST=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8a01
SECOND=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8a02
cd "$E2E_DIR"
KEY=main.client/receipt.pub

start main 2
expect_equal "init makes a signing key that nobody else can read" \
  "$(stat -c %a main/keys/signing.key) $(stat -c %a main/keys)" "600 700"
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=64 shards=2 slices=2 epochs=4 --wait >/dev/null
expect_equal "an empty log has the root of no entries" "$(json '[.size, .root]' log head)" \
  '[0,"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]'
[[ -s main.client/log.head ]] && ok "the client remembers the head that it saw"

# --- What a deletion gives ---
ctl --json delete digits --subject writer-003 --request $FIRST --receipt accepted.receipt \
  --wait completed >deleted.json
expect_equal "the ack carries an accepted receipt of the request" \
  "$(json '[.valid, .reason, .receipt.kind, .receipt.request, .receipt.records_deleted,
    .receipt.completed_at, .receipt.models]' receipt verify accepted.receipt --key $KEY)" \
  "[true,\"\",\"accepted\",\"$FIRST\",$(ids_of writer-003 | wc -l),null,null]"
json . receipt $FIRST -o completed.receipt >receipt.json
expect_equal "the completed receipt says what the deletion said" \
  "$(jq -c '[.kind, .what, .name, .records_deleted, .components_invalidated, .epoch_after,
    .log_index, .keys_destroyed]' receipt.json)" \
  "$(jq -c '["completed", "delete", "digits", .records_deleted, .components_invalidated, .epoch, 0,
    (.records_deleted + .components_invalidated)]' deleted.json)"
expect_equal "and all states have their times, in order" "$(jq '[.accepted_at, .fenced_at, .erased_at,
  .repaired_at, .completed_at] | (. == sort and all(. != null))' receipt.json)" true
expect_equal "every component named was invalidated and repaired, under another commitment" \
  "$(jq -c '[.models[].components[] | .invalidated and .state == "repaired" and
    (.commitment_before | length) == 64 and .commitment_before != .commitment_after] |
    [length, all]' receipt.json)" "[$(jq .components_invalidated deleted.json),true]"
digests=$(json '.components[].digest' components m)
expect_equal "no plain digest of weights stands in it" \
  "$(grep -cF "$digests" receipt.json || true)" 0
expect_equal "no id, no subject stands in it" \
  "$(cat accepted.receipt completed.receipt receipt.json | grep -c 'writer-' || true)" 0
expect_equal "it verifies offline, with the key as a file" \
  "$(json '[.valid, .receipt.models[0].model]' receipt verify completed.receipt --key $KEY)" \
  '[true,"m"]'
down
expect_equal "and as hex, with no coordinator" \
  "$(env -u UNLEARN_DIR "$E2E_BIN/unlearnctl" --json receipt verify completed.receipt \
    --key "$(cut -d' ' -f1 $KEY)" | jq -c '[.valid, .reason]')" '[true,""]'

# --- Bad input ---
expect_invalid() { # WHAT WORDS COMMAND...: exit code 1, valid false, and the reason says why.
  local what=$1 words=$2 code=0
  shift 2
  "$E2E_BIN/unlearnctl" --json receipt verify "$@" >answer 2>error || code=$?
  if ((code == 1)) && [[ $(jq -c .valid answer) == false && $(jq -r .reason answer) == *"$words"* ]]; then
    ok "$what: $(jq -r .reason answer)"
  else
    not_ok "$what" "exit code $code, $(cat answer)" "exit code 1, a reason with \"$words\""
  fi
}
flip() { # flip IN OUT AT: one bit of the byte AT.
  local byte
  byte=$(od -An -tu1 -j "$3" -N 1 "$1")
  cp "$1" "$2"
  printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$2" bs=1 seek="$3" conv=notrunc status=none
}
for kind in accepted completed; do
  size=$(stat -c %s $kind.receipt) refused=0 step=1
  # The unit tests flip every bit of every byte; here the program sees each byte, or a sample of a
  # long file.
  ((size > 600)) && step=$((size / 400))
  tried=0
  for ((at = 0; at < size; at += step)); do
    flip $kind.receipt flipped.receipt $at
    code=0
    "$E2E_BIN/unlearnctl" receipt verify flipped.receipt --key $KEY >/dev/null 2>&1 || code=$?
    tried=$((tried + 1))
    ((code == 1)) && refused=$((refused + 1))
  done
  expect_equal "$kind receipt of $size bytes: $tried flipped in turn, all refused with exit code 1" \
    "$refused" "$tried"
done
size=$(stat -c %s completed.receipt)
flip completed.receipt bad.receipt $((size - 1))
expect_invalid "a flipped byte of the signature" "signature of the tree head does not verify" \
  bad.receipt --key $KEY
flip completed.receipt bad.receipt 60
expect_invalid "a flipped byte of the body" "does not lead to the signed root" bad.receipt --key $KEY
head -c $((size - 130)) completed.receipt >bad.receipt
expect_invalid "a truncated proof" "cut short" bad.receipt --key $KEY
(cat completed.receipt; echo) >bad.receipt
expect_invalid "a longer file" "1 bytes follow the end" bad.receipt --key $KEY
: >bad.receipt
expect_invalid "an empty file" "does not begin as a receipt does" bad.receipt --key $KEY
ctl --json init "$E2E_DIR/stranger" >/dev/null
expect_invalid "another key" "names the key" completed.receipt --key stranger.client/receipt.pub
expect_exit 3 "cannot open nowhere" ctl receipt verify nowhere --key $KEY
expect_exit 3 "the public key nowhere" ctl receipt verify completed.receipt --key nowhere
expect_exit 2 "no public key|--key" ctl receipt verify completed.receipt
expect_exit 2 "expected 64 hex digits" ctl receipt verify completed.receipt --key deleted.json

# --- Keys that are not as they should be ---
refuses() { # CODE WORDS: unlearnd ends so.
  local code=0 line
  timeout 20 "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" main >/dev/null 2>log || code=$?
  line=$(grep -a start_failed log || true)
  if ((code == $1)) && [[ $line == *"$2"* ]]; then ok "unlearnd refuses: ${line#*reason=}"
  else not_ok "unlearnd refuses" "exit code $code: $line" "exit code $1: $2"; fi
}
chmod 640 main/keys/signing.key
refuses 4 "has mode 0640, expected 0600"
chmod 600 main/keys/signing.key
mv main/keys/signing.key kept.key
refuses 3 "signing.key"
cp -p stranger/keys/signing.key main/keys/
refuses 4 "is not the public half"
cp -p $KEY kept.pub
cp -p stranger.client/receipt.pub $KEY
refuses 4 "the receipt log is signed with the key"
rm $KEY
refuses 3 "receipt.pub"
cp -p kept.key main/keys/signing.key
cp -p kept.pub $KEY

# --- The log ---
cp -a main copy-one # One entry.
cp -a main.master master-one
up 2
expect_equal "after a restart the accepted receipt is known under the completed one" \
  "$(json '[.kind, .log_index]' receipt $FIRST)" '["completed",0]'
ctl --json delete digits --subject writer-004 --wait completed --request $SECOND >/dev/null
ctl --json delete digits --subject writer-004 --wait completed >again.json # Nothing is left.
expect_equal "a request that found nothing left has a receipt, too, which names the earlier one" \
  "$(json '[.records_deleted, .earlier, .log_index]' receipt "$(jq -r .request again.json)")" \
  "[0,\"$SECOND\",2]"
expect_equal "log head shows three entries" "$(json .size log head)" 3
expect_equal "log prove gives an entry that verifies offline" \
  "$(ctl log prove 1 -o second.receipt >/dev/null &&
    json '[.valid, .receipt.request, .receipt.head.size]' receipt verify second.receipt --key $KEY)" \
  "[true,\"$SECOND\",3]"
expect_exit 3 "has 3 entries, from 0 on" ctl log prove 3
expect_equal "log consistency holds since what was seen, since 1 entry, and since an old receipt" \
  "$(json '[.consistent, .from, .to]' log consistency) $(json '[.from, .to]' log consistency 1) $(
    json '[.consistent, .from, .to]' log consistency completed.receipt)" \
  '[true,3,3] [1,3] [true,1,3]'
expect_exit 1 "rolled back" ctl log consistency 4
expect_exit 2 "accepted receipt" ctl log consistency accepted.receipt

# --- A crash between the two receipts: nobody is there to repair ---
down
up 0
THIRD=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8a03
ctl --json delete digits --subject writer-005 --request $THIRD --receipt acked.receipt >/dev/null
expect_equal "before the repair the receipt is the accepted one" \
  "$(json .kind receipt $THIRD -o before.receipt)" accepted
pid=$(coordinator_pid)
kill -KILL "$pid"
wait_for "the coordinator is gone" 10 gone "$pid"
up 0
expect_equal "after kill -9 it is still the accepted one" \
  "$(json '[.kind, .request]' receipt $THIRD -o after.receipt)" "[\"accepted\",\"$THIRD\"]"
body() { # The body of a receipt file, whose length stands in bytes 8 to 11.
  tail -c +13 "$1" | head -c "$(od -An -tu4 -j 8 -N 4 "$1" | tr -d ' ')" | sha256sum
}
expect_equal "and made anew from the journal it says the same, byte for byte" \
  "$(body before.receipt) $(body after.receipt)" "$(body acked.receipt) $(body acked.receipt)"
ctl --json delete digits --subject writer-005 --request $THIRD --receipt again.receipt >/dev/null
expect_equal "as does the same request, sent again" "$(body again.receipt)" "$(body acked.receipt)"
down
up 2
wait_for "the request is completed" 60 bash -c \
  "[[ \$('$E2E_BIN/unlearnctl' --json receipt $THIRD | jq -r .kind) == completed ]]"
ok "with workers there it is completed, and so is its receipt"

# --- Removals ---
valid=$(digests m | grep -c ' valid ')
request=$(json .request model remove m)
wait_for "the removal completes" 30 bash -c \
  "[[ \$('$E2E_BIN/unlearnctl' --json receipt $request | jq -r .kind) == completed ]]"
expect_equal "a model's removal names every component as removed" \
  "$(json '[.what, .name, .models[0].model, (.models[0].components | length),
    ([.models[0].components[].state] | unique | .[])]' receipt "$request")" \
  "[\"remove model\",\"m\",\"m\",$valid,\"removed\"]"
request=$(json .request dataset remove digits)
wait_for "the removal completes" 30 bash -c \
  "[[ \$('$E2E_BIN/unlearnctl' --json receipt $request | jq -r .kind) == completed ]]"
expect_equal "a dataset's removal has a receipt" "$(json '[.what, .name, .log_index]' \
  receipt "$request")" '["remove dataset","digits",5]'
expect_exit 3 "no request" ctl receipt 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8aff
expect_exit 2 "REQUEST" ctl receipt nonsense

# --- An older copy of the data directory is put back ---
down
rm -rf main && cp -a copy-one main
expect_exit 4 "exit code 4" ctl up "$UNLEARN_DIR" --detach "${UP_OPTIONS[@]}"
expect_true "the data directory was put back from a copy, says the anchor" \
  "$(lines_with 'put back from a copy: it has 1 erasures of keys and 1 log entries' \
    main/run/unlearnd.log)"
# Who holds the anchor too can put it back. That is what clients' memories are for.
rm -rf main.master && cp -a master-one main.master
up 2
expect_exit 1 "the receipt log was rolled back: it has 1 entries, and 6 were seen" ctl log head
expect_exit 1 "rolled back" ctl receipt $FIRST
expect_exit 1 "rolled back" ctl log consistency
code=0
ctl --json delete digits --subject writer-005 --wait completed >answer 2>error || code=$?
expect_equal "delete on it is accepted, says so, and complains: $(head -c 200 error)" \
  "$code $(jq -r .state answer) $(grep -c 'rolled back' error)" "1 completed 1"
remembered=$(od -An -tu8 -j 8 -N 8 main.client/log.head)
expect_equal "what was seen stays remembered" $((remembered)) 6
# It grows again, over what it had been.
for who in 006 007 008 010; do
  ctl --json delete digits --subject writer-$who --wait completed >/dev/null 2>&1 || true
done
expect_exit 1 "the receipt log was forked: two logs of 6 entries are signed" ctl log head
ctl --json delete digits --subject writer-009 --wait completed >/dev/null 2>&1 || true
expect_exit 1 "the receipt log was rewritten" ctl log head
expect_exit 1 "the receipt log was rewritten" ctl log consistency second.receipt
expect_equal "an old receipt still verifies by itself" \
  "$(json .valid receipt verify second.receipt --key $KEY)" true
rm main.client/log.head
expect_equal "who had seen nothing has nothing to compare" "$(json .size log head)" 7
expect_equal "and what both logs share still holds" \
  "$(json '[.consistent, .from]' log consistency completed.receipt)" '[true,1]'
echo damaged >main.client/log.head
expect_exit 1 "log.head is damaged" ctl log head
down
finish
