"""What tests of a training share."""

import torch


class Cut(Exception):
    """The power fails after the first epoch."""


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether two networks have the same weights bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
