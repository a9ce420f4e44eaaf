#!/bin/bash
# tests/e2e/test_readme.sh: what README.md tells a newcomer to type works as it stands there, line by line.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

block() { # block HEADING: the first block of commands under it.
  awk -v heading="## $1" '$0 == heading { there = 1 } there && /^```/ { n++; next } there && n == 1
    n == 2 { exit }' README.md
}
five=$(block 'Five minutes with your own CSV' | grep -v '^make ')
audit=$(block "An auditor's walk-through")
if ((${#UP_OPTIONS[@]} > 0)); then # As README says.
  five=${five//unlearnctl up cluster/unlearnctl up cluster ${UP_OPTIONS[*]}}
  audit=${audit//unlearnctl up cluster/unlearnctl up cluster ${UP_OPTIONS[*]}}
fi
commands() { grep -oE '(^|[(])unlearnctl [a-z]+' <<<"$1" | sed 's/.*unlearnctl //' | sort -u | paste -sd' '; }
expect_equal "the five minutes" "$(commands "$five")" \
  "delete down evaluate import init plan predict schema train up verify"
expect_equal "the walk-through" "$(commands "$audit")" "delete down export log receipt replay up"

# The newcomer's files: a label of two classes, a few rows of alice and of bob, and so many other people
# that no cell is empty, though README's commands draw a placement key.
cd "$E2E_DIR"
ln -s "$E2E_BIN" bin
people raw.csv 600
awk -F, -v OFS=, 'NR == 1 { $1 = "person"; $5 = "income" }
  NR > 1 { $1 = NR % 70 == 2 ? "alice" : NR % 70 == 3 ? "bob" : "p" NR; $5 = $5 > 170 ? "high" : "low" }
  { print }' raw.csv >all.csv
head -501 all.csv >people.csv
{ head -1 all.csv; tail -100 all.csv; } >held-out.csv
head -9 held-out.csv | cut -d, -f1-4 >new.csv

typed() { # typed WHAT LINES: in one shell, as pasted; the output goes to typed.log.
  local code=0
  env -u UNLEARN_DIR bash -ec "$2" >typed.log 2>&1 || code=$?
  expect_equal "$1: every command succeeds" "$code $(((code)) && tail -n 3 typed.log || true)" "0 "
}
typed "five minutes" "$five"
expect_equal "all components are identical" "$(grep -o '16 identical, 0 different, 0 skipped' typed.log || true)" \
  '16 identical, 0 different, 0 skipped'
typed "an auditor's walk-through" "export PATH=$PWD/bin:\$PATH UNLEARN_DIR=$PWD/cluster; $audit"
expect_equal "both replays are identical, and the first has the bytes that the receipt names" \
  "$(grep '^identical: ' typed.log | sed 's/.*commitment//' | paste -sd';')" ', which the receipt names;'
finish
