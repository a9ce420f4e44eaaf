#!/bin/bash
# tests/e2e/test_simulate.sh: simulate gives the figures of S3T (exhausted: mL H(mB); first shard
# lost: the mean time until the first of m sets of B slices is hit), needs no cluster, is fast, and
# refuses what makes no sense.
E2E_SECONDS=120
source "$(dirname "$0")/lib.sh"
unset UNLEARN_DIR

within() { # WHAT FOUND EXPECTED: by 1 %
  expect_number "$1: $2, within 1 % of $3" "($2 / $3 - 1) | fabs" '<=' 0.01
}

EXHAUSTED=(45.7 58.6 66.4 72.0)
FIRST=(4.00 10.12 15.17 19.27)
for budget in 1 2 3 4; do
  read -r exhausted first theory first_theory < <(json '[.deletions_until_exhausted.mean,
    .deletions_until_first_shard_lost.mean, .theory, .theory_first_shard_lost] | join(" ")' \
    simulate --shards 5 --slices 4 --budget $budget)
  within "5 shards, 4 slices, B=$budget: until exhausted" "$exhausted" "${EXHAUSTED[budget - 1]}"
  within "5 shards, 4 slices, B=$budget: until the first shard is lost" "$first" "${FIRST[budget - 1]}"
  within "5 shards, 4 slices, B=$budget: theory" "$theory" "${EXHAUSTED[budget - 1]}"
  within "5 shards, 4 slices, B=$budget: and of the first" "$first_theory" "${FIRST[budget - 1]}"
done

SHAPE=(simulate --shards 5 --slices 4 --budget 2 --trials 20000)
expect_equal "where no closed form exists, theory is null" \
  "$(json '[.theory, .theory_first_shard_lost]' "${SHAPE[@]}" --policy random)" '[null,null]'
expect_equal "without replacement: the last of 10 of 20 in random order" \
  "$(json '[(.theory * 11 | round), .theory_first_shard_lost]' "${SHAPE[@]}" --deletions without)" '[210,null]'
expect_equal "one trial has no standard error" \
  "$(json .deletions_until_exhausted.sem simulate --shards 5 --slices 4 --trials 1)" null
expect_equal "the same seed gives the same answer" "$(ctl --json "${SHAPE[@]}" --seed 5)" \
  "$(ctl --json "${SHAPE[@]}" --seed 5)"
expect_differ "another seed another one" "$(ctl --json "${SHAPE[@]}" --seed 5)" \
  "$(ctl --json "${SHAPE[@]}" --seed 6)"
GIVEN=(--deletions given --probabilities 0.6,0.2,0.1,0.1)
mean() { json .deletions_until_first_shard_lost.mean "${SHAPE[@]}" "$@"; }
bms=$(mean "${GIVEN[@]}" --policy bms)
expect_number "slices that are rarely deleted from lead: the first shard lives longer" \
  "$bms" '>' "$(mean "${GIVEN[@]}")"
expect_number "and longer than with sampled sequences" \
  "$bms" '>' "$(mean "${GIVEN[@]}" --policy sampling)"
expect_number "subjects with 3 records each wear it out sooner" \
  "$(mean --deletions subjects --records 3)" '<' "$(mean)"
expect_equal "people get a table" "$(ctl "${SHAPE[@]}" 2>/dev/null | grep -c 'prefix\|first shard')" 2

began=$(date +%s%N)
ctl --json simulate --shards 10 --slices 8 --budget 8 --trials 1000000 >/dev/null
took_ms=$((($(date +%s%N) - began) / 1000000))
expect_true "a million trials of 10 shards and 8 slices take $took_ms ms" "took_ms < 30000"

expect_exit 2 '--shards M and --slices L' ctl simulate --shards 5
expect_exit 2 'budget is 25|orders of 4 slices' ctl simulate --shards 5 --slices 4 --budget 25
expect_exit 2 'budget is 5|number of slices, 4' ctl simulate --shards 5 --slices 4 --budget 5 --policy bms
expect_exit 2 'shards is 0' ctl simulate --shards 0 --slices 4
expect_exit 2 '--trials is 0' ctl "${SHAPE[@]}" --trials 0
expect_exit 2 '--policy|rotation, random, bms or sampling' ctl "${SHAPE[@]}" --policy best
expect_exit 2 '--deletions|with, without, given or subjects' ctl "${SHAPE[@]}" --deletions some
expect_exit 2 'needs --probabilities' ctl "${SHAPE[@]}" --deletions given
expect_exit 2 'has 3 numbers|4 slices' ctl "${SHAPE[@]}" --policy bms --probabilities 1,2,3
expect_exit 2 '--probabilities, number 2' ctl "${SHAPE[@]}" --policy bms --probabilities 1,x,3,4
expect_exit 2 'probability of slice 1' ctl "${SHAPE[@]}" --policy bms --probabilities 1,0,3,4
expect_exit 2 '--probabilities has no effect' ctl "${SHAPE[@]}" --probabilities 1,2,3,4
expect_exit 2 '--records belong together' ctl "${SHAPE[@]}" --deletions subjects
expect_exit 2 '--records belong together' ctl "${SHAPE[@]}" --records 2
expect_exit 2 'records is 0' ctl "${SHAPE[@]}" --deletions subjects --records 0

finish
