#!/bin/bash
# tests/e2e/test_removal.sh: what comes, goes and comes back: parts of files, generations, deleted
# ids, deletion and removal in the middle of a training, removal of models and datasets.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"
LEASE_MS=60000

sample data 12
COUNT=$(wc -l <"$SUBJECTS")
HALF=$((COUNT / 2))
counts() { json '[.records, .generation, .skipped]' import "$@"; }
records() { json ".datasets[] | select(.dataset == \"$1\").records" dataset list; }
completed() { [[ $(json .state status "$1") == completed ]]; }
trains() { [[ $(json .components_training status "$1") -ge 1 ]]; }
names() { cut -d' ' -f1 <<<"$1"; }

# --- Parts of a file, ids and their prefix ---

start main 2
expect_equal "--limit takes the first rows" "$(counts parts "${TRAIN[@]}" --limit 100)" "[100,0,0]"
expect_equal "--skip goes on with the numbers of the file: nothing comes twice" \
  "$(counts parts "${TRAIN[@]}" --skip 100 --limit 50)" "[50,0,0]"
expect_equal "what is known is skipped and counted" "$(counts parts "${TRAIN[@]}" --limit 160)" "[10,0,150]"
expect_equal "--id-prefix makes other ids" "$(counts parts "${TRAIN[@]}" --limit 20 --id-prefix b-)" "[20,0,0]"
expect_equal "plan finds ids with their prefix and by number" \
  "$(json .records plan parts --record 0 159 b-0 b-19 b-20 160)" 4
expect_equal "the list has them all" "$(records parts)" 180

# --- Generations ---

SPEC=(hidden=16 shards=2 slices=2 epochs=3)
expect_equal "the first half of the writers' rows" "$(counts grown "${TRAIN[@]}" --limit $HALF)" "[$HALF,0,0]"
ctl --json train g --dataset grown --set "${SPEC[@]}" --wait >/dev/null
first=$(digests g)
expect_equal "the first train closes the generation: the next import opens another" \
  "$(counts grown "${TRAIN[@]}" --skip $HALF)" "[$((COUNT - HALF)),1,0]"
same_everywhere "an import invalidates nothing" "$(digests g)" "$first"
answer=$(json '[.components_trained, .state]' train g --wait)
second=$(digests g)
same_everywhere "the next train leaves what was there" \
  "$(grep -Ff <(names "$first" | sed 's/$/ /') <<<"$second")" "$first"
expect_equal "and trains the appended stages alone" \
  "$(comm -13 <(names "$first") <(names "$second") | tr '\n' ' ')$answer" "s0:[0,1,2] s1:[0,1,2] [2,\"trained\"]"
# A writer of the first generation and one of the second, in one request.
old=$(head -1 "$SUBJECTS") new=$(tail -1 "$SUBJECTS")
mapfile -t ids < <({ ids_of "$old"; ids_of "$new"; } | sort -n)
expect_equal "subjects of both generations are deleted" \
  "$(json '[.state, .records_deleted]' delete grown --subject "$old" "$new" --wait completed)" \
  "[\"completed\",${#ids[@]}]"
verified g
third=$(digests g)
printf '%s\n' "${ids[@]}" >"$E2E_DIR/except"
as_if_never twin grown "$E2E_DIR/except" 2 "${TRAIN[@]}" --generation 0 --limit $HALF
ctl --json import grown "${TRAIN[@]}" --generation 1 --skip $HALF --except "$E2E_DIR/except" >/dev/null
ctl --json train g --dataset grown --set "${SPEC[@]}" --wait >/dev/null
same_everywhere "a history repeated with --generation, without the two, gives the same digests" \
  "$third" "$(digests g)"
down
use main

# --- Tombstones and readmission ---

expect_equal "deleted ids do not come back with a second import" "$(counts grown "${TRAIN[@]}")" "[0,2,$COUNT]"
answer=$(json '[.state, .records_deleted, (.earlier != null)]' delete grown --subject "$old" --wait completed)
expect_equal "deleted once more: done, 0 records, the earlier request is named" "$answer" '["completed",0,true]'
expect_equal "known and unknown together: the known are deleted" \
  "$(json .records_deleted delete grown --record 999999 "$((HALF - 1))" --wait completed)" 1
before=$(records grown)
expect_equal "--readmit takes them as new records of the open generation" \
  "$(counts grown "${TRAIN[@]}" --readmit)" "[$((${#ids[@]} + 1)),2,$((COUNT - ${#ids[@]} - 1))]"
expect_equal "the list counts them" "$(records grown)" "$((before + ${#ids[@]} + 1))"
ctl --json train g --wait >/dev/null
expect_equal "they are learnt in appended stages" "$(digests g | grep -c '\[0,1,2,3\] valid')" \
  "$(digests g | grep -c '\[0,1,2,3\]')"
