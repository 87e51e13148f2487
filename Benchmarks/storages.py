#!/usr/bin/env python3
"""Training over a base in every form that it can be held in: speed, memory and what was learned, as a table in Markdown.

    Benchmarks/storages.py FOLDER --data train.json [--gguf MODEL.gguf] [--steps 3] [--rounds 1] [--threads 2]
                           [--validation val.json --validation-rows 200] [--generate]

Each run is a process of its own, whose peak resident memory is what the kernel reports of it; the forms take turns. LoRA r = 8 on q,
k, v, o; the first step is not counted in tokens/s. With --validation the adapter of the first round is measured on these rows over
the base in the same form: the loss and, with --generate, the share of answers that match exactly. --set changes any key of the run.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Scripts"))
from graft_commands import CommandFailed, Graft, measured_run, metrics

FORMS = {
    "bf16": {},
    "NF4": {"load_in_4bit": True},
    "NF4, double quantization": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
    "int8, products of bytes": {"load_in_8bit": True, "int8_matmul": True},
}
PACKED = {"GGUF, packed": {"gguf_packed": True}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--gguf", type=Path, help="the same model as a GGUF file, to train on its blocks")
    parser.add_argument("--data", type=Path, required=True, help="rows to train on")
    parser.add_argument("--validation", type=Path, help="rows to measure the adapter on")
    parser.add_argument("--validation-rows", type=int, default=200)
    parser.add_argument("--generate", action="store_true", help="answer the validation rows too")
    parser.add_argument("--graft", type=Path, default=ROOT / "bin" / "graft", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--forms", nargs="+", choices=[*FORMS, *PACKED], default=[*FORMS, *PACKED])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=JSON", help="further keys of the configuration")
    arguments = parser.parse_args()
    bases = {name: (arguments.model, keys) for name, keys in FORMS.items()}
    if arguments.gguf:
        bases |= {name: (arguments.gguf, keys) for name, keys in PACKED.items()}
    bases = {name: base for name, base in bases.items() if name in arguments.forms}

    graft = Graft(arguments.graft.absolute(), arguments.threads)
    results = {name: [] for name in bases}
    with tempfile.TemporaryDirectory(prefix="graft-storages-") as work:
        try:
            for round_ in range(arguments.rounds):
                for name, (model, keys) in bases.items():
                    print(f"{name}, round {round_ + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
                    run = Path(work) / f"{name}-{round_}"
                    results[name].append(train(graft, model, keys, run, arguments))
                    if round_ == 0 and arguments.validation:
                        results[name][0] |= evaluate(graft, model, keys, run, arguments)
        except CommandFailed as error:
            sys.exit(str(error))
    print_table(results)


def train(graft: Graft, model: Path, keys: dict, run: Path, arguments) -> dict:
    """Tokens/s after the first step, and peak memory in GB."""
    configuration = run.with_suffix(".yaml")
    further = {key: json.loads(value) for key, value in (setting.split("=", 1) for setting in arguments.set)}
    configuration.write_text(json.dumps({  # JSON is YAML
        "model_name_or_path": str(model.absolute()), "train_file": str(arguments.data.absolute()), "dtype": "bfloat16",
        "r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "max_length": 512, "per_device_train_batch_size": 8, "max_steps": arguments.steps, "learning_rate": 2e-4,
        "train_sampling_strategy": "sequential", "logging_steps": 1, "save_strategy": "no", "num_threads": arguments.threads,
    } | keys | further))
    _, peak = measured_run(graft.train_command(configuration, {"output_dir": str(run)}), run, graft.environment)
    records = metrics(run)
    first, last = records[0], records[-1]
    return {"rate": (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]), "peak": peak / 1e9}


def evaluate(graft: Graft, model: Path, keys: dict, adapter: Path, arguments) -> dict:
    """Loss on the validation rows and, when asked for, the share of exact answers."""
    # How products are computed is the training's business.
    flags = [f"--{key.replace('_', '-')}" for key in keys if key != "int8_matmul"]
    if arguments.generate:
        flags += ["--generate", "--max-new-tokens", 48, "--batch-size", 20]
    report = json.loads(graft.run(
        "evaluate", model, arguments.validation, "--adapter", adapter, "--dtype", "bfloat16", "--max-length", 512,
        "--max-samples", arguments.validation_rows, "--json", *flags))
    return {key: report[key] for key in ("loss", "exact_match") if report.get(key) is not None}


def print_table(results: dict) -> None:
    """The forms beside the first of them."""
    columns = ["base", "tokens/s", f"of {next(iter(results))}", "peak memory"]
    measured = next(iter(results.values()))[0]
    columns += [title for key, title in (("loss", "validation loss"), ("exact_match", "exact match")) if key in measured]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    rates = {name: statistics.median(run["rate"] for run in runs) for name, runs in results.items()}
    for name, runs in results.items():
        cells = [name, f"{rates[name]:.0f}", f"{rates[name] / next(iter(rates.values())):.2f}"]
        cells.append(f"{statistics.median(run['peak'] for run in runs):.2f} GB")
        if "loss" in measured:
            cells.append(f"{runs[0]['loss']:.4f}")
        if "exact_match" in measured:
            cells.append(f"{runs[0]['exact_match']:.1f} %")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
