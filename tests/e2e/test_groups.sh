#!/bin/bash
# tests/e2e/test_groups.sh: several ranks train one stage together: 1, 2 and 4 ranks give the same
# bits, and a member that dies costs the others seconds and changes nothing.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"

sample data 16
# Batches that no chunk and no group divides; the last ones of a pass are shorter still.
MLP=(hidden=40,24 dropout=0.1 shards=1 slices=3 epochs=3 batch=13 gradient_chunks=4)
# More stages at once than one: groups of all sizes, as it comes.
SOFTMAX=(learner=softmax shards=2 slices=2 sequences=2 epochs=3 batch=7 gradient_chunks=4
  optimizer.kind=adamw optimizer.rate=0.01)
# The stages of the failures: one that is never begun when a member dies, and one that is long enough to
# be hit on its way.
SHORT=(hidden=256 shards=1 slices=1 epochs=4 batch=31 gradient_chunks=4 seed=3)
LONG=("${SHORT[@]}" epochs=60)

export UNLEARN_FAILPOINTS=$E2E_DIR/fail
mkdir "$UNLEARN_FAILPOINTS"

joined() { [[ $(json '.workers | length' status) == "$1" ]]; }
begin() { # NAME RANKS
  start "$1" "$2"
  wait_for "$2 ranks join" 60 joined "$2"
  ctl --json import digits "${TRAIN[@]}" >/dev/null
}
train() { # MODEL SETTING...
  local model=$1
  shift
  ctl --json train "$model" --dataset digits --set "$@" --wait >/dev/null
}
granted() { # granted WORDS: how many leases the coordinator's log shows with these words.
  grep -c "event=lease_granted .*$1" "$UNLEARN_DIR/run/unlearnd.log" || true
}
trained_as() { # trained_as MEMBER/COUNT: how many parts of stages the fleet's log shows.
  grep -c "event=stage_trained .*member=$1" "$UNLEARN_DIR/run/fleet.log" || true
}
whole_story() { # Trains, deletes, repairs; prints all digests.
  train mlp "${MLP[@]}"
  train softmax "${SOFTMAX[@]}"
  digests mlp
  digests softmax
  ctl --json delete digits --subject writer-003 --wait completed >/dev/null
  digests mlp
  digests softmax
}

# --- The same bits ---

begin one 1
train short "${SHORT[@]}"
train long "${LONG[@]}"
short=$(digests short)
long=$(digests long)
one=$(whole_story)
expect_equal "alone, no lease names a group" "$(granted 'ranks=[2-9]')" 0
down

for ranks in 2 4; do
  begin "with$ranks" "$ranks"
  same_everywhere "1 and $ranks ranks give the same digests, before and after a deletion" \
    "$(whole_story)" "$one"
  expect_true "with $ranks ranks, $(granted "ranks=$ranks") stages were trained by groups of $ranks" \
    "$(granted "ranks=$ranks") >= 3"
  for ((i = 0; i < ranks; i++)); do
    expect_true "rank $i trained $(trained_as "$i/$ranks") parts of stages in groups of $ranks" \
      "$(trained_as "$i/$ranks") >= 3"
  done
  verified mlp
  expect_equal "verify of one component: identical" \
    "$(json '[.components, .identical]' verify mlp --components 1)" '[1,1]'
  expect_true "$(granted "ranks=$ranks compare=1") stage was trained again and compared by the whole group" \
    "$(granted "ranks=$ranks compare=1") == 1"
  # No rank is lost, no stage fails, nobody makes a communicator twice.
  expect_equal "nothing failed on the way" \
    "$(cat "$UNLEARN_DIR"/run/*.log | grep -cE 'level=error|event=worker_lost' || true)" 0
  down
done

# --- What a user sees, and a deletion in the middle ---

