#!/usr/bin/env bash
# tests/cluster/test_slurm.sh: the examples of deploy/slurm on a Slurm of one node, real: munged, slurmctld and slurmd
# of Debian, with settings, key and state in a directory of their own. A fleet as a batch job and ranks started by
# srun join one coordinator, train one stage together, and give back what they were lent when their job ends.
#
# Called by `make test-cluster`, from the root of the repository, with bin/ built, as root. Installs Slurm where it is
# missing. Exit code 77: Slurm does not start here, so nothing was tested.
set -euo pipefail

DIR=$(mktemp -d "${TMPDIR:-/tmp}/unlearnd-slurm.XXXXXX")
# shellcheck source=tests/cluster/checks.sh
source tests/cluster/checks.sh

last_words() { tail -n 20 "$DIR"/*.log; }
end() {
  local name
  if [[ -e $DIR/slurmctld.pid ]]; then
    scancel --state=RUNNING 2>/dev/null || true
    scancel --state=PENDING 2>/dev/null || true
    sleep 1
  fi
  bin/unlearnctl down "$DIR/cluster" >/dev/null 2>&1 || true
  bin/unlearnctl down "$DIR/alone" >/dev/null 2>&1 || true
  for name in slurmd slurmctld munged; do
    [[ ! -s $DIR/$name.pid ]] || kill "$(<"$DIR/$name.pid")" 2>/dev/null || true
  done
  sleep 0.5
  rm -rf "$DIR"
}
trap end EXIT
trap 'exit 143' TERM INT HUP
trap 'echo "not ok - stopped at line $LINENO: exit code $? of: ${BASH_COMMAND:0:200}"' ERR
not_here() {
  echo "test_slurm.sh: not run: $1"
  trap - ERR
  exit 77
}

if (($(id -u) != 0)); then
  not_here "slurmd needs root"
fi
scripts/install.sh munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins jq

# --- Slurm

chmod 0755 "$DIR"
mkdir "$DIR/state" "$DIR/spool"
head -c 1024 /dev/urandom >"$DIR/munge.key"
chmod 0600 "$DIR/munge.key"
munged --force --key-file="$DIR/munge.key" --socket="$DIR/munge.sock" --pid-file="$DIR/munged.pid" \
  --log-file="$DIR/munged.log" --seed-file="$DIR/munge.seed" || not_here "munged does not start"
host=$(hostname -s)
port=$((20000 + $$ % 20000))
cat >"$DIR/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/munge.sock
CredType=cred/munge
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
CONF
export SLURM_CONF=$DIR/slurm.conf
slurmctld || not_here "slurmctld does not start"
answers() { scontrol ping 2>/dev/null | grep -q "is UP"; }
wait_for "slurmctld answers" 30 answers # slurmd registers once, and then again only after minutes.
slurmd || not_here "slurmd does not start: $(tail -1 "$DIR/slurmd.log")"
node_idle() { [[ $(sinfo -h -o %T 2>/dev/null) == idle ]]; }
wait_for "the node is idle" 30 node_idle
srun -n1 true || not_here "srun starts nothing: $(tail -1 "$DIR/slurmd.log")"
ok "Slurm $(sinfo --version | cut -d' ' -f2) runs, one node"

# --- A fleet as a batch job, and ranks started by srun

export UNLEARN_DIR=$DIR/cluster UNLEARN_BIN=$PWD/bin
ctl() { bin/unlearnctl "$@"; }
json() {
  local filter=$1
  shift
  ctl --json "$@" | jq -rc "$filter"
}
# --allow-unsafe-fs: /tmp may be anything.
ctl --json init "$UNLEARN_DIR" >/dev/null
ctl --json up "$UNLEARN_DIR" --ranks 0 --detach --allow-unsafe-fs >/dev/null
ctl --json sample "$DIR/data" --writers 12 >/dev/null
data=("$DIR/data/train-images-idx3-ubyte" "$DIR/data/train-labels-idx1-ubyte" --subjects "$DIR/data/train-subjects.txt"
  --placement-key "$(printf '%064x' 9821)")
ctl --json import digits "${data[@]}" >/dev/null
COORDINATOR=$(<"$UNLEARN_DIR/run/workers")
KEY=$UNLEARN_DIR/keys/worker.key SERVER_KEY=$UNLEARN_DIR.client/server.pub
export COORDINATOR KEY SERVER_KEY
workers() { [[ $(json .workers_total status) == "$1" ]]; }
job=$(sbatch --parsable --ntasks 2 -o "$DIR/fleet.log" deploy/slurm/fleet.sbatch)
wait_for "the fleet's ranks join" 60 workers 2
ok "a fleet runs as a batch job: two ranks have joined"
SPEC=(hidden=256 shards=2 slices=2 epochs=10 gradient_chunks=2)
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
ok "they train"

# The job is ended in the middle of a stage.
ctl --json train n --dataset digits --set "${SPEC[@]}" seed=3 epochs=3000 >/dev/null
busy() { [[ $(json .workers_busy status) == 2 ]]; }
wait_for "they are at a long stage" 30 busy
scancel --signal=TERM --batch "$job"
wait_for "they have left" 20 workers 0
left() { [[ $(scontrol show job "$job" | grep -o 'JobState=[A-Z]*') == JobState=COMPLETED ]]; }
wait_for "the job has ended by itself" 20 left
ok "told that its time is over, the fleet ends in order"
ctl --json model remove n >/dev/null

srun --ntasks 2 --mpi pmix --kill-on-bad-exit=0 -o "$DIR/srun.log" deploy/slurm/workers.srun "$COORDINATOR" \
  --key "$KEY" --server-key "$SERVER_KEY" &
wait_for "the ranks of srun join" 60 workers 2
ok "srun starts ranks without mpirun"
ctl --json delete digits --subject writer-000 --wait completed >/dev/null
groups=$(grep -c 'event=stage_trained .*member=1/2' "$DIR/srun.log" || true)
expect_equal "they are one MPI world: they train stages together" "$((groups >= 1))" 1
expect_equal "every component equals one trained from nothing" \
  "$(json '[.different, .skipped]' verify m --components all)" "[0,0]"
found=$(json '.components[] | "\(.name) \(.digest)"' components m | sort)
scancel --state=RUNNING
wait_for "scancel ends them" 20 workers 0
ok "scancel ends them"

# --- The bytes of one process

awk '$0 == "writer-000" { print NR - 1 }' "$DIR/data/train-subjects.txt" >"$DIR/except"
export UNLEARN_DIR=$DIR/alone
ctl --json init "$UNLEARN_DIR" >/dev/null
ctl --json up "$UNLEARN_DIR" --ranks 1 --detach --allow-unsafe-fs >/dev/null
ctl --json import digits "${data[@]}" --except "$DIR/except" >/dev/null
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
expect_equal "the bytes of one process that never saw the writer" \
  "$(json '.components[] | "\(.name) \(.digest)"' components m | sort)" "$found"
ctl --json down "$UNLEARN_DIR" >/dev/null
export UNLEARN_DIR=$DIR/cluster
finish
