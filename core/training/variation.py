"""What both trainings do to their pictures: less sharp, other light, noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

Uniform = Callable[..., torch.Tensor]
"""``uniform(low, high, *shape)`` draws (n, *shape) evenly."""


def uniform_of(x: torch.Tensor, generator: torch.Generator | None) -> Uniform:
    """Return what draws evenly for each picture of a batch (n, ...)."""

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(len(x), *shape, generator=generator, device=x.device)

    return uniform


def soften(x: torch.Tensor, uniform: Uniform, often: float, least: float) -> torch.Tensor:
    """Mix pictures (n, 1, H, W) with themselves at half the size, by `least` or more, a share `often` of them."""
    low = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.lerp(x, low, (uniform(0, 1, 1, 1, 1) < often).float() * uniform(least, 1.0, 1, 1, 1))


def shade(x: torch.Tensor, uniform: Uniform, often: float) -> torch.Tensor:
    """Let a shadow fall on a share `often` of pictures (n, 1, H, W): a soft step of up to six tenths of the light."""
    down, across = (torch.linspace(-1, 1, side, device=x.device) for side in x.shape[2:])
    direction = uniform(0, 2 * math.pi, 1, 1, 1)
    place = torch.cos(direction) * across[None, None, None, :] + torch.sin(direction) * down[None, None, :, None]
    edge = torch.sigmoid((place - uniform(-0.7, 0.7, 1, 1, 1)) * torch.exp(uniform(0.3, 2.5, 1, 1, 1)))
    return x * (1 - edge * uniform(0.0, 0.6, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < often))


def roughen(x: torch.Tensor, uniform: Uniform, generator: torch.Generator | None, most: float) -> torch.Tensor:
    """Add noise of a spread of up to `most` to pictures (n, 1, H, W)."""
    return x + torch.randn(x.shape, generator=generator, device=x.device) * uniform(0, most, 1, 1, 1)
