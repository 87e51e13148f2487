#!/usr/bin/env python3
"""Training over a base in every form that it can be held in: tokens/s and peak memory, as a table in Markdown.

    Benchmarks/storages.py MODEL_FOLDER --data train.json [--gguf MODEL.gguf] [--steps 3] [--rounds 1] [--threads 2]

Each run is a process of its own, whose peak resident memory is what the kernel reports of it; the forms take turns. LoRA r = 8 on q,
k, v, o; the first step is not counted. The rows are JSON with `question` and `answer`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORMS = {
    "bf16": {},
    "NF4": {"load_in_4bit": True},
    "NF4, double quantization": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}
PACKED = {"GGUF, packed": {"gguf_packed": True}}


def train(program: Path, configuration: dict, folder: Path) -> tuple[float, float]:
    """Tokens/s after the first step, and peak memory in GB."""
    file = folder / "run.yaml"
    file.write_text(json.dumps(configuration | {"output_dir": str(folder / "run")}))
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(program, ["graft", "train", str(file)])
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        sys.exit(f"graft train left with status {os.waitstatus_to_exitcode(status)}: {configuration}")
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], [line for line in lines if "loss" in line][-1]
    rate = (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])
    return rate, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--program", type=Path, default=ROOT / "bin" / "graft")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--forms", nargs="+", choices=[*FORMS, *PACKED], default=[*FORMS, *PACKED])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=JSON", help="further keys of the configuration")
    options = parser.parse_args()
    forms = {name: (options.model, keys) for name, keys in FORMS.items()}
    if options.gguf:
        forms |= {name: (options.gguf, keys) for name, keys in PACKED.items()}
    forms = {name: form for name, form in forms.items() if name in options.forms}

    further = {key: json.loads(value) for key, value in (setting.split("=", 1) for setting in options.set)}

    results = {name: [] for name in forms}
    for _ in range(options.rounds):
        for name, (model, keys) in forms.items():
            print(name, file=sys.stderr, flush=True)
            configuration = {
                "model_name_or_path": str(model.absolute()), "train_file": str(options.data.absolute()), "bf16": True,
                "prompt_column": "question", "response_column": "answer", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0,
                "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "max_length": 512,
                "per_device_train_batch_size": 8, "max_steps": options.steps, "learning_rate": 2e-4,
                "train_sampling_strategy": "sequential", "logging_steps": 1, "save_strategy": "no",
                "num_threads": options.threads, "dtype": "bfloat16",
            } | keys | further
            with tempfile.TemporaryDirectory() as folder:
                results[name].append(train(options.program, configuration, Path(folder)))
    print("| base | tokens/s | peak memory |\n|---|---|---|")
    for name, runs in results.items():
        rate, peak = (statistics.median(values) for values in zip(*runs))
        print(f"| {name} | {rate:.0f} | {peak:.2f} GB |")


if __name__ == "__main__":
    main()
