#!/bin/bash
# tests/e2e/test_text.sh: texts: import, training, bits per byte, what follows a prompt, a deletion.
#
# On Shakespeare's speeches where they are at hand, else on speeches made here.
source "$(dirname "$0")/lib.sh"

SPEECHES=$E2E_DIR/speeches.jsonl
if [[ -e $E2E_DATA/shakespeare.jsonl ]]; then
  head -n 500 "$E2E_DATA/shakespeare.jsonl" >"$SPEECHES"
else
  awk 'BEGIN {
    state = 7
    split("the king,my lord,a crown,the night,thy sword,this hand,sweet love,the queen", nouns, ",")
    split("doth hold,shall keep,did break,will follow,hath seen,must fear", verbs, ",")
    for (i = 0; i < 500; i++) {
      text = ""
      for (j = 0; j < 2 + draw(4); j++)
        text = text (j ? "\\n" : "") "And " nouns[1 + draw(8)] " " verbs[1 + draw(6)] " " nouns[1 + draw(8)] ","
      printf "{\"id\": \"speech-%d\", \"subject\": \"SPEAKER %d\", \"text\": \"%s\"}\n", i, draw(20), text
    }
  }
  function draw(n) { state = (state * 1103515245 + 12345) % 2147483648; return int(state / 65536) % n }' \
    >"$SPEECHES"
fi
SPEAKER=$(jq -rs 'group_by(.subject) | max_by(length) | .[0].subject' "$SPEECHES")
COLUMNS_=(--subject subject --id id)
TINY=(learner=text layers=2 width=32 heads=2 inner=64 context=64 shards=2 slices=2 batch=8
  optimizer.kind=adamw optimizer.rate=0.003)

start one 2
ctl --json import plays "$SPEECHES" "${COLUMNS_[@]}" >/dev/null
expect_equal "a column of speeches is a text, and there is no label" \
  "$(json '[[.columns[].type], .label]' schema plays)" '[["text"],null]'
expect_exit 2 'learner mlp cannot learn from text|column 1 (text)' ctl train m --dataset plays
expect_exit 2 'learner softmax cannot learn from text' ctl train m --dataset plays --set learner=softmax

printf 'who,mood,note\nann,1,yes\nbob,2,no\nann,1,"?"\n' >"$E2E_DIR/notes.csv"
ctl --json import notes "$E2E_DIR/notes.csv" --text note --subject who >/dev/null
expect_equal "--text names the column to learn; the others are ignored" \
  "$(json '[.columns[] | "\(.name) \(.type)"]' schema notes)" '["mood ignored","note text"]'
expect_exit 2 '"mood"|the schema'"'"'s text is "note"' ctl import notes "$E2E_DIR/notes.csv" --text mood --subject who
expect_exit 2 'a text to learn, "note", and a label, "mood"' \
  ctl import moods "$E2E_DIR/notes.csv" --text note --label mood --subject who
expect_exit 2 'no column "notes" for --text|there is "who", "mood", "note"' \
  ctl import moods "$E2E_DIR/notes.csv" --text notes

# --- Learning: fewer bits the longer it is trained ---

bits() { json .bits_per_byte evaluate "$1" "$SPEECHES" "${COLUMNS_[@]}"; }
ctl --json train once --dataset plays --set "${TINY[@]}" epochs=1 --wait >/dev/null
ctl --json train bard --dataset plays --set "${TINY[@]}" epochs=4 --wait >/dev/null
once=$(bits once) bard=$(bits bard)
expect_number "one pass: bits per byte below those of a coin for each bit" "$once" '<' 8
expect_number "four passes: fewer, and of letters not too few" "$bard" '<' "$once - 0.1"
expect_number "... and not none" "$bard" '>' 1
answer=$(json . evaluate bard "$SPEECHES" "${COLUMNS_[@]}")
expect_equal "records and bytes are those of the file" "$(jq -c '[.records, .bytes]' <<<"$answer")" \
  "$(jq -sc '[length, ([.[].text | utf8bytelength] | add)]' "$SPEECHES")"
expect_equal "loss is of bytes and ends, bits_per_byte counts the bits of both over bytes" \
  "$(jq '(.loss * (.bytes + .records) / .bytes / (2 | log) - .bits_per_byte) | fabs < 1e-9' <<<"$answer")" true
