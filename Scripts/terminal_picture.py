#!/usr/bin/env python3
"""Draw text that a program printed as an SVG picture of a terminal.

    examples/demo/compare.py runs/demo --rows 3 | Scripts/terminal_picture.py --command "make demo" > docs/images/demo.svg

Standard library only.
"""

import argparse
import sys
import unicodedata
from xml.sax.saxutils import escape

CHARACTER_WIDTH, LINE_HEIGHT, MARGIN, BAR = 8.43, 20, 18, 34


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw standard input as an SVG terminal.")
    parser.add_argument("--command", help="the command line to show above the output")
    parser.add_argument("--dim", action="append", default=[], help="lines that begin with this word are drawn dim; repeatable")
    arguments = parser.parse_args()
    lines = sys.stdin.read().rstrip("\n").split("\n")
    if arguments.command:
        lines = [f"$ {arguments.command}", ""] + lines

    columns = max(map(columns_of, lines))
    width = round(columns * CHARACTER_WIDTH + 2 * MARGIN)
    height = round(len(lines) * LINE_HEIGHT + 2 * MARGIN + BAR)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">')
    print(f"<title>{escape(arguments.command or 'terminal')}</title>")
    print("<style>text { font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre; }")
    print(".dim { fill: #8b949e; } .good { fill: #56d364; } .bad { fill: #ff7b72; } .command { fill: #79c0ff; }</style>")
    print(f'<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>')
    for index, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        print(f'<circle cx="{MARGIN + 6 + 20 * index}" cy="20" r="6" fill="{colour}"/>')
    dim = False
    for index, line in enumerate(lines):
        # A wrapped line looks like the one that it continues.
        dim = any(line.startswith(word) for word in arguments.dim) or (dim and line.startswith(" "))
        kind = "command" if line.startswith("$ ") else "good" if "✓" in line else "bad" if "✗" in line else "dim" if dim else ""
        y = BAR + MARGIN + index * LINE_HEIGHT + 10
        print(f'<text x="{MARGIN}" y="{y}" class="{kind}" xml:space="preserve">{escape(line)}</text>')
    print("</svg>")
    return 0


def columns_of(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


if __name__ == "__main__":
    sys.exit(main())
