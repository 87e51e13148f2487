#!/usr/bin/env python3
"""Make classification/: sequence classifiers of transformers with adapters of PEFT, their logits, and short trainings.

    PYTHONHASHSEED=0 python make_classification.py        needs torch 2.15, transformers 5.23, peft 0.21

    base-NAME/             a classifier as transformers saves one, and expected.safetensors with its logits
    NAME/                  an adapter as PEFT saves it (task_type SEQ_CLS), with values that are nobody's start
        expected.json
            base           the folder in Tests/ModelsTests/Fixtures: a language model, which gets a new head
            num_labels, problem_type
            trainable      the names of the trainable parameters, without the adapter's name
            line           what print_trainable_parameters() prints
        expected.safetensors
            input_ids.I        int64 [T]        sequence I, run alone and unpadded
            logits.I           float32 [labels] base + adapter
            merged_logits.I    the same after merge_and_unload(); absent where it refuses
        training.json      (some) ten AdamW steps from the adapter: rows (input_ids, label), the row indices of each step,
                           learning_rate and the losses, each the mean over the step's rows
        training.safetensors   the trained values at the end, by the names of the adapter's file

    new-head.safetensors   `score.weight` as transformers initialises it right after torch.manual_seed(7)

Rows are run alone: transformers pools the last row of padded batches under prompt methods, which would be padding.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import (
    AdaLoraConfig, BOFTConfig, IA3Config, LNTuningConfig, LoHaConfig, LoKrConfig,
    LoraConfig, OFTConfig, PeftModel, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, VeraConfig,
    get_peft_model, set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

HERE = Path(__file__).resolve().parent
ROOT = HERE / "classification"
BASES = HERE.parent.parent / "ModelsTests" / "Fixtures"
sys.path.insert(0, str(HERE.parent.parent / "AdaptersTests" / "Fixtures"))
from method_fixtures import key, random_tokens, randomize, trainable_line  # noqa: E402

LLAMA, QWEN2, TIED = "llama-grouped-query", "qwen2-grouped-query", "llama-multi-head-tied"
SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"

# name → (base, problem type, labels, configuration, whether it is trained)
CASES = {
    "lora-llama": (LLAMA, SINGLE, 3, LoraConfig(r=4, lora_alpha=8), True),
    "lora-qwen2": (QWEN2, MULTI, 4, LoraConfig(r=2, target_modules="all-linear"), True),
    "lora-tied": (TIED, REGRESSION, 1, LoraConfig(r=4, modules_to_save=["norm"]), True),
    "dora-qwen2": (QWEN2, SINGLE, 2, LoraConfig(r=4, use_dora=True), False),
    "ia3-llama": (LLAMA, REGRESSION, 2, IA3Config(), True),
    "ia3-qwen2": (QWEN2, SINGLE, 5, IA3Config(), True),
    "prompt-tuning-llama": (LLAMA, SINGLE, 3, PromptTuningConfig(num_virtual_tokens=5), True),
    "prompt-tuning-qwen2": (QWEN2, REGRESSION, 1, PromptTuningConfig(num_virtual_tokens=3), True),
    "p-tuning-llama": (LLAMA, SINGLE, 2, PromptEncoderConfig(num_virtual_tokens=4), False),
    "prefix-tuning-qwen2": (QWEN2, SINGLE, 3, PrefixTuningConfig(num_virtual_tokens=4), True),
    "adalora-qwen2": (QWEN2, SINGLE, 3, AdaLoraConfig(init_r=4, target_r=2, total_step=20), False),
    "ln-tuning-llama": (LLAMA, SINGLE, 3, LNTuningConfig(), False),
    "vera-llama": (LLAMA, SINGLE, 3, VeraConfig(r=8, target_modules=["q_proj", "o_proj"]), False),
    "loha-qwen2": (QWEN2, SINGLE, 3, LoHaConfig(r=4, target_modules=["q_proj", "v_proj"]), False),
    "lokr-llama": (LLAMA, SINGLE, 3, LoKrConfig(r=4, target_modules=["q_proj", "v_proj"]), False),
    "oft-qwen2": (QWEN2, SINGLE, 3, OFTConfig(oft_block_size=8), False),
    "boft-llama": (LLAMA, SINGLE, 3, BOFTConfig(boft_block_size=4), False),
}


def load_base(name: str, labels: int, problem: str | None = None):
    torch.manual_seed(7)
    model = AutoModelForSequenceClassification.from_pretrained(
        BASES / name, num_labels=labels, problem_type=problem, dtype=torch.float32, attn_implementation="eager",
    ).eval()
    model.config._name_or_path = model.name_or_path = name
    return model


def logits(model, batch):
    with torch.no_grad():
        return [model(tokens[None]).logits[0].float().clone() for tokens in batch]


def make_rows(count: int, problem: str, labels: int, generator: torch.Generator):
    rows = []
    for _ in range(count):
        length = int(torch.randint(3, 18, (1,), generator=generator))
        if problem == SINGLE:
            label = [int(torch.randint(0, labels, (1,), generator=generator))]
        elif problem == MULTI:
            label = torch.randint(0, 2, (labels,), generator=generator).float().tolist()
        else:
            label = [round(value, 3) for value in torch.randn(labels, generator=generator).tolist()]
        rows.append({"input_ids": random_tokens(length, generator).tolist(), "label": label})
    return rows


def target(row, problem: str):
    if problem == SINGLE:
        return torch.tensor(row["label"])
    return torch.tensor([row["label"]], dtype=torch.float32)


def train(model, rows, batches, problem: str, rate: float):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        total = 0.0
        for index in batch:
            ids = torch.tensor([rows[index]["input_ids"]])
            loss = model(ids, labels=target(rows[index], problem)).loss / len(batch)
            loss.backward()
            total += loss.item()
        optimizer.step()
        losses.append(total)
    return losses


def saved_tensors(model, scratch: Path):
    model.save_pretrained(scratch)
    tensors = load_file(scratch / "adapter_model.safetensors")
    shutil.rmtree(scratch)
    return tensors


def make_case(number: int, name: str, base: str, problem: str, labels: int, config, trained: bool) -> None:
    folder = ROOT / name
    folder.mkdir(parents=True)
    config.task_type = "SEQ_CLS"
    generator = torch.Generator().manual_seed(number)
    batch = [random_tokens(length, generator) for length in (6, 17)]
    model = get_peft_model(load_base(base, labels, problem), config).eval()
    facts = {
        "base": base, "num_labels": labels, "problem_type": problem,
        "trainable": [key(n) for n, p in model.named_parameters() if p.requires_grad],
        "line": trainable_line(model),
    }
    randomize(model, 1000 + number)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()

    loaded = PeftModel.from_pretrained(load_base(base, labels, problem), folder).eval()
    expected = {f"input_ids.{i}": tokens for i, tokens in enumerate(batch)}
    for i, value in enumerate(logits(loaded, batch)):
        expected[f"logits.{i}"] = value
    try:
        merged = loaded.merge_and_unload()
    except (AttributeError, ValueError, NotImplementedError):
        merged = None  # prompt methods have nothing to merge
    if merged is not None:
        for i, value in enumerate(logits(merged, batch)):
            expected[f"merged_logits.{i}"] = value
    save_file(expected, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")

    if trained:
        rows = make_rows(20, problem, labels, generator)
        batches = [list(range(2 * step, 2 * step + 2)) for step in range(10)]
        # PeftModel.from_pretrained refuses prompt methods that are to be trained further.
        config.inference_mode = False
        model = get_peft_model(load_base(base, labels, problem), config)
        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        losses = train(model, rows, batches, problem, 1e-2)
        document = {"learning_rate": 1e-2, "rows": rows, "batches": batches, "losses": losses}
        (folder / "training.json").write_text(json.dumps(document) + "\n")
        start = load_file(folder / "adapter_model.safetensors")
        final = saved_tensors(model, folder / "scratch")
        moved = min((final[n] - start[n]).abs().max().item() for n in final)
        assert moved > 1e-3, (name, moved)
        save_file(final, folder / "training.safetensors")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name:24} {size:7d} bytes  {facts['line']}")


def make_base(name: str, source: str, labels: dict[int, str], problem: str) -> None:
    folder = ROOT / f"base-{name}"
    model = AutoModelForSequenceClassification.from_pretrained(
        BASES / source, id2label=labels, label2id={v: k for k, v in labels.items()}, problem_type=problem,
        dtype=torch.float32, attn_implementation="eager",
    ).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator))
    model.save_pretrained(folder)
    batch = [random_tokens(length, generator) for length in (6, 17, 1)]
    expected = {f"input_ids.{i}": tokens for i, tokens in enumerate(batch)}
    for i, value in enumerate(logits(model, batch)):
        expected[f"logits.{i}"] = value
    # The same in one padded batch: pooled at the last token that is no padding.
    model.config.pad_token_id = 0
    padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=0)
    together = model(padded, attention_mask=(padded != 0).long()).logits
    for i, row in enumerate(together):
        assert (row - expected[f"logits.{i}"]).abs().max() < 1e-5
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    for number, (name, case) in enumerate(CASES.items()):
        make_case(number, name, *case)
    make_base("llama", LLAMA, {0: "no", 1: "yes"}, SINGLE)
    make_base("qwen2", QWEN2, {0: "politics", 1: "sport", 2: "weather"}, MULTI)
    head = load_base(LLAMA, 3).score.weight.detach().clone()
    save_file({"score.weight": head}, ROOT / "new-head.safetensors")
