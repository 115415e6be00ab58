"""Smoothing of noisy channels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


class OneEuro:
    """The One Euro filter on many channels at once.

    A first-order low-pass whose cut-off rises with the speed of the signal: still channels
    are held still, fast ones follow without lag.

    Parameters
    ----------
    min_cutoff : array, shape (n,) or scalar
        Cut-off at rest, Hz, above 0; infinity passes the channel through unchanged.
    beta : array, shape (n,) or scalar
        Cut-off gained per unit of speed, Hz / (unit/s), 0 or more.
    derivative_cutoff : array, shape (n,) or scalar
        Cut-off of the speed estimate, Hz; the paper's 1 Hz sees a blink only when it is over.

    Notes
    -----
    Two differences from the paper: the time step is that of the samples, not a nominal
    rate, and a sample that is not later than the one before it is passed over: the answer to
    that one is given again.

    References
    ----------
    Casiez, Roussel & Vogel, 1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy
    Input in Interactive Systems, CHI 2012.
    """

    def __init__(self, min_cutoff: npt.ArrayLike, beta: npt.ArrayLike = 0.0, derivative_cutoff: npt.ArrayLike = 1.0):
        self._min_cutoff = np.asarray(min_cutoff, np.float64)
        self._beta = np.asarray(beta, np.float64)
        self._derivative_cutoff = np.asarray(derivative_cutoff, np.float64)
        positive = (self._min_cutoff > 0).all() and (self._derivative_cutoff > 0).all()
        if not positive or not (self._beta >= 0).all():
            raise ValueError("cut-offs must be above 0 and beta at least 0")
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample passes unchanged."""
        self._time = math.nan
        self._raw = self._value = self._speed = None

    @property
    def speed(self) -> npt.NDArray[np.float64] | None:
        """Smoothed speed of each channel, per second; None before the first sample."""
        return self._speed

    def __call__(self, time: float, sample: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the filtered sample.

        Parameters
        ----------
        time : float
            Seconds.
        sample : array, shape (n,)
            Finite.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        x = np.asarray(sample, np.float64)
        if not np.isfinite(x).all():
            raise ValueError("sample must be finite")
        if self._value is None:
            self._time, self._raw, self._value, self._speed = time, x, x, np.zeros_like(x)
            return x.copy()
        step = time - self._time
        if step <= 0:
            return self._value.copy()
        speed = (x - self._raw) / step
        self._speed = self._speed + _share(self._derivative_cutoff, step) * (speed - self._speed)
        cutoff = self._min_cutoff + self._beta * np.abs(self._speed)
        self._value = self._value + _share(cutoff, step) * (x - self._value)
        self._time, self._raw = time, x
        return self._value.copy()


def _share(cutoff: npt.ArrayLike, step: float) -> npt.NDArray[np.float64]:
    """Weight of the new sample in a first-order low-pass: 1 / (1 + tau / step), tau = 1 / (2 pi cutoff)."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * np.asarray(cutoff) * step))


def smooth(
    times: npt.ArrayLike,
    samples: npt.ArrayLike,
    min_cutoff: npt.ArrayLike,
    beta: npt.ArrayLike = 0.0,
    derivative_cutoff: npt.ArrayLike = 1.0,
) -> npt.NDArray[np.float64]:
    """Smooth a whole recording without lag: the mean of the filter run forwards and backwards.

    Parameters
    ----------
    times : array, shape (t,)
        Seconds, growing.
    samples : array, shape (t, n)
    min_cutoff, beta, derivative_cutoff
        As for `OneEuro`.

    Returns
    -------
    ndarray of float64, shape (t, n)
    """
    times, samples = np.asarray(times, np.float64), np.asarray(samples, np.float64)
    if samples.ndim != 2 or times.shape != samples.shape[:1]:
        raise ValueError(f"samples must be (t, n) with t times, got {samples.shape} and {times.shape}")
    if not len(times):
        return samples.copy()
    forward = OneEuro(min_cutoff, beta, derivative_cutoff)
    backward = OneEuro(min_cutoff, beta, derivative_cutoff)
    there = np.array([forward(t, x) for t, x in zip(times, samples, strict=True)])
    back = np.array([backward(-t, x) for t, x in zip(times[::-1], samples[::-1], strict=True)])[::-1]
    return (there + back) / 2
