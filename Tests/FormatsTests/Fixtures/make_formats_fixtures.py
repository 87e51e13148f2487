"""Makes the fixtures of FormatsTests: python make_formats_fixtures.py (needs torch, safetensors, gguf, numpy).

Each file in a format comes with NAME.expected.safetensors: what the format's own Python package reads from it, in fp32.
"""

import os
from collections import OrderedDict
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from safetensors.torch import save_file

here = Path(__file__).parent
rng = np.random.default_rng(20260101)
torch.manual_seed(20260101)


def all_safetensors_types():
    types = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
        "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
        "U8": torch.uint8, "BOOL": torch.bool,
    }
    tensors, expected = {}, {}
    for name, dtype in types.items():
        if dtype == torch.bool:
            values = torch.randint(0, 2, (3, 5)).bool()
        elif dtype.is_floating_point:
            if dtype.itemsize == 1:
                values = torch.arange(256, dtype=torch.uint8).view(dtype)  # every number of 8 bits
            elif dtype.itemsize == 2:
                values = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype)[::7].contiguous()
            else:
                values = torch.randn(3, 5, dtype=torch.float64).to(dtype)
        else:
            info = torch.iinfo(dtype)
            values = torch.tensor([info.min, 0, 1, info.max, info.max // 3], dtype=dtype)
        tensors[f"layers.{name}.weight"] = values
        expected[f"layers.{name}.weight"] = values.float()
    tensors["scalar"] = expected["scalar"] = torch.tensor(2.5)
    tensors["empty"] = expected["empty"] = torch.zeros(0, 4)
    odd = 'odd "name" \\ tab\t ü 名前 \x01'
    tensors[odd] = expected[odd] = torch.arange(6.0).reshape(2, 3)
    save_file(tensors, here / "types.safetensors", metadata={"format": "pt"})
    save_file({k: v.contiguous() for k, v in expected.items()}, here / "types.expected.safetensors")
    # Types that the engine has not.
    save_file({"complex": torch.tensor([1 + 2j, 3 - 4j]), "fnuz": torch.zeros(8, dtype=torch.float8_e4m3fnuz)},
              here / "other_types.safetensors", metadata={"format": "pt"})


# Where the half-precision scales of a block lie; everything else in a block may be any byte.
HALVES = {
    Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108],
    Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
}


def random_blocks(kind, rows, columns):
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    count = rows * columns // elements
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place in HALVES[kind]:
        scales = rng.standard_normal(count).astype(np.float16)
        scales[0], scales[1] = np.float16(6e-8), np.float16(-3.1e-5)  # subnormal
        scales[2], scales[3] = np.float16(65504), np.float16(0)
        blocks[:, place:place + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks.reshape(rows, -1)


def all_gguf_types():
    writer = gguf.GGUFWriter(here / "types.gguf", "llama")
    expected = {}
    for kind in HALVES:
        columns = 512
        packed = random_blocks(kind, 4, columns)
        writer.add_tensor(f"random.{kind.name}", packed, raw_dtype=kind)
        expected[f"random.{kind.name}"] = gguf.quants.dequantize(packed, kind)
        try:
            packed = gguf.quants.quantize(rng.standard_normal((2, columns)).astype(np.float32), kind)
        except NotImplementedError:
            continue
        writer.add_tensor(f"quantized.{kind.name}", packed, raw_dtype=kind)
        expected[f"quantized.{kind.name}"] = gguf.quants.dequantize(packed, kind)
    for name, dtype in {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I8": np.int8, "I16": np.int16,
                        "I32": np.int32, "I64": np.int64}.items():
        values = (rng.standard_normal((2, 3, 5)) * 50).astype(dtype)
        writer.add_tensor(f"plain.{name}", values)
        expected[f"plain.{name}"] = values.astype(np.float32)
    bf16 = gguf.quants.quantize(rng.standard_normal((2, 32)).astype(np.float32), Q.BF16)
    writer.add_tensor("plain.BF16", bf16, raw_dtype=Q.BF16)
    expected["plain.BF16"] = gguf.quants.dequantize(bf16, Q.BF16)
    writer.add_tensor("undecodable", rng.integers(0, 256, (1, 66), dtype=np.uint8), raw_dtype=Q.IQ2_XXS)

    kinds = gguf.GGUFValueType
    for name, value, kind in [
        ("u8", 200, kinds.UINT8), ("i8", -100, kinds.INT8), ("u16", 60000, kinds.UINT16), ("i16", -30000, kinds.INT16),
        ("u32", 4_000_000_000, kinds.UINT32), ("i32", -2_000_000_000, kinds.INT32), ("f32", 0.1, kinds.FLOAT32),
        ("flag", True, kinds.BOOL), ("text", "grüße 你好", kinds.STRING), ("u64", 2**64 - 1, kinds.UINT64),
        ("i64", -2**62, kinds.INT64), ("f64", 0.1, kinds.FLOAT64),
    ]:
        writer.add_key_value(f"test.{name}", value, kind)
    writer.add_array("test.integers", [1, -2, 3])
    writer.add_array("test.numbers", [0.5, -1.5])
    writer.add_array("test.flags", [True, False])
    writer.add_array("test.texts", ["a", "", "ü"])
    writer.add_block_count(3)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<s>", "a", "b", "Ġab", "é", "e\u0301"])
    writer.add_token_types([3, 1, 1, 1, 1, 4])
    writer.add_token_scores([0.0, -1.0, -2.0, -3.5, 0.0, 0.0])
    writer.add_token_merges(["a b", "Ġ ab"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template([{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": "T"}])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in expected.items()},
              here / "types.gguf.expected.safetensors")


class Command:
    """Pickles as a call, as malicious checkpoints do."""

    def __reduce__(self):
        return os.system, ("touch /tmp/graft-unpickled-code",)


def torch_checkpoints():
    base = torch.randn(6, 8)
    module = torch.nn.Linear(3, 2)
    state = module.state_dict()  # an OrderedDict with _metadata, which is pickled as its state
    state["base"] = base
    state["transposed"] = base.t()
    state["row"] = base[2]
    state["column"] = base[:, 3]
    state["window"] = base[1:4, 2:6]
    state["expanded"] = torch.tensor([1.0, 2.0]).expand(3, 2)
    state["parameter"] = torch.nn.Parameter(torch.randn(4))
    state["bf16"] = torch.randn(5, 2).bfloat16()
    state["f16"] = torch.randn(5).half()
    state["f64"] = torch.randn(2, dtype=torch.float64)
    state["i64"] = torch.tensor([-(2**40), 5])
    state["i32"], state["i16"] = torch.tensor([7, -7], dtype=torch.int32), torch.tensor([7, -7], dtype=torch.int16)
    state["i8"], state["u8"] = torch.tensor([7, -7], dtype=torch.int8), torch.tensor([7, 250], dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False, True])
    state["scalar"] = torch.tensor(3.25)
    state["empty"] = torch.zeros(0, 3)
    torch.save(state, here / "state.legacy.bin", _use_new_zipfile_serialization=False)
    expected = {k: v.detach().float().contiguous().clone() for k, v in state.items()}
    save_file(expected, here / "state.legacy.bin.expected.safetensors")
    # Types that only the newer format has.
    state["u16"] = torch.tensor([1, 65535], dtype=torch.uint16)
    state["f8"] = torch.randn(4).to(torch.float8_e4m3fn)
    for name in ["u16", "f8"]:
        expected[name] = state[name].float()
    torch.save(state, here / "state.bin")
    torch.save(state, here / "state.protocol4.bin", pickle_protocol=4)
    save_file(expected, here / "state.bin.expected.safetensors")

    torch.save({"model": OrderedDict(a=torch.ones(2)), "step": 12, "lr": 0.5, "note": "hi", "list": [torch.zeros(1)],
                "shape": torch.Size([1, 2]), "dtype": torch.bfloat16, "none": None}, here / "nested.pt")
    torch.save({"weight": torch.ones(2), "payload": Command()}, here / "code.pt")
    torch.save({"weight": torch.ones(2), "payload": Command()}, here / "code.legacy.pt",
               _use_new_zipfile_serialization=False)


all_safetensors_types()
all_gguf_types()
torch_checkpoints()
