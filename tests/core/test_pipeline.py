"""The whole way from a picture to a result."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mien.core import models
from mien.core.capture import open_source
from mien.core.errors import MienError
from mien.core.landmarks68 import FaceCheck
from mien.core.models import landmark_model
from mien.core.pipeline import Pipeline, open_pipeline
from mien.core.record import pack
from mien.core.types import Frame
from mien.core.units import ACTION_UNITS, ARKIT, EXPRESSIONS

from .face_helpers import needs_model

pytestmark = needs_model


@pytest.fixture
def pipeline():
    with Pipeline() as pipeline:
        yield pipeline


@pytest.mark.data
def test_results_of_a_clip(data, pipeline):
    with open_source(data / "video" / "single_face.mp4") as source:
        results = [pipeline.step(frame) for frame in source]
    assert [r.index for r in results] == list(range(72))
    assert all(r.found and r.confidence > 0 for r in results)
    assert all(r.size == (640, 360) for r in results)
    last = results[-1]
    x, y, width, height = last.box
    inside = (last.points68 >= [x, y]) & (last.points68 <= [x + width, y + height])
    assert inside.all()
    assert 0.2 < -last.head_translation[2] < 2.0
    assert last.arkit.any()
    assert last.action_units.any()
    assert last.units.any()


def test_picture_without_a_face(pipeline):
    result = pipeline.step(Frame(3, 0.1, np.zeros((90, 120, 3), np.uint8)))
    assert (result.index, result.time, result.found, result.confidence) == (3, 0.1, False, 0.0)
    assert result.size == (120, 90)
    assert not result.units.any()


@pytest.mark.parametrize(("shape", "kind"), [((0, 9, 3), "u1"), ((9, 9), "u1"), ((9, 9, 4), "u1"), ((9, 9, 3), "f4")])
def test_what_is_no_picture_is_no_frame(shape, kind):
    with pytest.raises(ValueError, match="image must be"):
        Frame(0, 0.0, np.zeros(shape, kind))


@pytest.mark.data
def test_same_clip_gives_the_same_results(data):
    runs = []
    for _ in range(2):
        with open_source(data / "video" / "single_face.mp4") as source, Pipeline() as pipeline:
            runs.append(np.array([pipeline.step(f).units for f, _ in zip(source, range(20), strict=False)]))
    np.testing.assert_array_equal(*runs)


@pytest.mark.data
def test_another_estimator_may_take_over(data):
    class Half:
        def estimate_arkit(self, face, image):
            assert image.shape == (360, 640, 3)
            assert face.landmarks.shape == (478, 3)
            return np.full(len(ACTION_UNITS), 0.5, np.float32), np.full(len(ARKIT), 0.25, np.float32)

    with open_source(data / "video" / "single_face.mp4") as source, Pipeline(estimator=Half()) as pipeline:
        result = pipeline.step(next(iter(source)))
    assert (result.action_units == 0.5).all()
    assert (result.arkit == 0.25).all()


def test_closing_twice_is_fine(pipeline):
    pipeline.close()
    pipeline.close()


def test_model_that_is_not_there(tmp_path):
    with pytest.raises(MienError) as caught:
        Pipeline(tmp_path / "none.task")
    assert caught.value.code == "model-missing"


@pytest.mark.data
def test_a_capture_is_labelled_and_deterministic(data):
    """`run` finds faces on a thread ahead of the rest: it must give what `step` gives."""
    with open_source(data / "video" / "d10.mp4") as source:
        frames = [frame for frame, _ in zip(source, range(45), strict=False)]
    with open_pipeline() as pipeline:
        assert pipeline.notices == []
        assert pipeline.settings == {"estimator": "combined"}
        stepped = [pipeline.step(frame) for frame in frames]
    with open_pipeline() as pipeline:
        ran = list(pipeline.run(iter(frames)))
    for one, other in zip(stepped, ran, strict=True):
        assert pack(one).tobytes() == pack(other).tobytes()
    assert all(result.expression for result in ran)
    assert {result.expression for result in ran} & set(EXPRESSIONS)
    assert all(abs(result.probabilities.sum() - 1.0) < 1e-3 for result in ran)


@pytest.mark.data
def test_a_run_that_is_closed_early_leaves_no_thread(data):
    before = threading.active_count()
    with open_source(data / "video" / "d10.mp4") as source, open_pipeline() as pipeline:
        results = pipeline.run(iter(source))
        next(results)
        results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("broken", ["missing", "damaged"])
def test_without_its_own_models_a_capture_goes_on_and_says_so(tmp_path, monkeypatch, broken):
    """The landmark model is whole; Mien's own are gone, or cut."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "face_landmarker.task").symlink_to(landmark_model())
    (folder / "models.json").write_bytes((models.SHIPPED / "models.json").read_bytes())
    if broken == "damaged":
        for path in (*models.SHIPPED.glob("*.npz"), *models.SHIPPED.glob("*.onnx")):
            (folder / path.name).write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(models, "SHIPPED", folder)
    monkeypatch.setattr(models, "cache_folder", lambda: tmp_path / "none")
    monkeypatch.delenv("MIEN_MODELS", raising=False)
    with open_pipeline(live=True) as pipeline:
        assert pipeline.settings == {"estimator": "landmark", "without": ["action_units", "expression", "confidence"]}
        assert [notice.code for notice in pipeline.notices] == [f"model-{broken}"] * 3
        assert "landmark model alone" in str(pipeline.notices[0])
        assert "not labelled" in str(pipeline.notices[1])
        assert "hidden face" in str(pipeline.notices[2])
        result = pipeline.step(Frame(0, 0.0, np.zeros((90, 120, 3), np.uint8)))
    assert (result.expression, result.probabilities.any()) == ("", False)


