"""From sampled channels to few Bezier keys: pure numpy, no Blender.

A channel is sampled once per scene frame, then drawn again with as few keys as stay
within a tolerance of every sample. Between two keys the curve is a cubic Hermite; its
Bezier handles stand at exactly a third of the segment, where Blender's Bezier
evaluation *is* that Hermite. So the error measured here is the error in Blender, and
the bound holds on every Blender version.

All channels are fitted together as one long array: numpy sees a hundred thousand
samples at once instead of Python seeing a thousand segments one by one.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Blender keeps keys as float32; this share of the tolerance is left for their rounding.
_ROUNDING_SHARE = 0.02
# Pull of each slope towards the samples' own, so that a segment with no sample inside
# still has one answer. Small against (frames^3 / 105), the weight of a real segment.
_SLOPE_PULL = 0.01
_SWEEPS = 6
_PATIENCE = 16


@dataclasses.dataclass(frozen=True)
class Keys:
    """Keys of one channel.

    Attributes
    ----------
    frames : ndarray of int64, shape (K,)
        Sample index of each key, increasing; the first and the last sample always have one.
    values : ndarray, shape (K,)
        The samples at the keys.
    left, right : ndarray, shape (K,)
        Slope on each side of the key, per frame; they differ only at corners.
    """

    frames: Ints
    values: Floats
    left: Floats
    right: Floats

    def evaluate(self, frames) -> Floats:
        """Return the curve at `frames` (may be fractional), held before and after the keys."""
        x = np.clip(np.asarray(frames, dtype=np.float64), self.frames[0], self.frames[-1])
        if len(self.frames) == 1:
            return np.full(x.shape, self.values[0])
        segment = np.clip(np.searchsorted(self.frames, x, side="right") - 1, 0, len(self.frames) - 2)
        start = self.frames[segment]
        length = self.frames[segment + 1] - start
        return _hermite(
            (x - start) / length,
            length,
            (self.values[segment], self.values[segment + 1]),
            (self.right[segment], self.left[segment + 1]),
        )


def resample(times, values, at) -> Floats:
    """Read channels sampled at `times` (any spacing) at the moments `at`.

    Monotone cubic (Fritsch & Carlson 1980, with the weighted harmonic mean of Fritsch &
    Butland 1984): passes through the samples, never leaves the range of its neighbours,
    and has no facets when the scene has more frames per second than the source.

    Parameters
    ----------
    times : array, shape (N,)
        Seconds, strictly increasing.
    values : array, shape (N, ...)
    at : array, shape (M,)
        Seconds; the first and the last sample are held outside of `times`.

    Returns
    -------
    ndarray of float64, shape (M, ...)
    """
    times = np.asarray(times, dtype=np.float64)
    values = np.asarray(values, dtype=np.float64)
    at = np.asarray(at, dtype=np.float64)
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0)
    step = np.diff(times)
    if (step <= 0).any():
        raise ValueError("times must increase strictly")
    columns = (slice(None),) + (None,) * (values.ndim - 1)
    secant = np.diff(values, axis=0) / step[columns]
    slope = np.zeros_like(values)
    before, after = secant[:-1], secant[1:]
    w1 = (2 * step[1:] + step[:-1])[columns]
    w2 = (step[1:] + 2 * step[:-1])[columns]
    same_way = before * after > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (w1 + w2) / (w1 / before + w2 / after)
    slope[1:-1] = np.where(same_way, mean, 0.0)
    slope[0], slope[-1] = secant[0], secant[-1]
    x = np.clip(at, times[0], times[-1])
    segment = np.clip(np.searchsorted(times, x, side="right") - 1, 0, len(times) - 2)
    length = step[segment]
    return _hermite(
        ((x - times[segment]) / length)[columns],
        length[columns],
        (values[segment], values[segment + 1]),
        (slope[segment], slope[segment + 1]),
    )


def fit(samples, tolerances, low=-np.inf, high=np.inf) -> list[Keys]:
    """Draw each channel with few keys, within its tolerance at every sample.

    Keys start at the ends, corners and clear extrema; then the worst sample of each
    segment gets a key until none is too far off; then keys that are no longer needed go.
    Slopes are the least squares fit over both neighbouring segments, one per key so that
    its handles are in line; only at corners do the two sides differ.

    Parameters
    ----------
    samples : array, shape (C, N)
        Channels by frame.
    tolerances : array, shape (C,) or float
        Largest allowed distance at any frame; 0 keeps every frame.
    low, high : array, shape (C,) or float
        Handles stay within these too, so the curve cannot leave them between frames.

    Returns
    -------
    list of Keys, length C
    """
    samples = np.atleast_2d(np.asarray(samples, dtype=np.float64))
    channels, count = samples.shape
    if channels == 0 or count == 0:
        return []
    low = np.broadcast_to(np.asarray(low, dtype=np.float64), (channels,))
    high = np.broadcast_to(np.asarray(high, dtype=np.float64), (channels,))
    samples = np.clip(samples, low[:, None], high[:, None])
    allowed = np.broadcast_to(np.asarray(tolerances, dtype=np.float64), (channels,)) * (1.0 - _ROUNDING_SHARE)
    if count == 1:
        zero = np.zeros(1)
        return [Keys(np.zeros(1, np.int64), row.copy(), zero, zero) for row in samples]

    problem = _Problem(samples, allowed, low, high, _corners(samples, allowed))
    keyed = problem.fixed | problem.corners | _extrema(samples, allowed)
    problem.refine(keyed)
    problem.prune(keyed)
    fitted = problem.solve(keyed)

    keys, left, right = fitted.keys, fitted.left, fitted.right
    bounds = np.searchsorted(keys, np.arange(channels + 1) * count)
    flat = samples.ravel()
    return [
        Keys(keys[a:b] - c * count, flat[keys[a:b]], left[a:b], right[a:b])
        for c, (a, b) in enumerate(itertools.pairwise(bounds))
    ]


def _hermite(t, length, values, slopes) -> Floats:
    """Return the cubic at `t`, 0..1, of a segment of that length with these values and slopes at its two ends."""
    t2 = t * t
    t3 = t2 * t
    h00, h10, h01, h11 = 2 * t3 - 3 * t2 + 1, t3 - 2 * t2 + t, 3 * t2 - 2 * t3, t3 - t2
    return h00 * values[0] + h10 * length * slopes[0] + h01 * values[1] + h11 * length * slopes[1]


def _corners(samples: Floats, allowed: Floats) -> npt.NDArray[np.bool_]:
    """Mark samples where the slope breaks: a channel that runs into a limit, a sudden onset."""
    corners = np.zeros(samples.shape, dtype=bool)
    if samples.shape[1] < 5:
        return corners
    bend = np.abs(np.diff(samples, 2, axis=1))
    middle = bend[:, 1:-1]
    around = np.maximum(bend[:, :-2], bend[:, 2:])
    # Smooth motion bends over several frames, so its neighbours bend alike.
    corners[:, 2:-2] = (middle > 4.0 * allowed[:, None]) & (middle > 3.0 * around) & (allowed > 0.0)[:, None]
    return corners


def _extrema(samples: Floats, allowed: Floats) -> npt.NDArray[np.bool_]:
    """Mark peaks and valleys that stand out among the 5 frames on either side.

    An animator expects a key on a blink's closed frame, not one frame beside it.
    """
    reach = 5
    extrema = np.zeros(samples.shape, dtype=bool)
    count = samples.shape[1]
    if count < 2 * reach + 1:
        return extrema
    windows = np.lib.stride_tricks.sliding_window_view(samples, 2 * reach + 1, axis=1)
    middle = samples[:, reach:-reach]
    highest, lowest = windows.max(axis=2), windows.min(axis=2)
    stands_out = (highest - lowest) > 8.0 * allowed[:, None]
    peak = (middle >= highest) | (middle <= lowest)
    # On a plateau only its ends are extrema: the middle needs no key.
    moves = (middle != samples[:, reach - 1 : -reach - 1]) | (middle != samples[:, reach + 1 : count - reach + 1])
    extrema[:, reach:-reach] = stands_out & peak & moves
    return extrema


@dataclasses.dataclass(frozen=True)
class _Fitted:
    keys: Ints  # flat sample indices
    left: Floats
    right: Floats
    worst: Floats  # per segment: distance / allowed
    worst_at: Ints  # per segment that is too far off: flat sample index


class _Problem:
    """Channels laid end to end, so that every step is a few passes of numpy.

    What becomes of a channel never depends on the channels beside it.
    """

    def __init__(self, samples: Floats, allowed: Floats, low: Floats, high: Floats, corners):
        self.samples, self.allowed, self.low, self.high, self.corners = samples, allowed, low, high, corners
        self.channels, self.count = samples.shape
        self.fixed = np.repeat((allowed <= 0.0)[:, None], self.count, axis=1)
        self.fixed[:, 0] = self.fixed[:, -1] = True
        # A channel that keeps every frame has no error to measure: any positive number will do.
        self.scale = np.repeat(1.0 / np.where(allowed > 0.0, allowed, 1.0), self.count)

    def part(self, channels) -> _Problem:
        """Return the problem of some channels only."""
        if len(channels) == self.channels:
            return self
        return _Problem(*(a[channels] for a in (self.samples, self.allowed, self.low, self.high, self.corners)))

    def refine(self, keyed, removed=None) -> None:
        """Set keys in `keyed` until every sample is close enough.

        A segment that is too far off gets a key at its worst sample; but if keys were taken
        from it, as `removed` says, those come back first.
        """
        # Most channels are done after a few rounds; the last ones should not pay for all.
        active = np.arange(self.channels)
        part = self
        for turn in itertools.count():
            fitted = part.solve(keyed[active])
            bad = fitted.worst > 1.0
            if not bad.any():
                return
            add = fitted.worst_at[bad]
            if removed is not None:
                candidates = np.flatnonzero(removed[active] & ~keyed[active])
                segment = np.searchsorted(fitted.keys, candidates, side="right") - 1
                candidates, segment = candidates[bad[segment]], segment[bad[segment]]
                refilled = np.zeros(len(bad), dtype=bool)
                refilled[segment] = True
                add = np.concatenate((candidates, fitted.worst_at[bad & ~refilled]))
            if turn > _PATIENCE:
                # Beside a long segment, which decides the slope, keys can be pushed along one by one.
                add = np.concatenate((add, (fitted.keys[:-1][bad] + fitted.keys[1:][bad]) // 2))
            rows, columns = np.divmod(add, self.count)
            keyed[active[rows], columns] = True
            still = np.unique(rows)
            if len(still) < len(active):
                active, part = active[still], part.part(still)

    def prune(self, keyed) -> None:
        """Take away every other key where the fit allows it, the even ones and then the odd ones."""
        for parity in (0, 1):
            position = np.cumsum(keyed, axis=1) - 1
            removed = keyed & (position % 2 == parity) & ~self.fixed
            trial = keyed & ~removed
            self.refine(trial, removed)
            fewer = trial.sum(axis=1) < keyed.sum(axis=1)
            keyed[fewer] = trial[fewer]

    def solve(self, keyed) -> _Fitted:
        """Fit all slopes for these keys and measure every segment's worst sample."""
        y = self.samples.ravel()
        keys = np.flatnonzero(keyed)
        lengths = np.diff(keys)
        start = keys[:-1]
        # The step from one channel's last sample to the next one's first is no segment.
        real = start // self.count == keys[1:] // self.count

        def spread(values):  # from segments to samples, all but the very last
            return np.repeat(values, lengths)

        def total(values):  # and back
            return np.add.reduceat(values, start) * real

        length = spread(lengths.astype(np.float64))
        t = (np.arange(len(length)) - spread(start)) / length
        still = 1.0 - t
        a = t * still * still * length  # the Hermite basis of the two slopes
        b = -t * t * still * length
        first = spread(y[start])
        rest = (y[:-1] - first) - (3.0 - 2.0 * t) * t * t * (spread(y[keys[1:]]) - first)

        aa, ab, bb = total(a * a), total(a * b), total(b * b)
        ar, br = total(a * rest), total(b * rest)
        left, right = self._slopes(keys, lengths.astype(np.float64), real, aa, ab, bb, ar, br)

        distance = np.abs(a * spread(right[:-1]) + b * spread(left[1:]) - rest) * self.scale[:-1]
        worst = np.maximum.reduceat(distance, start) * real
        limit = spread(worst)
        hit = np.flatnonzero((limit > 1.0) & (distance >= limit))[::-1]  # backwards: the first of equals wins
        worst_at = np.zeros(len(lengths), dtype=np.int64)
        worst_at[np.searchsorted(start, hit, side="right") - 1] = hit
        return _Fitted(keys, left, right, worst, worst_at)

    def _slopes(self, keys, length, real, aa, ab, bb, ar, br):
        """Least squares slopes under limits, by projected Gauss-Seidel on even and odd keys.

        The matrix is tridiagonal and strongly diagonal (neighbours weigh at most 3/4 of a
        key's own), so a handful of sweeps is enough.
        """
        samples = self.samples.ravel()
        channel = keys // self.count
        corner = self.corners.ravel()[keys]
        y, low, high = samples[keys], self.low[channel], self.high[channel]
        nothing = np.zeros(1)
        # Per key: sums of the segment that ends here (in) and of the one that starts here (out).
        in_weight, in_cross, in_rest = (np.concatenate((nothing, v)) for v in (bb, ab, br))
        out_weight, out_cross, out_rest = (np.concatenate((v, nothing)) for v in (aa, ab, ar))
        in_third = np.concatenate((nothing, np.where(real, length, np.inf))) / 3.0
        out_third = np.concatenate((np.where(real, length, np.inf), nothing)) / 3.0
        has_in = np.concatenate(([False], real))
        has_out = np.concatenate((real, [False]))
        in_third = np.where(has_in, in_third, 1.0)
        out_third = np.where(has_out, out_third, 1.0)
        # Handles inside low..high keep the whole curve inside (convex hull of a Bezier segment).
        in_min, in_max = (y - high) / in_third, (y - low) / in_third
        out_min, out_max = (low - y) / out_third, (high - y) / out_third
        both_min = np.maximum(np.where(has_in, in_min, -np.inf), np.where(has_out, out_min, -np.inf))
        both_max = np.minimum(np.where(has_in, in_max, np.inf), np.where(has_out, out_max, np.inf))
        # A key at a limit may meet it at an angle: in line, both its handles would have to lie flat.
        corner = corner | (has_in & has_out & ((y <= low) | (y >= high)))

        forward = samples[np.minimum(keys + 1, len(samples) - 1)] - y
        backward = y - samples[np.maximum(keys - 1, 0)]
        pull = _SLOPE_PULL
        middle = np.where(has_in & has_out, 0.5 * (backward + forward), np.where(has_out, forward, backward))
        left = np.where(corner & has_in, backward, middle)
        right = np.where(corner & has_out, forward, middle)
        # Constant over the sweeps: the right-hand sides, and who waits for whom.
        before = np.maximum(np.arange(len(keys)) - 1, 0)
        after = np.minimum(np.arange(len(keys)) + 1, len(keys) - 1)
        weight = in_weight + out_weight + pull
        joint = (in_rest + out_rest + pull * middle, in_cross, out_cross, weight, both_min, both_max)
        at_in = (in_rest + pull * backward, in_cross, in_weight + pull, in_min, in_max)
        at_out = (out_rest + pull * forward, out_cross, out_weight + pull, out_min, out_max)
        parity = (np.arange(len(keys)) - np.searchsorted(keys, channel * self.count)) % 2
        turns = []
        for odd in (1, 0):
            smooth = np.flatnonzero((parity == odd) & ~corner)
            broken = np.flatnonzero((parity == odd) & corner)
            picked = [v[smooth] for v in joint], [v[broken] for v in at_in], [v[broken] for v in at_out]
            turns.append((smooth, broken, *picked))
        for _ in range(_SWEEPS):
            for smooth, broken, (rest, cross_in, cross_out, own, least, most), ins, outs in turns:
                slope = (rest - cross_in * right[before[smooth]] - cross_out * left[after[smooth]]) / own
                left[smooth] = right[smooth] = np.minimum(np.maximum(slope, least), most)
                if len(broken):
                    rest, cross, own, least, most = ins
                    slope = (rest - cross * right[before[broken]]) / own
                    left[broken] = np.minimum(np.maximum(slope, least), most)
                    rest, cross, own, least, most = outs
                    slope = (rest - cross * left[after[broken]]) / own
                    right[broken] = np.minimum(np.maximum(slope, least), most)
        return left, right
