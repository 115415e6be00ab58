"""The One Euro filter: against the paper's reference code, and for what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mien.core.filters import OneEuro, smooth


def reference(times, samples, min_cutoff, beta, derivative_cutoff):
    """The paper's algorithm for one channel, step by step."""

    def alpha(cutoff, rate):
        tau = 1.0 / (2 * math.pi * cutoff)
        return 1.0 / (1.0 + tau * rate)

    out, previous, hat, speed_hat = [], None, None, 0.0
    for i, (t, x) in enumerate(zip(times, samples, strict=True)):
        if i == 0:
            hat = x
        else:
            rate = 1.0 / (t - times[i - 1])
            a = alpha(derivative_cutoff, rate)
            speed_hat = a * (x - previous) * rate + (1 - a) * speed_hat
            a = alpha(min_cutoff + beta * abs(speed_hat), rate)
            hat = a * x + (1 - a) * hat
        previous = x
        out.append(hat)
    return np.array(out)


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.01, 0.06, 200))
    return times, np.stack([np.sin(times * k) + rng.normal(0, 0.02, 200) for k in (1, 5, 9)], axis=1)


def test_matches_the_paper_on_uneven_steps(noisy):
    times, samples = noisy
    settings = (np.array([1.0, 2.0, 0.5]), np.array([0.0, 0.3, 2.0]), np.array([1.0, 1.0, 5.0]))
    run = OneEuro(*settings)
    out = np.array([run(t, x) for t, x in zip(times, samples, strict=True)])
    for i in range(3):
        np.testing.assert_allclose(out[:, i], reference(times, samples[:, i], *(s[i] for s in settings)), atol=1e-12)


def test_constant_passes_and_noise_shrinks(noisy):
    times, _ = noisy
    rng = np.random.default_rng(2)
    run = OneEuro(1.0, 0.1)
    flat = np.array([run(t, [0.5]) for t in times])
    np.testing.assert_allclose(flat, 0.5)
    run.reset()
    jitter = rng.normal(0, 0.01, (200, 1))
    out = np.array([run(t, x) for t, x in zip(times, jitter, strict=True)])
    assert out.std() < 0.5 * jitter.std()


def test_infinite_cutoff_changes_nothing(noisy):
    times, samples = noisy
    run = OneEuro(np.inf)
    np.testing.assert_allclose([run(t, x) for t, x in zip(times, samples, strict=True)], samples, rtol=1e-12)


def test_reset_forgets():
    run = OneEuro(1.0)
    run(0.0, [0.0])
    run.reset()
    assert run(0.1, [1.0]) == [1.0]


def test_sample_that_is_not_later_changes_nothing():
    run = OneEuro(1.0)
    run(1.0, [0.0])
    assert run(1.0, [9.0]) == run(0.5, [9.0]) == [0.0]


@pytest.mark.parametrize("settings", [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (1.0, 0.0, 0.0)])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match="above 0"):
        OneEuro(*settings)


def test_not_finite_sample():
    with pytest.raises(ValueError, match="finite"):
        OneEuro(1.0)(0.0, [np.nan])


def test_smooth_has_no_lag():
    times = np.arange(200) / 30
    bump = np.exp(-(((times - times[100]) / 0.2) ** 2))[:, None]
    out = smooth(times, bump, 1.0, 1.0)
    np.testing.assert_allclose(out, out[::-1][np.r_[199, 0:199]], atol=0.02)  # symmetric about sample 100
    assert abs(int(out.argmax()) - 100) <= 1
    run = OneEuro(1.0, 1.0)
    live = np.array([run(t, x) for t, x in zip(times, bump, strict=True)])
    assert live.argmax() > out.argmax()


def test_smooth_runs_the_same_backwards(noisy):
    times, samples = noisy
    forward = smooth(times, samples, 1.0, 0.5)
    backward = smooth(-times[::-1], samples[::-1], 1.0, 0.5)[::-1]
    np.testing.assert_allclose(forward, backward, atol=1e-12)


def test_smooth_of_nothing_and_of_bad_shapes():
    assert smooth([], np.zeros((0, 3)), 1.0).shape == (0, 3)
    with pytest.raises(ValueError, match="samples must be"):
        smooth([0.0], np.zeros((2, 3)), 1.0)
