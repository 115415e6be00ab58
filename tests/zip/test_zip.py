"""The zip that users install: what is in it, and that it works in a Blender that has nothing else."""

from __future__ import annotations

import ast
import posixpath
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TOP = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "__init__.py",
    "addon",
    "blender_manifest.toml",
    "core",
    "models",
    "sample_rigs",
    "wheels",
}
NOT_SHIPPED = {
    "addon/cli.py",
    "addon/contact_sheet.py",
    "core/cli.py",
    "core/datasets.py",
    "core/evaluate.py",
    "core/points68.py",
    "core/fetch.py",
    "core/stills.py",
}
EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
SUFFIXES = {"addon": {".py"}, "core": {".py"}, "models": {".json", ".md", ".npz", ".onnx", ".task"}, "wheels": {".whl"}}

LIMIT = 115_000_000


@pytest.fixture(scope="module")
def archive(extension_zip):
    with zipfile.ZipFile(extension_zip) as archive:
        yield archive


@pytest.fixture(scope="module")
def names(archive) -> set[str]:
    return {name for name in archive.namelist() if not name.endswith("/")}


def test_only_what_belongs_in_it(names):
    assert {name.split("/")[0] for name in names} <= TOP
    odd = [
        name
        for name in names
        if any(part.startswith(".") or part in ("__pycache__", "tests", "training") for part in name.split("/"))
    ]
    assert not odd
    for folder, suffixes in SUFFIXES.items():
        assert {posixpath.splitext(name)[1] for name in names if name.startswith(f"{folder}/")} <= suffixes
    assert not names & NOT_SHIPPED


def test_every_module_of_the_addon_and_the_core_is_in_it(builder, names):
    expected = {
        name
        for name in builder.tracked()
        if name.endswith(".py") and name.startswith(("addon/", "core/")) and not name.startswith("core/training/")
    }
    assert expected - NOT_SHIPPED <= names


def test_no_shipped_module_imports_one_that_is_not(archive, names):
    missing = []
    for name in sorted(names):
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(archive.read(name))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = posixpath.dirname(name).split("/")
            base = [part for part in base if part][: len([part for part in base if part]) - node.level + 1]
            target = "/".join(base + (node.module.split(".") if node.module else []))
            inside = [target] if node.module and not is_package(target, names) else [
                f"{target}/{alias.name}".lstrip("/") for alias in node.names
            ]  # fmt: skip
            for module in inside:
                if is_module(module, names) or (is_package(posixpath.dirname(module), names) and defines(
                    archive, posixpath.dirname(module), posixpath.basename(module)
                )):  # fmt: skip
                    continue
                missing.append(f"{name}:{node.lineno}: {module}")
    assert not missing


def is_module(path: str, names: set[str]) -> bool:
    return f"{path}.py" in names or is_package(path, names)


def is_package(path: str, names: set[str]) -> bool:
    return posixpath.join(path, "__init__.py") in names


def defines(archive, package: str, name: str) -> bool:
    return name in archive.read(posixpath.join(package, "__init__.py")).decode()


def test_wheels_are_this_platforms_and_numpy_is_blenders(archive, names, builder, this_platform):
    manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    wheels = {f"wheels/{name}" for name in builder.wheels_of(this_platform, builder.read_manifest())}
    assert {name for name in names if name.startswith("wheels/")} == wheels
    assert {wheel.removeprefix("./") for wheel in manifest["wheels"]} == wheels
    assert manifest["platforms"] == [this_platform]
    assert len(wheels) == 2 + 2 * len(builder.PYTHONS)
    assert not any("numpy" in wheel for wheel in wheels)


def test_model_is_in_it(archive):
    assert archive.getinfo("models/face_landmarker.task").file_size == 3_758_596


def test_it_has_not_grown(extension_zip):
    assert extension_zip.stat().st_size < LIMIT


def test_manifest_tells_why_it_needs_each_permission(builder):
    manifest = builder.read_manifest()
    assert set(manifest["permissions"]) == {"camera", "files", "microphone", "network"}
    assert manifest["blender_version_min"] == "4.2.0"
    assert set(manifest["platforms"]) == set(builder.PLATFORMS)
    for platform in builder.PLATFORMS:
        assert len(builder.wheels_of(platform, manifest)) == 2 + 2 * len(builder.PYTHONS)


def test_install_bake_disable(extension_zip, run_inside, clip):
    report = run_inside("inside.py", extension_zip, clip)
    assert report["never_here"] == [], "the zip's own wheels are to be proved"
    assert report["enabled"]
    assert report["tabs"] == ["Mien"]
    assert set(report["wheels"]) == {"mediapipe", "cv2", "_cffi_backend", "miniaudio"}
    assert all("blender-user" in path for path in report["wheels"].values())
    assert report["sound"] == "1.71", "Blender must have installed the wheels of its own Python"

    bake = report["bake"]
    assert bake["outcome"] == ["FINISHED"], report["output"]
    assert bake["libraries"] == [], "pictures are decoded in the worker, never in Blender"
    assert len(bake["moved"]) == 11
    moving = [name for name, distance in bake["moved"].items() if distance > 0.1]
    assert len(moving) >= 6, bake["moved"]
    # Mien's own models are in the zip, and need nothing that is not: no torch, no scikit-learn.
    assert bake["estimator"] == "combined"
    assert set(bake["labels"]) & set(EXPRESSIONS), bake["labels"]
    live = report["live"]
    assert (live["outcome"], live["state"], live["error"]) == (["FINISHED"], "live", ""), live
    assert live["label"] in EXPRESSIONS
    assert 0.2 < live["probability"] <= 1.0

    assert report["warnings"] == []
    assert report["cycles"] == [{}, True, {}, True, {}]
    assert "Traceback" not in report["output"]
