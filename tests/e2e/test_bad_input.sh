#!/bin/bash
# tests/e2e/test_bad_input.sh: what is wrong is refused with one sentence, the documented exit code,
# and without any change: after each refusal the store's epoch, datasets, models and digests are
# what they were.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

# What waits for its own deadline runs beside all the rest; its answers are read at the end.
( # No worker at all.
  SCRATCH=$E2E_DIR/alone.d
  mkdir "$SCRATCH"
  start alone 0
  people "$E2E_DIR/alone.csv" 60
  ctl --json import wages "$E2E_DIR/alone.csv" --label wage --subject who >/dev/null
  expect_exit 5 "no worker has joined|unlearn-fleet" ctl train m --dataset wages --set shards=1 --wait
  expect_equal "the training waits: a worker that joins would begin" "$(json .state status m)" training
  expect_exit 5 "no shard of model" ctl predict m "$E2E_DIR/alone.csv" --subject who --label wage
  down
) >"$E2E_DIR/alone.out" 2>&1 &
( # Workers that end before they have joined.
  SCRATCH=$E2E_DIR/lame.d
  mkdir "$SCRATCH"
  mkdir "$E2E_DIR/lame"
  cp -rL "$E2E_BIN"/. "$E2E_DIR/lame/"
  printf '#!/bin/sh\nexit 1\n' >"$E2E_DIR/lame/unlearn-worker"
  use lame-cluster
  ctl --json init "$UNLEARN_DIR" >/dev/null
  expect_exit 5 "0 of 2 workers have joined after 3 s|fleet.log" \
    timeout 100 "$E2E_DIR/lame/unlearnctl" up "$UNLEARN_DIR" --ranks 2 --detach --patience 3 \
    "${UP_OPTIONS[@]}"
  expect_exit 5 "no coordinator runs|unlearnctl up" ctl dataset list
) >"$E2E_DIR/lame.out" 2>&1 &

# The cluster of most cases, without workers once the model is there: nothing of this needs them.
sample data 8
people "$E2E_DIR/people.csv" 120
start main 2
PEOPLE=(--label wage --subject who)
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json import wages "$E2E_DIR/people.csv" "${PEOPLE[@]}" >/dev/null
ctl --json train m --dataset digits --set hidden=8 shards=2 slices=2 epochs=2 --wait >/dev/null
ctl --json train w --dataset wages --set hidden=8 shards=1 slices=1 epochs=2 --wait >/dev/null

state() {
  json .datasets dataset list
  json .models model list
  json '[.epoch, .requests_open, .datasets, .models]' status
  digests m
  digests w
}
BEFORE=$(state)
SECRET=''
# refused CODE TEXT COMMAND...: as expect_exit; nothing has changed; SECRET is not in the error.
refused() {
  expect_exit "$@"
  [[ $(state) == "$BEFORE" ]] || not_ok "\"$2\" changes nothing" "$(state)" "$BEFORE"
  if [[ -n $SECRET ]] && grep -qaF -- "$SECRET" "$SCRATCH/error"; then
    not_ok "the error holds no record content" "$(cat "$SCRATCH/error")" "no \"$SECRET\" in it"
  fi
}
file() { # file NAME LINE...: its path.
  printf '%s\n' "${@:2}" >"$E2E_DIR/$1"
  echo "$E2E_DIR/$1"
}

# --- Names that nobody knows ---

for command in "schema none" "dataset show none" "dataset remove none" "plan none --record 1" \
  "delete none --record 1" "delete none --subject writer-001"; do
  refused 3 'there is no dataset' ctl $command
done
for command in "model show none" "model remove none" "components none" "verify none" "status none" \
  "predict none ${TEST[0]}" "evaluate none ${TEST[*]}"; do
  refused 3 'there is no model' ctl $command
done
refused 3 'no dataset|none' ctl train x --dataset none --set shards=1
refused 2 'does not exist yet|expected --dataset' ctl train x
refused 3 'no request' ctl status 0b9d6a52-2c55-4c0e-9d61-0c5a3b0f8a99
SECRET=1000444 refused 3 'none of the 1 records' ctl delete digits --record 1000444
SECRET=writer-444 refused 3 'none of the|1 subjects' ctl delete digits --subject writer-444
SECRET=writer-444 refused 3 'none of the' ctl plan digits --subject writer-444 writer-445
refused 2 'nobody is given|expected one of --record, --subject' ctl delete digits
refused 2 'several kinds' ctl delete digits --record 1 --subject writer-001
refused 2 '--wait|sometime|expected fenced, erased, repaired or completed' \
  ctl delete digits --record 1 --wait sometime
