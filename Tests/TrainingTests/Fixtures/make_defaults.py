"""Writes defaults.json: the defaults of transformers' TrainingArguments and TRL's SFTConfig.

TRL's own additions come from SFTConfig, everything else from TrainingArguments. Run: python make_defaults.py
"""

import dataclasses
import enum
import json
import pathlib

from transformers import TrainingArguments
from trl import SFTConfig

# What Graft decides differently, with the reason.
DIFFERENT = {
    "optim": "the fused kernel is the same update under another name",
    "report_to": "Graft's own sinks",
    "output_dir": "None stands for trainer_output",
    "lr_scheduler_kwargs": "None stands for no options",
    "disable_tqdm": "None stands for the log level's choice",
    "assistant_only_loss": "conversations learn the assistant's turns unless told otherwise",
    "gradient_checkpointing": "None stands for off",
    "bf16": "None in TRL stands for a choice by device",
    "logging_dir": "removed from transformers",
}


def plain(value):
    return value.value if isinstance(value, enum.Enum) else value


def defaults(cls):
    return {
        f.name: plain(f.default) for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING
    }


result = defaults(SFTConfig) | defaults(TrainingArguments)
result = {k: v for k, v in sorted(result.items()) if k not in DIFFERENT and not k.startswith("_")}
path = pathlib.Path(__file__).with_name("defaults.json")
path.write_text(json.dumps(result, indent=1) + "\n")
print(f"{path.name}: {len(result)} defaults")
