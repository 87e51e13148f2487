#!/usr/bin/env python3
"""Train every method of the catalogue on the demo's data set and write what each came to into docs/methods.md.

    make methods
    Scripts/methods.py [--model FILE] [--steps 188] [--rows 200] [--only lora,ia3 …] [--output runs/methods] [--dry-run]

All runs have the same base (SmolLM2-135M-Instruct), rows, order of the rows, batch, schedule and number of steps; the
learning rate is each method's own, since what moves differs by orders of magnitude. Measured are: trainable parameters,
exact match and loss on the demo's test, training tokens per second, peak memory of the training process, and the size of
what is saved. A method that already has a result in --output with the same settings is not run again. --dry-run prints
the table instead of writing it. Standard library only.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from graft_commands import REPOSITORY, CommandFailed, Graft, metrics

DEMO = REPOSITORY / "examples" / "demo"
DOCUMENT = REPOSITORY / "docs" / "methods.md"
BEGIN, END = "<!-- methods.py: begin -->", "<!-- methods.py: end -->"
ALL = {"target_modules": "all-linear"}

# name in the table → peft_method and its options, and the learning rate where it is not the demo's
METHODS = {
    "LoRA": {"peft_method": "lora", "r": 16, "lora_alpha": 32, **ALL},
    "DoRA": {"peft_method": "lora", "r": 16, "lora_alpha": 32, "use_dora": True, **ALL},
    "rsLoRA": {"peft_method": "lora", "r": 64, "lora_alpha": 16, "use_rslora": True, **ALL},
    "PiSSA": {"peft_method": "lora", "r": 16, "lora_alpha": 16, "init_lora_weights": "pissa_niter_4", **ALL, "learning_rate": 5e-4},
    "AdaLoRA": {"peft_method": "adalora", "init_r": 24, "target_r": 16, "lora_alpha": 48, "tinit": 20, "tfinal": 60, "deltaT": 5,
                "orth_reg_weight": 0.1, **ALL, "learning_rate": 3e-3},
    "VeRA": {"peft_method": "vera", "r": 256, **ALL, "learning_rate": 2e-2},
    "LoHa": {"peft_method": "loha", "r": 8, "alpha": 16, **ALL, "learning_rate": 2e-3},
    "LoKr": {"peft_method": "lokr", "r": 16, "alpha": 16, "decompose_factor": 8, **ALL, "learning_rate": 2e-3},
    "OFT": {"peft_method": "oft", "oft_block_size": 32, **ALL, "learning_rate": 2e-3},
    "BOFT": {"peft_method": "boft", "boft_block_size": 8, "boft_n_butterfly_factor": 2, "target_modules": ["q_proj", "v_proj", "up_proj"],
             "learning_rate": 5e-3},
    "(IA)³": {"peft_method": "ia3", "learning_rate": 1e-2},
    "Bottleneck (Houlsby)": {"peft_method": "bottleneck"},
    "Bottleneck (Pfeiffer)": {"peft_method": "bottleneck", "mh_adapter": False, "original_ln_before": True},
    "Prefix tuning": {"peft_method": "prefix_tuning", "num_virtual_tokens": 16, "learning_rate": 1e-2},
    "P-tuning": {"peft_method": "p_tuning", "num_virtual_tokens": 16, "encoder_hidden_size": 256, "learning_rate": 5e-3},
    "Prompt tuning": {"peft_method": "prompt_tuning", "num_virtual_tokens": 16, "prompt_tuning_init": "SAMPLE_VOCAB", "learning_rate": 3e-2},
    "LN-tuning": {"peft_method": "ln_tuning", "learning_rate": 1e-2},
    "BitFit": {"peft_method": "bitfit", "create_biases": True, "learning_rate": 5e-3},
    "Full (last 4 blocks)": {"peft_method": "full", "num_trainable_layers": 4, "learning_rate": 3e-4},
    "Full": {"peft_method": "full", "learning_rate": 1e-4},
}
COLUMNS = ["method", "trainable parameters", "exact match", "loss", "tokens/s", "memory", "size on disk", "learning rate"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Train every method on the demo's data set and write the table.")
    parser.add_argument("--model", type=Path, default=REPOSITORY / ".models" / "smollm2-135m-instruct.gguf")
    parser.add_argument("--graft", type=Path, default=REPOSITORY / "bin" / "graft")
    parser.add_argument("--steps", type=int, default=188, help="optimizer steps of each run (default: %(default)s, the demo's)")
    parser.add_argument("--rows", type=int, default=200, help="rows of the test (default: %(default)s, all)")
    parser.add_argument("--only", default="", help="methods of the table, separated by commas; the others keep their results")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "runs" / "methods")
    parser.add_argument("--dry-run", action="store_true", help="print the table instead of writing it")
    arguments = parser.parse_args()
    chosen = [name.strip() for name in arguments.only.split(",") if name.strip()] or list(METHODS)
    by_name = {name.lower(): name for name in METHODS}
    unknown = [name for name in chosen if name.lower() not in by_name]
    if unknown:
        sys.exit(f"methods: there is no method called {unknown[0]}; there are {', '.join(METHODS)}")
    if not arguments.model.exists():
        sys.exit(f"methods: {arguments.model} is missing; `make model` fetches it")

    graft = Graft(arguments.graft)
    failures = []
    for name in [by_name[name.lower()] for name in chosen]:
        try:
            measure(name, graft, arguments)
        except CommandFailed as error:
            failures.append(f"{name}: {error}")
            print(f"methods: {name} failed", file=sys.stderr)
    lines = table(arguments)
    if arguments.dry_run:
        print("\n".join(lines))
    else:
        write(lines)
        print(f"written: {DOCUMENT}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def folder(name: str, arguments) -> Path:
    return arguments.output / "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")


def settings(name: str, arguments) -> dict:
    """The run: the demo's, with the method's own options in place of LoRA's."""
    method = dict(METHODS[name])
    # A short trial still needs steps in which ranks can fall.
    for key, share in (("tinit", 9), ("tfinal", 3)):
        if key in method:
            method[key] = min(method[key], arguments.steps // share)
    return {
        "model_name_or_path": str(arguments.model), "bf16": True, "train_file": str(DEMO / "train.jsonl"), "max_length": 128,
        "max_steps": arguments.steps, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "lr_scheduler_type": "cosine",
        "warmup_steps": min(10, arguments.steps // 2), "seed": 42, "save_strategy": "no", "logging_steps": 1,
        "output_dir": str(folder(name, arguments)), **method,
    }


def measure(name: str, graft: Graft, arguments) -> None:
    run = settings(name, arguments)
    output = Path(run["output_dir"])
    result_file = output.with_suffix(".json")
    key = {**run, "rows": arguments.rows}
    if result_file.exists() and json.loads(result_file.read_text()).get("settings") == key:
        print(f"{name}: measured already")
        return
    shutil.rmtree(output, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    configuration = output.with_suffix(".yaml")
    # JSON is YAML, so that no value has to be quoted by hand.
    configuration.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in run.items()))
    print(f"{name}: training", flush=True)
    summary = json.loads(graft.run("train", configuration, "--json"))
    weights = [path for path in output.glob("*.safetensors")]
    is_model = (output / "config.json").exists()
    print(f"{name}: answering", flush=True)
    target = [output] if is_model else [arguments.model, "--adapter", output]
    report = json.loads(graft.run(
        "evaluate", *target[:1], DEMO / "test.jsonl", *target[1:], "--dtype", "bfloat16", "--generate", "--max-new-tokens", 48,
        "--batch-size", 20, "--max-samples", arguments.rows, "--json"))
    steps = metrics(output)
    result_file.write_text(json.dumps({
        "settings": key,
        "trainable": summary["trainable_parameters"],
        "exact_match": report["exact_match"],
        "loss": report["loss"],
        "tokens_per_second": summary["outcome"]["tokens_per_second"],
        "memory": summary["peak_memory_bytes"],
        "size": sum(path.stat().st_size for path in weights),
        "train_loss": steps[-1]["loss"] if steps else None,
    }, indent=1) + "\n")
    if is_model:
        # Half a gigabyte each, and nothing of it is asked for again.
        for path in weights:
            path.unlink()


def table(arguments) -> list:
    rows = []
    for name in METHODS:
        result_file = folder(name, arguments).with_suffix(".json")
        if not result_file.exists():
            continue
        result = json.loads(result_file.read_text())
        if result["settings"] != {**settings(name, arguments), "rows": arguments.rows}:
            continue
        rows.append([
            name, f"{result['trainable']:,}", f"{result['exact_match']:.1f} %", f"{result['loss']:.4f}",
            f"{result['tokens_per_second']:,.0f}", f"{result['memory'] / 2**30:.1f} GiB", size(result["size"]),
            f"{result['settings']['learning_rate']:g}",
        ])
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    lines = [
        f"SmolLM2-135M-Instruct in bf16 on the demo's data ({machine}, {datetime.date.today().isoformat()}): {arguments.steps} steps of "
        f"8 rows, cosine schedule,",
        f"the {arguments.rows} rows of the test. `make methods` makes the table; `Scripts/methods.py` says with which options.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * (len(COLUMNS) - 1),
    ]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.0f} kB"


def write(lines: list) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"methods: {DOCUMENT} has lost the lines {BEGIN} and {END}, between which the table goes")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