refused 2 '--request' ctl delete digits --record 1 --request not-a-uuid
refused 3 'No such file' ctl delete digits --from-csv "$E2E_DIR/none.csv"
refused 2 'no id' ctl delete digits --from-csv "$(file empty.csv)"
refused 2 'did you mean|predict' ctl predct m
refused 2 '--components|expected all or 1 to' ctl verify m --components 0

# --- CSV ---

bad_csv() { # CODE TEXT LINE...: a file with the right header and these lines, into the dataset.
  local code=$1 text=$2
  shift 2
  refused "$code" "$text" ctl import wages \
    "$(file bad.csv 'who,age,town,hours,wage' "$@")" "${PEOPLE[@]}" --id-prefix new-
}
good='p01,30,Derby,10,99.5'
bad_csv 2 'bad.csv line 4|found 3 fields|expected 5' "$good" "$good" 'p02,zebra,9'
bad_csv 2 'line 2|found 6 fields|expected 5' "$good,1"
SECRET=zebra bad_csv 2 'line 3|"age"|found a text, expected a number' "$good" 'p02,zebra,Derby,1,2'
SECRET=zebra bad_csv 2 'line 3|"wage"|found a text, expected a number' "$good" 'p02,31,Derby,1,zebra'
bad_csv 2 'line 3|the label is missing' "$good" 'p02,31,Derby,1,'
bad_csv 2 'line 3|field 3|quote' "$good" 'p02,31,De"rby,1,2'
bad_csv 2 'not closed' "$good" 'p02,31,"Derby,1,2'
bad_csv 2 'no record to import'
refused 2 'no column "town"|schema expects' ctl import wages \
  "$(file short.csv 'who,age,hours,wage' 'p01,30,10,99')" "${PEOPLE[@]}"
refused 2 'column "pet" is not in the schema' ctl import wages \
  "$(file long.csv 'who,age,town,hours,wage,pet' "$good,cat")" "${PEOPLE[@]}"
refused 2 'names "age" twice' ctl import wages "$(file twice.csv 'who,age,age' 'a,1,2')"
refused 2 'no column "salary" for --label' ctl import other "$E2E_DIR/people.csv" --label salary
: >"$E2E_DIR/nothing.csv"
refused 2 'is empty, expected a header' ctl import other "$E2E_DIR/nothing.csv" --format csv
refused 3 'none.csv|No such file' ctl import other "$E2E_DIR/none.csv"
refused 2 'cannot tell the format|--format with one of' ctl import other "$(file strange 'just words')"
refused 2 'unknown format "xml"|csv, idx' ctl import other "$E2E_DIR/people.csv" --format xml
refused 2 '--limit is 0|at least 1' ctl import other "$E2E_DIR/people.csv" --limit 0
# The same ids with other bytes: the whole import is refused, not the one record.
head -30 "$E2E_DIR/people.csv" | sed '$s/,[0-9.]*$/,1.25/' >"$E2E_DIR/changed.csv"
SECRET=1.25 refused 4 'row|there already with other values|--id COL|--id-prefix' \
  ctl import wages "$E2E_DIR/changed.csv" "${PEOPLE[@]}"
refused 4 'row 2|other values' ctl import other "$(file same.csv 'id,x,y' 'a,1,2' 'b,1,2' 'a,3,2')" \
  --id id --label y
expect_equal "control: the same ids with the same bytes are skipped" \
  "$(json '[.records, .skipped]' import wages "$E2E_DIR/people.csv" "${PEOPLE[@]}")" "[0,120]"
# A class that the schema lacks.
file pets.csv 'size,pet' '1,cat' '2,dog' '3,cat' '4,dog' >/dev/null
ctl --json import pets "$E2E_DIR/pets.csv" --label pet >/dev/null
BEFORE=$(state)
SECRET=zebra refused 2 "more.csv line 3|none of the schema's 2 classes" ctl import pets \
  "$(file more.csv 'size,pet' '5,dog' '6,zebra')" --label pet --id-prefix new-
