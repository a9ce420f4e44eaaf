#!/bin/bash
# tests/e2e/test_adult.sh: the main job on the Adult census: a CSV with categories, missing values
# and standardised columns.
#
# Accuracy on adult-test.csv must be at least 0.845. SGD, rate 0.05, momentum 0.9, batch 64, 10
# epochs, tanh.
E2E_SECONDS=280
source "$(dirname "$0")/lib.sh"

train=$E2E_DATA/adult-train.csv test=$E2E_DATA/adult-test.csv
[[ -r $train && -r $test ]] || skip "no Adult census in ../shared/data"

start adult 2
expect_equal "all rows are imported" \
  "$(json .records import adult "$train" --label income)" \
  "$(($(wc -l <"$train") - 1))"
trained=$(json . train income --dataset adult --wait --set hidden=64 shards=4 slices=4 \
  batch=64 epochs=10 activation=tanh optimizer.kind=sgd optimizer.rate=0.05 optimizer.momentum=0.9)
answer=$(json '[.accuracy, .records, .shards_used]' evaluate income "$test" --label income)
expect_equal "all test rows were answered by all shards" "$(jq -c '.[1:]' <<<"$answer")" \
  "[$(($(wc -l <"$test") - 1)),4]"
expect_number "4 shards, 4 slices, $(jq -c '[.samples_trained, .seconds]' <<<"$trained") samples and seconds: accuracy $(jq '.[0]' <<<"$answer")" \
  "$(jq '.[0]' <<<"$answer")" '>=' 0.845
before=$(digests income)
plan=$(json '[.records, .components_invalidated]' plan adult --record 0 100 32560)
expect_equal "delete by id does what plan said" \
  "$(json '[.records_deleted, .components_invalidated]' delete adult --record 0 100 32560 --wait completed)" "$plan"
expect_equal "as many digests changed" \
  "$(comm -23 <(echo "$before") <(digests income) | wc -l)" "$(jq '.[1]' <<<"$plan")"
verified income
down
finish
