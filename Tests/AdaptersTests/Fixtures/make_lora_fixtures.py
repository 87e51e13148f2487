#!/usr/bin/env python3
"""Make the fixtures of LoRA's options: DoRA, starts from decompositions, trained tokens, tied and replicated layers.

    PYTHONHASHSEED=0 python make_lora_fixtures.py

Every adapter has the form that make_fixtures.py describes; besides, expected.safetensors may hold

    gradient.KEY    the gradient of the mean loss over every next token, at the saved adapter
    start.PATH      scaling · B A as PEFT starts it, for starts that change the base
    base.PATH       the weight that LoftQ leaves in the base

`combinations/` holds three adapters and, in expected.safetensors, what PEFT's add_weighted_adapter makes of them:
NAME/KEY for the tensors of combination NAME, NAME/PATH.product for B A where an SVD leaves A and B a free sign;
combinations.json says the arguments of each. DARE draws its masks from `kept` below instead of a generator.

`eva/` holds what initialize_lora_eva_weights makes of a few batches: batches.json, and the adapter that PEFT saves. `decompositions.safetensors` holds
torch.svd_lowrank of a seeded matrix.
"""

import copy
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora import EvaConfig, LoraLayer
from safetensors.torch import load_file, save_file

import loftq_cpu
import make_fixtures as common
import method_fixtures
from make_fixtures import ATTENTION, HERE, LLAMA, LLAMA_TIED, QWEN2, QWEN2_TIED

DORA = {"use_dora": True, "r": 4, "lora_alpha": 8}
LOFTQ = {"r": 4, "lora_alpha": 4, "init_lora_weights": "loftq"}
TOKENS = [3, 7, 41]