SECRET=zebra refused 3 'none.ids' ctl import pets "$E2E_DIR/pets.csv" --label pet --except "$E2E_DIR/none.ids"
refused 2 '--subject and --subjects' ctl import other "$E2E_DIR/people.csv" --subject who \
  --subjects "$SUBJECTS"

# --- IDX ---

images=${TRAIN[0]} labels=${TRAIN[1]}
head -c 9000 "$images" >"$E2E_DIR/cut-images"
refused 2 'cut-images is cut off|found|expected' ctl import other "$E2E_DIR/cut-images" "$labels"
head -c 100 "$labels" >"$E2E_DIR/cut-labels"
refused 2 'cut-labels is cut off' ctl import other "$images" "$E2E_DIR/cut-labels"
head -c 10 "$images" >"$E2E_DIR/cut-header"
refused 2 'ends inside its IDX header' ctl import other "$E2E_DIR/cut-header" --format idx
gzip -c "$images" >"$E2E_DIR/whole.gz"
head -c 5000 "$E2E_DIR/whole.gz" >"$E2E_DIR/cut.gz"
refused 2 'cut.gz|gzip data is cut off or damaged' ctl import other "$E2E_DIR/cut.gz" "$labels"
refused 2 'no IDX file|expected 00000803' ctl import other "$E2E_DIR/people.csv" --format idx
refused 2 'holds labels, expected images' ctl import other "$labels" "$images"
refused 2 'labels, expected|one for each image' ctl import other "$images" "${TEST[1]}"
{ cat "$images"; echo more; } >"$E2E_DIR/long-images"
refused 2 'goes on after' ctl import other "$E2E_DIR/long-images" "$labels"
head -5 "$SUBJECTS" >"$E2E_DIR/few-subjects"
refused 2 'has 5 lines, expected one for each row' ctl import other "$images" "$labels" \
  --subjects "$E2E_DIR/few-subjects"
printf '\0\0\010\003\0\0\0\001\0\0\0\002\0\0\0\002abcd' >"$E2E_DIR/tiny"
printf '\0\0\010\001\0\0\0\001\001' >"$E2E_DIR/tiny-labels"
refused 2 '4 values|expects 784' ctl import digits "$E2E_DIR/tiny" "$E2E_DIR/tiny-labels"
refused 2 '4 values|expects 784' ctl predict m "$E2E_DIR/tiny"
refused 2 '' ctl predict m "$E2E_DIR/people.csv"
refused 2 'label' ctl evaluate w "$(file blind.csv 'age,town,hours' '1,Derby,2')"

# A subject is missing for the last of 3,000 records: some megabytes have been staged by then.
sample large 64
head -2999 "$SUBJECTS" >"$E2E_DIR/2999-subjects"
refused 2 'has 2999 lines, expected one for each row' ctl import large "${TRAIN[@]:0:2}" --limit 3000 \
  --subjects "$E2E_DIR/2999-subjects"
expect_equal "control: the same import without the fault lands whole" \
  "$(json '[.records, .skipped]' import large "${TRAIN[@]}" --limit 3000)" "[3000,0]"
BEFORE=$(state)
refused 2 'has 2999 lines, expected one for each row' ctl import large "${TRAIN[@]:0:2}" --limit 3000 \
  --subjects "$E2E_DIR/2999-subjects" --id-prefix new-

# --- Schema, placement key, generation ---

ctl schema wages >"$E2E_DIR/wages.json"
sed 's/"age"/"years"/' "$E2E_DIR/wages.json" >"$E2E_DIR/years.json"
sed 's/^who,age/who,years/' "$E2E_DIR/people.csv" >"$E2E_DIR/years.csv"
refused 4 'another schema' ctl import wages "$E2E_DIR/years.csv" "${PEOPLE[@]}" --schema "$E2E_DIR/years.json"
refused 2 'not valid JSON|line 1' ctl import other "$E2E_DIR/people.csv" --schema "$(file no.json '{,')"
refused 2 'unknown key "colour"' ctl import other "$E2E_DIR/people.csv" --schema \
  "$(file odd.json '{"colour": 1}')"
refused 4 'another placement key' ctl import wages "$E2E_DIR/people.csv" "${PEOPLE[@]}" \
  --placement-key "$(printf '%064x' 5)"
