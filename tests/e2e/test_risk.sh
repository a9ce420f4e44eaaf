#!/bin/bash
# tests/e2e/test_risk.sh: people of a risk class lie where the spec's table says, and nothing else changes:
# a deletion leaves exactly what training without the records gives, in later generations too.
#
# One dataset, two models: `m` with a table that gives class 1 a shard of its own and class 2 the last
# slices, `u` without. What a deletion retrains is told for both. A second cluster, which declares the same classes
# and never saw the records, must end with the same digests.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

sample data 24
awk '$0 == "writer-003" || $0 == "writer-017" || $0 == "writer-020" { print $0 ",1" }
  $0 == "writer-005" || $0 == "writer-011" { print $0 ",2" }' "$SUBJECTS" | sort -u >"$E2E_DIR/risks"
RISK=(--risk-file "$E2E_DIR/risks")
rows=$(wc -l <"$SUBJECTS")
of_class() { awk -F, -v class="$1" 'NR == FNR { of[$1] = $2; next } of[$0] == class' "$E2E_DIR/risks" "$SUBJECTS" | wc -l; }
SHAPE=(hidden=8 shards=4 slices=3 sequences=2 epochs=4)
TABLE='risk=[0=0-2/*, 1=3/*, 2=*/2]'

start risk
ctl --json import digits "${TRAIN[@]}" "${RISK[@]}" >/dev/null
expect_equal "the dataset counts the records of each class" "$(json .risk_records dataset show digits)" \
  "[$((rows - $(of_class 1) - $(of_class 2))),$(of_class 1),$(of_class 2)]"
expect_equal "and people are told" "$(ctl dataset show digits | grep '^risk classes')" \
  "risk classes   0: $((rows - $(of_class 1) - $(of_class 2))) 1: $(of_class 1) 2: $(of_class 2)"
expect_equal "show names the class of a person" \
  "$(for who in writer-003 writer-011 writer-000; do json .risk show digits --subject $who; done | paste -sd' ')" "1 2 0"
expect_equal "to people as well" "$(ctl show digits --subject writer-003 | sed -n 1p)" "risk class 1"

# --- Where they lie, and what that saves ---

plan_samples() { json .samples_to_retrain plan digits "$@"; }
ctl --json train m --dataset digits --set "${SHAPE[@]}" "$TABLE" --wait >/dev/null
expect_equal "the spec's text" "$(json .spec.risk model show m)" '0=0-2/*,1=3/*,2=*/2'
high=$(plan_samples --subject writer-003) plain=$(plan_samples --subject writer-000)
ctl --json train u --dataset digits --set "${SHAPE[@]}" --wait >/dev/null
high_u=$(($(plan_samples --subject writer-003) - high))
plain_u=$(($(plan_samples --subject writer-000) - plain))
echo "# samples to retrain for a person of class 1: $high with the table, $high_u without"
echo "# samples to retrain for a person of class 0: $plain with the table, $plain_u without"

# changed MODEL BEFORE: the components whose line is another than before.
changed() { comm -23 <(echo "$2") <(digests "$1") | cut -d' ' -f1 | paste -sd' '; }
before=$(digests m)
ctl --json delete digits --subject writer-003 --wait completed >/dev/null
expect_true "a person of class 1 is in shard 3 alone" \
  "$([[ $(changed m "$before") =~ ^(s3:[^ ]*\ ?)+$ ]] && echo 1 || echo 0)"
before=$(digests m)
ctl --json delete digits --subject writer-011 --wait completed >/dev/null
expect_true "one of class 2 in slice 2 of some shard" \
  "$([[ $(changed m "$before") =~ ^(s[0-9]:[^ ]*2[^ ]*\ ?)+$ ]] && echo 1 || echo 0)"
ctl --json delete digits --subject writer-000 --wait completed >/dev/null
verified m
verified u
expect_true "with the table, what is often asked for costs less than without" "high < high_u"

# --- An export is placed and replayed by classes, from its records and from a copy ---

