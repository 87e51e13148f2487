#!/usr/bin/env python3
"""The peer of the training benchmark: LoRA with transformers' Trainer and PEFT, in eager mode, as their users run it, or
with --compile through torch.compile, all rows padded to --max-length so that it compiles once.

Rows are chat-templated with the prompt masked, cut at --max-length, and batched in file order, each batch padded to its
longest row. metrics.jsonl in --output has one line a step with the names that Graft uses: `tokens` (real tokens so far,
padding not counted), `supervised_tokens`, `loss`, `seconds` (training so far), `memory_bytes` (peak resident memory).
"""

import argparse
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import BitsAndBytesConfig, Trainer, TrainerCallback, TrainingArguments, logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Scripts"))
from transformers_models import load_model, load_tokenizer

IGNORED = -100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a model's folder, or its GGUF file")
    parser.add_argument("--rows", type=Path, required=True, help='JSON: [{"question": …, "answer": …}, …]')
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--load-in-4bit", action="store_true", help="the base in NF4, by bitsandbytes")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(42)

    dtype = getattr(torch, arguments.dtype)
    options = {}
    if arguments.load_in_4bit:
        # Without prepare_model_for_kbit_training, which casts embeddings and norms to fp32 and checkpoints every layer: the
        # peer is faster without. get_peft_model freezes the base.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    model, tokenizer = load_model(arguments.model, dtype, **options), load_tokenizer(arguments.model)
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    model = get_peft_model(model, lora)
    rows = [encode(tokenizer, row, arguments.max_length) for row in json.loads(arguments.rows.read_text())]

    arguments.output.mkdir(parents=True, exist_ok=True)
    filler = {"input_ids": tokenizer.pad_token_id or 0, "labels": IGNORED, "attention_mask": 0}

    def pad(batch):
        width = arguments.max_length if arguments.compile else max(len(row["input_ids"]) for row in batch)
        return {
            key: torch.tensor([row[key] + [value] * (width - len(row[key])) for row in batch])
            for key, value in filler.items()
        }

    training = TrainingArguments(
        output_dir=str(arguments.output), use_cpu=arguments.device == "cpu", bf16=arguments.dtype == "bfloat16", max_steps=arguments.steps,
        per_device_train_batch_size=arguments.batch, learning_rate=2e-4, lr_scheduler_type="constant",
        logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, optim="adamw_torch",
        remove_unused_columns=False, label_names=["labels"],
        torch_compile=arguments.compile, gradient_checkpointing=arguments.gradient_checkpointing,
    )
    with open(arguments.output / "metrics.jsonl", "w") as sink:
        record = Record(sink, rows, arguments.batch)
        InOrder(model=model, args=training, train_dataset=rows, data_collator=pad, callbacks=[record]).train()


def encode(tokenizer, row, maximum: int):
    question, answer = {"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}
    prompt = tokenizer.apply_chat_template([question], add_generation_prompt=True, return_dict=False)
    tokens = tokenizer.apply_chat_template([question, answer], return_dict=False)
    labels = [IGNORED] * len(prompt) + tokens[len(prompt):]
    tokens, labels = tokens[:maximum], labels[:maximum]
    return {"input_ids": tokens, "labels": labels, "attention_mask": [1] * len(tokens)}


class InOrder(Trainer):
    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


class Record(TrainerCallback):
    def __init__(self, sink, rows, batch: int):
        self.sink, self.rows, self.batch = sink, rows, batch
        self.tokens = self.supervised = 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.started

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in logs:
            return
        # The last batch of an epoch may be short, as the sampler makes it.
        batches = -(-len(self.rows) // self.batch)
        start = ((state.global_step - 1) % batches) * self.batch
        members = self.rows[start : start + self.batch]
        self.tokens += sum(len(row["input_ids"]) for row in members)
        self.supervised += sum(label != IGNORED for row in members for label in row["labels"][1:])
        line = {
            "step": state.global_step, "loss": logs["loss"], "tokens": self.tokens,
            "supervised_tokens": self.supervised, "seconds": self.seconds, "memory_bytes": peak_memory(),
        }
        self.sink.write(json.dumps(line) + "\n")
        self.sink.flush()


def peak_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
