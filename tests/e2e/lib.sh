# tests/e2e/lib.sh: what every end-to-end test shares; source it as the first thing.
#
# A test is run alone from the root of the repository, with bin/ built. It prints `ok - ...` or
# `not ok - ...` for each check and exits non-zero if one was not ok; `skip - ...` and exit 0 where
# it cannot run. Everything it makes lies in one directory under /tmp, and everything it starts
# carries that directory's name in its environment (E2E_DIR), so that what is left can be found
# and ended without touching anybody else's processes.
#
# Sourcing runs the script a second time as a child of a small supervisor, which ends it after
# E2E_SECONDS, and cleans up after it whatever happened: success, failure, SIGTERM.
#
#   E2E_BIN      the programs (default: bin)
#   E2E_TIMES=1  print after each check how long the test has run
#   E2E_KEEP=1   keep the directory, for a look at the logs
set -euo pipefail

# --- The supervisor ---

# Processes that carry our mark in their environment, or, where only root may look at that (unlearnd), our
# directory among their arguments. A process that ends meanwhile is no error.
ours() {
  local file
  # `read` would stop at the first zero byte; grep -z takes each variable for a line.
  for file in $({
    grep -lszxF "E2E_DIR=$E2E_DIR" /proc/[0-9]*/environ || true
    grep -lszF "$E2E_DIR" /proc/[0-9]*/cmdline || true
  } | cut -d/ -f3 | sort -u); do
    # A process that has ended has no arguments any more. (The file's size is always told as 0.)
    [[ $file != "$$" && $file != "$BASHPID" ]] && grep -q . "/proc/$file/cmdline" 2>/dev/null && echo "$file"
  done
  return 0
}

supervise() {
  E2E_DIR=$(mktemp -d "${TMPDIR:-/tmp}/unlearnd-e2e.XXXXXX")
  export E2E_DIR
  local child='' rc=0
  trap 'supervise_end' EXIT
  trap 'exit 143' TERM INT HUP
  timeout -k 5 "${E2E_SECONDS:-300}" bash "$0" "$@" &
  child=$!
  wait "$child" || rc=$?
  if ((rc == 124 || rc == 137)); then
    echo "not ok - ${0##*/}: still running after ${E2E_SECONDS:-300} s, expected an end"
  fi
  exit "$rc"
}

supervise_end() {
  local pid point
  for _ in 1 2 3; do
    for pid in $(ours); do
      kill -KILL "$pid" 2>/dev/null || true
    done
  done
  # What was just killed may hold a file system for a moment yet.
  for point in $(awk -v dir="$E2E_DIR/" 'index($2, dir) == 1 { print $2 }' /proc/mounts); do
    for _ in {1..50}; do
      umount "$point" 2>/dev/null && break
      sleep 0.1
    done
  done
  [[ -n ${E2E_KEEP:-} ]] && echo "# kept: $E2E_DIR" || rm -rf "$E2E_DIR"
}

if [[ -z ${E2E_DIR:-} ]]; then
  supervise "$@"
fi

# --- From here on: inside the test ---

E2E_BIN=$(realpath "${E2E_BIN:-bin}")
E2E_DATA=$(realpath -m ../shared/data)
FAILED=$E2E_DIR/failed
SCRATCH=$E2E_DIR # Of the last command: its error, its answer. A part that runs beside needs its own.
exec 9>&1 # Where a broken test says so, whatever its command's output went to. Not for children.
STARTED=$(date +%s%N)
unset OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS # Of whoever runs the test: it would decide bits.
trap 'broken $? $LINENO "$BASH_COMMAND"' ERR
set -E

