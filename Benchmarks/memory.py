#!/usr/bin/env python3
"""`graft plan` beside the peak that the system counts, over a table of configurations.

    Benchmarks/memory.py MODEL [--steps 3] [--threads 2]

For each configuration: rows of words as long as max_length, the plan, then a run of a few steps in a process of its own, whose peak
resident memory is measured from outside. Prints a table in Markdown.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = "the model reads a row of words and learns which one comes next from all that came before it".split()
ATTENTION, LINEAR = "[q_proj, k_proj, v_proj, o_proj]", "all-linear"
# batch, max_length, rank, targets, further lines
CONFIGURATIONS = [
    (8, 512, 8, ATTENTION, {}),
    (4, 512, 8, ATTENTION, {}),
    (8, 256, 64, LINEAR, {}),
    (8, 512, 8, ATTENTION, {"gradient_checkpointing": "true"}),
    (4, 512, 16, LINEAR, {"lora_dropout": "0.1"}),
    (2, 1024, 8, LINEAR, {"gradient_checkpointing": "true"}),
]


def rows(path: Path, words: int) -> None:
    generator = random.Random(1)
    with path.open("w") as file:
        for _ in range(64):
            text = [generator.choice(WORDS) for _ in range(words)]
            half = len(text) // 2
            json.dump({"prompt": " ".join(text[:half]), "completion": " " + " ".join(text[half:])}, file)
            file.write("\n")


def graft(*arguments: str) -> tuple[str, int]:
    """Output and peak resident memory."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.close(read)
        os.execv(ROOT / "bin/graft", ["graft", *arguments])
    os.close(write)
    with os.fdopen(read) as stream:
        output = stream.read()
    _, status, usage = os.wait4(child, 0)
    if status not in (0, 256):
        sys.exit(f"graft {' '.join(arguments)} failed")
    return output, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("| batch × length | r, targets | further | planned | measured | |\n|---|---|---|---|---|---|")
    for batch, length, rank, targets, further in CONFIGURATIONS:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "rows.jsonl"
            rows(data, length + 16)
            config = Path(folder) / "run.yaml"
            lines = {
                "model_name_or_path": options.model, "train_file": data, "output_dir": f"{folder}/run", "bf16": "true",
                "max_length": length, "per_device_train_batch_size": batch, "r": rank, "target_modules": targets,
                "max_steps": options.steps, "save_strategy": "no", "report_to": "none", "num_threads": options.threads,
            } | further
            config.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
            plan = json.loads(graft("plan", str(config), "--json")[0])
            peak = graft("train", str(config))[1]
            extra = ", ".join(f"{key}: {value}" for key, value in further.items())
            print(
                f"| {batch} × {length} | {rank}, {'all linear' if targets == LINEAR else 'attention'} | {extra} "
                f"| {plan['total'] / 1e9:.2f} GB | {peak / 1e9:.2f} GB | {100 * (plan['total'] / peak - 1):+.0f} % |",
                flush=True,
            )
            print(
                " ".join(f"{key} {plan[key] / 1e6:.0f}" for key in ("weights", "activations", "workspace", "program")),
                file=sys.stderr,
            )


if __name__ == "__main__":
    main()
