"""PEFT's BOFT with more than one butterfly factor, without a GPU.

PEFT puts blocks on a diagonal by a CUDA extension that it compiles; where it cannot, it takes one factor whatever the
configuration says. `enable()` gives it the operation in PyTorch, so that all else is PEFT's own code.
"""

import peft.tuners.boft.layer as boft_layer
import torch


class BlockDiagonal:
    """What the extension does: blocks [N, D, H, H] → matrices [N, D·H, D·H]."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    @staticmethod
    def backward(gradient, blocks):
        count, number, size, _ = blocks.shape
        view = gradient.reshape(count, number, size, number, size)
        return [torch.stack([view[:, index, :, index] for index in range(number)], dim=1)]


def enable() -> None:
    boft_layer._FBD_CUDA = BlockDiagonal
