"""Mien's own action unit model: its arithmetic, its manners, and what it sees on rendered people."""

import time

import numpy as np
import pytest

from mien.core.action_unit_model import (
    CLOSE_UP,
    EYE_MIDDLE,
    EYE_SCALE,
    MOUTH_MIDDLE,
    MOUTH_SCALE,
    WINDOW,
    Describer,
    LearnedEstimator,
    Regressor,
    eye_crops,
    face_crop,
    load_arrays,
    mouth_crop,
    weights_file,
)
from mien.core.capture import open_source
from mien.core.errors import MienError
from mien.core.features.geometry import GeometryBasis, mesh_of, mirror, mirrored_points
from mien.core.ict_face import IctFace, random_look, random_scene, render
from mien.core.landmarks import Face, Landmarker
from mien.core.models import landmark_model
from mien.core.preprocess import aligned_crop, alignment
from mien.core.stills import StillLandmarker
from mien.core.units import ACTION_UNITS, ARKIT, AU_INDEX, LANDMARK_COUNT


@pytest.fixture
def face():
    rng = np.random.default_rng(0)
    points = (rng.uniform(100, 300, (LANDMARK_COUNT, 3))).astype(np.float32)
    return Face((400, 400), points, rng.uniform(0, 0.3, len(ARKIT)).astype(np.float32), np.eye(4, dtype=np.float32))


def test_components_have_unit_variance():
    rng = np.random.default_rng(1)
    meshes = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 3 * LANDMARK_COUNT))
    basis = GeometryBasis.fit(meshes, 4)
    described = basis.describe(meshes, np.zeros((300, len(ARKIT))))
    assert described.shape == (300, 4 + len(ARKIT)) == (300, basis.length)
    np.testing.assert_allclose(described[:, :4].std(0), 1, atol=0.02)


