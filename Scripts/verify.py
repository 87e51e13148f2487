#!/usr/bin/env python3
"""Compare Graft with transformers and PEFT on the real SmolLM2-135M-Instruct, both ways, in fp32; and
the losses of training in bf16.

    make verify
    Scripts/verify.py [--venv FOLDER] [--only NAME …] [--keep]

Each check is one line of the table that is printed; the exit status is 1 when one fails. The model is the GGUF file of
`make model`; transformers reads the same file.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import python_stack
from graft_commands import CommandFailed, Graft, metrics

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = REPOSITORY / ".models" / "smollm2-135m-instruct.gguf"
IGNORED = -100

PROMPTS = [
    "What is gravity?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "用中文介绍一下春节。",
]
NEW_TOKENS = 64

# Short rows, no two of one length, so that batches are ragged.
ROWS = [
    {"question": f"What is {a} plus {b}?", "answer": f"{a} plus {b} is {a + b}." + " That is all." * ((a * b) % 4)}
    for a in range(2, 10)
    for b in range(3, 8)
]
STEPS, BATCH = 10, 4
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
TRAINING = {
    "learning_rate": 1e-3, "warmup_steps": 2, "lr_scheduler_type": "cosine", "weight_decay": 0.01, "max_grad_norm": 1.0,
    "seed": 7,
}

# Relative to the largest logit (or loss, or norm). fp32 sums over 576 to 1536 terms in another order, 30 layers deep.
LOGITS_TOLERANCE = 1e-4
LOSS_TOLERANCE = 1e-3
NORM_TOLERANCE = 1e-2


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare Graft with transformers and PEFT on SmolLM2-135M-Instruct.")
    parser.add_argument("--venv", type=Path, default=python_stack.default_venv(), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[c.__name__ for c in CHECKS], help="only these checks")
    parser.add_argument("--graft", type=Path, default=REPOSITORY / "bin" / "graft", help="the program; default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="keep the folder with what both sides wrote")
    arguments = parser.parse_args()
    if not MODEL.exists():
        sys.exit("verify: the model is missing; run 'make model'")
    python_stack.enter(arguments.venv)
    os.environ["TQDM_DISABLE"] = "1"
    warnings.filterwarnings("ignore")

    work = Path(tempfile.mkdtemp(prefix="graft-verify-"))
    bench = Bench(work, Graft(arguments.graft.absolute()))
    failures = 0
    print(f"{'check':58} {'measured':>12} {'allowed':>10}")
    try:
        for check in CHECKS:
            if arguments.only and check.__name__ not in arguments.only:
                continue
            try:
                results = list(check(bench))
            except CommandFailed as error:
                results = [(check.__name__, None, str(error))]
            for name, measured, allowed in results:
                failures += not report(name, measured, allowed)
    finally:
        if arguments.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print("all checks pass" if failures == 0 else f"{failures} checks fail")
    return 1 if failures else 0


def report(name: str, measured, allowed) -> bool:
    """One line of the table. `allowed` is the largest value that passes, or the text of what went wrong."""
    if measured is None:
        print(f"{name:58} {'FAIL':>12}\n  " + allowed.replace("\n", "\n  "), flush=True)
        return False
    passed = measured <= allowed  # False for NaN
    print(f"{name:58} {measured:12.3g} {allowed:10.3g} {'' if passed else ' FAIL'}", flush=True)
    return passed


class Bench:
    """Both sides, loaded when first used: the Python model and tokenizer, and the graft program."""

    def __init__(self, work: Path, graft: Graft):
        self.work, self.graft = work, graft
        self._tokenizer = None

    @property
    def tokenizer(self):
        if self._tokenizer is None:
            from transformers.utils import logging
            from transformers_models import load_tokenizer

            logging.set_verbosity_error()
            logging.disable_progress_bar()
            self._tokenizer = load_tokenizer(MODEL)
        return self._tokenizer

    def base(self, dtype: str = "float32"):
        """A fresh base: PEFT changes the model that it wraps. Reduced precision as its users run it, by the engine's attention."""
        import torch
        from transformers_models import load_model

        self.tokenizer
        attention = "eager" if dtype == "float32" else "sdpa"
        return load_model(MODEL, getattr(torch, dtype), attn_implementation=attention)

    def prompt(self, text: str):
        messages = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    def sequences(self):
        return [self.prompt(text) for text in PROMPTS] + [self.tokenizer("def main():\n    print('Grüße, 世界 🙂')\n")["input_ids"]]

    def python_logits(self, model):
        import torch

        with torch.no_grad():
            return [model(torch.tensor([tokens])).logits[0].float() for tokens in self.sequences()]

    def graft_logits(self, model: Path, adapter: Path = None):
        from safetensors.torch import load_file

        output = self.work / f"logits-{time.monotonic_ns()}.safetensors"
        self.graft.logits(model, self.sequences(), output, adapter)
        tensors = load_file(output)
        output.unlink()
        return [tensors[f"logits.{index}"] for index in range(len(self.sequences()))]


