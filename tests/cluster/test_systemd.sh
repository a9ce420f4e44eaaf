#!/usr/bin/env bash
# tests/cluster/test_systemd.sh: the units of deploy/systemd under a real systemd, as PID 1 of a container into which
# the Debian package was installed. The commands of docs/operations.md make a cluster; it trains, forgets, and proves
# it; the units are watched, restarted and reloaded; what the hardening lists promise is looked for in /proc. Ranks
# also run on a second container, reached by ssh as the docs say, and README's commands for a cluster of hosts are
# typed by an ordinary user. Last, the package is upgraded and removed.
#
# Called by `make test-cluster`, from the root of the repository, with bin/ built. The image's layer of Debian's
# packages is kept for the next time. Exit code 77: no Docker here, or systemd does not run in a container.
set -euo pipefail

NAME=unlearnd-systemd-$$
DIR=$(mktemp -d "${TMPDIR:-/tmp}/$NAME.XXXXXX")
CLUSTER=/var/lib/unlearnd/cluster
# shellcheck source=tests/cluster/checks.sh
source tests/cluster/checks.sh
# shellcheck source=tests/cluster/docker.sh
source tests/cluster/docker.sh

last_words() { inside journalctl --no-pager -n 20; }
end() {
  docker rm -f "$NAME" "$NAME-host" "$NAME-host2" >/dev/null 2>&1 || true
  docker volume rm "$NAME" "$NAME-home" >/dev/null 2>&1 || true
  docker network rm "$NAME" >/dev/null 2>&1 || true
  docker_down
  rm -rf "$DIR"
}
trap end EXIT
trap 'exit 143' TERM INT HUP
broken() {
  echo "not ok - stopped at line $1: exit code $2 of: ${3:0:200}"
  tail -20 "$DIR/log" 2>/dev/null
  inside journalctl --no-pager -n 20 2>/dev/null | cut -c1-300
}
trap 'broken $LINENO $? "$BASH_COMMAND"' ERR
set -E
not_here() {
  echo "test_systemd.sh: not run: $1"
  trap - ERR
  exit 77
}

inside() { docker exec -i "$NAME" "$@"; }
host() { docker exec -i "$NAME-host" "$@"; }
ctl() { docker exec -i -u unlearnd -e UNLEARN_DIR=$CLUSTER "$NAME" unlearnctl "$@"; }
json() { # json FILTER COMMAND...
  local filter=$1
  shift
  ctl --json "$@" 2>"$DIR/error" | jq -rc "$filter"
}
of() { inside systemctl show "$1" -P "$2"; } # of UNIT PROPERTY
active() { echo "$(of "$1" ActiveState) $(of "$1" SubState)"; }
log() { inside journalctl --no-pager -o cat -u "$1"; }

# --- A machine: systemd as PID 1, the package installed ---

docker_up "$DIR/dockerd.log"
scripts/install.sh help2man dpkg-dev
package=$(scripts/deb.sh "$DIR" 2>"$DIR/log")
depends=$(dpkg-deb -f "$package" Depends | tr ',' '\n' | sed -E '/systemd/d; s/ *\(.*//; s/^ *//' | sort | tr '\n' ' ')
mkdir "$DIR/image"
cp "$package" "$DIR/image/unlearnd.deb"
# Without /usr/sbin/policy-rc.d, by which images of Debian keep packages from starting services.
cat >"$DIR/image/Dockerfile" <<IMAGE
FROM debian:bookworm-slim
RUN rm -f /usr/sbin/policy-rc.d && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
  --no-install-recommends systemd systemd-sysv dbus jq openssh-client openssh-server $depends >/dev/null
COPY unlearnd.deb /root/unlearnd.deb
RUN dpkg -i /root/unlearnd.deb >/dev/null
IMAGE
docker build -q -t unlearnd-systemd "$DIR/image" >"$DIR/log" 2>&1 || {
  tail -20 "$DIR/log"
  exit 1
}
# What systemd needs beyond an ordinary container: mounts of its own, control groups that can be written. The data
# lies on a volume, which is of the machine's file system: the store refuses the container's overlay.
docker network create "$NAME" >/dev/null
docker run -d --name "$NAME" --hostname coordinator --network "$NAME" -v "$NAME:/var/lib/unlearnd" -v "$NAME-home:/home/ann" --cgroupns=private \
  --cap-add SYS_ADMIN --cap-add SYS_PTRACE --cap-add SYS_NICE --security-opt seccomp=unconfined \
  --security-opt apparmor=unconfined --security-opt systempaths=unconfined --shm-size 256m \
  --tmpfs /run --tmpfs /run/lock --tmpfs /tmp -e container=docker unlearnd-systemd sh -c '
    for mount in $(awk "\$3 ~ /^cgroup/ { print \$2 }" /proc/mounts); do mount -o remount,bind,rw "$mount" || exit; done
    exec /sbin/init' >/dev/null 2>"$DIR/log" || not_here "no container with the rights of systemd starts: $(head -1 "$DIR/log")"
