#!/usr/bin/env bash
# tests/cluster/run.sh: the tests that need containers or services of the system, one after the other; called by
# `make test-cluster` and by CI, from the root of the repository, with bin/ built.
#
# Exit codes: 0 all passed, 1 one failed, 77 none failed, but one or more could not run here and said why.
set -uo pipefail
worst=0
for test in cluster deb systemd slurm; do
  "tests/cluster/test_$test.sh"
  code=$?
  case $code in
    0) ;;
    77) ((worst != 0)) || worst=77 ;;
    *) worst=1 ;;
  esac
done
exit "$worst"
