"""The built zip of this machine's platform, and Blenders that have no library of Mien's of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from mien import bootstrap

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = ROOT / "build" / "zip"


def _load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mien_build_zip", HERE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    return _load_build()


@pytest.fixture(scope="session")
def this_platform() -> str:
    return {"Darwin": "macos-arm64", "Windows": "windows-x64"}.get(platform.system(), "linux-x64")


@pytest.fixture(scope="session")
def extension_zip(builder, this_platform) -> Path:
    """The zip of this platform; built once for a given content of the checkout."""
    if importlib.util.find_spec("bpy") is None:
        pytest.skip("building the zip needs Blender's tool, which the bpy wheel carries")
    folder = BUILT / builder.content_key(this_platform)
    found = list(folder.glob("*.zip"))
    if not found:
        for old in BUILT.glob("*/*.zip"):  # 100 MB each, and stale
            old.unlink()
        found = list(builder.build([this_platform], folder).values())
    return found[0]


def _pythons() -> dict[str, Path]:
    """Return interpreters with bpy: both environments of the checkout, and those that ``MIEN_TEST_PYTHONS`` adds."""
    pythons = {environment.holds: environment.executable for environment in (bootstrap.MAIN, bootstrap.NEXT)}
    for path in filter(None, os.environ.get("MIEN_TEST_PYTHONS", "").split(os.pathsep)):
        pythons[path] = Path(path)
    return pythons


@pytest.fixture(scope="session", params=_pythons())
def blender_python(request, tmp_path_factory) -> Path:
    """A Python with bpy and what bpy needs, and neither MediaPipe nor OpenCV: like the one inside Blender."""
    python = _pythons()[request.param]
    if not python.exists():
        message = f"{request.param} is not set up: run `python3.11 . test`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    if os.name == "nt":
        pytest.skip("needs links")
    bare = tmp_path_factory.mktemp("blender") / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", bare], check=True)
    done = subprocess.run([python, HERE / "bpy_packages.py"], check=True, capture_output=True, text=True)
    (site,) = bare.glob("lib/python*/site-packages")
    for path in map(Path, done.stdout.splitlines()):
        (site / path.name).symlink_to(path)
    return bare / "bin" / "python"


@pytest.fixture(scope="session")
def clip() -> Path:
    """A short video with a face: the sample head's own, which every checkout has."""
    path = Path(os.environ.get("MIEN_TEST_CLIP") or ROOT / "sample_rigs" / "performance.mp4")
    assert path.exists(), "the checkout is incomplete: sample_rigs/performance.mp4"
    return path


@pytest.fixture
def run_inside(blender_python, tmp_path):
    """Run a script of this folder in a Blender with a user folder of its own; returns what it printed last, as JSON."""

    def run(script: str, *arguments, timeout: float = 600.0) -> dict:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MIEN_"))}
        environment |= {"BLENDER_USER_RESOURCES": str(tmp_path / "blender-user"), "HOME": str(tmp_path)}
        done = subprocess.run(
            [blender_python, HERE / script, *map(str, arguments)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return {**json.loads(done.stdout.splitlines()[-1]), "output": done.stdout + done.stderr}

    return run
