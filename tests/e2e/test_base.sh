#!/bin/bash
# tests/e2e/test_base.sh: bases: imported, listed, shown, retired; refused where they do not fit; whole or
# not at all after kill -9.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/hf.sh"

kill_coordinator() {
  local pid
  pid=$(coordinator_pid)
  kill -KILL "$pid"
  wait_for "the coordinator is gone" 10 gone "$pid"
}

hf_vit "$E2E_DIR/tiny" 4 16 2 32 28 7
start main 2

# --- Import, list, show ---

expect_equal "a base is imported" \
  "$(json '[.base, .state, .kind, .weights, .dataset, .pretrained, .models, .already_there]' base import tiny "$E2E_DIR/tiny")" \
  '["tiny","valid","vit",10016,null,false,[],false]'
digest=$(json .digest base show tiny)
expect_equal "its digest has 64 hex digits" "${#digest}" 64
expect_equal "its shape is that of the files" \
  "$(json '.shape | [.layers, .width, .heads, .inner, .rows, .cols, .patch, .channels, .gelu, .epsilon]' base show tiny)" \
  '[4,16,2,32,28,28,7,1,"erf",1e-06]'
expect_equal "the same import again finds it there" \
  "$(json '[.already_there, .digest]' base import tiny "$E2E_DIR/tiny")" "[true,\"$digest\"]"
expect_equal "under another name it is another base of the same digest" \
  "$(json '[.already_there, .digest]' base import twin "$E2E_DIR/tiny")" "[false,\"$digest\"]"
expect_equal "both are listed" "$(json '[.bases[].base]' base list)" '["tiny","twin"]'
hf_vit "$E2E_DIR/other" 4 16 2 32 28 7 2
expect_exit 4 'there is a base "tiny" already' ctl base import tiny "$E2E_DIR/other"
expect_equal "other weights have another digest" \
  "$(json '.digest != "'"$digest"'"' base import other "$E2E_DIR/other")" true
expect_exit 3 'no base "nobody"' ctl base show nobody
expect_exit 3 'no base "nobody"' ctl base retire nobody
expect_exit 2 "the base's name" ctl base import base:x "$E2E_DIR/tiny"

# --- Bad input changes nothing ---

damage() { # damage NAME: a copy of the good directory to be spoilt.
  rm -rf "$E2E_DIR/bad"
  cp -r "$E2E_DIR/tiny" "$E2E_DIR/bad"
  file=$E2E_DIR/bad/model.safetensors
}
refused() { # refused CODE WORDS
  expect_exit "$1" "$2" ctl base import bad "$E2E_DIR/bad"
}
spoil() { # spoil FROM TO: in the header, of the same length.
  LC_ALL=C sed -i "s/$1/$2/" "$file"
}
damage
rm "$file"
: >"$E2E_DIR/bad/pytorch_model.bin"
refused 2 "pytorch_model.bin"
damage
printf '\377\377\377\377\377\377\377\017' | dd of="$file" conv=notrunc status=none # 2^60 bytes
refused 2 "header"
damage
spoil 'layernorm.weight' 'layernorm.weighd'
refused 2 "layernorm.weight"
damage
spoil '"shape":\[1,17,16\]' '"shape":[1,16,17]'
refused 2 "embeddings.position_embeddings"
damage
spoil '"data_offsets":\[0,64\]' '"data_offsets":[4,68]'
refused 2 "embeddings.cls_token"
damage
spoil '"data_offsets":\[64,1152\]' '"data_offsets":[60,1148]' # Overlapping.
refused 2 "embeddings.position_embeddings"
damage
spoil '"data_offsets":\[64,1152\]' '"data_offsets":[64,9152]' # Beyond the next one.
refused 2 "model.safetensors"
damage
truncate -s -4 "$file"
refused 2 "model.safetensors"
damage
printf '\000\000\300\177' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 4)) conv=notrunc status=none # NaN
refused 2 "layernorm.bias"
damage
sed -i 's/"num_attention_heads": 2/"num_attention_heads": 3/' "$E2E_DIR/bad/config.json"
refused 2 "heads"
expect_exit 3 "" ctl base import bad "$E2E_DIR/nowhere"
expect_equal "nothing of it is listed" "$(json '[.bases[].base]' base list)" '["tiny","twin","other"]'

