"""From raw results to a performance: rest pose taken out, gaps bridged, noise smoothed.

Takes hold raw results. `Solver` works on them one by one for live use, `solve_take` on a
whole take, which it can smooth without lag because it knows what comes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import relative
from .filters import OneEuro, smooth
from .fusion import fuse
from .head import continuous, inverse, lids_at_most_shut, multiply
from .types import SURE, FrameResult
from .units import ACTION_UNITS, ARKIT, UNITS

if TYPE_CHECKING:
    from .take import Take

HOLD = 0.2
"""Seconds for which the last pose is held when the face is lost; found again within them, it was not away."""

EASE = 0.6
"""Seconds to ease from that pose to neutral and, in a recording, from neutral to the face's return."""

RETURN = 0.3
"""Seconds to ease into the live pose when the face is found again after more than `HOLD`."""

MIN_SEEN = 0.1
"""Seconds; a face seen for less, away from any other, was none: a pattern that looks like one for a frame."""

MIN_HIDDEN = 0.1
"""Seconds; a face hidden for less is not worth a look."""

MIN_REST = 1.0
"""Seconds of face from which on a recording is taken to show the actor's rest, too."""

MAX_REST = 0.5
"""No more than this is taken for rest, so that a face that smiles all the time still smiles."""

MAX_GAZE = math.radians(12.0)
"""Eyes that rest further from straight ahead look at something."""

REST_PERCENTILE = 10.0
"""Percentile of a channel over the found frames that counts as its rest."""

BROW_PERCENTILE = 35.0
"""Percentile of a brow's height above which its rest is not sought: who talks keeps raising them."""

NEUTRAL_MODES = ("none", "auto")

MAX_PREDICTION = 0.1
"""Seconds; further ahead, a face that turns overshoots by more than it would lag."""

_MAX_LEAD = 0.15
"""No channel is carried on by more than this: weights, or about 17 degrees."""


@dataclasses.dataclass(frozen=True)
class SolveOptions:
    """How raw results become a performance.

    Attributes
    ----------
    smoothing : float
        0..1: 0 leaves the noise in, 0.5 suits a webcam, 1 is strongest.
    neutral : str
        ``"none"``, or ``"auto"``: what each channel reads at rest, found from the
        recording itself, becomes 0 while 1 stays 1. A picture or a recording under
        `MIN_REST` need not show a rest: it stays as it reads.
    level_head : bool
        Take the head's mean rotation out, so that a camera below or beside the face does
        not tilt the rig.
    prediction : float
        Seconds by which the live pose is carried on along its speed, against lag; takes
        have no lag and no use for it.
    """

    smoothing: float = 0.5
    neutral: str = "auto"
    level_head: bool = False
    prediction: float = 0.0

    def __post_init__(self):
        if not 0.0 <= self.prediction <= MAX_PREDICTION:
            raise ValueError(f"prediction must lie in [0, {MAX_PREDICTION}], got {self.prediction}")
        if not 0.0 <= self.smoothing <= 1.0:
            raise ValueError(f"smoothing must lie in [0, 1], got {self.smoothing}")
        if self.neutral not in NEUTRAL_MODES:
            raise ValueError(f"neutral must be one of {NEUTRAL_MODES}, got {self.neutral!r}")


