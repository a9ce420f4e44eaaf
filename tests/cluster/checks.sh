# shellcheck shell=bash
# tests/cluster/checks.sh: how the tests of this directory say what they have seen; sourced by each.
#
# A test may define last_words: what is of use when something did not come in time.
passed=0 failed=0
BEGAN=$SECONDS

ok() { echo "ok - $1 ($((SECONDS - BEGAN)) s)"; passed=$((passed + 1)); }
not_ok() { echo "not ok - $1: found ${2:0:600}, expected ${3:0:600}"; failed=$((failed + 1)); }
expect_equal() { if [[ $2 == "$3" ]]; then ok "$1"; else not_ok "$1" "$2" "$3"; fi; }

# Ends the test when the command does not succeed in time: what follows would mean nothing.
wait_for() { # WHAT SECONDS COMMAND...
  local what=$1 until=$((SECONDS + $2))
  shift 2
  until "$@"; do
    if ((SECONDS >= until)); then
      not_ok "$what" "not so after the time given" "$*"
      { ! declare -F last_words >/dev/null || last_words; } | cut -c1-300 || true
      finish
    fi
    sleep 0.2
  done
}

# The last line, and the exit code.
finish() {
  local name=${0##*/test_}
  echo "${name%.sh}: $passed passed, $failed failed, $((SECONDS - BEGAN)) s"
  exit $((failed > 0))
}
