#!/bin/bash
# tests/e2e/test_mnist.sh: the main job on MNIST: 8,000 images to learn, the last 2,000 to test.
#
# Accuracy with 5 shards of 3 slices must be at least 0.94, and within 0.03 of one shard and one
# slice. SGD, rate 0.1, momentum 0.9: the defaults, written out. Afterwards records are deleted by
# id, and every component must be what training without them gives.
E2E_SECONDS=280
source "$(dirname "$0")/lib.sh"

images=$E2E_DATA/mnist-images-idx3-ubyte.gz labels=$E2E_DATA/mnist-labels-idx1-ubyte.gz
[[ -r $images && -r $labels ]] || skip "no MNIST in ../shared/data"
SGD=(optimizer.kind=sgd optimizer.rate=0.1 optimizer.momentum=0.9)
accuracy() { json .accuracy evaluate "$1" "$images" "$labels" --skip 8000; }

start mnist 2
expect_equal "8,000 images are imported" \
  "$(json '[.records, .generation]' import mnist "$images" "$labels" --limit 8000)" "[8000,0]"
trained=$(json . train many --dataset mnist --wait --set hidden=256 shards=5 slices=3 epochs=20 batch=32 "${SGD[@]}")
expect_equal "15 components" "$(jq .components_trained <<<"$trained")" 15
many=$(accuracy many)
expect_number "5 shards, 3 slices, $(jq -c '[.samples_trained, .seconds]' <<<"$trained") samples and seconds: accuracy $many" "$many" '>=' 0.94
trained=$(json . train one --dataset mnist --wait --set hidden=256 shards=1 slices=1 epochs=20 batch=32 "${SGD[@]}")
one=$(accuracy one)
expect_number "within 0.03 of 1 shard, 1 slice ($one in $(jq -c '.seconds' <<<"$trained") s)" "$many" '>=' "$one - 0.03"
ctl --json model remove one >/dev/null # Else each deletion trains it anew.

# Three records: at most three shards are touched.
ids=(17 4711 7999)
before=$(digests many)
plan=$(json '[.records, .components_invalidated]' plan mnist --record "${ids[@]}")
expect_equal "delete by id does what plan said" \
  "$(json '[.records_deleted, .components_invalidated]' delete mnist --record "${ids[@]}" --wait completed)" "$plan"
expect_equal "as many digests changed" \
  "$(comm -23 <(echo "$before") <(digests many) | wc -l)" "$(jq '.[1]' <<<"$plan")"
verified many
after=$(accuracy many)
expect_number "accuracy afterwards $after" "$after" '>=' 0.94
down
finish
