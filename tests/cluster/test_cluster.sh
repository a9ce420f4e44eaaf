#!/usr/bin/env bash
# tests/cluster/test_cluster.sh: the cluster of docker/compose.yaml, for real: three hosts train, one is killed,
# one is cut off, the coordinator's container is restarted, two hosts are added; what comes out is, byte for
# byte, what one process on this machine makes.
#
# Called by `make test-cluster`, from the root of the repository, with bin/ built. Compose is `docker compose` (v2) where
# that is there, else docker-compose (1.29). It installs docker.io and docker-compose where they are missing, starts
# dockerd where none runs (both as root), and ends what it started. Containers and networks have a name of their own.
# Prints what it found, step by step.
#
# Exit code 77: dockerd does not start here, so nothing was tested.
#
#   CLUSTER_KEEP=1   keep containers and directory for a look
set -euo pipefail

NAME=unlearnd-test-$$
DIR=$(mktemp -d "${TMPDIR:-/tmp}/$NAME.XXXXXX")
KEY=$(printf '%064x' 9821)
# shellcheck source=tests/cluster/checks.sh
source tests/cluster/checks.sh
# shellcheck source=tests/cluster/docker.sh
source tests/cluster/docker.sh

last_words() { compose logs --no-color --tail 30 coordinator fleet; }
end() {
  if [[ -z ${CLUSTER_KEEP:-} ]]; then
    docker rm -f "$NAME-client" >/dev/null 2>&1 || true
    compose down -v -t 5 --remove-orphans >/dev/null 2>&1 || true
    bin/unlearnctl down "$DIR/alone" >/dev/null 2>&1 || true
    rm -rf "$DIR"
  else
    echo "# kept: $NAME, $DIR"
  fi
  [[ -n ${CLUSTER_KEEP:-} ]] || docker_down
}
trap end EXIT
trap 'exit 143' TERM INT HUP
trap 'not_ok "stopped at line $LINENO" "exit code $? of: ${BASH_COMMAND:0:200}" "0"' ERR
set -E

compose() { "${COMPOSE[@]}" -p "$NAME" -f docker/compose.yaml "$@"; }
client() { docker exec -e UNLEARN_DIR=/tmp/cluster -w "/tmp" "$NAME-client" "$@"; }
ctl() { client unlearnctl "$@"; }
json() { # json FILTER COMMAND...
  local filter=$1
  shift
  ctl --json "$@" 2>"$DIR/error" | jq -rc "$filter"
}
digests() { # of `components --json`, on stdin
  jq -r '.components[] | "\(.name) \(.state) \(.records) \(.digest)"' | sort
}

# --- Docker ---

docker_up "$DIR/dockerd.log"
if docker compose version >/dev/null 2>&1; then
  COMPOSE=(docker compose)
else
  scripts/install.sh docker-compose
  COMPOSE=(docker-compose)
fi
docker build -q -f docker/Dockerfile -t unlearnd . >"$DIR/build.log" 2>&1 || {
  tail -30 "$DIR/build.log"
  exit 1
}
ok "the image is built; what follows is done by ${COMPOSE[*]} $(compose version --short)"

# --- Up: from nothing to a first receipt ---

up=$SECONDS
compose up -d >"$DIR/up.log" 2>&1 || cat "$DIR/up.log"
docker run -d --name "$NAME-client" --network "${NAME}_default" -v "${NAME}_client:/client:ro" \
  --read-only --tmpfs /tmp --entrypoint sleep unlearnd 3600 >/dev/null
ready() { # As the entrypoint of a client does.
  client bash -c 'mkdir -p /tmp/cluster.client && install -m 0600 /client/* /tmp/cluster.client/ &&
    echo tcp://coordinator:7070 >/tmp/cluster.client/address' 2>/dev/null &&
    ctl health --workers "$1" >/dev/null 2>&1
}
wait_for "three hosts join" 120 ready 3
client unlearn-demo >"$DIR/demo.log" 2>&1 || { cat "$DIR/demo.log"; not_ok "the demo" failed "a receipt"; finish; }
expect_equal "up, demo, and a receipt that verifies, in $((SECONDS - up)) s (at most 120)" \
  "$(grep -c '^valid' "$DIR/demo.log") $((SECONDS - up <= 120))" "1 1"

# --- Three hosts train ---

bin/unlearnctl --json sample "$DIR/data" --writers 24 >/dev/null
client mkdir -p /tmp/data
for file in train-images-idx3-ubyte train-labels-idx1-ubyte train-subjects.txt; do
  docker exec -i "$NAME-client" sh -c "cat >/tmp/data/$file" <"$DIR/data/$file"
done
# The same arguments in the client's container and on this machine.
import=(import people data/train-images-idx3-ubyte data/train-labels-idx1-ubyte --subjects
  data/train-subjects.txt --placement-key "$KEY")
