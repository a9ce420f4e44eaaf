#!/bin/bash
# tests/e2e/test_replay.sh: a component is exported and trained again without any coordinator; every
# change of the export is found.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

replay() { # replay DIR OPTION...: "exit code, result".
  local code=0
  "$E2E_BIN/unlearnctl" replay "$@" --json >"$E2E_DIR/answer" 2>"$E2E_DIR/error" || code=$?
  echo "$code $(jq -r '.result // .error.status' "$E2E_DIR/answer")"
}
spoil() { # spoil FILE: a fresh copy of the export in $E2E_DIR/bad; FILE of it is what is to be spoilt.
  rm -rf "$E2E_DIR/bad"
  cp -r "$E2E_DIR/audit" "$E2E_DIR/bad"
  BAD=$E2E_DIR/bad/$1
}
edit() { jq "$1" "$BAD" >"$BAD.new" && mv "$BAD.new" "$BAD"; }
poke() { # poke OFFSET HEX: overwrites bytes.
  printf "$(sed 's/../\\x&/g' <<<"$2")" | dd of="$BAD" bs=1 seek="$1" conv=notrunc status=none
}
bytes_at() { od -An -v -tx1 -j "$1" -N "$2" "$BAD" | tr -d ' \n'; }

sample data 12
start replay 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
SPEC=(hidden=16 dropout=0.1 activation=gelu shards=2 slices=3 sequences=2 epochs=4)
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
name=$(json '[.components[] | select(.state == "valid") | .name] | max_by(length)' components m)

# --- What is exported is what was trained ---

answer=$(json '[.component, .has_records, .with_ids]' export m --component "$name" -o "$E2E_DIR/audit")
expect_equal "export tells what it wrote" "$answer" "[\"$name\",true,false]"
expect_equal "its files" "$(cd "$E2E_DIR/audit" && echo *)" \
  "export.json records.bin schema.bin schema.json spec.txt"
expect_equal "nobody else may read them" "$(stat -c %a "$E2E_DIR/audit" "$E2E_DIR/audit/records.bin" | paste -sd' ')" "700 600"
expect_equal "the digest is the component's" "$(jq -r .digest "$E2E_DIR/audit/export.json")" \
  "$(json ".components[] | select(.name == \"$name\") | .digest" components m)"
expect_true "no id or subject is in it" "$(grep -raq 'writer-0' "$E2E_DIR/audit" && echo 0 || echo 1)"
expect_equal "replay without a coordinator" "$(UNLEARN_DIR='' replay "$E2E_DIR/audit")" "0 identical"
text=$("$E2E_BIN/unlearnctl" replay "$E2E_DIR/audit")
expect_true "one sentence for people" "$(grep -c "^identical: $(sed 's/[][]/\\&/g' <<<"$name"), trained again from nothing" <<<"$text")"
expect_equal "the environment's core type does not matter" \
  "$(OPENBLAS_CORETYPE=Nehalem OPENBLAS_NUM_THREADS=2 replay "$E2E_DIR/audit")" "0 identical"
first=$(json '[.components[] | select(.state == "valid") | .name] | min_by(length)' components m)
ctl --json export m --component "$first" -o "$E2E_DIR/first" --with-ids >/dev/null
expect_equal "a first stage, with ids" "$(replay "$E2E_DIR/first")" "0 identical"
expect_true "ids are there when asked for" "$(grep -ac 'writer-0' "$E2E_DIR/first/records.bin" | awk '{print ($1 > 0)}')"

# --- Losses, record by record, for whoever measures what a model remembers ---

mean=$(json .loss evaluate m "${TEST[@]}" --losses "$E2E_DIR/losses")
expect_equal "evaluate --losses writes a line for each record" "$(wc -l <"$E2E_DIR/losses")" \
  "$(json .records evaluate m "${TEST[@]}")"
expect_number "their mean is the loss" \
  "$(awk -v mean="$mean" '{ sum += $1 } END { d = sum / NR - mean; print d < 0 ? -d : d }' "$E2E_DIR/losses")" '<' 0.000001
expect_exit 1 'cannot write' ctl evaluate m "${TEST[@]}" --losses /nowhere/losses

# --- From a copy of one's own ---

ctl --json export m --component "$name" -o "$E2E_DIR/pointer" --without-records >/dev/null
expect_true "without records there are none" "$([[ ! -e $E2E_DIR/pointer/records.bin ]] && echo 1 || echo 0)"
expect_equal "the auditor's copy" "$(replay "$E2E_DIR/pointer" --data "${TRAIN[@]:0:2}" --subjects "$SUBJECTS")" "0 identical"
expect_equal "ids alone place records elsewhere" "$(replay "$E2E_DIR/pointer" --data "${TRAIN[@]:0:2}")" "1 different"
sed '1s/.*/writer-999/' "$SUBJECTS" >"$E2E_DIR/wrong"
expect_exit 2 'has no records|--data' "$E2E_BIN/unlearnctl" replay "$E2E_DIR/pointer"
expect_exit 2 'placement key' "$E2E_BIN/unlearnctl" replay "$E2E_DIR/audit" --data "${TRAIN[@]:0:2}"

