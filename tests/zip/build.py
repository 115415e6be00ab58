"""Builds the extension zips of all platforms on one machine: `python3.11 . build`.

The zip holds the git-tracked files that blender_manifest.toml does not exclude, the
platform's wheels as they are on the package index, and the landmark model. Blender's own
tool builds and validates it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / "wheels"
PINS = Path(__file__).with_name("wheels.txt")
PLATFORMS = ("linux-x64", "windows-x64", "macos-arm64")

# What pip calls a platform, and how its wheels end.
PIP_PLATFORMS = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_13_0_arm64", "macosx_12_0_arm64", "macosx_11_0_arm64"),
}
# Those of the Blenders that Mien runs on: see blender_manifest.toml.
PYTHONS = ("3.11", "3.13", "3.14")
WHEEL_ENDINGS = {"linux-x64": "x86_64.whl", "windows-x64": "win_amd64.whl", "macos-arm64": "arm64.whl"}

# No file is newer: zips cannot hold dates before 1980, and a checkout's dates say nothing.
EPOCH = 946_684_800


def build(platforms=PLATFORMS, out: Path = ROOT / "dist", say=print) -> dict[str, Path]:
    """Build and validate one zip per platform; return their paths."""
    manifest = read_manifest()
    for platform in platforms:
        get_wheels(platform, manifest, say)
    built = {}
    out.mkdir(parents=True, exist_ok=True)
    for platform in platforms:
        with tempfile.TemporaryDirectory(prefix="mien-stage-") as scratch:
            stage = Path(scratch) / "mien"
            fill(stage, platform, manifest)
            blender_tool("build", "--source-dir", stage, "--output-dir", scratch, "--split-platforms")
            (made,) = Path(scratch).glob("*.zip")
            blender_tool("validate", made)
            # `mien-0.1.0-linux_x64.zip`, Blender's way, would be the one place with an underscore.
            name = f"{manifest['id']}-{manifest['version']}-{platform}.zip"
            built[platform] = Path(shutil.move(made, out / name))
        say(f"{built[platform].name}: {built[platform].stat().st_size / 1e6:.1f} MB")
    return built


def content_key(platform: str) -> str:
    """Return a digest of everything that goes into the platform's zip."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + PINS.read_bytes() + platform.encode())
    for name in tracked():
        digest.update(f"{name}\0{hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def read_manifest() -> dict:
    return tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))


def wheels_of(platform: str, manifest: dict) -> list[str]:
    """Return the file names of the platform's wheels."""
    return [Path(wheel).name for wheel in manifest["wheels"] if wheel.endswith(WHEEL_ENDINGS[platform])]


def get_wheels(platform: str, manifest: dict, say=print) -> None:
    """Put the platform's wheels into wheels/, each checked against its hash."""
    pins = set(re.findall(r"sha256:([0-9a-f]{64})", PINS.read_text(encoding="utf-8")))
    names = wheels_of(platform, manifest)
    if all((WHEELS / name).is_file() and sha256(WHEELS / name) in pins for name in names):
        return
    say(f"getting wheels for {platform}")
    tags = [f"--platform={tag}" for tag in PIP_PLATFORMS[platform]]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    exactly = ["--no-deps", "--only-binary=:all:", "--require-hashes", *tags]
    for python in PYTHONS:
        version = f"--python-version={python}"
        subprocess.run([*pip, *exactly, version, "--dest", WHEELS, "--requirement", PINS], check=True)
    for name in names:
        if sha256(WHEELS / name) not in pins:
            raise SystemExit(f"{name} is not the wheel that {PINS.name} names")


def fill(stage: Path, platform: str, manifest: dict) -> None:
    """Fill a folder with the platform's files: copies, since Blender's tool skips links."""
    stage.mkdir(parents=True)
    for name in tracked():
        copy(ROOT / name, stage / name)
    names = wheels_of(platform, manifest)
    for name in names:
        copy(WHEELS / name, stage / "wheels" / name)
    text = (stage / "blender_manifest.toml").read_text(encoding="utf-8")
    wheels = ", ".join(f'"./wheels/{name}"' for name in names)
    text = re.sub(r"^platforms = \[[^]]*\]", f'platforms = ["{platform}"]', text, flags=re.MULTILINE)
    text = re.sub(r"^wheels = \[[^]]*\]", f"wheels = [{wheels}]", text, flags=re.MULTILINE)
    (stage / "blender_manifest.toml").write_text(text, encoding="utf-8")
    copy(landmark_model(), stage / "models" / landmark_model().name)
    for path in stage.rglob("*"):
        os.utime(path, (EPOCH, EPOCH))


def tracked() -> list[str]:
    """Return the git-tracked files that are still there, sorted."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def landmark_model() -> Path:
    from mien.core import models

    return models.landmark_model()


def blender_tool(*arguments) -> None:
    """Run Blender's extension tool, which the bpy wheel carries."""
    package = Path(importlib.util.find_spec("bpy").origin).parent  # found without running it
    (tool,) = package.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    done = subprocess.run([sys.executable, tool, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"extension {arguments[0]} failed:\n{done.stdout}{done.stderr}")


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3.11 . build", description="Build the extension zips.")
    choice = f"some of: {', '.join(PLATFORMS)} (default: all)"
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=choice)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the zips (default: dist)")
    arguments = parser.parse_args()
    if unknown := set(arguments.platforms) - set(PLATFORMS):
        parser.error(f"no such platform: {', '.join(sorted(unknown))}")
    build(arguments.platforms or PLATFORMS, arguments.out)


if __name__ == "__main__":
    main()
