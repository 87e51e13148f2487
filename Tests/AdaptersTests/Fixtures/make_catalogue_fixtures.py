#!/usr/bin/env python3
"""Make the fixtures of AdaLoRA, IA3, LN-tuning, VeRA, LoHa, LoKr, OFT, BOFT, BitFit and full fine-tuning.

    PYTHONHASHSEED=0 python make_catalogue_fixtures.py [METHOD …]

rewrites the folders METHOD-* (of LoRA, whose own script is make_fixtures.py, those of a training), `trees`
method-trees.json, and `ia3-combination` the folder of that name; needs torch 2.15, transformers 5.23, peft 0.21. method_fixtures.py says what a case holds.

PEFT has no BitFit and no full fine-tuning: their references are plain PyTorch (`make_bitfit`, `make_full`).
"""

import json
import shutil
import sys
import warnings

import torch
import transformers
from peft import (
    AdaLoraConfig, BOFTConfig, IA3Config, LNTuningConfig, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftConfig,
    PeftModel, VeraConfig, get_peft_model,
)
from safetensors.torch import save_file

import boft_extension
from method_fixtures import (
    ATTENTION, HERE, LLAMA, LLAMA_BIASES, LLAMA_TIED, QWEN2, load_base, logits, make_case, mean_loss, randomize,
    record_training, sequences, train_case, training_batches, write_facts,
)

boft_extension.enable()

