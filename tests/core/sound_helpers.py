"""A sound server of our own, and a microphone on it that hears exactly what a test says, when it says so.

The microphone is PulseAudio's pipe source: what is written into a pipe is its sound, at the moment
of writing. So a test knows the moment of every sample, and everything from the sound server on is
real: the server, the library, the threads and the files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from mien.core.clock import now
from mien.core.network import LiveLinkFaceSender
from mien.core.types import FrameResult
from mien.core.units import ARKIT, ARKIT_INDEX

JAW = ARKIT_INDEX["jawOpen"]
RATE = 48_000
NAME = "Test Microphone"
CLICK = 20_000
_CHUNK = 480
_ACTOR_FPS = 60


class SoundServer:
    """A private PulseAudio server; `environment` leads programs to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pipe = folder / "microphone"
        socket = folder / "native"
        self.environment = {
            "PULSE_SERVER": f"unix:{socket}",
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
            "XDG_RUNTIME_DIR": str(folder),
            "HOME": str(folder),
        }
        folder.chmod(0o700)
        self._log = (folder / "log").open("wb")
        self._server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--system=no"),
                *("--log-target=stderr", "-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"),
            ],
            env={**os.environ, **self.environment},
            stdout=self._log,
            stderr=self._log,
        )
        end = time.monotonic() + 10
        while not socket.exists() or self.tell("info", check=False) is None:
            if self._server.poll() is not None or time.monotonic() > end:
                self.stop()
                pytest.fail(f"PulseAudio does not run here: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.02)
        self.plug()

    def tell(self, *command: str, check: bool = True) -> str | None:
        """Give the server an order; returns what it said."""
        done = subprocess.run(
            ["pactl", *command], env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=10
        )
        if done.returncode and not check:
            return None
        assert done.returncode == 0, done.stderr
        return done.stdout

    def plug(self) -> None:
        """Connect the microphone."""
        about = f"source_properties=\"device.description='{NAME}'\""
        form = f"format=s16le rate={RATE} channels=1"
        self.tell("load-module", "module-pipe-source", "source_name=test", f"file={self.pipe}", *form.split(), about)

    def unplug(self) -> None:
        """Pull the microphone out."""
        self.tell("unload-module", "module-pipe-source")

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(10)
        self._log.close()


class Speaker:
    """Speaks into the microphone, at the microphone's pace; a click begins at each of `clicks`.

    Parameters
    ----------
    pipe : path
    every : float
        Seconds from click to click.
    drift : float
        By how much the microphone's own clock is fast.

    Attributes
    ----------
    clicks : list of float
        Moments at which clicks were captured.
    """

    def __init__(self, pipe: Path, every: float = 0.25, drift: float = 0.0):
        self.clicks: list[float] = []
        self.lost = 0.0
        self._every = every
        self._period = (1.0 - drift) / RATE
        self._stopping = threading.Event()
        # What nobody listens to is lost, as with any microphone.
        self._pipe = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def lose(self, seconds: float) -> None:
        """Have the microphone lose so much of what is said next."""
        self.lost = seconds

    def stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            self._thread.join(5)
            with contextlib.suppress(OSError):
                os.close(self._pipe)

    def _speak(self) -> None:
        start, sample = now(), 0
        between = round(self._every * RATE)
        while not self._stopping.is_set():
            skipped, self.lost = round(self.lost * RATE), 0.0
            sample += skipped
            chunk = np.zeros(_CHUNK, "<i2")
            inside = -sample % between
            if inside < _CHUNK:
                chunk[inside : inside + 8] = CLICK
                self.clicks.append(start + (sample + inside) * self._period)
            sample += _CHUNK
            time.sleep(max(start + sample * self._period - now(), 0.0))
            try:
                os.write(self._pipe, chunk.tobytes())
            except BlockingIOError:
                continue
            except OSError:  # unplugged
                return


class Actor:
    """Opens the mouth at every click of a speaker, seen over the network 60 times a second.

    How far it is open tells how long ago the click was, since no frame is of its very moment.
    """

    def __init__(self, port: int, speaker: Speaker):
        self._sender = LiveLinkFaceSender("127.0.0.1", port)
        self._speaker = speaker
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._act, daemon=True)
        self._thread.start()

    def _act(self) -> None:
        start, frame = now(), 0
        while not self._stopping.is_set():
            moment = now()
            clicks = [click for click in self._speaker.clicks[-3:] if click <= moment]
            age = moment - clicks[-1] if clicks else 1.0
            shapes = np.zeros(len(ARKIT), np.float32)
            shapes[JAW] = 0.5 + 5.0 * age if age < 0.08 else 0.0
            self._sender.send(FrameResult(frame, moment, found=True, arkit=shapes))
            frame += 1
            time.sleep(max(start + frame / _ACTOR_FPS - now(), 0.0))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._sender.close()


def free_port() -> int:
    """Return a UDP port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def clicks_in(path: Path) -> np.ndarray:
    """Return the times of the clicks in a WAV file, seconds from its first sample."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)
        rate = file.getframerate()
    loud = np.flatnonzero(samples > CLICK // 2)
    return loud[np.diff(loud, prepend=-RATE) > RATE // 100] / rate


def off_by(path: Path, origin: float, clicks: list[float], begin: float = 0.0) -> np.ndarray:
    """Return by how many seconds each click of a file is late, against the moment it was made.

    Every click made while the file was recorded, or from `begin` on, has to be in it, and nothing else.
    """
    with wave.open(str(path)) as file:
        end = file.getnframes() / file.getframerate()
    found = clicks_in(path)
    found = found[found >= begin]
    made = np.array([click - origin for click in clicks])
    made = made[(made > begin - 0.005) & (made < end + 0.005)]
    inside = made[(made > begin + 0.005) & (made < end - 0.005)]
    assert len(inside) <= len(found) <= len(made), f"{found} in the file, {made} were made"
    nearest = np.abs(found[:, None] - made[None, :]).argmin(axis=1)
    assert len(set(nearest)) == len(found), f"{found} in the file, {made} were made"
    return found - made[nearest]


def need_sound() -> None:
    """Skip where there is no PulseAudio; in CI there is."""
    missing = [name for name in ("pulseaudio", "pactl") if not shutil.which(name)]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} must be installed for CI")
    if missing:
        pytest.skip("needs PulseAudio: apt-get install pulseaudio pulseaudio-utils")
