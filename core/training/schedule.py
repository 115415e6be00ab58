"""How the learning rate runs, and how the pictures grow."""

from __future__ import annotations

from collections.abc import Callable


def course(steps: int, epochs: int, fall: float) -> Callable[[int], float]:
    """Return the learning rate's course: one epoch up, level, down to nothing over the last share `fall` of all.

    Where it is level a run can be resumed with another number of epochs.
    """

    def rate(step: int) -> float:
        place = (step + 1) / steps
        return min(place, 1.0, max(epochs - place, 0.0) / (fall * epochs) + 1e-3)

    return rate


def size_at(epoch: int, small: int, size: int, growing: int, step: int = 8) -> int:
    """Return the size of an epoch's pictures: from `small` on, `step` more at a time, `size` after `growing` epochs.

    Small pictures cost little (a quarter at half the side) and teach nearly as much.

    References
    ----------
    Tan & Le, EfficientNetV2: smaller models and faster training, ICML 2021 (progressive learning).
    """
    stages = range(small, size, step)
    return stages[epoch * len(stages) // growing] if epoch < growing and stages else size
