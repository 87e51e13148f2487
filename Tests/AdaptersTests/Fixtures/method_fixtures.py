"""What the fixture scripts of all methods share: one folder per case, made by PEFT, in the form that the shared suite reads.

A case is an adapter directory (`adapter_config.json`, `adapter_model.safetensors`) on one of the tiny models of
Tests/ModelsTests/Fixtures, with random values that are never the start's, so that an adapter that is not applied shows, and

    expected.safetensors
        input_ids.I      int64 [T]        sequence I, run alone and unpadded
        logits.I         float32 [T, V]   base + adapter
        base_logits.I    float32 [T, V]   the base alone
        merged_logits.I  float32 [T, V]   after merge_and_unload(); absent where it refuses
    expected.json
        base             the folder in Tests/ModelsTests/Fixtures
        matched          the modules that carry the method, in the order of the model
        trainable        the names of the trainable parameters, without the adapter's name
        line             what print_trainable_parameters() prints
        merge_drift      present when the reference's merged model is another model, by how much
        identity         false when a new adapter does not start as the base; absent when it does
        untouched        trainable parameters that get a gradient of exactly zero; absent when there are none

Cases with a training (every method has at least one) also hold a run of ten or more AdamW steps in fp32 that starts at the
case's own adapter; the Swift side goes through Graft's Trainer (Tests/TrainingTests/Trainer/MethodTrainingTests.swift):

    training.json
        learning_rate, weight_decay, batches
            batches[S] are the sequences of step S, lists of token ids; every token but the first of each is supervised.
            Constant learning rate, betas 0.9 and 0.999, epsilon 1e-8, no clipping.
        losses           of each step: the mean cross-entropy over the step's supervised tokens, with the method's penalty
        scale            present when parameters have learning rates of their own: {name: factor of learning_rate}
        tolerance        present when the method's arithmetic amplifies rounding: {"loss": , "gradient": , "final": }
    training.safetensors
        initial.NAME     the values that the run starts from, only of parameters that adapter_model.safetensors does not hold
        gradient.NAME    of the first step's loss, penalty included
        final.NAME       after the last step
        NAME is the trainable parameter's name in PEFT without the adapter's name and without `base_model.model.`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
BASES = HERE.parent.parent / "ModelsTests" / "Fixtures"
LLAMA, LLAMA_TIED, LLAMA_BIASES = "llama-grouped-query", "llama-multi-head-tied", "llama-biases"
QWEN2, QWEN2_TIED = "qwen2-grouped-query", "qwen2-tied"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
VOCABULARY = range(3, 80)


def load_base(name: str):
    model = AutoModelForCausalLM.from_pretrained(BASES / name, dtype=torch.float32, attn_implementation="eager").eval()
    # What PEFT writes as base_model_name_or_path; a path of the machine that made the fixture would be worthless.
    model.config._name_or_path = name
    model.name_or_path = name
    return model


def random_tokens(length: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(VOCABULARY.start, VOCABULARY.stop, (length,), generator=generator)


def sequences(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [random_tokens(length, generator) for length in (6, 17)]


def logits(model, batch) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(tokens[None]).logits[0].float().clone() for tokens in batch]


def key(name: str, adapter: str = "default") -> str:
    """The name in the adapter's file of a parameter of a PeftModel, without what PEFT puts before the base's path."""
    return name.replace(f".{adapter}", "").removeprefix("base_model.model.")


def trainable_line(model) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        model.print_trainable_parameters()
    return output.getvalue().strip()


def matched_modules(model) -> list[str]:
    names = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    return [name.removeprefix("base_model.model.") for name in names]


def randomize(model, seed: int, spread: float = 0.2) -> None:
    """Moves every trainable parameter away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator))


def write_facts(folder: Path, expected: dict, facts: dict) -> None:
    save_file(expected, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder.name:36} {size:7d} bytes  {len(facts['matched'])} modules  {facts['line']}"
          + (f"  merge drift {facts['merge_drift']:.3f}" if "merge_drift" in facts else ""))


