"""`python3.11 . COMMAND` in a checkout: sets up everything the command needs, then runs it.

Standard library only, and quick when all is in place. `test` and `build` are commands of
the checkout and are handled here; every other command is `mien COMMAND` in `.venv`.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent

BPY_PYTHON = (3, 11)
"""The one Python that the bpy 4.5 wheel runs on."""

# What bpy, OpenCV and MediaPipe load from a Linux system, and the Debian package that has it.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libGLESv2.so.2": "libgles2",
    "libICE.so.6": "libice6",
    "libSM.so.6": "libsm6",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}
DRIVERS = ("libgl1-mesa-dri", "/usr/lib/*/dri/swrast_dri.so", "/usr/lib/*/libgallium-*.so")


class SetupError(Exception):
    """Something that the person at the keyboard has to do first."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """A virtual environment of the checkout."""

    folder: str
    python: tuple
    extras: str
    holds: str

    @property
    def executable(self) -> Path:
        return ROOT / self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


CORE = Environment(".venv-core", BPY_PYTHON, "test", "no bpy")
MAIN = Environment(".venv", BPY_PYTHON, "blender,test", "bpy 4.5 LTS")
NEXT = Environment(".venv-52", (3, 13), "blender,test", "bpy 5.2 LTS")
TRAINING = Environment(".venv-training", BPY_PYTHON, "training,test", "torch")


@dataclasses.dataclass(frozen=True)
class Suite:
    """One line of the `test` command: a command in an environment, which may use further ones."""

    name: str
    environment: Environment
    command: tuple
    also: tuple = ()
    # torch takes gigabytes on most machines: only for who trains, and for CI.
    on_request: bool = False


SUITES = (
    Suite("lint", CORE, ("-m", "ruff", "check", ".")),
    Suite("core", CORE, ("-m", "pytest", "tests/core")),
    Suite("addon", MAIN, ("-m", "pytest", "tests/addon")),
    Suite("addon-5.2", NEXT, ("-m", "pytest", "tests/addon")),
    Suite("zip", MAIN, ("-m", "pytest", "tests/zip"), also=(NEXT,)),
    Suite("training", TRAINING, ("-m", "pytest", "tests/training"), on_request=True),
)


def main(argv: list) -> int:
    """Run one command of the checkout and return its exit status."""
    try:
        if sys.version_info[:2] != BPY_PYTHON:
            return replace_process([find_python(BPY_PYTHON), str(ROOT), *argv])
        if argv[:1] == ["test"]:
            return test(argv[1:])
        install(MAIN)
        if argv[:1] == ["build"]:
            fetch_model()
            return replace_process([str(MAIN.executable), str(ROOT / "tests" / "zip" / "build.py"), *argv[1:]])
        alone = argv[:1] == ["landmarks"] and "histograms" in argv  # runs without the landmark model
        if argv[:1] != ["models"] and not alone:
            fetch_model()
        return replace_process([str(MAIN.executable), "-m", "mien", *argv])
    except SetupError as error:
        print(f"mien: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mien: interrupted", file=sys.stderr)
        return 130


# --- the machine ---------------------------------------------------------------------------------


def find_python(version: tuple) -> str:
    """Return the path of a working Python of that version.

    Raises
    ------
    SetupError
        Saying how to get it on this system.
    """
    name = f"python{version[0]}.{version[1]}"
    roots = [os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv", Path("/opt/pyenv")]
    if shutil.which("pyenv"):
        roots.append(subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip())
    found = [str(path) for root in roots if root for path in sorted(Path(root).glob(f"versions/*/bin/{name}"))[::-1]]
    candidates = [[sys.executable], [shutil.which(name) or name], *([path] for path in found)]
    if os.name == "nt":
        candidates.append(["py", f"-{version[0]}.{version[1]}"])
    for candidate in candidates:
        # Asked, not trusted: pyenv puts a python3.13 on PATH that only says it is not selected.
        answer = ask(candidate, "sys.executable")
        if answer[1:] == list(version):
            return answer[0]
    number = f"{version[0]}.{version[1]}"
    ways = {
        "Darwin": f"`brew install python@{number}`, or the installer from python.org",
        "Windows": f"`winget install Python.Python.{number}`, or the installer from python.org",
    }
    linux = (
        f"`sudo apt-get install {name} {name}-venv` where the system has it, else `uv python install {number}` or pyenv"
    )
    way = ways.get(platform.system(), linux)
    raise SetupError(
        f"needs Python {number} exactly, this is {platform.python_version()} and no {name} was found.\n"
        f"Get it with {way}, then run the command again."
    )


def ask(python: list, value: str, *modules: str) -> list:
    """Return a value and the version of a Python that has these modules; nothing where there is none."""
    # As JSON: the code page that it prints in may lack letters of a path.
    program = f"import {', '.join(['json', 'sys', *modules])}; print(json.dumps([{value}, *sys.version_info[:2]]))"
    try:
        return json.loads(subprocess.run([*python, "-c", program], capture_output=True).stdout)
    except (OSError, ValueError):
        return []


def missing_packages() -> list:
    """Return the Debian packages of system libraries and programs that are not there."""
    missing = []
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    package, *patterns = DRIVERS
    if not any(list(Path("/").glob(pattern.lstrip("/"))) for pattern in patterns):
        missing.append(package)
    if not shutil.which("ffmpeg"):  # tests make odd videos with it
        missing.append("ffmpeg")
    # Tests speak into a microphone of PulseAudio's. A desktop has a sound server already, perhaps another one.
    if os.environ.get("CI"):
        programs = {"pulseaudio": "pulseaudio", "pactl": "pulseaudio-utils"}
        missing += [package for program, package in programs.items() if not shutil.which(program)]
    return missing


def install_system_packages(pythons: set) -> None:
    """Install what Linux lacks, by apt-get where that is possible, or say what to do."""
    if platform.system() != "Linux":
        return
    missing = missing_packages()
    for python in pythons:
        if subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode:
            version = subprocess.run(
                [python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True, text=True
            ).stdout.strip()
            missing.append(f"python{version}-venv")
    if not missing:
        return
    names = " ".join(missing)
    if not shutil.which("apt-get"):
        tell(f"These Debian packages, or what they are called here, seem to be missing: {names}")
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and (not shutil.which("sudo") or subprocess.run([*root, "true"], capture_output=True).returncode):
        raise SetupError(
            "system packages are missing. Run\n"
            f"  sudo apt-get update && sudo apt-get install --no-install-recommends {names}\n"
            "and then this command again."
        )
    tell(f"Installing system packages: {names}")
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *missing]):
        done = subprocess.run(
            [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode and command[0] == "install":
            raise SetupError(f"apt-get could not install {names}:\n{done.stdout[-2000:]}")


def install(*environments: Environment) -> None:
    """Make every environment what pyproject.toml asks for; nothing happens where it is already."""
    wanted = [environment for environment in environments if not up_to_date(environment)]
    if not wanted:
        return
    pythons = {environment: find_python(environment.python) for environment in wanted}
    install_system_packages(set(pythons.values()))
    for environment, python in pythons.items():
        started = time.monotonic()
        stamp = stamp_file(environment)
        stamp.unlink(missing_ok=True)
        if works(environment):
            tell(f"Updating {environment.folder} ({environment.holds}) ...")
        else:
            tell(f"Setting up {environment.folder} ({environment.holds}); once, it downloads some hundred MB ...")
            run([python, "-m", "venv", "--clear", str(ROOT / environment.folder)])
        pip = [str(environment.executable), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        run([*pip, *quiet, "--editable", f"{ROOT}[{environment.extras}]"])
        stamp.write_text(stamp_of(environment), encoding="utf-8")
        tell(f"{environment.folder} is ready, {time.monotonic() - started:.0f} s")


def stamp_file(environment: Environment) -> Path:
    return ROOT / environment.folder / "mien-stamp"


def stamp_of(environment: Environment) -> str:
    """Return what the environment was made from; when it changes, so must the environment."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    digest.update(repr((str(ROOT), environment)).encode())
    return digest.hexdigest()


