#!/usr/bin/env python3
"""Checks safetensors files that Graft wrote against the reference implementation: verify_formats.py FOLDER...

For each `*.safetensors` under the folders: the `safetensors` package reads it, and writes the same bytes for the same tensors. For each
`*.safetensors.index.json`: every tensor is in the file that the index names, no file holds another, and the sizes add up.
Exits with 1 and a line for each fault. Needs safetensors and torch.
"""

import json
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save


def check_file(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    # The reference implementation writes metadata of several keys in no fixed order.
    if metadata is not None and len(metadata) > 1:
        return []
    if save(tensors, metadata=metadata) != path.read_bytes():
        return [f"{path}: the reference implementation writes other bytes for the same tensors"]
    return []


def check_index(path: Path) -> list[str]:
    faults = []
    index = json.loads(path.read_text())
    by_file: dict[str, set[str]] = {}
    for name, file in index["weight_map"].items():
        by_file.setdefault(file, set()).add(name)
    total = 0
    for file, names in by_file.items():
        with safe_open(path.parent / file, framework="pt") as shard:
            if set(shard.keys()) != names:
                faults.append(f"{path}: {file} holds other tensors than the index says")
            for name in shard.keys():
                tensor = shard.get_tensor(name)
                total += tensor.numel() * tensor.element_size()
    if total != index["metadata"]["total_size"]:
        faults.append(f"{path}: total_size is {index['metadata']['total_size']}, the tensors have {total} bytes")
    return faults


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    faults, count = [], 0
    for folder in map(Path, sys.argv[1:]):
        for path in sorted(folder.rglob("*.safetensors")):
            faults += check_file(path)
            count += 1
        for path in sorted(folder.rglob("*.safetensors.index.json")):
            faults += check_index(path)
    for fault in faults:
        print(fault)
    if not count:
        print("there are no safetensors files in", *sys.argv[1:])
    print(f"{count} files checked, {len(faults)} faults", file=sys.stderr)
    return 1 if faults or not count else 0


if __name__ == "__main__":
    sys.exit(main())
