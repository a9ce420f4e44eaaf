#!/bin/bash
# tests/e2e/test_install.sh: what `make install` puts below DESTDIR runs from there, is described by manual pages
# without a complaint and completed by the shell; the C program of docs/client.md is compiled against it and works;
# `make uninstall` takes all of it away; `make deb` packs it.
E2E_SECONDS=200
source "$(dirname "$0")/lib.sh"
for tool in help2man mandoc dpkg-shlibdeps; do
  command -v $tool >/dev/null || skip "$tool is not installed: make install-test-packages"
done

ROOT=$E2E_DIR/root
PREFIX=/opt/unlearn
quiet() { "$@" >"$SCRATCH/answer" 2>"$SCRATCH/error" || { cat "$SCRATCH/error" >&9; return 1; }; }
quiet make --no-print-directory install PREFIX=$PREFIX DESTDIR="$ROOT"
HOME_OF=$ROOT$PREFIX
expect_equal "the programs are there" "$(cd "$HOME_OF/bin" && echo *)" \
  "unlearn-fleet unlearn-replay unlearn-worker unlearnctl unlearnd"
expect_equal "the units start what was installed" \
  "$(grep -h '^ExecStart=' "$HOME_OF"/lib/systemd/system/*.service | cut -d' ' -f1 | sort | tr '\n' ' ')" \
  "ExecStart=$PREFIX/bin/unlearn-fleet ExecStart=$PREFIX/bin/unlearnd "

# --- It runs from there: the programs find each other.
E2E_BIN=$HOME_OF/bin
sample data 12
start main 1
may_look_into_processes "where they run from" && expect_equal "coordinator and fleet run from there" \
  "$(for file in unlearnd fleet; do readlink "/proc/$(cat "$UNLEARN_DIR/run/$file.pid")/exe"; done | tr '\n' ' ')" \
  "$E2E_BIN/unlearnd $E2E_BIN/unlearn-fleet "
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json train demo --dataset digits --set hidden=16 shards=2 slices=2 epochs=1 --wait >/dev/null
expect_number "it trains" "$(json .accuracy evaluate demo "${TEST[@]}")" '>' 0

# --- The C program of the docs, compiled against what was installed alone.
awk '/^```c$/ { open = 1; next } /^```$/ { open = 0 } open' docs/client.md >"$E2E_DIR/forget.c"
flags=$(PKG_CONFIG_PATH=$HOME_OF/lib/pkgconfig pkg-config --cflags --libs unlearn)
(cd "$E2E_DIR" && quiet cc -Wall -Wextra -Wpedantic -Werror -o forget forget.c $flags) # Words of their own.
forget() { "$E2E_DIR/forget" "$@" 2>"$SCRATCH/error" 9>&-; }
expect_equal "the C program of docs/client.md forgets a person" \
  "$(forget "$UNLEARN_DIR" digits writer-003 "$E2E_DIR/receipt" | tr '\n' ';')" \
  "50 records deleted: from now on nothing answers from them;1 components trained again without them;"
expect_equal "and keeps a receipt that verifies" \
  "$(ctl receipt verify "$E2E_DIR/receipt" --key "$UNLEARN_DIR.client/receipt.pub" | grep -cE '^valid|^receipt +completed')" 2
code=0
forget "$UNLEARN_DIR" digits nobody "$E2E_DIR/other" || code=$?
expect_equal "it tells of an error in a sentence" "$code $(sed 's/: .*//' "$SCRATCH/error") $(grep -c NOT_FOUND "$SCRATCH/error")" "1 forget 1"
expect_equal "the library needs nothing of what trains and stores" "$(ldd "$E2E_DIR/forget" | grep -E 'blas|lmdb|mpi|jansson' || true)" ''
expect_equal "and takes no name from a program but those of its headers" \
  "$(nm -g --defined-only "$HOME_OF/lib/libunlearn.a" | grep -E ' (log|text|link|wire|call|clock|mem|schema)_' || true)" ''

