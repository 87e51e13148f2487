"""Bottleneck adapters on a transformers model, the reference for Graft's: PEFT has none.

One adapter a sublayer (attention, feed-forward), y + s · up(act(down(x))), where x is the sublayer's output (Houlsby et al.
2019), that output with the residual (`original_ln_before`, Pfeiffer et al. 2020), or the sublayer's input (`is_parallel`, He
et al. 2021).
"""

import torch
from transformers.activations import ACT2FN

DEFAULTS = {
    "mh_adapter": True, "output_adapter": True, "reduction_factor": 16.0, "non_linearity": "relu",
    "original_ln_before": False, "is_parallel": False, "scaling": 1.0, "dropout": 0.0, "layers_to_transform": None,
}


def attach(model, settings: dict) -> list[str]:
    """Freezes `model`, puts adapters on it, and returns the paths of the sublayers that have one."""
    settings = DEFAULTS | settings
    model.requires_grad_(False)
    paths = []
    for index, layer in enumerate(model.model.layers):
        if settings["layers_to_transform"] is not None and index not in settings["layers_to_transform"]:
            continue
        places = [("self_attn", layer.input_layernorm, settings["mh_adapter"])]
        places += [("mlp", layer.post_attention_layernorm, settings["output_adapter"])]
        for name, norm, is_wanted in places:
            if is_wanted:
                adapt(getattr(layer, name), norm, model.config.hidden_size, settings)
                paths.append(f"model.layers.{index}.{name}")
    return paths


def adapt(sublayer, norm, hidden: int, settings: dict) -> None:
    width = int(hidden / settings["reduction_factor"])
    sublayer.adapter_down = torch.nn.Linear(hidden, width)
    sublayer.adapter_up = torch.nn.Linear(width, hidden)
    for tensor in (sublayer.adapter_down.bias, sublayer.adapter_up.weight, sublayer.adapter_up.bias):
        torch.nn.init.zeros_(tensor)
    activation = ACT2FN[settings["non_linearity"]]
    seen = {}

    def remember(module, arguments, output):
        seen["residual"], seen["input"] = arguments[0], output

    def change(module, arguments, output):
        own = output[0] if isinstance(output, tuple) else output
        read = seen["input"] if settings["is_parallel"] else own
        if settings["original_ln_before"]:
            read = own + seen["residual"]
        own = own + settings["scaling"] * module.adapter_up(activation(module.adapter_down(read)))
        return (own, *output[1:]) if isinstance(output, tuple) else own

    norm.register_forward_hook(remember)
    sublayer.register_forward_hook(change)


def state(model) -> dict:
    """The adapters' tensors under the names of Graft's file."""
    return {
        f"base_model.model.{name}": parameter.detach().clone()
        for name, parameter in model.named_parameters() if "adapter_" in name
    }


def load(model, tensors: dict) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapter_" in name:
                parameter.copy_(tensors[f"base_model.model.{name}"])


def configuration(base: str, settings: dict) -> dict:
    """`adapter_config.json`."""
    return DEFAULTS | settings | {
        "auto_mapping": None, "base_model_name_or_path": base, "inference_mode": True, "modules_to_save": None,
        "peft_type": "BOTTLENECK", "peft_version": "0.21.2", "revision": None, "task_type": "CAUSAL_LM",
    }


def trainable_line(model) -> str:
    """As PEFT's print_trainable_parameters() has it."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {100 * trainable / total:.4f}"
