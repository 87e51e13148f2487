#!/usr/bin/env python3
"""Make the model fixtures: tiny random Llama and Qwen2 checkpoints with what transformers computes from them.

    python make_fixtures.py        needs torch 2.15, transformers 5.23, safetensors; rewrites every fixture here

One folder per configuration twist, each a Hugging Face model directory plus `expected.safetensors`:

    input_ids.I   int64 [T]        sequence I; lengths differ, each was run alone and unpadded
    labels.I      int64 [T]        aligned with the tokens (the loss shifts); -100 carries no loss
    logits.I      float32 [T, V]   in fp32, eager attention
    loss.I        float32 []       mean cross-entropy over the supervised tokens of sequence I
    loss          float32 []       the sum over all sequences divided by all supervised tokens
    gradient.NAME float32          gradient of `loss` with respect to the parameter NAME
    generated.I   int64 [N]        greedy continuation of input_ids.I, with transformers' key-value cache

`trees/NAME.txt` is `repr(model)` of `trees/NAME.config.json`, made on the meta device (no weights);
`trees/parameters.json` has the parameter count of each.
"""

import copy
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
VOCABULARY = 80
IGNORED = -100
GENERATED = 12

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
    "use_cache": True,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "max_window_layers": 2,
    "sliding_window": 32,
    "use_sliding_window": False,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
    "use_cache": True,
}

# Sequences longer than the original context of 16, so that every scaling rule acts.
SCALED = {"max_position_embeddings": 64}
DYNAMIC = {"max_position_embeddings": 16}

# name → (base configuration, what is different, how the checkpoint is written)
# `config` "legacy" writes the dictionary as models on the hub carry it; "saved" leaves what transformers 5 writes.
TWISTS = {
    "llama-grouped-query": (LLAMA, {}, {}),
    "llama-multi-head-tied": (LLAMA, {"num_key_value_heads": 4, "tie_word_embeddings": True}, {}),
    "llama-single-key-value-head": (LLAMA, {"num_key_value_heads": 1}, {}),
    "llama-key-value-heads-unstated": (LLAMA, {"num_key_value_heads": None}, {}),
    "llama-head-dim": (LLAMA, {"head_dim": 12}, {}),
    "llama-biases": (LLAMA, {"attention_bias": True, "mlp_bias": True}, {}),
    "llama-theta-and-eps": (LLAMA, {"rope_theta": 500000.0, "rms_norm_eps": 1e-2}, {}),
    "llama-gelu": (LLAMA, {"hidden_act": "gelu_pytorch_tanh"}, {}),
    "llama-rope-linear": (LLAMA, {**SCALED, "rope_scaling": {"type": "linear", "factor": 4.0}}, {}),
    "llama-rope-dynamic": (LLAMA, {**DYNAMIC, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, {"generate": False}),
    "llama-rope-yarn": (
        LLAMA,
        {**SCALED, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
        {},
    ),
    "llama-rope-yarn-explicit": (
        LLAMA,
        {
            **SCALED,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "attention_factor": 0.8,
                "beta_fast": 4.0,
                "beta_slow": 0.5,
                "truncate": False,
            },
        },
        {},
    ),
    "llama-rope-yarn-mscale": (
        LLAMA,
        {
            **SCALED,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 16,
                "mscale": 0.707,
                "mscale_all_dim": 1.2,
            },
        },
        {},
    ),
    "llama-rope-llama3": (
        LLAMA,
        {
            **SCALED,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
        {},
    ),
    "llama-as-saved": (LLAMA, {"rope_theta": 20000.0}, {"config": "saved"}),
    "llama-sharded": (LLAMA, {}, {"shard": "40KB"}),
    "llama-bin": (LLAMA, {"tie_word_embeddings": True}, {"format": "bin"}),
    "llama-bin-sharded": (LLAMA, {}, {"format": "bin-sharded"}),
    "llama-bfloat16": (LLAMA, {"torch_dtype": "bfloat16"}, {"dtype": torch.bfloat16}),
    "qwen2-grouped-query": (QWEN2, {}, {}),
    "qwen2-tied": (QWEN2, {"tie_word_embeddings": True}, {}),
    "qwen2-sliding": (
        QWEN2,
        {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
        {},
    ),
    "qwen2-sliding-all-layers": (
        QWEN2,
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0},
        {"config": "saved"},
    ),
    "qwen2-rope-yarn": (
        QWEN2,
        {**SCALED, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}},
        {},
    ),
}


def sequences(seed: int):
    """Three ragged sequences and their labels: a prompt without loss, then an answer."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for length, prompt in ((5, 0), (23, 9), (40, 30)):
        tokens = torch.randint(3, VOCABULARY, (length,), generator=generator)
        labels = tokens.clone()
        labels[:prompt] = IGNORED
        result.append((tokens, labels))
    return result


def randomize(model, seed: int) -> None:
    """Weights large enough that attention, norms and biases all show in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif "q_proj" in name or "k_proj" in name:
                parameter.copy_(0.35 * noise)  # sharp attention: a wrong position or mask shows
            else:
                parameter.copy_(0.15 * noise)


def token_losses(logits, labels):
    """Cross-entropy of each supervised token: position t predicts label t + 1."""
    return F.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED, reduction="none")[labels[1:] != IGNORED]


