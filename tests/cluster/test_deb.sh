#!/usr/bin/env bash
# tests/cluster/test_deb.sh: the Debian package in a clean container: it installs with what it depends on, makes its
# users, a cluster trains, forgets, and proves it, all as ordinary users; what is purged leaves the data.
#
# Called by `make test-cluster`, from the root of the repository, with bin/ built. Exit code 77: no Docker here.
set -euo pipefail

NAME=unlearnd-deb-$$
DIR=$(mktemp -d "${TMPDIR:-/tmp}/$NAME.XXXXXX")
# shellcheck source=tests/cluster/checks.sh
source tests/cluster/checks.sh
# shellcheck source=tests/cluster/docker.sh
source tests/cluster/docker.sh

end() {
  docker rm -f "$NAME" >/dev/null 2>&1 || true
  docker_down
  rm -rf "$DIR"
}
trap end EXIT
trap 'exit 143' TERM INT HUP
trap 'echo "not ok - stopped at line $LINENO: exit code $? of: ${BASH_COMMAND:0:200}"; tail -20 "$DIR/log" 2>/dev/null' ERR

inside() { docker exec -i "$NAME" "$@"; }
as() { # as USER COMMAND...
  local user=$1
  shift
  docker exec -i -u "$user" -e UNLEARN_DIR=/var/lib/unlearnd/cluster "$NAME" "$@"
}

docker_up "$DIR/dockerd.log"
scripts/install.sh help2man dpkg-dev
package=$(scripts/deb.sh "$DIR" 2>"$DIR/log")
docker run -d --name "$NAME" debian:bookworm-slim sleep 600 >/dev/null
docker cp -q "$package" "$NAME:/tmp/unlearnd.deb" 2>"$DIR/log" || docker cp "$package" "$NAME:/tmp/unlearnd.deb" >/dev/null
inside sh -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
  /tmp/unlearnd.deb' >"$DIR/log" 2>&1
ok "the package installs in a clean container, with what it depends on"
expect_equal "it makes its users and the directory" \
  "$(inside sh -c 'getent passwd unlearnd unlearn-fleet | cut -d: -f1,6 | tr "\n" " "; stat -c %U:%a /var/lib/unlearnd')" \
  "unlearnd:/var/lib/unlearnd unlearn-fleet:/var/lib/unlearn-fleet unlearnd:700"
expect_equal "users of services cannot log in" \
  "$(inside sh -c 'getent passwd unlearnd unlearn-fleet | cut -d: -f7 | sort -u')" /usr/sbin/nologin

as unlearnd unlearnctl init /var/lib/unlearnd/cluster >/dev/null
as unlearnd unlearnctl up /var/lib/unlearnd/cluster --ranks 2 --detach --allow-unsafe-fs >"$DIR/log" 2>&1
as unlearnd unlearnctl sample /tmp/data --writers 12 >/dev/null
data=(/tmp/data/train-images-idx3-ubyte /tmp/data/train-labels-idx1-ubyte --subjects /tmp/data/train-subjects.txt)
as unlearnd unlearnctl import digits "${data[@]}" >"$DIR/log" 2>&1
as unlearnd unlearnctl train demo --dataset digits --set hidden=32 shards=2 slices=2 epochs=4 --wait >"$DIR/log" 2>&1
as unlearnd unlearnctl delete digits --subject writer-003 --wait completed --receipt /tmp/receipt >"$DIR/log" 2>&1
expect_equal "trained, deleted, and the receipt verifies" \
  "$(as unlearnd unlearnctl receipt verify /tmp/receipt --key /var/lib/unlearnd/cluster.client/receipt.pub | cut -d: -f1 | head -1 | cut -c1-5)" \
  "valid"
expect_equal "every component equals one that never saw the writer" \
  "$(as unlearnd unlearnctl --json verify demo --components all | jq -c '[.different, .skipped]')" "[0,0]"
expect_equal "the page of a command is there" "$(inside sh -c 'zcat /usr/share/man/man1/unlearnctl-import.1.gz | grep -c "^.TH UNLEARNCTL-IMPORT"')" 1
as unlearnd unlearnctl down /var/lib/unlearnd/cluster >/dev/null

inside sh -c 'DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y unlearnd' >"$DIR/log" 2>&1
expect_equal "purged: the programs are gone, the data is there" \
  "$(inside sh -c 'ls /usr/bin/unlearn* 2>/dev/null; ls /var/lib/unlearnd/cluster/config.yaml')" \
  /var/lib/unlearnd/cluster/config.yaml
finish
