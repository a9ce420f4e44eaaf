#!/bin/bash
# tests/e2e/test_peft.sh: adapters of trained models in PEFT's format: those that serve, one by name, after a
# deletion; refused where there are none, and whole or not at all.
#
# That PEFT computes with them what the learner computes, and that they read back to the bit, the unit
# tests show (test_interchange, test_peft); the command itself reads back what it wrote.
E2E_SECONDS=300
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/hf.sh"

config() { jq -c "$1" "$2/adapter_config.json"; }
header() { # header FILE: the JSON in front of a safetensors file.
  head -c $((8 + $(od -An -tu8 -N8 "$1"))) "$1" | tail -c +9
}

sample data 12
hf_vit "$E2E_DIR/tiny" 4 16 2 32 28 7
start peft 2
ctl --json import digits "${TRAIN[@]}" >/dev/null
ctl --json base import tiny "$E2E_DIR/tiny" >/dev/null
SPEC=(learner=vit base=tiny shards=2 slices=2 sequences=2 epochs=1 lora.rank=3 lora.alpha=6 lora.rslora=true)
ctl --json train m --dataset digits --set "${SPEC[@]}" --wait >/dev/null
ctl --json train plain --dataset digits --set hidden=8 shards=1 slices=1 epochs=1 --wait >/dev/null

# --- Those that serve ---

serving=$(json '[.components[] | select(.serving) | .name]' components m)
expect_equal "one component of each shard serves" "$(jq 'length' <<<"$serving")" 2
expect_equal "each is written" "$(json '[.components[].component]' export m --peft "$E2E_DIR/all")" "$serving"
expect_equal "into a directory of its shard" "$(cd "$E2E_DIR/all" && echo s*)" "s0 s1"
expect_equal "with PEFT's two files" "$(cd "$E2E_DIR/all/s0" && echo *)" "adapter_config.json adapter_model.safetensors"
expect_equal "for its owner alone" "$(stat -c %a "$E2E_DIR/all" "$E2E_DIR/all/s0" | tr '\n' ' ')" "700 700 "
expect_equal "the settings are those of the spec" \
  "$(config '[.peft_type, .r, .lora_alpha, .use_rslora, .target_modules, .layers_to_transform, .modules_to_save, .base_model_name_or_path]' "$E2E_DIR/all/s0")" \
  '["LORA",3,6,true,["query","value"],[0,1,2,3],["classifier"],"tiny"]'
names=$(header "$E2E_DIR/all/s0/adapter_model.safetensors" | jq -c 'del(.__metadata__) | to_entries | map([.key, .value.shape])')
expect_equal "4 layers, 2 targets, A and B, and the head" "$(jq length <<<"$names")" 18
expect_equal "under PEFT's names" "$(jq -c '.[2:4] + .[0:2]' <<<"$names")" \
  '[["base_model.model.vit.encoder.layer.0.attention.attention.query.lora_A.weight",[3,16]],["base_model.model.vit.encoder.layer.0.attention.attention.query.lora_B.weight",[16,3]],["base_model.model.classifier.bias",[10]],["base_model.model.classifier.weight",[10,16]]]'
expect_equal "the base's digest stands there" \
  "$(header "$E2E_DIR/all/s0/adapter_model.safetensors" | jq '.__metadata__["unlearnd.base"]')" "$(json .digest base show tiny | sed 's/.*/"&"/')"

# --- One by name: a prefix, whose later blocks are not there ---

prefix=$(json '[.components[] | select(.state == "valid") | .name] | min_by(length)' components m)
expect_equal "a prefix has the top block alone" \
  "$(json '[.components[] | [.component, .layers]]' export m --peft "$E2E_DIR/one" --component "$prefix")" "[[\"$prefix\",[2,3]]]"
expect_equal "and its settings say so" "$(config .layers_to_transform "$E2E_DIR/one")" "[2,3]"
ctl --json export m --peft "$E2E_DIR/again" --component "$prefix" >/dev/null
expect_true "the same again is the same bytes" \
  "$(cmp -s "$E2E_DIR/one/adapter_model.safetensors" "$E2E_DIR/again/adapter_model.safetensors" && echo 1 || echo 0)"