SPEC=(hidden=512 shards=3 slices=3 epochs=40)
TOGETHER=(hidden=512 shards=3 slices=3 epochs=8 gradient_chunks=8) # Several ranks train one stage.
ctl --json "${import[@]}" >/dev/null
ctl --json train m --dataset people --set "${SPEC[@]}" >/dev/null
all_valid() { [[ $(json .state status m) == trained ]]; }
busy() { (($(json .workers_busy status) >= $1)); }
number_of() { docker ps -q --filter "name=${NAME}_worker_$1\$" --filter "name=${NAME}-worker-$1\$"; }
log() { compose logs --no-color "$1" 2>/dev/null; }
wait_for "three ranks train at once" 60 busy 3
expect_equal "on three hosts" "$(json '[.workers[].name | split("/")[0]] | unique | length' status)" 3

# --- One host is killed in the middle ---

docker kill "$(number_of 2)" >/dev/null
wait_for "the fleet goes on over the two others" 90 ready 2
lost() { log coordinator | grep -cE 'event=(worker_lost|lease_expired|worker_left|fleet_lost)' || true; }
some_lost() { (($(lost) > $1)); }
wait_for "the coordinator notices" 60 some_lost 0
wait_for "the training ends without it" 180 all_valid
ok "a host was killed: the others finished the training"

# --- One host is cut off the network while it repairs ---

# Under KEY these lie in the first slices of the three shards: a chain of three stages for each host.
ctl --json delete people --subject writer-000 writer-002 writer-012 >/dev/null
wait_for "both hosts that are left repair" 30 busy 2
lost_before=$(lost)
docker network disconnect "${NAME}_default" "$(number_of 3)"
wait_for "the repair ends without it" 180 all_valid
wait_for "the coordinator notices that, too" 30 some_lost "$lost_before"
ok "a host was cut off: the repair ended without it"
docker network connect --alias worker "${NAME}_default" "$(number_of 3)"
docker start "$(docker ps -aq --filter "name=${NAME}_worker_2\$" --filter "name=${NAME}-worker-2\$")" >/dev/null
wait_for "both are back" 120 ready 3
ok "the killed host and the cut-off one are back in the fleet"

# --- The coordinator's container is restarted in the middle of a repair ---

request=$(json .request delete people --subject writer-007)
coordinator=$(compose ps -q coordinator)
docker kill "$coordinator" >/dev/null
docker start "$coordinator" >/dev/null
completed() { [[ $(json .state status "$request") == completed ]]; }
wait_for "the request goes on" 180 completed
ok "the coordinator's container was killed and started: the request went on to completed"
docker restart -t 30 "$coordinator" >/dev/null
wait_for "it is back after a restart in order" 120 ready 3
expect_equal "a restart in order drains" \
  "$(log coordinator | grep -c 'event=coordinator_ended code=0')" 1

# --- From three hosts to five ---

compose up -d --no-recreate --scale worker=5 >"$DIR/scale.log" 2>&1 || cat "$DIR/scale.log"
wait_for "five hosts join" 120 ready 5
ctl --json delete people --subject writer-013 --wait completed >/dev/null
ctl --json train n --dataset people --set "${TOGETHER[@]}" --wait >/dev/null
expect_equal "five hosts" "$(json '[.workers[].name | split("/")[0]] | unique | length' status)" 5

# --- What it made is what one process makes ---

expect_equal "every component is what training from nothing gives" \
  "$(json '[.different, .skipped]' verify m --components all) $(json '[.different, .skipped]' verify n --components all)" \
  "[0,0] [0,0]"
found=$(for model in m n; do ctl --json components $model | digests; done)
awk '/^writer-(000|002|007|012|013)$/ { print NR - 1 }' "$DIR/data/train-subjects.txt" >"$DIR/except"
export UNLEARN_DIR=$DIR/alone
bin/unlearnctl --json init "$UNLEARN_DIR" >/dev/null
bin/unlearnctl --json up "$UNLEARN_DIR" --ranks 1 --detach --allow-unsafe-fs >/dev/null
(cd "$DIR" && "$OLDPWD/bin/unlearnctl" --json "${import[@]}" --except except >/dev/null)
bin/unlearnctl --json train m --dataset people --set "${SPEC[@]}" --wait >/dev/null
bin/unlearnctl --json train n --dataset people --set "${TOGETHER[@]}" --wait >/dev/null
alone=$(for model in m n; do bin/unlearnctl --json components $model | digests; done)
if [[ -n $found && $found == "$alone" ]]; then
  ok "$(wc -l <<<"$found") components: the bytes of one process on one machine that never saw the five writers"
else
  not_ok "the same bytes as one process" "$(comm -23 <(echo "$found") <(echo "$alone") | tr '\n' ';')" \
    "$(comm -13 <(echo "$found") <(echo "$alone") | tr '\n' ';')"
fi
finish
