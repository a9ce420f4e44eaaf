#!/usr/bin/env bash
# scripts/man.sh BIN OUT: writes the manual pages into OUT, from what the programs in BIN say themselves.
#
# Options, commands and examples are written down once, in the sources: --help prints them, help2man makes
# pages of that (one for each command of unlearnctl, like git's), and the settings of unlearn-config(5) are the
# commented file that `unlearnctl init` writes. Only names and references are added here.
set -euo pipefail

bin=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -f "$out"/*.[1-8]

version=$("$bin/unlearnctl" --version)
version=${version#unlearnd }
# The same sources, the same pages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Makefile)}
export SOURCE_DATE_EPOCH
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)
export ARGP_HELP_FMT=rmargin=160 LC_ALL=C.UTF-8
unset UNLEARN_DIR

# page NAME SECTION SUMMARY "COMMAND" SEE-ALSO...
page() {
  local name=$1 section=$2 summary=$3 command=$4 see=''
  shift 4
  for other in "$@"; do
    see+="${see:+,
}.BR ${other%(*} (${other##*(}"
  done
  printf '[see also]\n%s\n' "$see" >"$work/more.$name"
  help2man --no-info --section "$section" --name "$summary" --version-string "$version" --source "unlearnd $version" \
    --manual 'unlearnd' --include "$work/more.$name" "$command" |
    sed -E -e "s/^\.TH [^ ]* (\"[0-9]\") \"[^\"]*\"/.TH ${name^^} \1 \"$date\"/" \
      -e "/^\.SH NAME/{n;s/^.* \\\\- /${name//-/\\\\-} \\\\- /}" -e 's/^\.SS "Examples?:"/.SH EXAMPLES/' |
    # Indented lines are examples or tables: they keep their line ends.
    awk '/^\.IP$/ { print; print ".nf"; open = 1; next }
         open && /^\.[A-Z]/ { print ".fi"; open = 0 }
         { print }
         END { if (open) print ".fi" }' \
      >"$out/$name.$section"
}

cd "$bin"
"$bin/unlearnctl" --help | sed -n '/^Commands:/,/^$/p' | sed -n 's/^  //p' >"$work/commands"
pids=()
while read -r line; do
  command=$(sed -E 's/^([a-z-]+( [a-z-]+)?) +[A-Z].*/\1/' <<<"$line")
  summary=$(sed -E 's/^[a-z -]+ ([A-Z])/\1/' <<<"$line")
  page "unlearnctl-${command// /-}" 1 "${summary,}" "./unlearnctl $command" 'unlearnctl(1)' &
  pids+=($!)
  pages+=("unlearnctl-${command// /-}(1)")
  ((${#pids[@]} % 4)) || wait -n
done <"$work/commands"
for pid in "${pids[@]}"; do wait "$pid"; done

page unlearnctl 1 'train ensembles that can forget, and ask them to' ./unlearnctl "${pages[@]}" \
  'unlearnd(8)' 'unlearn-config(5)'
page unlearn-replay 1 'train an exported component again and compare' ./unlearn-replay 'unlearnctl-export(1)' \
  'unlearnctl-receipt-verify(1)'
page unlearnd 8 'coordinator of a cluster that forgets exactly' ./unlearnd 'unlearn-config(5)' 'unlearn-fleet(8)' \
  'unlearnctl(1)'
page unlearn-fleet 8 'keep the workers of unlearnd running' ./unlearn-fleet 'unlearnd(8)' 'unlearn-worker(8)' \
  'mpirun(1)'
page unlearn-worker 8 'a rank that trains for unlearnd' ./unlearn-worker 'unlearn-fleet(8)' 'unlearnd(8)'

# The settings: paragraphs of comments, each followed by the keys that it is about.
"$bin/unlearnctl" init "$work/cluster" >/dev/null
{
  printf '.TH UNLEARN-CONFIG 5 "%s" "unlearnd %s" "unlearnd"\n' \
    "$date" "$version"
  cat <<'PAGE'
.SH NAME
unlearn\-config \- settings of unlearnd
.SH SYNOPSIS
.I DIR/config.yaml
.SH DESCRIPTION
Pairs of a key and a value, one a line, as YAML. A key that is left out has its default; an unknown key or a
value out of its range is refused.
.B unlearnctl init
writes the file with the defaults, which are shown here. A changed file is read at the next start, and what can
change while unlearnd runs, also by
.BR "unlearnctl reload" ,
which says what has to wait for a restart.
.SH SETTINGS
PAGE
  awk '
    function flush() {
      for (i = 1; i <= n; i++) printf "%s\n\\fB%s\\fR\n", i == 1 ? ".TP" : ".TQ", keys[i]
      if (n > 0) print text
      n = 0; text = ""
    }
    /^$/ { blank = 1; next }
    /^#/ { if (!blank && !n) { text = text (text == "" ? "" : "\n") substr($0, 3); next }
           flush(); blank = 0; text = substr($0, 3); next }
    { keys[++n] = $0 }
    END { flush() }' "$work/cluster/config.yaml" | sed -e 's/-/\\-/g' -e "s/^'/\\\\\&'/"
  printf '.SH SEE ALSO\n.BR unlearnd (8),\n.BR unlearnctl (1)\n'
} >"$out/unlearn-config.5"