broken() { # A command that no check expected to fail has failed; a subshell's parent tells it, too.
  local i where=''
  for ((i = 1; i < ${#BASH_SOURCE[@]}; i++)); do
    where+=" ${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]}"
  done
  echo "not ok - stopped:$where: exit code $1 of: ${3:0:300}" >&9
  [[ -s $SCRATCH/error ]] && sed 's/^/#   /' "$SCRATCH/error" >&9
  exit 1
}

seconds() { # Since the test began, for its last line.
  local ns=$(($(date +%s%N) - STARTED))
  printf '%d.%d' $((ns / 1000000000)) $((ns / 100000000 % 10))
}

ok() { echo "ok - $1"; [[ -z ${E2E_TIMES:-} ]] || echo "#   $(seconds)"; }
not_ok() { # WHAT FOUND EXPECTED
  echo "not ok - $1: found ${2:0:600}, expected ${3:0:600}"
  touch "$FAILED"
}
skip() {
  echo "skip - $1"
  exit 0
}
finish() {
  echo "# ${0##*/}: $(seconds) s"
  [[ ! -e $FAILED ]] || exit 1
  exit 0
}

expect_equal() { # WHAT FOUND EXPECTED
  if [[ $2 == "$3" ]]; then ok "$1"; else not_ok "$1" "$2" "$3"; fi
}
expect_differ() { # WHAT FOUND OTHER
  if [[ $2 != "$3" ]]; then ok "$1"; else not_ok "$1" "$2" "something else"; fi
}
expect_true() { # WHAT EXPRESSION: bash arithmetic
  if (($2)); then ok "$1"; else not_ok "$1" "false" "$2"; fi
}
expect_number() { # WHAT FOUND OPERATOR LIMIT: real numbers
  if [[ $(jq -n "$2 $3 $4") == true ]]; then ok "$1"; else not_ok "$1" "$2" "$3 $4"; fi
}

# expect_exit CODE TEXT COMMAND...: the command ends with CODE, and one line of its error holds all
# words of TEXT that `|` separates. No program of ours may die of a signal or of a failed CHECK.
expect_exit() {
  local code=$1 words=$2 found=0 word line
  shift 2
  "$@" >"$SCRATCH/answer" 2>"$SCRATCH/error" 9>&- || found=$?
  line=$(grep -a '^unlearn' "$SCRATCH/error" | head -1 || true)
  if ((found != code)); then
    not_ok "$(named "$@") is refused" "exit code $found: ${line:-$(head -c 300 "$SCRATCH/error")}" \
      "exit code $code"
    return 0
  fi
  while [[ -n $words ]]; do
    word=${words%%|*}
    if [[ $line != *"$word"* ]]; then
      not_ok "$(named "$@") says what is wrong" "\"$line\"" "the words \"$word\""
      return 0
    fi
    [[ $words == *'|'* ]] && words=${words#*|} || words=''
  done
  ok "exit $code: ${line#*: }"
}
named() { # A command as a reader would write it.
  local text="$*"
  text=${text//"$E2E_DIR/"/}
  text=${text//"$E2E_BIN/"/}
  echo "${text:0:200}"
}

lines_with() { grep -c -- "$1" "$2" || true; } # lines_with PATTERN FILE

# wait_for WHAT SECONDS COMMAND...: polls until the command succeeds. Ends the test if it never does.
wait_for() {
  local what=$1 until=$((SECONDS + $2))
  shift 2
  until "$@"; do
    if ((SECONDS >= until)); then
      not_ok "$what" "not so after the time given" "$*"
      [[ ! -s $SCRATCH/error ]] || sed 's/^/#   /' "$SCRATCH/error"
      exit 1
    fi
    sleep 0.02
  done
}

# --- Clusters ---

# ctl ...: unlearnctl on the cluster of `use`. Its error goes to $SCRATCH/error when captured.
# An import that names no placement key takes PLACEMENT_KEY: under one drawn at random a cell is empty
# now and then, and no record lies where a test looks for it. Where that is empty, none is given.
#
# Under this key no cell of the sample's writers is empty: shard and slice of writers 0, 1, 2, ...
#   2 shards, 2 slices   01 11 10 01 11 00 10 11 01 00 00 10   00 00 10 00
#   2 shards, 3 slices   02 12 11 01 12 01 10 12 02 01 00 10   00 00 10 00 11 01 01 11 10 12 02 12
#   2 shards, 4 slices   03 13 11 02 12 01 11 13 03 01 00 10   00 00 11 00 12 02 01 12 10 13 03 12
#   3 shards, 3 slices   10 22 20 02 21 02 12 22 10 01 01 11   00 00 12 00 20 02 01 20 11 22 11 21
PLACEMENT_KEY=$(printf '%064x' 9821)
ctl() {
  case "$1 ${2:-}" in
    'import '* | '--json import')
      [[ -z $PLACEMENT_KEY || " $* " == *' --placement-key '* ]] ||
        set -- "$@" --placement-key "$PLACEMENT_KEY"
      ;;
  esac
  timeout -k 5 "${CTL_SECONDS:-120}" "$E2E_BIN/unlearnctl" "$@" 9>&-
}
json() { # json FILTER COMMAND...: the field(s) of its answer.
  local filter=$1
  shift
  ctl --json "$@" 2>"$SCRATCH/error" | jq -rc "$filter"
}

# Keys are erased by overwriting: unlearnd starts on ext4 and xfs alone, unless it is told.
UP_OPTIONS=()
case $(findmnt -n -o FSTYPE -T "$E2E_DIR" 2>/dev/null || true) in
  ext4 | xfs) ;;
  *)
    UP_OPTIONS=(--allow-unsafe-fs)
    echo "# $E2E_DIR lies on no ext4 or xfs: clusters are started with --allow-unsafe-fs"
    ;;
esac

use() {
  export UNLEARN_DIR=$E2E_DIR/$1
  FLEET_KEYS=(--key "$UNLEARN_DIR/keys/worker.key" --server-key "$UNLEARN_DIR.client/server.pub")
}
start() { # start NAME [RANKS]: a new cluster, which then is the one in use. LEASE_MS: its setting.
  use "$1"
  ctl --json init "$UNLEARN_DIR" >/dev/null
  [[ -z ${LEASE_MS:-} ]] || sed -i "s/^lease_ms:.*/lease_ms: $LEASE_MS/" "$UNLEARN_DIR/config.yaml"
  up "${2:-2}"
}
up() { # up [RANKS]
  ctl --json up "$UNLEARN_DIR" --ranks "${1:-2}" --detach "${UP_OPTIONS[@]}" \
    >"$SCRATCH/up" 2>"$SCRATCH/error"
}
down() { ctl --json down "$UNLEARN_DIR" >/dev/null; }
coordinator_pid() { cat "$UNLEARN_DIR/run/unlearnd.pid"; }
worker_pids() { # Of the cluster in use: the fleet's grandchildren that are workers.
  local pid
  for pid in $(descendants "$(cat "$UNLEARN_DIR/run/fleet.pid")"); do
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == unlearn-worker ]] && echo "$pid"
  done
  return 0
}
# The workers stand still until `go_on`, so that what they were about to do is seen before it is over.
# Not for as long as a lease lives, or they are taken for lost: a test that does this sets LEASE_MS.
stand_still() { kill -STOP $(worker_pids); }
go_on() { kill -CONT $(worker_pids); }
# hold NAME BYTES: from now on commands with `--dir $HELD` reach the cluster in use through a relay that
# lets so many bytes of them pass and then holds them: half way, however fast the machine is. One
# connection. `let_go` lets the rest pass. A third argument: a file for what passes.
hold() {
  local port mode
  HELD=$E2E_DIR/$1.held
  rm -rf "$HELD.client" "$HELD.port"
  cp -r "$UNLEARN_DIR.client" "$HELD.client"
  read -r port mode <"$UNLEARN_DIR.client/address"
  build/release/e2e/relay "${port##*:}" "$2" ${3:+"$3"} >"$HELD.port" 9>&- &
  RELAY=$!
  wait_for "the relay listens" 30 test -s "$HELD.port"
  echo "tcp://127.0.0.1:$(cat "$HELD.port")${mode:+ $mode}" >"$HELD.client/address"
}
let_go() { kill -USR1 "$RELAY"; }
descendants() {
  local child
  for child in $(pgrep -P "$1" || true); do
    echo "$child"
    descendants "$child"
  done
}
# What runs with keys lets nobody look into it (proc(5): fd, exe, mem) who may not trace it: a container's root may not,
# either. Else says what is not shown. The coordinator must run.
may_look_into_processes() { # WHAT
  readlink "/proc/$(coordinator_pid)/exe" >/dev/null 2>&1 ||
    { echo "# not shown: $1: these processes can be looked into by root alone, where it may trace" && return 1; }
}
gone() { [[ ! -e /proc/$1/status || $(awk '/^State:/ {print $2}' "/proc/$1/status" 2>/dev/null) == Z ]]; }

digests() { # digests MODEL: sorted lines "name state records digest".
  json '.components[] | "\(.name) \(.state) \(.records) \(.digest)"' components "$1" | sort
}
all_valid() { # Whether nothing of the model is left to train.
  [[ $(json '.state' status "$1") == trained ]]
}
same_everywhere() { # same_everywhere WHAT FOUND EXPECTED: digests; tells the names that differ.
  if [[ $2 == "$3" && -n $2 ]]; then
    ok "$1 ($(wc -l <<<"$2") components)"
  else
    not_ok "$1" "$(comm -23 <(echo "$2") <(echo "$3") | tr '\n' ';')" \
      "$(comm -13 <(echo "$2") <(echo "$3") | tr '\n' ';')"
  fi
}
verified() { # verified MODEL: all components, trained again from nothing, have the same bytes.
  local answer
  answer=$(json '[.components, .identical, .different, .skipped]' verify "$1" --components all) || true
  local count
  count=$(digests "$1" | grep -c ' valid ')
  expect_equal "verify --components all of $1: $count identical, none different or skipped" \
    "$answer" "[$count,$count,0,0]"
}
# as_if_never NAME DATASET EXCEPT RANKS IMPORT...: a second cluster with the schema and placement key
# of the one in use, which imports without the ids of the file EXCEPT. It is then the one in use.
as_if_never() {
  local name=$1 dataset=$2 except=$3 ranks=$4 key
  shift 4
  ctl schema "$dataset" >"$E2E_DIR/$name.schema"
  key=$(json .placement_key dataset show "$dataset")
  start "$name" "$ranks"
  ctl --json import "$dataset" "$@" --schema "$E2E_DIR/$name.schema" --placement-key "$key" \
    --except "$except" >/dev/null
}

# --- Data ---

# sample NAME [WRITERS]: the built-in digits; TRAIN and TEST are then arguments of import.
sample() {
  local dir=$E2E_DIR/$1
  ctl --json sample "$dir" --writers "${2:-12}" >/dev/null
  SUBJECTS=$dir/train-subjects.txt
  TRAIN=("$dir/train-images-idx3-ubyte" "$dir/train-labels-idx1-ubyte" --subjects "$SUBJECTS")
  TEST=("$dir/test-images-idx3-ubyte" "$dir/test-labels-idx1-ubyte")
}
ids_of() { # ids_of SUBJECT: ids of a writer's records in the sample: row numbers.
  awk -v subject="$1" '$0 == subject { print NR - 1 }' "$SUBJECTS"
}

# people FILE ROWS [SEED]: a CSV of people: two numeric columns (one with missing values), one
# categorical (with missing values), a person with several rows, a number to predict.
people() {
  awk -v rows="$2" -v state="${3:-1}" '
    function draw(n) { state = (state * 1103515245 + 12345) % 2147483648; return int(state / 65536) % n }
    BEGIN {
      print "who,age,town,hours,wage"
      split("Aberdeen,Bristol,Cardiff,Derby", towns, ",")
      for (i = 0; i < rows; i++) {
        age = 18 + draw(60); town = 1 + draw(4); hours = 5 + draw(50)
        wage = 3 * hours + age / 4 + 20 * town + draw(100) / 10
        printf "p%02d,%s,%s,%d,%.2f\n", draw(40), draw(10) == 0 ? "?" : age,
          draw(12) == 0 ? "" : towns[town], hours, wage
      }
    }' >"$1"
}
