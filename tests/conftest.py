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


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real clips and labels; tests that need it skip, saying so, where it is absent."""
    folder = Path(os.environ.get("MIEN_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("real data not found: set MIEN_DATA to its folder")
    return folder
