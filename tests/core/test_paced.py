"""A video in place of a camera, against a clock of the test's own."""

from __future__ import annotations

import types

import numpy as np
import pytest

from mien.core.capture import paced
from mien.core.types import Frame

FPS = 50.0
IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where it is said to."""
    clock = types.SimpleNamespace(time=100.0)

    def sleep(seconds):
        clock.time += seconds

    clock.sleep = sleep
    monkeypatch.setattr(paced, "now", lambda: clock.time)
    monkeypatch.setattr(paced, "time", clock)
    return clock


@pytest.fixture
def play(clock, monkeypatch):
    def play(*costs):
        """A film whose pictures take these seconds to decode, in turn."""

        class Film:
            name, size, fps, notices, incomplete = "film", (4, 4), FPS, (), False

            def __iter__(self):
                for i in range(10_000):
                    clock.sleep(costs[i % len(costs)])
                    yield Frame(i, i / FPS, IMAGE)

            def close(self):
                pass

        monkeypatch.setattr(paced, "open_source", lambda path: Film())
        return paced.PacedFile("film")

    return play


@pytest.mark.parametrize("costs", [(0.021,), (0.025,), (0.06,), (1.0,)])
def test_what_cannot_be_decoded_at_its_pace_plays_slower(play, costs):
    source = play(*costs)
    stamps = [source.read()[0] for _ in range(200)]
    assert np.diff(stamps).max() <= costs[0] * 1.001
    assert source.missed == 0


def test_a_picture_that_takes_long_to_decode_does_not_slow_the_film(play):
    """Key frames do; those after them make up for it."""
    source = play(0.03, 0.005, 0.005)
    stamps = [source.read()[0] for _ in range(301)]
    assert stamps[-1] - stamps[0] == pytest.approx(300 / FPS, abs=0.03)
    assert source.missed == 0


@pytest.mark.parametrize(("pause", "missed"), [(0.01, 0), (0.21, 9), (5.0, 0)])
def test_a_reader_who_comes_late_gets_the_picture_of_the_moment(play, clock, pause, missed):
    """After a long pause the film goes on where it stood."""
    source = play(0.001)
    first = [source.read()[0] for _ in range(10)][-1]
    clock.sleep(pause)
    next_ones = [source.read()[0] for _ in range(10)]
    assert source.missed == missed
    assert next_ones[0] - first <= pause + 2 / FPS
    assert np.diff(next_ones).max() == pytest.approx(1 / FPS, abs=0.02)