@dataclasses.dataclass(frozen=True)
class Performance:
    """A solved recording; every array has one row per frame.

    Attributes
    ----------
    times : ndarray of float64, shape (n,)
        Seconds, growing.
    found : ndarray of bool, shape (n,)
        Whether the frame had a face; where not, or only for `MIN_SEEN`, the row was bridged.
    units : ndarray of float32, shape (n, 11)
        Expression unit weights 0..1, in the order of `UNITS`.
    arkit : ndarray of float32, shape (n, 52)
        ARKit weights 0..1, in the order of `ARKIT`.
    action_units : ndarray of float32, shape (n, len(ACTION_UNITS))
        Intensities 0..1, in the order of `ACTION_UNITS`.
    head : ndarray of float32, shape (n, 4)
        Unit quaternions w, x, y, z, neighbours on the same side; see `FrameResult`.
    translation : ndarray of float32, shape (n, 3)
        Metres; see `FrameResult`.
    eyes : ndarray of float32, shape (n, 2, 2)
        Left and right eye's (yaw, pitch), radians; see `FrameResult`.
    """

    times: npt.NDArray[np.float64]
    found: npt.NDArray[np.bool_]
    units: npt.NDArray[np.float32]
    arkit: npt.NDArray[np.float32]
    action_units: npt.NDArray[np.float32]
    head: npt.NDArray[np.float32]
    translation: npt.NDArray[np.float32]
    eyes: npt.NDArray[np.float32]

    def __post_init__(self):
        count = len(self.times)
        shapes = {
            "times": (count,),
            "found": (count,),
            "units": (count, len(UNITS)),
            "arkit": (count, len(ARKIT)),
            "action_units": (count, len(ACTION_UNITS)),
            "head": (count, 4),
            "translation": (count, 3),
            "eyes": (count, 2, 2),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite")
        if (np.diff(self.times) <= 0).any():
            raise ValueError("times must grow")

    def __len__(self) -> int:
        return len(self.times)


# All smoothed channels in one row, so that filters run over them at once.
_LAYOUT = {
    "units": len(UNITS),
    "arkit": len(ARKIT),
    "action_units": len(ACTION_UNITS),
    "eye_rotations": 4,
    "head_translation": 3,
    "head_rotation": 4,
}
_ENDS = np.cumsum(list(_LAYOUT.values()))
_SLICE = {name: slice(end - size, end) for (name, size), end in zip(_LAYOUT.items(), _ENDS, strict=True)}
_WIDTH = int(_ENDS[-1])
_WEIGHTS = slice(0, _SLICE["action_units"].stop)
"""The channels that are weights 0..1; the rest are poses."""

_NEUTRAL = np.zeros(_WIDTH)
_NEUTRAL[_SLICE["head_rotation"].start] = 1.0

# (cut-off at rest Hz, cut-off gained per unit of speed, cut-off of the speed Hz) at smoothing 0.5.
# Lids close within 0.1 s and lips part within 0.05 s: their speed estimate must be quick.
_PRESETS = {
    "lid": (2.5, 3.0, 8.0),
    "mouth": (2.0, 2.0, 5.0),
    "brow": (1.5, 1.5, 3.0),
    "eye": (1.5, 4.0, 8.0),
    "head": (2.0, 20.0, 3.0),
    "place": (1.0, 10.0, 3.0),
}
_LID_NAMES = ("Blink", "eyeBlink", "AU45", "eyeLook")
_BROW_NAMES = (
    *("Brow", "brow", "cheekSquint", "CheekSquint", "eyeSquint"),
    *(f"AU{number}{side}" for number in (1, 2, 4, 6, 7) for side in "LR"),
)


def _kind(name: str) -> str:
    if name.startswith(_LID_NAMES):
        return "lid"
    return "brow" if name.startswith(_BROW_NAMES) else "mouth"


_KINDS = [_kind(name) for name in (*UNITS, *ARKIT, *ACTION_UNITS)] + ["eye"] * 4 + ["place"] * 3 + ["head"] * 4


def _settings(smoothing: float) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Return One Euro settings per channel: none at 0, `_PRESETS` at 0.5, heavy at 1."""
    cutoff, beta, derivative = np.array([_PRESETS[kind] for kind in _KINDS]).T
    if smoothing == 0.0:
        return np.full_like(cutoff, np.inf), beta, derivative
    strength = max((1.0 - smoothing) / smoothing, 0.1)
    return cutoff * strength, beta * strength, derivative


@dataclasses.dataclass(frozen=True)
class Neutral:
    """An actor's face at rest, as it reads.

    Attributes
    ----------
    weights : ndarray, shape (len(UNITS) + 52 + len(ACTION_UNITS),)
        What each weight reads at rest, at most `MAX_REST`.
    head : ndarray, shape (4,)
        The head's rotation when it faces straight ahead.
    measures : ndarray, shape (relative.MEASURES,)
        What `relative.measure` reads at rest; NaN where nothing was measured.
    gaze : ndarray, shape (2,)
        What (yaw, pitch) of the eyes read when they look straight ahead, radians, at most `MAX_GAZE`.
    """

    weights: npt.NDArray[np.float64]
    head: npt.NDArray[np.float64]
    measures: npt.NDArray[np.float64]
    gaze: npt.NDArray[np.float64]

    @classmethod
    def of(cls, results: list[FrameResult]) -> Neutral | None:
        """Return the median face of results; None where none has a face."""
        seen = [result for result in results if result.found]
        if not seen:
            return None
        rows = np.array([_row(result) for result in seen])
        head = _mean_rotation(rows[:, _SLICE["head_rotation"]])
        measures = np.median([_measure(result) for result in seen], axis=0)
        gaze = np.median(_gaze(rows), axis=0)
        weights = np.minimum(np.median(rows[:, _WEIGHTS], axis=0), MAX_REST)
        return cls(weights, head, measures, np.clip(gaze, -MAX_GAZE, MAX_GAZE))

    def to_dict(self) -> dict[str, list[float] | None]:
        """Return it as the JSON object in a take's header."""
        measures = self.measures.tolist() if np.isfinite(self.measures).all() else None
        return {
            "weights": self.weights.tolist(),
            "head": self.head.tolist(),
            "measures": measures,
            "gaze": self.gaze.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Neutral | None:
        """Read `to_dict`; None for what is not such an object, as a take may come from anywhere."""
        try:
            weights = np.array(data["weights"], np.float64)
            head = np.array(data["head"], np.float64)
            measures = np.full(relative.MEASURES, np.nan)
            if data["measures"] is not None:
                measures = np.array(data["measures"], np.float64)
            gaze = np.array(data["gaze"], np.float64)
        except (TypeError, ValueError, KeyError, OverflowError):
            return None
        good = weights.shape == (_WEIGHTS.stop,) and head.shape == (4,) and measures.shape == (relative.MEASURES,)
        good = good and gaze.shape == (2,) and bool((np.abs(gaze) <= MAX_GAZE).all())
        if not good or not (weights >= 0).all() or not (weights <= MAX_REST).all():
            return None
        return cls(weights, head, measures, gaze) if abs(np.linalg.norm(head) - 1.0) < 1e-3 else None


def _smoothstep(x):
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _row(result: FrameResult) -> npt.NDArray[np.float64]:
    return np.concatenate([np.ravel(getattr(result, name)) for name in _LAYOUT]).astype(np.float64)


def _gaze(rows: npt.NDArray) -> npt.NDArray:
    """Return both eyes' mean (yaw, pitch), shape (n, 2)."""
    return rows[:, _SLICE["eye_rotations"]].reshape(-1, 2, 2).mean(axis=1)


def _measure(result: FrameResult) -> npt.NDArray[np.float64]:
    return relative.measure(result.landmarks[None, relative.POINTS], result.head_rotation[None])[0]


def _tidy(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bring weights back to 0..1 and quaternions back to unit length, in place."""
    np.clip(rows[..., _WEIGHTS], 0.0, 1.0, out=rows[..., _WEIGHTS])
    head = rows[..., _SLICE["head_rotation"]]
    head /= np.linalg.norm(head, axis=-1, keepdims=True)
    return rows


def _without_rest(rows: npt.NDArray, rest: npt.NDArray) -> npt.NDArray:
    """Map weights so that `rest` becomes 0 and 1 stays 1, in place."""
    weights = rows[..., _WEIGHTS]
    weights -= rest
    weights /= 1.0 - rest
    np.clip(weights, 0.0, 1.0, out=weights)
    return rows


def _refine(rows: npt.NDArray, measured: npt.NDArray, neutral: Neutral) -> None:
    """Bring in what mesh and eyes show against the actor's rest, whose weights are out already, in place."""
    rows[:, _SLICE["eye_rotations"]] -= np.tile(neutral.gaze, 2)
    if not np.isfinite(neutral.measures).all():
        return
    known = np.isfinite(measured).all(axis=1)  # what came over the network has no mesh
    seen = rows[known]
    turn = relative.turn(seen[:, _SLICE["head_rotation"]], neutral.head)
    units, shapes = relative.refine(
        seen[:, _SLICE["action_units"]], seen[:, _SLICE["arkit"]], measured[known], neutral.measures, turn
    )
    seen[:, _SLICE["action_units"]] = units
    seen[:, _SLICE["arkit"]] = shapes
    seen[:, _SLICE["units"]] = fuse(units)
    rows[known] = seen


def _stop_lids(rows: npt.NDArray, meshes: npt.NDArray) -> None:
    """Push no lid of a captured face further down than shut, in place; a phone's are right as they come.

    `meshes`, shape (n, 478 or some, 3), are all 0 for what came over the network.
    """
    known = np.asarray(meshes).any(axis=(1, 2))
    arkit = rows[:, _SLICE["arkit"]]
    arkit[known] = lids_at_most_shut(arkit[known])


def _find_neutral(rows: npt.NDArray, measured: npt.NDArray) -> Neutral:
    """Return the actor's face at rest as the frames of a recording, shape (n, width), tell it.

    A weight rests low; a measure moves both ways from its rest, to which it returns the most.
    """
    weights = np.minimum(np.percentile(rows[:, _WEIGHTS], REST_PERCENTILE, axis=0), MAX_REST)
    known = measured[np.isfinite(measured).all(axis=1)]
    measures = np.apply_along_axis(_mode, 0, known) if len(known) else np.full(relative.MEASURES, np.nan)
    if len(known):
        low = np.percentile(known[:, relative.RAISED_MORE], BROW_PERCENTILE, axis=0)
        measures[relative.RAISED_MORE] = np.minimum(measures[relative.RAISED_MORE], low)
    gaze = np.clip(np.apply_along_axis(_mode, 0, _gaze(rows)), -MAX_GAZE, MAX_GAZE)
    return Neutral(weights, _mean_rotation(rows[:, _SLICE["head_rotation"]]), measures, gaze)


def _mode(values: npt.NDArray) -> float:
    """Return where values crowd most: the half-sample mode of Bickel and Fruehwirth, 2006."""
    values = np.sort(values)
    while len(values) > 3:
        half = (len(values) + 1) // 2
        start = int(np.argmin(values[half - 1 :] - values[: len(values) - half + 1]))
        values = values[start : start + half]
    return float(values.mean())


def _mean_rotation(quaternions: npt.NDArray) -> npt.NDArray:
    """Return the mean of rotations, shape (n, 4), as in Markley et al., Averaging Quaternions, 2007."""
    return np.linalg.eigh(quaternions.T @ quaternions)[1][:, -1]


def solve_take(take: Take, options: SolveOptions | None = None) -> Performance:
    """Solve a whole recording.

    Smoothing is free of lag. Gaps of up to `HOLD` + `EASE` seconds are crossed from pose
    to pose; in longer ones the pose is held, eases to neutral, and eases back so as to be
    there when the face is. A recording without any face gives the neutral pose. A face that
    was calibrated when it was recorded takes the place of what ``neutral="auto"`` finds.

    Parameters
    ----------
    take : Take
        Or anything with its ``times``, ``column`` and ``header``.
    options : SolveOptions, optional

    Returns
    -------
    Performance
    """
    options = options or SolveOptions()
    times = np.asarray(take.times, np.float64)
    found = _lasting(times, np.asarray(take.column("found"), bool).reshape(-1))
    columns = [np.asarray(take.column(name), np.float64).reshape(len(times), size) for name, size in _LAYOUT.items()]
    rows = np.concatenate(columns, axis=1)
    points = take.column("landmarks", relative.POINTS)
    measured = relative.measure(points, rows[:, _SLICE["head_rotation"]])
    return _solve(times, found, rows, measured, points, options, Neutral.from_dict(take.header.extra.get("neutral")))


def hidden_spans(take: Take) -> list[tuple[float, float]]:
    """Return the stretches of a recording in which what a face shows is guessed.

    A hand or a cup is before it, or half of it is outside the picture: the landmark model
    goes on drawing a mesh, and the animation there wants a look.

    Parameters
    ----------
    take : Take
        Or anything with its ``times`` and ``column``.

    Returns
    -------
    list of tuple of float
        First and last second of each, in order.
    """
    times = np.asarray(take.times, np.float64)
    found = np.asarray(take.column("found"), bool).reshape(-1)
    hidden = found & (np.asarray(take.column("confidence")).reshape(-1) < SURE)
    return [(float(times[run[0]]), float(times[run[-1]])) for run in _runs(times, hidden, MIN_HIDDEN)]


def _runs(times, flags, least: float) -> list[npt.NDArray[np.intp]]:
    """Return the frames of each run of `flags` that lasts `least` seconds; breaks of up to `HOLD` are no end."""
    where = np.flatnonzero(flags)
    # Frames may be further apart than that: a sequence of pictures at 4 a second.
    ends = (np.diff(where) > 1) & (np.diff(times[where]) > HOLD)
    runs = np.split(where, np.flatnonzero(ends) + 1)
    return [run for run in runs if len(run) and times[run[-1]] - times[run[0]] >= least]


def _lasting(times, found) -> npt.NDArray[np.bool_]:
    """Return `found` without faces that show for less than `MIN_SEEN`, unless there are no others."""
    # A frame is shown until the next one: of a few pictures a second, a single one lasts.
    if len(times) > 1 and np.median(np.diff(times)) >= MIN_SEEN:
        return found
    # A face that flickers is one face.
    lasting = _runs(times, found, MIN_SEEN)
    if not lasting:
        return found
    kept = np.zeros_like(found)
    kept[np.concatenate(lasting)] = True
    return kept


def _solve(times, found, rows, measured, points, options: SolveOptions, neutral: Neutral | None) -> Performance:
    if found.any():
        seen = rows[found]
        if options.neutral == "auto" and (neutral is not None or np.ptp(times[found]) >= MIN_REST):
            rest = neutral or _find_neutral(seen, measured[found])
            _without_rest(seen, rest.weights)
            _refine(seen, measured[found], rest)
        _stop_lids(seen, points[found])
        head = _SLICE["head_rotation"]
        if options.level_head or (neutral is not None and options.neutral == "auto"):
            straight = _mean_rotation(seen[:, head]) if neutral is None else neutral.head
            seen[:, head] = multiply(inverse(straight), seen[:, head])
        seen[:, head] = continuous(seen[:, head])  # from neutral's side on
        rows = _bridge(times, found, seen)
        if options.smoothing > 0:
            rows = smooth(times, rows, *_settings(options.smoothing))
        rows = _tidy(rows)
    else:
        rows = np.tile(_NEUTRAL, (len(times), 1))
    part = {name: rows[:, where].astype(np.float32) for name, where in _SLICE.items()}
    return Performance(
        times=times,
        found=found,
        units=part["units"],
        arkit=part["arkit"],
        action_units=part["action_units"],
        head=part["head_rotation"],
        translation=part["head_translation"],
        eyes=part["eye_rotations"].reshape(-1, 2, 2),
    )


def _bridge(times, found, seen) -> npt.NDArray[np.float64]:
    """Fill the frames without a face, given the rows of those with one."""
    rows = np.empty((len(times), _WIDTH))
    rows[found] = seen
    where = np.flatnonzero(found)
    ordinal = np.cumsum(found)  # of the found frames up to each frame
    for i in np.flatnonzero(~found):
        before, after = ordinal[i] - 1, ordinal[i]
        last = seen[before] if before >= 0 else None
        following = seen[after] if after < len(seen) else None
        since = times[i] - times[where[before]] if last is not None else math.inf
        until = times[where[after]] - times[i] if following is not None else math.inf
        if since + until < HOLD + EASE:
            share = _smoothstep(since / (since + until))
            rows[i] = (1.0 - share) * last + share * following
            continue
        share_last = 1.0 - _smoothstep((since - HOLD) / EASE) if last is not None else 0.0
        share_next = 1.0 - _smoothstep(until / EASE) if following is not None else 0.0
        total = max(share_last + share_next, 1.0)
        share_last, share_next = share_last / total, share_next / total
        rows[i] = (1.0 - share_last - share_next) * _neutral_beside(last, following)
        if share_last:
            rows[i] += share_last * last
        if share_next:
            rows[i] += share_next * following
    return rows


def _neutral_beside(last, following) -> npt.NDArray[np.float64]:
    """Return the neutral row, its place and its quaternion's side taken from the poses it joins."""
    row = _NEUTRAL.copy()
    poses = [pose for pose in (last, following) if pose is not None]
    row[_SLICE["head_translation"]] = np.mean([pose[_SLICE["head_translation"]] for pose in poses], axis=0)
    if poses[0][_SLICE["head_rotation"].start] < 0:
        row[_SLICE["head_rotation"]] *= -1
    return row


class Solver:
    """Solves results one by one, in order of time, for live use.

    Parameters
    ----------
    options : SolveOptions, optional
    """

    def __init__(self, options: SolveOptions | None = None):
        self.options = options or SolveOptions()
        self.neutral: Neutral | None = None
        self.reset()

    def tune(self, options: SolveOptions) -> None:
        """Go on with other options, from the pose that is; what was learnt of the actor's rest stays."""
        before, self.options = self.options, options
        if options.smoothing != before.smoothing:
            self._set_up_filter()
        fixed = self._fixed
        if options.neutral != before.neutral:
            self._set_up_rest()
        if options.level_head != before.level_head or self._fixed is not fixed:
            self._set_up_level()

    def calibrate(self, neutral: Neutral | None) -> None:
        """Take a face as neutral from now on, in place of what ``neutral="auto"`` finds; None forgets it."""
        self.neutral = neutral
        self._set_up()

    def reset(self) -> None:
        """Forget the past, as for a new actor; a calibrated face stays."""
        self._set_up()
        self._out = _NEUTRAL.copy()  # what was given last
        self._time = -math.inf
        self._live = self._out  # the last face's pose
        self._seen = -math.inf  # when that was
        self._from = self._out  # what the pose was when the face came, and when
        self._since = -math.inf
        self._back, self._gap = -math.inf, 0.0  # when the face flickered last, and for how long

    def _set_up(self) -> None:
        self._set_up_filter()
        self._set_up_rest()
        self._set_up_level()

    def _set_up_filter(self) -> None:
        self._filter = OneEuro(*_settings(self.options.smoothing))

    def _set_up_rest(self) -> None:
        automatic = self.options.neutral == "auto"
        self._fixed = self.neutral if automatic else None
        self._rest = _LiveRest() if automatic and self.neutral is None else None

    def _set_up_level(self) -> None:
        self._level = _LiveLevel() if self.options.level_head and self._fixed is None else None

    def step(self, result: FrameResult) -> FrameResult:
        """Return the result as it should be shown.

        Where no face was found, the last pose is held for `HOLD`, then eases to neutral
        over `EASE` seconds; when it is back, the pose eases to it over `RETURN` seconds. What
        a gap of up to `HOLD` hid is caught up within as long.
        A frame that is not later than the one before it is given as that one was.
        """
        time = result.time
        if time > self._time:
            self._out = self._next(result)
            self._time = time
        values = {name: self._out[where] for name, where in _SLICE.items()}
        values["eye_rotations"] = values["eye_rotations"].reshape(2, 2)
        return dataclasses.replace(result, **values)

    def _next(self, result: FrameResult) -> npt.NDArray[np.float64]:
        time = result.time
        gap = time - self._seen
        if not result.found:
            # What shows for less than `MIN_SEEN` may be no face: it comes no nearer while it is gone.
            held = self._eased(self._seen if self._coming else time)
            share = _smoothstep((gap - HOLD) / EASE)
            return _tidy((1.0 - share) * held + share * _neutral_beside(held, None))
        row = _row(result)
        if self._rest is not None:
            row = self._rest(time, row)
        head = _SLICE["head_rotation"]
        if self._fixed is not None:
            _without_rest(row, self._fixed.weights)
            _refine(row[None], _measure(result)[None], self._fixed)
            row[head] = multiply(inverse(self._fixed.head), row[head])
        _stop_lids(row[None], result.landmarks[None])
        if self._level is not None:
            row[head] = self._level(time, row[head])
        if row[head] @ self._out[head] < 0:
            row[head] *= -1
        if self._seen < self._time:
            if gap > HOLD:
                self._filter.reset()
                self._from, self._since, gap = self._out, self._time, 0.0
            elif self._coming:
                self._since += self._time - self._seen
            # From the frame before: the first found frame already moves a little.
            self._back, self._gap = self._time, gap
        live = self._filter(time, row)
        if self.options.prediction:
            live = live + np.clip(self.options.prediction * self._filter.speed, -_MAX_LEAD, _MAX_LEAD)
        # What a short gap hid is caught up within as long.
        share = min((time - self._back) / max(self._gap, 1e-9), 1.0)
        self._live = self._live + share * (live - self._live)
        self._seen = time
        return _tidy(self._eased(time))

    @property
    def _coming(self) -> bool:
        """Whether the face has not shown for `MIN_SEEN` yet."""
        return self._seen - self._since < MIN_SEEN

    def _eased(self, time: float) -> npt.NDArray[np.float64]:
        """Return the last face's pose, eased into since the face came; short gaps do not stop that."""
        share = _smoothstep((time - self._since) / RETURN)
        return (1.0 - share) * self._from + share * self._live


class _LiveRest:
    """The rest of each weight so far: a low percentile from a histogram that slowly forgets."""

    BINS = 100
    MEMORY = 60.0  # seconds
    WARM_UP = 2.0  # seconds of face before it says anything
    PACE = 0.1  # per second: a correction must not be seen as a movement

    def __init__(self):
        width = _WEIGHTS.stop
        self._counts = np.zeros((width, self.BINS))
        self._rest = np.zeros(width)
        self._time = None
        self._seen = 0.0

    def __call__(self, time: float, row: npt.NDArray) -> npt.NDArray:
        weights = row[_WEIGHTS]
        step = min(time - self._time, 0.1) if self._time is not None else 0.0
        self._time = time
        self._seen += step
        self._counts *= math.exp(-step / self.MEMORY)
        self._counts[np.arange(len(weights)), np.minimum((weights * self.BINS).astype(int), self.BINS - 1)] += step
        if self._seen > self.WARM_UP:
            share = np.cumsum(self._counts, axis=1) / self._counts.sum(axis=1, keepdims=True)
            rest = (share < REST_PERCENTILE / 100.0).sum(axis=1) / self.BINS
            rest = np.minimum(rest, MAX_REST)
            self._rest += np.clip(rest - self._rest, -self.PACE * step, self.PACE * step)
        return _without_rest(row, self._rest)


class _LiveLevel:
    """The head's mean rotation so far, taken out."""

    MEMORY = 10.0  # seconds
    WARM_UP = 1.0

    def __init__(self):
        self._sum = None
        self._time = None
        self._seen = 0.0

    def __call__(self, time: float, rotation: npt.NDArray) -> npt.NDArray:
        if self._sum is None:
            self._sum = np.outer(rotation, rotation)
        else:
            step = min(time - self._time, 0.1)
            self._seen += step
            share = step / min(max(self._seen, self.WARM_UP), self.MEMORY)
            self._sum += share * (np.outer(rotation, rotation) - self._sum)
        self._time = time
        mean = np.linalg.eigh(self._sum)[1][:, -1]
        return multiply(inverse(mean), rotation)
