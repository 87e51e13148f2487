#!/usr/bin/env python3
"""Memory and time of the start of a run on a large data set: rows in memory, rows in a token cache that is made, and in one that is there.

    Benchmarks/large_data.py MODEL [--rows 100000 1000000] [--threads 2]

Rows are short sentences, trained one a step for two steps, so that what is measured is the data and not the training. Each run is a
process of its own; its peak resident memory is what the kernel reports. The peak counts pages of mapped files too.
Prints a table in Markdown.
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


def write_rows(path: Path, count: int) -> None:
    generator = random.Random(1)
    with path.open("w") as file:
        for index in range(count):
            words = generator.choices(WORDS, k=generator.randint(8, 24))
            file.write(json.dumps({"prompt": f"Row {index}:", "completion": " " + " ".join(words)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--graft", type=Path, default=ROOT / "bin" / "graft")
    arguments = parser.parse_args()
    graft = Graft(arguments.graft, arguments.threads)

    print("| rows | | to the first step | peak memory | on disk |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="graft-large-data-") as name:
        work = Path(name)
        environment = {**graft.environment, "XDG_CACHE_HOME": str(work / "cache")}
        for count in arguments.rows:
            rows = work / f"{count}.jsonl"
            write_rows(rows, count)
            configuration = work / "train.yaml"
            configuration.write_text(json.dumps({
                "model_name_or_path": str(arguments.model.absolute()), "train_file": str(rows), "device": "cpu",
                "num_threads": arguments.threads, "max_length": 64, "per_device_train_batch_size": 1, "max_steps": 2,
                "logging_steps": 1, "save_strategy": "no", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"],
            }))
            for title, cached in (("in memory", False), ("cache made", True), ("cache there", True)):
                output = work / f"{count} {title}"
                command = graft.train_command(configuration, {"output_dir": str(output), "token_cache": cached})
                try:
                    seconds, peak = measured_run(command, output, environment)
                except CommandFailed as error:
                    sys.exit(str(error))
                if seconds is None:
                    sys.exit(f"`{' '.join(command)}` wrote no metrics")
                disk = sum(file.stat().st_size for file in (work / "cache").rglob("*.tokens")) if cached else 0
                print(f"| {count:,} | {title} | {seconds:.1f} s | {peak / 1e9:.2f} GB | {disk / 1e9:.2f} GB |", flush=True)
            for file in (work / "cache").rglob("*.tokens"):
                file.unlink()


if __name__ == "__main__":
    main()
