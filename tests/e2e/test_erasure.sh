#!/usr/bin/env bash
# After a deletion no byte of the deleted records is left: not on the disk, not in shared memory, not in
# the memory of coordinator and workers.
#
# Method: needles are planted in ids, subjects, numbers and pixels of a few people, who train, are
# deleted and completed. Then `scan` looks everywhere: the raw image of a file system of the cluster's
# own where one can be mounted, else its directories; temporary directories, shared memory, processes.
# The same on a build without sealing and wiping (make FLAVOUR=bare) must find them.
E2E_SECONDS=${E2E_SECONDS:-400}
source "$(dirname "$0")/lib.sh"

PLANTED=(NEEDLE-subject-qxvzkj-1 NEEDLE-subject-qxvzkj-2 NEEDLE-subject-qxvzkj-3)
S=$E2E_DIR/source

# people.csv: 90 rows of 30 people, 3 of them planted; images: the same people, 12x12 random pixels.
make_sources() {
  mkdir -p "$S"
  perl -e '
    use strict; my ($dir, @planted) = @ARGV; srand(5);
    my @who = (@planted, map { "person-$_" } 4 .. 30);
    open my $csv, ">", "$dir/people.csv"; open my $text, ">", "$dir/needles.txt";
    open my $img, ">:raw", "$dir/images"; open my $lab, ">:raw", "$dir/labels";
    open my $sub, ">", "$dir/subjects.txt";
    print $csv "id,who,a,b,c,d,e,f,y\n";
    print $img pack("N4", 0x803, 90, 12, 12); print $lab pack("N2", 0x801, 90);
    print $text "$_\n" for @planted;
    for my $i (0 .. 89) {
      my $who = $who[$i % 30]; my $is = $i % 30 < 3;
      my $id = $is ? "NEEDLE-id-wmqpfh-$i" : "row-$i";
      my @v = map { 1 + int(rand(8000000)) } 1 .. 6;
      print $csv join(",", $id, $who, @v, $i % 2 ? "yes" : "no"), "\n";
      my @p = map { int(rand(256)) } 1 .. 144;
      print $img pack("C*", @p); print $lab pack("C", $i % 2); print $sub "$who\n";
      next unless $is;
      print $text "$id\n";
      my %needle = ("numbers" => pack("f<*", @v),           # As the row holds them,
                    "pixels" => pack("C*", @p[0 .. 31]),
                    "inputs" => pack("f<*", map { $_ / 255 } @p[0 .. 15])); # and as a layer sees them.
      for (keys %needle) { open my $f, ">:raw", "$dir/needle-$_-$i"; print $f $needle{$_}; close $f }
    }' "$S" "${PLANTED[@]}"
}

# Trains on everything, forgets the planted, and waits until that is completed. Workers keep what they have
# trained on, and what they train on after a deletion takes its place there. Where nobody is left nothing does,
# nor where a model is gone: what is wiped there was wiped because of the deletion alone.
live_and_forget() {
  ctl --json import people "$S/people.csv" --id id --subject who --label y >/dev/null
  ctl --json import images "$S/images" "$S/labels" --subjects "$S/subjects.txt" >/dev/null
  ctl --json train p --dataset people --set hidden=16 shards=2 slices=2 epochs=4 gradient_chunks=2 --wait >/dev/null
  ctl --json train i --dataset images --set hidden=16 shards=2 slices=2 epochs=4 --wait >/dev/null
  grep 'NEEDLE\|^id,' "$S/people.csv" >"$S/planted.csv"
  ctl --json import planted "$S/planted.csv" --id id --subject who --label y >/dev/null
  ctl --json train n --dataset planted --set hidden=4 shards=1 slices=1 epochs=1 --wait >/dev/null
  ctl --json train g --dataset images --set hidden=4 shards=1 slices=2 epochs=1 --wait >/dev/null
  KEPT=$(json '[.workers[].held_bytes] | add' status)
  ctl --json model remove g >/dev/null
  ctl --json predict p "$S/people.csv" --id id --subject who >/dev/null
  for dataset in people images planted; do
    ctl --json delete "$dataset" --subject "${PLANTED[@]}" --wait completed >/dev/null
  done
  sleep 1 # The carrying connections are closed.
}