def difference(actual, expected) -> float:
    """The largest difference of any logit, relative to the largest logit."""
    worst = 0.0
    for one, other in zip(actual, expected):
        if one.shape != other.shape:
            return float("nan")
        value = ((one - other).abs().max() / other.abs().max()).item()
        worst = value if not value <= worst else worst
    return worst


def greedy(bench: Bench, model, text: str):
    import torch

    tokens = torch.tensor([bench.prompt(text)])
    output = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=NEW_TOKENS, do_sample=False)
    return output[0, tokens.shape[1]:].tolist()


def mismatches(bench: Bench, model, adapter: Path = None):
    """For each prompt, 0 when Graft generates the very tokens of transformers, else 1."""
    end = bench.tokenizer.eos_token_id

    def without_end(tokens):
        return tokens[: tokens.index(end)] if end in tokens else tokens

    for text in PROMPTS:
        expected = without_end(greedy(bench, model, text))
        actual = without_end(bench.graft.generate(MODEL, text, NEW_TOKENS, adapter)["tokens"])
        same = next((i for i, (a, b) in enumerate(zip(actual, expected)) if a != b), min(len(actual), len(expected)))
        wrong = 0 if actual == expected else 1
        note = f", {len(expected)} tokens" if not wrong else f", differ at token {same} of {len(expected)}"
        yield text[:24], wrong, note


# --------------------------------------------------------------------------------------------------------------------
# The checks: generators of (name, measured, allowed)


def logits(bench: Bench):
    yield "logits of the base", difference(bench.graft_logits(MODEL), bench.python_logits(bench.base())), LOGITS_TOLERANCE


def generation(bench: Bench):
    for text, wrong, note in mismatches(bench, bench.base()):
        yield f"greedy tokens: {text}{note}", wrong, 0


