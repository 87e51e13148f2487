#!/usr/bin/env python3
"""Print answers of the base and the tuned model side by side, the scores, and what the demo left behind.

    examples/demo/compare.py runs/demo [--rows 6]

Reads base.json, base.jsonl, tuned.json and tuned.jsonl, which `graft evaluate` wrote. Standard library only.
"""

import argparse
import json
import shutil
import sys
import textwrap
from pathlib import Path

LABEL_WIDTH = 9


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the demo's two evaluations.")
    parser.add_argument("folder", type=Path, help="where run.sh wrote")
    parser.add_argument("--rows", type=int, default=6, help="rows to show (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        base, tuned = (load(arguments.folder, name) for name in ("base", "tuned"))
    except (OSError, ValueError, KeyError) as error:
        print(f"compare.py: the evaluations in {arguments.folder} cannot be read ({error}); run `make demo`.", file=sys.stderr)
        return 1

    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    # Spread over the file, so that both kinds of the test's requests and several devices show.
    step = max(1, len(base.answers) // arguments.rows)
    for one, other in list(zip(base.answers, tuned.answers))[::step][: arguments.rows]:
        show("request", one["prompt"], width)
        show("base", one["prediction"], width, lines=2)
        mark = "  ✓" if correct(other) else f"  ✗ wanted {other['reference']}"
        show("tuned", other["prediction"] + mark, width)
        print()

    print(f"{'':{LABEL_WIDTH}}{'exact match':>16}{'loss':>10}")
    for name, result in (("base", base), ("tuned", tuned)):
        right = sum(map(correct, result.answers))
        score = f"{right}/{len(result.answers)} = {100 * right / len(result.answers):.1f} %"
        print(f"{name:{LABEL_WIDTH}}{score:>16}{result.report['loss']:>10.3f}")
    print()
    for name, what in (
        ("adapter_model.safetensors", "the adapter; PEFT loads the folder"),
        ("metrics.jsonl", "the log (and TensorBoard files in runs/)"),
        ("loss.svg", "the plot of the loss"),
        ("tuned.jsonl", "all answers of the tuned model"),
    ):
        path = arguments.folder / name
        if path.exists():
            print(f"{path}  {what}")
    print(f"\nTalk to it:  bin/graft chat {arguments.folder}")
    return 0


class Evaluation:
    """One model's scores, and its answers in the test's order."""

    def __init__(self, report: dict, answers: list[dict]):
        if not answers:
            raise ValueError("no answers")
        self.report = report
        self.answers = answers


def load(folder: Path, name: str) -> Evaluation:
    report = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return Evaluation(report, [json.loads(line) for line in lines])


def correct(answer: dict) -> bool:
    """Exact match of the whole answer, white space around it aside."""
    return answer["prediction"].strip() == answer["reference"].strip()


def show(label: str, text: str, width: int, lines: int = 3) -> None:
    wrapped = textwrap.wrap(" ".join(text.split()), width - LABEL_WIDTH, max_lines=lines, placeholder=" …") or ["(nothing)"]
    for index, line in enumerate(wrapped):
        print(f"{label if index == 0 else '':{LABEL_WIDTH}}{line}")


if __name__ == "__main__":
    sys.exit(main())
