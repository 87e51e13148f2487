"""Reads a log directory the way TensorBoard does and prints its scalars and texts.

Run on a run's folder: python check_tensorboard.py runs/medical/runs
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

accumulator = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
accumulator.Reload()
tags = accumulator.Tags()
for tag in tags["scalars"]:
    points = accumulator.Scalars(tag)
    if not points:  # a resumed run made these steps again
        continue
    print(f"{tag}: {len(points)} points, steps {points[0].step} to {points[-1].step}, last {points[-1].value:.6g}")
for tag in tags["tensors"]:
    for event in accumulator.Tensors(tag):
        value = event.tensor_proto
        if value.string_val:
            print(f"{tag} (text) at step {event.step}: {value.string_val[0].decode()!r}")
        else:
            print(f"{tag} at step {event.step}: {value.float_val}")
if not tags["scalars"] and not tags["tensors"]:
    sys.exit("no metrics found")
