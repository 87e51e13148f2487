#!/usr/bin/env python3
"""Have llama.cpp load an adapter that `graft export` wrote, and compare its logits with Graft's.

    Scripts/verify_gguf_adapter.py MODEL.gguf [--graft PROGRAM] [--text TEXT]

Needs gguf, numpy, safetensors and llama-cpp-python (for one that is built elsewhere: LLAMA_CPP_LIB_PATH). A random adapter with
rank-stabilised scales, other ranks and other alphas in places is made for every linear layer of the blocks, in PEFT's format, and exported as f32 and
as f16.

Graft computes with the packed file as it is, activations in fp32. llama.cpp rounds activations to 8 bits when it multiplies them with
quantized weights, which no tight tolerance allows for; so it reads a copy of the file with the same numbers in F32 ("exact" below), whose products
it computes in fp32. The quantized file itself is loaded too: there the 8 bits show, with and without the adapter. The exit status is 1 when a difference is above its tolerance.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
from graft_commands import CommandFailed, Graft

MODULES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
SETTINGS = {"r": 8, "lora_alpha": 16, "use_rslora": True}
RANKS = {r"layers\.1\.self_attn\.q_proj": 4, "down_proj": 3}
ALPHAS = {"v_proj": 5}

# Largest difference of a logit over the largest logit: fp32 sums in another order, through all layers.
EXACT = 5e-5
# ‖difference of the effects‖ / ‖effect‖, effect being the logits with the adapter less those without.
EXACT_EFFECT = 5e-4
# Half-precision pairs: 11 bits in each factor.
HALF_EFFECT = 5e-3
# Activations in 8 bits, through all layers.
QUANTIZED = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare exported adapters in llama.cpp with Graft.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--graft", type=Path, default=Graft().program, help="the program; default: %(default)s")
    parser.add_argument("--text", default="Gravity is the force by which a planet draws objects toward its center.")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="graft-gguf-"))
    try:
        return check(arguments, work)
    except CommandFailed as error:
        print(error)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check(arguments, work: Path) -> int:
    graft = Graft(arguments.graft.absolute())
    reader = gguf.GGUFReader(arguments.model)
    adapter = make_adapter(reader, work / "adapter", arguments.model)
    exact = unpacked(reader, work / "exact.gguf")
    files = {}
    for kind in ("f32", "f16"):
        files[kind] = work / f"{kind}.gguf"
        print(graft.run("export", arguments.model, "--adapter", adapter, "--output", files[kind], "--outtype", kind).strip())

    tokens = tokenized(arguments.model, arguments.text)
    ours = {name: graft_logits(graft, arguments.model, tokens, work, folder) for name, folder in [("base", None), ("adapted", adapter)]}
    theirs = {name: llama_logits(exact, tokens, lora) for name, lora in [("base", None), ("f32", files["f32"]), ("f16", files["f16"])]}
    packed = {name: llama_logits(arguments.model, tokens, lora) for name, lora in [("base", None), ("f32", files["f32"])]}
    effect = ours["adapted"] - ours["base"]
    print(f"{len(tokens)} tokens; the adapter changes the logits by {relative(ours['adapted'], ours['base']):.3f} (relative norm)")
    rows = [
        ("base, exact", largest(theirs["base"], ours["base"]), EXACT),
        ("base and adapter, exact", largest(theirs["f32"], ours["adapted"]), EXACT),
        ("effect of the adapter, exact", relative(theirs["f32"] - theirs["base"], effect), EXACT_EFFECT),
        ("effect of the adapter in f16, exact", relative(theirs["f16"] - theirs["base"], effect), HALF_EFFECT),
        ("base, quantized file", largest(packed["base"], ours["base"]), QUANTIZED),
        ("base and adapter, quantized file", largest(packed["f32"], ours["adapted"]), QUANTIZED),
    ]
    failures = 0
    for name, found, allowed in rows:
        failures += not found <= allowed
        print(f"{name:40} {found:10.2e} {allowed:10.1e} {'' if found <= allowed else ' FAIL'}")
    return 1 if failures else 0


def make_adapter(reader, folder: Path, model: Path) -> Path:
    """A random adapter on every linear layer, as PEFT saves one."""
    folder.mkdir()
    generator = np.random.default_rng(11)
    tensors, layers = {}, 0
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if len(parts) != 4 or parts[2] not in MODULES or parts[3] != "weight":
            continue
        path = f"model.layers.{parts[1]}.{MODULES[parts[2]]}"
        rank = 4 if path.endswith("layers.1.self_attn.q_proj") else 3 if path.endswith("down_proj") else SETTINGS["r"]
        columns, rows = (int(size) for size in tensor.shape)
        name = f"base_model.model.{path}"
        tensors[f"{name}.lora_A.weight"] = generator.normal(0, 1 / np.sqrt(columns), (rank, columns)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = generator.normal(0, 0.02, (rows, rank)).astype(np.float32)
        layers = max(layers, int(parts[1]) + 1)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model), "bias": "none", "lora_dropout": 0.0,
        "target_modules": [name.split(".")[1] for name in MODULES.values()], "rank_pattern": RANKS, "alpha_pattern": ALPHAS, **SETTINGS,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def unpacked(reader, path: Path) -> Path:
    """The same file with every tensor in F32."""
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    writer = gguf.GGUFWriter(path, fields["general.architecture"].contents())
    for name, field in fields.items():
        if name == "general.architecture":
            continue
        if name == "general.file_type":
            writer.add_uint32(name, int(gguf.LlamaFileType.ALL_F32))
        elif field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, field.contents())
        else:
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, numbers.reshape([int(size) for size in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tokenized(model: Path, text: str) -> list:
    from llama_cpp import Llama

    return Llama(str(model), vocab_only=True, verbose=False).tokenize(text.encode(), add_bos=False)


def llama_logits(model: Path, tokens: list, lora: Path = None):
    """[tokens, vocabulary], with keys and values cached in F32."""
    from llama_cpp import GGML_TYPE_F32, Llama

    llama = Llama(
        str(model), n_ctx=512, logits_all=True, n_gpu_layers=0, type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32, flash_attn=False,
        lora_path=str(lora) if lora else None, verbose=False,
    )
    llama.eval(tokens)
    logits = np.array(llama.scores[: len(tokens)], copy=True)
    llama.close()
    return logits


def graft_logits(graft: Graft, model: Path, tokens: list, work: Path, adapter: Path = None):
    output, sequences = work / "logits.safetensors", work / "tokens.json"
    sequences.write_text(json.dumps([tokens]))
    command = ["debug", "logits", model, "--tokens", sequences, "--output", output, "--dtype", "float32", "--device", "cpu", "--gguf-packed"]
    graft.run(*command, *(["--adapter", adapter] if adapter else []))
    return load_file(output)["logits.0"]


def largest(found, expected) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def relative(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


if __name__ == "__main__":
    sys.exit(main())
