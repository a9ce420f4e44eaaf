// client/huggingface.h: a frozen base from a directory that Hugging Face's transformers wrote.
//
// Read are config.json with model_type "vit" (ViT) or "gpt2" (GPT-2) and the weights in
// model.safetensors, or in the shards that model.safetensors.index.json names. What would change the
// arithmetic and is not what ours computes is refused by name, and so is every tensor that is missing
// or has another shape; tensors that only a head, a pooler or a buffer has are left alone.
//
//   vit    Images of image_size, pixels as preprocessor_config.json says (image_mean, image_std, with
//          do_rescale and do_normalize); without that file mean and deviation are 0.5, which is what
//          transformers' ViTImageProcessor does by default.
//   gpt2   BPE is not used: the token of byte b is the one whose text in vocab.json is that single byte
//          (GPT-2 writes byte 0x20 as U+0120 and so on), and BOS and EOS are both <|endoftext|>. Only
//          these rows of wte are kept. lm_head is not: learners have heads of their own.
//
// A pickle (pytorch_model.bin) is a program and never opened.
//
// Source    transformers: configuration_vit.py, modeling_vit.py, image_processing_vit.py,
//           configuration_gpt2.py, modeling_gpt2.py, tokenization_gpt2.py (bytes_to_unicode).
// Threads   Any.
#pragma once

#include "base/err.h"
#include "model/base.h"

// Reads the base in `dir`. Each failure is one sentence that names the file, and the key or tensor.
//
//   weights_out    float32[base_at(shape_out).count] in the order of model/base.h, for base_new, which
//                  takes them over; else freed by mem_free. NULL on error.
//   ERR_NOT_FOUND  no such directory, or no config.json in it.
//   ERR_INVALID    not one of the two models, an unsupported setting, a tensor missing or of another
//                  shape or type, a value that is infinite, a damaged file, a pickle instead of
//                  safetensors.
//   ERR_LIMIT      above a bound of base/limits.h or of base_shape_check, or no memory.
//   ERR_CORRUPT    a file changed while it was read.   ERR_IO  the kernel refused.
MUST_USE enum err huggingface_read(const char *dir, struct base_shape *shape_out,
                                   float **weights_out);
