"""Blender's side of the worker: starts it, talks to it, and never waits for it.

No thread and no blocking call: the owner calls `WorkerClient.poll` from a timer, a modal
handler or a loop, and everything that can be done without waiting is done there.
"""

from __future__ import annotations

import dataclasses
import hmac
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from .errors import MienError
from .protocol import (
    Cameras,
    Decoder,
    Expressions,
    Failed,
    Finished,
    FrameMessage,
    Hello,
    LiveFrame,
    LivePicture,
    LiveStatus,
    Message,
    Microphones,
    Progress,
    Refused,
    Shutdown,
    SoundStatus,
    TakeStatus,
    encode,
)
from .record import FRAME_DTYPE
from .threads import SINGLE_THREADED

START_TIMEOUT = 60.0
"""Seconds; a virus scanner can make the first start of Python very slow."""

_RECEIVE = 1 << 14
# One poll reads about this much, some 40 frames, and for about so many seconds, so that it stays short whatever the
# worker sends: many small messages take longer than a few large ones.
_POLL_BUDGET = 1 << 17
_POLL_SECONDS = 0.01
_LOG_TAIL = 4000
_BACKLOG = 16
_STRANGERS = 4
_STRANGER_PATIENCE = 5.0
# How long a worker whose connection broke may take to end by itself.
_GRACE = 2.0


def default_command(python: str | None = None) -> list[str]:
    """Return the command that starts the worker.

    Parameters
    ----------
    python : str, optional
        The interpreter; by default the one that runs this, also inside Blender.
    """
    # The core runs as the top-level package `core` (see default_env), whatever name Mien has here.
    # -P: the folder that Blender happens to be in must not be searched for modules.
    return [python or find_python(), "-P", "-m", "core.worker"]