def peft_to_graft(bench: Bench):
    """PEFT saves an adapter with random weights; Graft loads it."""
    import torch
    from peft import LoraConfig, get_peft_model

    for name, settings in {
        "r 8 on attention": LORA,
        "all-linear, rsLoRA, patterns": {
            "r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": "all-linear",
            "rank_pattern": {"layers.3.mlp.down_proj": 2}, "alpha_pattern": {"o_proj": 3},
        },
    }.items():
        model = get_peft_model(bench.base(), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
        folder = bench.work / "from-peft" / name.replace(" ", "-").replace(",", "")
        model.save_pretrained(folder)
        expected = bench.python_logits(model)
        yield f"adapter PEFT → Graft: {name}", difference(bench.graft_logits(MODEL, folder), expected), LOGITS_TOLERANCE

        merged = bench.work / f"merged-{len(settings)}"
        bench.graft.merge(MODEL, folder, merged)
        from transformers_models import load_model

        ours = load_model(merged, torch.float32, attn_implementation="eager")
        theirs = model.merge_and_unload()
        yield f"merged weights: {name}", weight_difference(ours, theirs), 1e-6
        yield f"merged by Graft, read by transformers: {name}", difference(bench.python_logits(ours), expected), LOGITS_TOLERANCE


def weight_difference(ours, theirs) -> float:
    """The largest difference of any weight; NaN when the two have other tensors."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    if set(ours) != set(theirs):
        return float("nan")
    return max((ours[name].float() - theirs[name].float()).abs().max().item() for name in theirs)


def training_configuration(folder: Path, dtype: str) -> Path:
    """What Graft trains on the rows, which are written beside it."""
    (folder / "train.json").write_text(json.dumps(ROWS[: STEPS * BATCH]))
    configuration = folder / "train.yaml"
    configuration.write_text(json.dumps({  # JSON is YAML
        "model_name_or_path": str(MODEL), "train_file": str(folder / "train.json"), "dtype": dtype, "device": "cpu",
        "prompt_column": "question", "response_column": "answer", "lora_dropout": 0.0, "max_length": 512,
        "per_device_train_batch_size": BATCH, "max_steps": STEPS, "train_sampling_strategy": "sequential",
        "logging_steps": 1, "save_strategy": "no", **LORA, **TRAINING,
    }))
    return configuration


def training(bench: Bench):
    """Ten steps of the same rows from the same initial adapter, in Graft and in Trainer + PEFT; then the adapter."""
    import torch
    from peft import PeftModel

    folder = bench.work / "training"
    folder.mkdir()
    configuration = training_configuration(folder, "float32")

    # A learning rate this small leaves every fp32 weight as it was: the adapter that is saved is the initial one.
    bench.graft.train(
        configuration,
        {"output_dir": str(folder / "init"), "max_steps": 1, "warmup_steps": 0, "learning_rate": 1e-30})
    bench.graft.train(configuration, {"output_dir": str(folder / "graft")})
    ours = metrics(folder / "graft")
    yield "training: steps recorded, missing", abs(STEPS - len(ours)), 0

    rows, variant = supervised_rows(bench, ours[-1]["supervised_tokens"])
    if rows is None:
        yield "training: supervised tokens", None, (
            f"Graft counts {ours[-1]['supervised_tokens']}; the template gives {variant} (with and without what follows "
            "the end of the turn)"
        )
        return
    yield f"training: supervised tokens, {variant}", 0, 0
    theirs, model = peft_training(bench, folder, rows)
    for key, tolerance in (("loss", LOSS_TOLERANCE), ("grad_norm", NORM_TOLERANCE), ("learning_rate", 1e-6)):
        worst = max(abs(one[key] - other[key]) / max(abs(other[key]), 1e-12) for one, other in zip(ours, theirs))
        yield f"training: {key} of {len(theirs)} steps", worst, tolerance
    if not any(record["loss"] < 0.9 * ours[0]["loss"] for record in ours):
        yield "training: the loss falls", None, "no step's loss is a tenth below the first one's"

    loaded = PeftModel.from_pretrained(bench.base(), folder / "graft").eval()
    expected = bench.python_logits(loaded)
    yield "adapter Graft → PEFT: logits", difference(bench.graft_logits(MODEL, folder / "graft"), expected), LOGITS_TOLERANCE
    change = difference(expected, bench.python_logits(bench.base()))
    if not change > 1e-3:
        yield "adapter Graft → PEFT: not the base", None, f"the trained adapter moves the logits by {change:.1e} only"
    # Ten steps apart, the two adapters are still the same model.
    yield "adapter of Graft against the one of Trainer", difference(bench.python_logits(model.eval()), expected), 2e-2
    for text, wrong, note in mismatches(bench, loaded, folder / "graft"):
        yield f"greedy tokens with adapter: {text}{note}", wrong, 0


def supervised_rows(bench: Bench, counted: int):
    """Tokens and labels by the chat template. The template ends a turn with <|im_end|> and a line break; whether that
    line break carries loss is a convention, so the variant with Graft's count is taken."""
    end, variants = bench.tokenizer.convert_tokens_to_ids("<|im_end|>"), {}
    for name in ("up to the end of the turn", "with the line break after it"):
        rows = []
        for row in ROWS[: STEPS * BATCH]:
            prompt = bench.prompt(row["question"])
            messages = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
            tokens = bench.tokenizer.apply_chat_template(messages, return_dict=False)
            assert tokens[: len(prompt)] == prompt
            labels = [IGNORED] * len(prompt) + tokens[len(prompt):]
            if name.startswith("up to"):
                last = len(tokens) - 1 - tokens[::-1].index(end)
                labels[last + 1:] = [IGNORED] * (len(tokens) - last - 1)
            rows.append({"input_ids": tokens, "labels": labels})
        variants[name] = rows
    counts = {}
    for name, rows in variants.items():
        counts[name] = sum(label != IGNORED for row in rows for label in row["labels"][1:])
        if counts[name] == counted:
            return rows, name
    return None, counts


def training_bf16(bench: Bench):
    """The same ten steps in bf16: how far the losses are from those that PEFT has in fp32, beside PEFT's own bf16."""
    folder = bench.work / "training-bf16"
    folder.mkdir()
    configuration = training_configuration(folder, "bfloat16")
    # The initial adapter, as in `training`: its seed is the same for every type.
    bench.graft.train(
        configuration,
        {"output_dir": str(folder / "init"), "max_steps": 1, "warmup_steps": 0, "learning_rate": 1e-30})
    bench.graft.train(configuration, {"output_dir": str(folder / "graft")})
    ours = metrics(folder / "graft")
    rows, variant = supervised_rows(bench, ours[-1]["supervised_tokens"])
    if rows is None:
        yield "training, bf16: supervised tokens", None, f"{ours[-1]['supervised_tokens']}, and by the template {variant}"
        return
    exact, _ = peft_training(bench, folder, rows)
    theirs, _ = peft_training(bench, folder, rows, "bfloat16")

    def distances(records):
        return [abs(one["loss"] - other["loss"]) for one, other in zip(records, exact, strict=True)]

    ours, theirs = distances(ours), distances(theirs)
    yield "training, bf16: mean distance from fp32, allowed: PEFT's", sum(ours) / len(ours), sum(theirs) / len(theirs)
    yield "training, bf16: largest distance, allowed: PEFT's", max(ours), max(theirs)


def peft_training(bench: Bench, folder: Path, rows, dtype: str = "float32"):
    import torch
    from peft import PeftModel
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    records = []

    class Record(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                records.append(dict(logs))

    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def pad(batch):
        width = max(len(row["input_ids"]) for row in batch)
        filler = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}
        batch = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in batch]
        return {
            key: torch.tensor([row[key] + [value] * (width - len(row[key])) for row in batch])
            for key, value in filler.items()
        }

    model = PeftModel.from_pretrained(bench.base(dtype), folder / "init", is_trainable=True)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), use_cpu=True, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, optim="adamw_torch", remove_unused_columns=False, label_names=["labels"], max_steps=STEPS,
        per_device_train_batch_size=BATCH, bf16=dtype == "bfloat16", **TRAINING,
    )
    quiet = open(os.devnull, "w")
    stdout, sys.stdout = sys.stdout, quiet  # Trainer prints its logs
    try:
        InOrder(model=model, args=arguments, train_dataset=rows, data_collator=pad, callbacks=[Record()]).train()
    finally:
        sys.stdout = stdout
        quiet.close()
    return records, model


CHECKS = [logits, generation, peft_to_graft, training, training_bf16]

if __name__ == "__main__":
    sys.exit(main())
