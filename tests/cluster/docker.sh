# shellcheck shell=bash
# tests/cluster/docker.sh: what the tests in containers share; sourced from the root of the repository.
#
# docker_up LOG: a dockerd that answers, and the image debian:bookworm-slim. Installs docker.io where it is
# missing and starts dockerd where none runs (both as root); its pid is then in DOCKERD. Exit code 77: dockerd
# does not start here, so nothing was tested. docker_down: ends what was started.
DOCKERD=''

docker_up() {
  if ! command -v docker >/dev/null || ! command -v jq >/dev/null; then
    scripts/install.sh docker.io jq
  fi
  if ! docker info >/dev/null 2>&1; then
    if (($(id -u) != 0)); then
      echo "no dockerd runs, and only root can start one" >&2
      exit 1
    fi
    command -v dockerd >/dev/null || scripts/install.sh docker.io
    dockerd >"$1" 2>&1 &
    DOCKERD=$!
    for _ in {1..200}; do
      docker info >/dev/null 2>&1 || sleep 0.3
    done
    if ! docker info >/dev/null 2>&1; then
      tail -5 "$1"
      echo "${0##*/}: not run: dockerd does not start here"
      trap - ERR
      exit 77
    fi
  fi
  docker/base-image.sh
}

docker_down() {
  if [[ -n $DOCKERD ]]; then
    kill "$DOCKERD" 2>/dev/null || true
    wait "$DOCKERD" 2>/dev/null || true
  fi
}