def find_python() -> str:
    """Return the Python interpreter of this process, as a program that runs scripts.

    Raises
    ------
    MienError
        ``"python-not-found"``
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Where Python is embedded, sys.executable may be empty or the embedding program.
    candidates = [sys.executable]
    for prefix in (sys.prefix, sys.base_prefix):
        candidates += [str(Path(prefix, *tail)) for tail in (("bin", version), ("bin", "python.exe"), ("python.exe",))]
    candidates.append(shutil.which(version) or "")
    for candidate in candidates:
        if Path(candidate).name.lower().startswith("python") and os.access(candidate, os.X_OK):
            return candidate
    raise MienError(
        "python-not-found",
        f"The {version} that belongs to this Blender cannot be found.",
        "Reinstall Blender, or install that Python.",
    )


def default_env() -> dict[str, str]:
    """Return the environment in which `default_command` finds Mien and the extension's libraries."""
    folders = [str(Path(__file__).resolve().parents[1])]
    # Blender adds the folder of the extensions' wheels to its own search path only. The libraries are
    # looked up, not imported.
    for library in ("mediapipe", "cv2", "numpy"):
        spec = importlib.util.find_spec(library)
        if spec and spec.origin:
            folders.append(str(Path(spec.origin).parents[1]))
    env = dict(os.environ)
    env.pop("PYTHONHOME", None)
    env.update(
        PYTHONPATH=os.pathsep.join(dict.fromkeys(folders)),
        # Blender's own Python does not look into the user's packages either.
        PYTHONNOUSERSITE="1",
        PYTHONUTF8="1",
        PYTHONUNBUFFERED="1",
        **SINGLE_THREADED,
    )
    return env


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker is gone without having been asked to; the client can be started again.

    Attributes
    ----------
    returncode : int or None
        The process's exit code, negative for a signal.
    log_tail : str
        The end of its log.
    error : MienError
        What to tell the person: ``"worker-died"``, ``"worker-timeout"``, or a ``"wire-..."`` code.
    """

    returncode: int | None
    log_tail: str
    error: MienError


class _Stranger:
    """A connection that has not proved the token yet."""

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self.connection = connection
        self.decoder = Decoder([Hello])
        self.said = bytearray()
        self.since = time.monotonic()


class WorkerClient:
    """Starts a worker and talks to it without ever blocking.

    Parameters
    ----------
    command : list of str, optional
        By default `default_command`.
    env : dict, optional
        The child's whole environment; by default `default_env`.
    log_path : path-like, optional
        Where the child's output goes, written over at each start; by default a temporary
        file that vanishes with the client.
    start_timeout : float
        Seconds within which the worker must have said Hello.
    background : bool
        Whether Blender comes first when the machine is busy: on Windows the worker begins so, elsewhere it sees to
        it itself.
    """

    def __init__(
        self,
        command: list[str] | None = None,
        env: dict[str, str] | None = None,
        log_path: str | os.PathLike[str] | None = None,
        start_timeout: float = START_TIMEOUT,
        background: bool = False,
    ):
        self._command = command
        self._env = env
        self._log_path = Path(log_path) if log_path else None
        self._start_timeout = start_timeout
        self._background = background
        self._process: subprocess.Popen | None = None
        self._log: BinaryIO | None = None
        self._listener: socket.socket | None = None
        self._strangers: list[_Stranger] = []
        self._connection: socket.socket | None = None
        self._decoder = Decoder(())
        self._outgoing = bytearray()
        self._token = ""
        self._deadline = 0.0
        self._error: MienError | None = None
        self._suspicion: MienError | None = None
        self._more = False

    @property
    def alive(self) -> bool:
        """Whether a worker is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def connected(self) -> bool:
        """Whether the worker has said Hello."""
        return self._connection is not None

    @property
    def more(self) -> bool:
        """Whether the last `poll` stopped at its budget, so that another one finds more at once."""
        return self._more

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None where there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the worker; messages can be sent at once and leave when it is ready.

        Raises
        ------
        MienError
            ``"worker-not-started"``, ``"python-not-found"``
        """
        self.stop(timeout=0)
        command, env = self._command or default_command(), self._env or default_env()
        self._token = secrets.token_hex(32)
        self._outgoing = bytearray(encode(Hello()))
        self._decoder = Decoder(
            (
                *(Hello, Progress, FrameMessage, Finished, Failed),
                *(LiveFrame, LivePicture, LiveStatus, TakeStatus, SoundStatus, Cameras, Microphones, Expressions),
            )
        )
        self._deadline = time.monotonic() + self._start_timeout
        self._error = self._suspicion = None
        try:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
            self._listener.setblocking(False)
            self._log = open(self._log_path, "w+b") if self._log_path else tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                close_fds=True,
                creationflags=_creation_flags(self._background),
            )
            # The token goes through a pipe: other users can read neither it nor our memory, while
            # arguments are public and an environment is inherited further.
            port = self._listener.getsockname()[1]
            order = json.dumps({"port": port, "token": self._token}) + "\n"
            with self._process.stdin as pipe:
                pipe.write(order.encode("ascii"))
        except OSError as error:
            # A child that ended before it read its line is told by poll, with its log.
            if self._process is None:
                self._close()
                raise MienError(
                    "worker-not-started",
                    f"Mien's worker cannot be started: {error}.",
                    "Check that your security software lets Blender start its own Python.",
                ) from error

    def send(self, message: Message) -> None:
        """Send a message, now or as soon as the worker takes it."""
        self._outgoing += encode(message)
        if self._connection:
            self._flush()

    def poll(self) -> list[Message | WorkerDied]:
        """Do all that can be done without waiting, and return what arrived.

        Returns
        -------
        list
            Progress, FrameMessage, Finished and Failed messages in order, the worker's
            Hello when it is ready, and `WorkerDied`, always last, when it is gone.
        """
        self._more = False
        if self._process is None:
            return []
        # Asked first, so that nothing that the worker said before its end is missed.
        ended = self._process.poll() is not None
        events = self._greet() if self._listener is not None else []
        drained = True
        if self._connection is not None:
            self._flush()
            drained = self._receive(events)
        self._more = not drained
        if self._connection is None and not ended and time.monotonic() > self._deadline:
            self._fail("worker-timeout", "Mien's worker does not answer.", "Try again; if it stays so, report it.")
            self._process.kill()
            self._process.wait()
            ended = True
        if ended and drained:
            events.append(self._obituary())
        return events

    def dismiss(self, patience: float = _GRACE) -> None:
        """Ask the worker to finish what it has and end, within `patience` seconds; does not wait: see `gone`."""
        if self._process is None:
            return
        if self._connection is not None:
            self.send(Shutdown())
        else:
            self._hang_up()
        self._deadline = time.monotonic() + patience

    def gone(self) -> bool:
        """Whether the dismissed worker has ended; one that does not in time is made to. Never waits."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            if self._connection is not None:
                self._flush()
            if time.monotonic() < self._deadline:
                return False
            self._process.kill()
            self._process.wait()
        self._close()
        return True

    def stop(self, timeout: float = 2.0) -> None:
        """End the worker: ask, hang up, terminate, kill.

        Waits for it, in all at most a second longer than `timeout`. A running job is
        cancelled. `poll` tells nothing afterwards.
        """
        if self._process is not None and self._process.poll() is None:
            if self._connection is not None and timeout > 0:
                self.send(Shutdown())
                self._wait(timeout)
            # The worker ends by itself when its socket does.
            self._hang_up()
            if not self._wait(0.3):
                self._process.terminate()
            if not self._wait(0.3):
                self._process.kill()
                self._process.wait()
        self._close()

    def __enter__(self) -> WorkerClient:
        self.start()
        return self

    def __exit__(self, *_exc) -> None:
        self.stop()

    def _wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > end:
                return False
            if self._connection is not None:
                self._flush()
            time.sleep(0.01)
        return True

    def _greet(self) -> list[Message]:
        """Take new connections, and keep the one that proves the token."""
        while len(self._strangers) < _STRANGERS:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                break
            self._strangers.append(_Stranger(connection))
        for stranger in list(self._strangers):
            try:
                data = stranger.connection.recv(_RECEIVE)
            except (BlockingIOError, InterruptedError):
                if time.monotonic() - stranger.since > _STRANGER_PATIENCE:
                    self._send_away(stranger)
                continue
            except OSError:
                data = b""
            if not data:
                self._send_away(stranger)
                continue
            stranger.said += data
            items = stranger.decoder.feed(data)
            if not items:
                continue
            hello = items[0]
            if isinstance(hello, Refused):
                # Perhaps our own child, of another version of Mien. It ends when it is sent away, and
                # then this is the reason; anyone else's nonsense is forgotten when the child connects.
                if hello.error.code == "wire-version":
                    self._suspicion = hello.error
                self._send_away(stranger)
            elif not hmac.compare_digest(hello.token.encode("ascii", "replace"), self._token.encode("ascii")):
                self._send_away(stranger)
            else:
                self._strangers.remove(stranger)
                return self._welcome(stranger, hello)
        return []

    def _welcome(self, stranger: _Stranger, hello: Hello) -> list[Message]:
        for other in list(self._strangers):
            self._send_away(other)
        self._listener.close()
        self._listener = self._suspicion = None
        self._connection = stranger.connection
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hello.record_size != FRAME_DTYPE.itemsize:
            self._fail(
                "wire-version",
                f"Mien's worker ({hello.app}) and this Mien disagree about the frame record.",
                "Restart Blender, so that both come from the same Mien.",
            )
            return []
        # Once more from its first byte: more may have come along with the Hello.
        events = self._sort(self._decoder.feed(stranger.said))
        return [dataclasses.replace(hello, token=""), *events[1:]]

    def _send_away(self, stranger: _Stranger) -> None:
        stranger.connection.close()
        self._strangers.remove(stranger)

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._connection.send(self._outgoing)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # Reading tells why.
            self._outgoing.clear()

    def _receive(self, events: list[Message]) -> bool:
        """Add what arrived, within the budget; return whether that is all for now."""
        taken, end = 0, time.monotonic() + _POLL_SECONDS
        while taken < _POLL_BUDGET and time.monotonic() < end:
            try:
                data = self._connection.recv(_RECEIVE)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                data = b""
            if not data:
                self._fail("worker-died", "Mien's worker closed its connection.")
                return True
            taken += len(data)
            events += self._sort(self._decoder.feed(data))
            if self._connection is None:
                return True
        return False

    def _sort(self, items: list[Message | Refused]) -> list[Message]:
        """Turn what was refused into events, or into the end."""
        events: list[Message] = []
        for item in items:
            if not isinstance(item, Refused):
                events.append(item)
            elif item.fatal:
                self._fail(item.error.code, item.error.message, item.error.hint)
            else:
                events.append(Failed(0, item.error))
        return events

    def _fail(self, code: str, message: str, hint: str = "") -> None:
        """Note why the worker is given up, and give it a moment to end by itself."""
        if self._error is None:
            self._error = MienError(code, message, hint)
            self._deadline = time.monotonic() + _GRACE
        self._hang_up()

    def _obituary(self) -> WorkerDied:
        returncode = self._process.returncode
        tail = self._log_tail()
        error = self._error or self._suspicion
        if error is None or error.code == "worker-died":
            where = f" Its log is {self._log_path}." if self._log_path else ""
            error = MienError(
                "worker-died",
                f"Mien's worker ended unexpectedly ({_how(returncode)}).",
                f"Frames recorded so far are kept. Try again; if it happens again, report it.{where}",
            )
        self._close()
        return WorkerDied(returncode, tail, error)

    def _log_tail(self) -> str:
        try:
            size = self._log.seek(0, os.SEEK_END)
            self._log.seek(max(size - _LOG_TAIL, 0))
            return self._log.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def _hang_up(self) -> None:
        for stranger in list(self._strangers):
            self._send_away(stranger)
        for connection in (self._connection, self._listener):
            if connection is not None:
                connection.close()
        self._connection = self._listener = None

    def _close(self) -> None:
        self._hang_up()
        if self._log is not None:
            self._log.close()
        self._log = self._process = None


def _creation_flags(background: bool) -> int:
    if sys.platform != "win32":
        return 0
    return subprocess.CREATE_NO_WINDOW | (subprocess.BELOW_NORMAL_PRIORITY_CLASS if background else 0)


def _how(returncode: int) -> str:
    if returncode < 0:
        try:
            return signal.Signals(-returncode).name
        except ValueError:
            pass
    # What a crash ends with on Windows is known by its hexadecimal digits.
    return f"exit code {returncode}" if returncode < 0x10000 else f"exit code 0x{returncode:08X}"
