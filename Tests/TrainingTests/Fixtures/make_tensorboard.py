"""Writes run.tfevents with TensorBoard's own classes: the bytes that TensorBoardFile must write for the same reports.

Run: python make_tensorboard.py (needs tensorboard)
"""

import io
import pathlib

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1700000000.25


def scalars(step, prefix, values):
    summary = summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=prefix + k, simple_value=v) for k, v in values.items()]
    )
    return event_pb2.Event(wall_time=TIME, step=step, summary=summary)


def text(step, tag, content):
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING,
        string_val=[content.encode()],
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]),
    )
    metadata = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"))
    value = summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
    return event_pb2.Event(wall_time=TIME, step=step, summary=summary_pb2.Summary(value=[value]))


train = {
    "loss": 1.5, "learning_rate": 2e-4, "grad_norm": 0.75, "epoch": 0.5, "tokens": 4096.0,
    "supervised_tokens": 1024.0, "tokens_per_second": 512.5, "seconds": 8.0, "memory_bytes": 3e9,
}  # fmt: skip
events = [
    event_pb2.Event(wall_time=TIME, file_version="brain.Event:2"),
    event_pb2.Event(wall_time=TIME, step=301, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
    text(300, "configuration", "    learning_rate: 2.0e-04\n    system_prompt: 你好"),
    scalars(310, "train/", train),
    scalars(310, "eval/", {"loss": 1.25, "supervised_tokens": 2048.0, "seconds": 4.5, "exact_match": 0.875}),
]
buffer = io.BytesIO()
writer = RecordWriter(buffer)
for event in events:
    writer.write(event.SerializeToString(deterministic=True))
data = buffer.getvalue()
path = pathlib.Path(__file__).with_name("run.tfevents")
path.write_bytes(data)
print(f"{path.name}: {len(events)} events, {len(data)} bytes")