expect_equal "and can be deleted again" "$(json '[.state, .records_deleted]' delete grown --subject "$old" \
  --wait completed)" "[\"completed\",$(ids_of "$old" | wc -l)]"
verified g

# --- A deletion while its records are being learnt ---

BIG=(hidden=256 shards=2 slices=2 epochs=60)
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train m --dataset digits --set "${BIG[@]}" >/dev/null
wait_for "a training is under way" 30 trains m
stand_still # What a rank had just finished is stored, and it has its next stage: both ranks are busy.
busy() { [[ $(json '[.workers[] | select(.task != "")] | length' status) == 2 ]]; }
wait_for "both ranks are training" 30 busy
# One of each shard's first slice: whatever is being trained has read records of one of them.
request=$(json .request delete digits --subject writer-002 writer-005)
expect_equal "the training was not over when the deletion was acknowledged" "$(json .state status m)" training
expect_true "what was being trained on their records was cancelled at once" \
  "$(lines_with 'event=lease_cancelled.*reason=deletion' "$UNLEARN_DIR/run/unlearnd.log") == 2"
go_on
ctl --json import digits "${TRAIN[@]}" --id-prefix later- --limit 30 >/dev/null
wait_for "the deletion completes" 90 completed "$request"
wait_for "the training ends" 90 all_valid m
verified m

# And while a verify is about to read them, in ranks that stand still so that nothing is compared before:
# that comparison is skipped, not reported as a difference.
stand_still
json '[.components == .identical + .different + .skipped, .different, .skipped > 0]' verify m \
  >"$E2E_DIR/verify" &
verifies=$!
wait_for "a verify is under way" 30 busy
request=$(json .request delete digits --subject writer-009)
go_on
wait_for "the deletion completes" 90 completed "$request"
wait "$verifies"
expect_equal "a verify that a deletion overtakes skips what it hit" "$(cat "$E2E_DIR/verify")" "[true,0,true]"
found=$(digests m)

# --- Removal ---

ctl --json train gone --dataset digits --set "${BIG[@]}" seed=2 >/dev/null
wait_for "a training is under way" 30 trains gone
request=$(json .request model remove gone)
expect_exit 3 'no model "gone"' ctl model show gone
expect_exit 3 'no model "gone"' ctl predict gone "${TEST[0]}" --limit 1
wait_for "removal of a model in training completes" 30 completed "$request"
ok "a model is removed in the middle of its training"
same_everywhere "the other model of the dataset is untouched" "$(digests m)" "$found"
expect_equal "its name is free for another spec" \
  "$(json '[.state, .shards_used]' train gone --dataset digits --set hidden=4 shards=1 slices=1 epochs=1 --wait)" \
  '["trained",1]'
expect_equal "model list and show tell of it" \
  "$(json '[.models[].model] | sort' model list)$(json '[.dataset, .spec.hidden]' model show gone)" \
  '["g","gone","m"]["digits","4"]'
expect_equal "dataset show names the models" "$(json '.models | sort' dataset show digits)" '["gone","m"]'

ctl --json train again --dataset digits --set "${BIG[@]}" seed=3 >/dev/null
wait_for "a training is under way" 30 trains again
request=$(json .request dataset remove digits)
expect_exit 3 'no dataset "digits"' ctl dataset show digits
for model in m gone again; do
  expect_exit 3 "no model \"$model\"" ctl components "$model"
done
wait_for "removal of a dataset with a training completes" 60 completed "$request"
ok "a dataset is removed with its models, in the middle of a training"
expect_equal "the others are still there" "$(json '[.datasets[].dataset] | sort' dataset list)" '["grown","parts"]'
verified g
expect_exit 3 'no dataset' ctl delete digits --subject writer-000
people "$E2E_DIR/people.csv" 50
expect_equal "the name is free for other data, another schema, and ids that were known" \
  "$(counts digits "$E2E_DIR/people.csv" --label wage --subject who)" "[50,0,0]"
down
up 2
expect_equal "after a restart what was removed stays removed" \
  "$(json '[.models[].model]' model list)$(json '[.datasets[].dataset] | sort' dataset list)" \
  '["g"]["digits","grown","parts"]'
down

# What was learnt while writers were deleted is what training without them gives.
{ ids_of writer-002; ids_of writer-005; ids_of writer-009; } >"$E2E_DIR/except"
start never 2
ctl --json import digits "${TRAIN[@]}" --except "$E2E_DIR/except" >/dev/null
ctl --json train m --dataset digits --set "${BIG[@]}" --wait >/dev/null
same_everywhere "a deletion in the middle of a training leaves nothing in it" "$found" "$(digests m)"
down
finish
