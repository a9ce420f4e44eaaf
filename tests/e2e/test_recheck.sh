#!/bin/bash
# tests/e2e/test_recheck.sh: stages that are trained twice find a worker out that returns wrong weights; what
# nobody vouches for is trained anew.
#
# The second host is a second name of this one (a UTS namespace). The liar is the real worker with a matrix
# product that is wrong by a little while a file is there: its numeric profile is good when it joins.
E2E_SECONDS=240
source "$(dirname "$0")/lib.sh"

elsewhere=(unshare --uts -- bash -c 'hostname elsewhere && exec "$@"' -)
"${elsewhere[@]}" true 2>/dev/null || skip "this user may not give a process another host name (unshare --uts)"

LIE=$E2E_DIR/lie
cat >"$E2E_DIR/liar.c" <<'C'
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
typedef void gemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc)
{
    gemm *const real = (gemm *)dlsym(RTLD_NEXT, "cblas_sgemm");
    real(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (access(getenv("LIE"), F_OK) == 0) {
        c[0] += 0.001f;
    }
}
C
cc -D_GNU_SOURCE -shared -fPIC -O1 -o "$E2E_DIR/liar.so" "$E2E_DIR/liar.c" -ldl

rechecks() { json "$1" status; }
settled() { [[ $(rechecks '.rechecks.waiting') == 0 ]] && all_valid m; }
differs() { [[ $(rechecks '.rechecks.different') -ge $1 ]]; }
joined() { [[ $(json .workers_total status) == "$1" ]]; }

sample data 12
use main
ctl --json init "$UNLEARN_DIR" >/dev/null
sed -i 's/^recheck_percent:.*/recheck_percent: 100/' "$UNLEARN_DIR/config.yaml"
up 0
ctl --json import digits "${TRAIN[@]}" >/dev/null
keys=()
if [[ -e $UNLEARN_DIR/keys/worker.key ]]; then
  keys=(--key "$UNLEARN_DIR/keys/worker.key" --server-key "$UNLEARN_DIR.client/server.pub")
fi
"$E2E_BIN/unlearn-fleet" --rendezvous "$UNLEARN_DIR/run/workers" "${keys[@]}" --ranks 1 2>"$E2E_DIR/here.log" 9>&- &
LIE=$LIE LD_PRELOAD=$E2E_DIR/liar.so "${elsewhere[@]}" "$E2E_BIN/unlearn-fleet" \
  --rendezvous "$UNLEARN_DIR/run/workers" "${keys[@]}" --ranks 1 2>"$E2E_DIR/there.log" 9>&- &
there=$!
wait_for "a worker of each host has joined" 60 joined 2

# --- Honest ---

ctl --json train m --dataset digits --set hidden=8 shards=2 slices=2 epochs=2 --wait >/dev/null
wait_for "all was compared" 60 settled
count=$(digests m | grep -c ' valid ')
expect_equal "each component was trained twice, each time on another host, with the same bytes" \
  "$(rechecks '.rechecks | [.percent, .same, .different, .same_host, .skipped]')" "[100,$count,0,0,0]"
before=$(digests m)

# --- A liar ---

touch "$LIE"
ctl --json delete digits --record "$(ids_of "$(sed -n 1p "$SUBJECTS")" | head -1)" >/dev/null
wait_for "the liar is found out" 60 differs 1
expect_equal "the log names both" \
  "$(grep -c 'event=recheck_different.*trained_by=.*again_by=' "$UNLEARN_DIR/run/unlearnd.log" | awk '{print ($1 > 0)}')" 1
expect_equal "one of them is the other host" \
  "$(rechecks '.rechecks.last' | grep -c 'elsewhere/')" 1
ctl status >"$E2E_DIR/answer"
expect_equal "status tells people" "$(grep -c 'trained twice 100 % of the stages: .* others; last .*elsewhere' "$E2E_DIR/answer")" 1
expect_true "the model says what is wrong" \
  "$([[ $(json .problem status m) == *'two workers gave different weights'* ]] && echo 1 || echo 0)"
rm "$LIE"
ctl --json train m --dataset digits --set hidden=8 shards=2 slices=2 epochs=2 --wait >/dev/null
wait_for "all was compared" 60 settled
expect_differ "the deletion is carried out" "$(digests m)" "$before"
verified m

# --- Nobody else ---

kill "$there"
wait "$there" || true
wait_for "one host is left" 60 joined 1
alone=$(rechecks '.rechecks.same_host')
ctl --json delete digits --record "$(ids_of "$(sed -n 1p "$SUBJECTS")" | sed -n 2p)" --wait repaired >/dev/null
wait_for "without another host the same one compares" 60 settled
expect_true "that is told" "$(($(rechecks '.rechecks.same_host') > alone))"

# --- None ---

sed -i 's/^recheck_percent:.*/recheck_percent: 0/' "$UNLEARN_DIR/config.yaml"
down
up 1
ctl --json delete digits --record "$(ids_of "$(sed -n 1p "$SUBJECTS")" | sed -n 3p)" --wait repaired >/dev/null
expect_equal "nothing is trained twice unless it is asked for" \
  "$(rechecks '.rechecks | [.percent, .same, .different, .waiting]')" "[0,0,0,0]"
finish
