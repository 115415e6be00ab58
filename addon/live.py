"""Live capture on Blender's side: talks to the worker, and puts the newest sample on the rig.

One timer calls `tick`, which never waits: it takes in what the worker said, applies the
newest sample and asks for the redraws that are due. What runs is kept here and in
`session`, never in the file.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core.client import WorkerClient, WorkerDied
from ..core.clock import now
from ..core.errors import MienError
from ..core.protocol import (
    Calibrate,
    Cameras,
    EndTake,
    Expressions,
    Failed,
    LearnExpression,
    ListCameras,
    ListMicrophones,
    LiveFrame,
    LivePicture,
    LiveStatus,
    Microphones,
    PictureTaken,
    Record,
    SoundStatus,
    StartLive,
    StopLive,
    TakeStatus,
    TuneLive,
)
from ..core.take import SUFFIX
from ..core.types import SURE
from . import session
from .rig.puppet import Channels, Puppet, Sample
from .rig.targets import find_further, find_target, without_shared
from .triggers import Wearer
from .windows import redraw_panels

INTERVAL = 1 / 120
"""Seconds between two looks at what the worker sent; half of it is added to the lag on average."""

DRAIN = 0.02
"""Seconds that one look may take at most, after Blender was busy with something else."""

PANEL_INTERVAL = 0.1
"""Seconds between two redraws of the panel."""

MAX_DEATHS = 5
"""Deaths of the worker within `DEATH_WINDOW` seconds after which it is not started again."""

DEATH_WINDOW = 30.0

TAKE_PATIENCE = 30.0
"""Seconds for the pictures of a take that still wait when the session ends."""

FACELESS = 0.5
"""Seconds without a face after which it is told; one frame that misses it is nothing."""

_JOB = 1

_ENDED = ("stopped", "failed")


@dataclasses.dataclass
class Timeline:
    """The playing timeline along which a take is recorded.

    Attributes
    ----------
    scene : int
        ``session_uid`` of its scene.
    order : Record
        Tells where and when the take began.
    reached : float
        The last frame since.
    ended : bool
        Whether it jumped back or stopped, and the take ended with it.
    late : float
        Frames by which it was behind the clock at the end.
    """

    scene: int
    order: Record
    reached: float
    ended: bool = False
    late: float = 0.0

    def end(self) -> None:
        """Note how far it came against the clock, where it moved at all."""
        played = self.reached - self.order.scene_frame
        if played > 0:
            self.late = (now() - self.order.since) * self.order.scene_fps - played


@dataclasses.dataclass
class Counts:
    """What live application has done so far: received = applied + superseded + held.

    Attributes
    ----------
    received, applied : int
        Samples that came, and those that were put on the rig.
    superseded : int
        Samples for which a newer one was there already when Blender had time.
    held : int
        Samples that came while nothing may be put on the rig: see `Cast.held`.
    dropped_before : int
        Pictures that workers dropped which died since.
    restarts : int
        Times the worker died and was started again.
    refused : int
        Messages between Blender and the worker that one of the two did not accept.
    """

    received: int = 0
    applied: int = 0
    superseded: int = 0
    held: int = 0
    dropped_before: int = 0
    restarts: int = 0
    refused: int = 0


class Cast:
    """The puppets of a session, and the newest sample on them.

    Parameters
    ----------
    puppets : list of Puppet
    left_out : sequence of str
        Sentences about heads that cannot be driven.
    """

    def __init__(self, puppets: list[Puppet], left_out: Sequence[str] = ()):
        self.puppets = puppets
        self.left_out = left_out
        self.left = len(puppets)
        """Rigs that are still there."""
        self.sample: Sample | None = None
        self.held: set[str] = set()
        """Why nothing is put on the rigs for now: ``"save"``, ``"render job"``, ``"render"``: one that is no job."""
        self.due = False
        """Whether the animation wrote its values over the sample's: the next `tick` puts that on again."""
        self._label = ""
        self._labelled: list[int] = []

    @property
    def still(self) -> bool:
        """Whether nothing is put on the rigs for now."""
        if "render job" in self.held and not bpy.app.is_job_running("RENDER"):
            self.held.discard("render job")
        return bool(self.held)

    def apply(self, sample: Sample | None = None) -> int:
        """Put a sample, or the last one again, on every rig; returns how many rigs are left."""
        self.sample = sample or self.sample
        if self.sample is None or self.still:
            return 0
        self.due = False
        self.left = sum(puppet.apply(self.sample) for puppet in self.puppets)
        return self.left

    def show_label(self, label: str) -> None:
        """Tell the preview what the faces express, which can set particles off."""
        if label == self._label:
            return
        from . import preview

        self._label = label
        for uid in self._labelled:
            preview.clear_sample(uid)
        self._labelled = [puppet.uid for puppet in self.puppets] if label else []
        for uid in self._labelled:
            # No weights of its own: the preview reads them off the rig.
            preview.set_sample(uid, {}, label=label)

    def note(self) -> None:
        """Take what the rigs hold now for what `restore` puts back: what drove them before has let go."""
        bpy.context.view_layer.update()  # their animation speaks again
        for puppet in self.puppets:
            puppet.note()

    def animation_changed(self) -> None:
        """Note that a rig was baked on meanwhile."""
        for puppet in self.puppets:
            puppet.animation_changed()

    def look_before_undo(self) -> None:
        """Note what `catch_up_after_undo` asks for."""
        for puppet in self.puppets:
            puppet.look_before_undo()

    def catch_up_after_undo(self) -> None:
        """Take what the rigs hold now, where an undo took or brought back what was baked before they were driven."""
        for puppet in self.puppets:
            puppet.catch_up_after_undo()

    def restore(self) -> None:
        """Put every rig back as it was."""
        if self.sample is not None:
            for puppet in self.puppets:
                puppet.restore()