def test_mirroring_twice_changes_nothing():
    rng = np.random.default_rng(2)
    half = rng.uniform(0.1, 1, (LANDMARK_COUNT // 2, 3))
    mean = np.concatenate([half, half * (-1, 1, 1)])
    twins = mirrored_points(mean.ravel())
    np.testing.assert_array_equal(twins[twins], np.arange(LANDMARK_COUNT))
    meshes, weights = rng.normal(size=(2, mean.size)).astype(np.float32), rng.uniform(size=(2, len(ARKIT)))
    again = mirror(*mirror(meshes, weights, twins), twins)
    np.testing.assert_allclose(again[0], meshes)
    np.testing.assert_allclose(again[1], weights)


def test_missing_and_damaged_weights_are_refused(tmp_path):
    with pytest.raises(MienError, match="missing"):
        LearnedEstimator(tmp_path)
    (tmp_path / "action_units.npz").write_bytes(b"no zip")
    with pytest.raises(MienError, match="cannot be read"):
        LearnedEstimator(tmp_path)


def test_weights_are_never_unpickled(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(MienError, match="cannot be read"):
        load_arrays(path)


def test_regressor_weighs_the_change_from_rest():
    """Shapes that copy the second input's change from rest, where the rest is known."""
    change = np.zeros((3, 7), np.float32)
    change[0, 4] = 1.0
    identity = np.eye(3, dtype=np.float32)
    arrays = {
        "weight0": change,
        "weight1": identity,
        "weight2": identity,
        "leak": np.array(0.1),
        "off": np.zeros((2, 3)),
        "slope": np.ones((2, 3)),
    }
    arrays |= {f"bias{i}": np.zeros(3, np.float32) for i in range(3)}
    regressor = Regressor(arrays)
    frame, rest = np.float32([0.1, 0.9, 0.2]), np.float32([0.1, 0.4, 0.0])
    np.testing.assert_allclose(regressor(frame, rest), [0.5, 0, 0])
    np.testing.assert_allclose(regressor(frame, None), 0)
    arrays["weight2"] = -100 * identity  # below 0 a hidden unit gives a tenth
    np.testing.assert_allclose(Regressor(arrays)(rest, frame), [0.5, 0, 0], atol=1e-6)
    arrays["weight2"] = identity
    arrays["off"][1] = 0.1
    arrays["slope"][1, 0] = 2.0
    np.testing.assert_allclose(Regressor(arrays)(frame, rest), [0.8, 0, 0], atol=1e-6)


def test_description_without_a_picture_keeps_the_mesh():
    rng = np.random.default_rng(3)
    arrays = {
        "mean": np.zeros(6, np.float32),
        "axes": np.eye(2, 6, dtype=np.float16),
        "histogram_mean": np.full(5, 0.5, np.float16),
        "histogram_axes": np.eye(4, 5, dtype=np.float16),
        "features": np.array(3),
    }
    describer = Describer(arrays)
    mesh, blendshapes = rng.normal(size=6).astype(np.float32), rng.uniform(size=len(ARKIT)).astype(np.float32)
    features, histogram = np.float32([1, 2, 3]), np.full(5, 0.75, np.float32)
    seen, unseen = describer.join(features, histogram, mesh, blendshapes), describer.join(None, None, mesh, blendshapes)
    np.testing.assert_allclose(seen[:7], [1, 2, 3, 0.25, 0.25, 0.25, 0.25])
    assert not unseen[:7].any()
    np.testing.assert_array_equal(seen[7:], unseen[7:])


def test_crop_shows_brows_to_chin(face):
    picture = np.zeros((400, 400, 3), np.uint8)
    assert face_crop(picture, face.landmarks).shape == tuple(s.stop - s.start for s in WINDOW)


@pytest.fixture
def seen(data):
    """A frame and the face in it, and their mirror images: of the landmarks only those that frame it are exact."""
    with open_source(data / "video" / "d10.mp4") as source, Landmarker(landmark_model()) as landmarker:
        picture = next(iter(source)).image
        landmarks = StillLandmarker(landmarker).find(picture).landmarks[:, :2]
    across = landmarks * (-1, 1) + (picture.shape[1] - 1, 0)
    across[[33, 133, 362, 263]] = across[[263, 362, 133, 33]]
    return picture, landmarks, np.ascontiguousarray(picture[:, ::-1]), across


def _place(picture, landmarks, scale, middle):
    """The square of a closer look cut out of the whole crop at its scale."""
    left, top = (round(part * scale) - CLOSE_UP // 2 for part in middle)
    return aligned_crop(picture, landmarks, scale)[top:, left:][:CLOSE_UP, :CLOSE_UP]


def test_each_eye_is_looked_at_from_brow_to_cheek_and_the_mirror_image_swaps_them(seen):
    picture, landmarks, *turned = seen
    eyes = eye_crops(picture, landmarks)
    assert eyes.shape == (2, CLOSE_UP, CLOSE_UP)
    np.testing.assert_allclose(eye_crops(*turned)[::-1].astype(int), eyes, atol=12)
    for eye, view in zip(eyes, (seen[:2], turned), strict=True):
        assert np.corrcoef(eye.ravel(), _place(*view, EYE_SCALE, EYE_MIDDLE).ravel())[0, 1] > 0.97


def test_the_mouth_is_looked_at_from_nose_to_chin_and_the_mirror_image_mirrors_it(seen):
    picture, landmarks, *turned = seen
    mouth = mouth_crop(picture, landmarks)
    np.testing.assert_allclose(mouth_crop(*turned)[:, ::-1].astype(int), mouth, atol=12)
    assert np.corrcoef(mouth.ravel(), _place(picture, landmarks, MOUTH_SCALE, MOUTH_MIDDLE).ravel())[0, 1] > 0.99
    # The lips' four ends lie well inside, in the crop's own px.
    matrix = alignment(landmarks, MOUTH_SCALE)
    lips = landmarks[[61, 291, 0, 17]] @ matrix[:, :2].T + matrix[:, 2]
    lips -= np.array(MOUTH_MIDDLE) * MOUTH_SCALE - CLOSE_UP / 2
    assert (lips > 8).all()
    assert (lips < CLOSE_UP - 8).all()


def test_known_rest_counts_and_can_be_forgotten(face):
    rng = np.random.default_rng(4)
    picture = rng.integers(0, 256, (400, 400, 3)).astype(np.uint8)
    estimator = LearnedEstimator()
    alone = estimator.estimate(face, picture)
    estimator.set_rest(face, picture)
    assert estimator.rest.shape == estimator.describe(face, None).shape
    assert np.abs(estimator.estimate(face, picture) - alone).max() > 0
    estimator.rest = None
    np.testing.assert_array_equal(estimator.estimate(face, picture), alone)


def test_left_and_right_are_treated_alike(data):
    """A mirrored picture gives the mirrored reading, beside a rest and without."""
    with open_source(data / "video" / "d10.mp4") as source, Landmarker(landmark_model()) as landmarker:
        pictures = [frame.image for frame, _ in zip(source, range(60), strict=False)]
        faces = [landmarker.detect(picture, i / 30) for i, picture in enumerate(pictures)]
    strongest = max(range(60), key=lambda i: faces[i].blendshapes.sum())
    face, picture = faces[strongest], pictures[strongest]
    across = np.diag(np.float32([-1, 1, 1]))
    points = mirrored_points(load_arrays(weights_file("action_units"))["mean"])
    _, blendshapes = mirror(mesh_of(face)[None], face.blendshapes[None], points)
    landmarks = face.landmarks[points] @ across + np.float32([picture.shape[1] - 1, 0, 0])
    matrix = face.matrix.copy()
    matrix[:3, :3], matrix[0, 3] = across @ matrix[:3, :3] @ across, -matrix[0, 3]
    other = Face(face.size, landmarks, blendshapes[0], matrix)
    names = [name[:-1] + {"L": "R", "R": "L"}.get(name[-1], name[-1]) for name in ACTION_UNITS]
    twins = [AU_INDEX.get(name, i) for i, name in enumerate(names)]
    estimator = LearnedEstimator()
    for rest in (None, estimator.describe(faces[0], pictures[0])):
        estimator.rest = rest
        plain = estimator.estimate(face, picture)
        estimator.rest = None if rest is None else rest[::-1]
        turned = estimator.estimate(other, np.ascontiguousarray(picture[:, ::-1]))
        np.testing.assert_allclose(turned[twins], plain, atol=0.05)
        assert plain.max() > 0.3


def test_output_is_in_range_with_and_without_a_picture(face):
    estimator = LearnedEstimator()
    picture = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    for image in (picture, None):
        units, arkit = estimator.estimate_arkit(face, image)
        assert units.shape == (len(ACTION_UNITS),)
        assert arkit.shape == (len(ARKIT),)
        assert min(units.min(), arkit.min()) >= 0
        assert max(units.max(), arkit.max()) <= 1
        np.testing.assert_array_equal(units, estimator.estimate(face, image))


def test_without_a_picture_it_is_quick(face):
    estimator = LearnedEstimator()
    times = []
    for _ in range(50):
        began = time.thread_time()
        estimator.estimate(face, None)
        times.append(time.thread_time() - began)
    assert min(times) < 5e-3
    assert mesh_of(face).shape == (3 * LANDMARK_COUNT,)


@pytest.mark.parametrize(
    ("shape", "unit", "least"),
    [
        ("jawOpen", "AU26", 0.4),
        ("mouthSmile_L", "AU12L", 0.3),
        ("mouthSmile_R", "AU12R", 0.3),
        ("noseSneer_L", "AU9L", 0.3),
    ],
)
def test_a_rendered_movement_is_seen_on_its_side(data, shape, unit, least):
    model, estimator = IctFace(data / "face3d" / "ict_facekit.npz"), LearnedEstimator()
    found = []
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker)
        for weight in (0.0, 1.0):
            weights = np.zeros(len(model.names), np.float32)
            weights[model.index[shape]] = weight
            rng = np.random.default_rng(9)
            picture = render(
                model, model.express(model.neutral, weights), random_look(model, rng), random_scene(rng, turn=0.3), rng
            )
            found.append(estimator.estimate(stills.find(picture), picture))
    rise = found[1] - found[0]
    assert rise[AU_INDEX[unit]] > least
    if unit[-1] in "LR":
        other = unit[:-1] + ("R" if unit[-1] == "L" else "L")
        assert rise[AU_INDEX[unit]] > rise[AU_INDEX[other]]
