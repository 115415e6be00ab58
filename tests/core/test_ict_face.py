"""Rendered people are what their weights say."""

import numpy as np
import pytest

from mien.core.action_units import from_arkit
from mien.core.errors import MienError
from mien.core.ict_face import (
    REGIONS,
    IctFace,
    arkit_shapes,
    drill_expression,
    project,
    random_expression,
    random_look,
    random_scene,
    rasterise,
    render,
    rotation,
)
from mien.core.landmarks import Landmarker
from mien.core.models import landmark_model
from mien.core.stills import StillLandmarker
from mien.core.units import ARKIT, AU_INDEX


@pytest.fixture(scope="module")
def model(data):
    return IctFace(data / "face3d" / "ict_facekit.npz")


def weights(model, **values):
    result = np.zeros(len(model.names), np.float32)
    for name, value in values.items():
        result[model.index[name]] = value
    return result


def test_rest_is_the_head_itself(model):
    head = model.head([1.0, -0.5])
    np.testing.assert_allclose(model.express(head, np.zeros(len(model.names))), head, atol=1e-5)


def test_left_is_the_actors_left(model):
    moved = model.express(model.neutral, weights(model, mouthSmile_L=1.0)) - model.neutral
    place = model.neutral[np.linalg.norm(moved, axis=1).argmax()]
    assert place[0] > 1


def test_eyes_turn_with_their_shapes(model):
    part = REGIONS["eye_left"]
    turned = model.express(model.neutral, weights(model, eyeLookOut_L=1.0))[part]
    front = model.neutral[part][:, 2].argmax()
    assert turned[front, 0] > model.neutral[part][front, 0] + 0.5
    up = model.express(model.neutral, weights(model, eyeLookUp_L=1.0))[part]
    assert up[front, 1] > model.neutral[part][front, 1] + 0.5


def test_truth_agrees_with_the_arkit_table(model):
    """Every single shape gives the action units that the blendshape table gives for its ARKit name."""
    for name in ARKIT:
        if name.startswith("eyeLook") or name in ("tongueOut", "browInnerUp", "cheekPuff"):
            continue
        truth = model.meaning.action_units(weights(model, **dict.fromkeys(arkit_shapes(name), 1.0)))
        expected = from_arkit(np.eye(len(ARKIT))[ARKIT.index(name)])
        np.testing.assert_allclose(truth, expected, err_msg=name)


def test_both_cheek_shapes_are_one_action_unit(model):
    truth = model.meaning.action_units(weights(model, cheekSquint_L=0.7, cheekRaiser_L=0.7))
    assert truth[AU_INDEX["AU6L"]] == 1.0
    assert truth.sum() == 1.0


def test_rotation_is_proper():
    matrix = rotation(0.3, -0.2, 0.1)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert rotation(0.3, 0, 0)[0, 2] > 0  # the nose goes to the actor's left


def test_random_expressions_stay_in_range(model):
    rng = np.random.default_rng(0)
    for number in range(60):
        for values in (random_expression(model, rng), drill_expression(model, rng, number)):
            assert values.min() >= 0
            assert values.max() <= 1
    gaze = [i for i, name in enumerate(model.names) if name.startswith("eyeLook")]
    for _ in range(20):  # a rest may look aside, and moves nothing else
        assert np.delete(drill_expression(model, rng, 0), gaze).max() == 0
        assert np.delete(drill_expression(model, rng, 1), gaze).max() >= 0.2


def test_renders_are_seeded_and_faces_are_found_where_they_are(model):
    def picture():
        rng = np.random.default_rng(5)
        scene = random_scene(rng, turn=0.5)
        look = random_look(model, rng)
        return render(model, model.neutral, look, scene, rng), scene

    image, scene = picture()
    assert image.shape == (320, 320, 3)
    np.testing.assert_array_equal(image, picture()[0])
    with Landmarker(landmark_model()) as landmarker:
        face = StillLandmarker(landmarker).find(image)
    assert face is not None
    eyes = [
        (model.neutral[REGIONS[name]].min(0) + model.neutral[REGIONS[name]].max(0)) / 2
        for name in ("eye_left", "eye_right")
    ]
    expected = project(np.array(eyes), scene)[:, :2]
    found = face.landmarks[[473, 468], :2]
    assert np.linalg.norm(found - expected, axis=1).max() < 8


def test_who_stands_beside_the_picture_leaves_it_as_it_is():
    picture = np.full((32, 32, 3), 0.5, np.float32)
    screen = np.float32([[40, 0, 1], [40, 9, 1], [50, 0, 1]])
    rasterise(screen, np.int32([[0, 1, 2], [0, 2, 1]]), np.ones((3, 3), np.float32), picture)
    assert (picture == 0.5).all()


def test_missing_model_is_refused(tmp_path):
    with pytest.raises(MienError, match="no file"):
        IctFace(tmp_path / "none.npz")
