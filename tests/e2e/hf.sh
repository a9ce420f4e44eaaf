# tests/e2e/hf.sh: directories as Hugging Face's transformers write them, with made-up weights; source it
# after lib.sh.

# float_bytes BYTES SEED: small float32 numbers, none of them 0, by repeating a block.
float_bytes() {
  local block=$E2E_DIR/hf.block
  LC_ALL=C awk -v state="$2" '
    function draw(n) { state = (state * 1103515245 + 12345) % 2147483648; return int(state / 65536) % n }
    BEGIN { # Exponents that make 0.008 to 0.06; the sign is drawn.
      for (i = 0; i < 65536; i++)
        printf "%c%c%c%c", 1 + draw(255), 1 + draw(255), 1 + draw(127), draw(2) ? 60 : 188
    }' >"$block"
  for ((at = 0; at < $1; at += 262144)); do cat "$block"; done | head -c "$1" || true
}

# safetensors FILE SEED: takes lines "name [dims] count" and writes them one after the other.
safetensors() {
  local header bytes
  header=$(awk '{ bytes = 4 * $3
      printf "%s\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]}", (NR == 1 ? "{" : ","), $1, $2, at, at + bytes
      at += bytes } END { print "}" }' "$1.list")
  bytes=$(awk '{ sum += 4 * $3 } END { print sum }' "$1.list")
  while ((${#header} % 8 != 0)); do header+=' '; done
  {
    # shellcheck disable=SC2059 # The octal digits are the format.
    printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $((${#header} & 255)) $((${#header} >> 8 & 255)) \
      $((${#header} >> 16 & 255)) 0)\\0\\0\\0\\0"
    printf '%s' "$header"
    float_bytes "$bytes" "$2"
  } >"$1"
  rm "$1.list"
}

# hf_vit DIR LAYERS WIDTH HEADS INNER SIDE PATCH [SEED]: a grey ViT.
hf_vit() {
  local dir=$1 n=$2 d=$3 heads=$4 inner=$5 side=$6 patch=$7 tokens
  tokens=$((1 + (side / patch) * (side / patch)))
  mkdir -p "$dir"
  cat >"$dir/config.json" <<JSON
{"model_type": "vit", "num_hidden_layers": $n, "hidden_size": $d, "num_attention_heads": $heads,
 "intermediate_size": $inner, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": $side,
 "patch_size": $patch, "num_channels": 1, "qkv_bias": true}
JSON
  {
    echo "embeddings.cls_token [1,1,$d] $d"
    echo "embeddings.position_embeddings [1,$tokens,$d] $((tokens * d))"
    echo "embeddings.patch_embeddings.projection.weight [$d,1,$patch,$patch] $((d * patch * patch))"
    echo "embeddings.patch_embeddings.projection.bias [$d] $d"
    for ((i = 0; i < n; i++)); do
      local at=encoder.layer.$i part
      for part in layernorm_before layernorm_after; do
        echo "$at.$part.weight [$d] $d"
        echo "$at.$part.bias [$d] $d"
      done
      for part in attention.attention.query attention.attention.key attention.attention.value \
        attention.output.dense; do
        echo "$at.$part.weight [$d,$d] $((d * d))"
        echo "$at.$part.bias [$d] $d"
      done
      echo "$at.intermediate.dense.weight [$inner,$d] $((inner * d))"
      echo "$at.intermediate.dense.bias [$inner] $inner"
      echo "$at.output.dense.weight [$d,$inner] $((d * inner))"
      echo "$at.output.dense.bias [$d] $d"
    done
    echo "layernorm.weight [$d] $d"
    echo "layernorm.bias [$d] $d"
  } >"$dir/model.safetensors.list"
  safetensors "$dir/model.safetensors" "${8:-1}"
}

# hf_gpt2 DIR LAYERS WIDTH HEADS CONTEXT [SEED]: a GPT-2 whose vocabulary has single bytes alone.
hf_gpt2() {
  local dir=$1 n=$2 d=$3 heads=$4 context=$5
  mkdir -p "$dir"
  cat >"$dir/config.json" <<JSON
{"model_type": "gpt2", "n_layer": $n, "n_embd": $d, "n_head": $heads, "n_inner": null, "n_positions": $context,
 "vocab_size": 257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": 256,
 "eos_token_id": 256}
JSON
  # Bytes that print stand for themselves, the others for U+0100 and on; token 255 - b is byte b's.
  awk 'BEGIN {
      printf "{"
      for (b = 0; b < 256; b++) {
        itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174
        printf "\"\\u%04x\":%d,", itself ? b : 256 + others++, 255 - b
      }
      print "\"<|endoftext|>\":256}" }' >"$dir/vocab.json"
  {
    echo "wte.weight [257,$d] $((257 * d))"
    echo "wpe.weight [$context,$d] $((context * d))"
    for ((i = 0; i < n; i++)); do
      local at=h.$i part
      for part in ln_1 ln_2; do
        echo "$at.$part.weight [$d] $d"
        echo "$at.$part.bias [$d] $d"
      done
      echo "$at.attn.c_attn.weight [$d,$((3 * d))] $((3 * d * d))"
      echo "$at.attn.c_attn.bias [$((3 * d))] $((3 * d))"
      echo "$at.attn.c_proj.weight [$d,$d] $((d * d))"
      echo "$at.attn.c_proj.bias [$d] $d"
      echo "$at.mlp.c_fc.weight [$d,$((4 * d))] $((4 * d * d))"
      echo "$at.mlp.c_fc.bias [$((4 * d))] $((4 * d))"
      echo "$at.mlp.c_proj.weight [$((4 * d)),$d] $((4 * d * d))"
      echo "$at.mlp.c_proj.bias [$d] $d"
    done
    echo "ln_f.weight [$d] $d"
    echo "ln_f.bias [$d] $d"
  } >"$dir/model.safetensors.list"
  safetensors "$dir/model.safetensors" "${6:-1}"
}
