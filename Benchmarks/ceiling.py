#!/usr/bin/env python3
"""The ceiling of a LoRA training step on this machine: what the matrix products and attention alone would take.

Prints one JSON object: `tokens_per_second`, `products_gflops` (their measured rate) and `flops_per_token`.

A step multiplies by each frozen weight twice, forward and for the gradient of the input, and by the output embedding
twice at supervised positions; attention costs 2 + 5 products (forward and backward) over the causal half. The products are
timed in the model's own shapes with ATen; attention is counted at the same rate. Everything else counts as nothing.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Scripts"))
from peft_training import IGNORED, encode
from transformers_models import load_tokenizer, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    folder, options = source(arguments.model)
    config, tokenizer = AutoConfig.from_pretrained(folder, **options), load_tokenizer(arguments.model)
    rows = [encode(tokenizer, row, arguments.max_length) for row in json.loads(arguments.rows.read_text())]
    lengths = [len(row["input_ids"]) for row in rows]
    supervised = sum(label != IGNORED for row in rows for label in row["labels"][1:])
    batches = -(-len(rows) // arguments.batch)
    tokens = sum(lengths) / batches  # of one step

    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    size = getattr(config, "head_dim", None) or hidden // heads
    queries, keys = heads * size, (config.num_key_value_heads or heads) * size
    # (tokens, inputs, outputs, how often)
    layers = config.num_hidden_layers
    shapes = [
        (tokens, hidden, queries + 2 * keys, layers), (tokens, queries, hidden, layers),
        (tokens, hidden, 2 * inner, layers), (tokens, inner, hidden, layers),
        (supervised / batches, hidden, config.vocab_size, 1),
    ]
    seconds = sum(product_seconds(arguments, *shape) for shape in shapes)
    flops = sum(4 * count * inputs * outputs * times for count, inputs, outputs, times in shapes)
    rate = flops / seconds
    attention = 7 * 2 * sum(n * (n + 1) / 2 for n in lengths) / batches * queries * layers
    total = flops + attention
    print(json.dumps({
        "tokens_per_second": tokens / (total / rate), "products_gflops": rate / 1e9, "flops_per_token": total / tokens,
    }))


def product_seconds(arguments, count: float, inputs: int, outputs: int, times: int) -> float:
    """Forward product and input gradient, in chunks of as many rows as a step would use."""
    dtype = getattr(torch, arguments.dtype)
    rows = max(1, min(round(count), (64 << 20) // (2 * outputs)))
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    gradient = torch.randn(rows, outputs).to(dtype)
    measured = []
    for _ in range(arguments.repeat + 1):
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        gradient @ weight
        measured.append(time.perf_counter() - start)
    return statistics.median(measured[1:]) * count / rows * times


if __name__ == "__main__":
    main()
