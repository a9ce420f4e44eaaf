#!/bin/bash
# scripts/lint.sh [FILE.c ...]: what a reviewer would otherwise have to look for.
#
# 1. Arrows: base <- model, scheduler, proto, store <- coordinator, shard_worker, client; each foreign
#    header only where its face is.
# 2. cppcheck and clang-tidy (checks: .clang-tidy) over every .c file, or the files named. JOBS (2)
#    run at once. Ends with 0 when all is clean, else with 1 and one line a finding.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

directories=(base model scheduler proto store coordinator shard_worker client)
jobs=${JOBS:-2}
bad=0

for tool in clang-tidy cppcheck; do
    if ! command -v "$tool" >/dev/null; then
        echo "lint: $tool is not installed: apt-get install clang-tidy cppcheck" >&2
        exit 1
    fi
done

# ---------------------------------------------------------------- arrows and foreign headers

arrows() {
    awk '
    BEGIN {
        split("base:0 model:1 scheduler:1 proto:1 store:1 coordinator:2 shard_worker:2 client:2", list, " ")
        for (i in list) { split(list[i], pair, ":"); rank[pair[1]] = pair[2] }
        only["lmdb.h"] = "store/kv.c"; only["zmq.h"] = "proto/link.c proto/watch.c proto/zap.c"
        only["mpi.h"] = "shard_worker/ranks.c shard_worker/group.c"; only["cblas.h"] = "model/blas.c"
        only["sodium.h"] = "base/curvekey.c base/digest.c base/sign.c base/seal.c"; only["yaml.h"] = "base/yaml.c"
    }
    /^#[ \t]*include[ \t]*</ {
        header = $0; sub(/^[^<]*</, "", header); sub(/>.*/, "", header)
        if (header in only && index(" " only[header] " ", " " FILENAME " ") == 0) {
            printf "%s:%d: <%s> belongs to %s alone\n", FILENAME, FNR, header, only[header]; bad = 1
        }
    }
    /^#[ \t]*include[ \t]*"/ {
        header = $0; sub(/^[^"]*"/, "", header); sub(/".*/, "", header)
        from = FILENAME; sub(/\/.*/, "", from)
        to = header; sub(/\/.*/, "", to)
        if (!(to in rank)) {
            printf "%s:%d: \"%s\" is not named from the top of the tree\n", FILENAME, FNR, header; bad = 1
        } else if (to != from && rank[to] >= rank[from]) {
            printf "%s:%d: %s/ must not include %s: arrows go down only\n", FILENAME, FNR, from, header
            bad = 1
        }
    }
    END { exit bad }' "$@"
}

mapfile -t headers_and_sources < <(find "${directories[@]}" -name '*.[ch]' | sort)
arrows "${headers_and_sources[@]}" || bad=1

# ---------------------------------------------------------------- analysers

# The flags that decide what a file means are the Makefile's own.
flags=$(make -s --no-print-directory -f <(printf '%s\n' 'include Makefile' 'lint-flags:' \
    $'\t@echo $(EXACT) -D_GNU_SOURCE -I. -isystem $(GEN) $(PKG_CFLAGS) $(MPI_CFLAGS)') lint-flags) || exit 1
make -s build/gen/proto/unlearn.pb-c.c || exit 1

if [ $# -gt 0 ]; then
    sources=("$@")
else
    mapfile -t sources < <(find "${directories[@]}" tests -name '*.c' | sort)
fi

# --template: one line a finding. Without build/gen: generated code is not ours.
cppcheck --enable=warning,performance,portability --inline-suppr --error-exitcode=1 --quiet \
    --std=c11 --platform=unix64 -D_GNU_SOURCE -I. -j "$jobs" \
    --suppressions-list=scripts/cppcheck.supp \
    --template='{file}:{line}: {message} [cppcheck:{id}]' "${sources[@]}" || bad=1

# clang-tidy counts warnings in headers that it does not show; only what it shows matters.
# shellcheck disable=SC2086
printf '%s\n' "${sources[@]}" |
    xargs -P "$jobs" -I{} sh -c 'clang-tidy --quiet "$0" -- "$@" 2>/dev/null' {} $flags || bad=1

if [ "$bad" -eq 0 ]; then
    echo "lint: ${#sources[@]} files, nothing found"
else
    echo "lint: see above" >&2
fi
exit "$bad"
