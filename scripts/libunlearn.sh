#!/usr/bin/env bash
# scripts/libunlearn.sh ARCHIVE GEN OUT VERSION: makes the C library of client/unlearn.h, as it is installed: in OUT
# lib/libunlearn.a, lib/pkgconfig/unlearn.pc and include/unlearn, with that header and those that it includes.
#
# The archive holds one object: of ARCHIVE what the headers' functions need, and nothing of the rest (store, learners,
# MPI). Only the names that the headers declare are global in it, so that none clashes with a program's own.
set -euo pipefail
archive=$1 gen=$2 out=$3 version=$4
rm -rf "$out"
mkdir -p "$out/lib/pkgconfig" "$out/include/unlearn"

headers() { # of the tree, as the compiler finds them
  echo '#include "client/unlearn.h"' | gcc -M -I. -I"$gen" -x c - | tr -d '\\' | tr ' ' '\n' |
    sed -nE "s#^$gen/##p; \#^(base|client|model|proto)/#p" | sort -u
}
headers >"$out/headers"
while read -r header; do
  if [[ -e $header ]]; then from=.; else from=$gen; fi
  install -D -m 0644 "$from/$header" "$out/include/unlearn/$header"
done <"$out/headers"

# The functions that they declare, and what protobuf-c generated for the messages.
echo '#include "client/unlearn.h"' | gcc -E -P -I. -I"$gen" -x c - | grep -oE '\b[a-z_][a-z0-9_]*\(' | tr -d '(' |
  sort -u >"$out/declared"
nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort -u >"$out/defined"
{
  comm -12 "$out/declared" "$out/defined"
  grep '^unlearn__' "$out/defined"
} | sort -u >"$out/names"
mapfile -t roots < <(sed 's/^/--undefined=/' "$out/names")
ld -r -o "$out/unlearn.o" "${roots[@]}" "$archive"
objcopy --keep-global-symbols="$out/names" "$out/unlearn.o"
ar rcsD "$out/lib/libunlearn.a" "$out/unlearn.o"

cat >"$out/lib/pkgconfig/unlearn.pc" <<PC
prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib
includedir=\${prefix}/include/unlearn

Name: unlearn
Description: C interface to unlearnd, exact machine unlearning as a cluster service
Version: $version
Requires: libzmq libsodium libprotobuf-c
Libs: -L\${libdir} -lunlearn -lm -pthread
Cflags: -I\${includedir}
PC
rm "$out"/{headers,declared,defined,names,unlearn.o}