# --- confidence


def covered(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Paint something like a hand over a face from the nose down: skin-coloured, with fingers."""
    low, high = landmarks[:, :2].min(0).astype(int), landmarks[:, :2].max(0).astype(int)
    top = (low[1] + high[1]) // 2
    forehead = landmarks[10, :2].astype(int)
    skin = image[forehead[1] + 8 : forehead[1] + 16, forehead[0] - 4 : forehead[0] + 4].reshape(-1, 3).mean(0)
    image = image.copy()
    image[top : high[1], low[0] : high[0]] = 0.9 * skin
    image[top : high[1] : 12, low[0] : high[0]] = 0.6 * skin
    return image


@pytest.mark.data
@pytest.mark.parametrize("clip", ["d0.mp4", "d9.mp4", "d10.mp4", "d14.mp4", "woman2.mp4"])
def test_a_hand_over_the_mouth_lowers_the_confidence(data, clip):
    """The landmark model draws a whole face all the same."""
    with open_source(data / "video" / clip) as source:
        frames = [frame for frame, _ in zip(source, range(12), strict=False)]
    with open_pipeline() as plain:
        seen = [plain.step(frame) for frame in frames]
    hidden = [
        Frame(frame.index, frame.time, covered(frame.image, result.landmarks))
        for frame, result in zip(frames, seen, strict=True)
    ]
    with open_pipeline() as pipeline:
        doubted = [pipeline.step(frame) for frame in hidden]
    assert all(result.found for result in doubted)
    assert min(result.confidence for result in seen) > 0.6
    assert max(result.confidence for result in doubted) < 0.3


@pytest.mark.data
@pytest.mark.parametrize("clip", ["d10.mp4", "d14.mp4"])
def test_what_a_hidden_face_expresses_is_not_told_nor_learnt(data, clip):
    """Covered from the nose down the landmark model draws an open mouth: the label said surprise."""
    with open_source(data / "video" / clip) as source:
        frames = [frame for frame, _ in zip(source, range(75), strict=False)]
    with open_pipeline() as plain:
        seen = [plain.step(frame) for frame in frames]
    cover = range(25, 55)
    with open_pipeline() as pipeline:
        results, heard = [], []
        judge = pipeline.labeller._classifier.read
        pipeline.labeller._classifier.read = lambda face, image: heard.append(len(results)) or judge(face, image)
        for frame, result in zip(frames, seen, strict=True):
            hidden = frame.index in cover
            image = covered(frame.image, result.landmarks) if hidden else frame.image
            results.append(pipeline.step(Frame(frame.index, frame.time, image)))
    doubted = [result for result in results if result.confidence < 0.5]
    assert len(doubted) > 20
    assert all((r.expression, r.own, r.probabilities.any()) == ("unsure", "", False) for r in doubted)
    assert not {r.index for r in doubted} & set(heard)
    # The face that comes back is judged by itself, at once.
    back = next(r.index for r in results[cover.stop :] if r.confidence >= 0.5)
    assert back - cover.stop < 6
    assert back in heard
    assert all(abs(r.probabilities.sum() - 1) < 1e-3 for r in results[back:])


@pytest.mark.data
def test_a_head_turned_aside_is_not_hidden(data):
    """Half of the face is beyond the nose, as `FaceCheck` never saw one; nothing is before it."""
    (picture,) = (data / "landmarks68").rglob("breakingbad.jpg")
    with open_source(picture) as source, open_pipeline() as pipeline:
        result = pipeline.step(next(iter(source)))
    _w, x, y, _z = result.head_rotation
    assert np.degrees(np.arccos(1 - 2 * (x * x + y * y))) > 40
    assert result.confidence > 0.9


@pytest.mark.data
def test_a_mesh_beside_the_face_is_doubted(data):
    check = FaceCheck()
    with open_source(data / "video" / "single_face.mp4") as source, Pipeline() as pipeline:
        for frame in source:
            points = pipeline.step(frame).points68
            assert check(frame.image, points) > 0.9
            side = np.ptp(points, axis=0).max()
            for direction in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                assert check(frame.image, points + 0.4 * side * np.float32(direction)) < 0.5


def test_the_check_survives_what_is_no_face():
    check = FaceCheck()
    points = np.random.default_rng(1).uniform(-500, 900, (68, 2))
    assert check(np.zeros((4, 4), np.uint8), points) < 0.5
    assert check(np.zeros((90, 120, 3), np.uint8), np.zeros((68, 2))) == 0.0
