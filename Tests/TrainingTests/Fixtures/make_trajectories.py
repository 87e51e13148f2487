#!/usr/bin/env python3
"""Make trajectories/: short LoRA runs of transformers' Trainer + PEFT, step by step.

    PYTHONHASHSEED=0 python make_trajectories.py        needs torch 2.15, transformers 5.23, peft 0.21

Each run trains an adapter on a tiny model of Tests/ModelsTests/Fixtures in fp32, rows in file order, no dropout:

    init/              the adapter before the first step, as PEFT saves it
    final/             the adapter after the last step
    trajectory.json
        base           the folder in Tests/ModelsTests/Fixtures
        arguments      the TrainingArguments that are not default
        rows           input_ids and labels (aligned with the tokens, -100 carries no loss)
        steps          for every optimizer step: rows, supervised_tokens, loss, grad_norm (before clipping) and
                       learning_rate (the one that the step used)

Trainer pads a batch to its longest row and counts the supervised tokens of the whole accumulation window. Before it is
written, every run is repeated by a plain loop without padding: its losses, norms and final weights have to be the same.
"""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, get_scheduler

HERE = Path(__file__).resolve().parent
BASES = HERE.parent.parent / "ModelsTests" / "Fixtures"
IGNORED = -100
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# name → (base, LoraConfig, number of rows, TrainingArguments)
RUNS = {
    "linear": (
        "llama-grouped-query", {"r": 4, "target_modules": ATTENTION}, 20,
        {"per_device_train_batch_size": 2, "max_steps": 10, "learning_rate": 1e-2},
    ),
    "warmup-cosine-decay-clip": (
        "qwen2-grouped-query", {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}, 20,
        {
            "per_device_train_batch_size": 2, "max_steps": 10, "learning_rate": 1e-2, "warmup_steps": 3,
            "lr_scheduler_type": "cosine", "weight_decay": 0.1, "max_grad_norm": 0.25,
        },
    ),
    "accumulation": (
        "llama-multi-head-tied", {"r": 4, "target_modules": ATTENTION}, 80,
        {
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 10,
            "learning_rate": 1e-2, "warmup_steps": 0.2,
        },
    ),
    # 11 rows in batches of 2, two batches a step: each epoch ends with a step of 2 + 1 rows.
    "epochs-with-remainder": (
        "llama-grouped-query", {"r": 4, "target_modules": ["q_proj", "v_proj"]}, 11,
        {
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_train_epochs": 4,
            "learning_rate": 1e-2, "lr_scheduler_type": "cosine",
        },
    ),
    "no-clip-own-betas": (
        "llama-grouped-query", {"r": 4, "use_rslora": True, "target_modules": ATTENTION}, 20,
        {
            "per_device_train_batch_size": 2, "max_steps": 10, "learning_rate": 5e-3, "max_grad_norm": 0.0,
            "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6,
            "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 4,
        },
    ),
    # Biases and norms take no decay, the head does.
    "biases-and-saved-modules": (
        "llama-biases", {"r": 4, "bias": "all", "modules_to_save": ["lm_head", "norm"]}, 20,
        {"per_device_train_batch_size": 2, "max_steps": 10, "learning_rate": 3e-3, "weight_decay": 0.3},
    ),
    "embeddings": (
        "llama-grouped-query", {"r": 4, "target_modules": ["embed_tokens", "lm_head", "down_proj"]}, 20,
        {"per_device_train_batch_size": 2, "max_steps": 10, "learning_rate": 1e-2},
    ),
    # PEFT's optimizer in Trainer's place; biases take no decay, norms do.
    "loraplus": (
        "llama-biases",
        {"r": 4, "bias": "lora_only", "modules_to_save": ["norm"], "target_modules": ["embed_tokens", "q_proj", "v_proj"]},
        20,
        {
            "per_device_train_batch_size": 2, "max_steps": 10, "learning_rate": 2e-3, "lr_scheduler_type": "cosine",
            "loraplus_lr_ratio": 4.0, "loraplus_lr_embedding": 3e-3, "loraplus_weight_decay": 0.1,
        },
    ),
}

LORAPLUS = "loraplus_lr_ratio", "loraplus_lr_embedding", "loraplus_weight_decay"


def make_rows(count: int, seed: int):
    """Ragged rows; most have a prompt without loss, some learn every token."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    rows = []
    for _ in range(count):
        length = integer(4, 20)
        tokens = torch.randint(3, 80, (length,), generator=generator).tolist()
        prompt = integer(0, length - 1)
        rows.append({"input_ids": tokens, "labels": [IGNORED] * prompt + tokens[prompt:]})
    return rows


def load_base(name: str):
    model = AutoModelForCausalLM.from_pretrained(BASES / name, dtype=torch.float32, attn_implementation="eager")
    model.config._name_or_path = model.name_or_path = name
    return model


def pad(rows):
    width = max(len(row["input_ids"]) for row in rows)

    def padded(values, filler):
        return values + [filler] * (width - len(values))

    return {
        "input_ids": torch.tensor([padded(row["input_ids"], 0) for row in rows]),
        "labels": torch.tensor([padded(row["labels"], IGNORED) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
    }


class InOrder(Trainer):
    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


class Record(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.steps.append({key: logs[key] for key in ("loss", "grad_norm", "learning_rate")})


def loraplus(model, args: TrainingArguments, settings: dict):
    """PEFT's optimizer for the runs that ask for it, else None."""
    options = {key: settings[key] for key in LORAPLUS if key in settings}
    if not options:
        return None
    return create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon, **options,
    )


