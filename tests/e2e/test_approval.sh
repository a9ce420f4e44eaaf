#!/bin/bash
# tests/e2e/test_approval.sh: a large deletion is hidden at once and waits for a second person: approved it is
# erased and proved, refused it leaves the very bytes that a cluster has which was never asked.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

people "$E2E_DIR/people.csv" 400
ROWS=("$E2E_DIR/people.csv" --label wage --subject who)
TRAINING=(--dataset people --set hidden=4 epochs=2 shards=2 slices=2)
rows_of() { awk -F, -v who="$1" 'NR > 1 && $1 == who { print NR - 2 }' "$E2E_DIR/people.csv"; }
count_of() { rows_of "$1" | wc -l; }
settings() { # settings ABOVE HOURS: from the next start on.
  sed -i "s/^approve_above:.*/approve_above: $1/; s/^approve_hours:.*/approve_hours: $2/" "$UNLEARN_DIR/config.yaml"
}
state_is() { [[ $(json '.state' status "$2") == "$1" ]]; }
approver() { ctl "$@" --key "$E2E_DIR/second.key"; }

use main
ctl --json init "$UNLEARN_DIR" >/dev/null
settings 3 72
up 2
ctl --json import people "${ROWS[@]}" >/dev/null
ctl --json train m "${TRAINING[@]}" --wait >/dev/null
before=$(digests m)
ctl key add second --role owner --dataset people -o "$E2E_DIR/second.key" >/dev/null

UUID=0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8e0
(($(count_of p03) > 3 && $(count_of p04) > 3))

# --- Hidden, and nothing more ---

expect_equal "a deletion of more than approve_above records waits" \
  "$(json '[.state, .records_deleted, .approve_by > .fenced_at, .erased_at]' delete people --subject p03 --request ${UUID}1)" \
  "[\"awaiting_approval\",$(count_of p03),true,null]"
expect_exit 3 "nothing is held on this subject" ctl show people --subject p03
expect_equal "they do not count any more" "$(json .records dataset show people)" $((400 - $(count_of p03)))
expect_equal "status tells" "$(json '.requests.awaiting_approval.count' status)" 1
ctl status ${UUID}1 >"$E2E_DIR/answer"
expect_equal "and so it does to people, with what to do" \
  "$(grep -c 'awaiting_approval\|^approve by  *20\|hint: .*unlearnctl approve' "$E2E_DIR/answer")" 3
expect_exit 4 "the request waits for approval: there is no receipt of it" ctl receipt ${UUID}1
expect_exit 4 "it is on hold: it waits for the approval of request ${UUID}1" ctl delete people --subject p03
expect_exit 4 "somebody else must approve it" ctl approve ${UUID}1
expect_exit 3 "no request with this UUID" ctl approve ${UUID}9
expect_exit 2 "REQUEST" ctl approve 17
wait_for "the components are trained without them" 60 all_valid m
expect_differ "and that is served" "$(digests m)" "$before"

# --- Refused: as if nothing had been asked ---

expect_equal "who asked may take it back" "$(json '[.state, .records_deleted]' refuse ${UUID}1)" '["refused",0]'
wait_for "what was trained without them is trained anew" 60 all_valid m
same_everywhere "bit for bit as before" "$(digests m)" "$before"
expect_equal "the records are there" "$(json '.records | length' show people --subject p03)" "$(count_of p03)"
expect_exit 4 "the request was refused" ctl approve ${UUID}1
expect_exit 4 "the request was refused: there is no receipt of it" ctl receipt ${UUID}1
expect_equal "the report counts it as not approved" \
  "$(json '.denied_because.not_approved' report --since "$(date -u +%F)")" 1
verified m

# --- Approved, over a restart, with somebody waiting ---

"$E2E_BIN/unlearnctl" --json delete people --subject p03 --request ${UUID}2 --wait completed >"$E2E_DIR/waited" 2>"$E2E_DIR/told" 9>&- &
waiting=$!
wait_for "the deletion waits" 30 state_is awaiting_approval ${UUID}2
down
up 2
expect_equal "after a restart it waits still" "$(json .state status ${UUID}2)" awaiting_approval
expect_equal "another person approves it" \
  "$(approver --json approve ${UUID}2 2>"$E2E_DIR/error" | jq -r '.state == "fenced" or .state == "erased" or .state == "completed"')" true
expect_exit 4 "does not wait for approval" ctl refuse ${UUID}2
wait_for "it is completed" 60 state_is completed ${UUID}2
code=0
wait "$waiting" || code=$?
expect_equal "who waited for it, over the restart, has the answer" "$code $(jq -r .state "$E2E_DIR/waited")" "0 completed"
ctl receipt ${UUID}2 -o "$E2E_DIR/receipt" >/dev/null
expect_equal "its receipt is good" \
  "$(json .valid receipt verify "$E2E_DIR/receipt" --key "$UNLEARN_DIR.client/receipt.pub")" true
deleted=$(digests m)

# --- Refused while somebody waits ---

"$E2E_BIN/unlearnctl" --json delete people --subject p04 --request ${UUID}3 --wait repaired >"$E2E_DIR/waited" 2>"$E2E_DIR/told" 9>&- &
waiting=$!
sleep 0.3
ctl --json refuse ${UUID}3 >/dev/null
code=0
wait "$waiting" || code=$?
expect_equal "who waits for a deletion that is refused ends with" "$code $(grep -c 'the deletion was refused: its records are there again' "$E2E_DIR/told")" "4 1"

# --- A cluster that never saw who was deleted ---

wait_for "all is trained" 60 all_valid m
rows_of p03 >"$E2E_DIR/except"
as_if_never never people "$E2E_DIR/except" 2 "${ROWS[@]}"
ctl --json train m "${TRAINING[@]}" --wait >/dev/null
same_everywhere "the cluster that approved one deletion and refused two has the bytes of one that never saw the one" \
  "$deleted" "$(digests m)"
finish