# Everything that there is, but for what the users themselves hold: the sources.
look() {
  local pid
  local -a needles=()
  MEMORY=() # Whose is looked into.
  if may_look_into_processes "whether their memory holds needles"; then
    MEMORY=(--pid "$(coordinator_pid)" "$(cat "$UNLEARN_DIR/run/fleet.pid")")
    for pid in $(worker_pids); do MEMORY+=("$pid"); done
  fi
  for file in "$S"/needle*; do needles+=(--needle "$file"); done
  sync
  local -a places=("$UNLEARN_DIR" "$UNLEARN_DIR.client" "$UNLEARN_DIR.master" /dev/shm)
  for file in "${TMPDIR:-/tmp}"/ompi.*; do [[ -e $file ]] && places+=("$file"); done
  [[ -z ${IMAGE:-} ]] || places+=("$IMAGE")
  timeout 200 "$E2E_BIN/unlearnctl" --json scan "${places[@]}" "${needles[@]}" "${MEMORY[@]}" \
    >"$E2E_DIR/scan.json" 2>"$SCRATCH/error" 9>&- || true
  jq -r '[.places[].where | sub("process [0-9]+"; "process")] | group_by(.) | map("\(.[0]): \(length)") | .[]' \
    "$E2E_DIR/scan.json" | head -20 | sed 's/^/#   /'
}
found() { # found WHERE: of the last look, in places that begin so.
  jq "[.places[] | select(.where | startswith(\"$1\"))] | length" "$E2E_DIR/scan.json"
}

# A file system of its own, so that its raw image can be looked at.
image() { # image NAME
  IMAGE=''
  mkdir -p "$E2E_DIR/$1.fs"
  if [[ $(id -u) == 0 ]] && truncate -s 192M "$E2E_DIR/$1.img" && mkfs.ext4 -q "$E2E_DIR/$1.img" 2>/dev/null &&
    mount -o loop "$E2E_DIR/$1.img" "$E2E_DIR/$1.fs" 2>/dev/null; then
    IMAGE=$E2E_DIR/$1.img
  else
    echo "# not shown: a raw image: a file system of its own cannot be mounted here"
  fi
}

make_sources
image sealed
start sealed.fs/c 2
live_and_forget
look
expect_equal "nothing is found in $(jq .bytes "$E2E_DIR/scan.json") bytes of $(jq .files "$E2E_DIR/scan.json") files and mappings" \
  "$(jq .found "$E2E_DIR/scan.json")" 0
expect_true "$(jq .needles "$E2E_DIR/scan.json") needles were looked for" "$(jq .needles "$E2E_DIR/scan.json") >= 36"
((${#MEMORY[@]} == 0)) || expect_true "the memory of the processes was read" "$(jq .bytes "$E2E_DIR/scan.json") > 50000000"
expect_true "workers had kept $KEPT bytes of cells and parents" "$KEPT > 20000"
verified p
verified i
# What a receipt says was destroyed: records, weights.
expect_true "every key was destroyed" \
  "$(json '.keys_destroyed >= .records_deleted + .components_invalidated | if . then 1 else 0 end' receipt \
    "$(json .request delete people --subject person-9 --wait completed)")"
fleet=$(cat "$UNLEARN_DIR/run/fleet.pid")
for pid in $(coordinator_pid) "$fleet" $(descendants "$fleet"); do
  expect_equal "$(cat "/proc/$pid/comm") writes no core files" \
    "$(awk '/core file/ { print $5 $6 }' "/proc/$pid/limits")" 00
done
expect_equal "unlearnd gains no rights by executing a file" \
  "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/$(coordinator_pid)/status")" 1
down

# --- Control: the same without sealing and wiping ---
make -s -j2 FLAVOUR=bare all >"$E2E_DIR/make.log" 2>&1
E2E_BIN=$(realpath build/bare/bin)
image bare
start bare.fs/c 2
live_and_forget
look
expect_true "without sealing and wiping the same scan finds them on the disk: $(found /)" "$(found /) > 3"
((${#MEMORY[@]} == 0)) || expect_true "and in memory: $(found process)" "$(found process) > 10"
down
finish