# name → (base, LoraConfig, how it is saved)
CASES = {
    "dora-llama": (LLAMA, {**DORA, "target_modules": ATTENTION}, {}),
    "dora-qwen2": (QWEN2, {**DORA, "target_modules": ATTENTION, "use_rslora": True, "lora_dropout": 0.1}, {}),
    "dora-embedding": (LLAMA, {**DORA, "target_modules": ["embed_tokens", "lm_head", "down_proj"]}, {}),
    "dora-pissa": (QWEN2, {**DORA, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": "pissa"}, {}),
    "pissa-llama": (LLAMA, {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "init_lora_weights": "pissa"}, {}),
    "pissa-qwen2": (
        QWEN2,
        {
            "r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "init_lora_weights": "pissa", "use_rslora": True,
            "rank_pattern": {"k_proj": 2}, "bias": "lora_only",
        },
        {},
    ),
    "olora-llama": (LLAMA, {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "init_lora_weights": "olora"}, {}),
    "olora-qwen2": (
        QWEN2, {"r": 4, "lora_alpha": 4, "target_modules": "all-linear", "init_lora_weights": "olora"}, {},
    ),
    "orthogonal-llama": (LLAMA, {"r": 4, "target_modules": ATTENTION, "init_lora_weights": "orthogonal"}, {}),
    "orthogonal-qwen2": (QWEN2, {"r": 4, "target_modules": ATTENTION, "init_lora_weights": "orthogonal"}, {}),
    "trainable-tokens-llama": (LLAMA, {"r": 4, "trainable_token_indices": TOKENS}, {}),
    "trainable-tokens-qwen2-tied": (QWEN2_TIED, {"r": 4, "trainable_token_indices": TOKENS}, {}),
    "trainable-tokens-head": (
        LLAMA, {"r": 4, "trainable_token_indices": {"embed_tokens": [5, 6], "lm_head": [9, 2, 70]}}, {},
    ),
    "tied-targets": (
        LLAMA_TIED, {"r": 4, "target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}, {"unsafe_merge": True},
    ),
    "tied-targets-qwen2": (
        QWEN2_TIED, {"r": 4, "target_modules": ["embed_tokens", "lm_head", "v_proj"], "ensure_weight_tying": True}, {"unsafe_merge": True},
    ),
    "tied-modules-to-save": (LLAMA_TIED, {"r": 4, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, {}),
    "layer-replication-llama": (
        LLAMA, {"r": 4, "target_modules": ATTENTION, "layer_replication": [[0, 1], [0, 2]]},
        {"unsafe_merge": True},
    ),
    "layer-replication-qwen2": (
        QWEN2, {"r": 4, "target_modules": ["q_proj", "up_proj"], "layer_replication": [[0, 2], [1, 2], [0, 1]]},
        {"unsafe_merge": True},
    ),
    "loftq-llama": (LLAMA, {**LOFTQ, "target_modules": ATTENTION, "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}}, {}),
    "loftq-qwen2": (
        QWEN2,
        {
            # Few layers: an element that lies between two codes to the last bit falls to either in the next turn.
            **LOFTQ, "target_modules": ["k_proj", "down_proj"], "loftq_config": {"loftq_bits": 4, "loftq_iter": 3},
            "use_rslora": True, "rank_pattern": {"k_proj": 2},
        },
        {},
    ),
    "loftq-int8": (LLAMA, {**LOFTQ, "target_modules": ATTENTION, "loftq_config": {"loftq_bits": 8, "loftq_iter": 1}}, {}),
    "loftq-dora": (
        QWEN2, {**LOFTQ, "target_modules": ["q_proj", "v_proj"], "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}, "use_dora": True}, {},
    ),
}

# Starts that change the base.
MUTATED = ("pissa", "olora", "loftq")

# Trained as method_fixtures.py describes. Not those that PEFT trains as two parameters over one memory.
TRAINED = [
    "dora-llama", "dora-embedding", "dora-pissa", "pissa-llama", "olora-qwen2", "orthogonal-qwen2",
    "trainable-tokens-llama", "trainable-tokens-qwen2-tied", "tied-modules-to-save", "layer-replication-llama",
    "loftq-llama",
]


def load_base(name: str, plain_load_base=common.load_base):
    """Qwen2 looks the kind of each layer up in a table that PEFT does not lengthen when it replicates layers."""
    model = plain_load_base(name)
    if kinds := getattr(model.config, "layer_types", None):
        assert set(kinds) == {"full_attention"}
        model.config.layer_types = kinds * 4
    return model


common.load_base = load_base


def randomize(model, adapter: str, seed: int) -> None:
    """Trained-looking weights; what starts from something of the base moves a little away from it."""
    generator = torch.Generator().manual_seed(seed)
    config = model.peft_config[adapter]
    starts_from_base = config.init_lora_weights in MUTATED
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.2 * noise)
            elif "lora_" in name and not starts_from_base:
                parameter.copy_(0.2 * noise)
            else:
                parameter.add_(0.1 * noise)


def stored_name(name: str) -> str:
    """A parameter's name in the adapter's file."""
    name = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
    return name.removesuffix(".weight") if "lora_magnitude_vector" in name else name


def mean_loss(model, batch):
    total = sum(F.cross_entropy(model(t[None]).logits[0][:-1], t[1:], reduction="sum") for t in batch)
    return total / sum(len(t) - 1 for t in batch)


def record(model, folder, facts, expected) -> None:
    """Gradients at the files' adapter, and the product that a start takes out of the base."""
    config = model.peft_config["default"]
    batch = [expected["input_ids.0"], expected["input_ids.1"]]
    loaded = PeftModel.from_pretrained(load_base(facts["base"]), folder, is_trainable=True).eval()
    mean_loss(loaded, batch).backward()
    for name, parameter in loaded.named_parameters():
        if parameter.requires_grad:
            expected[f"gradient.{stored_name(name)}"] = parameter.grad.contiguous()
    # Quantizing takes away more than a start of low rank gives back.
    if config.layer_replication or config.init_lora_weights == "loftq":
        facts["identity"] = False
    if config.ensure_weight_tying and "gradient.lm_head.lora_A.weight" in expected:
        tie(folder, facts, expected)
    if config.init_lora_weights in MUTATED:
        fresh = get_peft_model(load_base(facts["base"]), copy.deepcopy(config))
        for name, module in fresh.named_modules():
            if isinstance(module, LoraLayer):
                product = module.get_delta_weight("default").detach()
                path = name.removeprefix("base_model.model.")
                expected[f"start.{path}"] = product.contiguous()
                if config.init_lora_weights == "loftq":
                    expected[f"base.{path}"] = module.get_base_layer().weight.detach().clone()


def tie(folder, facts, expected) -> None:
    """One pair for both ends of the model: PEFT makes two parameters over the same memory, counts both and gives each a
    gradient of its own. Counted once, with the sum of the gradients."""
    tensors = load_file(folder / "adapter_model.safetensors")
    embedding, head = "base_model.model.model.embed_tokens.lora_embedding_", "base_model.model.lm_head.lora_"
    assert torch.equal(tensors[embedding + "A"], tensors[head + "B.weight"].T)
    assert torch.equal(tensors[embedding + "B"], tensors[head + "A.weight"].T)
    for one, other in (("A", "B"), ("B", "A")):
        gradient = expected.pop(f"gradient.lm_head.lora_{other}.weight").T
        expected[f"gradient.model.embed_tokens.lora_embedding_{one}"] += gradient
    facts["trainable"] = [name for name in facts["trainable"] if "lm_head" not in name]
    twice = sum(tensors[f"{head}{part}.weight"].numel() for part in "AB")
    trainable, everything = (int(part.split(": ")[1].replace(",", "")) for part in facts["line"].split(" || ")[:2])
    trainable, everything = trainable - twice, everything - twice
    facts["line"] = (
        f"trainable params: {trainable:,d} || all params: {everything:,d} || trainable%: {100 * trainable / everything:.4f}"
    )


def make_converted(name: str, number: int) -> None:
    """NAME-converted: the adapter NAME as PEFT converts it to a plain LoRA on the untouched base."""
    base, settings, _ = CASES[name]
    assert not (settings.get("use_rslora") and settings.get("rank_pattern")), "PEFT cannot convert these"

    def convert(model, folder, facts, expected) -> None:
        again = PeftModel.from_pretrained(load_base(base), HERE / name, is_trainable=True)
        initial = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **settings))
        with tempfile.TemporaryDirectory() as scratch:
            initial.peft_config["default"].init_lora_weights = True
            initial.save_pretrained(scratch)
            # Beside the adapter itself, so that its files are replaced by the converted ones.
            again.save_pretrained(folder, path_initial_model_for_weight_conversion=scratch)
        common.finish(folder, {})
        saved = json.loads((folder / "adapter_config.json").read_text())
        assert saved["init_lora_weights"] is True and saved["r"] == 2 * settings["r"]
        line = common.trainable_line(PeftModel.from_pretrained(load_base(base), folder, is_trainable=True))
        facts["line"] = line

    common.make_case(number, f"{name}-converted", base, settings, {}, randomize=randomize, more=convert)


# MARK: Combinations

COMBINATIONS = {
    "linear": {"weights": [0.5, 1.5, -0.25], "combination_type": "linear"},
    "cat": {"weights": [0.5, 1.5, -0.25], "combination_type": "cat"},
    "cat-ranks": {"adapters": ["one", "wide"], "weights": [0.5, 2.0], "combination_type": "cat"},
    "svd": {"weights": [0.5, 1.5, -0.25], "combination_type": "svd"},
    "svd-rank": {"adapters": ["one", "wide"], "weights": [0.5, 2.0], "combination_type": "svd", "svd_rank": 3},
    "svd-clamp": {"weights": [0.5, 1.5, 1.0], "combination_type": "svd", "svd_clamp": 0.9},
    "ties": {"weights": [0.5, 1.5, 1.0], "combination_type": "ties", "density": 0.4},
    "ties-frequency": {
        "weights": [0.5, 1.5, 1.0], "combination_type": "ties", "density": 0.4, "majority_sign_method": "frequency",
    },
    "ties-svd": {"weights": [0.5, 1.5, 1.0], "combination_type": "ties_svd", "density": 0.4},
    "dare-linear": {"weights": [0.5, 1.5, 1.0], "combination_type": "dare_linear", "density": 0.4},
    "dare-ties": {"weights": [0.5, 1.5, 1.0], "combination_type": "dare_ties", "density": 0.4},
    "dare-linear-svd": {"weights": [0.5, 1.5, 1.0], "combination_type": "dare_linear_svd", "density": 0.4},
    "dare-ties-svd": {"weights": [0.5, 1.5, 1.0], "combination_type": "dare_ties_svd", "density": 0.4},
    "magnitude-prune": {"weights": [0.5, 1.5, 1.0], "combination_type": "magnitude_prune", "density": 0.4},
    "magnitude-prune-svd": {"weights": [0.5, 1.5, 1.0], "combination_type": "magnitude_prune_svd", "density": 0.4},
}
COMBINED = {
    "one": {"r": 2, "lora_alpha": 4, "target_modules": ["layers.0.self_attn.q_proj", "embed_tokens"]},
    "two": {"r": 2, "lora_alpha": 1, "target_modules": ["layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj"]},
    "three": {
        "r": 2, "lora_alpha": 2, "use_rslora": True,
        "target_modules": ["layers.0.self_attn.q_proj", "embed_tokens"],
    },
    "wide": {"r": 3, "lora_alpha": 3, "target_modules": ["layers.0.self_attn.q_proj"]},
}


def kept(input: torch.Tensor) -> torch.Tensor:
    """A mask of the same density on every machine: element i is kept when (7 i) mod 10 is below 10 · density."""
    density = input.flatten()[0].item()
    order = torch.arange(input.numel()) * 7 % 10
    return (order < round(10 * density)).to(input.dtype).reshape(input.shape)


def make_combinations() -> None:
    folder = HERE / "combinations"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = None
    for seed, (name, settings) in enumerate(COMBINED.items()):
        config = LoraConfig(task_type="CAUSAL_LM", **settings)
        if model is None:
            model = get_peft_model(load_base(LLAMA), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        model.set_adapter(name)
        common.randomize(model, name, seed=3000 + seed)
    model.save_pretrained(folder)
    common.finish(folder, {})

    expected = {}
    facts = {"base": LLAMA, "combinations": {}}
    torch.bernoulli = kept
    for name, arguments in COMBINATIONS.items():
        arguments = {"adapters": ["one", "two", "three"], **arguments}
        model.add_weighted_adapter(adapter_name=name, **arguments)
        config = model.peft_config[name]
        facts["combinations"][name] = {**arguments, "r": config.r, "targets": sorted(config.target_modules)}
        svd = arguments["combination_type"].endswith("svd")
        for path, module in model.named_modules():
            if not isinstance(module, LoraLayer):
                continue
            path = path.removeprefix("base_model.model.")
            if name in module.lora_A:
                a, b = module.lora_A[name].weight, module.lora_B[name].weight
                keys = "lora_A.weight", "lora_B.weight"
            elif name in module.lora_embedding_A:
                a, b = module.lora_embedding_A[name], module.lora_embedding_B[name]
                keys = "lora_embedding_A", "lora_embedding_B"
            else:
                continue
            if svd:
                expected[f"{name}/{path}.product"] = (b @ a).detach().contiguous()
            else:
                for key, tensor in zip(keys, (a, b)):
                    expected[f"{name}/{path}.{key}"] = tensor.detach().contiguous()
    save_file(expected, folder / "expected.safetensors")
    (folder / "combinations.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"combinations: {len(expected)} tensors")


# MARK: EVA

EVA = {
    "eva-llama": (LLAMA, {"target_modules": ATTENTION, "eva_config": {"rho": 2.0, "tau": 0.95}}),
    "eva-qwen2": (
        QWEN2,
        {
            # No two of the same input: PEFT whitens their shared directions once for each.
            "target_modules": ["q_proj", "o_proj", "down_proj"],
            "eva_config": {"rho": 1.5, "tau": 0.9, "whiten": True, "use_label_mask": False, "adjust_scaling_factors": False},
        },
    ),
}


def make_eva(number: int, name: str) -> None:
    base, settings = EVA[name]
    eva = EvaConfig(**settings["eva_config"])
    settings = {**settings, "r": 4, "lora_alpha": 8, "init_lora_weights": "eva"}
    generator = torch.Generator().manual_seed(4000 + number)
    batches = []
    for _ in range(4):
        rows = []
        for _ in range(3):
            length = int(torch.randint(12, 30, (1,), generator=generator))
            tokens = torch.randint(3, 80, (length,), generator=generator).tolist()
            prompt = int(torch.randint(1, 6, (1,), generator=generator))
            rows.append({"input_ids": tokens, "labels": [-100] * prompt + tokens[prompt:]})
        batches.append(rows)

    def pad(rows):
        width = max(len(row["input_ids"]) for row in rows)
        fill = lambda key, value: torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])
        mask = torch.tensor([[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in rows])
        return {"input_ids": fill("input_ids", 0), "labels": fill("labels", -100), "attention_mask": mask}

    # The adapter that a short EVA run leaves, with its ranks and scales, as every other case.
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **{**settings, "eva_config": eva}))
    initialize_lora_eva_weights(model, [pad(rows) for rows in batches], show_progress_bar=False)
    config = model.peft_config["default"]
    start = {}
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            start[f"{path.removeprefix('base_model.model.')}"] = module.lora_A["default"].weight.detach().clone()
    batch = common.sequences(number)
    expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)}
    for index, value in enumerate(common.logits(load_base(base), batch)):
        expected[f"base_logits.{index}"] = value
    facts = {
        "base": base, "matched": common.matched_modules(model), "trainable": common.trainable(model, "default"),
        "line": common.trainable_line(model), "rank_pattern": config.rank_pattern, "alpha_pattern": config.alpha_pattern,
        "batches": batches,
    }
    # B moves; A stays what EVA made of the data.
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    common.finish(folder, {})
    record(model, folder, facts, expected)
    for index, value in enumerate(common.logits(PeftModel.from_pretrained(load_base(base), folder).eval(), batch)):
        expected[f"logits.{index}"] = value
    for path, value in start.items():
        expected[f"components.{path}"] = value
    save_file(expected, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{name:36} ranks {config.rank_pattern}")


def make_decompositions() -> None:
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, shape in (("wide", (24, 40)), ("tall", (40, 24))):
        matrix = torch.randn(shape, generator=generator)
        torch.manual_seed(9)
        u, s, v = torch.svd_lowrank(matrix, q=6, niter=3)
        tensors |= {f"{name}.matrix": matrix, f"{name}.u": u, f"{name}.s": s, f"{name}.v": v}
    save_file({key: value.contiguous() for key, value in tensors.items()}, HERE / "decompositions.safetensors")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    loftq_cpu.enable()
    for number, (name, (base, settings, how)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        common.make_case(100 + number, name, base, settings, how, randomize=randomize, more=record)
    for number, name in enumerate(TRAINED):
        method_fixtures.train_case(HERE / name, 100 + number, CASES[name][0], names=stored_name)
    make_converted("pissa-llama", 150)
    make_converted("olora-qwen2", 151)
    make_converted("loftq-llama", 152)
    for number, name in enumerate(EVA):
        make_eva(160 + number, name)
    make_combinations()
    make_decompositions()
    dora = LoraConfig(r=4, use_dora=True, lora_dropout=0.05, target_modules=["q_proj", "embed_tokens"])
    (HERE / "tree-dora.txt").write_text(repr(get_peft_model(load_base(QWEN2), dora)) + "\n")
