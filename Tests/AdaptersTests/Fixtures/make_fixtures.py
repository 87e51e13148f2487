#!/usr/bin/env python3
"""Make the adapter fixtures: LoRA adapters saved by PEFT on the tiny models of Tests/ModelsTests/Fixtures.

    PYTHONHASHSEED=0 python make_fixtures.py

rewrites every fixture here; needs torch 2.15, transformers 5.23, peft 0.21. (PEFT holds target_modules as a set: the
hash seed keeps the order of the saved lists.)

One folder per case, a PEFT adapter directory plus

    expected.safetensors
        input_ids.I      int64 [T]        sequence I, run alone and unpadded
        logits.I         float32 [T, V]   base + adapter
        base_logits.I    float32 [T, V]   the base alone
        merged_logits.I  float32 [T, V]   after merge_and_unload(); absent where PEFT refuses to merge
    expected.json
        base             the folder in Tests/ModelsTests/Fixtures
        matched          the modules that carry LoRA, in the order of the model
        trainable        the names of the trainable parameters, without the adapter's name
        line             what print_trainable_parameters() prints

`two-adapters/` holds two of them, "default" and "second" (in its own folder, as PEFT saves it); its expected.safetensors
has second_logits.I too. `matching.json` says for many settings which modules PEFT matches, or that it raises.
`tree.txt` and `tree-two-adapters.txt` are the repr of PEFT models. `patterns.json` says which of some paths Python's
`re.fullmatch` matches with each of many patterns, or that the pattern is refused.
B is random, never zero: an adapter that is not applied shows.
"""

