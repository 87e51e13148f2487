#!/usr/bin/env python3
"""The peer of the generation and tokenization benchmarks: transformers' generate(), the tokenizers library.

Prints one JSON object: `tokens` and `seconds` (prompt included, loading not), best of --repeat.
"""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from transformers import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Scripts"))
from transformers_models import load_model, load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["generate", "tokenize"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", action="append", help="may be repeated: a batch")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--file", type=Path, help="text to tokenize, line by line")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    tokenizer = load_tokenizer(arguments.model)
    if arguments.what == "generate":
        model = load_model(arguments.model, getattr(torch, arguments.dtype))
        runs = [generate(arguments, model, tokenizer) for _ in range(arguments.repeat)]
    else:
        runs = [tokenize(arguments.file, tokenizer) for _ in range(arguments.repeat)]
    tokens, seconds = min(runs, key=lambda run: run[1])
    print(json.dumps({"tokens": tokens, "seconds": seconds}))


def generate(arguments, model, tokenizer):
    messages = [[{"role": "user", "content": prompt}] for prompt in arguments.prompt]
    prompts = [tokenizer.apply_chat_template(each, add_generation_prompt=True, return_dict=False) for each in messages]
    width, filler = max(map(len, prompts)), tokenizer.pad_token_id or 0
    tokens = torch.tensor([[filler] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    # No token ends an answer: all are as long as asked for.
    model.generation_config.eos_token_id = None
    start = time.perf_counter()
    output = model.generate(
        tokens, attention_mask=mask, max_new_tokens=arguments.new_tokens, do_sample=False, pad_token_id=filler
    )
    return output[:, width:].numel(), time.perf_counter() - start


def tokenize(file: Path, tokenizer):
    lines = file.read_text(encoding="utf-8").splitlines()
    core = tokenizer.backend_tokenizer
    start = time.perf_counter()
    count = sum(len(core.encode(line, add_special_tokens=False).ids) for line in lines)
    return count, time.perf_counter() - start


if __name__ == "__main__":
    main()
