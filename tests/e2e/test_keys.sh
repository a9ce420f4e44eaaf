#!/bin/bash
# tests/e2e/test_keys.sh: nobody talks to a cluster without a key that it knows: not a client, not a worker; a
# key that others may read is not used; what passes is encrypted; --insecure-loopback says what it is.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"

ALL=$((1 << 40)) # Bytes that a relay lets pass: all.
modes() { stat -c '%a %n' "$@" | sed "s#$E2E_DIR/##"; }
started() { lines_with event=coordinator_started "$UNLEARN_DIR/run/unlearnd.log"; }

# --- The files

use main
ctl --json init "$UNLEARN_DIR" >/dev/null
expect_equal "init makes the keys, and nobody else may read them" \
  "$(modes "$UNLEARN_DIR"/keys/{server,worker}.key "$UNLEARN_DIR.client/admin.key" | tr '\n' ';')" \
  "600 main/keys/server.key;600 main/keys/worker.key;600 main.client/admin.key;"
for pair in "main/keys/server.key main.client/server.pub" "main.client/admin.key main/keys/admin.pub"; do
  read -r secret public <<<"$pair"
  expect_equal "${public##*/} is the public half, alone" \
    "$(cat "$E2E_DIR/$public")" "$(head -2 "$E2E_DIR/$secret")"
done
expect_equal "five keys, each another" \
  "$(sed -n 's/^\(public\|secret\) //p' "$UNLEARN_DIR"/keys/*.key "$UNLEARN_DIR.client/admin.key" | sort -u | wc -l)" 6
mkdir "$E2E_DIR/rest.master"
touch "$E2E_DIR/rest.master/there" # The store cannot be made: what was made before goes.
expect_exit 4 "expected a new or an empty directory" ctl init "$E2E_DIR/rest"
expect_equal "an init that fails leaves nothing" "$(ls -d "$E2E_DIR"/rest* | sed 's#.*/##')" rest.master

# --- Clients

up 1
expect_equal "with its key the admin is served" "$(json .alive health)" true
expect_equal "so is a key that is named" "$(json .alive --key "$UNLEARN_DIR.client/admin.key" health)" true
expect_equal "before the command, too" "$(ctl --key "$UNLEARN_DIR.client/admin.key" --json health | jq .alive)" true
# Another cluster's: a good key, but a stranger's here.
ctl --json init "$E2E_DIR/other" >/dev/null
STRANGER=$E2E_DIR/other.client/admin.key
refused_since=$(date +%s%N)
expect_exit 4 "does not know the key in $STRANGER" ctl health --key "$STRANGER"
expect_true "at once" "($(date +%s%N) - refused_since) / 1000000 < 2500"
expect_exit 4 "does not know the key in" ctl delete d --record 1 --key "$STRANGER"
expect_exit 4 "does not know the key in" ctl health --key "$UNLEARN_DIR/keys/worker.key" # Of workers alone.
cp "$UNLEARN_DIR.client/admin.key" "$E2E_DIR/read.key"
for mode in 644 640 604; do
  chmod $mode "$E2E_DIR/read.key"
  expect_exit 4 "has mode 0$mode, expected 0600" ctl health --key "$E2E_DIR/read.key"
done
ln -s "$UNLEARN_DIR.client/admin.key" "$E2E_DIR/link.key"
expect_exit 4 "is a symbolic link, expected a plain file" ctl health --key "$E2E_DIR/link.key"
expect_exit 3 "No such file" ctl health --key "$E2E_DIR/none.key"
expect_exit 4 "is no plain file" ctl health --key "$E2E_DIR"
head -2 "$UNLEARN_DIR.client/admin.key" >"$E2E_DIR/half.key"
chmod 600 "$E2E_DIR/half.key"
expect_exit 1 "holds a public key alone" ctl health --key "$E2E_DIR/half.key"
echo nonsense >"$E2E_DIR/half.key"
expect_exit 1 "is no key file of ours" ctl health --key "$E2E_DIR/half.key"

as() { # as NAME: a client's own directory, with the cluster's address; the command is a client there.
  rm -rf "$E2E_DIR/$1.client"
  cp -r "$UNLEARN_DIR.client" "$E2E_DIR/$1.client"
}
as wrong
cp "$E2E_DIR/other.client/server.pub" "$E2E_DIR/wrong.client/server.pub"
expect_exit 5 "has not shown that it holds the server's key in $E2E_DIR/wrong.client/server.pub" \
  ctl --dir "$E2E_DIR/wrong" health
as plain
sed -i 's/$/ insecure/' "$E2E_DIR/plain.client/address"
expect_exit 5 "answers nobody without a key" ctl --dir "$E2E_DIR/plain" health
as elsewhere
echo "tcp://10.9.9.9:7070 insecure" >"$E2E_DIR/elsewhere.client/address"
expect_exit 2 "is not of this machine alone" ctl --dir "$E2E_DIR/elsewhere" health
expect_equal "and after all of this the admin is served" "$(json .alive health)" true

# --- Workers