booted() { [[ $(inside systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }
for _ in {1..150}; do
  if booted || [[ $(docker inspect -f '{{.State.Running}}' "$NAME") != true ]]; then
    break
  fi
  sleep 0.2
done
booted || not_here "systemd does not start in a container: $(docker logs "$NAME" 2>&1 | head -1)"
ok "systemd $(inside systemctl --version | awk 'NR == 1 { print $2 }') runs as PID 1, with the package installed"

# --- The commands of the docs, as they stand there ---

awk '/^Under systemd, as root/ { found = 1 } found && /^```/ { if (open) exit; open = 1; next } open' \
  docs/operations.md >"$DIR/commands"
inside bash -euxs <"$DIR/commands" >"$DIR/log" 2>&1
expect_equal "the commands of docs/operations.md: both units are up, two ranks have joined" \
  "$(active unlearnd) $(active unlearn-fleet) $(grep -c 'ready: 2 workers' "$DIR/log")" \
  "active running active running 1"
expect_equal "they are watched, and start at the next boot" \
  "$(of unlearnd WatchdogUSec) $(of unlearn-fleet WatchdogUSec) $(inside systemctl is-enabled unlearnd unlearn-fleet | tr '\n' ' ')" \
  "30s 1min enabled enabled "
expect_equal "systemctl status says what they do" \
  "$(of unlearnd StatusText), $(of unlearn-fleet StatusText)" "2 workers, 0 open requests, 2 of 2 ranks have joined"

# --- It works within its bounds ---

SPEC=(hidden=32 shards=2 slices=2 epochs=4 gradient_chunks=2)
ctl --json sample /tmp/data --writers 12 >/dev/null
ctl --json import digits /tmp/data/train-images-idx3-ubyte /tmp/data/train-labels-idx1-ubyte \
  --subjects /tmp/data/train-subjects.txt --placement-key "$(printf '%064x' 9821)" >/dev/null
ctl --json train demo --dataset digits --set "${SPEC[@]}" --wait >/dev/null
ctl --json delete digits --subject writer-003 --wait completed --receipt /tmp/receipt >/dev/null
expect_equal "trained, deleted, and the receipt verifies" \
  "$(ctl receipt verify /tmp/receipt --key $CLUSTER.client/receipt.pub | head -1 | cut -c1-5)" valid
expect_equal "every component equals one that never saw the writer" \
  "$(json '[.identical, .different, .skipped]' verify demo --components all)" "[4,0,0]"
expect_equal "the database can be written anew" \
  "$(json '.bytes_after > 0' compact) $(json '[.identical, .different, .skipped]' verify demo --components all)" "true [4,0,0]"

# --- What the hardening lists promise ---

main=$(of unlearnd MainPID) fleet=$(of unlearn-fleet MainPID)
for name in unlearnd unlearn-fleet mpirun unlearn-worker; do
  # The names of the kernel are cut after 15 letters.
  pid=$(inside pgrep -o "^${name:0:15}$")
  expect_equal "$name: no new privileges, filtered calls, no capabilities, no core dumps" \
    "$(inside awk '/^(NoNewPrivs|Seccomp|CapEff|CapBnd):/ { print $2 }' "/proc/$pid/status" | tr '\n' ' ')$(
      inside awk '/^Max core/ { print $5 $6 }' "/proc/$pid/limits")" \
    "0000000000000000 0000000000000000 1 2 00"
done
expect_equal "they are users of their own" \
  "$(inside stat -c %U "/proc/$main" "/proc/$fleet" | tr '\n' ' ')" "unlearnd unlearn-fleet "
within() { # within PID COMMAND: what root finds in the file systems of a service.
  inside nsenter -t "$1" -m -- sh -c "$2" 2>&1 || true
}
expect_equal "the system is read-only to both, though not to whoever looks" \
  "$(for pid in "$main" "$fleet"; do within "$pid" 'touch /usr/x /etc/x /var/lib/x'; done | grep -c 'Read-only file system') $(
    inside sh -c 'touch /usr/x && rm /usr/x && echo written')" "6 written"
expect_equal "each writes only into its own directory" \
  "$(within "$main" 'cd /var/lib; for d in unlearnd unlearn-fleet; do touch $d/x && rm $d/x && echo $d; done' | grep -v Read-only) $(
    within "$fleet" 'cd /var/lib; for d in unlearnd unlearn-fleet; do touch $d/x && rm $d/x && echo $d; done' | grep -v Read-only)" \
  "unlearnd unlearn-fleet"
