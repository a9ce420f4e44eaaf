#!/usr/bin/env bash
# docker/demo.sh: a first deletion with a receipt, step by step, as a client of the cluster.
set -euo pipefail
cd "$(mktemp -d)"
say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
run() {
  echo "\$ $*"
  "$@"
}

say "Drawn digits of 24 writers, made here"
run unlearnctl sample data --writers 24
train=(data/train-images-idx3-ubyte data/train-labels-idx1-ubyte --subjects data/train-subjects.txt)
test=(data/test-images-idx3-ubyte data/test-labels-idx1-ubyte)
if ! unlearnctl dataset show digits >/dev/null 2>&1; then
  say "They become a dataset, and a model is trained on it by all hosts"
  run unlearnctl import digits "${train[@]}"
fi
run unlearnctl train demo --dataset digits --set hidden=64 shards=4 slices=3 epochs=6 --wait
run unlearnctl evaluate demo "${test[@]}"
run unlearnctl status

writer=$(for w in $(sort -u data/train-subjects.txt); do
  if [[ $(unlearnctl --json show digits --subject "$w" 2>/dev/null | jq '.records | length') -gt 0 ]]; then
    echo "$w"
    break
  fi
done)
say "A writer asks to be forgotten"
run unlearnctl plan digits --subject "$writer"
run unlearnctl delete digits --subject "$writer" --wait completed --receipt accepted.receipt
say "Anybody can check the receipt, without asking us"
run unlearnctl receipt verify accepted.receipt --key "$UNLEARN_DIR.client/receipt.pub"
say "Every component equals one that never saw the writer"
run unlearnctl verify demo --components all
