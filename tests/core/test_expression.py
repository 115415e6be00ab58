"""Labels hold still, and a look of one's own is learnt from seconds."""

import dataclasses
import itertools
import time

import cv2
import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.expression import (
    DEEP_CROP,
    DEEP_VIEW,
    FEATURES,
    UNSURE,
    ExpressionClassifier,
    ExpressionTracker,
    PersonalClasses,
    deep_view,
    label_of,
    linear_svm,
    softmax,
)
from mien.core.labelling import INTERVAL
from mien.core.preprocess import ANCHORS, CANONICAL
from mien.core.units import EXPRESSIONS, LANDMARK_COUNT

from .face_helpers import face_at

FPS = 30.0


def peak(name, value=0.8):
    others = (1 - value) / (len(EXPRESSIONS) - 1)
    result = np.full(len(EXPRESSIONS), others, np.float32)
    result[EXPRESSIONS.index(name)] = value
    return result


def test_the_network_sees_the_middle_of_the_crop():
    crop = np.full((DEEP_CROP, DEEP_CROP), 255, np.uint8)
    crop[2:-2, 2:-2] = 100
    crop[2:-2, 2:24] = 50
    view = deep_view(crop)
    assert view.shape == (DEEP_VIEW, DEEP_VIEW)
    middle = DEEP_VIEW // 2
    assert (view[:, : middle - 1] == 50).all()
    assert (view[:, middle + 1 :] == 100).all()


def test_softmax_sums_to_one():
    values = softmax(np.array([[1000.0, 0, -1000], [0, 0, 0]]))
    np.testing.assert_allclose(values.sum(-1), 1)


@pytest.fixture(scope="module")
def classifier():
    return ExpressionClassifier()


@pytest.fixture(scope="module")
def picture():
    """A blurred pattern: no face, but the same for every way of looking."""
    noise = np.random.default_rng(0).uniform(0, 255, (48, 48)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.fixture(scope="module")
def face():
    """A mesh whose anchors lie in the middle of the picture."""
    made_up = face_at()
    points = np.random.default_rng(1).uniform(10, 38, (LANDMARK_COUNT, 3)).astype(np.float32)
    points[ANCHORS, :2] = CANONICAL * 24 + 12
    return dataclasses.replace(made_up, size=(48, 48), landmarks=points)


def test_one_reading_gives_features_and_probabilities(classifier, face, picture):
    features, probabilities = classifier.read(face, picture)
    np.testing.assert_array_equal(features, classifier.features(face, picture))
    np.testing.assert_array_equal(probabilities, classifier.classify(face, picture))
    assert features.shape == (FEATURES,)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("meshed", [True, False])
def test_a_still_is_judged_like_its_colour_copy(classifier, face, picture, meshed):
    mesh = face if meshed else None
    probabilities = classifier.classify_still(picture, mesh)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    colour = np.repeat(picture[..., None], 3, 2)
    np.testing.assert_allclose(classifier.classify_still(colour, mesh), probabilities, atol=1e-4)


def test_a_still_without_a_mesh_is_judged_like_its_mirror_image(classifier, picture):
    turned = np.ascontiguousarray(picture[:, ::-1])
    np.testing.assert_allclose(classifier.classify_still(turned), classifier.classify_still(picture), atol=1e-4)


def test_a_loosely_framed_picture_is_seen_through_its_mesh_alone(classifier, face, picture):
    """The surroundings of a large picture play no part."""
    scale = 4
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    points = (face.landmarks + 0.5) * scale - 0.5 + np.float32([100, 100, 0])
    placed = dataclasses.replace(face, size=(392, 392), landmarks=points)
    seen = [
        classifier.classify_still(cv2.copyMakeBorder(large, *[100] * 4, cv2.BORDER_CONSTANT, value=value), placed)
        for value in (0, 255)
    ]
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-4)


def test_no_likely_class_is_unsure():
    assert label_of(np.full(7, 1 / 7)) == UNSURE
    assert label_of(peak("anger")) == "anger"


@pytest.fixture(params=[1 / FPS, INTERVAL], ids=["every frame", "as the product judges"])
def step(request):
    return request.param


def test_a_single_odd_judgement_changes_nothing(step):
    tracker = ExpressionTracker()
    labels = []
    for i in range(60):
        labels.append(tracker.update(i * step, peak("fear", 0.9) if i == 30 else peak("happiness", 0.65))[0])
    assert set(labels) == {"happiness"}