as_fleet="setpriv --reuid unlearn-fleet --regid unlearn-fleet --clear-groups"
expect_equal "a fleet sees neither the coordinator's process nor its keys" \
  "$(within "$fleet" "$as_fleet ls -d /proc/$main /proc/$fleet; $as_fleet cat $CLUSTER/keys/signing.key" |
    grep -oE '^/proc/[0-9]+|Permission denied')" "/proc/$fleet
Permission denied"
expect_equal "home and temporary directories are others" \
  "$(inside touch /tmp/seen /home/seen; within "$main" 'ls -d /tmp/seen /home/seen' | grep -c 'No such file')" 2
for unit in unlearnd unlearn-fleet; do
  exposure=$(inside systemd-analyze security --no-pager "$unit" 2>/dev/null | sed -n 's/.*level for [^:]*: //p')
  expect_equal "systemd-analyze security $unit: exposure ${exposure%% *} of 10, at most 1.5" \
    "$(awk '{ print ($1 > 0 && $1 <= 1.5) }' <<<"$exposure")" 1
done

# --- Reload ---

inside sed -i 's/^due:.*/due: ccpa/' $CLUSTER/config.yaml
inside systemctl reload unlearnd
taken() { log unlearnd | grep -q 'event=settings_read taken=".*due"'; }
wait_for "systemctl reload unlearnd takes over a setting" 10 taken
expect_equal "systemctl reload unlearnd takes over a changed setting, the process stays" "$(of unlearnd MainPID)" "$main"
before=$(inside pgrep -x mpirun)
inside systemctl reload unlearn-fleet
renewed() { [[ $(inside pgrep -x mpirun) != "$before" ]] && ctl health --workers 2 >/dev/null 2>&1; }
wait_for "systemctl reload unlearn-fleet starts its ranks anew" 30 renewed
expect_equal "systemctl reload unlearn-fleet starts its ranks anew, the unit stays" "$(of unlearn-fleet MainPID)" "$fleet"

# --- Killed, and hung ---

another() { # another UNIT PID: whether it runs, and as another process; asked at once, for it may just be ending.
  local now
  now=" $(inside systemctl show "$1" -p ActiveState -p SubState -p MainPID | tr '\n' ' ')"
  [[ $now == *' ActiveState=active '* && $now == *' SubState=running '* && $now != *" MainPID=$2 "* ]]
}
request=$(json .request delete digits --subject writer-005)
inside kill -KILL "$main"
wait_for "unlearnd is started anew" 20 another unlearnd "$main"
completed() { [[ $(json .state status "$request") == completed ]]; }
wait_for "the request that was under way is completed" 30 completed
ok "unlearnd was killed: systemd started it anew, the request went on to completed"

# The time alone is lowered: without WatchdogSec in the unit the check above has failed.
for unit in unlearnd unlearn-fleet; do
  inside mkdir -p "/run/systemd/system/$unit.service.d"
  printf '[Service]\nWatchdogSec=2\n' | inside tee "/run/systemd/system/$unit.service.d/soon.conf" >/dev/null
done
inside systemctl daemon-reload
inside systemctl restart unlearnd unlearn-fleet
sleep 3 # Longer than the watchdog's time: who does nothing is not taken for hung.
expect_equal "restarted in order; idle, they beat" \
  "$(of unlearnd NRestarts) $(of unlearn-fleet NRestarts) $(active unlearnd) $(active unlearn-fleet)" \
  "0 0 active running active running"
for unit in unlearnd unlearn-fleet; do
  pid=$(of $unit MainPID)
  inside kill -STOP "$pid"
  wait_for "the watchdog starts $unit anew" 30 another $unit "$pid"
  expect_equal "$unit hung: the watchdog killed it, and it runs again" \
    "$(inside journalctl --no-pager -o cat -u $unit | grep -c 'Watchdog timeout')" 1
done
both() { ctl health --workers 2 >/dev/null 2>&1; }
wait_for "both ranks are there" 30 both
expect_equal "of the fleet that hung nothing was left" "$(inside pgrep -c '^unlearn-worker')" 2

# --- Ranks on another host, by ssh as docs/operations.md says ---

