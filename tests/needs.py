"""What a test needs besides Mien; in CI it is there, so that nothing is skipped unseen."""

from __future__ import annotations

import os
import shutil

import pytest


def need(there: object, reason: str) -> pytest.MarkDecorator:
    """Return a mark that skips tests where what they need is not there; in CI they run, and fail without it."""
    return pytest.mark.skipif(not there and not os.environ.get("CI"), reason=reason)


needs_ffmpeg = need(shutil.which("ffmpeg"), "ffmpeg is not installed")
