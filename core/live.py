"""Live capture in the worker: a source that never ends becomes results, and takes on demand.

The worker's main thread calls `LiveSession.step` again and again; the capture thread
(`capture.grabber`) and the network port give it what is new. Nothing here waits longer
than `step`'s own short wait, so that orders are heard within a frame.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import math
import statistics
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .clock import now
from .errors import MienError, library_missing
from .protocol import (
    Expressions,
    LearnExpression,
    LiveFrame,
    LivePicture,
    LiveStatus,
    Output,
    Record,
    SoundStatus,
    StartLive,
    TakeStatus,
    TuneLive,
)
from .record import pack
from .take import TakeHeader, TakeWriter
from .types import Frame, FrameResult
from .wav import sound_path

if TYPE_CHECKING:
    from .microphone import Microphone
    from .network import LiveLinkFaceSender, VmcSender
    from .solve import Neutral

STATUS_INTERVAL = 0.25
"""Seconds between two reports of what only counts on."""

SOUND_INTERVAL = 0.1
"""Seconds between two reports of the microphone's level."""

ASK_INTERVAL = 2.0
"""Seconds between two requests to a phone that does not send."""

PICTURE_INTERVAL = 1 / 15
"""Seconds between two small pictures."""

CALIBRATION = 0.7
"""Seconds of face that make a neutral one: long enough to outlast a blink, short enough to hold still."""

_CALIBRATION_PATIENCE = 4.0
"""Seconds after which calibration makes do with the face it saw by then."""

_WAIT = 0.02
"""Seconds that one step waits for something new, and so the longest that an order waits."""

_SHIFT = 4
"""Bits behind the point of the coordinates that OpenCV draws at."""

_CONTOUR, _BOX = (120, 255, 200, 255), (255, 190, 60, 255)
"""Colours of the small picture's landmarks and box, RGBA."""

# Jaw, brows, ridge and base of the nose; eyes, outer and inner lips: the 68 points in their usual order.
_OPEN = [slice(0, 17), slice(17, 22), slice(22, 27), slice(27, 31), slice(31, 36)]
_CLOSED = [slice(36, 42), slice(42, 48), slice(48, 60), slice(60, 68)]

Emit = Callable[..., bool | None]


