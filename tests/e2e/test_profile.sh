#!/bin/bash
# tests/e2e/test_profile.sh: numeric profiles: another one is refused, an older one serves on, and
# train --reprofile moves a model to the new one while it answers.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

# Two core types that every processor of the last fifteen years has: the one that init writes, and Nehalem.
OURS=Haswell
grep -qm1 avx2 /proc/cpuinfo && grep -qm1 '\<fma\>' /proc/cpuinfo || OURS=Prescott
grep -qm1 sse4_2 /proc/cpuinfo ||
  skip "this processor has no SSE 4.2, which OpenBLAS's core type Nehalem needs: no two to compare"

core() { # core NAME: the cluster's setting from the next start on.
  sed -i "s/^blas_core:.*/blas_core: $1/" "$UNLEARN_DIR/config.yaml"
}
cores() { # How many valid components of the model m have which core type.
  json '[.components[] | select(.state == "valid") | .core] | group_by(.) | map("\(.[0]) \(length)") | join(",")' components m
}
swapped() { # Whether at least N shards of m answer under the new profile and one does not.
  [[ $(json '[.components[] | select(.core == "Nehalem")] | length' components m) -ge $1 ]]
}

# The id of the first record whose deletion would invalidate so many components.
hits() {
  local id
  for ((id = 0; id < $(wc -l <"$SUBJECTS"); id++)); do
    [[ $(json .components_invalidated plan digits --record "$id") != "$1" ]] || break
  done
  echo "$id"
}

sample data 24
use profile
ctl --json init "$UNLEARN_DIR" >/dev/null
expect_equal "init writes the core type that a worker would choose" \
  "$(grep ^blas_core: "$UNLEARN_DIR/config.yaml")" "blas_core: $OURS"

# --- A rank that computes otherwise is refused ---

expect_exit 4 "a worker was refused|BLAS core type Nehalem|set OPENBLAS_CORETYPE=$OURS" \
  env OPENBLAS_CORETYPE=Nehalem "$E2E_BIN/unlearnctl" up "$UNLEARN_DIR" --ranks 2 --detach "${UP_OPTIONS[@]}"
expect_true "the refused ranks and their coordinator are gone" "$([[ ! -e $UNLEARN_DIR/run/fleet.pid ]] && echo 1 || echo 0)"
expect_true "the worker's log names the setting" \
  "$(grep -c "set OPENBLAS_CORETYPE=$OURS" "$UNLEARN_DIR/run/fleet.log" | awk '{print ($1 > 0)}')"
up 0
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=16 shards=3 slices=3 epochs=4 >/dev/null
OPENBLAS_CORETYPE=Nehalem timeout 10 "$E2E_BIN/unlearn-fleet" "${FLEET_KEYS[@]}" --rendezvous "$UNLEARN_DIR/run/workers" \
  --ranks 1 >"$E2E_DIR/fleet" 2>&1 || true
expect_true "a fleet started by hand under another core type is refused too" \
  "$(grep -c 'event=worker_refused' "$UNLEARN_DIR/run/unlearnd.log" | awk '{print ($1 > 0)}')"
expect_equal "it has trained nothing" "$(json .components_valid model show m)" 0
down

refused_start() { # refused_start WORDS: unlearnd ends with 2 and says so.
  local code=0
  "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR" 2>"$E2E_DIR/error" || code=$?
  expect_equal "unlearnd refuses: $(grep -o "$1.*" "$E2E_DIR/error" | head -1)" \
    "$code $(grep -c "event=start_failed.*$1" "$E2E_DIR/error")" "2 1"
}
core Nonsense
refused_start 'blas_core: Nonsense, but OpenBLAS computes as'
core 'x-y'
refused_start 'blas_core is .*, expected a core type'

# --- The coordinator's own environment does not count: its settings do ---

core $OURS
OPENBLAS_CORETYPE=Nehalem up 0
expect_equal "the settings win over the coordinator's environment" "$(json .core status)" $OURS
down
up 2
ctl --json train m --wait >/dev/null
verified m
before=$(digests m)
expect_equal "components tell their profile" "$(cores)" "$OURS 9"
profile=$(json '[.components[].profile] | unique | length' components m)
expect_equal "all of them have one profile" "$profile" 1
labels=$(json '[.predictions[].label] | join("")' predict m "${TEST[@]}" --limit 40)

# --- Another profile: the old components serve, and are not trained on ---

down
core Nehalem
up 2
expect_equal "under another profile the old components stay as they were" "$(digests m)" "$before"
expect_equal "they are told apart" "$(json '[.components_outdated, .core]' model show m)" '[9,"Nehalem"]'
expect_equal "they go on answering" "$(json '[.predictions[].label] | join("")' predict m "${TEST[@]}" --limit 40)" "$labels"
expect_equal "verify skips what it cannot make again, and says why" \
  "$(json '[.components, .identical, .different, .skipped, .skipped_outdated]' verify m)" '[9,0,0,9,9]'
text=$(ctl verify m)
expect_true "also to people" "$(grep -c 'older numeric profile.*--reprofile' <<<"$text")"

