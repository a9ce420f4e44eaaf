#!/usr/bin/env bash
# scripts/fuzz.sh: runs every fuzz target TIME seconds (60), one on each core, and prints a table (make fuzz).
#
# ONLY="csv npy": these alone. JOBS: so many at once. Inputs that reached new code are kept in
# build/fuzz/corpus/NAME; the committed ones, tests/fuzz/corpus/NAME, are where it begins. A target that
# crashes, hangs (10 s), leaks or takes too much memory (1 GiB, or 512 MiB at once) leaves its input in
# build/fuzz/found/NAME-*, and this ends with 1. MERGE=1 instead writes the smallest set of inputs that
# reaches the same into tests/fuzz/corpus/NAME.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

seconds=${TIME:-60}
jobs=${JOBS:-$(nproc)}
bytes_max=8192
found=build/fuzz/found
scratch=$(mktemp -d "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/fuzz.XXXXXX")
running=()
end() {
    trap - EXIT
    [ ${#running[@]} -eq 0 ] || kill -TERM "${running[@]}" 2>/dev/null
    wait
    rm -rf "$scratch"
}
trap end EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$found"

names=()
for target in build/fuzz/fuzz/fuzz_*; do
    name=${target##*/fuzz_}
    [ -f "tests/fuzz/fuzz_$name.c" ] || continue
    [ -z "${ONLY:-}" ] || [[ " $ONLY " == *" $name "* ]] || continue
    names+=("$name")
done
[ ${#names[@]} -gt 0 ] || { echo "no such target: ${ONLY:-}" >&2; exit 1; }

# one NAME: runs it; its output goes to the scratch directory, and its exit code beside it.
one() {
    local name=$1 grown=build/fuzz/corpus/$1 committed=tests/fuzz/corpus/$1
    mkdir -p "$grown" "$committed" "$scratch/$name"
    TMPDIR=$scratch/$name build/fuzz/fuzz/fuzz_"$name" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=1024 -malloc_limit_mb=512 -max_len=$bytes_max -print_final_stats=1 \
        -artifact_prefix="$found/$name-" "$grown" "$committed" >"$scratch/$name.log" 2>&1
    echo $? >"$scratch/$name.status"
}

merge() {
    local name=$1 fresh=$scratch/$1.merged
    mkdir -p "$fresh" "$scratch/$name" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name"
    TMPDIR=$scratch/$name build/fuzz/fuzz/fuzz_"$name" -merge=1 -max_len=$bytes_max "$fresh" \
        "tests/fuzz/corpus/$name" "build/fuzz/corpus/$name" >"$scratch/$name.log" 2>&1 ||
        { tail -n 5 "$scratch/$name.log"; exit 1; }
    rm -f "tests/fuzz/corpus/$name"/*
    cp "$fresh"/* "tests/fuzz/corpus/$name/"
    printf '%-14s %5d inputs %8d bytes\n' "$name" "$(find "$fresh" -type f | wc -l)" \
        "$(cat "$fresh"/* | wc -c)"
}

if [ -n "${MERGE:-}" ]; then
    for name in "${names[@]}"; do
        merge "$name"
    done
    exit 0
fi

for name in "${names[@]}"; do
    while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do
        wait -n
    done
    one "$name" &
    running+=($!)
done
wait
running=()

bad=0
printf '%-14s %12s %8s %8s %7s  %s\n' target executions /second edges inputs outcome
for name in "${names[@]}"; do
    log=$scratch/$name.log
    stat() { awk -v key="stat::$1:" '$1 == key { print $2 }' "$log"; }
    edges=$(grep -oE ' cov: [0-9]+' "$log" | tail -n 1 | grep -oE '[0-9]+')
    inputs=$(find "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" -type f | wc -l)
    outcome=ok
    if [ "$(cat "$scratch/$name.status")" -ne 0 ]; then
        bad=1
        outcome=$(grep -aoE 'SUMMARY: .*|^found .*|failed check.*' "$log" | head -n 1)
        outcome=${outcome:-$(tail -n 1 "$log")}
    fi
    printf '%-14s %12s %8s %8s %7s  %s\n' "$name" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "${edges:-?}" "$inputs" "$outcome"
done
if [ "$bad" -ne 0 ]; then
    for input in "$found"/*; do
        name=${input##*/}
        name=${name%%-*}
        echo "repeat: build/fuzz/fuzz/fuzz_$name $input"
    done
fi
exit "$bad"
