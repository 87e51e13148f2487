"""PEFT's LoftQ without a GPU.

PEFT quantizes and decomposes on "cuda" whatever the weight's device is. `enable()` gives it its own function with the other
word, and with bitsandbytes' reference kernel in place of its CPU library, which takes the wrong constants where a row is not
whole blocks.
"""

import inspect

import bitsandbytes  # noqa: F401  registers the operators
import peft.tuners.lora.layer as lora_layer
import peft.utils.loftq_utils as loftq_utils
import torch


def dequantize_4bit(codes, state) -> torch.Tensor:
    """As bitsandbytes' function of this name, by its kernel for every device."""
    kernel = torch.ops.bitsandbytes.dequantize_4bit.default
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    return kernel._op_dk(key, codes, state.absmax, state.blocksize, state.quant_type, state.shape, state.dtype)


def enable() -> None:
    loftq_utils.dequantize_4bit = dequantize_4bit
    for name in ("loftq_init", "_loftq_init_new"):
        source = inspect.getsource(getattr(loftq_utils, name))
        for word, other in (('"cuda"', '"cpu"'), ("bnb.functional.dequantize_4bit(", "dequantize_4bit(")):
            assert source.count(word) == 1
            source = source.replace(word, other)
        exec(source, vars(loftq_utils))
    lora_layer.loftq_init = loftq_utils.loftq_init
