"""Where training finds its data and keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"

HELD_OUT_BLOCKS = (4, 9, 14, 19)
"""Blocks of muxspace that no training sees."""


def data_folder() -> Path:
    """Return the folder of real data: `MIEN_DATA`, or shared/data beside the checkout."""
    folder = Path(os.environ.get("MIEN_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        raise SystemExit("Real data not found: set MIEN_DATA to its folder.")
    return folder


def work_folder() -> Path:
    """Return the folder for caches and checkpoints: `MIEN_WORK`, or out/training in the checkout."""
    folder = Path(os.environ.get("MIEN_WORK") or ROOT / "out" / "training")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