fleet() { # fleet OPTIONS...: its log is the error.
  timeout -s TERM 6 "$E2E_BIN/unlearn-fleet" --rendezvous "$UNLEARN_DIR/run/workers" --ranks 1 "$@" \
    >"$SCRATCH/fleet" 2>&1 9>&- || true
}
fleet --key "$E2E_DIR/other/keys/worker.key" --server-key "$UNLEARN_DIR.client/server.pub"
expect_true "a fleet whose key is a stranger's is refused, and so are its ranks" \
  "$(lines_with 'event=refused.*does not know the key in' "$SCRATCH/fleet") >= 1 &&
   $(lines_with "who=worker/0 event=refused.*does not know this worker's key" "$SCRATCH/fleet") >= 1"
expect_equal "nothing of it has come to the coordinator" "$(json '[.workers_total, .fleets] | join(" ")' status)" "1 1"
fleet --key "$UNLEARN_DIR.client/admin.key" --server-key "$UNLEARN_DIR.client/server.pub"
expect_true "nor is the admin a worker" "$(lines_with 'event=refused' "$SCRATCH/fleet") >= 1"
fleet --key "$UNLEARN_DIR/keys/worker.key" --server-key "$E2E_DIR/other.client/server.pub"
expect_true "workers do not talk to another server" "$(lines_with 'event=coordinator_strange' "$SCRATCH/fleet") >= 1"
expect_equal "none of them has joined" "$(json .workers_total status)" 1
fleet --insecure-loopback
expect_equal "nor does one come without keys" \
  "$(grep -c 'event=failed.*the coordinator takes keys' "$SCRATCH/fleet")" 1
expect_exit 2 "" "$E2E_BIN/unlearn-fleet" --rendezvous x --ranks 1
expect_exit 2 "" "$E2E_BIN/unlearn-fleet" --coordinator tcp://10.9.9.9:1 --ranks 1 --insecure-loopback
expect_exit 2 "" "$E2E_BIN/unlearn-worker" --coordinator tcp://127.0.0.1:1 --fleet 00112233445566778899aabbccddeeff
chmod 640 "$E2E_DIR/other/keys/worker.key"
expect_exit 4 "" timeout 20 "$E2E_BIN/unlearn-fleet" --rendezvous "$UNLEARN_DIR/run/workers" --ranks 1 \
  --key "$E2E_DIR/other/keys/worker.key" --server-key "$UNLEARN_DIR.client/server.pub"
