#!/usr/bin/env bash
# Runs every test there is and closes with "N passed, N failed" (make test).
#
#   1. unit tests (cmocka), as they are released
#   2. the same under AddressSanitizer and UndefinedBehaviorSanitizer
#      and the fuzz targets under them, each over its corpus (tests/fuzz)
#   3. end-to-end tests with real mpirun, ZeroMQ and LMDB, and the demo
#   4. lint: layering, clang-tidy, cppcheck, where these are installed (make lint installs them)
#
# A unit test counts per cmocka test, an end-to-end test per "ok" line. UNIT_ONLY=1 leaves out 3 and 4.
# JOBS tests run side by side (as many as there are cores, at most 4): much of their time is waiting.
# What measures time itself runs alone, at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

cores=$(nproc)
jobs=${JOBS:-$((cores < 4 ? cores : 4))}
passed=0 failed=0 skipped=0
names=() running=()
work=$(mktemp -d)
end() {
    trap - EXIT
    # Each test is ended by its `timeout`, which passes the signal on.
    [ ${#running[@]} -eq 0 ] || kill -TERM "${running[@]}" 2>/dev/null
    wait
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM HUP

# finished NUMBER STATUS: counts what a test has said, and tells of it in one line, or in more.
finished() {
    local name=${names[$1]} status=$2 log=$work/$1 good bad skips
    good=$(grep -acE '^(\[       OK \]|ok - )' "$log")
    bad=$(grep -acE '^(\[  FAILED  \] test_|not ok - )' "$log")
    skips=$(grep -acE '^(\[  SKIPPED \] test_|skip - )' "$log")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1 # Crashed, hung or gave up before it could say so.
    fi
    [ "$status" -eq 0 ] && [ "$good" -eq 0 ] && [ "$skips" -eq 0 ] && bad=1 # A test that tests nothing.
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skips))
    printf '%-34s %4d passed %3d failed %3d s\n' "$name" "$good" "$bad" $((SECONDS - began[$1]))
    grep -aE '^skip - ' "$log"
    if [ "$bad" -gt 0 ]; then
        echo "---- $name ended with status $status; its last lines:"
        tail -n 40 "$log"
        echo '----'
    fi
    rm -f "$log"
}

# settle COUNT: waits until at most so many tests run.
settle() {
    local number pid status
    while [ ${#running[@]} -gt "$1" ]; do
        wait -n -p pid "${running[@]}"
        status=$?
        for number in "${!running[@]}"; do
            if [ "${running[$number]}" = "$pid" ]; then
                unset "running[$number]"
                finished "$number" "$status"
            fi
        done
    done
}

# start NAME SECONDS COMMAND...: runs it beside others as soon as there is room, and so long at most.
began=()
start() {
    local number=${#names[@]} seconds=$2
    settle $((jobs - 1))
    names+=("$1")
    began+=("$SECONDS")
    shift 2
    timeout --kill-after=20 "$seconds" "$@" >"$work/$number" 2>&1 </dev/null &
    running[number]=$!
}

for flavour in release asan; do
    for test in build/$flavour/unit/test_*; do
        [ -x "$test" ] && [ -f "tests/unit/$(basename "$test").c" ] || continue
        start "$flavour $(basename "$test")" 240 "$test"
    done
done

# Each fuzz target takes its corpus.
for target in build/asan/fuzz/fuzz_*; do
    name=${target##*/fuzz_}
    [ -x "$target" ] && [ -f "tests/fuzz/fuzz_$name.c" ] || continue
    start "fuzz $name" 120 "$target" "tests/fuzz/corpus/$name"
done

if [ -z "${UNIT_ONLY:-}" ]; then
    for test in build/release/e2e/test_*; do
        start "e2e $(basename "$test")" 240 "$test"
    done
    alone=(groups)
    for test in tests/e2e/test_*.sh; do
        name=$(basename "$test" .sh)
        [[ " ${alone[*]} " == *" ${name#test_} "* ]] || start "e2e $name" 420 bash "$test"
    done
    start demo 180 bash -c 'scripts/demo.sh && echo "ok - the demo ran to its end"'
    for name in "${alone[@]}"; do
        settle 0
        start "e2e test_$name" 420 bash "tests/e2e/test_$name.sh"
    done
    settle 0
    if command -v clang-tidy >/dev/null && command -v cppcheck >/dev/null; then
        start lint 900 bash -c 'scripts/lint.sh && echo "ok - lint is clean"'
    else
        start lint 10 echo "skip - clang-tidy or cppcheck is not installed: make lint"
    fi
fi
settle 0

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