class Live:
    """A live session: a worker that follows a source, and rigs that follow the worker.

    Parameters
    ----------
    order : StartLive
    tuning : TuneLive
    cast : Cast
    command : list of str, optional
        Another worker, for tests.

    Attributes
    ----------
    status : LiveStatus
        The worker's newest report.
    take : TakeStatus or None
        The recording that runs, or the last one.
    sound : SoundStatus
        The worker's newest report of the microphone.
    counts : Counts
    running : bool
        Whether it has neither stopped nor failed.
    error : MienError or None
        Why it ended by itself.
    label, probability : str, float
        Expression of the newest sample.
    hidden : bool
        Whether the face in it is hidden: what it shows is a guess.
    expressions : Expressions
        The actor's own expressions, as the worker told them last.
    wearer : Wearer
        Lays over the capture what the label sets off.
    scene : int
        ``session_uid`` of the scene whose settings it follows; 0 for none.
    """

    def __init__(self, order: StartLive, tuning: TuneLive, cast: Cast, command: list[str] | None = None):
        self.order = dataclasses.replace(order, job=_JOB)
        self.tuning = dataclasses.replace(tuning, job=_JOB)
        self.cast = cast
        self.status = LiveStatus(_JOB, "loading")
        self.take: TakeStatus | None = None
        self.sound = SoundStatus(_JOB)
        self.counts = Counts()
        self.running = False
        self.error: MienError | None = None
        self.label, self.probability = "", 0.0
        self.hidden = False
        self.expressions = Expressions(_JOB)
        self.wearer = Wearer()
        self.scene = 0
        self.found = False
        self._lost_since: float | None = None
        self.picture: LivePicture | None = None
        self.on_take: Callable[[TakeStatus], None] | None = None
        self.wanted: Record | None = None
        """The recording that goes on until `end_take`, whatever happens to the worker."""
        self.count_from: float | None = None
        self.timeline: Timeline | None = None
        """That of the recording that goes on, or of the last one."""
        self._client = WorkerClient(command)
        self._deaths: collections.deque[float] = collections.deque(maxlen=MAX_DEATHS)
        self._applied: collections.deque[float] = collections.deque(maxlen=120)
        self._latencies: collections.deque[float] = collections.deque(maxlen=120)
        self._dirty = True
        self._panel_due = 0.0

    # --- what it tells

    @property
    def recording(self) -> bool:
        """Whether frames go into a take, or are about to."""
        return self.wanted is not None

    @property
    def countdown(self) -> float:
        """Seconds until the recording begins; 0 when none waits."""
        return max(self.count_from - now(), 0.0) if self.count_from is not None else 0.0

    @property
    def faceless(self) -> bool:
        """Whether pictures come, and for a while none of them with a face."""
        lost = self._lost_since is not None and now() - self._lost_since >= FACELESS
        return lost and self.status.state == "live"

    @property
    def apply_fps(self) -> float:
        """Samples put on the rigs per second, over the last two seconds."""
        moment = now()
        recent = [stamp for stamp in self._applied if stamp > moment - 2.0]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0

    @property
    def latency(self) -> float:
        """Median seconds from capture to value on the rig; not a number before the first sample."""
        return float(np.median(self._latencies)) if self._latencies else math.nan

    @property
    def dropped(self) -> int:
        """Pictures of the source that never reached the rig."""
        counts = self.counts
        return _dropped(self.status) + counts.dropped_before + counts.superseded + counts.held

    # --- orders

    def start(self) -> None:
        """Start the worker; raises MienError."""
        self._client.start()
        self.running = True
        self._give_orders()

    def _give_orders(self) -> None:
        self._client.send(self.order)
        self._client.send(self.tuning)

    def tune(self, tuning: TuneLive) -> None:
        """Change settings while running."""
        tuning = dataclasses.replace(tuning, job=_JOB)
        if self.running and tuning != self.tuning:
            self.tuning = tuning
            self._client.send(tuning)

    def calibrate(self, clear: bool = False) -> None:
        """Take the actor's face of this moment as neutral, or forget that."""
        self._client.send(Calibrate(_JOB, clear))

    def learn(self, name: str, seconds: float) -> None:
        """Learn what the actor shows from now on as an expression of that name."""
        self._client.send(LearnExpression(_JOB, name, seconds))

    def forget(self, name: str) -> None:
        """Forget one of the actor's own expressions."""
        self._client.send(LearnExpression(_JOB, name, forget=True))

    def record(
        self, take: Path, scene_frame: float | None = None, countdown: float = 0.0, scene_fps: float = 0.0
    ) -> None:
        """Begin a take.

        Parameters
        ----------
        take : pathlib.Path
        scene_frame : float, optional
            Where the timeline stands now, for a take that belongs to a place in it.
        countdown : float
            Seconds until it begins.
        scene_fps : float
            Frames per second at which the timeline goes on from there.
        """
        self.wanted = Record(_JOB, str(take), scene_frame, scene_fps, now())
        self.count_from = now() + countdown
        self._begin_take_when_due()

    def end_take(self) -> None:
        """Finish the take, or call the countdown off."""
        if self.wanted is not None and self.count_from is None:
            self._client.send(EndTake(_JOB))
        self.wanted = self.count_from = None
        self._dirty = True

    def stop(self) -> None:
        """End the session without waiting: the rigs are put back now, the worker ends meanwhile."""
        if not self.running:
            return
        self.running = False
        self.wanted = self.count_from = None
        self.cast.restore()
        self.cast.show_label("")
        session.forget_picture()
        if self._client.connected:
            self._client.send(StopLive(_JOB))
        if self.take is not None and self.take.recording:
            self._client.dismiss(TAKE_PATIENCE)  # its pictures may still wait
        else:
            self._client.dismiss()
        session.retiring.append(_Leaving(self._client, self.take, self.on_take))
        redraw_panels()

    def abandon(self, error: MienError) -> None:
        """End the session for a reason, which stays to be read."""
        self.stop()
        self.error = error

    # --- work

    def tick(self) -> None:
        """Take in what came, and apply the newest sample."""
        if not self.running:
            return
        newest: LiveFrame | None = None
        for message in self._messages():
            if isinstance(message, LiveFrame):
                self.counts.received += 1
                self.counts.superseded += newest is not None
                newest = message
            elif isinstance(message, LivePicture):
                self.picture, self._dirty = message, True
                self._client.send(PictureTaken(_JOB))
            elif isinstance(message, LiveStatus):
                self._note(message)
            elif isinstance(message, TakeStatus):
                self._note_take(message)
            elif isinstance(message, SoundStatus):
                self.sound, self._dirty = message, True
            elif isinstance(message, Expressions):
                self.expressions, self._dirty = message, True
            elif isinstance(message, WorkerDied):
                self._revive(message)
            elif isinstance(message, Failed):
                self.counts.refused += 1
                self.status = dataclasses.replace(self.status, error=message.error)
        if not self.running:
            return
        if newest is not None:
            self._apply(newest)
        elif self.cast.due:
            self.cast.apply()
        self._begin_take_when_due()
        self._show()

    def _messages(self):
        """Yield what came, all of it: after seconds of drawing, the newest sample is the last one."""
        end = now() + DRAIN
        while True:
            yield from self._client.poll()
            if not self._client.more or now() > end:
                return

    def _apply(self, frame: LiveFrame) -> None:
        if self.cast.still:
            self.counts.held += 1
            return
        plain = frame.plain
        own = self.expressions.shown if plain.found else ""
        self.cast.apply(self.wearer(plain, (plain.expression, own), frame.captured))
        self.cast.show_label(own or plain.expression)
        moment = now()
        self.counts.applied += 1
        self._applied.append(moment)
        self._latencies.append(moment - frame.captured)
        self.found, self.label, self.probability = plain.found, plain.expression, plain.probability
        self.hidden = plain.found and plain.confidence < SURE
        if plain.found:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = moment
        self._dirty = True

    def _begin_take_when_due(self) -> None:
        if self.count_from is not None and now() >= self.count_from:
            self.count_from = None
            self._client.send(self.wanted)
            self._dirty = True

    def _note(self, status: LiveStatus) -> None:
        self.status, self._dirty = status, True
        if status.state in _ENDED:
            self.abandon(status.error or MienError("live-ended", "Live capture ended.", "Press Start to go on."))

    def _note_take(self, status: TakeStatus) -> None:
        self._dirty = True
        # The one before may be closed when the next one runs already.
        if status.recording or self.take is None or not self.take.recording or self.take.take == status.take:
            self.take = status
        if status.recording:
            return
        if self.wanted is not None and self.wanted.take == status.take and self.count_from is None:
            # It ended by itself: a full disk, a folder that went away.
            self.wanted = None
        if self.on_take is not None:
            self.on_take(status)

    def _revive(self, death: WorkerDied) -> None:
        """Start the worker again, and the recording in a take of its own: what was written is whole."""
        if self.take is not None and self.take.recording:
            self.take = dataclasses.replace(self.take, recording=False)
            if self.on_take is not None:
                self.on_take(self.take)
        moment = now()
        if len(self._deaths) == MAX_DEATHS and moment - self._deaths[0] < DEATH_WINDOW:
            self.abandon(death.error)
            return
        self._deaths.append(moment)
        self.counts.restarts += 1
        # The next worker counts from nothing.
        self.counts.dropped_before += _dropped(self.status)
        self.status = LiveStatus(_JOB, "loading", death.error, source=self.status.source)
        self.expressions = Expressions(_JOB)  # a lesson that ran is over
        self.sound = SoundStatus(_JOB)
        try:
            self._client.start()
        except MienError as error:
            self.abandon(error)
            return
        self._give_orders()
        if self.wanted is not None and self.count_from is None:
            # Where the timeline was and since when it plays still tells where this part belongs.
            self.wanted = dataclasses.replace(self.wanted, take=str(continued(Path(self.wanted.take))))
            self._client.send(self.wanted)

    def _show(self) -> None:
        moment = now()
        # A countdown runs in the panel even when nothing comes.
        if (self._dirty or self.count_from is not None) and moment >= self._panel_due:
            self._dirty, self._panel_due = False, moment + PANEL_INTERVAL
            if self.picture is not None:
                session.show_picture(self.picture)
                self.picture = None
            redraw_panels()