# A deletion in a later slice leaves a parent of the older profile: its repair must not begin.
id=$(hits 2)
expect_equal "a record of a second slice" "$(json .components_invalidated plan digits --record "$id")" 2
expect_exit 1 'older numeric profile|--reprofile' ctl delete digits --record "$id" --wait repaired
expect_exit 1 'older numeric profile|unlearnctl train m --reprofile' ctl train m --wait
expect_equal "nothing was trained on top of an older profile" "$(cores)" "$OURS 7"
# One in a first slice starts from nothing, under the current profile.
first=$(hits 3)
expect_equal "a record of a first slice in a whole shard" \
  "$(json .components_invalidated plan digits --record "$first")" 3
ctl --json delete digits --record "$first" --wait repaired >/dev/null
BOTH=$(printf '%s\n' "$OURS 4" "Nehalem 3" | sort | paste -sd,)
expect_equal "a chain that starts from nothing is repaired under the current profile" "$(cores)" "$BOTH"

# --- train --reprofile, with a deletion and two restarts in the middle ---

down
up 0
answer=$(json '[.state, .shards_used]' train m --reprofile)
expect_equal "reprofile begins" "$answer" '["training",3]'
expect_equal "until it has trained, the old components answer" "$(cores)" "$BOTH"
answer=$(json '[.reprofiling, .state, .components_outdated]' model show m)
expect_equal "the model tells that it is being trained anew" "$answer" '[true,"training",4]'
expect_equal "the model is listed once" "$(json '[.models[].model] | join(",")' model list)" m
down
up 1
wait_for "a shard of the new generation answers" 60 swapped 4
down
expect_equal "the shards that were not swapped yet go on" "$(up 0; json .shards_used model show m)" 3
third=$(json '.predictions | length' predict m "${TEST[@]}" --limit 5)
expect_equal "it answers in between" "$third" 5
subject=$(json .records_deleted delete digits --subject writer-003)
expect_true "a deletion in the middle is accepted" "$((subject > 0))"
down
up 2
ctl --json train m --reprofile --wait >/dev/null
taken() { [[ $(json .reprofiling model show m) == false ]]; }
wait_for "the new generation takes the old one's place" 30 taken
expect_equal "everything has the new profile" "$(cores)" "Nehalem 9"
verified m
expect_equal "nothing is left to train" "$(json '[.state, .components_outdated, .problem]' model show m)" '["trained",0,""]'
none_open() { [[ $(json .requests_open status) == 0 ]]; }
wait_for "the deletions are complete" 30 none_open # After a restart nothing counts as erased for some seconds.
ok "the deletions are complete"
expect_equal "train --reprofile has nothing more to do" \
  "$(json '[.components_trained, .state]' train m --reprofile --wait)" '[0,"trained"]'
found=$(digests m)
{ echo "$id"; echo "$first"; ids_of writer-003; } >"$E2E_DIR/except"

# A cluster that never saw the records and only ever had this profile has the same bytes.
ctl schema digits >"$E2E_DIR/never.schema"
key=$(json .placement_key dataset show digits)
down
use never
ctl --json init "$UNLEARN_DIR" >/dev/null
core Nehalem
up 2
ctl --json import digits "${TRAIN[@]}" --schema "$E2E_DIR/never.schema" --placement-key "$key" \
  --except "$E2E_DIR/except" >/dev/null
ctl --json train m --dataset digits --set hidden=16 shards=3 slices=3 epochs=4 --wait >/dev/null
same_everywhere "after reprofile: as if it had always been so" "$found" "$(digests m)"
down

# --- The profile changes back while the second generation is being trained ---

use profile
up 2
ctl --json train slow --dataset digits --set hidden=128 shards=2 slices=3 epochs=120 --wait >/dev/null
before=$(digests slow)
down
core $OURS
up 1
ctl --json train slow --reprofile >/dev/null
progress() { (($(json .run_components model show slow) > 1)); }
wait_for "the second generation has begun" 60 progress
down
core Nehalem
up 2
expect_equal "changed back in the middle: the old generation answers" \
  "$(json '[.shards_used, .reprofiling, .components_outdated]' model show slow)" "[2,true,0]"
ctl --json train slow --reprofile --wait >/dev/null
given_up() { [[ $(json .reprofiling model show slow) == false ]]; }
wait_for "the second generation is given up" 30 given_up
same_everywhere "changed back in the middle: everything is as it was" "$(digests slow)" "$before"
ctl --json model remove slow >/dev/null
down

# --- A model is removed while its second generation is being trained ---

use profile
core $OURS
up 0
ctl --json train m --reprofile >/dev/null
ctl --json model remove m >/dev/null
expect_equal "both generations of a removed model are gone" "$(json '.models | length' model list)" 0
ctl --json train m --dataset digits --set hidden=8 shards=2 slices=1 epochs=1 >/dev/null
down
up 1
ctl --json train m --wait >/dev/null
expect_equal "its name is free" "$(json .components_valid model show m)" 2
down
finish
