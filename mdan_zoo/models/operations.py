"""Number of operations of a network."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode


def multiply_accumulates(network: nn.Module, size: int, *, batch_norm: bool = False) -> int:
    """Return the multiply-accumulate operations of the prediction of an image.

    Those of convolutions and matrix products, as `torch.utils.flop_counter` counts them. Nothing is
    computed, because the network is copied to the meta device.

    Args:
        network: Any network of images (N, 3, size, size), which is not changed.
        size: Side of the image in pixels.
        batch_norm: Count 2 for every output of BatchNorm, too. Twice the result is then the number
            of FLOPs in Table 1 of the paper.
    """
    shapes = copy.deepcopy(network).to("meta").eval()
    normalised = 0

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal normalised
        normalised += output.numel()

    for layer in shapes.modules():
        if isinstance(layer, _BatchNorm):
            layer.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.zeros(1, 3, size, size, device="meta"))
    return int(counter.get_total_flops()) // 2 + 2 * normalised * batch_norm