class _Leaving:
    """A worker that was told to end, and what it still says of its takes."""

    def __init__(self, client: WorkerClient, take: TakeStatus | None, on_take: Callable[[TakeStatus], None] | None):
        self._client = client
        self._open = {take.take: take} if take is not None and take.recording else {}
        self._on_take = on_take

    def gone(self) -> bool:
        """Whether it has ended; see `WorkerClient.gone`."""
        for message in self._client.poll():
            if isinstance(message, TakeStatus):
                self._open[message.take] = message
                self._tell_closed()
        if self._client.more or not self._client.gone():
            return False
        lost = MienError("take-cut", "Its last pictures were lost with the worker.", "What was written is kept.")
        for name, take in self._open.items():
            self._open[name] = dataclasses.replace(take, recording=False, error=take.error or lost)
        self._tell_closed()
        return True

    def _tell_closed(self) -> None:
        closed = [take for take in self._open.values() if not take.recording]
        for take in closed:
            del self._open[take.take]
            if self._on_take is not None:
                self._on_take(take)


def _dropped(status: LiveStatus) -> int:
    """Return the pictures that a worker counts as not sent to the rig."""
    return status.missed + status.dropped + status.lost + status.unsent


class Playback:
    """A take played on the rigs at its own pace.

    Parameters
    ----------
    performance : Performance
    cast : Cast
    name : str
        The take's.
    """

    def __init__(self, performance: Any, cast: Cast, name: str):
        self.cast = cast
        self.name = name
        self.running = True
        self._performance = performance
        self._start = now()

    @property
    def position(self) -> float:
        """Share of the take that was played."""
        duration = self._performance.times[-1] - self._performance.times[0]
        return min((now() - self._start) / duration, 1.0) if duration > 0 else 1.0

    def tick(self) -> None:
        """Apply the frame whose time it is; stop after the last."""
        if not self.running:
            return
        p = self._performance
        moment = now() - self._start + p.times[0]
        if moment > p.times[-1]:
            self.stop()
            return
        i = max(int(np.searchsorted(p.times, moment, "right")) - 1, 0)
        self.cast.apply(Sample(p.units[i].tolist(), p.arkit[i].tolist(), p.head[i].tolist(), p.eyes[i].tolist()))

    def stop(self) -> None:
        """Put the rigs back."""
        if self.running:
            self.running = False
            self.cast.restore()
            redraw_panels()


