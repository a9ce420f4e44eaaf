#!/bin/bash
# tests/e2e/test_roles.sh: who has a key does what its role may, in its datasets, until it is revoked.
#
# Two owners with a dataset each, a key that predicts, an auditor, a worker of one dataset. What one of them
# must not do is asked for, and everything that could have changed is counted before and after.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"

use main
ctl --json init "$UNLEARN_DIR" >/dev/null
up 1
cd_there() { cd "$E2E_DIR" || exit; }
key() { (cd_there && ctl --json key "$@"); } # Files of new keys lie there.
as() { # as NAME COMMAND...: with that key.
  local name=$1
  shift
  ctl "$@" --key "$E2E_DIR/$name.key"
}
json_as() { # json_as NAME FILTER COMMAND...
  local name=$1 filter=$2
  shift 2
  as "$name" --json "$@" | jq -rc "$filter"
}
standing() { # What a denial must not change.
  json '[.datasets, .models, .requests_open, .epoch] | join(" ")' status
  json '.datasets[] | "\(.dataset) \(.records)"' dataset list
}
unchanged() { # unchanged WHAT COMMAND...: nothing of `standing` changes by it.
  local what=$1 before
  shift
  before=$(standing)
  "$@"
  expect_equal "$what: nothing has changed" "$(standing)" "$before"
}

# --- Keys

expect_equal "an owner's dataset may be named before it is there" \
  "$(key add alice --role owner --dataset hers | jq -c '[.promised, .datasets, .file]')" \
  '[["hers"],[],"alice.key"]'
key add bob --role owner --dataset his >/dev/null
expect_equal "its file is for its holder alone" "$(stat -c %a "$E2E_DIR/alice.key")" 600
expect_exit 4 'there is a key "alice" already' key add alice --role predict -o "$E2E_DIR/other.key"
expect_equal "and no file is left of one that was refused" "$(find "$E2E_DIR" -name other.key)" ""
expect_exit 4 "File exists" key add carol --role predict -o "$E2E_DIR/alice.key"
expect_exit 3 'no dataset "hers"' key add carol --role predict --dataset hers
expect_exit 2 'no role "king", expected admin, owner, predict, auditor or worker' key add carol --role king
expect_exit 2 "no role is given" key add carol
expect_exit 2 "the key's name" key add ../carol --role predict
expect_exit 2 "name none" key add carol --role admin --dataset hers
expect_exit 3 "neither 64 hex digits nor a file" key add carol --role predict --public "$E2E_DIR/nothing"

people "$E2E_DIR/people.csv" 80
as alice --json import hers "$E2E_DIR/people.csv" --label wage --subject who --placement-key "$PLACEMENT_KEY" >/dev/null
as bob --json import his "$E2E_DIR/people.csv" --label wage --subject who --placement-key "$PLACEMENT_KEY" >/dev/null
expect_equal "the promise is kept" \
  "$(json '.keys[] | select(.name == "alice") | [.promised, .datasets]' key list)" '[[],["hers"]]'
key add eve --role predict --dataset hers >/dev/null
(cd_there && ctl --json key make una >/dev/null) # Makes her pair herself.
key add una --role auditor --dataset hers --public "$E2E_DIR/una.pub" >/dev/null
expect_equal "six keys, no secret among what is told" \
  "$(json '[.keys[].role] | join(" ")' key list)" "admin worker owner owner predict auditor"
for model in hers his; do
  ctl --json train "m-$model" --dataset $model --set hidden=8 shards=2 slices=2 epochs=2 --wait >/dev/null
done

# --- Roles

denied_before=$(json .since_start.requests_denied status)
unchanged "a key that predicts deletes" expect_exit 4 \
  "the role predict may not delete: that needs a key with the role admin or owner" \
  as eve delete hers --record 1
unchanged "an auditor deletes" expect_exit 4 "the role auditor may not delete" as una delete hers --record 1
unchanged "an auditor reads records" expect_exit 4 "the role auditor may not subject_show" as una show hers --subject p01
unchanged "an owner trains" expect_exit 4 "the role owner may not train" as alice train m2 --dataset hers
unchanged "an owner releases a hold" expect_exit 4 "may not hold_release" as alice hold release hers --record 1
unchanged "an owner gives out keys" expect_exit 4 "may not key_add" \
  as alice key add mallory --role admin --public "$(printf 'ab%.0s' {1..32})"
unchanged "a worker asks as a client" expect_exit 4 "does not know the key" \
  ctl delete hers --record 1 --key "$UNLEARN_DIR/keys/worker.key"
expect_equal "each was counted" "$(($(json .since_start.requests_denied status) - denied_before))" 6
expect_equal "and logged, with the name of the key and the verb" \
  "$(lines_with 'event=access_denied principal=eve verb=delete' "$UNLEARN_DIR/run/unlearnd.log")" 1
expect_equal "a log has no subject and no id" "$(lines_with 'p01' "$UNLEARN_DIR/run/unlearnd.log")" 0
expect_true "a key that predicts is answered" \
  "$(json_as eve '.predictions | length' predict m-hers "$E2E_DIR/people.csv" --label wage --subject who) == 80"
expect_equal "an auditor compares" \
  "$(json_as una '[.different, .skipped] | join(" ")' verify m-hers --components all)" "0 0"

# --- Scope

