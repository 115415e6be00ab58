"""Expression labels along a film: judged at a steady rate, held in between.

A face's expression changes slowly against the frame rate, and to judge it costs half of
what finding the face does. So every `INTERVAL` one frame is judged and its label stands for
those after it. Files are judged in line, so that the same film gives the same take; live,
a thread of its own judges the newest face and no frame waits for it.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time as clock

import numpy as np
import numpy.typing as npt

from .actor import Actor
from .errors import MienError
from .expression import ExpressionClassifier, ExpressionTracker
from .landmarks import Face
from .units import EXPRESSIONS

INTERVAL = 0.16
"""Seconds between two judgements: every fourth frame of 25 a second, every fifth of 30."""

FORGET = 0.5
"""Seconds without the face after which what was seen before no longer counts."""

RECENT = 80
"""Judgements kept as what this actor looks like otherwise; some ten seconds."""

_PATIENCE = 3.0
# Frames come a little early or late.
_SLACK = 1e-3


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """What a face is said to express.

    Attributes
    ----------
    expression : str
        As in `types.FrameResult`.
    probabilities : ndarray of float32, shape (7,)
    own : str
        The actor's own expression that the face shows, or ``""``.
    """

    expression: str = ""
    probabilities: npt.NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros(len(EXPRESSIONS), np.float32)
    )
    own: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """How learning an expression of the actor's own stands.

    Attributes
    ----------
    name : str
    state : str
        ``""`` (none yet), ``"running"``, ``"done"`` or ``"failed"``.
    share : float
        0..1, how much of it was shown.
    error : MienError or None
        Why it failed.
    """

    name: str = ""
    state: str = ""
    share: float = 0.0
    error: MienError | None = None


@dataclasses.dataclass(slots=True)
class _Collecting:
    name: str
    seconds: float
    until: float
    features: list = dataclasses.field(default_factory=list)
    last: float | None = None
    shown: float = 0.0


class Labeller:
    """Labels the frames of one source.

    Parameters
    ----------
    classifier : ExpressionClassifier, optional
        The shipped one if not given.
    threaded : bool
        Judge on a thread, and hold the last label until it has judged. The images handed
        over must not be written to afterwards.

    Attributes
    ----------
    lesson : Lesson
        The last one, or the one that runs.
    trouble : MienError or None
        What went wrong on the thread; labels stop then.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, classifier: ExpressionClassifier | None = None, threaded: bool = False):
        self._classifier = ExpressionClassifier() if classifier is None else classifier
        self._tracker = ExpressionTracker()
        self._actor: Actor | None = None
        self._label = Label()
        self._candidate = ""
        self._recent: collections.deque[npt.NDArray] = collections.deque(maxlen=RECENT)
        self._collecting: _Collecting | None = None
        self.lesson = Lesson()
        self.trouble: MienError | None = None
        self._due = self._seen = -np.inf
        self._afresh = True
        self._here = False
        # Held while judging, and while what judging uses is exchanged.
        self._judging = threading.Lock()
        self._changed = threading.Condition()
        self._newest: tuple[float, Face, npt.NDArray, bool] | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="mien-label", daemon=True)
            self._thread.start()

    @property
    def label(self) -> Label:
        """The label that holds now; an empty one while no face is found."""
        return self._label if self._here else Label()

    @property
    def names(self) -> tuple[str, ...]:
        """The actor's own expressions."""
        return self._actor.names if self._actor is not None else ()

    @property
    def knows_rest(self) -> bool:
        """Whether the actor's resting face was learnt."""
        return self._actor is not None and self._actor.knows_rest

    def __call__(self, time: float, face: Face | None, image: npt.NDArray[np.uint8]) -> Label:
        """Return the label of the next frame.

        Parameters
        ----------
        time : float
            Seconds; a step back starts anew.
        face : Face or None
            None where none was found, or where it is hidden.
        image : ndarray of uint8, shape (H, W, 3)
        """
        self._here = face is not None
        if face is None:
            return Label()
        if not 0.0 <= time - self._seen <= FORGET:
            self._afresh, self._label, self._due = True, Label(), time
        self._seen = time
        if (time >= self._due - _SLACK or self._collecting is not None) and self.trouble is None:
            self._due = time + INTERVAL
            if self._thread is None:
                self._judge(time, face, image, self._afresh)
            else:
                with self._changed:
                    # One that was not judged any more may have been the first of a new face.
                    afresh = self._afresh or (self._newest is not None and self._newest[3])
                    self._newest = (time, face, image, afresh)
                    self._changed.notify()
            self._afresh = False
        return self._label

    # --- expressions of one's own

    def follow(self, actor: Actor | None) -> None:
        """Look for this actor's own expressions from now on, or for nobody's."""
        with self._judging:
            self._actor = actor
            self._collecting = None
            self._candidate = ""
            self._recent.clear()
            self._label = dataclasses.replace(self._label, own="")
            self.lesson = Lesson()

    def learn(self, name: str, seconds: float) -> None:
        """Learn what the face shows in the next `seconds` as the actor's own expression `name`.

        `lesson` tells how it goes. What was seen just before is taken for the actor's rest
        unless that was learnt already; the name `Actor.REST` learns rest itself.
        """
        if self._actor is None:
            error = MienError("actor-none", "No actor is chosen.", "Type the actor's name first.")
            self.lesson = Lesson(name, "failed", error=error)
            return
        with self._judging:
            self._collecting = _Collecting(name, seconds, clock.monotonic() + seconds + _PATIENCE)
            self.lesson = Lesson(name, "running")

    def forget(self, name: str) -> None:
        """Forget one of the actor's own expressions; errors are told by `lesson`."""
        if self._actor is None:
            return
        with self._judging:
            try:
                self._actor.forget(name)
                self.lesson = Lesson()
            except MienError as error:
                self.lesson = Lesson(name, "failed", error=error)
            if self._label.own == name:
                self._label = dataclasses.replace(self._label, own="")

    def look_after(self) -> None:
        """Give a lesson up whose face does not come, or that nothing judges any more; call now and then."""
        if not self._hopeless():
            return
        with self._judging:
            if self._hopeless():  # it may have ended meanwhile
                name, self._collecting = self._collecting.name, None
                error = self.trouble or MienError(
                    "lesson-no-face", "No face was seen for long enough.", "Look at the camera, and retry."
                )
                self.lesson = Lesson(name, "failed", error=error)

    def _hopeless(self) -> bool:
        lesson = self._collecting
        return lesson is not None and (self.trouble is not None or clock.monotonic() > lesson.until)

    def close(self) -> None:
        """End the thread; closing twice is fine."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    # --- work

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._newest is None and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                work, self._newest = self._newest, None
            try:
                self._judge(*work)
            except Exception as error:
                # Nobody sees a thread die: its labels would only stand still.
                what = f"The expression cannot be judged ({type(error).__name__}: {error})"[:500]
                self.trouble = MienError("label-failed", f"{what}.", "Start again, and report it if it stays so.")
                self._label = Label()
                return

    def _judge(self, time: float, face: Face, image: npt.NDArray[np.uint8], afresh: bool) -> None:
        features, probabilities = self._classifier.read(face, image)
        with self._judging:
            if afresh:
                self._tracker.reset()
            expression, averaged = self._tracker.update(time, probabilities)
            own = self._own(features)
            self._label = Label(expression, averaged, own)
            if self._collecting is not None:
                self._collect(time, features)
            elif self._actor is not None:
                self._recent.append(features)

    def _own(self, features: npt.NDArray) -> str:
        """Return the actor's own expression; it changes when two judgements in a row agree."""
        if self._actor is None:
            return ""
        found = self._actor.label(features)
        held, self._candidate = self._candidate, found
        return found if found == held else self._label.own

    def _collect(self, time: float, features: npt.NDArray) -> None:
        lesson = self._collecting
        # Time without the face shows nothing.
        if lesson.last is not None and 0.0 <= time - lesson.last <= FORGET:
            lesson.shown += time - lesson.last
        lesson.last = time
        lesson.features.append(features)
        self.lesson = Lesson(lesson.name, "running", min(lesson.shown / lesson.seconds, 1.0))
        if lesson.shown >= lesson.seconds:
            self._conclude()

    def _conclude(self) -> None:
        lesson, self._collecting = self._collecting, None
        try:
            self._actor.learn(lesson.name, lesson.features, list(self._recent))
            self.lesson = Lesson(lesson.name, "done", 1.0)
        except MienError as error:
            self.lesson = Lesson(lesson.name, "failed", error=error)