import contextlib
import copy
import io
import json
import re
import shutil
import warnings
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
BASES = HERE.parent.parent / "ModelsTests" / "Fixtures"
LLAMA, LLAMA_TIED, LLAMA_BIASES = "llama-grouped-query", "llama-multi-head-tied", "llama-biases"
QWEN2, QWEN2_TIED = "qwen2-grouped-query", "qwen2-tied"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# name → (base, LoraConfig, how it is saved)
CASES = {
    "defaults-llama": (LLAMA, {}, {}),
    "defaults-qwen2": (QWEN2, {}, {}),
    "attention": (LLAMA, {"target_modules": ATTENTION, "lora_alpha": 16, "lora_dropout": 0.1}, {}),
    "list-with-path": (LLAMA, {"target_modules": ["layers.1.self_attn.q_proj", "down_proj", "absent_proj"]}, {}),
    "regex": (LLAMA, {"target_modules": r".*layers\.\d+\.mlp\.(gate|up)_proj"}, {}),
    "all-linear": (QWEN2, {"target_modules": "all-linear", "r": 4}, {}),
    "exclude-list": (
        LLAMA, {"target_modules": "all-linear", "r": 4, "exclude_modules": ["o_proj", "layers.0.mlp.down_proj"]}, {},
    ),
    "exclude-regex": (LLAMA, {"target_modules": ATTENTION, "r": 4, "exclude_modules": r".*\.0\..*(q|k)_proj"}, {}),
    "layers-to-transform": (LLAMA, {"target_modules": ATTENTION, "r": 4, "layers_to_transform": [1]}, {}),
    "layers-pattern": (
        LLAMA, {"target_modules": ["up_proj"], "r": 4, "layers_to_transform": 0, "layers_pattern": "layers"}, {},
    ),
    "rank-pattern": (
        LLAMA,
        {"target_modules": ATTENTION, "r": 4, "rank_pattern": {"layers.1.self_attn.q_proj": 2, "o_proj": 6, "^k_proj": 3}},
        {},
    ),
    "alpha-pattern": (
        LLAMA,
        {
            "target_modules": ATTENTION, "r": 4, "rank_pattern": {r"model\.layers\.0\..*v_proj": 2},
            "alpha_pattern": {"v_proj": 32, "layers.0.self_attn.k_proj": 1},
        },
        {},
    ),
    "bias-all": (LLAMA_BIASES, {"bias": "all", "r": 4}, {}),
    "bias-lora-only": (LLAMA_BIASES, {"bias": "lora_only", "r": 4}, {}),
    "bias-lora-only-qwen2": (QWEN2, {"bias": "lora_only", "r": 4, "target_modules": ATTENTION}, {}),
    "rslora": (LLAMA, {"use_rslora": True, "r": 4, "lora_alpha": 8}, {}),
    "rslora-patterns": (
        LLAMA,
        {"use_rslora": True, "r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
        {},
    ),
    "modules-to-save-lm-head": (LLAMA, {"modules_to_save": ["lm_head"], "r": 4}, {}),
    "modules-to-save-lm-head-tied": (LLAMA_TIED, {"modules_to_save": ["lm_head"], "r": 4}, {}),
    "modules-to-save-embedding-and-norm": (LLAMA, {"modules_to_save": ["embed_tokens", "norm"], "r": 4}, {}),
    "embedding": (LLAMA, {"target_modules": ["embed_tokens", "q_proj"], "r": 4}, {}),
    "embedding-and-lm-head": (LLAMA, {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "r": 4}, {}),
    "embedding-tied": (LLAMA_TIED, {"target_modules": ["embed_tokens", "q_proj"], "r": 4}, {"unsafe_merge": True}),
    "lm-head-tied": (QWEN2_TIED, {"target_modules": ["lm_head", "q_proj"], "r": 4}, {"unsafe_merge": True}),
    "lora-bias": (LLAMA_BIASES, {"lora_bias": True, "r": 4}, {}),
    "bin": (LLAMA, {"target_modules": ATTENTION, "r": 4}, {"format": "bin"}),
    "bfloat16": (LLAMA, {"target_modules": ATTENTION, "r": 4}, {"dtype": torch.bfloat16}),
    "minimal-config": (LLAMA, {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 2}, {"config": "minimal"}),
}

# What PEFT matches, without weights: (base, settings).
MATCHING = [
    (LLAMA, {"target_modules": None}),
    (QWEN2, {"target_modules": None}),
    (LLAMA, {"target_modules": ["proj"]}),
    (LLAMA, {"target_modules": ["q_proj", "no_such_module"]}),
    (LLAMA, {"target_modules": ["no_such_module"]}),
    (LLAMA, {"target_modules": []}),
    (LLAMA, {"target_modules": ["self_attn.q_proj"]}),
    (LLAMA, {"target_modules": ["model.layers.0.self_attn.q_proj"]}),
    (LLAMA, {"target_modules": ["layers.0.self_attn.q_proj", "1.mlp.up_proj"]}),
    (LLAMA, {"target_modules": "q_proj"}),
    (LLAMA, {"target_modules": r".*q_proj"}),
    (LLAMA, {"target_modules": r"model\.layers\.[01]\.self_attn\.(q|v)_proj"}),
    (LLAMA, {"target_modules": r".*\.(?!0\.).*self_attn\.[qk]_proj$"}),
    (LLAMA, {"target_modules": r"(?i).*Q_PROJ"}),
    (LLAMA, {"target_modules": "all-linear"}),
    (LLAMA, {"target_modules": "ALL-LINEAR"}),
    (LLAMA_TIED, {"target_modules": "all-linear"}),
    (QWEN2, {"target_modules": "all-linear", "exclude_modules": "lm_head"}),
    (QWEN2, {"target_modules": "all-linear", "exclude_modules": ["mlp.up_proj", "layers.1.self_attn.k_proj"]}),
    (QWEN2, {"target_modules": ["q_proj", "lm_head", "embed_tokens"]}),
    (LLAMA, {"target_modules": ATTENTION, "exclude_modules": r"model\.layers\.0\..*"}),
    (LLAMA, {"target_modules": ATTENTION, "exclude_modules": ATTENTION}),
    (LLAMA, {"target_modules": ATTENTION, "layers_to_transform": 1}),
    (LLAMA, {"target_modules": ATTENTION, "layers_to_transform": [0, 1]}),
    (LLAMA, {"target_modules": ATTENTION, "layers_to_transform": [7]}),
    (LLAMA, {"target_modules": ATTENTION, "layers_to_transform": [0], "layers_pattern": ["layers"]}),
    (LLAMA, {"target_modules": ATTENTION, "layers_to_transform": [0], "layers_pattern": "h"}),
    (LLAMA, {"target_modules": ["q_proj", "lm_head"], "layers_to_transform": [0]}),
    (LLAMA, {"target_modules": r".*q_proj", "layers_to_transform": [0]}),
    (LLAMA, {"target_modules": ["q_proj"], "layers_pattern": ["layers"]}),
    (LLAMA, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    (LLAMA, {"target_modules": ["self_attn"]}),
    (LLAMA, {"target_modules": ["input_layernorm", "q_proj"]}),
]


def load_base(name: str):
    model = AutoModelForCausalLM.from_pretrained(BASES / name, dtype=torch.float32, attn_implementation="eager").eval()
    # What PEFT writes as base_model_name_or_path; a path of the machine that made the fixture would be worthless.
    model.config._name_or_path = name
    model.name_or_path = name
    return model


def sequences(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 80, (length,), generator=generator) for length in (6, 17)]


def logits(model, batch):
    with torch.no_grad():
        return [model(tokens[None]).logits[0].float().clone() for tokens in batch]


def randomize(model, adapter: str, seed: int) -> None:
    """Trained-looking adapter weights: A and B random, saved modules and biases moved from the base's."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if f".{adapter}" in name and "lora_" in name:
                parameter.copy_(0.2 * noise)
            else:
                parameter.add_(0.1 * noise)


def matched_modules(model, adapter: str = "default"):
    def targets(module):
        return adapter in module.lora_A or adapter in module.lora_embedding_A

    names = [name for name, module in model.named_modules() if isinstance(module, LoraLayer) and targets(module)]
    return [name.removeprefix("base_model.model.") for name in names]


def trainable(model, adapter: str):
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [name.replace(f".{adapter}", "") for name in names]


def trainable_line(model) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        model.print_trainable_parameters()
    return output.getvalue().strip()


def finish(folder: Path, how: dict) -> None:
    """What PEFT's save_pretrained left, made small and in the form that the case is about."""
    for readme in folder.rglob("README.md"):
        readme.unlink()
    weights = folder / "adapter_model.safetensors"
    if how.get("dtype"):
        tensors = {name: tensor.to(how["dtype"]) for name, tensor in load_file(weights).items()}
        save_file(tensors, weights, metadata={"format": "pt"})
    if how.get("format") == "bin":
        torch.save(load_file(weights), folder / "adapter_model.bin")
        weights.unlink()
    if how.get("config") == "minimal":
        path = folder / "adapter_config.json"
        full = json.loads(path.read_text())
        kept = ("peft_type", "r", "lora_alpha", "target_modules")
        path.write_text(json.dumps({key: full[key] for key in kept}, indent=2) + "\n")


def make_case(number: int, name: str, base: str, settings: dict, how: dict, randomize=randomize, more=None) -> None:
    """`more(model, folder, facts, expected)` adds to what is recorded; the model is the one that was saved."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    batch = sequences(number)
    expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)}
    for index, value in enumerate(logits(load_base(base), batch)):
        expected[f"base_logits.{index}"] = value

    model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
    facts = {
        "base": base,
        "matched": matched_modules(model),
        "trainable": trainable(model, "default"),
        "line": trainable_line(model),
    }
    randomize(model, "default", seed=1000 + number)
    model.save_pretrained(folder)
    finish(folder, how)
    if more:
        more(model, folder, facts, expected)

    # Everything expected comes from the files, as PEFT loads them.
    for index, value in enumerate(logits(PeftModel.from_pretrained(load_base(base), folder).eval(), batch)):
        expected[f"logits.{index}"] = value
        change = (value - expected[f"base_logits.{index}"]).abs().max().item()
        assert change > 1e-2, f"{name}: the adapter moves the logits by {change} only"
    try:
        merged = PeftModel.from_pretrained(load_base(base), folder).eval().merge_and_unload()
        for index, value in enumerate(logits(merged, batch)):
            expected[f"merged_logits.{index}"] = value
        drift = max((expected[f"merged_logits.{i}"] - expected[f"logits.{i}"]).abs().max().item() for i in range(2))
        if drift > 1e-3:
            assert how.get("unsafe_merge"), f"{name}: merging moves the logits by {drift}"
            # A tied matrix is merged into both its users: PEFT's merged model is another model.
            facts["merge_drift"] = drift
    except (ValueError, NotImplementedError) as error:
        facts["merge_error"] = str(error)

    save_file(expected, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name:36} {size:7d} bytes  {len(facts['matched'])} modules  {facts['line']}"
          + (f"  merge drift {facts['merge_drift']:.3f}" if "merge_drift" in facts else "")
          + (f"  merge: {facts['merge_error']}" if "merge_error" in facts else ""))


def make_two_adapters() -> None:
    folder = HERE / "two-adapters"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = get_peft_model(load_base(LLAMA), LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "up_proj"]))
    randomize(model, "default", seed=2000)
    second = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"])
    model.add_adapter("second", second)
    model.set_adapter("second")
    randomize(model, "second", seed=2001)
    model.save_pretrained(folder)
    finish(folder, {})

    batch = sequences(99)
    expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)}
    model = PeftModel.from_pretrained(load_base(LLAMA), folder).eval()
    model.load_adapter(folder / "second", adapter_name="second")
    facts = {"base": LLAMA}
    for adapter, key in (("default", "logits"), ("second", "second_logits")):
        model.set_adapter(adapter)
        facts[f"{adapter}_matched"] = matched_modules(model, adapter)
        for index, value in enumerate(logits(model, batch)):
            expected[f"{key}.{index}"] = value
    with model.disable_adapter():
        for index, value in enumerate(logits(model, batch)):
            expected[f"base_logits.{index}"] = value
    save_file(expected, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")


def make_matching() -> None:
    table = []
    for base, settings in MATCHING:
        entry = {"base": base, "settings": settings}
        try:
            model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **copy.deepcopy(settings)))
            entry["matched"] = matched_modules(model)
        except Exception as error:  # whatever PEFT raises is the fact recorded
            entry["error"] = f"{type(error).__name__}: {error}"
        table.append(entry)
    (HERE / "matching.json").write_text(json.dumps(table, indent=1) + "\n")


def make_tree() -> None:
    settings = {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head"], "lora_dropout": 0.05}
    (HERE / "tree.txt").write_text(repr(get_peft_model(load_base(LLAMA), LoraConfig(r=4, **settings))) + "\n")
    first = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "embed_tokens"])
    second = LoraConfig(r=2, target_modules=["v_proj", "q_proj", "embed_tokens"], lora_dropout=0.1)
    model = get_peft_model(load_base(QWEN2), first)
    model.add_adapter("second", second)
    (HERE / "tree-two-adapters.txt").write_text(repr(model) + "\n")


PATTERN_PATHS = [
    "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.11.self_attn.v_proj",
    "model.layers.11.mlp.down_proj", "model.layers.12.mlp.gate_proj", "lm_head", "model.embed_tokens", "a{2}b", "a[b]&c",
    "x-y", "x--y", "aa", "aaa", "q_proj", "Q_PROJ", "k]proj", "tab\there", "h.0.attn.c_attn", "",
]
PATTERNS = [
    r".*\.(?P<projection>q|v)_proj", r".*layers\.(?P<layer_index>\d+)\..*", r"model\.layers\.(?P<a>\d)(?P=a)\..*",
    r".*layers\.(\d)\1\..*", r".*layers\.(\d)(?:\1)\..*", r"(?P<all>.*)\Z", r"a{,3}", r"a{2}b", r"a\{2\}b", r"a{2,}", r"a{1,2}",
    r"a{x}", r"a{2", r"[ab\[\]&c]+", r"[a[b&c\]]+", r"[a&&c[\]b]+", r"[]ak[bproj]+", r"[^].]+", r"[x\-y]+", r"[xy-]+", r"x[-]+y", r"x-{1,2}y",
    r"[+--xy]+", r"(?i)q_PROJ", r"(?i:q)_proj", r"(?u)q_proj", r"(?a:q_)proj", r"(?s).*", r"(?#names)q_proj", r"k]proj", r"tab\there",
    r"tab\x09here", r"tab\u0009here", r"tab\011here", r"[\t\w]+", r"\w+", r"(?:aa|a)", r"(?>aa|a)a", r"a*+", r"a++a", r"(?=q)q.*", r"(?!q).*",
    r".*(?<=_)proj", r".*(?<!q_)proj", r"(?x) q _proj  # (the query", r"(?P<a>a)(?P<b>a)(?P=b)", r"", r".*", r"h\.(0|1)\.attn\.c_attn",
    r"(", r"[a-", r"a)(b", r"*", r"(?P<", r"(?P<1a>b)", r"(?P<a>b)(?P<a>c)", r"(?P=b)", r"(?P>a)", r"\p{L}", r"\Qa\E", r"q(?i)_proj", r"\2(a)", r"(a)\2",
    r"[z-a]", r"[a-\d]", "a\\", r"(?L)a", r"\x1", r"(?z)a", r"(?i", r"[a", r"(?<n>a)",
]


def make_patterns() -> None:
    table = []
    for pattern in PATTERNS:
        entry = {"pattern": pattern}
        try:
            entry["matched"] = [path for path in PATTERN_PATHS if re.fullmatch(pattern, path)]
        except re.error as error:
            entry["error"] = str(error)
        table.append(entry)
    (HERE / "patterns.json").write_text(json.dumps({"paths": PATTERN_PATHS, "patterns": table}, indent=1) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for number, (name, (base, settings, how)) in enumerate(CASES.items()):
        make_case(number, name, base, settings, how)
    make_two_adapters()
    make_matching()
    make_tree()
    make_patterns()
    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"total {total / 1e6:.2f} MB, peft {peft.__version__}, transformers {transformers.__version__}")
