#!/usr/bin/env python3
"""Make master_copies.json: full fine-tuning of a tiny model in bf16 by PyTorch, with fp32 master copies and without.

    python make_master_copies.py        needs torch 2.15, transformers 5.23

    base, learning_rate, weight_decay, rows (input_ids and labels), batch (rows a step, in file order)
    masters    losses of ten steps: weights in bf16, copies of them in fp32 that torch.optim.AdamW changes and that are rounded into the weights
    nearest    the same with AdamW on the bf16 weights themselves, which are then rounded to the nearest
    single     the same in fp32 throughout
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import make_trajectories as trajectories

HERE = Path(__file__).resolve().parent
BASE, STEPS, BATCH = "llama-grouped-query", 10, 4
SETTINGS = {"learning_rate": 2e-4, "weight_decay": 0.1}


def run(rows, dtype, masters: bool):
    model = AutoModelForCausalLM.from_pretrained(trajectories.BASES / BASE, dtype=torch.float32, attn_implementation="eager")
    # From the same numbers, which are bf16's in each case.
    model = model.to(torch.bfloat16).to(dtype)
    named = list(model.named_parameters())
    trained = [(name, parameter.detach().float().clone() if masters else parameter) for name, parameter in named]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for name, p in trained if "norm" not in name], "weight_decay": SETTINGS["weight_decay"]},
            {"params": [p for name, p in trained if "norm" in name], "weight_decay": 0.0},
        ],
        lr=SETTINGS["learning_rate"],
    )
    losses = []
    for step in range(STEPS):
        window = rows[step * BATCH : (step + 1) * BATCH]
        tokens = sum(label != -100 for row in window for label in row["labels"][1:])
        sums = [torch.zeros_like(parameter, dtype=torch.float32) for _, parameter in named]
        total = 0.0
        for row in window:
            logits = model(torch.tensor([row["input_ids"]])).logits[0].float()
            loss = F.cross_entropy(logits[:-1], torch.tensor(row["labels"])[1:], ignore_index=-100, reduction="sum") / tokens
            loss.backward()
            total += loss.item()
            for gradient, (_, parameter) in zip(sums, named):
                gradient += parameter.grad.float()
                parameter.grad = None
        norm = torch.stack([gradient.norm() for gradient in sums]).norm()
        for gradient, (_, target) in zip(sums, trained):
            target.grad = (gradient * min(1.0, 1.0 / (norm.item() + 1e-6))).to(target.dtype)
        optimizer.step()
        optimizer.zero_grad()
        if masters:
            with torch.no_grad():
                for (_, parameter), (_, master) in zip(named, trained):
                    parameter.copy_(master)
        losses.append(total)
    return losses


def main() -> None:
    torch.set_num_threads(1)
    # The same rows again and again: a loss that falls falls far.
    rows = trajectories.make_rows(BATCH, seed=21) * STEPS
    document = {
        "base": BASE, "batch": BATCH, **SETTINGS, "rows": rows[:BATCH],
        "masters": run(rows, torch.bfloat16, masters=True), "nearest": run(rows, torch.bfloat16, masters=False),
        "single": run(rows, torch.float32, masters=False),
    }
    (HERE / "master_copies.json").write_text(json.dumps(document, indent=1) + "\n")
    for name in ("masters", "nearest", "single"):
        print(f"{name:8}", " ".join(f"{loss:.5f}" for loss in document[name]))


if __name__ == "__main__":
    main()
