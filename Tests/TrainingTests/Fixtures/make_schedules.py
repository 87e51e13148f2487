"""Writes schedules.json: the learning-rate multipliers of transformers for every schedule and many options.

Run: python make_schedules.py (needs transformers and torch)
"""

import json
import pathlib

import torch
from transformers.optimization import get_scheduler

CASES = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.25}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"lr_end": 1e-5, "power": 2.0}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 20}),
    ("cosine_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.75}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-5, "warmup_lr_rate": 0.2}),
    ("warmup_stable_decay", {"num_decay_steps": 5}),
    ("warmup_stable_decay", {"num_decay_steps": 6, "num_stable_steps": 4, "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", {"num_decay_steps": 7, "warmup_type": "cosine", "decay_type": "1-sqrt"}),
    ("warmup_stable_decay", {"num_decay_steps": 7, "warmup_type": "1-sqrt", "decay_type": "linear"}),
]
RUNS = [(0, 12), (3, 20), (1, 9)]  # warmup steps, training steps
LEARNING_RATE = 2e-4


def multipliers(name, options, warmup, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
    scheduler = get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=dict(options))
    # The functions themselves: reading `lr` back would add a rounding.
    function = scheduler.lr_lambdas[0]
    return [float(function(step)) for step in range(steps + 4)]


cases = [
    {
        "name": name,
        "options": options,
        "warmup_steps": warmup,
        "training_steps": steps,
        "learning_rate": LEARNING_RATE,
        "multipliers": multipliers(name, options, warmup, steps),
    }
    for name, options in CASES
    for warmup, steps in RUNS
]
path = pathlib.Path(__file__).with_name("schedules.json")
path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(f"{path.name}: {len(cases)} cases")