expect_equal "an owner sees its dataset alone" "$(json_as alice '[.datasets[].dataset] | join(" ")' dataset list)" hers
expect_equal "and its model" "$(json_as bob '[.models[].model] | join(" ")' model list)" m-his
expect_equal "totals, too" "$(json_as alice '[.datasets, .models] | join(" ")' status)" "1 1"
like_absent() { # like_absent NAME FOREIGN COMMAND...: FOREIGN in the command is answered as what is not there.
  local name=$1 foreign=$2 word
  shift 2
  local real=("$@") fake=()
  for word in "$@"; do fake+=("${word/#$foreign/xyz}"); done
  unchanged "$name: $*" expect_exit 3 "" as "$name" "${real[@]}"
  as "$name" "${real[@]}" >/dev/null 2>"$SCRATCH/foreign" || true
  as "$name" "${fake[@]}" >/dev/null 2>"$SCRATCH/absent" || true
  expect_equal "in the words for what is not there" \
    "$(sed "s/$foreign/NAME/g" "$SCRATCH/foreign")" "$(sed 's/xyz/NAME/g' "$SCRATCH/absent")"
}
like_absent alice his dataset show his
like_absent alice his delete his --record 1
like_absent alice his plan his --record 1
like_absent alice his show his --subject p01
like_absent alice m-his status m-his
like_absent eve m-his predict m-his "$E2E_DIR/people.csv" --label wage --subject who
like_absent una m-his components m-his
unchanged "alice imports into his" expect_exit 3 'no dataset "his"' \
  as alice import his "$E2E_DIR/people.csv" --label wage --subject who
expect_equal "an owner deletes its own" "$(json_as alice .records_deleted delete hers --record 1 --wait completed)" 1
request=$(json_as bob .request delete his --record 1 --wait completed)
expect_exit 3 "no request with this UUID" as alice status "$request"
expect_exit 3 "no request with this UUID" as alice receipt "$request" -o "$E2E_DIR/receipt"
expect_exit 3 "no request with this UUID" as una receipt "$request" -o "$E2E_DIR/receipt"
expect_equal "whose it is sees it" "$(json_as bob .state status "$request")" completed

# --- Workers of one dataset

kill_fleet() { kill -TERM "$(cat "$UNLEARN_DIR/run/fleet.pid")"; }
expect_equal "a worker's key of one dataset" \
  "$(key add lab --role worker --dataset hers | jq -c .datasets)" '["hers"]'
kill_fleet
wait_for "the fleet is gone" 60 eval '[[ $(json .workers_total status) == 0 ]]'
"$E2E_BIN/unlearn-fleet" --rendezvous "$UNLEARN_DIR/run/workers" --ranks 1 --key "$E2E_DIR/lab.key" \
  --server-key "$UNLEARN_DIR.client/server.pub" >"$E2E_DIR/lab.log" 2>&1 9>&- &
LAB=$!
wait_for "the lab's rank joins" 60 eval '[[ $(json .workers_total status) == 1 ]]'
json_as bob .request delete his --record 2 >/dev/null
json_as alice .request delete hers --record 2 --wait repaired >/dev/null
ok "its dataset is repaired"
expect_equal "the other is not: nobody may see its records" "$(json .state status m-his)" training
expect_equal "no stage of it was lent" "$(json '[.workers[].task | select(startswith("m-his"))] | length' status)" 0
key add lab2 --role worker >/dev/null
"$E2E_BIN/unlearn-fleet" --rendezvous "$UNLEARN_DIR/run/workers" --ranks 1 --key "$E2E_DIR/lab2.key" \
  --server-key "$UNLEARN_DIR.client/server.pub" >"$E2E_DIR/lab2.log" 2>&1 9>&- &
LAB2=$!
wait_for "with a rank that may, the other is repaired" 60 all_valid m-his
key revoke lab2 >/dev/null
wait_for "a revoked worker is turned away" 20 eval '[[ $(json .workers_total status) == 1 ]]'
kill -TERM $LAB $LAB2
wait $LAB $LAB2 || true

# --- Revoked

# It asks every second, over one connection.
"$E2E_BIN/unlearnctl" status --watch --key "$E2E_DIR/alice.key" >"$E2E_DIR/watch" 2>"$E2E_DIR/watch.error" 9>&- &
WATCH=$!
wait_for "alice watches" 30 test -s "$E2E_DIR/watch"
expect_equal "alice is revoked" "$(key revoke alice | jq -r '.revoked_at != null')" true
rc=0
wait $WATCH || rc=$?
expect_equal "who was connected is denied with its next request" \
  "$rc $(grep -c 'this key was revoked' "$E2E_DIR/watch.error")" "4 1"
unchanged "alice deletes" expect_exit 4 "" as alice delete hers --record 3
expect_exit 4 'is the last admin key' key revoke admin
expect_exit 3 'no key "nobody"' key revoke nobody
down
up 1
expect_exit 4 "" as alice dataset show hers
expect_equal "others go on" "$(json_as bob '[.datasets[].dataset] | join(" ")' dataset list)" his
expect_equal "and it stays so" \
  "$(json '[.keys[] | select(.revoked_at != null) | .name] | join(" ")' key list)" "alice lab2"
ctl --json dataset remove his >/dev/null
ctl --json import his "$E2E_DIR/people.csv" --label wage --subject who >/dev/null
expect_exit 3 'no dataset "his"' as bob dataset show his
expect_equal "a later dataset of the same name is another one" \
  "$(json '.keys[] | select(.name == "bob") | .removed[0]' key list)" his
finish
