"""Every call that the Python side makes to the `graft` program, in one place.

Results that a program reads are JSON on stdout (`--json`) or files; progress goes to stderr, and is kept to be shown
when a command fails.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


class CommandFailed(Exception):
    """graft left with another status than 0."""


class Graft:
    def __init__(self, program: Path = REPOSITORY / "bin" / "graft", threads: int = 0):
        self.program = program
        self.environment = dict(os.environ)
        if threads:
            self.environment["OMP_NUM_THREADS"] = str(threads)

    def command(self, *arguments) -> list:
        return [str(self.program), *map(str, arguments)]

    def run(self, *arguments) -> str:
        command = self.command(*arguments)
        result = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if result.returncode != 0:
            tail = "\n".join(result.stderr.strip().splitlines()[-15:])
            raise CommandFailed(f"`{' '.join(command)}` left with status {result.returncode}:\n{tail}")
        return result.stdout

    # -- what the commands are called ----------------------------------------------------------------------------------

    def logits(self, model: Path, sequences, output: Path, adapter: Path = None):
        """fp32 logits [T, vocabulary] of each token sequence, as `logits.I` of a safetensors file."""
        tokens = output.with_suffix(".tokens.json")
        tokens.write_text(json.dumps(sequences))
        arguments = ["debug", "logits", model, "--tokens", tokens, "--output", output, "--dtype", "float32"]
        if adapter:
            arguments += ["--adapter", adapter]
        self.run(*arguments)

    def train_command(self, configuration: Path, settings: dict) -> list:
        arguments = ["train", configuration]
        for key, value in settings.items():
            arguments += ["--set", f"{key}={json.dumps(value)}"]
        return self.command(*arguments)

    def train(self, configuration: Path, settings: dict = {}) -> None:
        self.run(*self.train_command(configuration, settings)[1:])

    def generate(self, model: Path, prompt: str, new_tokens: int, adapter: Path = None, dtype: str = "float32") -> dict:
        """Greedy continuation of the user's message: `tokens` (generated ids), `text`, `tokens_per_second`."""
        arguments = ["generate", model, "--prompt", prompt, "--max-new-tokens", new_tokens, "--temperature", 0]
        arguments += ["--dtype", dtype, "--json"]
        if adapter:
            arguments += ["--adapter", adapter]
        return json.loads(self.run(*arguments))

    def generate_batch(self, model: Path, prompts: list, new_tokens: int, dtype: str) -> dict:
        """Greedy answers to all prompts at once, each of `new_tokens` tokens: `tokens` of all of them, `tokens_per_second`."""
        arguments = ["generate", model, "--max-new-tokens", new_tokens, "--temperature", 0, "--ignore-eos"]
        arguments += ["--batch-size", len(prompts), "--dtype", dtype, "--json"]
        for prompt in prompts:
            arguments += ["--prompt", prompt]
        answers = [json.loads(line) for line in self.run(*arguments).splitlines()]
        return {
            "tokens": sum(answer["generated_tokens"] for answer in answers),
            "tokens_per_second": answers[0]["tokens_per_second"],
        }

    def tokenize(self, model: Path, file: Path) -> dict:
        """Tokenize a text file line by line on one thread: `tokens` (how many) and `seconds` (loading not included)."""
        return json.loads(self.run("debug", "tokenize", model, "--file", file, "--json"))

    def merge(self, model: Path, adapter: Path, output: Path) -> None:
        self.run("merge", model, "--adapter", adapter, "--output", output, "--dtype", "float32")


def metrics(folder: Path) -> list:
    """The training records of a run's metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "loss" in record]


def measured_run(command: list, output: Path, environment: dict) -> tuple:
    """Run a training command: the seconds from its start to the first line of its metrics.jsonl (None when there was none),
    and its peak resident memory in bytes, as the kernel counts it."""
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        first, file = None, output / "metrics.jsonl"
        while True:
            # wait4 gives this child's own peak memory, and reaps it.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if first is None and file.exists() and file.stat().st_size > 0:
                first = time.perf_counter() - start
            if pid:
                break
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            tail = "\n".join(log.read().decode(errors="replace").strip().splitlines()[-15:])
            raise CommandFailed(f"`{' '.join(command)}` left with status {process.returncode}:\n{tail}")
    return first, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
