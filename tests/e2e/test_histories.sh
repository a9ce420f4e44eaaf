#!/bin/bash
# tests/e2e/test_histories.sh: whatever happened before, every component has the bytes of a cluster that
# only ever saw the surviving records.
#
# Goal    exactness over histories, not over single deletions.
# Method  a history is drawn from a seed: imports into open generations, deletions by record and by
#         subject, readmission, trainings, kill -9 of the coordinator and of ranks, restarts with other
#         rank counts, in any order, many of them while training is under way. The test keeps account of
#         which records survive, with which bytes and generation. Then a fresh cluster imports those
#         records, generation by generation, in another order, trains once, and every component is
#         compared: name, state, records, digest.
#
#   HISTORIES=N    how many (default: one for each spec)      make histories N=1000
#   SEED=S         the first one's seed; the others follow. Printed, so that a failure can be repeated.
#                  make histories takes the clock; the default is one after which each kind of step
#                  comes, and 1, 2 and 4 ranks.
E2E_SECONDS=$((${HISTORIES:-10} * 120 + 60))
source "$(dirname "$0")/lib.sh"

SEED=${SEED:-1795652539}
SPECS=(
  "learner=mlp hidden=16 shards=3 slices=2 epochs=6 batch=7 risk=0=*/0,1=2/*,2=*/1"
  "learner=softmax shards=2 slices=3 epochs=8 batch=16"
  "learner=mlp hidden=24,8 activation=tanh dropout=0.25 shards=2 slices=2 epochs=5 optimizer.kind=adamw optimizer.rate=0.01"
  "learner=mlp hidden=12 activation=gelu shards=2 slices=3 sequences=3 epochs=6 gradient_chunks=4 batch=9 risk=1=1/1-2,2=*/0,3=0/*"
  "learner=text base=verses append_blocks=16 lora.rank=2 lora.dropout=0.1 optimizer.kind=adamw optimizer.rate=0.01 shards=2 slices=2 sequences=2 epochs=2 gradient_chunks=2 batch=8 risk=1=0/1,2=1/*"
  "learner=text layers=1 width=16 heads=2 inner=16 context=24 optimizer.kind=adamw optimizer.rate=0.01 shards=2 slices=2 epochs=2 gradient_chunks=4 batch=8"
)
# The base of verses: a block of one layer for each of two slices and sixteen generations.
BASE=(learner=text layers=18 width=16 heads=2 inner=16 context=24 epochs=1 optimizer.kind=adamw optimizer.rate=0.01)
HISTORIES=${HISTORIES:-${#SPECS[@]}}
RANKS=(1 2 4)
SUBJECTS=9

# All draws come from bash's own generator, seeded once for each history.
draw() { DRAWN=$((RANDOM % $1)); } # No subshell: that would fork the generator.

row_of() { # ID VERSION -> ROW: its bytes are a function of both, so that a readmitted one may differ.
  local h=$(((10#$1 * 7919 + $2 * 104729 + 13) % 9973))
  local town=(north east south west)
  local age=$((h % 60 + 18)) x=$((h % 97)).$((h % 10))
  ((h % 11 != 0)) || age='?'
  local label=$(((h % 97 + (h % 4) * 25 + (h / 7) % 20) > 90 ? 1 : 0))
  local verse="${town[h % 4]} wind $((h % 89)) blows ${town[h / 7 % 4]}ward" # Longer than a window, some.
  # The class of a subject is its own; that of a record without one may be another when it is readmitted.
  local who=${SUBJECT_OF[$1]:-} class
  class=$(((10#$1 + $2) % 4))
  [[ -z $who ]] || class=$((${who#subject-} % 3))
  ROW="$1,$who,$class,$age,$x,${town[h % 4]},$verse,class$label"
}

HEADER='id,who,risk,age,x,town,verse,label'
IMPORT=(--format csv --label label --id id --subject who --risk risk)

schema_file() { # FILE: of the spec in use: verses are learnt from alone, or not at all.
  [[ $SPEC != learner=text* ]] || {
    cat >"$1" <<'JSON'
{"columns": [
  {"name": "age", "type": "ignored"}, {"name": "x", "type": "ignored"},
  {"name": "town", "type": "ignored"}, {"name": "verse", "type": "text"}],
 "label": {"name": "label", "type": "classes", "classes": ["class0", "class1"]}}
JSON
    return
  }
  cat >"$1" <<'JSON'
{"columns": [
  {"name": "age", "type": "numeric", "missing": true, "standardise": true},
  {"name": "x", "type": "numeric", "standardise": true},
  {"name": "town", "type": "category", "categories": ["east", "north", "south"]},
  {"name": "verse", "type": "ignored"}],
 "label": {"name": "label", "type": "classes", "classes": ["class0", "class1"]}}
JSON
}

# --- Steps of a history. Each changes the account and the cluster alike. ---

import_new() {
  local count i id file=$E2E_DIR/new.csv
  draw 40 && count=$((DRAWN + 3))
  echo "$HEADER" >"$file"
  local ids=()
  for ((i = 0; i < count; i++)); do
    id=$((NEXT_ID++))
    draw $((SUBJECTS + 3))
    SUBJECT_OF[$id]=''
    ((DRAWN >= SUBJECTS)) || SUBJECT_OF[$id]="subject-$DRAWN"
    VERSION[$id]=0
    row_of "$id" 0
    echo "$ROW" >>"$file"
    ids+=("$id")
  done
  local generation records taken=0
  read -r generation records <<<"$(json '"\(.generation) \(.records)"' import d "$file" \
    "${IMPORT[@]}" --schema "$E2E_DIR/schema")"
  for id in "${ids[@]}"; do # A deleted subject's new records stay out.
    if [[ -z ${SUBJECT_OF[$id]} || -z ${BURIED[${SUBJECT_OF[$id]}]:-} ]]; then
      ALIVE[$id]=$generation
      taken=$((taken + 1))
    fi
  done
  ((records == taken)) || not_ok "import of $count records, after$TOLD" "$records taken" "$taken"
  USED=$((generation + 1 > USED ? generation + 1 : USED))
  TOLD+=" import:$count@$generation"
}

some_id() { # -> ID: any that is alive; false when there is none.
  local ids=("${!ALIVE[@]}")
  ((${#ids[@]} > 0)) || return 1
  draw ${#ids[@]} && ID=${ids[DRAWN]}
}

delete_records() {
  local ids=() i count
  draw 4 && count=$((DRAWN + 1))
  for ((i = 0; i < count; i++)); do
    some_id || break
    unset "ALIVE[$ID]"
    DEAD[$ID]=1
    ids+=("$ID")
  done
  ((${#ids[@]} > 0)) || return 0
  local gone
  gone=$(json .records_deleted delete d --record "${ids[@]}")
  [[ $gone == "${#ids[@]}" ]] || not_ok "deletion of ${#ids[@]} records, after$TOLD" "$gone" "${#ids[@]}"
  TOLD+=" delete:${#ids[@]}"
}

delete_subject() {
  local id subject known=0
  draw $SUBJECTS && subject=subject-$DRAWN
  for id in "${!ALIVE[@]}"; do
    if [[ ${SUBJECT_OF[$id]} == "$subject" ]]; then
      known=$((known + 1))
      unset "ALIVE[$id]"
      DEAD[$id]=1
    fi
  done
  ((known)) || return 0
  BURIED[$subject]=1
  local gone
  gone=$(json .records_deleted delete d --subject "$subject")
  ((gone == known)) || not_ok "deletion of $known records of $subject, after$TOLD" "$gone" "$known"
  TOLD+=" forget:$subject"
}

readmit() {
  local ids=("${!DEAD[@]}") generation file=$E2E_DIR/again.csv
  ((${#ids[@]} > 0)) || return 0
  draw ${#ids[@]} && ID=${ids[DRAWN]}
  VERSION[$ID]=$((VERSION[$ID] + 1))
  row_of "$ID" "${VERSION[$ID]}"
  printf '%s\n%s\n' "$HEADER" "$ROW" >"$file"
  # Its erasure may still be under way: then the import says so, and is asked again.
  wait_for "readmission" 20 readmit_file "$file"
  generation=$(jq .generation "$E2E_DIR/answer")
  ALIVE[$ID]=$generation
  unset "DEAD[$ID]"
  [[ -z ${SUBJECT_OF[$ID]} ]] || unset "BURIED[${SUBJECT_OF[$ID]}]"
  USED=$((generation + 1 > USED ? generation + 1 : USED))
  TOLD+=" readmit@$generation"
}
readmit_file() {
  ctl --json import d "$1" "${IMPORT[@]}" --readmit >"$E2E_DIR/answer" 2>"$E2E_DIR/error"
}

train() {
  ((${#ALIVE[@]} > 0)) || return 0
  ctl --json train m --dataset d --set $SPEC >/dev/null 2>"$E2E_DIR/error"
  TOLD+=" train"
}

settle() {
  ctl --json train m --dataset d --set $SPEC --wait >/dev/null 2>"$E2E_DIR/error"
  TOLD+=" settle"
}

kill_rank() {
  local pids
  pids=($(worker_pids))
  ((${#pids[@]} > 0)) || return 0
  draw ${#pids[@]} && kill -KILL "${pids[DRAWN]}" 2>/dev/null || true
  TOLD+=" kill-rank"
}

crash() {
  kill -KILL "$(coordinator_pid)"
  down
  draw 3 && up "${RANKS[DRAWN]}"
  TOLD+=" crash:${RANKS[DRAWN]}"
}

restart() {
  down
  draw 3 && up "${RANKS[DRAWN]}"
  TOLD+=" restart:${RANKS[DRAWN]}"
}

# begin NAME RANKS: a new cluster, with the base that the spec names.
begin() {
  local i
  start "$1" "$2"
  [[ $SPEC == *base=verses* ]] || return 0
  for ((i = 0; i < 6; i++)); do echo "{\"id\": \"v$i\", \"verse\": \"wind $i blows northward\"}"; done >"$E2E_DIR/verses.jsonl"
  ctl --json import public "$E2E_DIR/verses.jsonl" --id id --text verse --public \
    --placement-key "$(printf '%064x' 7)" >/dev/null 2>"$E2E_DIR/error"
  ctl --json base pretrain verses --dataset public --set "${BASE[@]}" >/dev/null 2>"$E2E_DIR/error"
}

# --- One history ---

nothing_pending() { [[ $(json .requests_open status) == 0 ]]; }

history() { # SEED
  RANDOM=$1
  declare -gA ALIVE=() DEAD=() SUBJECT_OF=() VERSION=() BURIED=()
  NEXT_ID=0 USED=0 TOLD=''
  local steps i g id
  SPEC=${SPECS[$1 % ${#SPECS[@]}]} # In turn, so that each learner has its histories.
  PLACEMENT_KEY=$(printf '%064x' "$1")
  schema_file "$E2E_DIR/schema"
  draw 3 && begin "lived-$1" "${RANKS[DRAWN]}"
  TOLD=" start:${RANKS[DRAWN]}"
  import_new
  draw 12 && steps=$((DRAWN + 8))
  for ((i = 0; i < steps; i++)); do
    draw 20
    case $DRAWN in
      0 | 1 | 2) import_new ;;
      3 | 4 | 5 | 6) delete_records ;;
      7 | 8 | 9) delete_subject ;;
      10 | 11) readmit ;;
      12 | 13 | 14 | 15) train ;;
      16) settle ;;
      17) kill_rank ;;
      18) crash ;;
      19) restart ;;
    esac
  done
  ((${#ALIVE[@]} > 0)) || import_new
  settle
  wait_for "all requests are completed" 60 nothing_pending
  local lived
  lived=$(digests m)
  verified m >"$E2E_DIR/verified"
  grep '^not ok' "$E2E_DIR/verified" && touch "$FAILED"
  down

  # Never-seen: the survivors alone, last ones first.
  draw 3 && begin "fresh-$1" "${RANKS[DRAWN]}"
  TOLD+=" fresh:${RANKS[DRAWN]}"
  for ((g = 0; g < USED; g++)); do
    echo "$HEADER" >"$E2E_DIR/survivors.csv"
    for id in $(printf '%s\n' "${!ALIVE[@]}" | sort -rn); do
      if ((ALIVE[$id] == g)); then
        row_of "$id" "${VERSION[$id]}"
        echo "$ROW" >>"$E2E_DIR/survivors.csv"
      fi
    done
    ctl --json import d "$E2E_DIR/survivors.csv" "${IMPORT[@]}" --generation "$g" \
      --schema "$E2E_DIR/schema" >/dev/null 2>"$E2E_DIR/error"
  done
  settle
  same_everywhere "history $1 (${SPEC%% shards*}; ${#ALIVE[@]} records survive, $USED generations;$TOLD)" \
    "$lived" "$(digests m)"
  down
  [[ -n ${E2E_KEEP:-} ]] || rm -rf "$E2E_DIR/lived-$1"* "$E2E_DIR/fresh-$1"*
}

echo "# seed $SEED, $HISTORIES histories: SEED=$SEED HISTORIES=$HISTORIES repeats them"
for ((h = 0; h < HISTORIES; h++)); do
  history $((SEED + h))
done
finish
