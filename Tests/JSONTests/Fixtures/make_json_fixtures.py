"""Writes `python_json.json`: values and how Python's `json.dumps` prints them.

Run: python make_json_fixtures.py
"""

import json
import random
import struct
from pathlib import Path

rng = random.Random(7)

floats = [0.0, -0.0, 1.0, 100.0, 0.1, 1e-4, 1e-5, 12345.678, 1e15, 1e16, 1.5e16, 123456789012345680.0,
          5e-324, 1.7976931348623157e308, 2.5e-8, 0.0001234, 1e22, 1e21, 9007199254740993.0, 1 / 3]
while len(floats) < 2000:
    value = struct.unpack("<d", rng.randbytes(8))[0] if len(floats) % 2 else rng.uniform(-1, 1) * 10 ** rng.randint(-8, 20)
    if value == value and abs(value) != float("inf"):
        floats.append(value)

texts = ["", "plain", "quote \" back \\ slash /", "\n\r\t\b\f\x00\x1f\x7f", "é ü 中文 😀 \u2028 \ufeff", "e\u0301"]
document = {
    "b": [1, -2, 2**63 - 1, -(2**63), 2.5, True, False, None, [], {}, [[]], {"x": {}}],
    "a": {"text": texts, "é": "中", "Z": 1, "a": 2, "😀": 3, "\uffff": 4},
    "": "empty key",
}
variants = [
    {"options": options, "text": json.dumps(document, **options)}
    for options in [
        {"ensure_ascii": False}, {"ensure_ascii": True}, {"ensure_ascii": False, "indent": 2},
        {"ensure_ascii": False, "indent": 4, "sort_keys": True}, {"ensure_ascii": True, "sort_keys": True},
        {"ensure_ascii": False, "separators": [",", ":"]}, {"ensure_ascii": False, "indent": 0},
    ]
]
fixture = {
    # The bits as text, so that the test does not depend on the parser it tests.
    "floats": [[f"{struct.unpack('<Q', struct.pack('<d', value))[0]:x}", json.dumps(value)] for value in floats],
    "variants": variants,
}
Path(__file__).with_name("python_json.json").write_text(json.dumps(fixture, indent=0) + "\n")