begin seen 4
ctl --json train seen --dataset digits --set "${LONG[@]}" epochs=400 >/dev/null
together() { [[ $(json '[.workers[] | select(.group_ranks == [0,1,2,3] and (.task | startswith("seen s0:")) )] | length' status) == 4 ]]; }
wait_for "status shows that four ranks share a task" 30 together
ok "status shows that four ranks share a task"
inside() { [[ $(json '[.workers[] | select(.share > 0.02)] | length' status) -ge 1 ]]; }
wait_for "the stage is under way" 30 inside
began=$(date +%s%N)
ctl --json delete digits --subject writer-004 >/dev/null
stopped() { [[ $(grep -c "event=stage_cancelled" "$UNLEARN_DIR/run/fleet.log") == 4 ]]; }
wait_for "a deletion stops all four" 10 stopped
ok "a deletion in the middle of a stage stops all four ranks within $((($(date +%s%N) - began) / 1000000)) ms"
# The next stage takes the same ranks again, who have given up their connection.
wait_for "four ranks share the stage again" 30 together
wait_for "it is under way again" 30 inside
ok "the next stage takes the same ranks again"
expect_equal "no rank was lost" "$(grep -c event=worker_lost "$UNLEARN_DIR/run/unlearnd.log" || true)" 0
down

# --- A member dies ---

ns_of() { date -d "$1" +%s%N; }
time_of() { # time_of LOG PATTERN: of the first such line, in ns; empty: there is none.
  local t
  t=$(grep -m1 -aoE "^t=[^ ]+ .*$2" "$1" | sed 's/^t=//;s/ .*//') || true
  [[ -z $t ]] || ns_of "$t"
}
ms_since() { echo $((($1 - KILLED) / 1000000)); }

# survivors_free: whether each other rank has stopped its part, or has ended.
survivors_free() {
  local pid rank=0
  for pid in "${PIDS[@]}"; do
    if [[ $rank != "$VICTIM" ]] && ! gone "$pid" &&
      ! grep -qaE "who=worker/$rank event=stage_(cancelled|failed)" "$UNLEARN_DIR/run/fleet.log"; then
      return 1
    fi
    rank=$((rank + 1))
  done
}
dead() { [[ ! -e $UNLEARN_FAILPOINTS/$1-$2 ]]; }

dies() { # dies POINT RANK MODEL SETTING...: its digests are those in the variable MODEL.
  local point=$1 model=$3 freed again log
  VICTIM=$2
  shift 3
  begin "dies-$point" 4
  log=$UNLEARN_DIR/run/unlearnd.log
  mapfile -t PIDS < <(json '.workers | sort_by(.rank) | .[].name | split("/")[1]' status)
  [[ $point == group-step ]] || touch "$UNLEARN_FAILPOINTS/$point-$VICTIM"
  ctl --json train "$model" --dataset digits --set "$@" >/dev/null
  if [[ $point == group-step ]]; then
    wait_for "the stage is under way" 30 inside
    touch "$UNLEARN_FAILPOINTS/$point-$VICTIM"
  fi
  wait_for "rank $VICTIM dies at $point" 30 dead "$point" "$VICTIM"
  wait_for "the others are free" 20 survivors_free
  freed=$(date +%s%N)
  KILLED=$(time_of "$UNLEARN_DIR/run/fleet.log" "who=worker/$VICTIM event=failpoint point=$point")
  expect_true "rank $VICTIM killed at $point: the others are free after $(ms_since "$freed") ms" \
    "$(ms_since "$freed") < 6000"
  wait_for "the stage is trained after all" 60 all_valid "$model"
  again=$(ns_of "$(grep -a event=lease_granted "$log" | tail -1 | sed 's/^t=//;s/ .*//')")
  expect_true "the stage was leased again after $(ms_since "$again") ms, to $(grep -a event=lease_granted "$log" | tail -1 | grep -o 'ranks=[0-9]*')" \
    "$(granted 'component=s0:') >= 2"
  same_everywhere "its bits are those of one rank" "$(digests "$model")" "${!model}"
  wait_for "the fleet is whole again" 30 joined 4
  down
}

dies group-ready 1 short "${SHORT[@]}"
dies group-create 3 short "${SHORT[@]}"
dies group-step 0 long "${LONG[@]}"
finish