# --- Completion. complete WORD...: what bash would offer for the last word.
complete_words() {
  env -i PATH="$E2E_BIN:$PATH" UNLEARN_DIR="$UNLEARN_DIR" bash -c '
    source "$1"; shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _unlearnctl
    printf "%s\n" "${COMPREPLY[@]}"' - "$HOME_OF/share/bash-completion/completions/unlearnctl" unlearnctl "$@" |
    tr '\n' ' '
}
expect_equal "a command is completed" "$(complete_words eva)" "evaluate "
expect_equal "the second word of one" "$(complete_words dataset "")" "list remove show "
expect_equal "a command that is also the first word of others" "$(complete_words receipt v)" "verify "
expect_equal "an option" "$(complete_words train m --data)" "--dataset "
expect_equal "an option of this command alone" "$(complete_words down --data)" " "
expect_equal "a dataset of the cluster" "$(complete_words delete "")" "digits "
expect_equal "a dataset as an option's value" "$(complete_words train m --dataset d)" "digits "
expect_equal "a model of the cluster" "$(complete_words predict "")" "demo "
expect_equal "with the cluster on the command line" \
  "$(cluster=$UNLEARN_DIR; UNLEARN_DIR=; complete_words --dir "$cluster" predict d)" "demo "
expect_equal "a file" "$(complete_words predict demo "$E2E_DIR/dat")" "$E2E_DIR/data "
all=$("$E2E_BIN/unlearnctl" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\).*/\1/p' | sort -u | tr '\n' ' ')
expect_equal "every command is offered" "$(complete_words "" | tr ' ' '\n' | grep -v '^-' | grep . | tr '\n' ' ')" "$all"
down
expect_equal "without a coordinator nothing is offered, and nobody waits" "$(complete_words predict "")" " "

# --- Manual pages.
pages=("$HOME_OF"/share/man/man*/*)
expect_equal "no page makes mandoc complain" "$(mandoc -T lint -W warning "${pages[@]}" 2>&1 | head -5)" ""
commands=$("$E2E_BIN/unlearnctl" --help | sed -n '/^Commands:/,/^$/p' | grep -c '^  ')
expect_equal "there is one for each command, and for each program" \
  "$(find "$HOME_OF/share/man/man1" -name 'unlearnctl-*' | wc -l) $((${#pages[@]} - commands))" "$commands 6"
named() { mandoc -T ascii "$HOME_OF/share/man/man$2/$1.$2" | sed 's/.\x08//g'; } # Bold is a letter over itself.
expect_equal "a page names its command, and shows options and examples" \
  "$(named unlearnctl-hold-release 1 | grep -cE '^ *unlearnctl-hold-release - |^EXAMPLE|^ *--dir=DIR')" 3
settings=$(named unlearn-config 5)
missing=''
while IFS=: read -r key _; do
  grep -qE "^ +$key: " <<<"$settings" || missing+=" $key"
done < <(grep -E '^[a-z_]+:' "$UNLEARN_DIR/config.yaml")
expect_equal "unlearn-config(5) has every setting of a new cluster" "$missing" ""

# --- Away again.
quiet make --no-print-directory uninstall PREFIX=$PREFIX DESTDIR="$ROOT"
expect_equal "uninstall leaves no file" "$(find "$ROOT" -type f)" ""

# --- A package.
package=$(scripts/deb.sh "$E2E_DIR/deb" 2>"$SCRATCH/error")
expect_equal "the package holds the programs" \
  "$(dpkg-deb -c "$package" | awk '{print $6}' | grep -c '^./usr/bin/unlearn')" 5
expect_equal "and the C library, its headers and its description" \
  "$(dpkg-deb -c "$package" | awk '{print $6}' | grep -cE '^./usr/(lib/libunlearn.a|lib/pkgconfig/unlearn.pc|include/unlearn/(client/unlearn|base/err|proto/unlearn.pb-c).h)$')" 5
expect_true "and depends on the libraries that they need" \
  "$(dpkg-deb -f "$package" Depends | tr ',' '\n' | grep -cE 'libzmq5|liblmdb0|libsodium23|libopenmpi3|openmpi-bin') == 5"
if command -v lintian >/dev/null; then
  expect_equal "lintian finds no error in it" "$(lintian --fail-on none --allow-root "$package" 2>/dev/null | grep '^E:' || true)" ""
fi
finish
