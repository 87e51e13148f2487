#!/usr/bin/env python3
"""Holds Graft's tokenizer against the `tokenizers` package on real tokenizers: ids, offsets, decoding
with and without special tokens, on varied lines and on the texts that are given.

usage: swift build -c release --product tokenizer-check
       python3 Scripts/verify_tokenizers.py [--lines N] [--texts FILE] DIRECTORY …     (needs: pip install tokenizers)

Exits with 1 and shows the first differences where there are any.
"""
import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Tests/TokenizersTests/Fixtures"))
import tokenizers  # noqa: E402
from varied_lines import lines  # noqa: E402


def run(check, *arguments, text):
    process = subprocess.run([check, *arguments], input=text, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{check} {' '.join(arguments)}: {process.stderr}")
    return process.stdout.split("\n")[:-1]


def read_texts(path):
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030", errors="replace")
    if path.endswith(".csv"):
        return [field for row in csv.reader(text.splitlines()) for field in row]
    return text.splitlines()


def byte_offsets(text):
    """Character → UTF-8 byte offsets."""
    result, position = [], 0
    for character in text:
        result.append(position)
        position += len(character.encode())
    return [*result, position]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directories", nargs="+")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--texts")
    parser.add_argument("--check", default=str(ROOT / ".build/release/tokenizer-check"))
    options = parser.parse_args()
    failures = 0
    for directory in options.directories:
        reference = tokenizers.Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
        special = [token.content for token in reference.get_added_tokens_decoder().values()]
        texts = list(lines(options.lines, 20, special))
        if options.texts:
            texts += read_texts(options.texts)
        source = "".join(json.dumps(text) + "\n" for text in texts)
        encodings = reference.encode_batch(texts)
        expected_ids = [" ".join(map(str, encoding.ids)) for encoding in encodings]
        counts = {}

        def compare(what, expected, actual):
            nonlocal failures
            assert len(expected) == len(actual), (what, len(expected), len(actual))
            different = [i for i, (a, b) in enumerate(zip(expected, actual)) if a != b]
            counts[what] = len(different)
            failures += len(different)
            for i in different[:3]:
                print(f"{what} {texts[i]!r}\n  expected {expected[i]!r}\n  got      {actual[i]!r}")

        compare("ids", expected_ids, run(options.check, "ids", directory, text=source))
        offsets = []
        for text, encoding in zip(texts, encodings):
            where = byte_offsets(text)
            offsets.append("\t".join([
                " ".join(map(str, encoding.ids)),
                " ".join(str(where[start]) for start, _ in encoding.offsets),
                " ".join(str(where[end]) for _, end in encoding.offsets)]))
        compare("offsets", offsets, run(options.check, "offsets", directory, text=source))
        ids = "".join(line + "\n" for line in expected_ids)
        for skip in (False, True):
            expected = [json.dumps(reference.decode(encoding.ids, skip_special_tokens=skip)) for encoding in encodings]
            actual = run(options.check, "decode", directory, *(["skip"] if skip else []), text=ids)
            compare("decode, skipping special tokens" if skip else "decode", expected, actual)
        tokens = sum(map(len, encodings))
        print(f"{directory}: {len(texts)} lines, {tokens} tokens; differences: "
              + ", ".join(f"{what} {count}" for what, count in counts.items()))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
