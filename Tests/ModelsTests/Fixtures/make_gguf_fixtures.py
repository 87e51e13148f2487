#!/usr/bin/env python3
"""Make the GGUF fixtures: two of the tiny models here, written as llama.cpp's converter writes them.

    python make_gguf_fixtures.py        needs gguf 0.19, numpy, safetensors, torch; run make_fixtures.py first

`gguf/NAME.gguf` holds the weights of the folder NAME: the same names and metadata as convert_hf_to_gguf.py gives, query
and key rows of llama permuted so that a rotary pair lies side by side. What is computed from it must be what
`NAME/expected.safetensors` says. `-q8_0` has its matrices quantized; `gguf/NAME-q8_0.safetensors` has the logits that
transformers gives with the dequantized weights.
"""

import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "gguf"

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def stored_name(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if module in TOP:
        return f"{TOP[module]}.{kind}"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def permuted(tensor: np.ndarray, heads: int) -> np.ndarray:
    """LlamaModel.permute of convert_hf_to_gguf.py."""
    return (
        tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
    )


def write(name: str, architecture: str, quantized: bool) -> None:
    config = json.loads((HERE / name / "config.json").read_text())
    tensors = {key: value.float().numpy() for key, value in load_file(HERE / name / "model.safetensors").items()}
    output = FOLDER / f"{name}{'-q8_0' if quantized else ''}.gguf"
    writer = GGUFWriter(output, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])

    rounded = {}
    for key, tensor in tensors.items():
        # Blocks hold 32 elements of a row; the rows of down_proj have 40.
        packs = quantized and tensor.ndim == 2 and tensor.shape[1] % 32 == 0
        rounded[key] = tensor
        if packs:
            rounded[key] = dequantize(quantize(tensor, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
        if architecture == "llama" and "q_proj" in key:
            tensor = permuted(tensor, config["num_attention_heads"])
        if architecture == "llama" and "k_proj" in key:
            tensor = permuted(tensor, config["num_key_value_heads"])
        if packs:
            packed = quantize(tensor, GGMLQuantizationType.Q8_0)
            writer.add_tensor(stored_name(key), packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(stored_name(key), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    if quantized:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager").eval()
        state = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in rounded.items()}
        model.load_state_dict(state, strict=False)
        tokens = load_file(HERE / name / "expected.safetensors")["input_ids.1"]
        with torch.no_grad():
            logits = model(tokens[None]).logits[0]
        save_file({"input_ids": tokens, "logits": logits.clone()}, output.with_suffix(".safetensors"))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write("llama-grouped-query", "llama", quantized=False)
    write("llama-head-dim", "llama", quantized=False)
    write("llama-multi-head-tied", "llama", quantized=False)
    write("qwen2-grouped-query", "qwen2", quantized=False)
    write("llama-grouped-query", "llama", quantized=True)
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name:40} {path.stat().st_size:7d} bytes")
