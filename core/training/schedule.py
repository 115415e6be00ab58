"""How the learning rate runs."""

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