refused 2 '--placement-key' ctl import other "$E2E_DIR/people.csv" "${PEOPLE[@]}" --placement-key 12ab
refused 4 'generation 0 cannot take records|expected 1' ctl import wages "$E2E_DIR/people.csv" \
  "${PEOPLE[@]}" --generation 0

# --- Specs ---

spec() { # CODE TEXT KEY=VALUE...
  local code=$1 text=$2
  shift 2
  refused "$code" "$text" ctl train x --dataset digits --set "$@" --wait
}
spec 2 'unknown key "slcies"|slices' slcies=3
spec 2 'shards is 0, expected 1 to 4096' shards=0
spec 2 'epochs is -1, expected 1 to' epochs=-1
spec 2 'epochs is many' epochs=many
spec 2 'learner is magic|mlp' learner=magic
spec 2 'gradient_chunks is 3|power of two' gradient_chunks=3
spec 2 'gradient_chunks is 32, expected at most batch' gradient_chunks=32 batch=16
spec 2 'sequences is 7, expected at most' sequences=7 slices=3
spec 2 'dropout is 1' dropout=1
spec 2 'optimizer.rate is nan' optimizer.rate=nan
spec 2 'expected KEY=VALUE' shards
spec 4 'parameters, expected at most' hidden=65536,65536
spec_file() { # TEXT LINE...
  local text=$1
  shift
  refused 2 "$text" ctl train x --dataset digits --spec "$(file bad.yaml "$@")"
}
spec_file 'bad.yaml line 2|unknown key "shard"' 'learner: mlp' 'shard: 2'
spec_file 'line 1|shards is 0' 'shards: 0'
spec_file 'line 3|epochs is -1' 'learner: mlp' 'shards: 2' 'epochs: -1'
spec_file 'line 2|twice' 'shards: 2' 'shards: 3'
spec_file 'unknown key "optimizer.speed"' 'optimizer: { kind: sgd, speed: 3 }'
spec_file 'not valid YAML' 'shards: [2' 'epochs: 3'
spec_file 'expected' '- shards'
refused 3 'none.yaml|No such file' ctl train x --dataset digits --spec "$E2E_DIR/none.yaml"
refused 2 "the model's name may hold only" ctl train 'a b' --dataset digits
refused 4 'exists with another spec' ctl train m --dataset digits --set shards=3
refused 4 'is trained on another dataset' ctl train m --dataset wages
expect_equal "control: the model's own name and dataset are no error" \
  "$(json '[.components_trained, .state]' train m --wait)" '[0,"trained"]'

# --- Programs and directories ---

refused 4 'is running already' ctl up "$UNLEARN_DIR" --detach
refused 4 'exists already, expected a new or an empty directory' ctl init "$UNLEARN_DIR"
expect_exit 4 '' timeout 20 "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR"
expect_true "a second coordinator says that the store is open elsewhere" \
  "$(lines_with 'another process has the store' "$SCRATCH/error") == 1"
[[ $(state) == "$BEFORE" ]] && ok "and the first one goes on undisturbed" ||
  not_ok "the first coordinator goes on" "$(state)" "$BEFORE"
expect_exit 3 'no cluster at|unlearnctl init' ctl --dir "$E2E_DIR/nowhere" status
expect_exit 3 'no cluster at|unlearnctl init' ctl up "$E2E_DIR/nowhere" --detach
expect_exit 2 'no cluster is named|--dir DIR' env -u UNLEARN_DIR "$E2E_BIN/unlearnctl" status
down
for command in "status" "dataset list" "train m" "delete digits --record 1" \
  "predict m ${TEST[0]}" "import wages $E2E_DIR/people.csv"; do
  expect_exit 5 'no coordinator|unlearnctl up' ctl $command
done
cp "$UNLEARN_DIR/config.yaml" "$E2E_DIR/config.yaml"
echo 'colour: red' >>"$UNLEARN_DIR/config.yaml"
expect_exit 2 'unlearnd ended with exit code 2' ctl up "$UNLEARN_DIR" --detach
expect_true "with the key's name" "$(lines_with 'unknown key.*colour' "$SCRATCH/error") >= 1"
cp "$E2E_DIR/config.yaml" "$UNLEARN_DIR/config.yaml"

