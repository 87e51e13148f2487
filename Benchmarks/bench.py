#!/usr/bin/env python3
"""Graft beside transformers + PEFT: training, generation, tokenization. One table, one result file.

    make bench ARGS="--data train.json"
    Benchmarks/bench.py --data FILE [--model PATH] [--rounds 3] [--steps 10] [--only training …]

Both sides get the same rows, threads and dtype and are measured in the same way from outside: the runs alternate, peak
memory is what the kernel reports of the process, and the time to the first step runs from the start of the process to
the first line of its metrics.jsonl. Throughput counts real tokens, without padding, over the steps after the warm-up.
Every figure is the median over the rounds. FILE is JSON with `question` and `answer`, or the data set's own CSV
(`ask`, `answer`, in GB18030). The result file lies in Benchmarks/results/.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "Scripts"))
import python_stack
from graft_commands import CommandFailed, Graft, measured_run, metrics

HERE = Path(__file__).resolve().parent
PROMPTS = [
    "Explain in detail how a bicycle stays upright while it is moving.",
    "What is gravity?",
    "Write a Python function that returns the n-th Fibonacci number, and explain how it works line by line.",
    "Tell me the story of a lighthouse keeper.",
    "Which vegetables grow well in the shade, and what do they need from the soil?",
    "Describe the water cycle to a child of eight years who has never seen the sea.",
    "How does a bank decide whether to give a loan?",
    "List the planets of the solar system with one fact about each of them.",
]
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}


def main() -> int:
    arguments = parse_arguments()
    rows = read_rows(arguments.data, arguments.batch * (arguments.warmup + arguments.steps))
    python_stack.enter(arguments.venv)

    work = Path(tempfile.mkdtemp(prefix="graft-bench-"))
    bench = Bench(arguments, rows, work)
    failed = []
    try:
        for name in arguments.only:
            try:
                getattr(bench, name)()
            except CommandFailed as error:
                failed.append(f"{name}: {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    bench.print_table()
    if arguments.graft != REPOSITORY / "bin" / "graft":
        # Figures of another program would stand in Graft's column.
        print(f"\nnothing is written: the program was {arguments.graft}")
    elif bench.table:
        print(f"\nwritten: {bench.write_results()}")
    for failure in failed:
        print(f"\nnot measured: {failure}", file=sys.stderr)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Graft beside transformers + PEFT.")
    default_rows = REPOSITORY / "examples" / "medical" / "train.json"
    parser.add_argument("--data", type=Path, default=default_rows, help="rows to train on; default: %(default)s")
    parser.add_argument(
        "--model", type=Path, default=REPOSITORY / ".models" / "smollm2-135m-instruct.gguf",
        help="folder or GGUF file; default: %(default)s",
    )
    parser.add_argument("--venv", type=Path, default=python_stack.default_venv(), help="default: %(default)s")
    parser.add_argument("--graft", type=Path, default=REPOSITORY / "bin" / "graft", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not counted; default: %(default)s")
    parser.add_argument("--steps", type=int, default=8, help="steps that are; default: %(default)s")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--new-tokens", type=int, default=128)
    kinds = ["training", "generation", "tokenization"]
    parser.add_argument("--only", nargs="+", choices=[*kinds, "compiled", "quantized"], default=kinds,
                        help="compiled: training beside torch.compile, which needs a C++ compiler and minutes; "
                             "quantized: training over NF4 on both sides, with bitsandbytes; default: the others")
    arguments = parser.parse_args()
    for name in ("data", "model"):
        if not getattr(arguments, name).exists():
            parser.error(
                f"{getattr(arguments, name)} does not exist. "
                + ("Name a data set with --data (examples/medical says where it comes from)."
                   if name == "data" else "Run 'make model', or name a model with --model.")
            )
    if min(arguments.rounds, arguments.warmup, arguments.steps) < 1:
        parser.error("--rounds, --warmup and --steps have to be 1 or more")
    return arguments


def read_rows(path: Path, count: int) -> list:
    if path.suffix == ".csv":
        with open(path, encoding="gb18030", newline="") as file:
            rows = [{"question": row["ask"], "answer": row["answer"]} for row in csv.DictReader(file)]
    else:
        rows = json.loads(path.read_text(encoding="utf-8"))
    if len(rows) < count:
        sys.exit(f"bench: {path} has {len(rows)} rows and {count} are needed; lower --steps or --batch")
    return rows


class Bench:
    def __init__(self, arguments, rows, work: Path):
        self.arguments, self.rows, self.work = arguments, rows, work
        self.graft = Graft(arguments.graft.absolute(), arguments.threads)
        self.table, self.raw = [], {}

    def add(self, name: str, unit: str, peer, graft, digits: int = 1) -> None:
        """One line of the table from the figures of every round; None where a side has none."""
        self.raw[name] = {"unit": unit, "peer": peer, "graft": graft}
        one, other = (statistics.median(values) if values else None for values in (peer, graft))
        self.table.append((name, unit, one, other, digits))

    # -- training ------------------------------------------------------------------------------------------------------

    def training(self, extra: list = [], name: str = "training", settings: dict = {}) -> None:
        """`extra` are arguments of the peer, `settings` further keys of Graft's configuration."""
        a, title = self.arguments, name
        steps = a.warmup + a.steps
        rows = self.work / "rows.json"
        rows.write_text(json.dumps(self.rows[: a.batch * steps], ensure_ascii=False), encoding="utf-8")
        configuration = self.work / "train.yaml"
        configuration.write_text(json.dumps({
            "model_name_or_path": str(a.model.absolute()), "train_file": str(rows), "prompt_column": "question",
            "response_column": "answer", "dtype": a.dtype, "device": "cpu", "num_threads": a.threads,
            "max_length": a.max_length, "per_device_train_batch_size": a.batch, "max_steps": steps,
            "learning_rate": 2e-4, "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential",
            "logging_steps": 1, "save_strategy": "no", **LORA, **settings,
        }))

        def peer(output: Path) -> list:
            return [
                sys.executable, str(HERE / "peft_training.py"), "--model", str(a.model.absolute()), "--rows", str(rows),
                "--output", str(output), "--steps", str(steps), "--batch", str(a.batch), "--max-length",
                str(a.max_length), "--dtype", a.dtype, "--threads", str(a.threads), *extra,
            ]

        def graft(output: Path) -> list:
            return self.graft.train_command(configuration, {"output_dir": str(output)})

        runs, ceilings = {"peer": [], "graft": []}, []
        for round_ in range(a.rounds):
            ceilings.append(self.python(
                "ceiling.py", "--rows", rows, "--batch", a.batch, "--max-length", a.max_length, "--dtype", a.dtype,
            ))
            sides = [("peer", peer), ("graft", graft)]
            # The side that goes first changes, so that neither always finds the machine warm.
            for side, command in sides if round_ % 2 == 0 else reversed(sides):
                print(f"{title}, round {round_ + 1} of {a.rounds}: {side}", file=sys.stderr, flush=True)
                output = self.work / f"{side}-{round_}-{len(self.table)}"
                runs[side].append(self.measure(command(output), output))
        tokens = {side: {run["tokens"] for run in runs[side]} for side in runs}
        if tokens["peer"] != tokens["graft"]:
            print(f"note: the sides count other tokens: {tokens}; their templates or cuts differ", file=sys.stderr)

        for name, unit, key, digits in (
            (title, "real tokens/s", "tokens_per_second", 1),
            (f"{title}: peak memory", "GB", "peak_memory", 2),
            (f"{title}: process start to first step done", "s", "first_step", 1),
            (f"{title}: of that, before training begins", "s", "load", 1),
        ):
            self.add(name, unit, [run[key] for run in runs["peer"]], [run[key] for run in runs["graft"]], digits)
        ceiling = [result["tokens_per_second"] for result in ceilings]
        self.raw["products"] = {"unit": "GFLOP/s", "rate": [result["products_gflops"] for result in ceilings]}
        if extra:
            return
        self.add("ceiling: products and attention alone", "real tokens/s", ceiling, ceiling)
        self.add("training: share of the ceiling", "%", *(
            [100 * run["tokens_per_second"] / most for run, most in zip(runs[side], ceiling)] for side in ("peer", "graft")
        ))

    def compiled(self) -> None:
        """Beside torch.compile: the peer's tokens are real ones too, its compilation falls into the warm-up."""
        self.training(extra=["--compile"], name="training, peer compiled")

    def quantized(self) -> None:
        """Both over a base in NF4, which each makes of the same dense weights; the peer's layers are bitsandbytes'."""
        self.training(extra=["--load-in-4bit"], name="training in NF4", settings={
            "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": self.arguments.dtype,
        })

    def measure(self, command: list, output: Path) -> dict:
        """Run a training command; its figures from the kernel, the clock and its metrics.jsonl."""
        first, peak = measured_run(command, output, self.graft.environment)
        records = metrics(output)
        a = self.arguments
        if len(records) != a.warmup + a.steps:
            raise CommandFailed(f"{output}/metrics.jsonl has {len(records)} training records where {a.warmup + a.steps} were expected")
        begin, end = records[a.warmup - 1], records[-1]
        return {
            "tokens": end["tokens"],
            "tokens_per_second": (end["tokens"] - begin["tokens"]) / (end["seconds"] - begin["seconds"]),
            "peak_memory": peak / 1e9,
            "first_step": first,
            "load": first - records[0]["seconds"],
        }

    # -- generation and tokenization -----------------------------------------------------------------------------------

    def peer_json(self, *arguments) -> dict:
        return self.python("transformers_inference.py", *arguments)

    def python(self, script: str, *arguments) -> dict:
        """What a script beside this one prints as JSON."""
        a = self.arguments
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        command += ["--model", str(a.model.absolute()), "--threads", str(a.threads)]
        result = subprocess.run(command, capture_output=True, text=True, env=self.graft.environment)
        if result.returncode != 0:
            raise CommandFailed(f"`{' '.join(command)}` left with status {result.returncode}:\n{result.stderr[-2000:]}")
        return json.loads(result.stdout.strip().splitlines()[-1])

    def generation(self) -> None:
        """One answer and eight at a time, the same prompts on both sides, each of --new-tokens tokens."""
        a = self.arguments
        for batch in (1, len(PROMPTS)):
            prompts = PROMPTS[:batch]
            rates = {"peer": [], "graft": []}

            def peer():
                given = [argument for prompt in prompts for argument in ("--prompt", prompt)]
                result = self.peer_json(
                    "generate", *given, "--new-tokens", a.new_tokens, "--dtype", a.dtype, "--repeat", 1
                )
                return result["tokens"], result["tokens"] / result["seconds"]

            def graft():
                result = self.graft.generate_batch(a.model, prompts, a.new_tokens, a.dtype)
                return result["tokens"], result["tokens_per_second"]

            for round_ in range(a.rounds):
                sides = [("peer", peer), ("graft", graft)]
                for side, run in sides if round_ % 2 == 0 else reversed(sides):
                    print(f"generation, batch {batch}, round {round_ + 1} of {a.rounds}: {side}", file=sys.stderr, flush=True)
                    tokens, rate = run()
                    if tokens != batch * a.new_tokens:
                        raise CommandFailed(f"{side} wrote {tokens} tokens where {batch * a.new_tokens} were asked for")
                    rates[side].append(rate)
            self.add(f"generation, batch {batch}, greedy", "tokens/s", rates["peer"], rates["graft"])

    def tokenization(self) -> None:
        a, peer, graft = self.arguments, [], []
        if a.model.suffix == ".gguf":
            # transformers' conversion drops parts of the pre-tokenizer, so that the sides would do different work.
            print("tokenization: left out for a GGUF file; name a folder with tokenizer.json", file=sys.stderr)
            return
        text = self.work / "text.txt"
        lines = [" ".join(row[key].split()) for row in self.rows[:2000] for key in ("question", "answer")]
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for round_ in range(a.rounds):
            print(f"tokenization, round {round_ + 1} of {a.rounds}", file=sys.stderr, flush=True)
            one, other = self.peer_json("tokenize", "--file", text), self.graft.tokenize(a.model, text)
            if one["tokens"] != other["tokens"]:
                raise CommandFailed(f"the sides make {one['tokens']} and {other['tokens']} tokens of the same text")
            peer.append(one["tokens"] / one["seconds"])
            graft.append(other["tokens"] / other["seconds"])
        self.add("tokenization, one thread", "tokens/s", peer, graft, 0)

    # -- results -------------------------------------------------------------------------------------------------------

    def print_table(self) -> None:
        print(f"\n{'':46} {'unit':14} {'HF + PEFT':>12} {'Graft':>12} {'Graft / HF':>11}")
        for name, unit, peer, graft, digits in self.table:
            ratio = f"{graft / peer:.2f} ×" if peer and graft else ""
            cells = [f"{value:12.{digits}f}" if value is not None else f"{'—':>12}" for value in (peer, graft)]
            print(f"{name:46} {unit:14} {' '.join(cells)} {ratio:>11}")

    def write_results(self) -> Path:
        a = self.arguments
        settings = {key: getattr(a, key) for key in ("rounds", "warmup", "steps", "batch", "max_length", "dtype", "threads", "new_tokens")}
        now = datetime.datetime.now(datetime.timezone.utc)
        document = {
            "date": now.isoformat(timespec="seconds"), "machine": machine(), "versions": versions(),
            "model": a.model.name, "data": a.data.name, "settings": settings, "results": self.raw,
        }
        folder = HERE / "results"
        folder.mkdir(exist_ok=True)
        path = folder / f"{now:%Y-%m-%d-%H%M%S}-{a.model.stem}.json"
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def machine() -> dict:
    """What the figures depend on; no name of the machine."""
    facts = {"system": platform.system(), "architecture": platform.machine(), "cores": os.cpu_count()}
    facts["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            facts["processor"] = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        else:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            facts["processor"] = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        facts["processor"] = platform.processor()
    return facts


def versions() -> dict:
    from importlib.metadata import PackageNotFoundError, version

    found = {name: version(name) for name in ("torch", "transformers", "peft", "tokenizers")}
    try:
        found["bitsandbytes"] = version("bitsandbytes")
    except PackageNotFoundError:
        pass
    found["python"] = platform.python_version()
    for name, command in {
        "graft commit": ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"],
        "swift": ["swift", "--version"],
    }.items():
        try:
            output = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:
            continue
        if output:
            found[name] = output.splitlines()[0]
    engine = REPOSITORY / ".torch" / "VERSION"
    if engine.exists():
        found["graft engine"] = engine.read_text().strip()
    return found


if __name__ == "__main__":
    sys.exit(main())