def run(folder: Path, batch, generate: bool):
    """What transformers computes from the checkpoint on disk, in fp32."""

    def load():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    expected, losses, model = {}, [], load()
    for index, (tokens, labels) in enumerate(batch):
        if "dynamic" in folder.name:
            # transformers keeps the longest length that it has seen; every sequence has to meet a fresh model.
            # The gradients are those of the last one's model, so they are left out below.
            model = load()
        logits = model(tokens[None]).logits[0]
        each = token_losses(logits, labels)
        losses.append(each)
        expected[f"input_ids.{index}"] = tokens
        expected[f"labels.{index}"] = labels
        expected[f"logits.{index}"] = logits.detach().clone()
        expected[f"loss.{index}"] = each.mean().detach()
        if generate:
            output = model.generate(
                tokens[None], attention_mask=torch.ones_like(tokens[None]), max_new_tokens=GENERATED, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )
            expected[f"generated.{index}"] = output[0, len(tokens):].clone()
    total = torch.cat(losses).mean()
    expected["loss"] = total.detach()
    if "dynamic" not in folder.name:
        total.backward()
        last = model.config.num_hidden_layers - 1
        for name in (
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.0.self_attn.q_proj.bias",
            f"model.layers.{last}.mlp.down_proj.weight",
            "model.layers.0.input_layernorm.weight",
            "model.norm.weight",
        ):
            parameter = dict(model.named_parameters()).get(name)
            if parameter is not None:
                expected[f"gradient.{name}"] = parameter.grad.clone()
    return expected


def write_checkpoint(model, folder: Path, configuration: dict, how: dict) -> None:
    form = how.get("format", "safetensors")
    model = copy.deepcopy(model).to(how.get("dtype", torch.float32))
    model.save_pretrained(folder, max_shard_size=how.get("shard", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if form.startswith("bin"):
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        if form == "bin":
            torch.save(tensors, folder / "pytorch_model.bin")
        else:
            names = sorted(tensors)
            shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
            for shard, members in shards.items():
                torch.save({name: tensors[name] for name in members}, folder / shard)
            index = {
                "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
                "weight_map": {name: shard for shard, members in shards.items() for name in members},
            }
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")
    if how.get("config", "legacy") == "legacy":
        stated = {key: value for key, value in configuration.items() if value is not None or key == "rope_scaling"}
        (folder / "config.json").write_text(json.dumps(stated, indent=2) + "\n")


def make_models() -> None:
    for number, (name, (base, twist, how)) in enumerate(TWISTS.items()):
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        configuration = {**base, **twist}
        # Through config.json, so that transformers reads the legacy keys as it reads a model from the hub.
        stated = {key: value for key, value in configuration.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(stated))
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), attn_implementation="eager")
        randomize(model.float(), seed=100 + number)
        write_checkpoint(model, folder, configuration, how)

        expected = run(folder, sequences(seed=number), how.get("generate", True))
        save_file(expected, folder / "expected.safetensors")
        check_twist_matters(name, folder, base, expected)
        size = sum(path.stat().st_size for path in folder.iterdir())
        assert size < 200_000, f"{name} has {size} bytes"
        print(f"{name:32} {size:7d} bytes  loss {expected['loss']:.4f}")


def check_twist_matters(name: str, folder: Path, base: dict, expected) -> None:
    """A rope or window setting that changes nothing would test nothing."""
    if "rope" not in name and "sliding" not in name:
        return
    plain = copy.deepcopy(AutoConfig.from_pretrained(folder))
    theta = plain.rope_parameters["rope_theta"]
    plain.rope_parameters = {"rope_type": "default", "rope_theta": theta}
    if "sliding" in name:
        plain.sliding_window = None
        plain.use_sliding_window = False
        plain.layer_types = ["full_attention"] * plain.num_hidden_layers
    model = AutoModelForCausalLM.from_pretrained(folder, config=plain, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        difference = (model(expected["input_ids.2"][None]).logits[0] - expected["logits.2"]).abs().max().item()
    assert difference > 1e-2, f"{name}: the twist moves the logits by {difference} only"


# --------------------------------------------------------------------------------------------------------------------
# Module trees

TREES = {
    "smollm2-135m": {
        **LLAMA, "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192, "rope_theta": 100000,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    },
    "llama-3.2-1b": {
        **LLAMA, "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131072,
        "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "bos_token_id": 128000,
        "eos_token_id": 128001,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
    },
    "llama-biases-one-layer": {
        **LLAMA, "attention_bias": True, "mlp_bias": True, "num_hidden_layers": 1, "pad_token_id": 0,
    },
    "qwen2.5-0.5b": {
        **QWEN2, "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768, "max_window_layers": 24,
        "sliding_window": 32768, "rope_theta": 1000000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "bos_token_id": 151643, "eos_token_id": 151643,
    },
    "qwen2.5-7b": {
        **QWEN2, "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 131072,
        "max_window_layers": 28, "sliding_window": 131072, "rope_theta": 1000000.0, "torch_dtype": "bfloat16",
        "bos_token_id": 151643, "eos_token_id": 151643,
    },
    "qwen2-tiny": QWEN2,
}


def make_trees() -> None:
    folder = HERE / "trees"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    counts = {}
    for name, configuration in TREES.items():
        path = folder / f"{name}.config.json"
        stated = {key: value for key, value in configuration.items() if value is not None}
        path.write_text(json.dumps(stated, indent=2) + "\n")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
        (folder / f"{name}.txt").write_text(repr(model) + "\n")
        # parameters() counts a tied matrix once, as print_trainable_parameters does.
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    (folder / "parameters.json").write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    make_models()
    make_trees()
    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"total {total / 1e6:.2f} MB, transformers {transformers.__version__}, torch {torch.__version__}")