class LiveSession:
    """Follows one live source.

    Parameters
    ----------
    order : StartLive
    emit : callable
        Takes a message for Blender's side, and ``droppable=True`` for those that a later
        one replaces; returns False where it left such a one out.

    Attributes
    ----------
    ended : bool
        Whether it has stopped or failed for good.
    """

    def __init__(self, order: StartLive, emit: Emit):
        self.order = order
        self.ended = False
        self._emit = emit
        self._tuning = TuneLive(order.job)
        self._grabber = self._network = None
        self._recorder: _Recorder | None = None
        self._draining: list[_Recorder] = []
        self._microphone: Microphone | None = None
        self._senders: list[LiveLinkFaceSender | VmcSender] = []
        self._calibration: list[FrameResult] | None = None
        self._calibration_began = 0.0
        self._neutral = ""
        self._last = -np.inf
        self._results: collections.deque[float] = collections.deque(maxlen=120)
        self._durations: collections.deque[float] = collections.deque(maxlen=60)
        self._index = self._unsent = 0
        self._told: tuple | None = None
        self._trouble: MienError | None = None
        self._status_due = self._picture_due = 0.0
        self._sound_due = np.inf
        self._ask_due = 0.0
        self._picture_wanted = True
        self._pipeline = self._labeller = None
        self._expressions: Expressions | None = None
        self._actor_error: MienError | None = None
        emit(LiveStatus(order.job, "loading"))
        try:
            self._open()
        except BaseException:
            self._close_all()
            raise

    def _open(self) -> None:
        # Seconds of imports; the camera opens on its thread meanwhile.
        try:
            from .solve import Solver

            if self.order.source == "network":
                from .network import NetworkSource

                order = self.order
                self._network = NetworkSource(
                    order.name, order.port or None, listen_lan=order.lan, mirror=order.mirror, clock=now
                )
            else:
                from .capture.grabber import Grabber

                self._grabber = Grabber(lambda: _open_pictures(self.order))
                self._pipeline = make_pipeline(self.order.estimator)
        except ImportError as error:
            raise library_missing(error) from error
        self._solver = Solver()
        self._labeller = self._pipeline.labeller if self._pipeline is not None else None

    # --- orders

    def tune(self, order: TuneLive) -> None:
        """Take over settings."""
        from .solve import MAX_PREDICTION, SolveOptions

        if order.outputs != self._tuning.outputs:
            self._open_senders(order.outputs)
        if order.microphone != self._tuning.microphone:
            self._switch_microphone(order.microphone)
        if order.actor != self._tuning.actor:
            self._open_actor(order.actor)
        self._tuning = order
        self._solver.tune(
            SolveOptions(
                smoothing=min(order.smoothing, 1.0),
                neutral=order.neutral,
                level_head=order.level_head,
                prediction=min(order.prediction, MAX_PREDICTION),
            )
        )

    def record(self, order: Record) -> None:
        """Begin a take; one that runs ends here, and gets the pictures captured by now."""
        self.end_take()
        if self._recorder is not None:
            # The microphone is wanted for the new one.
            self._recorder.end_sound(self._recorder.until)
            self._draining.append(self._recorder)
            self._recorder = None
        extra: dict[str, Any] = {"live": True, **(self._pipeline.settings if self._pipeline is not None else {})}
        if order.scene_frame is not None:
            extra["scene_frame"] = order.scene_frame
        if self._solver.neutral is not None:
            extra["neutral"] = self._solver.neutral.to_dict()
        if self._microphone is not None:
            extra["microphone"] = self._microphone.which
        name, size, fps = self._source()
        own = self._labeller.names if self._labeller is not None else ()
        try:
            header = TakeHeader(source=name, fps=fps, size=size, own=own, extra=extra)
            self._recorder = _Recorder(order, header, self._microphone)
        except MienError as error:
            self._emit(TakeStatus(self.order.job, order.take, False, error=error))
            return
        if self._grabber is not None:
            self._recorder.lost_before = self._grabber.tally.lost
            self._grabber.keep_all = True
        self._emit(self._recorder.status(self._lost(self._recorder)))

    def end_take(self) -> None:
        """Finish the take with the pictures captured by now."""
        recorder = self._recorder
        if recorder is not None and recorder.until is None:
            recorder.until, recorder.lost = now(), self._lost(recorder)
        self._conclude_takes()

    def calibrate(self, clear: bool) -> None:
        """Take the face of the next moments as neutral, or forget what was taken."""
        self._calibration, self._calibration_began = (None if clear else []), now()
        self._neutral = "" if clear else "running"
        if clear:
            self._solver.calibrate(None)

    def _switch_microphone(self, which: str | None) -> None:
        """Let go of the microphone at once, and of the sound of a take that runs; open another one."""
        if self._microphone is not None:
            if self._recorder is not None:
                self._recorder.end_sound(now())
            self._microphone.close()
            self._microphone = None
        if which is not None:
            from .microphone import Microphone

            self._microphone = Microphone(which)
        self._sound_due = 0.0

    def learn(self, order: LearnExpression) -> None:
        """Learn an expression of the actor's own, or forget one."""
        if self._labeller is None:
            error = MienError("label-none", "Expressions are not labelled here.", "They need a picture and the models.")
            self._emit(Expressions(self.order.job, learning=order.name, state="failed", error=error))
        elif order.forget:
            self._labeller.forget(order.name)
        else:
            self._labeller.learn(order.name, order.seconds)

    def picture_taken(self) -> None:
        """Send a picture again when there is one."""
        self._picture_wanted = True

    def stop(self) -> None:
        """Finish the take and let go of everything; says that it stopped."""
        self.end_take()
        # What is captured by now waits in the grabber; nobody is shown it any more.
        self._close_senders()
        if self._grabber is not None:
            self._grabber.close()
        while self._recorders:
            self.step()
        self._close_all()
        self.ended = True
        self._emit(self._status("stopped", None))

    def fail(self, error: MienError) -> None:
        """Close the takes and end for a reason."""
        for recorder in self._recorders:
            self._finish_take(recorder)
        self._close_all()
        self.ended = True
        self._emit(LiveStatus(self.order.job, "failed", error))

    # --- work

    def step(self) -> None:
        """Do what there is to do: at most one picture, and wait for it only shortly."""
        if self._network is not None:
            self._ask_phone()
            for result in self._network.wait(_WAIT):
                began = now()
                self._take_in(result, began, None)
        else:
            frame = self._grabber.take(_WAIT)
            if frame is not None:
                began = now()
                result = self._pipeline.step(frame)
                self._take_in(result, began, frame)
        self._conclude_takes()
        self._report()
        self._report_expressions()

    def _ask_phone(self) -> None:
        """Ask an iFacialMocap phone for its frames for as long as none come: its app may be opened later."""
        asked = self.order.host and self.order.name == "ifacialmocap"
        if asked and self._network.state != "live" and now() >= self._ask_due:
            self._ask_due = now() + ASK_INTERVAL
            self._network.request(self.order.host)

    def _take_in(self, result: FrameResult, began: float, frame: Frame | None) -> None:
        moment = result.time
        if moment <= self._last:
            # Two stamps of one moment, or a driver whose clock went back: times in a take only rise.
            moment = self._last + 1e-6
        self._last = moment
        for recorder in self._recorders:
            # Before it is sent: a crash of either side loses at most the frame in flight.
            error = recorder.write(result, moment)
            if error is not None:
                self._finish_take(recorder, error)
        if self._calibration is not None and result.found:
            self._calibration.append(result)
        solved = self._solver.step(_at(result, moment, self._index))
        self._index += 1
        done = now()
        self._results.append(done)
        self._durations.append(done - began)
        sent = self._emit(LiveFrame(self.order.job, began, done, pack(solved).reshape(1)), droppable=True)
        self._unsent += sent is False
        for sender in self._senders:
            sender.send(solved)
        wanted = self._tuning.picture and self._picture_wanted and done >= self._picture_due
        if wanted and frame is not None:
            self._picture_wanted, self._picture_due = False, done + PICTURE_INTERVAL
            width, height, pixels = small_picture(frame.image, result, self._tuning.picture)
            self._emit(LivePicture(self.order.job, width, height, pixels))

    def _conclude_calibration(self) -> None:
        if self._calibration is None:
            return
        from .solve import Neutral

        span = self._calibration[-1].time - self._calibration[0].time if self._calibration else 0.0
        if span < CALIBRATION and now() - self._calibration_began < _CALIBRATION_PATIENCE:
            return
        neutral: Neutral | None = Neutral.of(self._calibration) if span >= CALIBRATION / 2 else None
        self._calibration = None
        self._neutral = "done" if neutral else "failed"
        if neutral:
            self._solver.calibrate(neutral)

    # --- takes

    @property
    def _recorders(self) -> list[_Recorder]:
        """The takes that are not closed yet: those that wait for their last pictures, and the one that runs."""
        return [*self._draining, *([self._recorder] if self._recorder is not None else [])]

    def _conclude_takes(self) -> None:
        """Close what was ended, once no picture of its time waits any more."""
        for recorder in self._recorders:
            nothing_waits = self._grabber is None or not self._grabber.tally.waiting
            if recorder.until is not None and (recorder.past or nothing_waits):
                self._finish_take(recorder)

    def _finish_take(self, recorder: _Recorder, error: MienError | None = None) -> None:
        if recorder is self._recorder:
            self._recorder = None
        else:
            self._draining.remove(recorder)
        if self._grabber is not None:
            self._grabber.keep_all = bool(self._recorders)
        lost = self._lost(recorder)
        try:
            recorder.close()
        except MienError as closing:
            error = error or closing
        self._emit(recorder.status(lost, recording=False, error=error))
        give_memory_back()

    def _lost(self, recorder: _Recorder) -> int:
        """Return how many pictures of a take's time were lost."""
        if recorder.lost is not None:
            return recorder.lost
        return self._grabber.tally.lost - recorder.lost_before if self._grabber is not None else 0

    # --- reports

    def _source(self) -> tuple[str, tuple[int, int], float]:
        source = self._grabber if self._grabber is not None else self._network
        size = source.size if self._grabber is not None else (0, 0)
        return source.name, size, float(source.fps)

    def _state(self) -> tuple[str, MienError | None]:
        if self._grabber is not None:
            return self._grabber.state
        state = self._network.state
        if state == "live":
            return "live", None
        if state == "waiting":
            return "opening", self._waiting()
        return "stalled", MienError(
            "network-silent", f"The sender has been silent for {self._network.age:.0f} s.", "Check that the app runs."
        )

    def _waiting(self) -> MienError:
        """Return what to tell, and to do, while no sender was heard."""
        from .network import lan_address

        host, port = self._network.address
        if self._network.stats.received:
            return MienError(
                "network-other-format",
                f"What came on UDP port {port} holds no face in the format {self.order.name}.",
                "Choose under Source the format in which the app sends, or this one in the app.",
            )
        if self.order.host:
            hint = f"The phone at {self.order.host} is asked again and again."
        elif host == "127.0.0.1":
            hint = "Mien listens to this machine alone. For a phone, stop and tick Local Network."
        else:
            here = lan_address()
            hint = f"Type into the app: {here or 'this machine, by its address'}, port {port}."
        return MienError("network-waiting", f"Nothing has come on UDP port {port} yet.", hint)

    def _status(self, state: str, error: MienError | None) -> LiveStatus:
        name, (width, height), _fps = self._source()
        moment = now()
        recent = [stamp for stamp in self._results if stamp > moment - 2.0]
        rate = (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0
        if self._grabber is not None:
            tally, refused, camera_fps = self._grabber.tally, 0, self._grabber.rate
            counts = {name: getattr(tally, name) for name in ("captured", "missed", "dropped", "lost", "waiting")}
        else:
            stats = self._network.stats
            counts = {"captured": stats.frames, "missed": stats.missed}
            refused, camera_fps = sum(stats.refused.values()), self._network.fps
        return LiveStatus(
            self.order.job,
            state,
            error,
            source=name[:256],
            width=width,
            height=height,
            camera_fps=camera_fps,
            worker_fps=rate,
            inference_ms=1000.0 * statistics.median(self._durations) if self._durations else 0.0,
            unsent=self._unsent,
            refused=refused,
            neutral=self._neutral,
            **counts,
        )

    def _open_actor(self, path: str) -> None:
        if self._labeller is None:
            return
        from .actor import Actor

        self._actor_error = None
        try:
            self._labeller.follow(Actor(path) if path else None)
        except MienError as error:
            # What is learnt now takes the place of the file that cannot be used.
            self._labeller.follow(Actor(path, afresh=True))
            self._actor_error = error

    def _report_expressions(self) -> None:
        labeller = self._labeller
        if labeller is None:
            return
        labeller.look_after()
        lesson = labeller.lesson
        if lesson.state == "done":
            self._actor_error = None  # the file was written anew
        # A bar that grows in steps of a tenth: not one message a frame.
        news = Expressions(
            self.order.job,
            names=labeller.names,
            knows_rest=labeller.knows_rest,
            shown=labeller.label.own,
            learning=lesson.name,
            state=lesson.state,
            share=math.floor(lesson.share * 10.0) / 10.0,
            error=lesson.error or self._actor_error,
        )
        if news != self._expressions:
            self._expressions = news
            self._emit(news)

    def _notice(self) -> MienError | None:
        """Return what live capture has to do without."""
        if self._labeller is not None and self._labeller.trouble is not None:
            return self._labeller.trouble
        return next(iter(self._pipeline.notices), None) if self._pipeline is not None else None

    def _report(self) -> None:
        self._conclude_calibration()
        if now() >= self._sound_due:
            self._report_sound()
        state, error = self._state()
        error = error or self._trouble or self._notice()
        key = (state, error.code if error else "", self._neutral)
        changed = key != self._told
        if not changed and now() < self._status_due:
            return
        self._told, self._status_due = key, now() + STATUS_INTERVAL
        self._emit(self._status(state, error), droppable=not changed)
        if self._recorder is not None:
            self._emit(self._recorder.status(self._lost(self._recorder)), droppable=True)

    def _report_sound(self) -> None:
        microphone = self._microphone
        if microphone is None:
            self._sound_due = np.inf
            self._emit(SoundStatus(self.order.job))
            return
        self._sound_due = now() + SOUND_INTERVAL
        state, error = microphone.state
        self._emit(SoundStatus(self.order.job, state, microphone.level(), error), droppable=True)

    # --- ends

    def _open_senders(self, outputs: tuple[Output, ...]) -> None:
        self._close_senders()
        self._trouble = None
        for output in outputs:
            try:
                self._senders.append(self._open_sender(output))
            except MienError as error:
                # A wrong address is no reason to end a session, or a take.
                self._trouble = error

    def _open_sender(self, output: Output) -> LiveLinkFaceSender | VmcSender:
        from .network import LiveLinkFaceSender, VmcSender

        if self._network is not None and self._network.hears(output.host, output.port):
            raise MienError(
                "output-loops",
                f"Mien itself listens on UDP port {output.port} of {output.host}, so what it sends there comes back.",
                "Set another port under Send and in the program that is to listen, or under Source and in the app.",
            )
        more = {"allow_lan": self.order.lan}
        if output.format == "vmc":
            return VmcSender(output.host, output.port, blends=output.blends, **more)
        return LiveLinkFaceSender(output.host, output.port, **more)

    def _close_senders(self) -> None:
        for sender in self._senders:
            sender.close()
        self._senders = []

    def _close_all(self) -> None:
        self._close_senders()
        for thing in (self._microphone, self._grabber, self._network, self._pipeline):
            if thing is not None:
                thing.close()


class _Recorder:
    """A take that is being written."""

    def __init__(self, order: Record, header: TakeHeader, microphone: Microphone | None):
        self.since = now()
        self.until: float | None = None
        self.past = False
        self.lost_before = 0
        self.lost: int | None = None  # known when it has ended
        self._order, self._header = order, header
        self._writer = TakeWriter(order.take, header)
        self._microphone = microphone
        self._sound = 0.0
        self._sound_error: MienError | None = None
        # A take that is written over must not keep the sound of the one before.
        with contextlib.suppress(OSError):
            sound_path(order.take).unlink()
        self._origin: float | None = None
        self._found = 0
        self._duration = 0.0

    def write(self, result: FrameResult, moment: float) -> MienError | None:
        """Write a result of the take's time; return what went wrong."""
        if result.time < self.since:
            return None
        if self.until is not None and result.time > self.until:
            self.past = True
            return None
        if self._origin is None:
            self._origin, self._first_index = moment, result.index
            if self._microphone is not None:
                self._microphone.begin(sound_path(self._order.take), moment)
        try:
            if not self._writer.frames and self._order.scene_fps and self._order.scene_frame is not None:
                self._place(moment)
            self._writer.write(_at(result, moment - self._origin, result.index - self._first_index))
        except MienError as error:
            return error
        self._found += bool(result.found)
        self._duration = moment - self._origin
        return None

    def _place(self, moment: float) -> None:
        """Write in the header where the timeline is by now: a camera may have opened long after it began to play."""
        passed = max(moment - self._order.since, 0.0)
        frame = self._order.scene_frame + passed * self._order.scene_fps
        self._writer.close()
        extra = {**self._header.extra, "scene_frame": frame}
        self._writer = TakeWriter(self._order.take, dataclasses.replace(self._header, extra=extra))

    def close(self) -> None:
        self.end_sound(self.until or now())
        self._writer.close()

    def end_sound(self, moment: float) -> None:
        """Close the sound; the take may go on without."""
        microphone, self._microphone = self._microphone, None
        if microphone is not None:
            summary = microphone.end(moment)
            self._sound, self._sound_error = summary.seconds, summary.error

    def status(self, lost: int, recording: bool = True, error: MienError | None = None) -> TakeStatus:
        order = self._order
        return TakeStatus(
            *(order.job, order.take, recording, self._writer.frames, self._found, lost, self._duration, error),
            *(self._sound, self._sound_error),
        )


def _at(result: FrameResult, time: float, index: int) -> FrameResult:
    """Return the result at another time and place, its arrays shared: they are frozen and were checked."""
    moved = object.__new__(FrameResult)
    for name in FrameResult.__slots__:
        object.__setattr__(moved, name, getattr(result, name))
    object.__setattr__(moved, "time", time)
    object.__setattr__(moved, "index", index)
    return moved


def give_memory_back() -> None:
    """Return to the system what a recording's queue of pictures held; glibc would keep half of it for ever."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # another C library has no such function
            ctypes.CDLL(None).malloc_trim(0)


def make_pipeline(estimator: str):
    """Open the models; tests put a pipeline that needs none in this place."""
    from .pipeline import open_pipeline

    return open_pipeline(estimator, live=True)


def _open_pictures(order: StartLive):
    if order.source == "video":
        from .capture.paced import PacedFile

        return PacedFile(order.name, order.mirror)
    from .capture.camera import Camera

    return Camera(order.name, (order.width, order.height), order.fps, order.mirror)


def small_picture(image: np.ndarray, result: FrameResult, width: int) -> tuple[int, int, bytes]:
    """Return width, height and RGBA bytes (lowest row first) of a small picture with the face drawn in.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    result : FrameResult
    width : int
        Wished width, px; the height follows, both at most the protocol's.
    """
    from .opencv import cv2
    from .protocol import PICTURE_HEIGHT

    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    if height > PICTURE_HEIGHT:
        width, height = max(width * PICTURE_HEIGHT // height, 1), PICTURE_HEIGHT
    small = np.empty((height, width, 4), np.uint8)
    small[..., :3] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    small[..., 3] = 255
    if result.found:
        _draw_face(cv2, small, result, width / image.shape[1])
    return width, height, np.ascontiguousarray(small[::-1]).tobytes()


def _draw_face(cv2, small: np.ndarray, result: FrameResult, scale: float) -> None:
    """Draw the landmarks as contours, and the box as four corners, so that the face stays to be seen."""
    # OpenCV takes whole numbers with bits behind the point; what lies far outside would overflow them.
    points = np.clip(result.points68 * scale, -4096, 4096)
    points = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    lines = {"lineType": cv2.LINE_AA, "shift": _SHIFT}
    cv2.polylines(small, [points[part] for part in _OPEN], False, _CONTOUR, 1, **lines)
    cv2.polylines(small, [points[part] for part in _CLOSED], True, _CONTOUR, 1, **lines)
    x, y, w, h = np.clip(result.box * scale, -4096, 4096).tolist()
    reach = 0.18 * min(w, h)
    corners = [
        [(cx, cy + dy * reach), (cx, cy), (cx + dx * reach, cy)]
        for cx, dx in ((x, 1), (x + w, -1))
        for cy, dy in ((y, 1), (y + h, -1))
    ]
    corners = np.rint(np.array(corners) * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(small, list(corners), False, _BOX, 2, **lines)
