"""Which estimator gives the action units: the landmark model's blendshapes, Mien's own network, or both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from .action_unit_model import LearnedEstimator
from .action_units import ActionUnitEstimator, BlendshapeEstimator
from .landmarks import Face
from .units import ARKIT_INDEX, AU_INDEX, ESTIMATORS

# Frames come a little early or late.
_SLACK = 1e-3

LEARNED: dict[str, tuple[str, ...]] = {
    "AU9L": ("noseSneerLeft",),
    "AU9R": ("noseSneerRight",),
    "AU29": ("jawForward",),
    "AU34L": ("cheekPuff",),
    "AU34R": ("cheekPuff",),
}
"""Channels for which `HybridEstimator` asks the network as well, and the ARKit shapes that go with them.

In these the landmark model is dead on real faces. Everything else is the landmark model's
alone: it learnt from real people, and is half as noisy at rest. AU 6 is not here: squint and
smile together tell it as well on real faces, and move it more (docs/models.md).
"""

FLOOR = {"AU29": 0.2, "jawForward": 0.2}
"""What the network says up to here is nothing: it reads wide smiles, which push no jaw forward, as 0.1 to 0.3."""

LOOK = 0.05
"""Seconds for which an answer of the network holds in a film: cheeks, nose and jaw are slower than that."""

PATIENCE = 0.25
"""Seconds after which a live frame waits for the network all the same, rather than for ever show what was."""


def _rows_and_floors(names: Iterable[str], index: Mapping[str, int]) -> tuple[list[int], npt.NDArray[np.float32]]:
    names = list(names)
    return [index[name] for name in names], np.array([FLOOR.get(name, 0.0) for name in names], np.float32)


class HybridEstimator:
    """The landmark model's action units, helped by the network where that model is dead; see `LEARNED`.

    There the stronger of both readings counts, the network's above its `FLOOR`: `BlendshapeEstimator`
    puts other signs in the place of what is dead, and each sees movements that the other misses.

    Implements `action_units.ActionUnitEstimator`. Along a film, whose times `at` tells, the
    network looks at one frame every `LOOK` seconds: at every second one of 25 or 30 a second.

    Parameters
    ----------
    learned : LearnedEstimator, optional
        With the shipped weights if not given, and one view of each frame: live has no time for more.
    beside : bool
        For live: the network looks while the frames go on, and its answer counts from the frame on
        that finds it ready, mostly the next one. The images handed over must not be written to afterwards.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    _UNITS = _rows_and_floors(LEARNED, AU_INDEX)
    _SHAPES = _rows_and_floors(dict.fromkeys(shape for shapes in LEARNED.values() for shape in shapes), ARKIT_INDEX)

    def __init__(self, learned: LearnedEstimator | None = None, beside: bool = False):
        self._learned = LearnedEstimator(mirrored=False) if learned is None else learned
        self._blendshapes = BlendshapeEstimator()
        self._beside = beside
        self._time: float | None = None
        self._looked = -np.inf
        self._look: Future | None = None
        self._answer = (np.zeros(0, np.float32), np.zeros(0, np.float32))

    def at(self, time: float) -> None:
        """Tell the time of the frame that comes next, s."""
        self._time = time

    def estimate(self, face: Face, image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
        """See `ActionUnitEstimator.estimate`."""
        return self.estimate_arkit(face, image)[0]

    def estimate_arkit(
        self, face: Face, image: npt.NDArray[np.uint8] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `ActionUnitEstimator.estimate_arkit`."""
        units, shapes = (values.copy() for values in self._blendshapes.estimate_arkit(face, image))
        learned_units, learned_shapes = self._ask(face, image)
        for values, said, (rows, floors) in (
            (units, learned_units, self._UNITS),
            (shapes, learned_shapes, self._SHAPES),
        ):
            values[rows] = np.maximum(values[rows], (said[rows] - floors) / (1 - floors))
        return units, shapes

    def _ask(self, face: Face, image: npt.NDArray[np.uint8] | None) -> tuple[npt.NDArray, npt.NDArray]:
        """Return the network's newest answer, having it look at this frame where that is due."""
        age = np.inf if self._time is None else self._time - self._looked
        # After a gap, or a step back in time, what it said before is of no use.
        wait = not self._beside or not 0.0 <= age < PATIENCE
        if self._look is not None and (wait or self._look.done()):
            self._answer, self._look = self._look.result(), None
        if self._look is None and not 0.0 <= age < LOOK - _SLACK:
            self._looked = self._time if self._time is not None else -np.inf
            if wait:
                self._answer = self._learned.estimate_arkit(face, image)
            else:
                # As in `LearnedEstimator`, a thread for one look: none is left that somebody had to end.
                thread = ThreadPoolExecutor(1, "mien-look")
                self._look = thread.submit(self._learned.estimate_arkit, face, image)
                thread.shutdown(wait=False)
        return self._answer


def open_estimator(name: str = ESTIMATORS[0], *, live: bool = False) -> ActionUnitEstimator:
    """Return the estimator of a name out of `ESTIMATORS`.

    Parameters
    ----------
    name : str
    live : bool
        No frame waits for the network of `HybridEstimator`.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    ValueError
        For another name.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {name!r}")
    if name == "combined":
        return HybridEstimator(beside=live)
    return LearnedEstimator() if name == "learned" else BlendshapeEstimator()