new_host() { # new_host CONTAINER HOST: a machine with sshd and the package.
  docker run -d --name "$1" --hostname "$2" --network "$NAME" --network-alias "$2" --init --shm-size 256m \
    unlearnd-systemd sh -c 'mkdir -p /run/sshd && exec /usr/sbin/sshd -D' >/dev/null
}
new_host "$NAME-host" host1
home=/var/lib/unlearn-fleet
inside runuser -u unlearn-fleet -- sh -c "mkdir -p $home/.ssh && ssh-keygen -q -t ed25519 -N '' -f $home/.ssh/id_ed25519"
inside tar -C $home -c worker.key server.pub | host tar -C $home -x
host usermod -s /bin/bash unlearn-fleet
host install -d -o unlearn-fleet -g unlearn-fleet -m 0700 $home/.ssh
inside cat $home/.ssh/id_ed25519.pub | host sh -c "cat >$home/.ssh/authorized_keys"
echo "host1 $(host cat /etc/ssh/ssh_host_ed25519_key.pub)" | inside sh -c 'cat >/etc/ssh/ssh_known_hosts'
inside sh -c 'mkdir -p /etc/unlearnd && echo "host1 slots=2" >/etc/unlearnd/hosts
  printf "COORDINATOR=tcp://coordinator:7071\nOPTIONS=--hostfile /etc/unlearnd/hosts\n" >/etc/default/unlearn-fleet'
inside sed -i 's#^listen_workers:.*#listen_workers: tcp://0.0.0.0:7071#' $CLUSTER/config.yaml
inside systemctl restart unlearnd unlearn-fleet
ctl --json delete digits --subject writer-007 --wait completed >/dev/null
expect_equal "a fleet over a host file: the ranks run on the other host, and train there" \
  "$(json '[.workers[].name | split("/")[0]] | unique | join(" ")' status) $(host pgrep -c '^unlearn-worker') $(
    json '[.different, .skipped]' verify demo --components all)" "host1 2 [0,0]"

# --- README's commands for a cluster of hosts, typed by an ordinary user ---

inside systemctl stop unlearn-fleet unlearnd # Their port is README's, too.
new_host "$NAME-host2" host2
for machine in "$NAME" "$NAME-host" "$NAME-host2"; do
  docker exec -i "$machine" sh -c 'useradd -s /bin/bash -d /home/ann ann && install -d -o ann -g ann /home/ann/.ssh && chown ann: /home/ann'
done
inside runuser -u ann -- ssh-keygen -q -t ed25519 -N '' -f /home/ann/.ssh/id_ed25519
for machine in "$NAME-host" "$NAME-host2"; do
  inside cat /home/ann/.ssh/id_ed25519.pub | docker exec -i "$machine" sh -c 'cat >/home/ann/.ssh/authorized_keys'
done
echo "host2 $(docker exec "$NAME-host2" cat /etc/ssh/ssh_host_ed25519_key.pub)" | inside sh -c 'cat >>/etc/ssh/ssh_known_hosts'
awk '/^## On a cluster/ { found = 1 } found && /^```/ { if (open) exit; open = 1; next } open' README.md >"$DIR/commands"
inside tee /home/ann/commands <"$DIR/commands" >/dev/null
inside runuser -l ann -c 'timeout 60 bash -eux commands >log 2>&1' || { inside tail -20 /home/ann/log; exit 1; }
expect_equal "README's commands: eight ranks on two hosts join a coordinator" \
  "$(inside runuser -l ann -c 'unlearnctl --dir cluster --json status' | jq -c '[.workers[].name | split("/")[0]] | group_by(.) | map(.[0], length)')" \
  '["host1",4,"host2",4]'
inside runuser -l ann -c 'kill $(pgrep -u ann -x unlearn-fleet); unlearnctl down cluster' >/dev/null
inside systemctl start unlearnd unlearn-fleet

# --- Upgrade, removal ---

main=$(of unlearnd MainPID) fleet=$(of unlearn-fleet MainPID)
inside dpkg -i /root/unlearnd.deb >"$DIR/log" 2>&1
wait_for "both are back" 30 both
expect_equal "an upgrade restarts what runs" \
  "$(another unlearnd "$main" && another unlearn-fleet "$fleet" && echo restarted)" restarted
inside systemctl stop unlearnd
expect_equal "stopped, it drains and ends by itself" \
  "$(of unlearnd Result) $(log unlearnd | grep 'event=coordinator_ended' | tail -1 | grep -o 'code=.*')" "success code=0"
inside runuser -u unlearnd -- unlearnctl --dir $CLUSTER key rotate master >"$DIR/log"
inside systemctl start unlearnd
expect_equal "with a new master key it starts again" "$(json .state status demo)" trained
inside dpkg -r unlearnd >"$DIR/log" 2>&1
expect_equal "removed: both units have ended, the data is there" \
  "$(inside ps -eo comm | grep -cE '^(unlearn|mpirun)' || true) $(inside ls $CLUSTER/config.yaml)" "0 $CLUSTER/config.yaml"
trap - ERR
finish