def arguments(settings: dict, folder: str) -> TrainingArguments:
    settings = {key: value for key, value in settings.items() if key not in LORAPLUS}
    return TrainingArguments(
        output_dir=folder, use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        optim="adamw_torch", remove_unused_columns=False, label_names=["labels"], **settings,
    )


def windows(count: int, args: TrainingArguments, steps: int):
    """The batches of row indices of each optimizer step: an epoch's last window may be short."""
    batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    batches = [list(range(start, min(start + batch, count))) for start in range(0, count, batch)]
    epoch = [batches[start : start + accumulation] for start in range(0, len(batches), accumulation)]
    return [epoch[step % len(epoch)] for step in range(steps)]


def plain_run(base: str, init: Path, rows, args: TrainingArguments, steps: int, settings: dict):
    """The same run without Trainer and without padding: each row alone."""
    model = PeftModel.from_pretrained(load_base(base), init, is_trainable=True).train()
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]

    def decays(name: str) -> bool:
        return "bias" not in name and "norm" not in name

    optimizer = loraplus(model, args, settings) or torch.optim.AdamW(
        [
            {"params": [p for n, p in named if decays(n)], "weight_decay": args.weight_decay},
            {"params": [p for n, p in named if not decays(n)], "weight_decay": 0.0},
        ],
        lr=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2), eps=args.adam_epsilon,
    )
    schedule = get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(steps), steps)
    records = []
    for window in windows(len(rows), args, steps):
        members = [index for batch in window for index in batch]
        tokens = sum(label != IGNORED for index in members for label in rows[index]["labels"][1:])
        total = 0.0
        for index in members:
            ids, labels = torch.tensor(rows[index]["input_ids"]), torch.tensor(rows[index]["labels"])
            logits = model(ids[None]).logits[0]
            loss = F.cross_entropy(logits[:-1], labels[1:], ignore_index=IGNORED, reduction="sum") / tokens
            loss.backward()
            total += loss.item()
        parameters = [parameter for _, parameter in named]
        limit = args.max_grad_norm if args.max_grad_norm > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        records.append({
            "rows": members, "supervised_tokens": tokens, "loss": total, "grad_norm": norm, "learning_rate": rate,
        })
    return records, model


def make(number: int, name: str, base: str, lora: dict, count: int, settings: dict) -> None:
    folder = HERE / "trajectories" / name
    folder.mkdir(parents=True)
    rows = make_rows(count, seed=number)

    model = get_peft_model(load_base(base), LoraConfig(task_type="CAUSAL_LM", **lora))
    generator = torch.Generator().manual_seed(500 + number)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # B is not 0: the first step moves A as well, and a wrong scale shows at once.
            if parameter.requires_grad and "lora_" in parameter_name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder / "init")

    with tempfile.TemporaryDirectory() as scratch:
        args, record = arguments(settings, scratch), Record()
        trained = PeftModel.from_pretrained(load_base(base), folder / "init", is_trainable=True)
        trainer = InOrder(model=trained, args=args, train_dataset=rows, data_collator=pad, callbacks=[record],
                          optimizers=(loraplus(trained, args, settings), None))
        trainer.train()
        trained.save_pretrained(folder / "final")
    for readme in folder.rglob("README.md"):
        readme.unlink()

    steps, again = plain_run(base, folder / "init", rows, args, len(record.steps), settings)
    for number, (step, logged) in enumerate(zip(steps, record.steps)):
        for key in ("loss", "grad_norm", "learning_rate"):
            assert abs(step[key] - logged[key]) <= 1e-4 * abs(logged[key]) + 1e-7, (name, number, key, step, logged)
            step[key] = logged[key]
    with tempfile.TemporaryDirectory() as scratch:
        again.save_pretrained(scratch)
        expected = load_file(folder / "final" / "adapter_model.safetensors")
        actual = load_file(Path(scratch) / "adapter_model.safetensors")
        start = load_file(folder / "init" / "adapter_model.safetensors")
        drift = max((expected[key] - actual[key]).abs().max().item() for key in expected)
        moved = min((expected[key] - start[key]).abs().max().item() for key in expected if "base_layer.weight" not in key)
    assert drift < 5e-4 and moved > 1e-3, (name, drift, moved)

    document = {"base": base, "arguments": settings, "rows": rows, "steps": steps}
    text = json.dumps(document, indent=1)
    (folder / "trajectory.json").write_text(text.replace("\n     ", " ").replace("\n    ]", " ]") + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name:28} {size:7d} bytes  {len(steps)} steps  loss {steps[0]['loss']:.4f} → {steps[-1]['loss']:.4f}  "
          f"norm {steps[0]['grad_norm']:.3f}  plain loop differs by {drift:.1e}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    shutil.rmtree(HERE / "trajectories", ignore_errors=True)
    for number, (name, run) in enumerate(RUNS.items()):
        make(number, name, *run)