def test_alternating_judgements_do_not_flicker(step):
    tracker = ExpressionTracker()
    rng, torn = np.random.default_rng(0), np.array([0, 1.5, 0, 1.4, 0, 0, 0])
    labels = [tracker.update(i * step, softmax(torn + rng.normal(0, 0.4, 7)))[0] for i in range(300)]
    changes = sum(a != b for a, b in itertools.pairwise(labels))
    assert changes <= 4


def test_a_real_change_comes_within_half_a_second(step):
    tracker = ExpressionTracker()
    for i in range(30):
        tracker.update(i * step, peak("neutral"))
    labels = [tracker.update((30 + i) * step, peak("surprise"))[0] for i in range(int(0.5 / step))]
    assert labels[-1] == "surprise"


def test_time_going_back_starts_anew():
    tracker = ExpressionTracker()
    tracker.update(5.0, peak("anger"))
    assert tracker.update(0.0, peak("sadness"))[0] == "sadness"


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="probabilities"):
        ExpressionTracker().update(0.0, np.zeros(3))


def test_svm_separates_with_a_margin():
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(200, 5))
    truth = np.where(samples[:, 0] - 0.5 * samples[:, 1] > 0.1, 1, -1)
    weights = linear_svm(samples, truth, cost=100)
    assert np.mean(np.sign(samples @ weights[:-1] + weights[-1]) == truth) > 0.98
    assert weights[0] > 0 > weights[1]


@pytest.fixture
def looks():
    """Feature vectors of 90 frames each of rest and two looks."""
    rng = np.random.default_rng(2)
    centres = rng.normal(0, 0.6, (3, FEATURES))
    return {
        name: (centre + rng.normal(0, 0.7, (90, FEATURES))).astype(np.float32)
        for name, centre in zip(("rest", "smirk", "duck"), centres, strict=True)
    }


def test_a_look_is_learnt_within_two_seconds(looks):
    personal = PersonalClasses()
    for name, frames in looks.items():
        began = time.thread_time()
        personal.learn(name, frames[::2])
        assert time.thread_time() - began < 2.0
    assert personal.names == ["smirk", "duck"]
    for name, frames in looks.items():
        found = [personal.label(frame) for frame in frames[1::2]]
        wanted = None if name == "rest" else name
        assert np.mean([label == wanted for label in found]) > 0.95


def test_looks_are_saved_with_the_actor(looks, tmp_path):
    personal = PersonalClasses()
    for name, frames in looks.items():
        personal.learn(name, frames)
    personal.save(tmp_path / "actor.npz")
    again = PersonalClasses.load(tmp_path / "actor.npz")
    assert again.names == personal.names
    frame = looks["duck"][0]
    assert again.label(frame) == "duck"
    assert again.scores(frame)["duck"] == pytest.approx(personal.scores(frame)["duck"], abs=0.05)


def test_forgetting(looks):
    personal = PersonalClasses()
    for name, frames in looks.items():
        personal.learn(name, frames)
    personal.forget("duck")
    assert personal.names == ["smirk"]
    assert personal.label(looks["smirk"][0]) == "smirk"


def test_too_little_is_refused(looks):
    with pytest.raises(MienError, match="Too few frames"):
        PersonalClasses().learn("smirk", looks["smirk"][:3])
    with pytest.raises(MienError, match="no name"):
        PersonalClasses().learn(" ", looks["smirk"])


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "actor.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(MienError, match="cannot be read"):
        PersonalClasses.load(path)


GOOD = np.random.default_rng(3).normal(size=(20, FEATURES)).astype(np.float16)


@pytest.mark.parametrize(
    "bad", [GOOD[0], GOOD[:0], GOOD[:4], GOOD[:, :100], GOOD[None], np.float16(1), np.full_like(GOOD, np.inf)]
)
def test_a_whole_file_of_other_shapes_is_refused(tmp_path, bad):
    path = tmp_path / "actor.npz"
    for samples in ((GOOD, bad), (bad, GOOD), (bad, bad)):
        arrays = {f"samples{i}": array for i, array in enumerate(samples)}
        np.savez(path, format=np.int32(1), names=np.array(["rest", "smirk"]), **arrays)
        with pytest.raises(MienError) as caught:
            PersonalClasses.load(path)
        assert caught.value.code == "model-damaged"