# method → name → (base, options, how); `train` are the options of record_training.
CASES = {
    LoraConfig: {
        "lora-training-llama": (LLAMA, {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION}, {"train": {}}),
        "lora-training-qwen2": (QWEN2, {"r": 2, "target_modules": "all-linear"}, {"train": {}}),
    },
    IA3Config: {
        "ia3-llama": (LLAMA, {}, {"train": {"learning_rate": 3e-2}}),
        "ia3-qwen2": (QWEN2, {}, {"train": {}}),
        "ia3-biases": (LLAMA_BIASES, {"target_modules": ["q_proj", "o_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, {}),
        "ia3-regex": (
            LLAMA, {"target_modules": r".*\.1\..*(k_proj|v_proj|up_proj|down_proj)", "feedforward_modules": r".*down_proj"}, {},
        ),
        "ia3-all-linear": (QWEN2, {"target_modules": "all-linear", "feedforward_modules": []}, {}),
        "ia3-exclude-and-head": (
            LLAMA,
            {"target_modules": ["k_proj", "v_proj", "lm_head"], "feedforward_modules": [], "exclude_modules": ["layers.0.self_attn.k_proj"]},
            {},
        ),
        "ia3-modules-to-save": (LLAMA, {"modules_to_save": ["lm_head"]}, {}),
    },
    LNTuningConfig: {
        "ln-tuning-llama": (LLAMA, {}, {"train": {}}),
        "ln-tuning-qwen2": (QWEN2, {}, {"train": {}}),
        "ln-tuning-regex": (LLAMA, {"target_modules": r"model\.layers\.1\..*norm"}, {}),
        "ln-tuning-linear-and-exclude": (
            LLAMA_BIASES, {"target_modules": ["input_layernorm", "q_proj", "norm"], "exclude_modules": ["model.norm"]}, {},
        ),
        "ln-tuning-embedding-and-head": (LLAMA, {"target_modules": ["norm", "embed_tokens", "lm_head"]}, {}),
        "ln-tuning-modules-to-save": (LLAMA, {"modules_to_save": ["lm_head"]}, {}),
    },
    VeraConfig: {
        "vera-llama": (LLAMA, {}, {"train": {"learning_rate": 5e-2}}),
        "vera-qwen2": (QWEN2, {"r": 16, "d_initial": 0.2}, {"train": {"learning_rate": 5e-2}}),
        "vera-without-projection": (LLAMA, {"r": 16, "save_projection": False, "projection_prng_key": 7}, {}),
        "vera-all-linear": (LLAMA, {"r": 12, "target_modules": "all-linear", "projection_prng_key": 3}, {}),
        "vera-bias-all": (LLAMA_BIASES, {"r": 8, "bias": "all"}, {}),
        "vera-bias-only": (LLAMA_BIASES, {"r": 8, "bias": "vera_only"}, {}),
        "vera-layers": (LLAMA, {"r": 8, "target_modules": ["up_proj", "q_proj"], "layers_to_transform": [1], "modules_to_save": ["lm_head"]}, {}),
    },
    LoHaConfig: {
        "loha-llama": (LLAMA, {}, {"train": {}}),
        "loha-qwen2": (QWEN2, {"r": 4, "alpha": 16}, {"train": {}}),
        "loha-patterns": (
            LLAMA,
            {
                "target_modules": ATTENTION, "r": 4, "rank_pattern": {"o_proj": 2, "^model.layers.0.*q_proj": 3},
                "alpha_pattern": {"v_proj": 2.5}, "exclude_modules": ["layers.1.self_attn.k_proj"],
            },
            {},
        ),
        "loha-all-linear": (LLAMA, {"target_modules": "all-linear", "r": 2, "modules_to_save": ["norm"]}, {}),
    },
    LoKrConfig: {
        "lokr-llama": (LLAMA, {}, {"train": {}}),
        "lokr-qwen2": (QWEN2, {"r": 2, "alpha": 4, "decompose_both": True, "target_modules": ATTENTION}, {"train": {}}),
        "lokr-decompose-both": (LLAMA, {"r": 1, "decompose_both": True, "target_modules": ["up_proj", "down_proj"]}, {}),
        "lokr-factor": (LLAMA, {"r": 3, "decompose_factor": 4, "target_modules": "all-linear"}, {}),
        "lokr-factor-odd": (LLAMA, {"r": 1, "decompose_factor": 3, "target_modules": ["gate_proj", "lm_head"]}, {}),
        "lokr-patterns": (
            LLAMA,
            {"target_modules": ATTENTION, "r": 1, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 2}, "init_weights": "lycoris"},
            {},
        ),
    },
    OFTConfig: {
        "oft-llama": (LLAMA, {}, {"spread": 0.05, "train": {"learning_rate": 3e-3}}),
        "oft-qwen2": (QWEN2, {"oft_block_size": 8, "target_modules": ATTENTION}, {"spread": 0.1, "train": {}}),
        "oft-rank": (LLAMA, {"r": 4, "oft_block_size": 0}, {"spread": 0.1}),
        "oft-adjusted-size": (LLAMA, {"oft_block_size": 12, "target_modules": "all-linear"}, {"spread": 0.05}),
        "oft-adjusted-rank": (LLAMA, {"r": 3, "oft_block_size": 0, "target_modules": ["down_proj", "q_proj"]}, {"spread": 0.05}),
        "oft-cayley": (LLAMA, {"oft_block_size": 8, "use_cayley_neumann": False}, {"spread": 0.2, "train": {}}),
        "oft-terms": (LLAMA, {"oft_block_size": 8, "num_cayley_neumann_terms": 7}, {"spread": 0.1}),
        "oft-few-terms": (LLAMA, {"oft_block_size": 8, "num_cayley_neumann_terms": 3}, {"spread": 0.1}),
        "oft-constrained": (LLAMA, {"oft_block_size": 8, "coft": True, "eps": 1.0}, {"spread": 0.2, "train": {}}),
        "oft-shared": (LLAMA, {"oft_block_size": 8, "block_share": True, "coft": True, "eps": 0.3}, {"spread": 0.2}),
        "oft-bias": (LLAMA_BIASES, {"oft_block_size": 8, "bias": "oft_only"}, {"spread": 0.1}),
        "oft-bias-all": (LLAMA_BIASES, {"oft_block_size": 4, "bias": "all", "layers_to_transform": [0]}, {"spread": 0.1}),
        "oft-embedding": (LLAMA, {"oft_block_size": 8, "target_modules": ["embed_tokens", "v_proj"]}, {"spread": 0.1}),
        "oft-modules-to-save": (LLAMA, {"oft_block_size": 8, "modules_to_save": ["lm_head"], "exclude_modules": "model.layers.0.*"}, {"spread": 0.1}),
    },
    BOFTConfig: {
        "boft-llama": (LLAMA, {}, {"train": {}}),
        "boft-qwen2": (QWEN2, {"boft_block_size": 8, "target_modules": ATTENTION}, {"spread": 0.1, "train": {}}),
        "boft-butterfly": (LLAMA, {"boft_block_size": 4, "boft_n_butterfly_factor": 2}, {"train": {}}),
        "boft-deep-butterfly": (LLAMA, {"boft_block_num": 8, "boft_block_size": 0, "boft_n_butterfly_factor": 3}, {}),
        "boft-number": (LLAMA_BIASES, {"boft_block_num": 4, "boft_block_size": 0, "bias": "boft_only"}, {}),
        "boft-bias-all": (LLAMA_BIASES, {"boft_block_size": 8, "bias": "all", "target_modules": "all-linear"}, {"spread": 0.1}),
        "boft-layers": (
            LLAMA, {"boft_block_size": 8, "target_modules": ["down_proj", "q_proj"], "layers_to_transform": 1, "modules_to_save": ["lm_head"]}, {},
        ),
    },
}


def make(number: int, config, name: str, base: str, options: dict, how: dict) -> None:
    how = dict(how)
    train = how.pop("train", None)
    folder = make_case(number, name, base, config(task_type="CAUSAL_LM", **options), **how)
    if train is not None:
        train_case(folder, number, base, **train)


# MARK: AdaLoRA

ADALORA = {"init_r": 6, "target_r": 2, "target_modules": ["q_proj", "v_proj"], "lora_alpha": 16, "total_step": 16}
SCHEDULE = {"tinit": 2, "tfinal": 4, "deltaT": 3}


def orthogonality(model) -> torch.Tensor:
    """The term that PEFT's AdaLoraModel.forward adds to the loss."""
    terms = []
    for name, value in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            covariance = value @ value.T if "lora_A" in name else value.T @ value
            terms.append(torch.linalg.norm(covariance - torch.eye(len(covariance))))
    return model.peft_config["default"].orth_reg_weight * sum(terms) / len(terms)


def check_orthogonality() -> None:
    """That the term above is PEFT's own."""
    model = PeftModel.from_pretrained(load_base(LLAMA), HERE / "adalora-llama", is_trainable=True)
    ids = sequences(1)[1][None]
    whole = model(ids, labels=ids).loss
    alone = mean_loss(model, [ids[0].tolist()])
    assert abs((whole - alone - orthogonality(model)).item()) < 1e-5


def prune(model, batch) -> None:
    """Trains through the whole schedule, so that ranks are really given and taken."""
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=2e-2)
    total = model.peft_config["default"].total_step
    for step, tokens in enumerate(training_batches(5, total + 1)):
        (mean_loss(model, tokens) + orthogonality(model)).backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    kept = [sum(pattern) for pattern in model.peft_config["default"].rank_pattern.values()]
    assert len(set(kept)) > 1 and sum(kept) == model.peft_config["default"].target_r * len(kept), kept


def allocate(model, step: int) -> None:
    model.base_model.update_and_allocate(step - 1)


def make_adalora() -> None:
    def config(**options):
        return AdaLoraConfig(task_type="CAUSAL_LM", **{**ADALORA, **options})

    make_case(700, "adalora-llama", LLAMA, config())
    check_orthogonality()
    make_case(701, "adalora-qwen2", QWEN2, config(init_r=4, orth_reg_weight=0.1, target_modules=None))
    make_case(702, "adalora-bias-all", LLAMA_BIASES, config(bias="all"))
    make_case(703, "adalora-modules-to-save", LLAMA, config(modules_to_save=["lm_head"], exclude_modules=["layers.0.self_attn.q_proj"]))
    # How many triplets each matrix keeps differs, also none at all.
    make_case(704, "adalora-pruned", LLAMA, config(target_modules=ATTENTION, tinit=2, tfinal=3, target_r=1, init_r=5), prepare=prune)
    make_case(705, "adalora-pruned-qwen2", QWEN2, config(target_modules="all-linear", init_r=3, target_r=1), prepare=prune)
    # Trainings with budgets that shrink: every phase of the schedule is in them.
    for number, (name, base, options, steps) in enumerate([
        ("adalora-training-llama", LLAMA, {**SCHEDULE, "beta1": 0.7, "beta2": 0.9}, 16),
        ("adalora-training-qwen2", QWEN2, {"tinit": 1, "tfinal": 3, "target_modules": ATTENTION, "init_r": 4, "total_step": 12}, 12),
    ]):
        folder = make_case(710 + number, name, base, config(**options), spread=0.1)
        train_case(folder, 710 + number, base, steps=steps, learning_rate=2e-2, penalty=orthogonality, after_step=allocate)


# MARK: BitFit

def make_bitfit() -> None:
    """Every bias trained and nothing else (Ben Zaken et al. 2022), in plain PyTorch."""
    def case(number, name, base, fields, chosen, created=(), train=False):
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        model = load_base(base)
        batch = sequences(number)
        expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)}
        expected |= {f"base_logits.{index}": value for index, value in enumerate(logits(model, batch))}
        frozen = sum(value.numel() for value in model.parameters())
        model.requires_grad_(False)
        for path in created:
            layer = model.get_submodule(path)
            layer.bias = torch.nn.Parameter(torch.zeros(layer.out_features))
        named = {name: value for name, value in model.named_parameters() if name.endswith("bias") and chosen(name)}
        for value in named.values():
            value.requires_grad_(True)
        count = sum(value.numel() for value in named.values())
        total = frozen + sum(model.get_submodule(path).out_features for path in created)
        generator = torch.Generator().manual_seed(1000 + number)
        with torch.no_grad():
            for value in named.values():
                value.add_(0.2 * torch.randn(value.shape, generator=generator))
        expected |= {f"logits.{index}": value for index, value in enumerate(logits(model, batch))}
        if not created:
            expected |= {f"merged_logits.{index}": value for index, value in enumerate(logits(model, batch))}
        save_file({f"base_model.model.{name}": value.detach().clone() for name, value in named.items()},
                  folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps(
            {"base_model_name_or_path": base, "peft_type": "BITFIT", "task_type": "CAUSAL_LM", **fields}, indent=2, sort_keys=True))
        modules = [name.removesuffix(".bias") for name in named]
        facts = {
            "base": base, "matched": modules, "trainable": [f"base_model.model.{name}" for name in named],
            "line": f"trainable params: {count:,d} || all params: {total:,d} || trainable%: {100 * count / total:.4f}",
        }
        if created:
            facts["unmergeable"] = "the layer has no bias"
        write_facts(folder, expected, facts)
        if train:
            # Where the gradient of a bias is next to nothing, Adam makes steps of its rounding.
            record_training(folder, model, number, names=lambda name: name, tolerance={"final": 2e-3})

    case(800, "bitfit-llama", LLAMA_BIASES, {}, lambda name: True, train=True)
    case(801, "bitfit-qwen2", QWEN2, {}, lambda name: True, train=True)
    case(802, "bitfit-chosen", LLAMA_BIASES, {"target_modules": ["q_proj", "mlp.up_proj"]}, lambda name: "q_proj" in name or "up_proj" in name)
    case(803, "bitfit-excluded", QWEN2, {"target_modules": r".*_proj", "exclude_modules": ["k_proj"]}, lambda name: "k_proj" not in name)
    case(804, "bitfit-created", LLAMA, {"target_modules": ["q_proj", "down_proj"], "create_biases": True}, lambda name: True,
         created=[f"model.layers.{layer}.{path}" for layer in range(2) for path in ("self_attn.q_proj", "mlp.down_proj")], train=True)