# --- the one timer


def tick() -> None:
    """Do all that is due; the timer's body, which tests call themselves."""
    if session.live is not None:
        session.live.tick()
    if session.playback is not None:
        session.playback.tick()
        if not session.playback.running:
            session.playback = None
    if session.lister is not None:
        _poll_lister()
    if session.retiring:
        session.retiring = [client for client in session.retiring if not client.gone()]


def busy() -> bool:
    """Whether the timer has something to do."""
    live = session.live is not None and session.live.running
    return live or session.playback is not None or session.lister is not None or bool(session.retiring)


def _on_timer() -> float | None:
    tick()
    return INTERVAL if busy() else None


def ensure_timer() -> None:
    """Have `tick` called from now on for as long as there is something to do."""
    if not bpy.app.timers.is_registered(_on_timer):
        # Loading a file must not silence a worker that still has to be buried.
        bpy.app.timers.register(_on_timer, persistent=True)


def remove_timer() -> None:
    """Have `tick` called no more."""
    if bpy.app.timers.is_registered(_on_timer):
        bpy.app.timers.unregister(_on_timer)


# --- beginnings


def make_cast(meshes: list[bpy.types.Object], channels: Channels) -> Cast:
    """Return a cast of every mesh that can be driven.

    Raises
    ------
    MienError
        If not even the first can.
    """
    first, *others = dict.fromkeys(meshes)
    target = find_target(first, need_keys=False)
    further, left_out = find_further(others)
    cast = Cast([Puppet(target, channels) for target in without_shared([target, *further])], left_out)
    if bpy.app.is_job_running("RENDER"):
        cast.held.add("render job")
    return cast


