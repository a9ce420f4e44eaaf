#!/usr/bin/env bash
# What an operator does with a store: shows what is held on a person, compacts, changes the master key.
source "$(dirname "$0")/lib.sh"

start main 2
people "$E2E_DIR/p.csv" 2000
printf 'id,age,town,flag,y\none,41,Bern,1.5,no\ntwo,42,,2.5,yes\n' >"$E2E_DIR/small.csv"
ctl --json import wages "$E2E_DIR/p.csv" --subject who --label wage >/dev/null
ctl --json import small "$E2E_DIR/small.csv" --id id --subject id --label y >/dev/null
ctl --json train m --dataset wages --set hidden=8 shards=2 slices=2 epochs=2 --wait >/dev/null

# --- Access request ---
held=$(awk -F, '$1 == "p03"' "$E2E_DIR/p.csv" | wc -l)
expect_equal "show lists every record of a subject" "$(json '.records | length' show wages --subject p03)" "$held"
expect_equal "with its values" "$(json '.records[0] | [.id, .generation, .values.age, .values.flag, .values.y]' \
  show small --subject one)" '["one",0,41,1.5,"no"]'
expect_equal "of the file's rows, by number" \
  "$(json '[.records[].id | tonumber] | sort | .[0]' show wages --subject p03)" \
  "$(awk -F, 'NR > 1 && $1 == "p03" { print NR - 2; exit }' "$E2E_DIR/p.csv")"
expect_exit 3 "nothing is held on this subject" ctl show wages --subject nobody
expect_exit 3 "no dataset" ctl show nothing --subject p03
expect_exit 2 "--subject" ctl show wages
ctl --json delete wages --subject p03 --wait fenced >/dev/null
expect_exit 3 "nothing is held on this subject" ctl show wages --subject p03
wait_for "the repair" 60 all_valid m

# --- Compaction ---
before=$(digests m)
ctl --json compact >"$E2E_DIR/compacted"
expect_true "the file shrinks" "$(jq '.bytes_after < .bytes_before | if . then 1 else 0 end' "$E2E_DIR/compacted")"
same_everywhere "and no component changes" "$(digests m)" "$before"
[[ ! -e $UNLEARN_DIR/store.compact ]] && ok "the old file is gone"
for pause in 0.00 0.02 0.05 0.1; do # Killed in the middle, or just before, or after.
  (timeout 3 "$E2E_BIN/unlearnctl" compact >/dev/null 2>&1 9>&- || true) &
  sleep "$pause"
  kill -KILL "$(coordinator_pid)"
  wait
  down
  up 2
  same_everywhere "killed $pause s into a compaction, all is there" "$(digests m)" "$before"
done
[[ ! -e $UNLEARN_DIR/store.compact ]] && ok "and nothing of it is left behind"
ctl --json delete wages --subject p04 --wait completed >/dev/null
verified m
down

# --- Another master key ---
before=$(sha256sum <"$UNLEARN_DIR.master/1.key")
ctl --json up "$UNLEARN_DIR" --ranks 0 --detach --rotate-master-key "${UP_OPTIONS[@]}" >/dev/null
expect_equal "the new key is number 2, the old one is gone" "$(cd "$UNLEARN_DIR.master" && echo *.key)" "2.key"
expect_differ "and is another" "$(sha256sum <"$UNLEARN_DIR.master/2.key")" "$before"
expect_equal "what was stored opens" "$(json '.records | length' show small --subject two)" 1
down
mv "$UNLEARN_DIR.master/2.key" "$E2E_DIR/aside"
expect_exit 4 "unlearnd ended with exit code 4" ctl up "$UNLEARN_DIR" --ranks 0 --detach "${UP_OPTIONS[@]}"
mv "$E2E_DIR/aside" "$UNLEARN_DIR.master/2.key"
chmod 644 "$UNLEARN_DIR.master/2.key"
expect_exit 4 "unlearnd ended with exit code 4" ctl up "$UNLEARN_DIR" --ranks 0 --detach "${UP_OPTIONS[@]}"
expect_true "a key that others may read is refused" \
  "$(lines_with 'mode 0644, expected 0600: others may read it' "$UNLEARN_DIR/run/unlearnd.log") >= 1"
chmod 600 "$UNLEARN_DIR.master/2.key"
up 2
verified m
down
finish