# --- What cannot be exported ---

expect_exit 3 'no component s0:[2,1,0]' ctl export m --component 's0:[2,1,0]' -o "$E2E_DIR/none"
expect_exit 3 'no model' ctl export nobody --component "$name" -o "$E2E_DIR/none"
expect_exit 2 'component' ctl export m --component 'x' -o "$E2E_DIR/none"
expect_exit 2 'expected --component' ctl export m
expect_exit 2 'exclude each other' ctl export m --component "$name" -o "$E2E_DIR/none" --with-ids --without-records
expect_exit 4 'exists already' ctl export m --component "$name" -o "$E2E_DIR/audit"
expect_true "nothing is left of what failed" "$([[ ! -e $E2E_DIR/none ]] && echo 1 || echo 0)"

# --- After a deletion the old export still replays to what it says, the component to its new bytes ---

down
up 0
deleted=$(json .records_deleted delete digits --subject writer-004)
expect_true "records are deleted" "$((deleted > 0))"
bad=$(json '[.components[] | select(.state == "invalid") | .name][0]' components m)
expect_exit 4 'not valid now' ctl export m --component "$bad" -o "$E2E_DIR/none"
down
up 2
ctl --json train m --wait >/dev/null
ctl --json export m --component "$bad" -o "$E2E_DIR/after" --without-records >/dev/null
ids_of writer-004 >"$E2E_DIR/gone"
expect_equal "repaired: replayed from a copy without the records" \
  "$(replay "$E2E_DIR/after" --data "${TRAIN[@]:0:2}" --subjects "$SUBJECTS" --except "$E2E_DIR/gone")" "0 identical"
expect_equal "and not from one with them" \
  "$(replay "$E2E_DIR/after" --data "${TRAIN[@]:0:2}" --subjects "$SUBJECTS")" "1 different"
down

# --- Tampering ---

head=21 row=$(($(od -An -tu4 -j $((21 + 33)) -N 4 "$E2E_DIR/audit/records.bin")))
size=$((37 + row))
spoil records.bin # The label of a record.
last=$((head + size * ($(jq .slice_records[0] "$E2E_DIR/audit/export.json") - 1)))
label=$(bytes_at $((last + 37)) 2)
poke $((last + 37)) "$(printf '%02x00' $(((0x${label:0:2} + 1) % 10)))"
expect_equal "a record's label changed" "$(replay "$E2E_DIR/bad")" "1 different"
spoil records.bin
poke $((last + 37 + 2 + 100)) ff
expect_equal "a pixel changed" "$(replay "$E2E_DIR/bad")" "1 different"
spoil records.bin
a=$(bytes_at $head $size) b=$(bytes_at $((head + size)) $size)
poke $head "$b$a"
expect_equal "two records swapped" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
spoil records.bin
poke $((head + size)) "$a"
expect_equal "a record doubled" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
spoil records.bin
{ head -c $head "$E2E_DIR/audit/records.bin"; tail -c +$((head + size + 1)) "$E2E_DIR/audit/records.bin"; } >"$BAD"
expect_equal "a record dropped" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
n=$(jq .records "$E2E_DIR/audit/export.json")
poke 13 "$(printf '%02x%02x' $(((n - 1) % 256)) $(((n - 1) / 256)))"
BAD=$E2E_DIR/bad/export.json
edit '.records -= 1 | .slice_records[0] -= 1'
expect_equal "dropped and the counts put right" "$(replay "$E2E_DIR/bad")" "1 different"
spoil records.bin
poke $head ffffffffffffffff
expect_equal "a record moved out of its slice" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
spoil records.bin
poke $((head + 32)) 03
expect_equal "a record in another risk class" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
spoil records.bin
poke $((head + 32)) 10
expect_equal "and in one that is none" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
spoil records.bin
poke $((head + 33)) ffffffff
expect_equal "a row of 4 GiB" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
spoil export.json
edit '.digest |= (.[0:62] + (if .[62:] == "00" then "01" else "00" end))'
expect_equal "another digest" "$(replay "$E2E_DIR/bad")" "1 different"
spoil export.json
edit '.commit_key |= (.[0:62] + (if .[62:] == "00" then "01" else "00" end))'
expect_equal "another key" "$(replay "$E2E_DIR/bad")" "1 different"
spoil export.json
edit '.commitment |= (.[0:62] + (if .[62:] == "00" then "01" else "00" end))'
expect_equal "another commitment" "$(replay "$E2E_DIR/bad")" "1 different"
spoil spec.txt
sed -i 's/^seed=.*/seed=8/' "$BAD"
expect_equal "another seed" "$(replay "$E2E_DIR/bad")" "1 different"
spoil export.json
edit '.profile = "00" * 32'
expect_equal "another profile" "$(replay "$E2E_DIR/bad")" "1 INCOMPATIBLE"
spoil export.json
edit '.core = "Nehalem"'
expect_equal "another core type" "$(replay "$E2E_DIR/bad")" "1 INCOMPATIBLE"
spoil schema.json
sed -i '0,/"rows": [0-9]*/s//"rows": 1/' "$BAD"
expect_equal "another schema for people" "$(replay "$E2E_DIR/bad" | cut -c1)" 1