mkdir "$E2E_DIR/bin"
cp -rL "$E2E_BIN"/. "$E2E_DIR/bin/"
rm "$E2E_DIR/bin/unlearn-worker"
expect_exit 5 'unlearn-worker is missing' "$E2E_DIR/bin/unlearnctl" up "$UNLEARN_DIR" --ranks 2 --detach "${UP_OPTIONS[@]}"
expect_exit 5 '' timeout 20 "$E2E_DIR/bin/unlearn-fleet" --coordinator tcp://127.0.0.1:1 --ranks 2 \
  "${FLEET_KEYS[@]}"
expect_true "the fleet, too, says what is missing" \
  "$(lines_with 'worker is missing' "$SCRATCH/error") == 1"
expect_exit 5 'no coordinator' ctl status
up 2
[[ $(state | sed 's/^\[[0-9]*,/[/') == "$(sed 's/^\[[0-9]*,/[/' <<<"$BEFORE")" ]] &&
  ok "after all of this the store holds what it held" ||
  not_ok "the store holds what it held" "$(state)" "$BEFORE"
verified m
down

# --- Disk full ---

ctl_on_tmpfs() { # DIR: a cluster where overwritten keys would stay; its coordinator does not start.
  ctl --json init "$1" >/dev/null
  ctl up "$1" --ranks 0 --detach
}
disk_full() { # SIZE: a little more than the reserve that is kept for deletions
  local disk=$E2E_DIR/disk before after landed n=0 code=0
  mkdir "$disk"
  if [[ $(id -u) != 0 ]] || ! mount -t tmpfs -o size="$1" tmpfs "$disk" 2>/dev/null; then
    echo "# not shown: disk full: a file system of its own can be mounted by root alone"
    return 0
  fi
  expect_exit 4 'unlearnd ended with exit code 4' ctl_on_tmpfs "$disk/refused"
  expect_true "with the reason" "$(lines_with 'lies on tmpfs.*--allow-unsafe-fs' "$SCRATCH/error") >= 1"
  local -a UP_OPTIONS=(--allow-unsafe-fs)
  start disk/c 2
  sample big 60
  ctl --json import digits "${TRAIN[@]}" --limit 500 >/dev/null
  ctl --json train d --dataset digits --set hidden=8 shards=2 slices=1 epochs=2 --wait >/dev/null
  before=$(digests d)
  while ((code == 0 && n < 60)); do
    n=$((n + 1))
    ctl --json import more "${TRAIN[@]}" --id-prefix "$n-" >"$SCRATCH/answer" 2>"$SCRATCH/error" ||
      code=$?
  done
  expect_equal "a full disk ($1): import $n is refused" "$code" 4
  expect_true "with a clean sentence: $(head -1 "$SCRATCH/error")" "$(lines_with 'full' "$SCRATCH/error") == 1"
  landed=$(((n - 1) * $(wc -l <"$SUBJECTS")))
  expect_equal "nothing of it has landed" \
    "$(json '.datasets[] | select(.dataset == "more").records' dataset list)" "$landed"
  expect_equal "deletion still works" "$(json '[.state, .records_deleted]' delete digits \
    --record 0 1 2 --wait completed)" '["completed",3]'
  after=$(digests d)
  expect_differ "the model was repaired" "$after" "$before"
  # Somebody else takes the rest, the reserve too.
  dd if=/dev/zero of="$disk/filler" bs=1M count=1000 2>/dev/null || true
  expect_exit 4 'full' ctl import more "${TRAIN[@]}" --id-prefix last-
  code=0
  ctl --json delete more --subject writer-001 >"$SCRATCH/answer" 2>"$SCRATCH/error" || code=$?
  expect_true "not one byte free: a deletion is done or refused ($code: $(head -1 "$SCRATCH/error"))" \
    "$code == 0 || $code == 1 || $code == 4"
  rm "$disk/filler"
  down
  up 2
  expect_equal "with the space back it starts, and the model is as it was" "$(digests d)" "$after"
  code=0
  ctl --json delete more --subject writer-001 writer-002 --wait completed >/dev/null || code=$?
  expect_equal "and deletes" "$code" 0
  expect_exit 3 'none of the' ctl plan more --subject writer-001 writer-002
  verified d
  down
}
disk_full 96m

wait
cat "$E2E_DIR/alone.out" "$E2E_DIR/lame.out"
expect_equal "no worker: all was shown" "$(grep -c '^ok' "$E2E_DIR/alone.out" "$E2E_DIR/lame.out" | sed 's/.*://' | tr '\n' ' ')" "3 2 "
finish
