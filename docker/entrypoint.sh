#!/usr/bin/env bash
# docker/entrypoint.sh: what a container of the image does; see docker/compose.yaml.
#
#   coordinator   makes the cluster at the first start, in /data, and serves it on 7070 and 7071
#   host          a host of the fleet: sshd on 2222, whose keys are made at the first start, in /ssh
#   fleet         mpirun over all hosts that the name WORKERS stands for; begins again when they change
#   client ...    a command as a client of the cluster: unlearnctl ..., unlearn-demo, bash
#   health        whether the coordinator, or the host's sshd, answers
set -euo pipefail

COORDINATOR=${COORDINATOR:-coordinator}
WORKERS=${WORKERS:-worker}
RANKS_A_HOST=${RANKS_A_HOST:-1}

coordinator() {
  if [[ ! -e $UNLEARN_DIR/config.yaml ]]; then
    unlearnctl init "$UNLEARN_DIR" >/dev/null
    sed -i -e 's#^listen:.*#listen: tcp://0.0.0.0:7070#' \
      -e 's#^listen_workers:.*#listen_workers: tcp://0.0.0.0:7071#' "$UNLEARN_DIR/config.yaml"
  fi
  # What clients need, without the store: they mount /client. Whoever mounts it has the admin's key. And what
  # hosts need: they mount /keys.
  install -m 0600 "$UNLEARN_DIR".client/{receipt.pub,server.pub,admin.key} /client/
  install -m 0600 "$UNLEARN_DIR.client/server.pub" "$UNLEARN_DIR/keys/worker.key" /keys/
  exec unlearnd "$UNLEARN_DIR" "$@"
}

# One pair of keys for all hosts, and one to log in with. Whoever comes first makes them.
keys() {
  exec 8>/ssh/lock
  flock 8
  [[ -e /ssh/host_key ]] || ssh-keygen -q -t ed25519 -N '' -f /ssh/host_key
  if [[ ! -e /ssh/login_key ]]; then
    ssh-keygen -q -t ed25519 -N '' -f /ssh/login_key
    cp /ssh/login_key.pub /ssh/authorized_keys
    echo "* $(cut -d' ' -f1,2 /ssh/host_key.pub)" >/ssh/known_hosts
  fi
  exec 8>&-
}

host() {
  keys
  # Ranks inherit nothing of this container's environment through ssh but what mpirun hands them.
  exec /usr/sbin/sshd -D -e -f /dev/null -p 2222 -h /ssh/host_key -o PidFile=none -o UsePAM=no \
    -o AuthorizedKeysFile=/ssh/authorized_keys -o PasswordAuthentication=no \
    -o KbdInteractiveAuthentication=no -o AllowUsers=unlearn -o StrictModes=no -o AllowTcpForwarding=no \
    -o X11Forwarding=no -o PermitTunnel=no -o LogLevel=ERROR
}

hosts() { getent ahostsv4 "$WORKERS" | awk '{ print $1 }' | sort -u; }

fleet() {
  local now='' found pid=''
  export OMPI_MCA_plm_rsh_args="-p 2222 -i /ssh/login_key -o UserKnownHostsFile=/ssh/known_hosts \
-o BatchMode=yes -o ConnectTimeout=3 -o ServerAliveInterval=2 -o ServerAliveCountMax=3 -o LogLevel=ERROR"
  trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null; wait; exit 0' TERM INT
  while true; do
    found=$(hosts || true)
    if [[ $found != "$now" || -z $pid ]] || ! kill -0 "$pid" 2>/dev/null; then
      if [[ -n $pid ]]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" || true
        pid=''
      fi
      now=$found
      if [[ -n $now && -e /ssh/known_hosts && -e /keys/worker.key ]]; then
        awk -v slots="$RANKS_A_HOST" '{ print $1 " slots=" slots }' <<<"$now" >/tmp/hosts
        echo "fleet over $(wc -l <<<"$now") hosts"
        unlearn-fleet --key /keys/worker.key --server-key /keys/server.pub \
          --hostfile /tmp/hosts --ranks $(($(wc -l <<<"$now") * RANKS_A_HOST)) \
          --coordinator "tcp://$(getent ahostsv4 "$COORDINATOR" | awk 'NR == 1 { print $1 }'):7071" &
        pid=$!
      fi
    fi
    sleep 1
  done
}

client() {
  export UNLEARN_DIR=/tmp/cluster
  mkdir -p "$UNLEARN_DIR.client"
  echo "tcp://$COORDINATOR:7070" >"$UNLEARN_DIR.client/address"
  install -m 0600 /client/* "$UNLEARN_DIR.client/"
  exec "$@"
}

health() {
  if [[ -e $UNLEARN_DIR ]]; then
    exec unlearnctl health
  fi
  exec 7<>/dev/tcp/127.0.0.1/2222
}

case ${1:-help} in
  coordinator | host | fleet | client | health) "$@" ;;
  *) sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" ;;
esac