expect_equal "all shards answered" "$(jq -c '[.shards_used, .shards_total]' <<<"$answer")" '[2,2]'
ctl evaluate bard "$SPEECHES" "${COLUMNS_[@]}" --losses "$E2E_DIR/losses" >"$E2E_DIR/table"
expect_equal "--losses: a line for each record" "$(wc -l <"$E2E_DIR/losses")" 500
expect_true "people see bits per byte" "$(lines_with '^bits/byte' "$E2E_DIR/table") == 1"

# --- Texts of any length and content are scored ---

# More windows than one answer holds: 280,000 bytes; nothing at all; what is not UTF-8.
awk 'BEGIN { printf "{\"id\": \"long\", \"text\": \""; for (i = 0; i < 14000; i++) printf "to be or not to be. "; print "\"}"
             print "{\"id\": \"empty\", \"text\": \"\"}" }' >"$E2E_DIR/long.jsonl"
printf 'text\n"\xff\xfe, \r\n"\n' >"$E2E_DIR/odd.csv"
expect_equal "a long text and an empty one are scored" \
  "$(json '[.records, .bytes, .bits_per_byte > 0]' evaluate bard "$E2E_DIR/long.jsonl" --id id)" '[2,280000,true]'
expect_equal "bytes that are not UTF-8 are scored" \
  "$(json '[.records, .bytes, .bits_per_byte > 0]' evaluate bard "$E2E_DIR/odd.csv")" '[1,6,true]'
expect_equal "of an empty text alone there are no bits per byte" \
  "$(json '[.records, .bytes, .bits_per_byte]' evaluate bard "$E2E_DIR/long.jsonl" --id id --skip 1)" '[1,0,null]'

# --- What follows ---

prompt() { json "${FIELDS:-.text}" predict bard --prompt "$@"; }
first=$(FIELDS=. prompt 'My lord, ' --tokens 120)
expect_equal "a prompt is continued by as many tokens as were asked for, or to the end" \
  "$(jq '(.predictions | length) as $n | $n == 120 or .predictions[-1].label == "<end>"' <<<"$first")" true
expect_equal "text and predictions tell the same" \
  "$(jq -r '[.predictions[].label | select(. != "<end>") | if . == "\\n" then "\n" else . end] | join("")' <<<"$first")" \
  "$(jq -r .text <<<"$first")"
expect_equal "the most probable token is at least as probable as any" \
  "$(jq '[.predictions[].probability] | min >= 1 / 257' <<<"$first")" true
expect_equal "again: the same" "$(FIELDS=. prompt 'My lord, ' --tokens 120)" "$first"
drawn=$(prompt 'My lord, ' --tokens 60 --seed 5)
expect_equal "drawn with a seed: the same for the same seed" "$(prompt 'My lord, ' --tokens 60 --seed 5)" "$drawn"
expect_differ "another for another" "$(prompt 'My lord, ' --tokens 60 --seed 6)" "$drawn"
expect_differ "or another temperature" "$(prompt 'My lord, ' --tokens 60 --seed 5 --temperature 3)" "$drawn"
expect_equal "a temperature near 0 takes what is most probable" \
  "$(prompt 'My lord, ' --tokens 60 --seed 5 --temperature 0.01)" "$(prompt 'My lord, ' --tokens 60)"
expect_true "an empty prompt is one, too" "$(prompt '' --tokens 5 | wc -c) > 1"
fits=$(printf '%063d' 0) long=$(printf '%064d' 0)
expect_true "a prompt of 63 bytes fits a context of 64" "$(prompt "$fits" --tokens 3 | wc -c) > 1"
expect_exit 2 'the prompt has 64 bytes, expected at most 63|context is 64' ctl predict bard --prompt "$long"
expect_exit 2 'expected --prompt with it' ctl predict bard "$SPEECHES" --tokens 5
expect_exit 2 'expected one of them' ctl predict bard "$SPEECHES" --prompt x
expect_exit 2 'neither a FILE nor --prompt' ctl predict bard
expect_exit 2 'expected --seed with it' ctl predict bard --prompt x --temperature 1
expect_exit 2 '--temperature' ctl predict bard --prompt x --seed 1 --temperature 0
expect_exit 2 '--tokens is 0' ctl predict bard --prompt x --tokens 0
jq -cn '[inputs | select((.text | utf8bytelength) < 64)][:40][]' "$SPEECHES" >"$E2E_DIR/short.jsonl"
rows=$(json .predictions predict bard "$E2E_DIR/short.jsonl" "${COLUMNS_[@]}")
expect_equal "rows of a file: what follows each" \
  "$(jq -c '[length, all(.[]; .label != null and .probability > 0 and .probability <= 1)]' <<<"$rows")" '[40,true]'
