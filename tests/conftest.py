"""Makes the checkout importable as `mien` and finds the real data, for every test."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _import_checkout_as_mien():
    if "mien" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("mien", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["mien"] = module
    spec.loader.exec_module(module)


_import_checkout_as_mien()

_COMMAND = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "mien", {str(ROOT / "__init__.py")!r}, submodule_search_locations=[{str(ROOT)!r}])
sys.modules["mien"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from mien.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="session")
def mien_command() -> list[str]:
    """The `mien` command of this checkout as a process of its own, installed or not."""
    return [sys.executable, "-c", _COMMAND]


@pytest.fixture
def teach():
    """Teach an actor's file the second half of a clip as "grin", the first as rest, with the shipped models."""

    def learn(path, clip):
        from mien.core.actor import Actor
        from mien.core.capture import open_source
        from mien.core.expression import ExpressionClassifier
        from mien.core.landmarks import Landmarker
        from mien.core.models import landmark_model

        classifier = ExpressionClassifier()
        with open_source(clip) as source, Landmarker(landmark_model()) as landmarker:
            shown = [classifier.features(landmarker.detect(f.image, f.time), f.image) for f in source]
        Actor(path).learn("grin", shown[len(shown) // 2 :], shown[: len(shown) // 2])
        return path

    return learn


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real clips and labels; tests that need it skip, saying so, where it is absent."""
    told = os.environ.get("MIEN_DATA")
    folder = Path(told or ROOT.parent / "shared" / "data")
    if told and not folder.is_dir():
        pytest.fail(f"MIEN_DATA names no folder: {told}")
    if not folder.is_dir():
        pytest.skip("real data not found: set MIEN_DATA to its folder")
    return folder