chmod 600 "$E2E_DIR/other/keys/worker.key"
argument_of() { tr '\0' '\n' <"/proc/$1/cmdline"; }
secrets=$(sed -n 's/^secret //p' "$UNLEARN_DIR"/keys/*.key "$UNLEARN_DIR.client/admin.key")
for pid in "$(coordinator_pid)" $(descendants "$(cat "$UNLEARN_DIR/run/fleet.pid")"); do
  cat "/proc/$pid/cmdline" "/proc/$pid/environ" 2>/dev/null || true
done | tr '\0' '\n' >"$E2E_DIR/seen"
expect_equal "no secret stands in a command line or an environment" "$(grep -cF "$secrets" "$E2E_DIR/seen" || true)" 0

# --- What passes

people "$E2E_DIR/people.csv" 60
sed -i 's/p01/MARKERMARKERMARKER/' "$E2E_DIR/people.csv"
watched() { # watched NAME: imports through a relay that keeps what passes; how often the marker did.
  hold "$1" "$ALL" "$E2E_DIR/$1.passed"
  ctl --json import wages "$E2E_DIR/people.csv" --label wage --subject who --dir "$HELD" >/dev/null
  wait "$RELAY" || true
  grep -aoc MARKERMARKERMARKER "$E2E_DIR/$1.passed" || true
}
expect_equal "a subject is not to be read on the way" "$(watched sealed)" 0
expect_true "though all of it has passed" "$(stat -c %s "$E2E_DIR/sealed.passed") > 2000"
down

# --- Without keys

use open
ctl --json init "$UNLEARN_DIR" >/dev/null
UP_OPTIONS+=(--insecure-loopback)
up 1
expect_equal "up warns" "$(grep -c '^unlearnctl: warning: --insecure-loopback: no keys' "$SCRATCH/error")" 1
expect_equal "so does the log" "$(lines_with 'level=error .*event=insecure_loopback' "$UNLEARN_DIR/run/unlearnd.log")" 1
expect_equal "the address says so" "$(cut -d' ' -f2 "$UNLEARN_DIR.client/address" "$UNLEARN_DIR/run/workers" | sort -u)" insecure
rm "$UNLEARN_DIR.client/admin.key"
expect_true "the control: there the subject is to be read" "$(watched bare) > 0"
ctl --json train m --dataset wages --set hidden=8 shards=2 slices=2 epochs=2 --wait >/dev/null
all_valid m && ok "and everything works"
down
sed -i.kept 's#^listen:.*#listen: tcp://0.0.0.0:*#' "$UNLEARN_DIR/config.yaml"
expect_exit 2 "" ctl up "$UNLEARN_DIR" --ranks 0 --detach "${UP_OPTIONS[@]}"
expect_equal "and says why" "$(lines_with 'listen tcp://0.0.0.0:.* is not of this machine alone' "$SCRATCH/error")" 1
mv "$UNLEARN_DIR/config.yaml.kept" "$UNLEARN_DIR/config.yaml"
sed -i.kept 's#^listen_workers:.*#listen_workers: tcp://*:*#' "$UNLEARN_DIR/config.yaml"
expect_exit 2 "" ctl up "$UNLEARN_DIR" --ranks 0 --detach "${UP_OPTIONS[@]}"
expect_true "whichever it is" "$(lines_with 'listen_workers tcp://\*:\* is not of this machine alone' "$SCRATCH/error") >= 1"
mv "$UNLEARN_DIR/config.yaml.kept" "$UNLEARN_DIR/config.yaml"
unset 'UP_OPTIONS[-1]'

# --- A coordinator that cannot keep strangers out does not start

use main
started_before=$(started)
refuses() { # refuses CODE WORDS: unlearnd does not start, and its log says so.
  expect_exit "$1" "" timeout 20 "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR"
  expect_equal "the log: $2" "$(lines_with "event=start_failed.*$2" "$SCRATCH/error")" 1
}
expect_exit 1 "" env LD_PRELOAD="$PWD/build/release/e2e/deaf.so" timeout 20 "$E2E_BIN/unlearnd" "${UP_OPTIONS[@]}" "$UNLEARN_DIR"
expect_equal "nobody would be asked who comes in: the self-test sees it" \
  "$(lines_with 'event=start_failed.*the test of who may connect: ' "$SCRATCH/error")" 1
chmod 640 "$UNLEARN_DIR/keys/server.key"
refuses 4 "server.key has mode 0640, expected 0600"
chmod 600 "$UNLEARN_DIR/keys/server.key"
mv "$UNLEARN_DIR/keys/admin.pub" "$E2E_DIR/admin.pub"
refuses 4 "admin.pub: No such file.*unlearnctl key init"
mv "$E2E_DIR/admin.pub" "$UNLEARN_DIR/keys/admin.pub"
cp "$E2E_DIR/other/keys/server.key" "$UNLEARN_DIR/keys/server.key.other"
cp -p "$UNLEARN_DIR/keys/server.key" "$UNLEARN_DIR/keys/server.key.kept"
mv "$UNLEARN_DIR/keys/server.key.other" "$UNLEARN_DIR/keys/server.key"
refuses 1 "server.pub is not the public half"
mv "$UNLEARN_DIR/keys/server.key.kept" "$UNLEARN_DIR/keys/server.key"
# As a cluster of before there were keys.
keys=("$UNLEARN_DIR"/keys/{server.key,worker.key,admin.pub} "$UNLEARN_DIR".client/{server.pub,admin.key})
rm "${keys[@]}"
refuses 4 "server.key: No such file or directory: make what is missing with unlearnctl key init"
expect_equal "it has not started once" "$(started)" "$started_before"
expect_equal "key init makes what it lacks" "$(json '[.server, .worker, .admin] | all' key init "$UNLEARN_DIR")" true
expect_equal "with the modes of init" "$(modes "${keys[@]}" | awk '{print $1}' | tr '\n' ' ')" "600 600 644 644 600 "
sums=$(sha256sum "${keys[@]}")
expect_equal "a second time it makes nothing" "$(json '[.server, .worker, .admin] | any' key init "$UNLEARN_DIR")" false
expect_equal "and changes nothing" "$(sha256sum "${keys[@]}")" "$sums"
rm "$UNLEARN_DIR.client/admin.key" # Whoever has it keeps it elsewhere.
expect_equal "an admin's key that lies elsewhere is left there" "$(json .admin key init "$UNLEARN_DIR")" false
rm "$UNLEARN_DIR/keys/admin.pub"
expect_equal "unless its public half is gone, too" "$(json .admin key init "$UNLEARN_DIR")" true
up 1
expect_equal "then it starts" "$(json .alive health)" true

# --- Another server key

expect_exit 4 "runs, as process|unlearnctl down" ctl key rotate server
as old
down
expect_equal "the server's key is changed" "$(json .rotated key rotate server)" server
expect_differ "it is another" "$(cat "$UNLEARN_DIR.client/server.pub")" "$(cat "$E2E_DIR/old.client/server.pub")"
expect_equal "with its mode" "$(stat -c %a "$UNLEARN_DIR/keys/server.key")" 600
expect_equal "and nothing is left beside it" "$(find "$UNLEARN_DIR"/keys "$UNLEARN_DIR.client" -name '*.new')" ""
up 1
expect_equal "clients that have the new one are served" "$(json .alive health)" true
cp "$UNLEARN_DIR.client/address" "$E2E_DIR/old.client/address"
expect_exit 5 "has not shown that it holds the server's key|take its new server.pub" ctl --dir "$E2E_DIR/old" health
cp "$UNLEARN_DIR.client/server.pub" "$E2E_DIR/old.client/server.pub"
expect_equal "the others, when they have it" "$(json .alive --dir "$E2E_DIR/old" health)" true
expect_exit 2 'no key "moon"' ctl key rotate moon
expect_exit 2 "expected one of" ctl key spin
down
finish
