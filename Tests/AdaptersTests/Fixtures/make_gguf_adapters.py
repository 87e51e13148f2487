#!/usr/bin/env python3
"""Make `gguf-adapters/`: what llama.cpp's own converter makes of adapters that PEFT saved (make_fixtures.py).

    python make_gguf_adapters.py LLAMA_CPP        the folder of llama.cpp's sources, with convert_lora_to_gguf.py

The converter takes one alpha for the whole file from `lora_alpha`, whatever `use_rslora` and `alpha_pattern` say, so that only adapters
without those can be compared with it.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "ModelsTests" / "Fixtures"
CASES = [("attention", "f32"), ("attention", "f16"), ("all-linear", "f32"), ("rank-pattern", "f32"), ("embedding-and-lm-head", "f32")]


def main() -> None:
    converter = Path(sys.argv[1]) / "convert_lora_to_gguf.py"
    output = HERE / "gguf-adapters"
    output.mkdir(exist_ok=True)
    for name, kind in CASES:
        base = json.loads((HERE / name / "expected.json").read_text())["base"]
        subprocess.run(
            [sys.executable, converter, "--base", MODELS / base, "--outtype", kind, "--outfile", output / f"{name}.{kind}.gguf", HERE / name],
            check=True,
        )


if __name__ == "__main__":
    main()