def start(order: StartLive, tuning: TuneLive, cast: Cast) -> Live:
    """Begin a live session; what played before ends.

    Raises
    ------
    MienError
    """
    stop()
    cast.note()
    live = Live(order, tuning, cast, session.worker_command)
    live.start()
    session.live = live
    ensure_timer()
    return live


def play(performance: Any, cast: Cast, name: str) -> None:
    """Play a take on the rigs; a live session ends."""
    stop()
    cast.note()
    session.playback = Playback(performance, cast, name)
    ensure_timer()


def stop() -> None:
    """End what drives the rigs, if anything."""
    if session.live is not None:
        session.live.stop()
        session.live = None
    if session.playback is not None:
        session.playback.stop()
        session.playback = None


def continued(take: Path) -> Path:
    """Return the path of the take that goes on where this one broke off: of ``a.mien`` that is ``a-part2.mien``."""
    stem, dash, number = take.stem.rpartition("-part")
    base, count = (stem, int(number)) if dash and number.isdigit() else (take.stem, 1)
    return take.with_name(f"{base}-part{count + 1}{SUFFIX}")


# --- the cameras and microphones of this machine


def list_cameras() -> None:
    """Ask a worker for the cameras; `session.cameras` has them when it answered."""
    _ask(ListCameras())


