"""Which estimator answers for which channel."""

from __future__ import annotations

import dataclasses
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from mien.core.action_units import BlendshapeEstimator
from mien.core.estimators import LEARNED, LOOK, PATIENCE, HybridEstimator, open_estimator
from mien.core.landmarks import Face
from mien.core.units import ACTION_UNITS, ARKIT, ARKIT_INDEX, AU_INDEX, ESTIMATORS, LANDMARK_COUNT


class Learned:
    """Says one value for every channel."""

    def estimate_arkit(self, face, image):
        return np.full(len(ACTION_UNITS), 0.25, np.float32), np.full(len(ARKIT), 0.75, np.float32)


@pytest.fixture
def face():
    rng = np.random.default_rng(0)
    points = rng.uniform(100, 300, (LANDMARK_COUNT, 3)).astype(np.float32)
    return Face((400, 400), points, rng.uniform(0, 0.6, len(ARKIT)).astype(np.float32), np.eye(4, dtype=np.float32))


def above(name, value):
    """What counts of the network's reading; a jaw pushed forward from 0.2 on."""
    return max(value - 0.2, 0) / 0.8 if name in ("AU29", "jawForward") else value


def test_the_network_helps_where_the_landmark_model_is_dead(face):
    """There the stronger reading counts, elsewhere the landmark model's."""
    units, shapes = HybridEstimator(Learned()).estimate_arkit(face, None)
    plain_units, plain_shapes = BlendshapeEstimator().estimate_arkit(face, None)
    for name in ACTION_UNITS:
        plain = plain_units[AU_INDEX[name]]
        expected = max(plain, above(name, 0.25)) if name in LEARNED else plain
        assert units[AU_INDEX[name]] == pytest.approx(expected), name
    learned_shapes = {shape for shapes in LEARNED.values() for shape in shapes}
    for name in ARKIT:
        plain = plain_shapes[ARKIT_INDEX[name]]
        expected = max(plain, above(name, 0.75)) if name in learned_shapes else plain
        assert shapes[ARKIT_INDEX[name]] == pytest.approx(expected), name


def test_a_wide_smile_pushes_no_jaw_forward(face):
    slight = SimpleNamespace(
        estimate_arkit=lambda _face, _image: (
            np.full(len(ACTION_UNITS), 0.15, np.float32),
            np.full(len(ARKIT), 0.15, np.float32),
        )
    )
    still = dataclasses.replace(face, blendshapes=np.zeros(len(ARKIT), np.float32))
    units, shapes = HybridEstimator(slight).estimate_arkit(still, None)
    assert (units[AU_INDEX["AU29"]], shapes[ARKIT_INDEX["jawForward"]]) == (0, 0)
    assert units[AU_INDEX["AU34L"]] == pytest.approx(0.15)


def test_the_faces_own_arrays_are_left_alone(face):
    before = face.blendshapes.copy()
    HybridEstimator(Learned()).estimate_arkit(face, None)
    np.testing.assert_array_equal(face.blendshapes, before)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_name_gives_an_estimator(name, face):
    units, shapes = open_estimator(name).estimate_arkit(face, np.zeros((400, 400, 3), np.uint8))
    assert (units.shape, shapes.shape) == ((len(ACTION_UNITS),), (len(ARKIT),))
    assert min(units.min(), shapes.min()) >= 0.0
    assert max(units.max(), shapes.max()) <= 1.0


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="must be one of"):
        open_estimator("crystal ball")


@pytest.mark.parametrize(("fps", "every"), [(15, 1), (24, 2), (25, 2), (29.97, 2), (30, 2), (60, 3)])
def test_along_a_film_the_network_looks_now_and_then(face, fps, every):
    looked = []

    class Counting(Learned):
        def estimate_arkit(self, face, image):
            looked.append(len(frames))
            return np.full(len(ACTION_UNITS), len(frames) / 100, np.float32), np.zeros(len(ARKIT), np.float32)

    still = dataclasses.replace(face, blendshapes=np.zeros(len(ARKIT), np.float32))
    estimator, frames = HybridEstimator(Counting()), []
    for i in range(60):
        estimator.at(i / fps)
        frames.append(estimator.estimate(still, None)[AU_INDEX["AU34L"]])
    assert looked == list(range(0, 60, every))
    assert frames == pytest.approx([i // every * every / 100 for i in range(60)])
    # After a gap, or when time goes back, what it said before is of no use.
    for seconds in (10.0, 2.0):
        count = len(looked)
        estimator.at(seconds)
        estimator.estimate(face, None)
        assert len(looked) == count + 1


def test_without_a_time_every_picture_is_looked_at(face):
    looked = []

    class Counting(Learned):
        def estimate_arkit(self, face, image):
            looked.append(1)
            return super().estimate_arkit(face, image)

    estimator = HybridEstimator(Counting())
    for _ in range(3):
        estimator.estimate(face, None)
    assert len(looked) == 3


def test_live_no_frame_waits_for_the_network(face):
    """It looks beside the frames; what it said holds until its next answer, but not for ever."""
    free, looks = threading.Event(), []

    class Slow(Learned):
        def estimate_arkit(self, face, image):
            looks.append(threading.current_thread())
            answer = len(looks)
            assert free.wait(10)
            return np.full(len(ACTION_UNITS), answer / 10, np.float32), np.zeros(len(ARKIT), np.float32)

    still = dataclasses.replace(face, blendshapes=np.zeros(len(ARKIT), np.float32))
    estimator = HybridEstimator(Slow(), beside=True)

    def said(at):
        estimator.at(at)
        return round(10 * float(estimator.estimate(still, None)[AU_INDEX["AU34L"]]))

    free.set()
    assert said(0.0) == 1  # nothing was said of this face before: the frame waits
    free.clear()
    assert [said(LOOK * k) for k in (1.0, 1.5, 2.0, 2.5)] == [1, 1, 1, 1]
    free.set()
    deadline = time.monotonic() + 10
    while (answer := said(2.5 * LOOK)) == 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert answer == 2
    assert looks[0] is threading.current_thread() is not looks[1]
    # Too long ago, whether it still looks or not: the frame waits, and the answer is its own.
    assert said(1.0) == len(looks)
    assert looks[-1] is threading.current_thread()
    free.clear()
    before = len(looks)
    assert said(1.0 + LOOK) == before
    threading.Timer(0.05, free.set).start()
    assert said(1.0 + LOOK + PATIENCE) == len(looks) == before + 2


def test_live_an_error_of_the_network_is_not_lost(face):
    class Broken(Learned):
        def estimate_arkit(self, face, image):
            if broken:
                raise RuntimeError("no network")
            return super().estimate_arkit(face, image)

    estimator, broken = HybridEstimator(Broken(), beside=True), []
    estimator.at(0.0)
    estimator.estimate(face, None)
    broken.append(True)
    estimator.at(LOOK)
    estimator.estimate(face, None)
    estimator.at(LOOK + PATIENCE)
    with pytest.raises(RuntimeError, match="no network"):
        estimator.estimate(face, None)
