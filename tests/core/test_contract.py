"""The rules between the parts: who may import whom, and that all versions say the same.

Run in `.venv-core`, where there is no bpy, the suite of which this is a part proves the core's independence.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "addon", "sample_rigs")
OURS = {"addon", "bootstrap", "core", "mien", "models", "sample_rigs", "tests"}
BLENDER = {"aud", "bl_ext", "bmesh", "bpy", "bpy_extras", "blf", "gpu", "gpu_extras", "mathutils"}
TRAINING = {"matplotlib", "numba", "onnx", "scipy", "skimage", "sklearn", "torch", "torchvision"}


def sources(package: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py"))


def imports(path: Path):
    """Yield (line, level, module) of every import in a file; level 0 is absolute."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is None:
            yield from ((node.lineno, node.level, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module


def offences(package: str, wrong):
    return [f"{path}:{line}: {module}" for path in sources(package) for line, level, module in imports(path)
            if wrong(path, level, module)]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_own_modules_are_imported_relatively(package):
    """Inside Blender the package is ``bl_ext.<repository>.mien``: no other name of it exists there."""
    assert not offences(package, lambda path, level, module: level == 0 and module.split(".")[0] in OURS)


def test_core_reaches_nothing_above_itself():
    """The worker runs ``core`` alone, as a top-level package."""
    assert not offences("core", lambda path, level, module: level > len(path.parent.parts))


def test_core_imports_neither_blender_nor_training_libraries():
    def wrong(path, level, module):
        training = path.parts[:2] == ("core", "training")
        top = module.split(".")[0]
        return level == 0 and (top in BLENDER or (top in TRAINING and not training))

    assert not offences("core", wrong)


def test_an_environment_below_a_folder_with_a_space_is_known_again(tmp_path, monkeypatch):
    import venv

    from mien import bootstrap

    monkeypatch.setattr(bootstrap, "ROOT", tmp_path / "my checkout")
    environment = bootstrap.Environment(".venv", sys.version_info[:2], "", "")
    venv.create(bootstrap.ROOT / ".venv", symlinks=sys.platform != "win32")
    assert not bootstrap.works(environment)  # has no pip
    (bootstrap.ROOT / ".venv" / "pip.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(bootstrap.ROOT / ".venv"))
    assert bootstrap.works(environment)


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_a_python_is_found_whose_path_the_code_page_lacks(tmp_path, monkeypatch):
    from mien import bootstrap

    python = tmp_path / "Łódź" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    monkeypatch.setattr(sys, "executable", str(python))
    assert bootstrap.find_python(sys.version_info[:2]) == str(python)


def test_what_sets_up_leaves_stdout_to_the_command(capfd):
    from mien import bootstrap

    bootstrap.tell("Updating ...")
    bootstrap.run([sys.executable, "-c", "print('verified')"])
    assert capfd.readouterr() == ("", "Updating ...\nverified\n")


def test_addon_starts_no_thread_and_reaches_no_network():
    """Blender's extension platform refuses both, and neither is safe beside bpy."""
    forbidden = {"concurrent", "http", "multiprocessing", "requests", "threading", "urllib"}
    assert not offences("addon", lambda path, level, module: level == 0 and module.split(".")[0] in forbidden)


def core_modules() -> list[str]:
    names = [".".join(path.with_suffix("").parts) for path in sources("core") if path.parts[1] != "training"]
    return [name.removesuffix(".__init__") for name in names]


def test_every_core_module_imports_alone_without_bpy_and_torch():
    program = textwrap.dedent("""
        import importlib, json, sys, traceback

        sys.path.insert(0, sys.argv[1])
        failures = {}
        for name in sys.argv[2:]:
            for loaded in [key for key in sys.modules if key.split(".")[0] == "core"]:
                del sys.modules[loaded]  # so that no module leans on what another one happened to import
            try:
                importlib.import_module(name)
            except BaseException:
                failures[name] = traceback.format_exc()
            if found := {"bpy", "torch"} & set(sys.modules):
                failures[name] = f"imported {found}"
                break
        print(json.dumps(failures))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), *core_modules()], capture_output=True, text=True, cwd=ROOT / "tests"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_command_line_starts_without_bpy():
    """`mien capture` must run where there is no Blender: nothing imports bpy to list the commands."""
    program = textwrap.dedent("""
        import importlib.util, runpy, sys

        sys.modules["bpy"] = None  # importing it fails, installed or not
        spec = importlib.util.spec_from_file_location("mien", sys.argv[1], submodule_search_locations=[sys.argv[2]])
        sys.modules["mien"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.argv[1:] = ["--help"]
        runpy.run_module("mien", run_name="__main__", alter_sys=True)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "__init__.py"), str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for command in ("bake", "capture", "export", "models"):
        assert command in done.stdout


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    from mien.core.take import APP

    assert manifest["version"] == project["version"]
    assert project["version"] in APP
    assert f"## {project['version']}" in changelog, "a release needs its section in CHANGELOG.md"


def test_pyproject_lists_every_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    try:
        listing = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    folders = {Path(name).parent for name in listing.stdout.splitlines() if name.endswith(".py")}
    # Training code runs from the checkout only.
    expected = {"mien." + ".".join(folder.parts) for folder in folders if folder.parts[:2] != ("core", "training")}
    assert set(listed) == expected | {"mien", "mien.models"}


def test_wheels_are_pinned_to_what_the_core_mirrors():
    """The C structs in `mediapipe_lite` are those of one release; the zips must carry that one."""
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    from mien.core.mediapipe_lite import MEDIAPIPE_VERSION

    wheels = [Path(wheel).name for wheel in manifest["wheels"]]
    assert sum(wheel.startswith(f"mediapipe-{MEDIAPIPE_VERSION}-py3-none-") for wheel in wheels) == 3
    assert f"mediapipe=={MEDIAPIPE_VERSION}" in project["dependencies"]
    opencv = {wheel.split("-")[1] for wheel in wheels if wheel.startswith("opencv")}
    assert [f"opencv-contrib-python=={version}" for version in opencv] == [
        entry for entry in project["dependencies"] if entry.startswith("opencv")
    ]
    assert not [wheel for wheel in wheels if wheel.startswith("numpy")]
