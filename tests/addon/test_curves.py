"""Resampling and key reduction, in numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from mien.addon import curves

CASES = {
    "noise": lambda rng, n: rng.random(n),
    "walk": lambda rng, n: np.clip(0.5 + np.cumsum(rng.normal(size=n)) * 0.05, 0, 1),
    "wave": lambda rng, n: 0.5 + 0.5 * np.sin(np.arange(n) / 9.0),
    "steps": lambda rng, n: (np.arange(n) // 17 % 2).astype(float),
    "spikes": lambda rng, n: (np.arange(n) % 23 == 0).astype(float),
    "clamped": lambda rng, n: np.clip(1.3 * np.sin(np.arange(n) / 11.0), 0, 1),
    "still": lambda rng, n: np.full(n, 0.3),
    "ramp": lambda rng, n: np.linspace(0, 1, n),
}


@pytest.mark.parametrize("count", [1, 2, 3, 11, 12, 500])
@pytest.mark.parametrize("tolerance", [0.001, 0.01, 0.2])
def test_every_sample_is_within_tolerance(count, tolerance):
    rng = np.random.default_rng(7)
    samples = np.array([make(rng, count) for make in CASES.values()])
    fitted = curves.fit(samples, tolerance, 0.0, 1.0)
    frames = np.arange(count)
    between = np.linspace(0, count - 1, 10 * count)
    for name, keys, row in zip(CASES, fitted, samples, strict=True):
        assert np.abs(keys.evaluate(frames) - row).max() <= tolerance, name
        assert keys.frames[0] == 0
        assert keys.frames[-1] == count - 1
        assert (np.diff(keys.frames) > 0).all()
        assert (keys.values == row[keys.frames]).all()
        values = keys.evaluate(between)
        assert values.min() >= -1e-12, name
        assert values.max() <= 1 + 1e-12, name


def test_channels_do_not_touch_each_other():
    rng = np.random.default_rng(2)
    samples = np.array([make(rng, 300) for make in CASES.values()])
    together = curves.fit(samples, 0.01, 0.0, 1.0)
    for row, keys in zip(samples, together, strict=True):
        alone = curves.fit(row[None], 0.01, 0.0, 1.0)[0]
        assert (alone.frames == keys.frames).all()
        assert np.allclose(alone.left, keys.left, atol=1e-12)


def test_zero_tolerance_keeps_all_and_its_neighbours_fewer():
    samples = np.tile(np.sin(np.arange(100) / 10.0), (2, 1))
    every, few = curves.fit(samples, [0.0, 0.01])
    assert len(every.frames) == 100
    assert len(few.frames) < 20


def test_how_few_keys():
    n = np.arange(2001)
    still, ramp, wave, clamped = curves.fit(
        [np.zeros(2001), n / 2000, 0.5 + 0.5 * np.sin(n / 20), np.clip(1.3 * np.sin(n / 20), 0, 1)], 0.005, 0.0, 1.0
    )
    assert len(still.frames) == 2
    assert len(ramp.frames) == 2
    half_waves = 2000 / 20 / np.pi
    assert len(wave.frames) < 3.5 * half_waves
    assert len(clamped.frames) < 4 * half_waves


def test_a_blink_keeps_its_closed_frame():
    samples = np.zeros(100)
    samples[46:55] = (0.1, 0.4, 0.8, 1.0, 0.9, 0.6, 0.35, 0.15, 0.05)
    keys = curves.fit(samples[None], 0.02, 0.0, 1.0)[0]
    assert 49 in keys.frames


def test_smooth_motion_has_handles_in_line():
    keys = curves.fit(0.5 + 0.4 * np.sin(np.arange(200) / 12.0)[None], 0.005)[0]
    assert (keys.left == keys.right)[1:-1].all()


def test_resample_passes_through_and_never_overshoots():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.01, 0.2, 50))
    values = rng.random((50, 3))
    assert np.allclose(curves.resample(times, values, times), values)
    fine = np.linspace(times[0] - 1, times[-1] + 1, 5000)
    result = curves.resample(times, values, fine)
    assert result.min() >= values.min()
    assert result.max() <= values.max()
    segment = np.clip(np.searchsorted(times, fine, side="right") - 1, 0, 48)
    inside = (fine >= times[0]) & (fine <= times[-1])
    low, high = np.minimum(values[segment], values[segment + 1]), np.maximum(values[segment], values[segment + 1])
    assert (result[inside] >= low[inside] - 1e-12).all()
    assert (result[inside] <= high[inside] + 1e-12).all()
    assert np.allclose(result[fine < times[0]], values[0])
    assert np.allclose(result[fine > times[-1]], values[-1])


def test_resample_of_one_sample():
    assert curves.resample([3.0], [[1.0, 2.0]], [0.0, 5.0]).tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_resample_refuses_times_that_stand_still():
    with pytest.raises(ValueError, match="increase"):
        curves.resample([0.0, 1.0, 1.0], [1.0, 2.0, 3.0], [0.5])


def test_keys_on_a_line_are_the_line():
    keys = curves.Keys(np.array([0, 10]), np.array([0.0, 1.0]), np.array([0.1, 0.1]), np.array([0.1, 0.1]))
    assert np.allclose(keys.evaluate([0, 2.5, 5, 10, 12, -1]), [0, 0.25, 0.5, 1, 1, 0])
