#!/usr/bin/env python3
"""Make the fixtures of the methods with virtual tokens, by PEFT, and of bottleneck adapters, by bottleneck.py.

    PYTHONHASHSEED=0 python make_prompt_fixtures.py        needs torch 2.15, transformers 5.23, peft 0.21

method_fixtures.py says what a case holds. These hold besides:

`prompt-trees.json` is what PEFT prints.

    expected.safetensors
        generated.I      int64 [10]       what follows sequence I, always the likeliest token
        initial          float32          TEXT only: the vectors that training starts from
    expected.json
        loaded_line      the line of a loaded adapter: a file has the vectors, and not the network that computed them
        unmergeable      what Graft's error about merging says
        initial_tokens   TEXT only: the tokens of the text
"""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import bottleneck
from method_fixtures import (
    HERE, LLAMA, LLAMA_TIED, QWEN2, QWEN2_TIED, load_base, record_training, sequences, trainable_line, write_facts,
)

TEXT = "sort the words of this line"
STEPS = 10

# name → (base, class of the configuration, settings)
PROMPTS = {
    "prompt-tuning": (LLAMA, PromptTuningConfig, {"num_virtual_tokens": 5}),
    "prompt-tuning-text": (
        QWEN2, PromptTuningConfig,
        {"num_virtual_tokens": 8, "prompt_tuning_init": "TEXT", "prompt_tuning_init_text": TEXT},
    ),
    "prompt-tuning-sample-vocab": (
        QWEN2_TIED, PromptTuningConfig, {"num_virtual_tokens": 4, "prompt_tuning_init": "SAMPLE_VOCAB"},
    ),
    "prompt-tuning-sliding": ("qwen2-sliding", PromptTuningConfig, {"num_virtual_tokens": 6}),
    "prompt-tuning-modules-to-save": (
        LLAMA, PromptTuningConfig, {"num_virtual_tokens": 3, "modules_to_save": ["lm_head", "norm"]},
    ),
    "p-tuning-mlp": (LLAMA, PromptEncoderConfig, {"num_virtual_tokens": 5}),
    "p-tuning-mlp-wide": (QWEN2, PromptEncoderConfig, {"num_virtual_tokens": 3, "encoder_hidden_size": 24}),
    "p-tuning-lstm": (
        QWEN2, PromptEncoderConfig,
        {"num_virtual_tokens": 4, "encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 12},
    ),
    "p-tuning-lstm-single": (
        LLAMA, PromptEncoderConfig,
        {
            "num_virtual_tokens": 4, "encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 12,
            "encoder_num_layers": 1,
        },
    ),
    "prefix-tuning": (LLAMA, PrefixTuningConfig, {"num_virtual_tokens": 5}),
    "prefix-tuning-qwen2": (QWEN2, PrefixTuningConfig, {"num_virtual_tokens": 4, "init_weights": "zero"}),
    "prefix-tuning-projection": (
        LLAMA, PrefixTuningConfig, {"num_virtual_tokens": 4, "prefix_projection": True, "encoder_hidden_size": 24},
    ),
    "prefix-tuning-projection-qwen2": (
        QWEN2, PrefixTuningConfig, {"num_virtual_tokens": 4, "prefix_projection": True},
    ),
    "prefix-tuning-modules-to-save": (
        QWEN2_TIED, PrefixTuningConfig,
        {"num_virtual_tokens": 3, "prefix_projection": True, "modules_to_save": ["norm"]},
    ),
    "prefix-tuning-head-dim": ("llama-head-dim", PrefixTuningConfig, {"num_virtual_tokens": 3}),
    "prefix-tuning-multi-head-tied": (LLAMA_TIED, PrefixTuningConfig, {"num_virtual_tokens": 3}),
    "prefix-tuning-sliding": ("qwen2-sliding", PrefixTuningConfig, {"num_virtual_tokens": 6}),
}

# name → (base, settings)
BOTTLENECKS = {
    "bottleneck-houlsby": (LLAMA, {"reduction_factor": 4.0}),
    "bottleneck-houlsby-qwen2": (QWEN2, {"reduction_factor": 8.0, "non_linearity": "swish", "layers_to_transform": [1]}),
    "bottleneck-pfeiffer": (QWEN2, {"mh_adapter": False, "original_ln_before": True, "reduction_factor": 8.0}),
    "bottleneck-parallel": (
        LLAMA, {"mh_adapter": False, "is_parallel": True, "scaling": 4.0, "reduction_factor": 2.0},
    ),
    "bottleneck-parallel-attention": (
        QWEN2, {"output_adapter": False, "is_parallel": True, "non_linearity": "gelu", "reduction_factor": 3.0, "dropout": 0.1},
    ),
}


def word_tokenizer(folder: Path) -> str:
    """A tokenizer whose words are the first tokens of any vocabulary."""
    words = {word: 10 + index for index, word in enumerate(TEXT.split())} | {"[UNK]": 0}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


def logits(model, batch):
    """The rows of the sequences' own tokens."""
    with torch.no_grad():
        return [model(tokens[None]).logits[0, -len(tokens):].float().clone() for tokens in batch]


def generated(model, batch):
    """Greedy continuations, with all that was generated read anew at each step: no cache has a part in it."""
    results = []
    for tokens in batch:
        for _ in range(STEPS):
            tokens = torch.cat([tokens, logits(model, [tokens])[0][-1].argmax()[None]])
        results.append(tokens[-STEPS:])
    return results


def trained(name: str) -> str:
    """The name of a trained parameter in the base, or of the encoder's."""
    return name.replace(".default", "").replace(".modules_to_save", "").removeprefix("base_model.")


def expect(folder: Path, base: str, model, batch, facts: dict, tensors: dict) -> None:
    expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)} | tensors
    for index, value in enumerate(logits(load_base(base), batch)):
        expected[f"base_logits.{index}"] = value
    for index, value in enumerate(logits(model, batch)):
        expected[f"logits.{index}"] = value
        change = (value - expected[f"base_logits.{index}"]).abs().max().item()
        assert change > 1e-2, f"{folder.name}: the adapter moves the logits by {change} only"
    for index, tokens in enumerate(generated(model, batch)):
        expected[f"generated.{index}"] = tokens
    write_facts(folder, expected, facts)


