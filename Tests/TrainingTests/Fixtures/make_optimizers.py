#!/usr/bin/env python3
"""Make optimizers.safetensors: what the field's optimizers do to three parameters in six steps.

    python make_optimizers.py

needs torch 2.15, transformers 5.23, bitsandbytes 0.50. The file holds

    map.signed, map.unsigned    bitsandbytes' dynamic data type
    initial.P                   parameter P before the first step: "matrix" [40, 103] is large enough for 8-bit states
    gradient.S.P                its gradient in step S
    NAME.P                      it after the last step of optimizer NAME

NAME is adamw_torch, sgd, sgd_momentum, sgd_nesterov (torch), adafactor (transformers, with the Trainer's settings), lion_32bit
(bitsandbytes), adamw_8bit and lion_8bit (this script: the paper's, every number rounded to the nearest of the map, squares never to zero), and
bnb_adamw_8bit and bnb_lion_8bit (bitsandbytes on the CPU, whose quantizer rounds by a look-up table that is coarse near
zero: it gives 0 the code of 2e-5).

loss_scale.json holds the factors of PyTorch's GradScaler after each step, and in which steps a gradient overflowed.
"""

import json
from pathlib import Path

import bitsandbytes
import torch
from bitsandbytes.functional import create_dynamic_map
from safetensors.torch import save_file
from transformers import Adafactor

HERE = Path(__file__).resolve().parent
SHAPES = {"matrix": (40, 103), "small": (16, 20), "vector": (9,)}
STEPS, RATE, DECAY, BETAS, EPSILON, BLOCK = 6, 1e-2, 0.1, (0.9, 0.999), 1e-8, 256

torch.manual_seed(0)
INITIAL = {name: torch.randn(shape) for name, shape in SHAPES.items()}
# Heavy tails, as gradients have them.
GRADIENTS = [{name: torch.randn(shape) ** 3 * 0.05 for name, shape in SHAPES.items()} for _ in range(STEPS)]
MAPS = {True: create_dynamic_map(signed=True), False: create_dynamic_map(signed=False)}


def run(make):
    parameters = {name: torch.nn.Parameter(value.clone()) for name, value in INITIAL.items()}
    optimizer = make(list(parameters.values()))
    for gradients in GRADIENTS:
        for name, parameter in parameters.items():
            parameter.grad = gradients[name].clone()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def rounded(state, signed):
    """What a state is after it was stored in 8 bits."""
    if state.numel() < 4096:
        return state
    blocks = torch.nn.functional.pad(state.flatten(), (0, -state.numel() % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True)
    relative = torch.where(scale > 0, blocks * (1 / scale), torch.zeros(()))
    values = MAPS[signed]
    codes = torch.bucketize(relative.contiguous(), (values[1:] + values[:-1]) / 2)
    if not signed:  # a square that is not zero stays so: what divides by its root would go anywhere
        codes = torch.where(relative > 0, codes.clamp(min=1), codes)
    return (values[codes] * scale).flatten()[: state.numel()].view(state.shape)


def adamw_8bit():
    result = {}
    for name, initial in INITIAL.items():
        p, m, v = initial.clone(), torch.zeros_like(initial), torch.zeros_like(initial)
        for step, gradients in enumerate(GRADIENTS, 1):
            g = gradients[name]
            m = m.lerp(g, 1 - BETAS[0])
            v = v * BETAS[1] + (1 - BETAS[1]) * g * g
            p = p * (1 - RATE * DECAY)
            p = p - RATE / (1 - BETAS[0] ** step) * m / (v.sqrt() / (1 - BETAS[1] ** step) ** 0.5 + EPSILON)
            m, v = rounded(m, True), rounded(v, False)
        result[name] = p
    return result


def lion_8bit():
    result = {}
    for name, initial in INITIAL.items():
        p, m = initial.clone(), torch.zeros_like(initial)
        for gradients in GRADIENTS:
            g = gradients[name]
            p = p * (1 - RATE * DECAY) - RATE * torch.sign(BETAS[0] * m + (1 - BETAS[0]) * g)
            m = rounded(BETAS[1] * m + (1 - BETAS[1]) * g, True)
        result[name] = p
    return result


def loss_scale():
    scaler = torch.amp.GradScaler("cpu", growth_interval=4)
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    overflows = [True, True] + [False] * 9 + [True] + [False] * 3 + [True, False, False, False, False, False]
    factors = []
    for overflow in overflows:
        parameter.grad = torch.tensor([float("inf") if overflow else 1.0])
        scaler.scale(torch.ones(()))  # the factor comes to be with the first use
        scaler.step(optimizer)
        scaler.update()
        factors.append(scaler.get_scale())
    (HERE / "loss_scale.json").write_text(json.dumps({"overflows": overflows, "factors": factors}) + "\n")


def main():
    adam = {"lr": RATE, "betas": BETAS, "eps": EPSILON, "weight_decay": DECAY}
    lion = {"lr": RATE, "betas": BETAS, "weight_decay": DECAY}
    sgd = {"lr": RATE, "weight_decay": DECAY}
    results = {
        "adamw_torch": run(lambda p: torch.optim.AdamW(p, **adam)),
        "sgd": run(lambda p: torch.optim.SGD(p, **sgd)),
        "sgd_momentum": run(lambda p: torch.optim.SGD(p, momentum=0.9, dampening=0.1, **sgd)),
        "sgd_nesterov": run(lambda p: torch.optim.SGD(p, momentum=0.9, nesterov=True, **sgd)),
        "adafactor": run(
            lambda p: Adafactor(p, lr=RATE, weight_decay=DECAY, scale_parameter=False, relative_step=False)
        ),
        "lion_32bit": run(lambda p: bitsandbytes.optim.Lion32bit(p, **lion)),
        "adamw_8bit": adamw_8bit(),
        "lion_8bit": lion_8bit(),
        "bnb_adamw_8bit": run(lambda p: bitsandbytes.optim.AdamW8bit(p, **adam)),
        "bnb_lion_8bit": run(lambda p: bitsandbytes.optim.Lion8bit(p, **lion)),
    }
    tensors = {"map.signed": MAPS[True], "map.unsigned": MAPS[False]}
    tensors |= {f"initial.{name}": value for name, value in INITIAL.items()}
    for step, gradients in enumerate(GRADIENTS):
        tensors |= {f"gradient.{step}.{name}": value for name, value in gradients.items()}
    for optimizer, parameters in results.items():
        tensors |= {f"{optimizer}.{name}": value.contiguous() for name, value in parameters.items()}
    save_file(tensors, HERE / "optimizers.safetensors")
    loss_scale()
    for name in ("adamw_8bit", "lion_8bit"):
        ours, theirs = results[name]["matrix"], results[f"bnb_{name}"]["matrix"]
        moved = (ours - INITIAL["matrix"]).norm()
        print(name, "and bitsandbytes' differ by", ((ours - theirs).norm() / moved).item(), "of the way")
    exact = results["adamw_torch"]["matrix"]
    for name in ("adamw_8bit", "bnb_adamw_8bit"):
        print(name, "and fp32 by", ((results[name]["matrix"] - exact).norm() / (exact - INITIAL["matrix"]).norm()).item())


if __name__ == "__main__":
    main()