replay() { # replay DIR OPTION...: "exit code, result".
  local code=0
  ctl --json replay "$@" >"$E2E_DIR/answer" 2>"$E2E_DIR/error" || code=$?
  echo "$code $(jq -r '.result // .error.status' "$E2E_DIR/answer")"
}
ctl --json export m --component 's3:[0,1,2]' -o "$E2E_DIR/audit" >/dev/null
expect_equal "the component of class 1 replays from its export" "$(replay "$E2E_DIR/audit")" "0 identical"
ctl --json export m --component 's3:[0,1,2]' -o "$E2E_DIR/pointer" --without-records >/dev/null
{ ids_of writer-003; ids_of writer-011; ids_of writer-000; } >"$E2E_DIR/except"
copy=(--data "${TRAIN[@]:0:2}" --subjects "$SUBJECTS" --except "$E2E_DIR/except")
expect_equal "and from a copy with the classes" \
  "$(replay "$E2E_DIR/pointer" "${copy[@]}" "${RISK[@]}")" "0 identical"
expect_equal "not from one without them" "$(replay "$E2E_DIR/pointer" "${copy[@]}")" "2 INVALID_ARGUMENT"

# --- A later generation: people keep their class; new ones bring theirs ---

mkdir "$E2E_DIR/more"
ctl --json sample "$E2E_DIR/more" --writers 30 >/dev/null
MORE=("$E2E_DIR/more/train-images-idx3-ubyte" "$E2E_DIR/more/train-labels-idx1-ubyte" --subjects
  "$E2E_DIR/more/train-subjects.txt" --id-prefix more-)
echo writer-028,1 >>"$E2E_DIR/risks"
gone='^writer-0(03|11|00)$'
awk -v gone="$gone" '$0 ~ gone { print "more-" NR - 1 }' "$E2E_DIR/more/train-subjects.txt" >"$E2E_DIR/except-more"
echo writer-028,1 >"$E2E_DIR/risks-more" # Nothing about writer-017 and -020: they are known.
before=$(digests m)
ctl --json import digits "${MORE[@]}" --except "$E2E_DIR/except-more" --risk-file "$E2E_DIR/risks-more" >/dev/null
expect_equal "people known keep their class without being told, new ones have theirs" \
  "$(for who in writer-017 writer-028 writer-029; do json .risk show digits --subject $who; done | paste -sd' ')" "1 1 0"
ctl --json train m --wait >/dev/null
expect_equal "no component of generation 0 has changed" "$(changed m "$before")" ""
before=$(digests m)
ctl --json delete digits --subject writer-028 --wait completed >/dev/null
expect_equal "class 1 keeps to its shard in the appended slice" "$(changed m "$before")" \
  "$(grep -oE '^s3:[^ ]*3\]' <<<"$before" | paste -sd' ')"
ctl --json delete digits --subject writer-017 --wait completed >/dev/null
verified m
found=$(digests m)
schema=$E2E_DIR/schema key=$(json .placement_key dataset show digits)
ctl schema digits >"$schema"

# --- Refusals change nothing ---

counts=$(json '[.records, .risk_records, .generations]' dataset show digits)
echo writer-020,2 >"$E2E_DIR/other"
expect_exit 4 'row|risk class 2|has class 1' ctl import digits "${TRAIN[@]}" --risk-file "$E2E_DIR/other"
printf 'writer-030,1\nwriter-030,3\n' >"$E2E_DIR/other"
expect_exit 2 'other line 2|class 3 here and class 1 before' ctl import digits "${TRAIN[@]}" --risk-file "$E2E_DIR/other"
echo writer-030,16 >"$E2E_DIR/other"
expect_exit 2 'other line 1|a whole number from 0 to 15' ctl import digits "${TRAIN[@]}" --risk-file "$E2E_DIR/other"
echo writer-030 >"$E2E_DIR/other"
expect_exit 2 'other line 1|NAME,CLASS' ctl import digits "${TRAIN[@]}" --risk-file "$E2E_DIR/other"
expect_exit 2 'no column "risk" for --risk' ctl import digits "${TRAIN[@]}" --risk risk
expect_equal "nothing has landed" "$(json '[.records, .risk_records, .generations]' dataset show digits)" "$counts"
train() { ctl train other --dataset digits --set shards=4 slices=3 "$@"; }
expect_exit 2 'risk puts class 1 into shards 4 to 4|0 to 3' train 'risk=1=4/0'
expect_exit 2 'risk puts class 1 into slices 3 to 3|0 to 2' train 'risk=1=*/3'
expect_exit 2 'risk names class 1 twice' train 'risk=1=0/0,1=1/1'
expect_exit 2 'risk is 1=high|expected uniform or CLASS=SHARDS/SLICES' train 'risk=1=high'
expect_exit 4 'other spec' ctl train m --dataset digits --set "${SHAPE[@]}" 'risk=1=3/1'

