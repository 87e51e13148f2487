#!/usr/bin/env python3
"""How the time and memory of Graft's training grow, and where the time of a step goes.

    Benchmarks/scaling.py --model FOLDER --data train.json [--only parts tokens layers rank targets length]

    parts     the share of each part of a step (graft train --profile), batches of 8 × 512
    tokens    batches of 1 to 16 rows of 512 tokens, all full
    layers    the model cut after a quarter, a half, three quarters of its layers
    rank      r = 8 to 128
    targets   adapters on q; q, v; q, k, v, o; all linear layers
    length    one sequence of 512 to 8,192 tokens with gradient checkpointing: memory has to grow linearly

FOLDER is a Hugging Face directory. Each figure is from a run in a process of its own; times are medians of the steps after
the first two. Prints Markdown; the result file lies in Benchmarks/results/.
"""

import argparse
import datetime
import json
import os
import statistics
import struct
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "Scripts"))
from bench import machine, read_rows
from graft_commands import Graft, metrics

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
KINDS = ["parts", "tokens", "layers", "rank", "targets", "length"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how Graft's training grows.")
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face directory")
    parser.add_argument("--data", type=Path, required=True, help="rows with question and answer")
    parser.add_argument("--graft", type=Path, default=REPOSITORY / "bin" / "graft", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=5, help="steps of a run, of which the first two do not count")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    if arguments.steps < 3:
        parser.error("--steps has to be 3 or more")
    with tempfile.TemporaryDirectory(prefix="graft-scaling-") as work:
        scaling = Scaling(arguments, Path(work))
        for kind in arguments.only:
            getattr(scaling, kind)()
    scaling.write_results()
    return 0


class Scaling:
    def __init__(self, arguments, work: Path):
        self.arguments, self.work = arguments, work
        self.graft = Graft(arguments.graft.absolute(), arguments.threads)
        self.text = " ".join(row["question"] + row["answer"] for row in read_rows(arguments.data, 2000))
        self.results, self.runs = {}, 0

    # -- what is measured ----------------------------------------------------------------------------------------------

    def parts(self) -> None:
        rows = self.work / "rows.json"
        rows.write_text(json.dumps(read_rows(self.arguments.data, 8 * self.arguments.steps)), encoding="utf-8")
        summary = self.run({"train_file": str(rows), "prompt_column": "question", "response_column": "answer"},
                           batch=8, profile=True)["summary"]
        profile = summary["profile"]
        whole = sum(profile["milliseconds"].values())
        print(f"\n| part of a step of {whole:.0f} ms | ms | |\n|---|---|---|")
        for part, time in sorted(profile["milliseconds"].items(), key=lambda item: -item[1]):
            print(f"| {part} | {time:.1f} | {100 * time / whole:.1f} % |")
        idle = 1 - profile["processors"] / self.arguments.threads
        print(f"| processors idle | | {100 * idle:.1f} % |", flush=True)
        self.results["parts"] = profile

    def tokens(self) -> None:
        self.table("rows of 512 tokens", {
            str(batch): self.run(self.rows(512, batch), batch=batch) for batch in (1, 2, 4, 8, 16)
        })

    def layers(self) -> None:
        configuration = json.loads((self.arguments.model / "config.json").read_text())
        whole = configuration["num_hidden_layers"]
        runs = {}
        for count in sorted({max(1, whole * part // 4) for part in (1, 2, 3, 4)}):
            folder = cut(self.arguments.model, self.work / f"layers-{count}", count)
            runs[str(count)] = self.run(self.rows(512, 8) | {"model_name_or_path": str(folder)}, batch=8)
        self.table("layers", runs)

    def rank(self) -> None:
        self.table("rank", {str(r): self.run(self.rows(512, 8) | {"r": r, "lora_alpha": r}, batch=8)
                            for r in (8, 16, 32, 64, 128)})

    def targets(self) -> None:
        choices = {"q": ["q_proj"], "q, v": ["q_proj", "v_proj"], "q, k, v, o": ATTENTION, "all linear layers": "all-linear"}
        self.table("adapters on", {name: self.run(self.rows(512, 8) | {"target_modules": targets}, batch=8)
                                   for name, targets in choices.items()})

    def length(self) -> None:
        self.table("tokens in one sequence", {
            str(length): self.run(self.rows(length, 1) | {"gradient_checkpointing": True}, batch=1, length=length)
            for length in (512, 1024, 2048, 4096, 8192)
        })

    # -- how -----------------------------------------------------------------------------------------------------------

    def rows(self, length: int, batch: int) -> dict:
        """Settings for rows that fill `length` tokens and are cut there."""
        count = batch * self.arguments.steps
        # No tokenizer makes fewer than one token of four characters out of Chinese text, nor one of eight out of English.
        size = 8 * length
        text = self.text * (1 + count * size // len(self.text))
        path = self.work / f"rows-{length}-{batch}.jsonl"
        path.write_text("".join(
            json.dumps({"text": text[i * size:(i + 1) * size]}, ensure_ascii=False) + "\n" for i in range(count)
        ), encoding="utf-8")
        return {"train_file": str(path)}

    def run(self, settings: dict, batch: int, length: int = 512, profile: bool = False) -> dict:
        self.runs += 1
        output = self.work / f"run-{self.runs}"
        configuration = self.work / f"run-{self.runs}.yaml"
        configuration.write_text(json.dumps({
            "model_name_or_path": str(self.arguments.model.absolute()), "dtype": "bfloat16", "device": "cpu",
            "num_threads": self.arguments.threads, "max_length": length, "per_device_train_batch_size": batch,
            "max_steps": self.arguments.steps, "learning_rate": 2e-4, "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential", "logging_steps": 1, "save_strategy": "no", "r": 8, "lora_alpha": 16,
            "target_modules": ATTENTION, "output_dir": str(output),
        } | settings))
        print(f"run {self.runs}: {settings}", file=sys.stderr, flush=True)
        summary = json.loads(self.graft.run("train", configuration, "--json", *(["--profile"] if profile else [])))
        records = metrics(output)
        steps = [(later["seconds"] - earlier["seconds"], later["tokens"] - earlier["tokens"])
                 for earlier, later in zip(records[1:], records[2:])]
        return {
            "seconds": statistics.median(time for time, _ in steps),
            "tokens": statistics.median(tokens for _, tokens in steps),
            "peak_memory": summary["peak_memory_bytes"] / 1e9,
            "summary": summary,
        }

    def table(self, name: str, runs: dict) -> None:
        print(f"\n| {name} | tokens a step | s a step | tokens/s | peak memory |\n|---|---|---|---|---|")
        for value, run in runs.items():
            print(f"| {value} | {run['tokens']:.0f} | {run['seconds']:.2f} | {run['tokens'] / run['seconds']:.0f} "
                  f"| {run['peak_memory']:.2f} GB |", flush=True)
        self.results[name] = {value: {key: run[key] for key in ("seconds", "tokens", "peak_memory")} for value, run in runs.items()}

    def write_results(self) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        document = {
            "date": now.isoformat(timespec="seconds"), "machine": machine(), "model": self.arguments.model.name,
            "settings": {"threads": self.arguments.threads, "steps": self.arguments.steps}, "results": self.results,
        }
        path = REPOSITORY / "Benchmarks" / "results" / f"{now:%Y-%m-%d-%H%M%S}-scaling-{self.arguments.model.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {path}", file=sys.stderr)


def cut(model: Path, folder: Path, layers: int) -> Path:
    """A copy of a model's directory with its first layers only."""
    folder.mkdir()
    for path in model.iterdir():
        if path.suffix == ".json" and path.name not in ("config.json", "model.safetensors.index.json"):
            (folder / path.name).symlink_to(path.absolute())
    configuration = json.loads((model / "config.json").read_text())
    for key, value in configuration.items():
        if isinstance(value, list) and len(value) == configuration["num_hidden_layers"]:
            configuration[key] = value[:layers]
    configuration["num_hidden_layers"] = layers
    configuration.pop("max_window_layers", None)
    (folder / "config.json").write_text(json.dumps(configuration))

    header, parts, offset = {}, [], 0
    for source in sorted(model.glob("*.safetensors")):
        data = source.open("rb")
        size = struct.unpack("<Q", data.read(8))[0]
        for name, tensor in json.loads(data.read(size)).items():
            inside = name.split(".layers.")[-1].split(".")[0] if ".layers." in name else "0"
            if name == "__metadata__" or int(inside) >= layers:
                continue
            begin, end = tensor["data_offsets"]
            header[name] = tensor | {"data_offsets": [offset, offset + end - begin]}
            offset += end - begin
            parts.append((source, 8 + size + begin, end - begin))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for source, begin, size in parts:
            with source.open("rb") as data:
                data.seek(begin)
                file.write(data.read(size))
    return folder


if __name__ == "__main__":
    sys.exit(main())
