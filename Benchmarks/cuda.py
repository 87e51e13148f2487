#!/usr/bin/env python3
"""Graft beside transformers + PEFT on an NVIDIA GPU: tokens/s, peak memory of the device, share of the chip's peak.

    GRAFT_TORCH=$(python3 -c 'import torch; print(torch.__path__[0])') Benchmarks/cuda.py --tokenizer FOLDER [--shapes 0.5B 7B]

Shapes are those of the Qwen2.5 family with random weights, which cost as much to train as real ones. Rows fill 512 tokens,
so that no side gains by padding; LoRA r = 8 on q, k, v, o; bf16; no checkpointing unless asked for. The runs alternate, each in
a process of its own; figures are medians over the rounds. FOLDER holds a tokenizer.json with a chat template.

The machine needs python3 with torch, transformers and peft, but no Swift. Build where Swift is, against the engine that the machine
has, and carry dist/ (64 MB when stripped):

    Scripts/fetch_engine.py --version 2.11.0
    make install PREFIX=$PWD/dist GRAFT_TORCH=$PWD/.torch-2.11.0 && strip dist/lib/graft/graft
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "Scripts"))
from graft_commands import Graft, metrics

HERE = Path(__file__).resolve().parent
# hidden size, layers, heads, key heads, intermediate size, vocabulary, embeddings tied to the output
SHAPES = {
    "0.5B": (896, 24, 14, 2, 4864, 151936, True),
    "1.5B": (1536, 28, 12, 2, 8960, 151936, True),
    "3B": (2048, 36, 16, 2, 11008, 151936, True),
    "7B": (3584, 28, 28, 4, 18944, 152064, False),
}
WARM_UP = 3


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure Graft beside transformers + PEFT on a GPU.")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder with tokenizer.json and tokenizer_config.json")
    parser.add_argument("--graft", type=Path, default=REPOSITORY / "dist" / "bin" / "graft", help="default: %(default)s")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself, without figures of a device")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12, help="steps of a run, of which the first three do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP:
        parser.error(f"--steps has to be more than {WARM_UP}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("cuda: this PyTorch sees no CUDA device; run this on a machine with an NVIDIA GPU and its driver")
    if not (arguments.tokenizer / "tokenizer.json").exists():
        sys.exit(f"cuda: {arguments.tokenizer} has no tokenizer.json; name the folder of a Qwen2.5 model")

    peak = rate_of_products(arguments.device)
    print(f"{device_name(arguments.device)}, torch {torch.__version__}; a bf16 product alone: {peak / 1e12:.1f} TFLOP/s\n")
    print("| shape | | transformers + PEFT | Graft | |\n|---|---|---|---|---|")
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory(prefix="graft-cuda-") as folder:
            Comparison(arguments, shape, Path(folder)).run(peak)
    return 0


class Comparison:
    def __init__(self, arguments, shape: str, work: Path):
        self.arguments, self.shape, self.work = arguments, shape, work
        self.graft = Graft(arguments.graft.absolute())
        self.model, self.weights = make_model(SHAPES[shape], arguments.tokenizer, work / "model", arguments.device)
        self.rows = work / "rows.json"
        word = "The quick brown fox jumps over the lazy dog near the river bank. "
        row = {"question": word * 20, "answer": word * 60}
        self.rows.write_text(json.dumps([row] * (arguments.batch * arguments.steps)))

    def run(self, peak: float) -> None:
        runs = {"peer": [], "graft": []}
        for round_ in range(self.arguments.rounds):
            order = ["peer", "graft"] if round_ % 2 == 0 else ["graft", "peer"]
            for side in order:
                print(f"{self.shape}, round {round_ + 1}: {side}", file=sys.stderr, flush=True)
                output = self.work / f"{side}-{round_}"
                runs[side].append(self.measure(self.command(side, output), output))
        speed = {side: statistics.median(run["tokens_per_second"] for run in runs[side]) for side in runs}
        memory = {side: statistics.median(run["peak_memory"] for run in runs[side]) for side in runs}
        # A frozen base: forward and the gradient of the input, 2 operations a weight each. Attention is not counted.
        share = {side: 100 * 4 * self.weights * speed[side] / peak for side in runs}
        figures = [("training", "tokens/s", speed, 0), ("share of the rate of products", "%", share, 0)]
        if memory["peer"]:
            figures.append(("peak memory of the device", "GB", memory, 2))
        for name, unit, values, digits in figures:
            print(f"| {self.shape} | {name}, {unit} | {values['peer']:.{digits}f} | {values['graft']:.{digits}f} "
                  f"| {values['graft'] / values['peer']:.2f} × |", flush=True)

    def peer(self, output: Path) -> list:
        a = self.arguments
        command = [
            sys.executable, str(HERE / "peft_training.py"), "--model", str(self.model), "--rows", str(self.rows), "--output",
            str(output), "--steps", str(a.steps), "--batch", str(a.batch), "--max-length", "512", "--device", a.device,
        ]
        return command + (["--gradient-checkpointing"] if a.gradient_checkpointing else [])

    def graft_configuration(self) -> Path:
        a = self.arguments
        path = self.work / "run.yaml"
        path.write_text(json.dumps({
            "model_name_or_path": str(self.model), "train_file": str(self.rows), "prompt_column": "question",
            "response_column": "answer", "dtype": "bfloat16", "device": a.device, "max_length": 512,
            "per_device_train_batch_size": a.batch, "max_steps": a.steps, "learning_rate": 2e-4,
            "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential", "logging_steps": 1,
            "save_strategy": "no", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "gradient_checkpointing": a.gradient_checkpointing,
        }))
        return path

    def command(self, side: str, output: Path) -> list:
        if side == "peer":
            return self.peer(output)
        return self.graft.train_command(self.graft_configuration(), {"output_dir": str(output)})

    def measure(self, command: list, output: Path) -> dict:
        log = self.work / "log.txt"
        with open(log, "w") as sink, DeviceMemory(self.arguments.device) as memory:
            status = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, env=self.graft.environment).returncode
        if status != 0:
            sys.exit(f"cuda: `{' '.join(command)}` left with status {status}:\n{log.read_text()[-3000:]}")
        records = metrics(output)
        begin, end = records[WARM_UP - 1], records[-1]
        return {
            "tokens_per_second": (end["tokens"] - begin["tokens"]) / (end["seconds"] - begin["seconds"]),
            "peak_memory": memory.peak / 1e9,
        }


class DeviceMemory:
    """The most memory of the first GPU that was in use above what was before, as the driver counts it."""

    def __init__(self, device: str):
        self.process, self.peak, self.before = None, 0, None
        self.watches = device == "cuda" and shutil.which("nvidia-smi")

    def __enter__(self):
        if self.watches:
            command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop-ms=50"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.before = int(self.process.stdout.readline()) * 2**20
            self.thread = threading.Thread(target=self.watch)
            self.thread.start()
        return self

    def watch(self) -> None:
        for line in self.process.stdout:
            self.peak = max(self.peak, int(line) * 2**20 - self.before)

    def __exit__(self, *_) -> None:
        if self.process:
            self.process.terminate()
            self.thread.join()
            self.process.wait()


def make_model(shape, tokenizer: Path, folder: Path, device: str) -> tuple:
    """A directory with random weights; the number of weights that take part in products."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers, heads, key_heads, intermediate, vocabulary, tied = shape
    configuration = Qwen2Config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=key_heads,
        intermediate_size=intermediate, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=4096,
        dtype="bfloat16",
    )
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = Qwen2ForCausalLM(configuration)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder)
    products = sum(parameter.numel() for name, parameter in model.named_parameters() if "embed_tokens" not in name)
    # The output's product is computed from a tied embedding too.
    return folder, products + (hidden * vocabulary if tied else 0)


def rate_of_products(device: str) -> float:
    """Operations a second of a large bf16 product."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))

    def seconds() -> float:
        import time

        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / 10

    seconds()
    return 2 * size**3 / statistics.median(seconds() for _ in range(5))


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(0) if device == "cuda" else "CPU"


if __name__ == "__main__":
    sys.exit(main())