# MARK: Full fine-tuning

def make_full() -> None:
    """Trainings of the base's own parameters in plain PyTorch; `config` are the method's options in Graft."""
    def last_layer(name):
        return name.startswith("model.layers.1.")

    def chosen(name):
        return "mlp" in name or name == "model.norm.weight"

    cases = [
        ("full-llama", LLAMA, {}, lambda name: True),
        ("full-qwen2-tied", "qwen2-tied", {}, lambda name: True),
        ("full-top-layer", QWEN2, {"num_trainable_layers": 1}, last_layer),
        ("full-patterns", LLAMA_TIED, {"trainable_parameters": [r".*\.mlp\..*", r"model\.norm\.weight"]}, chosen),
        ("full-layer-and-head", LLAMA, {"num_trainable_layers": 1, "trainable_parameters": ["lm_head.weight"]},
         lambda name: last_layer(name) or name == "lm_head.weight"),
    ]
    root = HERE / "full"
    shutil.rmtree(root, ignore_errors=True)
    for number, (name, base, options, selected) in enumerate(cases):
        folder = root / name
        folder.mkdir(parents=True)
        model = load_base(base)
        for parameter, value in model.named_parameters():
            value.requires_grad_(selected(parameter))
        count = sum(value.numel() for value in model.parameters() if value.requires_grad)
        total = sum(value.numel() for value in model.parameters())
        # The head of a tied model is the embedding and has no name of its own.
        record_training(folder, model, 900 + number, names=lambda name: name, learning_rate=3e-3, weight_decay=0.01, decays=decays)
        (folder / "expected.json").write_text(json.dumps({
            "base": base, "config": options,
            "line": f"trainable params: {count:,d} || all params: {total:,d} || trainable%: {100 * count / total:.4f}",
        }, indent=2) + "\n")