fields=0
while read -r change; do
  spoil export.json
  edit "$change"
  found=$(replay "$E2E_DIR/bad")
  fields=$((fields + 1))
  [[ $found == "1 CORRUPT" || $found == "1 INCOMPATIBLE" ]] || not_ok "export.json with $change" "$found" "refused"
done <<'END'
.format = 3
.format = "1"
.more = 1
del(.model)
.model = ""
.component = "s0:[0,0]"
.component = "s99:[0,1,2]"
.passes = []
.passes[0] += 1
.slice_records[0] += 1
.slice_records[0] = -1
.slice_records = "many"
.records = 1e30
.param_count = 1
.param_count = 999999999999
.has_records = 1
.with_ids = true
.digest = "00"
.commit_key = "zz"
.placement_key = "00"
.core = "a\u0007b"
END
ok "$fields damaged fields of export.json are refused"

cuts=0
for file in export.json spec.txt schema.bin schema.json records.bin; do
  bytes=$(stat -c %s "$E2E_DIR/audit/$file")
  for at in 0 1 $((bytes / 2)) $((bytes - 1)); do
    spoil $file
    truncate -s "$at" "$BAD"
    found=$(replay "$E2E_DIR/bad")
    cuts=$((cuts + 1))
    # A text for people may lose its last line end.
    [[ $found == "1 CORRUPT" || ($at == $((bytes - 1)) && $file == *.json && $found == "0 identical") ]] ||
      not_ok "$file cut to $at of $bytes bytes" "$found" "1 CORRUPT"
  done
  spoil $file
  printf x >>"$BAD"
  [[ $(replay "$E2E_DIR/bad") == "1 CORRUPT" ]] || not_ok "$file with a byte more" "$(replay "$E2E_DIR/bad")" "1 CORRUPT"
  spoil $file
  rm "$BAD"
  [[ $(replay "$E2E_DIR/bad") == "3 NOT_FOUND" ]] || not_ok "without $file" "$(replay "$E2E_DIR/bad")" "3 NOT_FOUND"
  mkfifo "$BAD"
  [[ $(replay "$E2E_DIR/bad") == "3 NOT_FOUND" ]] || not_ok "$file is a FIFO" "$(replay "$E2E_DIR/bad")" "3 NOT_FOUND"
done
ok "$cuts truncations, and files longer, missing or no files, are refused"
expect_exit 3 'export.json' "$E2E_BIN/unlearnctl" replay "$E2E_DIR/nowhere"
expect_equal "the undamaged export still replays" "$(replay "$E2E_DIR/audit")" "0 identical"

# --- The bytes that a receipt names ---

use replay
up 2

pub=$UNLEARN_DIR.client/receipt.pub
id=1
ctl --json delete digits --record "$id" --wait completed >"$E2E_DIR/deleted"
ctl --json receipt "$(jq -r .request "$E2E_DIR/deleted")" -o "$E2E_DIR/one.receipt" >"$E2E_DIR/one.json"
name=$(jq -r '[.models[].components[] | select(.state == "repaired") | .name] | max_by(length)' "$E2E_DIR/one.json")
ctl --json export m --component "$name" -o "$E2E_DIR/repaired" >/dev/null
expect_equal "a repaired component has the bytes that the receipt names" \
  "$(replay "$E2E_DIR/repaired" --receipt "$E2E_DIR/one.receipt" --key "$pub")" "0 identical"
expect_exit 2 '--receipt needs --key' "$E2E_BIN/unlearnctl" replay "$E2E_DIR/repaired" --receipt "$E2E_DIR/one.receipt"
cp "$E2E_DIR/one.receipt" "$E2E_DIR/spoilt.receipt"
BAD=$E2E_DIR/spoilt.receipt poke 40 ff
expect_exit 1 'spoilt.receipt' "$E2E_BIN/unlearnctl" replay "$E2E_DIR/repaired" --receipt "$E2E_DIR/spoilt.receipt" --key "$pub"
other=$(json "[.components[] | select(.state == \"valid\") | .name] - [$(jq -c '[.models[].components[].name]' "$E2E_DIR/one.json" | sed 's/^.//;s/.$//')] | .[0]" components m)
ctl --json export m --component "$other" -o "$E2E_DIR/other" >/dev/null
expect_equal "the receipt does not speak of a component that was not repaired" \
  "$(replay "$E2E_DIR/other" --receipt "$E2E_DIR/one.receipt" --key "$pub")" "1 different"
ctl --json delete digits --subject "$(sed -n "$((id + 1))p" "$SUBJECTS")" --wait completed >/dev/null
ctl --json export m --component "$name" -o "$E2E_DIR/later" >/dev/null
expect_equal "nor of what a later deletion has put in its place" \
  "$(replay "$E2E_DIR/later" --receipt "$E2E_DIR/one.receipt" --key "$pub")" "1 different"
expect_equal "which is exact, too" "$(replay "$E2E_DIR/later")" "0 identical"
finish
