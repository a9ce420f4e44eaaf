#!/usr/bin/env bash
# Runs every test there is and closes with "N passed, N failed" (make test).
#
#   1. unit tests (cmocka), as they are released
#   2. the same under AddressSanitizer and UndefinedBehaviorSanitizer
#   3. end-to-end tests with real mpirun, ZeroMQ and LMDB, and the demo
#   4. lint: layering, clang-tidy, cppcheck, where these are installed (make lint installs them)
#
# A unit test counts per cmocka test, an end-to-end test per "ok" line. UNIT_ONLY=1 leaves out 3 and 4.
set -uo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# name, seconds allowed, command...: runs it, counts what it says.
count() {
    local name=$1 seconds=$2 status began=$SECONDS
    shift 2
    timeout --kill-after=20 "$seconds" "$@" >"$log" 2>&1 </dev/null
    status=$?
    local good bad skips
    good=$(grep -acE '^(\[       OK \]|ok - )' "$log")
    bad=$(grep -acE '^(\[  FAILED  \] test_|not ok - )' "$log")
    skips=$(grep -acE '^(\[  SKIPPED \] test_|skip - )' "$log")
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1 # Crashed, hung or gave up before it could say so.
    fi
    [ "$status" -eq 0 ] && [ "$good" -eq 0 ] && [ "$skips" -eq 0 ] && bad=1 # A test that tests nothing.
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skips))
    printf '%-34s %4d passed %3d failed %3d s\n' "$name" "$good" "$bad" $((SECONDS - began))
    grep -aE '^skip - ' "$log"
    if [ "$bad" -gt 0 ]; then
        echo "---- $name ended with status $status; its last lines:"
        tail -n 40 "$log"
        echo '----'
    fi
}

for flavour in release asan; do
    for test in build/$flavour/unit/test_*; do
        [ -x "$test" ] && [ -f "tests/unit/$(basename "$test").c" ] || continue
        count "$flavour $(basename "$test")" 240 "$test"
    done
done

if [ -z "${UNIT_ONLY:-}" ]; then
    for test in build/release/e2e/test_*; do
        count "e2e $(basename "$test")" 240 "$test"
    done
    for test in tests/e2e/test_*.sh; do
        count "e2e $(basename "$test" .sh)" 420 bash "$test"
    done
    count demo 180 bash -c 'scripts/demo.sh && echo "ok - the demo ran to its end"'
    if command -v clang-tidy >/dev/null && command -v cppcheck >/dev/null; then
        count lint 900 bash -c 'scripts/lint.sh && echo "ok - lint is clean"'
    else
        count lint 10 echo "skip - clang-tidy or cppcheck is not installed: make lint"
    fi
fi

if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
