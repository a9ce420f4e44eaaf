#!/usr/bin/env bash
# The main job from end to end, each command shown before it runs: make demo [DATA=DIR].
#
# Without DATA it draws sample digits; with DATA=DIR it takes the MNIST files of that folder
# (mnist-images-idx3-ubyte.gz, mnist-labels-idx1-ubyte.gz). Everything happens in a temporary
# directory, which is removed at the end together with every process.
set -euo pipefail

bin=$(cd "$(dirname "$0")/../bin" && pwd)
data=${1:-}
[ -z "$data" ] || data=$(cd "$data" && pwd)
work=$(mktemp -d)
cleanup() {
    "$bin/unlearnctl" down "$work/cluster" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$work"
export UNLEARN_DIR=cluster
unset OPENBLAS_CORETYPE # Else the cluster that is made here would refuse its workers.

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
    printf '$ %s\n' "unlearnctl $*"
    timeout 120 "$bin/unlearnctl" "$@" 2>&1
}
field() { timeout 60 "$bin/unlearnctl" --json "${@:2}" | jq -r "$1"; }

if [ -n "$data" ]; then
    images=$data/mnist-images-idx3-ubyte.gz labels=$data/mnist-labels-idx1-ubyte.gz
    train=("$images" "$labels" --limit 8000)
    test=("$images" "$labels" --skip 8000)
    who=(--record 17)
    model=(--set 'hidden=[256]' --set shards=5 --set slices=3 --set epochs=20 --set batch=32)
else
    say 'Sample data: digits drawn in 40 handwritings. Each writer is a person who may ask to be forgotten.'
    run sample data
    train=(data/train-images-idx3-ubyte data/train-labels-idx1-ubyte
        --subjects data/train-subjects.txt)
    test=(data/test-images-idx3-ubyte data/test-labels-idx1-ubyte)
    who=(--subject writer-007)
    model=(--set 'hidden=[64]' --set shards=4 --set slices=3 --set epochs=12)
fi

say 'A cluster of its own: a coordinator with a store, and two MPI ranks.'
run init cluster
# Keys are erased by overwriting: unlearnd starts on ext4 and xfs alone, unless it is told.
case $(findmnt -n -o FSTYPE -T . 2>/dev/null || true) in
    ext4 | xfs) run up cluster --ranks 2 --detach ;;
    *)
        echo "(This directory lies on no ext4 or xfs: overwritten keys may stay on its disk.)"
        run up cluster --ranks 2 --detach --allow-unsafe-fs
        ;;
esac

say 'Records go in. Where each one is placed depends on a keyed hash of its subject alone.'
run import digits "${train[@]}"

say 'An ensemble: every shard learns its slices one after the other, a component after each.'
run train numbers --dataset digits "${model[@]}" --wait
run components numbers
run evaluate numbers "${test[@]}"
run predict numbers "${test[@]}" --limit 3

say 'Somebody asks to be forgotten. What would it cost?'
run plan digits "${who[@]}"
before=$(field .samples_from_scratch plan digits "${who[@]}")
cost=$(field .samples_to_retrain plan digits "${who[@]}")

say 'The deletion. From its acknowledgement on, nothing that has seen these records answers.'
run delete digits "${who[@]}" --wait completed
run components numbers
run evaluate numbers "${test[@]}"

say 'The proof: every component is trained again from nothing and compared, byte for byte.'
run verify numbers --components all

say 'And out.'
run down cluster
printf '\nForgotten, exactly: %s samples were trained again instead of %s.\n' "$cost" "$before"