expect_equal "a table that leaves cells empty is told" \
  "$(json '.warning | test("of 16 cells .* have no record: risk keeps more shards or slices")' train half \
    --dataset digits --set "${SHAPE[@]}" 'risk=[0=0/*, 1=1/0, 2=1/1]' --wait)" true

# --- Whoever comes back may have another class ---

echo writer-003,5 >"$E2E_DIR/other"
awk '$0 != "writer-003" { print NR - 1 }' "$SUBJECTS" >"$E2E_DIR/others"
ctl --json import digits "${TRAIN[@]}" --except "$E2E_DIR/others" --readmit --risk-file "$E2E_DIR/other" >/dev/null
expect_equal "readmitted in another class" "$(json .risk show digits --subject writer-003)" 5
down

# --- A cluster that never saw them ---

start never 1
{ cat "$E2E_DIR/except"; ids_of writer-017; } >"$E2E_DIR/except-all"
awk '/^writer-0(28|17)$/ { print "more-" NR - 1 }' "$E2E_DIR/more/train-subjects.txt" >>"$E2E_DIR/except-more"
ctl --json import digits "${TRAIN[@]}" "${RISK[@]}" --schema "$schema" --placement-key "$key" \
  --except "$E2E_DIR/except-all" >/dev/null
ctl --json import digits "${MORE[@]}" "${RISK[@]}" --generation 1 --except "$E2E_DIR/except-more" >/dev/null
ctl --json train m --dataset digits --set "${SHAPE[@]}" "$TABLE" --wait >/dev/null
same_everywhere "a cluster that never saw them has the same digests" "$found" "$(digests m)"
down

# --- A column of classes, standardised columns: the order of a cell decides bits ---

people "$E2E_DIR/people.csv" 400
awk -F, -v OFS=, 'NR == 1 { print $0, "class"; next } { print $0, (substr($1, 2) % 3 == 0 ? 3 : substr($1, 2) % 5 == 0 ? 9 : "") }' \
  "$E2E_DIR/people.csv" >"$E2E_DIR/classes.csv"
SPEC=(hidden=12 activation=tanh shards=2 slices=2 sequences=2 epochs=4 optimizer.rate=0.01 'risk=[3=1/*, 9=*/1]')
import=("$E2E_DIR/classes.csv" --label wage --subject who --risk class)
start wages
ctl --json import wages "${import[@]}" >/dev/null
expect_equal "the column of classes is none of the schema's" \
  "$(json '[.columns[].name]' schema wages)" '["age","town","hours"]'
ctl --json train w --dataset wages --set "${SPEC[@]}" --wait >/dev/null
ctl --json delete wages --subject p03 p05 --wait completed >/dev/null
verified w
ctl --json export w --component 's1:[0,1]' -o "$E2E_DIR/wages-audit" >/dev/null
expect_equal "replayed in the same order" "$(replay "$E2E_DIR/wages-audit")" "0 identical"
awk -F, '$1 == "p03" || $1 == "p05" { print NR - 2 }' "$E2E_DIR/classes.csv" >"$E2E_DIR/except"
found=$(digests w)
as_if_never wages-never wages "$E2E_DIR/except" 1 "${import[@]}"
ctl --json train w --dataset wages --set "${SPEC[@]}" --wait >/dev/null
same_everywhere "classes and standardised columns: the same as never seen" "$found" "$(digests w)"
sed -n '1p; 2s/,[^,]*$/,7/p' "$E2E_DIR/classes.csv" >"$E2E_DIR/twice.csv"
expect_exit 4 'row 0|declares risk class 7' ctl import wages "$E2E_DIR/twice.csv" --label wage --subject who --risk class
down
finish