def up_to_date(environment: Environment) -> bool:
    stamp = stamp_file(environment)
    return (
        stamp.is_file()
        and stamp.read_text(encoding="utf-8") == stamp_of(environment)
        and environment.executable.exists()
    )


def works(environment: Environment) -> bool:
    """Whether there is an environment of the right Python with a pip of its own, at the place it was made for."""
    answer = ask([str(environment.executable)], "sys.prefix", "pip")
    return answer == [str(ROOT / environment.folder), *environment.python]


def fetch_model() -> None:
    """Get the landmark model unless a file of the right size is there (its sha256 is checked whenever it is used)."""
    entries = json.loads((ROOT / "models" / "models.json").read_text(encoding="utf-8"))["models"]
    for entry in entries:
        path = ROOT / "models" / entry["file"]
        there = path.is_file() and path.stat().st_size == entry["bytes"]
        if not there and not os.environ.get("MIEN_MODELS"):
            run([str(MAIN.executable), "-m", "mien", "models"])
            return


# --- test ----------------------------------------------------------------------------------------


def test(argv: list) -> int:
    """Set everything up, run the suites, print a table; 0 only when every suite ran and passed."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(
        prog="python3.11 . test",
        description="Set up all environments and run the tests. Arguments after -- go to pytest.",
    )
    choice = f"some of: {', '.join(names)} (default: all; training, which installs torch, only in CI or by name)"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=choice)
    own, to_pytest = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    chosen = parser.parse_args(own).suites
    if unknown := set(chosen) - set(names):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    usual = [suite.name for suite in SUITES if os.environ.get("CI") or not suite.on_request]
    suites = [suite for suite in SUITES if suite.name in (chosen or usual)]

    rows, unavailable = [], {}
    needed = [MAIN, *(environment for suite in suites for environment in (suite.environment, *suite.also))]
    for environment in dict.fromkeys(needed):
        try:
            install(environment)
        except SetupError as error:
            # Only the second Blender may be missing on a developer's machine, and never silently.
            if environment is not NEXT:
                raise
            unavailable[environment] = str(error).splitlines()[0]
    fetch_model()
    for suite in suites:
        if suite.environment in unavailable:
            say(f"\nNOT RUN: {suite.name} ({suite.environment.holds}): {unavailable[suite.environment]}\n")
            rows.append((suite, 1 if os.environ.get("CI") else None, "NOT RUN, no Python 3.13", 0.0))
            continue
        say(f"\n--- {suite.name} ({suite.environment.holds})")
        command = [str(suite.environment.executable), *suite.command]
        started = time.monotonic()
        code, last = run_and_follow([*command, *to_pytest] if "pytest" in command else command)
        rows.append((suite, code, last.strip("= "), time.monotonic() - started))

    width = max(len(suite.name) for suite, *_ in rows)
    say("\nsummary")
    for suite, code, last, seconds in rows:
        verdict = {0: "passed", None: "MISSED"}.get(code, "FAILED")
        say(f"  {suite.name:{width}}  {verdict}  {suite.environment.holds:11}  {seconds:5.0f} s  {last}")
    return 1 if any(code for _, code, *_ in rows) else 0


def run_and_follow(command: list) -> tuple:
    """Run a command in the checkout, show its output as it comes, return its exit status and its last line."""
    last = ""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **streams) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


# --- small things ----------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def tell(text: str) -> None:
    """Say what the setting up does: to people, since stdout is the command's own."""
    print(text, file=sys.stderr, flush=True)


def run(command: list) -> None:
    """Run what sets up, and raise SetupError where it fails."""
    code = subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode
    if code:
        raise SetupError(f"this command failed with exit status {code}:\n  {' '.join(command)}")


def replace_process(command: list) -> int:
    """Go on as `command`; on Windows, which cannot, run it and return its status."""
    sys.stdout.flush()
    if os.name == "nt":
        return subprocess.run(command).returncode
    os.execv(command[0], command)