def make_ia3_combination() -> None:
    """ia3-combination/: two adapters, and in expected.safetensors what add_weighted_adapter makes of them and its logits."""
    folder = HERE / "ia3-combination"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    one = IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "layers.0.mlp.down_proj"], feedforward_modules=["layers.0.mlp.down_proj"])
    two = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj"], feedforward_modules=[])
    model = get_peft_model(load_base(LLAMA), one, adapter_name="one").eval()
    model.add_adapter("two", two)
    for seed, name in enumerate(("one", "two")):
        model.set_adapter(name)
        randomize(model, 4000 + seed)
    model.save_pretrained(folder)
    for readme in folder.rglob("README.md"):
        readme.unlink()
    model.base_model.add_weighted_adapter(["one", "two"], [0.75, 0.5], "combined")
    model.set_adapter("combined")
    batch = sequences(40)
    expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)}
    expected |= {f"logits.{index}": value for index, value in enumerate(logits(model, batch))}
    for name, value in model.named_parameters():
        if ".combined" in name:
            expected[f"combined/{name.replace('.combined', '').removeprefix('base_model.model.')}"] = value.detach().clone()
    save_file(expected, folder / "expected.safetensors")
    facts = {
        "base": LLAMA, "weights": [0.75, 0.5], "target_modules": sorted(model.peft_config["combined"].target_modules),
        "feedforward_modules": sorted(model.peft_config["combined"].feedforward_modules),
    }
    (folder / "expected.json").write_text(json.dumps(facts, indent=1) + "\n")


