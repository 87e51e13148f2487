#!/usr/bin/env python3
"""`graft plan` beside the peak that the system counts, over a table of configurations.

    Benchmarks/memory.py MODEL [--gguf MODEL.gguf] [--steps 3] [--threads 2]

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
sys.path.insert(0, str(ROOT / "Scripts"))
from graft_commands import CommandFailed, Graft, measured_run

WORDS = "the model reads a row of words and learns which one comes next from all that came before it".split()
ATTENTION, LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj"], "all-linear"
# batch, max_length, rank and targets of LoRA, if any, further keys
CONFIGURATIONS = [
    (8, 512, 8, ATTENTION, {}),
    (4, 512, 8, ATTENTION, {}),
    (8, 256, 64, LINEAR, {}),
    (8, 512, 8, ATTENTION, {"gradient_checkpointing": True}),
    (4, 512, 16, LINEAR, {"lora_dropout": 0.1}),
    (2, 1024, 8, LINEAR, {"gradient_checkpointing": True}),
    (8, 512, 8, ATTENTION, {"load_in_4bit": True}),
    (8, 512, 8, ATTENTION, {"load_in_4bit": True, "bnb_4bit_use_double_quant": True}),
    (8, 512, 8, ATTENTION, {"load_in_8bit": True}),
    (8, 512, None, None, {"peft_method": "full"}),
    (8, 512, None, None, {"peft_method": "full", "optim": "adamw_8bit", "stochastic_rounding": True}),
]
# Of the GGUF file.
PACKED = [
    (8, 512, 8, ATTENTION, {"gguf_packed": True}),
    (8, 512, 8, ATTENTION, {"gguf_packed": True, "gradient_checkpointing": True}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--gguf", type=Path, help="the same model as a GGUF file, for the packed forms")
    parser.add_argument("--graft", type=Path, default=ROOT / "bin" / "graft", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    graft = Graft(arguments.graft.absolute(), arguments.threads)
    table = [(arguments.model, each) for each in CONFIGURATIONS]
    if arguments.gguf:
        table += [(arguments.gguf, each) for each in PACKED]
    print("| batch × length | r, targets | further | planned | measured | |\n|---|---|---|---|---|---|")
    for model, (batch, length, rank, targets, further) in table:
        with tempfile.TemporaryDirectory(prefix="graft-memory-") as name:
            folder = Path(name)
            write_rows(folder / "rows.jsonl", length + 16)
            configuration = folder / "run.yaml"
            adapter = {"r": rank, "target_modules": targets} if targets else {}
            configuration.write_text(json.dumps({  # JSON is YAML
                "model_name_or_path": str(model.absolute()), "train_file": str(folder / "rows.jsonl"), "bf16": True,
                "max_length": length, "per_device_train_batch_size": batch, "max_steps": arguments.steps,
                "save_strategy": "no", "report_to": "none", "num_threads": arguments.threads,
            } | adapter | further))
            try:
                plan = json.loads(graft.run("plan", configuration, "--json"))
                command = graft.train_command(configuration, {"output_dir": str(folder / "run")})
                peak = measured_run(command, folder / "run", graft.environment)[1]
            except CommandFailed as error:
                sys.exit(str(error))
        extra = ", ".join(f"{key}: {json.dumps(value)}" for key, value in further.items())
        trained = f"{rank}, {'all linear' if targets == LINEAR else 'attention'}" if targets else "all weights"
        print(
            f"| {batch} × {length} | {trained} | {extra} "
            f"| {plan['total'] / 1e9:.2f} GB | {peak / 1e9:.2f} GB | {100 * (plan['total'] / peak - 1):+.0f} % |",
            flush=True,
        )
        parts = ("weights", "activations", "workspace", "program")
        print(" ".join(f"{key} {plan[key] / 1e6:.0f}" for key in parts), file=sys.stderr)


def write_rows(path: Path, words: int) -> None:
    generator = random.Random(1)
    with path.open("w") as file:
        for _ in range(64):
            text = [generator.choice(WORDS) for _ in range(words)]
            half = len(text) // 2
            json.dump({"prompt": " ".join(text[:half]), "completion": " " + " ".join(text[half:])}, file)
            file.write("\n")


if __name__ == "__main__":
    main()