# --- Pre-training is refused where it would learn what may have to be forgotten ---

sample digits 6
ctl --json import private "${TRAIN[@]}" >/dev/null
ctl --json import public "${TRAIN[@]}" --public >/dev/null
expect_exit 4 'dataset "private" was not declared public' ctl base pretrain p --dataset private
expect_exit 2 "learner mlp trains no transformer" ctl base pretrain p --dataset public
expect_exit 4 'there is a base "tiny" already' ctl base pretrain tiny --dataset public
expect_exit 3 'no dataset "nowhere"' ctl base pretrain p --dataset nowhere
expect_exit 2 '"none"|names no base' ctl base pretrain none --dataset public
expect_exit 2 "expected --dataset" ctl base pretrain p
expect_exit 2 "the model's name" ctl train base:p --dataset public
expect_equal "nothing of it has begun" "$(json '.models' model list)" '[]'

# --- Retire ---

expect_equal "a base is retired" "$(json '[.state, .models_removed, .requests]' base retire twin)" '["retired",0,[]]'
expect_equal "once more is no error" "$(json .state base retire twin)" retired
expect_equal "it stays listed with its digest" \
  "$(json '.bases[] | select(.base == "twin") | [.state, .digest, .retired_at != null]' base list)" \
  "[\"retired\",\"$digest\",true]"
expect_exit 4 'base "twin" was retired' ctl base import twin "$E2E_DIR/tiny"
kill_coordinator
up 2
expect_equal "after kill -9 and a start all is as it was" \
  "$(json '[.bases[] | [.base, .state, .digest == "'"$digest"'"]]' base list)" \
  '[["tiny","valid",true],["twin","retired",true],["other","valid",false]]'

# --- Killed in the middle of an import: nothing has landed ---

hf_vit "$E2E_DIR/large" 3 1024 8 4096 28 7 # 151 MB
in_use() { json .store_bytes status; }
written() { (($(in_use) > used + 8000000)); }
emptied() { (($(in_use) < small + 1000000)); }
begin_import() { # begin_import NAME: until its first chunks are in the store; then it is held.
  used=$(in_use)
  hold "$1" 40000000
  ctl --json base import "$1" "$E2E_DIR/large" --dir "$HELD" >/dev/null 2>&1 || true &
  import=$!
  wait_for "an import of a base is under way" 60 written
}
small=$(in_use)
begin_import large
kill_coordinator
pkill -TERM -P "$import" || true # It would wait a minute for an answer.
wait "$import"
up 2
expect_equal "killed in the middle of an import: the base is not there" \
  "$(json '[.bases[].base] | contains(["large"])' base list)" false
wait_for "the next start drops what had come" 60 emptied
ok "the next start drops what had come"
expect_equal "and the same import lands whole" \
  "$(json '[.state, .already_there]' base import large "$E2E_DIR/large")" '["valid",false]'
expect_true "it takes room" "$(in_use) > $small + 150000000"

# --- Killed while a base is retired: it is there or it is not, and its weights go ---

retirements() { lines_with 'event=base_retired' "$UNLEARN_DIR/run/unlearnd.log"; }
before=$(retirements)
ctl --json base retire large >/dev/null 2>&1 || true &
retire=$!
retires() { (($(retirements) > before)); }
until retires; do :; done
kill_coordinator
pkill -TERM -P "$retire" || true
wait "$retire"
up 2
expect_equal "killed straight after a retirement: it is retired" "$(json .state base show large)" retired
wait_for "the next start drops its weights" 60 emptied
ok "the next start drops its weights"

# --- An interrupted client leaves nothing ---

begin_import half
pkill -INT -P "$import"
let_go # It says farewell. Where that is lost, the coordinator gives the import up after a minute.
wait "$import"
expect_exit 3 'no base "half"' ctl base show half
wait_for "what had come is dropped" 120 emptied
ok "an interrupted client leaves nothing"
expect_equal "and the name is free" "$(json .state base import half "$E2E_DIR/tiny")" valid
down
finish
