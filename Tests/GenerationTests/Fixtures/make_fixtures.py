#!/usr/bin/env python3
"""Make the fixtures of the logits processors: what those of transformers do to random scores.

    python make_fixtures.py        needs torch 2.15, transformers 5.23, safetensors; rewrites processors.* here

`processors.json` holds the prompts and answers that the rows of scores continue, and one case per entry: a
GenerationConfig. `processors.safetensors` holds `scores` float32 [N, V] and per case `expected.NAME`, the scores after
every processor that transformers makes of the configuration, in its order.

Rows are run one by one, because their histories differ in length.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
VOCABULARY = 60
END = [2, 7]

# Prompt and answer of each row; the second repeats itself, the third has only just begun.
HISTORIES = [
    ([1, 5, 9, 9, 30], [4, 5, 9]),
    ([1, 8, 3, 8, 3, 8], [3, 8, 3, 8]),
    ([1, 2], []),
    ([40, 41, 42, 43, 40, 41], [42, 43, 40, 41, 42]),
]

CASES = {
    "greedy": {},
    "repetition-penalty": {"repetition_penalty": 1.3},
    "repetition-reward": {"repetition_penalty": 0.7},
    "no-repeat-bigram": {"no_repeat_ngram_size": 2},
    "no-repeat-trigram": {"no_repeat_ngram_size": 3},
    "no-repeat-token": {"no_repeat_ngram_size": 1},
    "min-new-tokens": {"min_new_tokens": 4},
    "greedy-ignores-temperature": {"temperature": 0.5, "top_k": 5},
    "sampling": {"do_sample": True},
    "temperature": {"do_sample": True, "top_k": 0, "temperature": 0.6},
    "top-k": {"do_sample": True, "top_k": 7},
    "top-k-beyond-the-vocabulary": {"do_sample": True, "top_k": 1000},
    "top-p": {"do_sample": True, "top_k": 0, "top_p": 0.8},
    "top-p-zero": {"do_sample": True, "top_k": 0, "top_p": 0.0},
    "top-p-almost-all": {"do_sample": True, "top_k": 0, "top_p": 0.999},
    "min-p": {"do_sample": True, "top_k": 0, "min_p": 0.1},
    "min-p-one": {"do_sample": True, "top_k": 0, "min_p": 1.0},
    "typical-p": {"do_sample": True, "top_k": 0, "typical_p": 0.7},
    "typical-p-after-top-k": {"do_sample": True, "top_k": 10, "typical_p": 0.9},
    "everything": {
        "do_sample": True, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_new_tokens": 4,
        "temperature": 0.7, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.95,
    },
}


def main() -> None:
    transformers.logging.set_verbosity_error()
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(len(HISTORIES), VOCABULARY, generator=generator) * 3
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    tensors = {"scores": scores}
    for name, settings in CASES.items():
        config = GenerationConfig(eos_token_id=END, **settings)
        rows = []
        for row, (prompt, answer) in enumerate(HISTORIES):
            config, _ = model._prepare_generation_config(config)
            model._prepare_special_tokens(config, device="cpu")
            processors = model._get_logits_processor(
                config, input_ids_seq_length=len(prompt), encoder_input_ids=torch.tensor([prompt]), device="cpu"
            )
            rows.append(processors(torch.tensor([prompt + answer]), scores[row : row + 1].clone()))
        tensors[f"expected.{name}"] = torch.cat(rows)
    unchanged = [name for name in CASES if torch.equal(tensors[f"expected.{name}"], scores)]
    assert unchanged == ["greedy", "greedy-ignores-temperature", "top-k-beyond-the-vocabulary"], unchanged
    save_file(tensors, HERE / "processors.safetensors")
    description = {
        "eos_token_id": END,
        "sequences": [{"prompt": prompt, "generated": answer} for prompt, answer in HISTORIES],
        "cases": CASES,
    }
    (HERE / "processors.json").write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main()