# The printed trees: (fixture, what is another in its configuration).
TREES = [
    ("adalora-llama", {}), ("adalora-qwen2", {"lora_dropout": 0.1}), ("boft-butterfly", {"boft_dropout": 0.1}), ("boft-qwen2", {}),
    ("ia3-llama", {}), ("ia3-qwen2", {}), ("ia3-modules-to-save", {}), ("ln-tuning-embedding-and-head", {}), ("ln-tuning-qwen2", {}),
    ("loha-llama", {}), ("loha-qwen2", {}), ("lokr-llama", {}), ("lokr-decompose-both", {}), ("oft-embedding", {}),
    ("oft-qwen2", {"module_dropout": 0.1}), ("vera-llama", {"vera_dropout": 0.1}), ("vera-qwen2", {}),
]


def make_trees() -> None:
    """method-trees.json: what PEFT prints for a model with a new adapter."""
    trees = []
    for name, changes in TREES:
        settings = json.loads((HERE / name / "adapter_config.json").read_text()) | changes
        base = json.loads((HERE / name / "expected.json").read_text())["base"]
        config = PeftConfig.from_peft_type(**{**settings, "inference_mode": False})
        trees.append({"adapter": name, "changes": changes, "tree": repr(get_peft_model(load_base(base), config))})
    (HERE / "method-trees.json").write_text(json.dumps(trees, indent=1) + "\n")


def decays(name: str) -> bool:
    """transformers' rule: no weight decay on biases and norms."""
    return "bias" not in name and "norm" not in name


METHODS = {
    "adalora": make_adalora, "bitfit": make_bitfit, "full": make_full, "trees": make_trees,
    "ia3-combination": make_ia3_combination,
    **{next(iter(cases)).rpartition("-")[0].removesuffix("-training"): (config, cases) for config, cases in CASES.items()},
}

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for index, (method, maker) in enumerate(METHODS.items()):
        if sys.argv[1:] and method not in sys.argv[1:]:
            continue
        if callable(maker):
            maker()
            continue
        config, cases = maker
        for number, (name, case) in enumerate(cases.items()):
            make(100 * index + number, config, name, *case)
