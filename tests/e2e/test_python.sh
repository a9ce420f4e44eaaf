#!/bin/bash
# tests/e2e/test_python.sh: somebody who has proto/unlearn.proto and docs/format.md alone writes a client: it
# authenticates, predicts and deletes; with a wrong key it gets nothing.
source "$(dirname "$0")/lib.sh"

PYTHON=/usr/bin/python3 # Debian's, whose packages these are.
"$PYTHON" -c 'import zmq, google.protobuf; assert zmq.has("curve")' 2>/dev/null ||
  skip "python3-zmq (with CURVE) and python3-protobuf are not installed"
mkdir "$E2E_DIR/stubs"
protoc --proto_path=proto --python_out="$E2E_DIR/stubs" unlearn.proto

people "$E2E_DIR/people.csv" 300
start main 2
ctl --json import people "$E2E_DIR/people.csv" --label wage --subject who >/dev/null
ctl --json train m --dataset people --set hidden=4 epochs=2 shards=2 slices=2 --wait >/dev/null

KEY=$UNLEARN_DIR.client/admin.key SERVER=$UNLEARN_DIR.client/server.pub
python() { # python COMMAND...: under KEY and SERVER; its answer to $E2E_DIR/answer, its exit code beside it.
  local code=0
  timeout 60 "$PYTHON" tests/e2e/client.py "$E2E_DIR/stubs" "$(cut -d' ' -f1 "$UNLEARN_DIR.client/address")" \
    "$SERVER" "$KEY" "$@" >"$E2E_DIR/answer" 2>"$E2E_DIR/error" 9>&- || code=$?
  [[ $code != 1 ]] || sed 's/^/#   /' "$E2E_DIR/error" >&9
  echo "$code $(jq -c "${FILTER:-.}" "$E2E_DIR/answer")"
}

# --- With the admin's key ---

expect_equal "it is heard" "$(FILTER=.workers python ping)" "0 2"
expect_equal "it reads the schema" "$(FILTER=.columns python schema people)" \
  "0 $(json '[.columns[].name]' schema people)"
printf 'age,town,hours\n30,Bristol,20\n' >"$E2E_DIR/ask.csv"
ours=$(json '.predictions[0].value // .predictions[0].probability' predict m "$E2E_DIR/ask.csv")
theirs=$(FILTER='.numbers[0]' python predict m 30 Bristol 20)
expect_number "it predicts what unlearnctl predicts" "${theirs#0 }" '>' "$ours - 0.001"
expect_number "to the digits that are printed" "${theirs#0 }" '<' "$ours + 0.001"
expect_equal "always the same" "$(FILTER=.different python many m 50 30 Bristol 20)" "0 1"
expect_equal "it deletes" "$(FILTER='[.phase, .records_deleted, .receipt_bytes > 0]' \
  python delete people 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8f01 17 18)" '0 ["REQUEST_PHASE_FENCED",2,true]'
expect_equal "what is deleted is gone for unlearnctl, too" \
  "$(json .records dataset show people)" 298
expect_equal "the same request again has the same answer" "$(FILTER=.records_deleted \
  python delete people 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8f01 17 18)" "0 2"
expect_equal "what is not known it is told" "$(FILTER=.status \
  python delete people 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8f02 99999)" '3 "STATUS_NOT_FOUND"'

# --- With a key of less rights ---

ctl --json key add reader --role predict -o "$E2E_DIR/reader.key" >/dev/null
KEY=$E2E_DIR/reader.key
expect_equal "a key that may predict predicts" "$(FILTER='.shards_used' python predict m 30 Bristol 20)" "0 2"
expect_equal "and deletes nothing" "$(FILTER=.status \
  python delete people 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8f03 19)" '4 "STATUS_PERMISSION_DENIED"'
ctl --json key revoke reader >/dev/null
expect_differ "revoked it gets no answer" "$(FILTER=.numbers python predict m 30 Bristol 20 | cut -c1)" 0

# --- With a wrong key ---

printf 'unlearnd-key-1\npublic %064x\nsecret %064x\n' 1 2 >"$E2E_DIR/wrong.key"
KEY=$E2E_DIR/wrong.key
expect_equal "a stranger's key gets nothing" "$(FILTER=.status python ping)" '5 "nobody answers"'
KEY=$UNLEARN_DIR.client/admin.key
printf 'unlearnd-key-1\npublic %064x\n' 9 >"$E2E_DIR/wrong.pub"
SERVER=$E2E_DIR/wrong.pub
expect_equal "nor does who expects another server" "$(FILTER=.status python ping)" '5 "nobody answers"'
SERVER=$UNLEARN_DIR.client/server.pub
expect_equal "nothing has changed" "$(json .records dataset show people)" 298
expect_equal "the coordinator still hears who may speak" "$(FILTER=.workers python ping)" "0 2"
finish
