"""The worker: the child process that decodes pictures and runs the networks.

Blender's side starts it as ``python -m core.worker`` (see `client`), writes one line of
JSON with a port and a token to its standard input, and waits for its Hello on that
port of the loopback interface. It answers jobs until it is told to shut down or its
parent's end of the socket closes, however that came about.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import jobs
from .errors import MienError
from .live import LiveSession
from .protocol import (
    MAX_TEXT,
    Calibrate,
    Cameras,
    Cancel,
    Decoder,
    EndTake,
    Failed,
    Finished,
    FrameMessage,
    Hello,
    LearnExpression,
    ListCameras,
    ListMicrophones,
    LiveStatus,
    Message,
    Microphones,
    PictureTaken,
    Progress,
    Record,
    Refused,
    Shutdown,
    StartCapture,
    StartLive,
    StopLive,
    TuneLive,
    encode,
)
from .record import FRAME_DTYPE
from .types import FrameResult

# Above this many bytes waiting for a slow reader, reports and previews are left out.
OUTBOX_LIMIT = 1 << 18

_HEARD = (
    *(Hello, StartCapture, Cancel, Shutdown, ListCameras, ListMicrophones),
    *(StartLive, TuneLive, StopLive, Record, EndTake, Calibrate, PictureTaken),
    LearnExpression,
)
_RECEIVE = 1 << 16
_NICE = 5
_LINGER = 0.5


class Outbox:
    """Sends without ever waiting, so that a reader who is slow cannot hold up a job.

    Parameters
    ----------
    connection : socket.socket
        Non-blocking.
    """

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._waiting = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes not yet taken by the socket."""
        return len(self._waiting)

    def send(self, message: Message, *, droppable: bool = False) -> bool:
        """Send, or keep to send later; returns False for a droppable message left out because much waits already."""
        if droppable and self.waiting > OUTBOX_LIMIT:
            self.flush()
            return False
        self._waiting += encode(message)
        self.flush()
        return True

    def flush(self) -> None:
        """Send what the socket takes now."""
        try:
            while self._waiting:
                del self._waiting[: self._connection.send(self._waiting)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # The peer is gone: the reading thread ends the process.
            self._waiting.clear()

    def linger(self, seconds: float) -> None:
        """Give the last messages so long to leave."""
        end = time.monotonic() + seconds
        self.flush()
        while self._waiting and (left := end - time.monotonic()) > 0:
            select.select([], [self._connection], [], left)
            self.flush()


class Worker:
    """Answers one parent.

    Jobs run in the main thread. A second thread reads the socket, since only that can see
    a cancel, or the parent's death, while a picture is being worked on.

    Parameters
    ----------
    connection : socket.socket
        Connected to the parent.
    token : str
        The secret to prove.
    capture : callable
        `jobs.capture`, or in tests one that needs no model.
    """

    def __init__(
        self,
        connection: socket.socket,
        token: str,
        capture: Callable[..., jobs.CaptureSummary] = jobs.capture,
    ):
        connection.setblocking(False)
        self._connection = connection
        self._capture = capture
        self._outbox = Outbox(connection)
        self._inbox: queue.SimpleQueue[Message | Refused] = queue.SimpleQueue()
        self._shutdown = threading.Event()
        self._cancelled: set[int] = set()
        self._live: LiveSession | None = None
        self._outbox.send(Hello(token=token))

    def run(self) -> None:
        """Answer until told to shut down; jobs wait for each other in the order they came."""
        threading.Thread(target=self._watch, name="mien-reader", daemon=True).start()
        while True:
            try:
                if self._live is not None:
                    item = self._inbox.get_nowait()
                else:
                    # With bytes waiting for a slow reader, look after them now and then.
                    item = self._inbox.get(timeout=0.05 if self._outbox.waiting else None)
            except queue.Empty:
                self._outbox.flush()
                if self._live is not None:
                    self._follow(self._live.step)
                continue
            if isinstance(item, Shutdown):
                if self._live is not None:
                    self._follow(self._live.stop)
                self._outbox.linger(_LINGER)
                return
            if isinstance(item, Refused):
                self._outbox.send(Failed(0, item.error))
            elif isinstance(item, Hello):
                self._check_hello(item)
            elif isinstance(item, StartCapture):
                self._run_capture(item)
            elif isinstance(item, StartLive):
                self._start_live(item)
            elif isinstance(item, ListCameras):
                self._list_cameras()
            elif isinstance(item, ListMicrophones):
                self._list_microphones()
            elif self._live is not None and item.job == self._live.order.job:
                self._follow(self._obey, item)

    def _start_live(self, order: StartLive) -> None:
        if self._live is not None:
            self._follow(self._live.stop)
        try:
            self._live = LiveSession(order, self._outbox.send)
        except MienError as error:
            self._outbox.send(LiveStatus(order.job, "failed", error))
        except Exception as error:
            traceback.print_exc()
            self._outbox.send(LiveStatus(order.job, "failed", _unexpected(error)))

    def _obey(self, order: Message) -> None:
        if isinstance(order, TuneLive):
            self._live.tune(order)
        elif isinstance(order, Record):
            self._live.record(order)
        elif isinstance(order, EndTake):
            self._live.end_take()
        elif isinstance(order, Calibrate):
            self._live.calibrate(order.clear)
        elif isinstance(order, PictureTaken):
            self._live.picture_taken()
        elif isinstance(order, LearnExpression):
            self._live.learn(order)
        elif isinstance(order, StopLive):
            self._live.stop()

    def _follow(self, action: Callable[..., None], *args) -> None:
        """Do something of live capture; what it cannot get over ends it, told in words."""
        try:
            action(*args)
        except MienError as error:
            self._live.fail(error)
        except Exception as error:
            traceback.print_exc()
            self._live.fail(_unexpected(error))
        if self._live.ended:
            self._live = None

    def _list_cameras(self) -> None:
        from .capture.camera import list_cameras

        found = list_cameras()[:64]
        self._outbox.send(Cameras(tuple((camera.id[:256], camera.name[:256]) for camera in found)))

    def _list_microphones(self) -> None:
        from .microphone import list_microphones

        try:
            found = Microphones(tuple(name[:256] for name in list_microphones()[:64]))
        except MienError as error:
            found = Microphones(error=error)
        self._outbox.send(found)

    def _check_hello(self, hello: Hello) -> None:
        if hello.record_size != FRAME_DTYPE.itemsize:
            message = f"Blender's side ({hello.app}) and its worker disagree about the frame record."
            self._outbox.send(Failed(0, MienError("wire-version", message, "Restart Blender.")))

    def _run_capture(self, order: StartCapture) -> None:
        newest: list[FrameResult] = []

        def on_result(result: FrameResult) -> None:
            newest[:] = [result]

        def on_progress(progress: jobs.CaptureProgress) -> None:
            self._outbox.send(Progress(order.job, **dataclasses.asdict(progress)), droppable=True)
            if newest:
                self._outbox.send(FrameMessage(order.job, newest.pop()), droppable=True)

        def is_cancelled() -> bool:
            self._outbox.flush()
            return order.job in self._cancelled or self._shutdown.is_set()

        _lower_priority()
        try:
            summary = self._capture(
                order.source,
                order.take,
                on_progress=on_progress,
                on_result=on_result,
                is_cancelled=is_cancelled,
                fps=order.fps or None,
                loop=order.loop,
                estimator=order.estimator,
                actor=order.actor or None,
            )
            answer = Finished(order.job, summary)
        except MienError as error:
            answer = Failed(order.job, MienError(*(text[:MAX_TEXT] for text in error.to_dict().values())))
        except Exception as error:
            traceback.print_exc()
            answer = Failed(order.job, _unexpected(error))
        self._cancelled.discard(order.job)
        self._outbox.send(answer)

    def _watch(self) -> None:
        """Thread: take what arrives; end the process with its parent."""
        try:
            self._read()
        except Exception:
            traceback.print_exc()
        # Whatever the main thread is doing, its result has no reader. Takes are whole at every moment.
        os._exit(0)

    def _read(self) -> None:
        """Hand on what arrives, until the connection ends."""
        decoder = Decoder(_HEARD)
        while True:
            try:
                select.select([self._connection], [], [])
                data = self._connection.recv(_RECEIVE)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                data = b""
            if not data:
                return
            for item in decoder.feed(data):
                if isinstance(item, Cancel):
                    self._cancelled.add(item.job)
                    continue
                self._inbox.put(item)
                if isinstance(item, Refused) and item.fatal:
                    item = Shutdown()
                    self._inbox.put(item)
                if isinstance(item, Shutdown):
                    self._shutdown.set()


def _unexpected(error: Exception) -> MienError:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    what = f"Mien met an error that it did not expect, in {where} ({type(error).__name__}: {error})"[:500]
    return MienError("internal", f"{what}.", "Report it with this message.")


def _lower_priority() -> None:
    """Let Blender come first when the machine is busy; on Windows the parent does it (see `client`)."""
    if hasattr(os, "nice") and os.nice(0) < _NICE:
        os.nice(_NICE - os.nice(0))


def main(capture: Callable[..., jobs.CaptureSummary] = jobs.capture) -> int:
    """Run the worker; return the process's exit code."""
    # Ctrl-C in the terminal that Blender was started from reaches children too; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    try:
        order = json.loads(sys.stdin.readline())
        port, token = int(order["port"]), str(order["token"])
    except (ValueError, TypeError, KeyError):
        sys.stderr.write("Mien's worker is started by Mien itself: no port and token on the standard input.\n")
        return 2
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    except OSError as error:
        sys.stderr.write(f"Mien's worker cannot reach its parent: {error}\n")
        return 3
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Worker(connection, token, capture).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