# --- A text: query and value in GPT-2's one module, and a head of its own file ---

hf_gpt2 "$E2E_DIR/gpt" 2 16 2 32
for ((i = 0; i < 24; i++)); do
  printf '{"who":"p%d","line":"the %dth line says %d times nothing"}\n' $((i % 6)) $i $((i * 7))
done >"$E2E_DIR/lines.jsonl"
ctl --json import lines "$E2E_DIR/lines.jsonl" --text line --subject who >/dev/null
expect_equal "a GPT-2 is imported" \
  "$(json '[.kind, .weights]' base import gpt "$E2E_DIR/gpt")" "[\"text\",$((258 * 16 + 32 * 16 + 2 * (2 * 32 + 4 * 272 + 16 * 64 + 64 + 64 * 16 + 16) + 32))]"
ctl --json train t --dataset lines --set learner=text base=gpt shards=1 slices=2 epochs=1 lora.rank=3 lora.alpha=6 lora.rslora=false --wait >/dev/null
ctl --json export t --peft "$E2E_DIR/text" >/dev/null
expect_equal "with a file for the head" "$(cd "$E2E_DIR/text/s0" && echo *)" \
  "adapter_config.json adapter_model.safetensors head.safetensors"
expect_equal "one adapter of twice the rank, with the scale kept" \
  "$(config '[.r, .lora_alpha, .use_rslora, .target_modules, .fan_in_fan_out, .task_type, .modules_to_save]' "$E2E_DIR/text/s0")" \
  '[6,12,false,["attn.c_attn"],true,"CAUSAL_LM",null]'
expect_equal "under GPT-2's names" \
  "$(header "$E2E_DIR/text/s0/adapter_model.safetensors" | jq -c 'del(.__metadata__) | to_entries[0:2] | map([.key, .value.shape])')" \
  '[["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",[6,16]],["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight",[48,6]]]'
expect_equal "the head has a row for each byte and the end" \
  "$(header "$E2E_DIR/text/s0/head.safetensors" | jq -c .weight.shape)" "[257,16]"

# --- Refused ---

expect_exit 4 'exists already' ctl export m --peft "$E2E_DIR/all"
expect_exit 4 'exists already' ctl export m --peft "$E2E_DIR/one" --component "$prefix"
expect_exit 2 'learner mlp has no adapters' ctl export plain --peft "$E2E_DIR/none"
expect_exit 3 'no model' ctl export nobody --peft "$E2E_DIR/none"
expect_exit 3 'no component' ctl export m --peft "$E2E_DIR/none" --component 's0:[7]'
expect_exit 2 '--peft DIR goes with --component alone' ctl export m --peft "$E2E_DIR/none" -o "$E2E_DIR/x"
expect_exit 1 'cannot make' ctl export m --peft "$E2E_DIR/no/such/dir"
expect_true "nothing is left of what failed" "$([[ ! -e $E2E_DIR/none ]] && echo 1 || echo 0)"

# --- After a deletion: what serves now, and never what has seen the record ---

down
up 0
ctl --json delete digits --subject writer-004 >/dev/null
bad=$(json '[.components[] | select(.state == "invalid") | .name][0]' components m)
expect_exit 4 'not valid now' ctl export m --peft "$E2E_DIR/none" --component "$bad"
left=$(json '[.components[] | select(.serving) | .name]' components m)
expect_true "what serves is valid" \
  "$(json '[.components[] | select(.serving) | .state] | all(. == "valid")' components m | sed 's/true/1/; s/false/0/')"
if [[ $left == '[]' ]]; then
  expect_exit 4 'no shard of model "m" has a component that serves' ctl export m --peft "$E2E_DIR/left"
else
  expect_equal "the prefixes that are left go out" "$(json '[.components[].component]' export m --peft "$E2E_DIR/left")" "$left"
fi
down
finish
