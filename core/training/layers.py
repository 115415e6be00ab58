"""What both networks are made of."""

from __future__ import annotations

import torch
from torch import nn


class Conv(nn.Sequential):
    """A convolution, normalised, rectified."""

    def __init__(self, inputs, outputs, stride=1, side=3):
        super().__init__(
            nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


def standardised(x: torch.Tensor) -> torch.Tensor:
    """Return pictures (n, 1, H, W) of zero mean and unit spread each: a camera's gain and offset drop out."""
    x = x - x.mean((2, 3), keepdim=True)
    return x / ((x * x).mean((2, 3), keepdim=True) + 1e-4).sqrt()
