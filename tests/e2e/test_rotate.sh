#!/bin/bash
# tests/e2e/test_rotate.sh: new signing and master keys: what was proved before stays provable, what comes after
# is proved by the new key, and a rotation that was broken off is finished by the next start.
source "$(dirname "$0")/lib.sh"

people "$E2E_DIR/people.csv" 200
UUID=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f900
valid() { json .valid receipt verify "$E2E_DIR/$1" --key "$2"; }
deleted() { # deleted NUMBER ID: a completed deletion, and its receipt in NUMBER.receipt.
  ctl --json delete people --record "$2" --request "$UUID$1" --wait completed >/dev/null
  ctl receipt "$UUID$1" -o "$E2E_DIR/$1.receipt" >/dev/null
}
leftovers() { find "$UNLEARN_DIR/keys" "$UNLEARN_DIR.client" -name '*.new' | wc -l; }
logged() { json .size log head; }

start main 1
ctl --json import people "$E2E_DIR/people.csv" --label wage --subject who >/dev/null
ctl --json train m --dataset people --set hidden=4 epochs=1 shards=1 slices=1 --wait >/dev/null
PUB=$UNLEARN_DIR.client/receipt.pub
deleted 1 1
cp "$PUB" "$E2E_DIR/first.pub"
expect_exit 4 "its key can be changed" ctl key rotate signing
expect_exit 4 "its key can be changed" ctl key rotate master
expect_exit 2 "expected server, signing or master" ctl key rotate house

# --- Signing ---

down
expect_equal "the signing key is changed" "$(json .rotated key rotate signing "${UP_OPTIONS[@]}")" signing
expect_equal "the old public key is kept" "$(cmp "$E2E_DIR/first.pub" "$UNLEARN_DIR.client/receipt-1.pub" && echo same)" same
expect_differ "the public key is another" "$(cat "$PUB")" "$(cat "$E2E_DIR/first.pub")"
expect_equal "nothing else is left of it" "$(leftovers)" 0
expect_equal "the new key is nobody else's" "$(stat -c %a "$UNLEARN_DIR/keys/signing.key")" 600
up 1
expect_equal "what was signed before is proved by the old key" "$(valid 1.receipt "$UNLEARN_DIR.client/receipt-1.pub")" true
expect_exit 1 "" ctl receipt verify "$E2E_DIR/1.receipt" --key "$PUB"
expect_equal "the log goes on" "$(logged)" 1
ctl receipt ${UUID}1 -o "$E2E_DIR/again.receipt" >/dev/null
expect_equal "the old request is proved by the new key, too" "$(valid again.receipt "$PUB")" true
deleted 2 2
expect_equal "and new ones are" "$(valid 2.receipt "$PUB")" true
expect_equal "the client has checked that the log begins with what it had seen" "$(logged)" 2

# --- Broken off ---

down
cp -r "$UNLEARN_DIR/keys" "$E2E_DIR/keys" # The new key is made and the log signed, and no file is in place yet:
cp "$PUB" "$E2E_DIR/second.pub"
ctl --json key rotate signing "${UP_OPTIONS[@]}" >/dev/null
cp "$UNLEARN_DIR/keys/signing.key" "$UNLEARN_DIR/keys/signing.key.new"
cp "$E2E_DIR/keys/signing.key" "$UNLEARN_DIR/keys/signing.key"
cp "$PUB" "$PUB.new"
cp "$E2E_DIR/second.pub" "$PUB"
up 1
expect_equal "the next start finishes it" \
  "$(leftovers) $(logged)" "0 2"
expect_equal "each old key is there once" "$(ls "$UNLEARN_DIR.client" | grep -c '^receipt-[0-9]*\.pub$')" 2
deleted 3 3
expect_equal "and it signs" "$(valid 3.receipt "$PUB")" true
down
cp "$E2E_DIR/second.pub" "$PUB"
expect_exit 4 "unlearnd ended with exit code 4" ctl up "$UNLEARN_DIR" --ranks 0 --detach "${UP_OPTIONS[@]}"
expect_true "it says what is wrong" "$(lines_with 'is not the public half of' "$UNLEARN_DIR/run/unlearnd.log")"

# --- Master ---

use second
PLACEMENT_KEY='' start second 1
ctl --json import people "$E2E_DIR/people.csv" --label wage --subject who >/dev/null
down
before=$(ls "$UNLEARN_DIR.master"; cat "$UNLEARN_DIR.master"/*key* | sha256sum)
expect_equal "the master key is changed" "$(json .rotated key rotate master "${UP_OPTIONS[@]}")" master
expect_differ "it is another" "$(ls "$UNLEARN_DIR.master"; cat "$UNLEARN_DIR.master"/*key* | sha256sum)" "$before"
up 1
expect_equal "what it wraps opens" "$(json '.records | length > 0' show people --subject p03)" true
finish
