"""Checkpoints that are whole or not there."""

from __future__ import annotations

from pathlib import Path

import torch


def save(state: dict, target: Path) -> None:
    """Write a checkpoint; one that is there is replaced by a whole one."""
    part = target.with_suffix(".part")
    torch.save(state, part)
    part.replace(target)