alone=$(FIELDS='.predictions[0]' prompt "$(jq -rs '.[7].text' "$E2E_DIR/short.jsonl")" --tokens 1)
expect_equal "which is what follows it as a prompt, up to the last bits" "$(jq -c --argjson alone "$alone" \
  '.[7] | [.label, ((.probability - $alone.probability) | fabs < 1e-5)]' <<<"$rows")" \
  "$(jq -c '[.label, true]' <<<"$alone")"
{ head -n 2 "$E2E_DIR/short.jsonl"; echo '{"id":"x","text":"'"$long"'"}'; } >"$E2E_DIR/too-long.jsonl"
expect_exit 2 'too-long.jsonl line 3|the text has 64 bytes, expected at most 63' \
  ctl predict bard "$E2E_DIR/too-long.jsonl" "${COLUMNS_[@]}"
down
up 2
expect_equal "after a restart: the same text" "$(FIELDS=. prompt 'My lord, ' --tokens 120)" "$first"
expect_equal "and the same bits per byte" "$(bits bard)" "$bard"

# --- On a base: adapters, two sequences ---

head -n 200 "$SPEECHES" >"$E2E_DIR/public.jsonl"
tail -n 250 "$SPEECHES" >"$E2E_DIR/private.jsonl"
jq -rs 'group_by(.subject) | max_by(length) | .[].id' "$E2E_DIR/private.jsonl" >"$E2E_DIR/extra"
PRIVATE=("$E2E_DIR/private.jsonl" "${COLUMNS_[@]}")
LORA=(learner=text base=small shards=2 slices=2 sequences=2 epochs=1 batch=8 lora.rank=2 optimizer.kind=adamw)
ctl --json import public "$E2E_DIR/public.jsonl" "${COLUMNS_[@]}" --public >/dev/null
ctl --json base pretrain small --dataset public --set learner=text layers=2 width=16 heads=2 inner=32 context=48 \
  batch=8 epochs=2 optimizer.kind=adamw optimizer.rate=0.003 >/dev/null
ctl --json import private "${PRIVATE[@]}" >/dev/null
ctl --json import without "${PRIVATE[@]}" --except "$E2E_DIR/extra" >/dev/null
ctl --json train adapted --dataset private --set "${LORA[@]}" --wait >/dev/null
adapted=$(json .bits_per_byte evaluate adapted "${PRIVATE[@]}")
expect_number "adapters learn something on a base" "$adapted" '<' 7
expect_exit 2 'the prompt has 48 bytes, expected at most 47' ctl predict adapted --prompt "$(printf '%048d' 0)"
expect_true "and continue a text" "$(json '.predictions | length' predict adapted --prompt 'My ' --tokens 5) > 0"
mapfile -t extra <"$E2E_DIR/extra"
ctl --json delete private --record "${extra[@]}" --wait completed >/dev/null
verified adapted
ctl --json train never --dataset without --set "${LORA[@]}" --wait >/dev/null
same_everywhere "a model that never saw the records has the same bytes" "$(digests adapted)" "$(digests never)"

# --- Forgetting a speaker ---

jq -r --arg s "$SPEAKER" 'select(.subject == $s) | .id' "$SPEECHES" >"$E2E_DIR/gone"
ctl --json delete plays --subject "$SPEAKER" >"$E2E_DIR/deletion"
expect_true "scores asked for after the ack have its epoch, or a later one" \
  "$(json .epoch evaluate bard "$E2E_DIR/short.jsonl" "${COLUMNS_[@]}") >= $(jq .epoch "$E2E_DIR/deletion")"
completed() { [[ $(json .state status "$1") == completed ]]; }
wait_for "the repair" 60 completed "$(jq -r .request "$E2E_DIR/deletion")"
expect_equal "the speaker's speeches are gone" "$(jq .records_deleted "$E2E_DIR/deletion")" \
  "$(wc -l <"$E2E_DIR/gone")"
after=$(digests bard)
verified bard
forgotten=$(bits bard)
text=$(prompt 'My lord, ' --tokens 120)
as_if_never never plays "$E2E_DIR/gone" 1 "$SPEECHES" "${COLUMNS_[@]}"
ctl --json train bard --dataset plays --set "${TINY[@]}" epochs=4 --wait >/dev/null
same_everywhere "a cluster that never saw the speaker has the same bytes" "$(digests bard)" "$after"
expect_equal "and says the same" "$(prompt 'My lord, ' --tokens 120)" "$text"
expect_equal "at as many bits per byte" "$(bits bard)" "$forgotten"
down
finish
