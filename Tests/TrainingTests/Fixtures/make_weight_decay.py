"""Writes weight_decay.json: which parameters transformers' Trainer decays, for paths of many spellings.

Run: python make_weight_decay.py
"""

import json
import pathlib

import torch
from transformers import Trainer

PATHS = [
    "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_norm.weight", "model.norm.weight",
    "model.normal.weight", "model.renorm.weight", "model.RMSNorm.weight", "model.embed_tokens.weight",
    "transformer.h.0.ln_1.weight", "base_model.model.q_proj.lora_A.default.weight",
    "base_model.model.q_proj.lora_B.default.weight", "norm.weight", "final_norm.scale", "norms.weight", "unbiased.weight",
    "model.norm_1.weight",
]  # fmt: skip


def build(paths):
    root = torch.nn.Module()
    for path in paths:
        *folders, name = path.split(".")
        module = root
        for folder in folders:
            if not hasattr(module, folder):
                module.add_module(folder, torch.nn.Module())
            module = getattr(module, folder)
        module.register_parameter(name, torch.nn.Parameter(torch.zeros(1)))
    return root


decayed = set(Trainer.get_decay_parameter_names(None, build(PATHS)))
path = pathlib.Path(__file__).with_name("weight_decay.json")
path.write_text(json.dumps({name: name in decayed for name in PATHS}, indent=1) + "\n")
print(f"{path.name}: {len(PATHS)} paths, {len(decayed)} decayed")