def make_prompt(number: int, name: str, base: str, kind, settings: dict) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    torch.manual_seed(3000 + number)
    tensors = {}
    with tempfile.TemporaryDirectory() as scratch:
        if settings.get("prompt_tuning_init") == "TEXT":
            settings = settings | {"tokenizer_name_or_path": word_tokenizer(Path(scratch))}
        model = get_peft_model(load_base(base), kind(task_type="CAUSAL_LM", **settings)).eval()
    named = {trained(name): value for name, value in model.named_parameters() if value.requires_grad}
    facts = {
        "base": base, "matched": [], "trainable": list(named), "line": trainable_line(model), "identity": False,
        "unmergeable": "change no weight",
    }
    if "tokenizer_name_or_path" in settings:
        tensors["initial"] = model.prompt_encoder["default"].embedding.weight.detach().clone()
        facts["initial_tokens"] = [10 + index for index in range(len(TEXT.split()))]
        model.peft_config["default"].tokenizer_name_or_path = base

    generator = torch.Generator().manual_seed(4000 + number)
    with torch.no_grad():
        for value in named.values():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    stored = sum(value.numel() for value in load_file(folder / "adapter_model.safetensors").values())
    total = sum(value.numel() for value in load_base(base).parameters()) + stored
    facts["loaded_line"] = f"trainable params: {stored:,d} || all params: {total:,d} || trainable%: {100 * stored / total:.4f}"

    # Everything expected comes from the files, as PEFT loads them.
    batch = sequences(100 + number)
    loaded = PeftModel.from_pretrained(load_base(base), folder).eval()
    drift = max((one - other).abs().max().item() for one, other in zip(logits(model, batch), logits(loaded, batch)))
    assert drift < 1e-4, f"{name}: saving moves the logits by {drift}"
    expect(folder, base, loaded, batch, facts, tensors)
    # PEFT takes up no saved prompt for training; the run starts at the encoder that was saved.
    encoder = {name for name in named if name.startswith("prompt_encoder")}
    stored = set(named) - (encoder if len(encoder) > 1 else set())
    record_training(folder, model, 100 + number, stored=stored, learning_rate=3e-3, names=trained)


def make_bottleneck(number: int, name: str, base: str, settings: dict) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = load_base(base)
    matched = bottleneck.attach(model, settings)
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    facts = {
        "base": base, "matched": matched, "trainable": list(named), "line": bottleneck.trainable_line(model),
        "unmergeable": "activation in its middle",
    }
    generator = torch.Generator().manual_seed(5000 + number)
    with torch.no_grad():
        for value in named.values():
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    save_file(bottleneck.state(model), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps(bottleneck.configuration(base, settings), indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text)
    expect(folder, base, model, sequences(200 + number), facts, {})
    if settings.get("dropout", 0) == 0:
        record_training(folder, model, 200 + number, names=lambda name: name)


def make_trees() -> None:
    """What PEFT prints for a new adapter of each kind."""
    torch.manual_seed(0)
    cases = {
        "prompt": PromptTuningConfig(num_virtual_tokens=3), "mlp": PromptEncoderConfig(num_virtual_tokens=3),
        "lstm": PromptEncoderConfig(num_virtual_tokens=3, encoder_reparameterization_type="LSTM", encoder_dropout=0.1),
        "prefix": PrefixTuningConfig(num_virtual_tokens=3),
        "projection": PrefixTuningConfig(num_virtual_tokens=3, prefix_projection=True),
    }
    trees = {}
    for name, config in cases.items():
        config.task_type = "CAUSAL_LM"
        trees[name] = repr(get_peft_model(load_base(LLAMA), config))
    (HERE / "prompt-trees.json").write_text(json.dumps(trees, indent=1) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for number, (name, case) in enumerate(PROMPTS.items()):
        make_prompt(number, name, *case)
    for number, (name, case) in enumerate(BOTTLENECKS.items()):
        make_bottleneck(number, name, *case)
    make_trees()
