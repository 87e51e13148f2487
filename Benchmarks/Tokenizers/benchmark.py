#!/usr/bin/env python3
"""Speed of encoding, against the `tokenizers` package, both on one thread, in turns.

usage: python3 Benchmarks/Tokenizers/benchmark.py TOKENIZER_DIRECTORY TEXTS [--check PATH] [--rounds N]

TEXTS is a CSV (any of its columns that hold text, one text a field; UTF-8 or GB18030) or a text file
(one text a line). Each round encodes all texts with a fresh tokenizer, so that no words are cached
from the round before; the best round of each side counts.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402


def read_texts(path):
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030", errors="replace")
    if path.endswith(".csv"):
        rows = list(csv.reader(text.splitlines()))[1:]
        return [" ".join(row) for row in rows if row]
    return text.splitlines()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("texts")
    parser.add_argument("--check", default=".build/release/tokenizer-check")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = read_texts(options.texts)
    size = sum(len(text.encode()) for text in texts)
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    file = str(Path(options.directory) / "tokenizer.json")
    ours, theirs, tokens = [], [], None
    for _ in range(options.rounds):
        start = time.perf_counter()
        tokenizer = tokenizers.Tokenizer.from_file(file)
        loading = time.perf_counter() - start
        start = time.perf_counter()
        # Without offsets, which Graft's `encode` does not compute either.
        encodings = tokenizer.encode_batch_fast(texts)
        theirs.append(time.perf_counter() - start)
        tokens = sum(len(encoding) for encoding in encodings)
        result = subprocess.run(
            [options.check, "time", options.directory, "1", "1"], input=lines, text=True,
            capture_output=True, check=True)
        result = json.loads(result.stdout)
        if result["tokens"] != tokens:
            sys.exit(f"token counts differ: {result['tokens']} and {tokens}")
        ours += result["seconds"]
    print(f"{len(texts)} texts, {size / 1e6:.2f} MB, {tokens} tokens, best of {options.rounds}, 1 thread")
    print(f"tokenizers {tokenizers.__version__}: {min(theirs):.3f} s, {size / 1e6 / min(theirs):.1f} MB/s"
          f" (loading {loading:.2f} s)")
    print(f"Graft: {min(ours):.3f} s, {size / 1e6 / min(ours):.1f} MB/s (loading {result['loading']:.2f} s)")
    print(f"ratio: {min(theirs) / min(ours):.2f}")


if __name__ == "__main__":
    main()
