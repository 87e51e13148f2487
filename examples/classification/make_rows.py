#!/usr/bin/env python3
"""Makes labelled rows of the demo's: each request with the action that it asks for.

    python3 make_rows.py OUTPUT_DIR        # writes train.jsonl and test.jsonl there

The demo's test shares neither sentences nor commands with its training rows (../demo/generate.py).
"""
import json
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parent.parent / "demo"


def main():
    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    for name in ("train.jsonl", "test.jsonl"):
        with open(DEMO / name, encoding="utf-8") as rows, open(output / name, "w", encoding="utf-8") as labelled:
            for row in map(json.loads, rows):
                turns = {message["role"]: message["content"] for message in row["messages"]}
                action = json.loads(turns["assistant"])["action"]
                labelled.write(json.dumps({"text": turns["user"], "label": action}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