def list_microphones() -> None:
    """Ask a worker for the microphones; `session.microphones` has them when it answered."""
    _ask(ListMicrophones())


def _ask(question: ListCameras | ListMicrophones) -> None:
    if session.lister is not None:
        return
    client = WorkerClient(session.worker_command)
    client.start()
    client.send(question)
    session.lister = client
    ensure_timer()


def _poll_lister() -> None:
    for message in session.lister.poll():
        if isinstance(message, Cameras):
            session.cameras = list(message.cameras)
            session.outcome = _found("camera", len(session.cameras))
        elif isinstance(message, Microphones):
            session.microphones = list(message.microphones)
            session.outcome = _found("microphone", len(session.microphones), message.error)
        elif isinstance(message, WorkerDied | Failed):
            session.outcome = session.Outcome(message.error.lines, failed=True)
        else:
            continue
        session.lister.dismiss()
        session.retiring.append(session.lister)
        session.lister = None
        redraw_panels()
        return


def _found(what: str, count: int, error: MienError | None = None) -> session.Outcome:
    """Return what to tell about a search for devices."""
    if error is not None:
        return session.Outcome(error.lines, failed=True)
    if not count:
        return session.Outcome([f"No {what} is connected.", "Connect one, then look again."], failed=True)
    return session.Outcome([f"{count} {what}{'s' if count > 1 else ''} found: click the field to choose."])


# --- the end


def wait_for_end() -> None:
    """Bury the workers that were dismissed: for leaving, when no timer will. Patience with each has an end."""
    while session.retiring:
        session.retiring = [client for client in session.retiring if not client.gone()]
        time.sleep(0.005)
