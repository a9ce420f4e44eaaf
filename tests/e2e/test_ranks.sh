#!/bin/bash
# tests/e2e/test_ranks.sh: how many ranks train, and whether one dies, never shows in the digests.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

sample data 16
SPEC=(hidden=384 shards=2 slices=2 epochs=40)

# Segments of shared memory and session directories that the workers in use have now.
traces() {
  local pid
  [[ -z $BLIND ]] || return 0
  for pid in $(worker_pids); do
    grep -ao '/dev/shm/[^ ]*' "/proc/$pid/maps" || true
    tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^OMPI_FILE_LOCATION=//p;s/^PMIX_SERVER_TMPDIR=//p'
  done | sort -u
}
left_of() { # Those of the files named on stdin that still exist.
  local file
  while read -r file; do
    [[ ! -e $file ]] || echo "$file"
  done
}
import_and_train() { # NAME RANKS: up to the moment where training is under way.
  start "$1" "$2"
  ctl --json import digits "${TRAIN[@]}" >/dev/null
  ctl --json train m --dataset digits --set "${SPEC[@]}" >/dev/null
}

import_and_train one 1
wait_for "one rank trains" 90 all_valid m
one=$(digests m)
expect_equal "one rank has joined" "$(json '.workers | length' status)" 1
down

import_and_train two 2
both_busy() { [[ $(json '[.workers[] | select(.task != "")] | length' status) == 2 ]]; }
wait_for "both ranks hold a lease" 30 both_busy
ok "two ranks train at once"
wait_for "two ranks train" 90 all_valid m
same_everywhere "1 and 2 ranks give the same digests" "$(digests m)" "$one"
down

# A rank is killed while it is inside a stage.
import_and_train killed 2
inside() { # Sets victim to the process of a worker that is in the middle of a stage.
  victim=$(json '[.workers[] | select(.task != "" and .share > 0.05 and .share < 0.9)][0].name // "" |
    split("/")[1] // ""' status)
  [[ -n $victim ]]
}
wait_for "a rank is inside a stage" 30 inside
before=$(worker_pids)
fleet=$(cat "$UNLEARN_DIR/run/fleet.pid")
BLIND=''
may_look_into_processes "whether ended workers leave anything" || BLIND=yes
traces >"$E2E_DIR/traces"
expect_true "the busy worker is a process of this cluster" \
  "$(grep -cx "$victim" <<<"$before") == 1"
kill -KILL "$victim"
expect_equal "training was under way when the rank was killed" "$(json .state status m)" training
wait_for "training ends without that rank" 90 all_valid m
same_everywhere "a rank killed on the way changes no digest" "$(digests m)" "$one"
whole() { [[ $(json '.workers | length' status) == 2 && $(worker_pids | wc -l) == 2 ]]; }
wait_for "the fleet is whole again" 60 whole
after=$(worker_pids)
expect_equal "the fleet is whole again: two workers, none of them the killed one" \
  "$(wc -l <<<"$after") $(grep -cx "$victim" <<<"$after" || true)" "2 0"
expect_true "it is the same fleet, started again by itself" "$(kill -0 "$fleet" && echo 1 || echo 0)"
verified m

# Killed together, they cost no more. Nothing is under way: only the fleet has to notice.
traces >>"$E2E_DIR/traces"
for pid in $(worker_pids); do kill -KILL "$pid"; done
wait_for "the fleet comes back after all ranks were killed" 60 whole
traces >>"$E2E_DIR/traces"
all="$before $after $(worker_pids) $fleet $(descendants "$fleet") $(coordinator_pid)"
down
left=''
for pid in $all; do gone "$pid" || left+=" $pid"; done
expect_equal "after down no process of ours is left, by pid" "$left" ""
programs_left() {
  local pid
  for pid in $(ours); do
    case $(cat "/proc/$pid/comm" 2>/dev/null || true) in
      unlearnd | unlearn-* | mpirun | orted) echo -n "$pid " ;;
    esac
  done
}
expect_equal "after down no process carries our mark" "$(programs_left)" ""
if [[ -z $BLIND ]]; then
  expect_true "$(sort -u "$E2E_DIR/traces" | wc -l) segments and session directories were seen" \
    "$(wc -l <"$E2E_DIR/traces") > 0"
  expect_equal "none of them is left" "$(sort -u "$E2E_DIR/traces" | left_of)" ""
fi
expect_equal "a second down has nothing to do" \
  "$(json '[.fleet, .coordinator, .killed]' down "$UNLEARN_DIR")" "[false,false,false]"
finish