def make_case(
    number: int, name: str, base: str, config, *, spread: float = 0.2, unsafe_merge: bool = False, identity: bool = True,
    saved=None, prepare=None,
) -> Path:
    """Has PEFT make, move, save and load an adapter.

    `prepare(model, batch)` makes the values in place of random ones, and may change the configuration; `saved(folder)`
    changes what was saved.
    """
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    torch.manual_seed(number)
    batch = sequences(number)
    expected = {f"input_ids.{index}": tokens for index, tokens in enumerate(batch)}
    for index, value in enumerate(logits(load_base(base), batch)):
        expected[f"base_logits.{index}"] = value

    model = get_peft_model(load_base(base), copy.deepcopy(config)).eval()
    for index, value in enumerate(logits(model, batch)):
        moved = (value - expected[f"base_logits.{index}"]).abs().max().item()
        assert (moved < 1e-5) == identity, f"{name}: a new adapter moves the logits by {moved}"
    facts = {
        "base": base,
        "matched": matched_modules(model),
        "trainable": [name.replace(".default", "") for name, value in model.named_parameters() if value.requires_grad],
        "line": trainable_line(model),
    }
    if not identity:
        facts["identity"] = False
    if prepare:
        prepare(model, batch)
    else:
        randomize(model, 1000 + number, spread)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    if saved:
        saved(folder)
    if prepare:
        # The configuration that was saved can be another than the one that the case began with.
        trained = PeftModel.from_pretrained(load_base(base), folder, is_trainable=True)
        facts["line"] = trainable_line(trained)

    # Everything expected comes from the files, as PEFT loads them.
    for index, value in enumerate(logits(PeftModel.from_pretrained(load_base(base), folder).eval(), batch)):
        expected[f"logits.{index}"] = value
        change = (value - expected[f"base_logits.{index}"]).abs().max().item()
        assert change > 1e-2, f"{name}: the adapter moves the logits by {change} only"
    merged = PeftModel.from_pretrained(load_base(base), folder).eval().merge_and_unload()
    for index, value in enumerate(logits(merged, batch)):
        expected[f"merged_logits.{index}"] = value
    drift = max((expected[f"merged_logits.{i}"] - expected[f"logits.{i}"]).abs().max().item() for i in range(2))
    if drift > 1e-3:
        assert unsafe_merge, f"{name}: merging moves the logits by {drift}"
        facts["merge_drift"] = drift
    write_facts(folder, expected, facts)
    return folder


def training_batches(seed: int, steps: int) -> list[list[list[int]]]:
    """Two ragged sequences a step, each step's of another length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, 18, (steps, 2), generator=generator).tolist()
    return [[random_tokens(length, generator).tolist() for length in pair] for pair in lengths]


def mean_loss(model, batch) -> torch.Tensor:
    """The mean over all supervised tokens of the batch, each sequence run alone and unpadded."""
    supervised = sum(len(tokens) - 1 for tokens in batch)
    total = 0.0
    for tokens in batch:
        ids = torch.tensor(tokens)
        # Prompt methods give logits for their virtual tokens too; the last ones are the sequence's.
        found = model(ids[None]).logits[0][-len(tokens):]
        total = total + F.cross_entropy(found[:-1], ids[1:], reduction="sum")
    return total / supervised


def record_training(
    folder: Path, model, number: int, *, steps: int = 10, learning_rate: float = 1e-2, weight_decay: float = 0.0,
    penalty=None, after_step=None, names=key, stored: set[str] | None = None, scale: dict[str, float] | None = None,
    decays=lambda name: True, tolerance: dict[str, float] | None = None,
) -> None:
    """Trains `model`, which is as its files say, and writes training.json and training.safetensors.

    `penalty(model)` is a term added to the loss, `after_step(model, step)` is called behind optimizer step `step` (the
    first is 1) while the gradients are there, `stored` are the names of the parameters that the adapter's file holds (all
    when it is None), `names` gives a parameter's name in the file, `decays(name)` says whether weight decay applies to it.
    """
    model.train()
    named = {names(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    scale = scale or {}
    tensors = {f"initial.{name}": value.detach().clone() for name, value in named.items()
               if stored is not None and name not in stored}
    batches = training_batches(3000 + number, steps)
    optimizer = torch.optim.AdamW(
        [{"params": [value], "lr": learning_rate * scale.get(name, 1.0), "weight_decay": weight_decay if decays(name) else 0.0}
         for name, value in named.items()])
    losses = []
    for step, batch in enumerate(batches, 1):
        loss = mean_loss(model, batch)
        if penalty:
            loss = loss + penalty(model)
        loss.backward()
        losses.append(loss.item())
        if step == 1:
            tensors |= {f"gradient.{name}": value.grad.clone() for name, value in named.items()}
        optimizer.step()
        if after_step:
            after_step(model, step)
        optimizer.zero_grad()
    tensors |= {f"final.{name}": value.detach().clone() for name, value in named.items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "training.safetensors")
    document = {"learning_rate": learning_rate, "weight_decay": weight_decay, "batches": batches, "losses": losses}
    if scale:
        document["scale"] = scale
    if tolerance:
        document["tolerance"] = tolerance
    text = json.dumps(document, indent=1).replace("\n    ", " ").replace("\n   ]", " ]")
    (folder / "training.json").write_text(text + "\n")
    print(f"{'':36} loss {losses[0]:.4f} → {losses[-1]:.4f}")


def train_case(folder: Path, number: int, base: str, **settings) -> None:
    """`record_training` from the case's own files, as PEFT takes them up for training."""
    record_training(folder, PeftModel.from_pretrained(load_base(base), folder, is_trainable=True), number, **settings)
