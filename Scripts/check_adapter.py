#!/usr/bin/env python3
"""Prove that PEFT loads the adapters that Graft saves and computes the same logits with them.

    GRAFT_EXPORT_ADAPTERS=FOLDER swift test -c release --filter 'ExportTests|ClassifierExport'
    Scripts/check_adapter.py FOLDER        needs torch, transformers, peft, safetensors, bitsandbytes, scipy

The tests write one adapter for every setting of Tests/AdaptersTests/Fixtures, and classifiers, started and trained by Graft, with the
logits that Graft computes. Here PEFT loads each onto the same base; what PEFT has no method for is loaded by a few lines of
PyTorch, and models that were trained in full, or merged, by transformers. The exit status is 1 when one differs, or when PEFT
misses a tensor, finds one too many, or ignores a setting.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

TESTS = Path(__file__).resolve().parent.parent / "Tests"
BASES = TESTS / "ModelsTests" / "Fixtures"
sys.path.insert(0, str(TESTS / "AdaptersTests" / "Fixtures"))
import boft_extension  # noqa: E402
import bottleneck  # noqa: E402
import loftq_cpu  # noqa: E402

# Relative to the largest logit: fp32 sums in another order.
TOLERANCE = 1e-5
# Of PEFT's warnings, those that say that file and model do not fit: "Found missing adapter keys while loading the
# checkpoint", "Unexpected keyword arguments [...] for class LoraConfig".
FAULTS = ("missing adapter keys", "unexpected")


def main() -> int:
    parser = argparse.ArgumentParser(description="Have PEFT load the adapters that Graft's ExportTests wrote.")
    parser.add_argument("folder", type=Path)
    folders = sorted(path.parent for path in parser.parse_args().folder.glob("*/graft.safetensors"))
    if not folders:
        sys.exit("check_adapter: the folder holds no adapters; run the ExportTests with GRAFT_EXPORT_ADAPTERS first")
    boft_extension.enable()
    loftq_cpu.enable()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    failures = 0
    print(f"{'adapter':40} {'difference':>12} {'effect':>10}")
    for folder in folders:
        problem, difference, effect = check(folder)
        failures += problem is not None
        print(f"{folder.name:40} {difference:12.3g} {effect:10.3g}  {problem or ''}", flush=True)
    print(f"{len(folders)} adapters, {failures} fail")
    return 1 if failures else 0


def check(folder: Path):
    """What is wrong or None, the largest relative difference, and how far the adapter moves the logits."""
    facts = json.loads((folder / "graft.json").read_text())
    labels = facts.get("num_labels")
    kind = {"num_labels": labels} if labels else {}
    base = model_class(labels).from_pretrained(
        BASES / facts["base"], dtype=torch.float32, attn_implementation="eager", **kind
    ).eval()
    if kinds := getattr(base.config, "layer_types", None):
        # Qwen2 looks each layer's kind up in a table that PEFT does not lengthen when it replicates layers.
        base.config.layer_types = kinds * 4
    graft = load_file(folder / "graft.safetensors")
    count = sum(name.startswith("logits.") for name in graft)

    def logits(model):
        with torch.no_grad():
            # Methods with virtual tokens give logits for those, too; the last ones are the sequence's own.
            sequences = [graft[f"input_ids.{index}"] for index in range(count)]
            # A classifier gives one row for the whole sequence.
            results = [model(tokens[None]).logits for tokens in sequences]
            return results if labels else [one[0][-len(tokens) :] for one, tokens in zip(results, sequences)]

    before = logits(base)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load(base, folder, labels).eval()
    complaints = [str(one.message) for one in caught if any(word in str(one.message).lower() for word in FAULTS)]
    after = logits(model)

    # Of all sequences: the few scores of a classifier can nearly cancel in one of them.
    largest = max(theirs.abs().max().item() for theirs in after)
    difference = max((theirs - graft[f"logits.{index}"]).abs().max().item() for index, theirs in enumerate(after)) / largest
    effect = max((one - other).abs().max().item() for one, other in zip(after, before))
    if complaints:
        return complaints[0].splitlines()[0][:120], difference, effect
    if not difference < TOLERANCE:  # also NaN
        return "the logits differ", difference, effect
    if not effect > 1e-3:
        return "the adapter does nothing", difference, effect
    return None, difference, effect


def model_class(labels: int | None):
    return AutoModelForSequenceClassification if labels else AutoModelForCausalLM


def load(base, folder: Path, labels: int | None):
    """The base with the adapter: by PEFT, or by our own PyTorch module where PEFT has no such method."""
    if not (folder / "adapter_config.json").exists():
        return model_class(labels).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    configuration = json.loads((folder / "adapter_config.json").read_text())
    if configuration["peft_type"] == "BITFIT":
        return with_biases(base, load_file(folder / "adapter_model.safetensors"))
    if configuration["peft_type"] != "BOTTLENECK":
        return PeftModel.from_pretrained(base, folder)
    bottleneck.attach(base, {key: configuration[key] for key in bottleneck.DEFAULTS})
    bottleneck.load(base, load_file(folder / "adapter_model.safetensors"))
    return base


def with_biases(base, tensors):
    """The base with the biases of a BitFit adapter, and with the modules that were saved beside them."""
    for name, value in tensors.items():
        path, _, parameter = name.removeprefix("base_model.model.").rpartition(".")
        setattr(base.get_submodule(path), parameter, torch.nn.Parameter(value))
    return base


if __name__ == "__main__":
    sys.exit(main())
