#!/usr/bin/env python3
"""Make the fixtures of quantized weights: what bitsandbytes makes of weights, and models that transformers saves with it.

    python make_quantized_fixtures.py     needs bitsandbytes 0.50, transformers 5, torch, safetensors; run make_fixtures.py first

`quantized/weights.safetensors` holds weights and, for each, codes, constants and the dequantized matrix. They come from bitsandbytes' own
reference kernels (its `default` backend), because its CPU library differs in two places: it takes 8-bit codes from a table of
65,536 steps and is off by a code where a constant lies that near the middle of two (`…_cpu_library` holds what it gives); and it
takes the wrong constants where a row is not whole blocks.

`quantized/NAME` are folders as `save_pretrained` writes them; `quantized/NAME.safetensors` has the logits in fp32 of the model
with the dequantized weights.
"""

import json
import shutil
from pathlib import Path

import bitsandbytes.functional as F
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "quantized"


def reference(name: str, *arguments):
    """bitsandbytes' kernel for every device, called past its CPU library."""
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    return getattr(torch.ops.bitsandbytes, name).default._op_dk(key, *arguments)


def dequantized(weight) -> torch.Tensor:
    """The numbers of a `Params4bit`."""
    state = weight.quant_state
    constants = state.absmax
    if state.nested:
        constants = F.dequantize_blockwise(constants, state.state2) + state.offset
    return reference("dequantize_4bit", weight.data, constants, state.blocksize, state.quant_type, state.shape, state.dtype)


def weights() -> dict:
    torch.manual_seed(0)
    result = {
        "whole": torch.randn(40, 64) * 0.02,
        "straddling": torch.randn(9, 40) * 0.02,  # blocks of 64 cross the rows of 40
        "odd": torch.randn(5, 13),  # 65 elements: a last block of one, half a byte
        "nested": torch.randn(130, 128) * 0.05,  # 260 constants: more than one block of them
        "bfloat16": (torch.randn(24, 96) * 0.1).bfloat16(),
    }
    result["whole"][3] = 0  # a block of zeros
    result["whole"][5, 7] = 30.0  # an outlier
    # Middles of neighbouring values, where the side matters.
    for kind in ("nf4", "fp4"):
        code = F.get_4bit_type(kind, device="cpu").sort()[0]
        middles = torch.cat([(code[:-1] + code[1:]) / 2, code, code])[:47]
        result[f"middles_{kind}"] = torch.cat([torch.ones(1), middles, -middles[:16]]).reshape(1, 64)
    return result


def quantize_all(tensors: dict) -> dict:
    out = {}
    dynamic = F.create_dynamic_map()
    out["dynamic_map"] = dynamic
    for name, weight in tensors.items():
        out[f"{name}.weight"] = weight
        for kind in ("nf4", "fp4"):
            codes, state = F.quantize_4bit(weight, blocksize=64, quant_type=kind)
            key = f"{name}.{kind}"
            out[f"{key}.codes"] = codes.flatten()
            out[f"{key}.absmax"] = state.absmax
            out[f"{key}.dequantized"] = reference(
                "dequantize_4bit", codes, state.absmax, 64, kind, weight.shape, torch.float32
            )
            out[f"{key}.dequantized_bfloat16"] = reference(
                "dequantize_4bit", codes, state.absmax, 64, kind, weight.shape, torch.bfloat16
            )
            offset = state.absmax.mean()
            nested, scales = reference("quantize_blockwise", state.absmax - offset, dynamic, 256)
            out[f"{key}.nested_codes"] = nested
            out[f"{key}.nested_absmax"] = scales
            out[f"{key}.nested_offset"] = offset.reshape(1)
            library, _ = F.quantize_blockwise(state.absmax - offset, blocksize=256)
            out[f"{key}.nested_codes_cpu_library"] = library
            constants = F.dequantize_blockwise(nested, absmax=scales, code=dynamic, blocksize=256) + offset
            out[f"{key}.nested_dequantized"] = reference(
                "dequantize_4bit", codes, constants, 64, kind, weight.shape, torch.float32
            )
        codes, rows, _ = F.int8_vectorwise_quant(weight.half())
        zero = rows == 0
        codes[zero] = 0
        out[f"{name}.int8.codes"], out[f"{name}.int8.absmax"] = codes, rows
        out[f"{name}.int8.dequantized"] = F.int8_vectorwise_dequant(codes, rows)
    return {key: value.contiguous().clone() for key, value in out.items()}


def save_model(name: str, base: str, dtype: torch.dtype, **settings) -> None:
    folder = FOLDER / name
    if folder.exists():
        shutil.rmtree(folder)
    config = BitsAndBytesConfig(**settings)
    model = AutoModelForCausalLM.from_pretrained(HERE / base, dtype=dtype, quantization_config=config, device_map="cpu")
    # In evaluation the CPU path of bitsandbytes repacks weights, and fails where rows are no whole blocks.
    model.train()
    tokens = load_file(HERE / base / "expected.safetensors")["input_ids.1"]
    with torch.no_grad():
        own = model(tokens[None]).logits[0].float()
    model.save_pretrained(folder)
    for extra in folder.glob("generation_config.json"):
        extra.unlink()

    plain = AutoModelForCausalLM.from_pretrained(HERE / base, dtype=dtype, attn_implementation="eager").eval()
    for path, module in model.named_modules():
        kind = type(module).__name__
        if kind == "Linear4bit":
            dense = dequantized(module.weight)
        elif kind == "Linear8bitLt":
            scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            dense = F.int8_vectorwise_dequant(module.weight.data, scales)
        else:
            continue
        plain.get_submodule(path).weight.data = dense.to(dtype).reshape(plain.get_submodule(path).weight.shape)
    plain = plain.float()
    with torch.no_grad():
        logits = plain(tokens[None]).logits[0]
    # Apart by what the CPU library does with rows that are not whole blocks, and int8 by its quantized activations.
    error = ((own - logits).abs().max() / logits.abs().max()).item()
    print(f"{name}: bitsandbytes' own logits differ by {error:.1e}")
    save_file({"input_ids": tokens, "logits": logits.clone()}, FOLDER / f"{name}.safetensors")


def make_base() -> None:
    """A model whose rows are whole blocks, in bfloat16 to be small."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=80, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, initializer_range=0.1,
    )
    model = LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(FOLDER / "base")
    (FOLDER / "base" / "generation_config.json").unlink()
    save_file({"input_ids.1": torch.randint(3, 80, (24,))}, FOLDER / "base" / "expected.safetensors")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make_base()
    save_file(quantize_all(weights()), FOLDER / "weights.safetensors")
    save_model("nf4", "quantized/base", torch.float32, load_in_4bit=True, bnb_4bit_quant_type="nf4")
    save_model(
        "nf4-double", "qwen2-tied", torch.bfloat16, load_in_4bit=True, bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16,
    )
    save_model("fp4", "qwen2-grouped-query", torch.float32, load_in_4bit=True, llm_int8_skip_modules=["o_proj", "lm_head"])
    save_model("int8", "quantized/base", torch.float32, load_in_8bit=True)
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            print(f"{str(path.relative_to(FOLDER)):40} {path.stat().st_size:7d} bytes")
