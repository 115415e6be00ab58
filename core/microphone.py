"""The microphone: recorded beside a take, on the clock of its frames.

miniaudio's thread hands over blocks of samples; a thread of this module's places them in
time and writes them. Nothing here holds up the thread that works on pictures.

A block arrives when its last sample was captured, or later, never earlier. So the
earliest blocks of the last seconds tell when samples were captured, to a millisecond
whatever the machine is doing meanwhile. Only what the device and the system keep back
before the first program sees it stays unknown, as it does for pictures.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .clock import now
from .errors import MienError
from .wav import WavWriter

RATE = 48_000
"""Samples per second asked for; miniaudio converts where the device has another rate."""

PERIOD_MS = 20
"""Length of a block; the place of a loss is known as exactly."""

SILENCE = 1.5
"""Seconds without a block after which a microphone counts as gone."""

RETRY = 1.0
"""Seconds between two tries to open a microphone that failed."""

JUMP = 0.015
"""Seconds by which samples must be off before silence is put in, or some are left out."""

DRIFT_SPAN = 60.0
"""Seconds of sound from which on its rate is measured: before, a device cannot drift by a frame."""

_WINDOW = 1.0
_WINDOWS = 10
# A stream has settled when its blocks have come no earlier, against their count, for so long: some begin with a heap.
_SETTLE = 0.3
_SETTLE_AT_MOST = 3.0
_EARLIER = 0.005
# Seconds of sound, 6 MB: a take's first picture may wait while the take before is still worked on.
_KEPT = 60.0
_END_PATIENCE = 0.5
_ZEROS = 3.0

# Not miniaudio's last resort, which is a device that gives silence.
_BACKENDS = {"linux": ("PULSEAUDIO", "ALSA", "JACK"), "win32": ("WASAPI", "DSOUND", "WINMM"), "darwin": ("COREAUDIO",)}


@dataclasses.dataclass(frozen=True, slots=True)
class SoundSummary:
    """What was recorded beside a take.

    Attributes
    ----------
    seconds : float
        Length of the file; 0 where there is none.
    error : MienError or None
        Why the sound is not whole.
    """

    seconds: float = 0.0
    error: MienError | None = None


def list_microphones() -> list[str]:
    """Return the names of this machine's microphones; what plays on an output comes last.

    Raises
    ------
    MienError
        ``"microphone-library"`` or ``"microphone-none"``.
    """
    names = dict.fromkeys(device["name"] for device in _devices())
    return sorted(names, key=lambda name: name.startswith("Monitor of "))


class StreamClock:
    """Tells when the samples of a stream were captured, from the moments its blocks arrived.

    Parameters
    ----------
    rate : float
        Samples per second.
    """

    def __init__(self, rate: float = RATE):
        self._rate = rate
        self._lows: collections.deque[float] = collections.deque(maxlen=_WINDOWS)
        self._low = np.inf
        self._blocks = 0
        self._since = -np.inf
        self._suspected = 0.0

    @property
    def base(self) -> float:
        """Moment of sample 0, as the newest seconds tell it; infinite before the first block."""
        return min(*self._lows, self._low) if self._lows else self._low

    def sample(self, moment: float) -> int:
        """Return the sample that was captured at a moment."""
        return round((moment - self.base) * self._rate)

    def arrived(self, moment: float, samples: int) -> float:
        """Take note of a block.

        Parameters
        ----------
        moment : float
            When it came.
        samples : int
            Samples of the stream with it.

        Returns
        -------
        float
            Seconds of sound that are missing before the last ones, or too many if negative;
            nearly always 0. Whoever counts the samples has to count them in.
        """
        if moment - self._since >= _WINDOW and self._blocks >= 5:
            jump = self._close_window()
            self._low, self._blocks, self._since = np.inf, 0, moment
            if jump:
                # The windows from now on are compared once the count is right.
                return jump
        if self._since == -np.inf:
            self._since = moment
        self._low = min(self._low, moment - samples / self._rate)
        self._blocks += 1
        return 0.0

    def _close_window(self) -> float:
        off = self._low - min(self._lows) if self._lows else 0.0
        if off < -JUMP:
            self._suspected = 0.0
            return off
        if off > JUMP:
            # A machine that was busy for a whole second looks like this too, but not twice.
            before, self._suspected = self._suspected, off
            if not before:
                return 0.0
            self._suspected = 0.0
            return min(before, off)
        self._suspected = 0.0
        self._lows.append(self._low)
        return 0.0


@dataclasses.dataclass
class _Recording:
    """A file that is being written; times as `clock.now`, samples as counted by the stream."""

    path: Path
    origin: float
    first: int | None = None
    base: float = 0.0
    until: float | None = None
    patience: float = np.inf
    wav: WavWriter | None = None
    error: MienError | None = None
    done: threading.Event = dataclasses.field(default_factory=threading.Event)


class Microphone:
    """A microphone, opened and read on a thread of its own, and opened again when it fails.

    Parameters
    ----------
    which : str
        Its name; empty for the system's default one.
    """

    def __init__(self, which: str = ""):
        self.which = which
        self._incoming: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._open = False
        self._error: MienError | None = None
        self._peak = 0
        self._heard = 0.0
        self._recording: _Recording | None = None
        # Stream state, of the thread alone.
        self._clock = StreamClock()
        self._count = 0
        self._skip = 0
        self._settling: list[tuple[float, np.ndarray]] | None = []
        self._low, self._improved = np.inf, 0.0
        self._kept: collections.deque[tuple[int, np.ndarray, float]] = collections.deque()
        self._last_block = now()
        self._thread = threading.Thread(target=self._run, name="mien-sound", daemon=True)
        self._thread.start()

    @property
    def state(self) -> tuple[str, MienError | None]:
        """``"opening"``, ``"open"`` or ``"lost"`` (tried again every second), and what is wrong."""
        with self._changed:
            if self._open:
                return "open", self._only_zeros()
            return ("lost", self._error) if self._error else ("opening", None)

    def level(self) -> float:
        """Return the loudest sample since the last call, 0 to 1."""
        with self._changed:
            peak, self._peak = self._peak, 0
        return min(peak / 32767.0, 1.0)

    def begin(self, path: Path, origin: float) -> None:
        """Record into a file whose sample 0 is the moment `origin`, which may be up to a minute ago.

        What was said since then is in it if the microphone was open.
        """
        with self._changed:
            self._recording = _Recording(path, origin)

    def end(self, moment: float, timeout: float = 1.0) -> SoundSummary:
        """Close the file at a moment; waits until the sound until then has come, or `timeout`."""
        with self._changed:
            recording = self._recording
            if recording is None:
                return SoundSummary()
            recording.until, recording.patience = moment, now() + _END_PATIENCE
        self._incoming.put(None)
        recording.done.wait(timeout)
        with self._changed:
            self._recording = None
            error, missing = recording.error, self._error
        wav = recording.wav
        if wav is None and error is None:
            error = missing or MienError(
                "microphone-late", "The microphone gave no sound before the take ended.", "Wait until it is open."
            )
        return SoundSummary(wav.samples / wav.rate if wav is not None else 0.0, error)

    def close(self, timeout: float = 0.5) -> None:
        """Let go of the microphone. One that hangs is left to itself: it ends with the process."""
        self._stopping.set()
        self._incoming.put(None)
        self._thread.join(timeout)

    # --- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._device():
                    self._listen(np.inf)
            except MienError as error:
                self._fail(error)
            except Exception as error:
                what = f"The microphone failed in a way that Mien does not know ({type(error).__name__}: {error})"
                self._fail(MienError("microphone-failed", f"{what[:400]}.", "Choose another microphone."))
            if not self._stopping.is_set():
                self._listen(now() + RETRY)

    def _device(self) -> contextlib.AbstractContextManager[Any]:
        """Open the microphone; its blocks then go into the queue."""
        miniaudio = _library()
        chosen = None
        if self.which:
            chosen = _find(self.which, _devices())
        try:
            device = miniaudio.CaptureDevice(
                miniaudio.SampleFormat.SIGNED16, 1, RATE, PERIOD_MS,
                device_id=chosen, backends=_backends(miniaudio), app_name="Mien",
            )  # fmt: skip
            blocks = self._blocks()
            next(blocks)
            self._settling, self._low = [], np.inf
            self._last_block = now()
            device.start(blocks)
        except miniaudio.MiniaudioError as error:
            raise MienError(
                "microphone-refused",
                f"{self.which or 'The microphone'} cannot be opened ({error.args[0]}).",
                "Check that it is connected, that no other program holds it, and that the system lets Blender use it.",
            ) from error
        return contextlib.closing(device)

    def _blocks(self):
        """Generator that miniaudio's thread feeds: it only notes the moment."""
        while True:
            data = yield
            self._incoming.put((now(), data))

    def _listen(self, until: float) -> None:
        """Place in time what comes, until a moment, or until the microphone is gone."""
        while not self._stopping.is_set() and now() < until:
            item = None
            with contextlib.suppress(queue.Empty):
                item = self._incoming.get(timeout=0.1)
            if item is not None:
                self._take(item[0], np.frombuffer(item[1], np.int16))
            self._conclude()
            # While blocks wait, only the disk is slow.
            silent = self._incoming.empty() and now() - self._last_block > SILENCE
            if until == np.inf and silent:
                raise MienError(
                    "microphone-gone",
                    f"{self.which or 'The microphone'} gives no more sound.",
                    "Check its cable, or choose another one.",
                )

    def _fail(self, error: MienError) -> None:
        with self._changed:
            self._error, self._open = error, False
            recording = self._recording
            if recording is not None and recording.error is None:
                recording.error = error

    def _only_zeros(self) -> MienError | None:
        if now() - self._heard < _ZEROS:
            return None
        hint = "Check that it is not muted."
        if sys.platform == "darwin":
            hint = "Allow the microphone in System Settings > Privacy, for the Terminal that Blender was started from."
        return MienError("microphone-silent", "The microphone is open, but gives nothing but silence.", hint)

    def _take(self, moment: float, samples: npt.NDArray[np.int16]) -> None:
        self._last_block = moment
        peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
        with self._changed:
            self._peak = max(self._peak, peak)
            if peak or not self._open:
                self._heard = moment
            self._open, self._error = True, None
        if self._settling is None:
            self._place(moment, samples)
            return
        self._settling.append((moment, samples))
        count = self._count + sum(len(block) for _stamp, block in self._settling)
        late = moment - count / RATE
        if late < self._low - _EARLIER:
            self._improved = moment
        self._low = min(self._low, late)
        if moment - self._improved < _SETTLE and moment - self._settling[0][0] < _SETTLE_AT_MOST:
            return
        settled, self._settling = self._settling, None
        low, self._low = self._low, np.inf
        if self._clock.base < np.inf:
            # It was gone for a while, and is again: that while is silent.
            self._insert(self._count, max(round((low - self._clock.base) * RATE), 0))
        for stamp, block in settled:
            self._place(stamp, block)

    def _place(self, moment: float, samples: npt.NDArray[np.int16]) -> None:
        samples = self._left_out(samples)
        if not len(samples):
            return
        # The clock is told only what is kept: what was left out once must not look too much again.
        jump = self._clock.arrived(moment, self._count + len(samples))
        if jump > 0:
            self._insert(self._break_point(jump), round(jump * RATE))
        elif jump < 0:
            self._skip = round(-jump * RATE)
            samples = self._left_out(samples)
            if not len(samples):
                return
        first = self._count
        self._count += len(samples)
        self._kept.append((first, samples, moment - self._count / RATE))
        while self._count - self._kept[0][0] > _KEPT * RATE:
            self._kept.popleft()
        self._write(first, samples)

    def _left_out(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return samples without those of them that are too many."""
        count = min(self._skip, len(samples))
        self._skip -= count
        return samples[count:]

    def _break_point(self, jump: float) -> int:
        """Return the sample before which sound is missing: where all blocks began to be late."""
        place = self._count
        for first, _samples, late in reversed(self._kept):
            if late < self._clock.base + jump / 2:
                break
            place = first
        return place

    def _insert(self, place: int, missing: int) -> None:
        """Put silence into the stream before a sample."""
        if not missing:
            return
        tail = [(first, samples, late) for first, samples, late in self._kept if first >= place]
        kept = [(first, samples, late) for first, samples, late in self._kept if first < place]
        moved = [(first + missing, samples, late - missing / RATE) for first, samples, late in tail]
        self._count += missing
        self._kept = collections.deque([*kept, *moved])
        recording = self._recording
        if recording is None or recording.first is None:
            return
        wanted = place - recording.first + missing
        whole = np.concatenate([np.zeros(0, np.int16), *(samples for _first, samples, _late in tail)])
        self._guard(recording, self._put_silence, recording, max(place - recording.first, 0), max(wanted, 0))
        self._guard(recording, self._put, recording, place + missing, whole)

    def _write(self, first: int, samples: npt.NDArray[np.int16]) -> None:
        recording = self._recording
        if recording is None or recording.done.is_set():
            return
        if recording.first is None:
            recording.base = self._clock.base
            recording.first = self._clock.sample(recording.origin)
            for begin, block, _late in list(self._kept)[:-1]:
                self._guard(recording, self._put, recording, begin, block)
        self._guard(recording, self._put, recording, first, samples)

    def _put(self, recording: _Recording, first: int, samples: npt.NDArray[np.int16]) -> None:
        """Write the part of some samples that belongs into the file, where it belongs."""
        place = first - recording.first
        samples, place = samples[max(-place, 0) :], max(place, 0)
        if not len(samples):
            return
        if recording.wav is None:
            recording.wav = WavWriter(recording.path, RATE)
        wav = recording.wav
        self._put_silence(recording, wav.samples, place)
        wav.rate = self._measured_rate(recording)
        wav.rewrite(place, samples)

    @staticmethod
    def _put_silence(recording: _Recording, begin: int, end: int) -> None:
        if recording.wav is not None:
            for place in range(begin, end, RATE):
                recording.wav.rewrite(place, np.zeros(min(end - place, RATE), np.int16))

    def _measured_rate(self, recording: _Recording) -> int:
        """Return the samples that the device really gives per second of the frames' clock.

        Players that are told so stay in sync, and no sample is changed for it.
        """
        seconds = (self._count - recording.first) / RATE
        if seconds < DRIFT_SPAN:
            return RATE
        measured = RATE * seconds / (seconds + self._clock.base - recording.base)
        # No device is worse; more is a mistake in measuring.
        return round(min(max(measured, RATE * 0.998), RATE * 1.002))

    def _conclude(self) -> None:
        """Close the file once it has all, or no more comes."""
        recording = self._recording
        if recording is None or recording.until is None or recording.done.is_set():
            return
        last = self._clock.sample(recording.until) if self._clock.base < np.inf else np.inf
        if self._count < last and now() < recording.patience and not self._error:
            return
        if recording.wav is not None:
            self._guard(recording, self._finish, recording, last)
        recording.done.set()

    def _finish(self, recording: _Recording, last: int) -> None:
        wav = recording.wav
        try:
            wav.cut(min(max(last - recording.first, 0), wav.samples))
        finally:
            wav.close()

    def _guard(self, recording: _Recording, action, *args) -> None:
        """Do something with the file; when it fails, the take goes on without sound."""
        if recording.done.is_set():
            return
        try:
            action(*args)
        except MienError as error:
            recording.error = error
            if recording.wav is not None:
                with contextlib.suppress(MienError):
                    recording.wav.close()
            recording.done.set()


def _library():
    try:
        import miniaudio
    except ImportError as error:
        raise MienError(
            "microphone-library",
            f"The library that records sound cannot be loaded: {error}.",
            "Reinstall the Mien extension for this Blender version.",
        ) from error
    return miniaudio


def _backends(miniaudio) -> list[Any]:
    return [getattr(miniaudio.Backend, name) for name in _BACKENDS.get(sys.platform, _BACKENDS["linux"])]


def _devices() -> list[dict[str, Any]]:
    miniaudio = _library()
    try:
        found = miniaudio.Devices(_backends(miniaudio)).get_captures()
    except miniaudio.MiniaudioError:
        found = []
    if not found:
        raise MienError("microphone-none", "No microphone was found.", "Connect one, or turn Microphone off.")
    return found


def _find(which: str, devices: list[dict[str, Any]]):
    """Return the id of the microphone of that name, or of the one whose name holds it."""
    for fits in (lambda name: name == which, lambda name: which.casefold() in name.casefold()):
        for device in devices:
            if fits(device["name"]):
                return device["id"]
    raise MienError("microphone-gone", f"The microphone {which} is not there.", "Connect it, or choose another one.")
