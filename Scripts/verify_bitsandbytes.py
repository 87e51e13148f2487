#!/usr/bin/env python3
"""Have transformers and bitsandbytes load folders that Graft quantized and saved, and compare their logits with Graft's.

    Scripts/verify_bitsandbytes.py MODEL [--graft PROGRAM]        MODEL: a Hugging Face folder in float32 or bfloat16

Needs torch, transformers, accelerate, bitsandbytes and safetensors. A random LoRA adapter is merged by `graft merge --requantize` into the model in
NF4, NF4 with double quantization, FP4 and int8. transformers then loads each folder by itself (its `quantization_config` says how), and, for what
both should compute, once more with every quantized layer made dense.

bitsandbytes computes on the CPU with kernels of its own, which round activations (int8 multiplies 8-bit activations, and its four-bit kernel
goes through bfloat16), so its logits are held against Graft's with a loose tolerance and those of the dense layers with a tight one. The exit status is 1 when
a difference is above its tolerance.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import bitsandbytes
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent))
from graft_commands import CommandFailed, Graft

FORMS = {
    "nf4": ["--load-in-4bit"],
    "nf4-double": ["--load-in-4bit", "--bnb-4bit-use-double-quant"],
    "fp4": ["--load-in-4bit", "--bnb-4bit-quant-type", "fp4"],
    "int8": ["--load-in-8bit"],
}
TOKENS = [(7919 * index + 13) % 10_000 for index in range(48)]
# Largest difference of a logit over the largest logit: fp32 sums in another order over all layers.
DENSE = 1e-3
# bitsandbytes' own products on the CPU, which round activations.
KERNELS = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description="Load what Graft quantized in transformers + bitsandbytes.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--graft", type=Path, default=Graft().program, help="the program; default: %(default)s")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    work = Path(tempfile.mkdtemp(prefix="graft-bnb-"))
    try:
        return check(arguments.model, Graft(arguments.graft.absolute()), work)
    except CommandFailed as error:
        print(error)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check(model: Path, graft: Graft, work: Path) -> int:
    adapter = make_adapter(model, work / "adapter")
    failures = 0
    print(f"{'form':12} {'drift':>9} {'effect':>9} {'dense':>9} {'kernels':>9}")
    for form, options in FORMS.items():
        folder = work / form
        report = json.loads(
            graft.run(
                "merge", model, "--adapter", adapter, "--output", folder, "--requantize", "--dtype", "float32", "--device", "cpu", "--json",
                *options)
        )
        ours = graft_logits(graft, folder, work)
        dense = difference(logits(make_dense(load(folder))), ours)
        # Anew: the kernels lay the codes out otherwise when they are first used.
        loaded = load(folder)
        quantized = sum(isinstance(layer, (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)) for layer in loaded.modules())
        kernels = difference(logits(loaded), ours)
        wrong = not (dense <= DENSE and kernels <= KERNELS and quantized > 0)
        failures += wrong
        print(
            f"{form:12} {report['drift']:9.2e} {report['adapter_effect']:9.2e} {dense:9.2e} {kernels:9.2e}  {quantized} layers"
            f"{'  FAIL' if wrong else ''}", flush=True)
        shutil.rmtree(folder)
    return 1 if failures else 0


def make_adapter(model: Path, folder: Path) -> Path:
    config = AutoConfig.from_pretrained(model)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for layer in range(config.num_hidden_layers):
        for name, rows, columns in [
            ("self_attn.q_proj", head * config.num_attention_heads, config.hidden_size),
            ("mlp.down_proj", config.hidden_size, config.intermediate_size),
        ]:
            path = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{path}.lora_A.weight"] = torch.randn(4, columns, generator=generator) / columns**0.5
            tensors[f"{path}.lora_B.weight"] = 0.02 * torch.randn(rows, 4, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model), "r": 4, "lora_alpha": 8,
        "target_modules": ["q_proj", "down_proj"], "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu", attn_implementation="eager").eval()


def make_dense(model):
    """Puts a plain linear layer with the decoded weight in the place of each quantized one."""
    for path, layer in list(model.named_modules()):
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        elif isinstance(layer, bitsandbytes.nn.Linear8bitLt):
            scales = layer.weight.SCB if getattr(layer.weight, "SCB", None) is not None else layer.state.SCB
            weight = layer.weight.data.float() * scales[:, None] / 127
        else:
            continue
        plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, dtype=torch.float32)
        plain.weight.data = weight.float()
        if layer.bias is not None:
            plain.bias.data = layer.bias.data.float()
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, plain)
    return model


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].float()


def graft_logits(graft: Graft, folder: Path, work: Path):
    output = work / "logits.safetensors"
    graft.logits(folder, [TOKENS], output)
    return load_file(output)["logits.0"]


def difference(found, expected) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    sys.exit(main())
