"""Crops stay the same under what must not matter: place, size, roll and light."""

import cv2
import numpy as np
import pytest

from mien.core.preprocess import ANCHORS, CANONICAL, aligned_crop, alignment, gradients, normalise_light, similarity
from mien.core.units import LANDMARK_COUNT

SIZE = 96


@pytest.fixture(scope="module")
def face():
    """A smooth random texture with mesh points that frame it, as (picture, landmarks)."""
    rng = np.random.default_rng(3)
    picture = cv2.GaussianBlur(rng.uniform(0, 255, (400, 400)).astype(np.float32), (0, 0), 6)
    picture = cv2.normalize(picture, None, 30, 220, cv2.NORM_MINMAX).astype(np.uint8)
    landmarks = np.zeros((LANDMARK_COUNT, 3), np.float32)
    landmarks[ANCHORS, :2] = CANONICAL * 200 + 100
    return picture, landmarks


def moved(face, angle, scale, shift):
    picture, landmarks = face
    matrix = cv2.getRotationMatrix2D((200, 200), angle, scale)
    matrix[:, 2] += shift
    points = landmarks.copy()
    points[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return cv2.warpAffine(picture, matrix, (600, 600), flags=cv2.INTER_LINEAR), points


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def test_similarity_is_recovered():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(6, 2))
    c, s = 1.7 * np.cos(0.4), 1.7 * np.sin(0.4)
    target = source @ np.array([[c, -s], [s, c]]).T + [3, -2]
    np.testing.assert_allclose(similarity(source, target), [[c, -s, 3], [s, c, -2]], atol=1e-9)


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.zeros((4, 3)), np.zeros((4, 2))])
def test_similarity_refuses_what_has_no_answer(points):
    with pytest.raises(ValueError, match="points"):
        similarity(points, points)


def test_anchors_land_where_they_belong(face):
    landmarks = face[1]
    placed = np.column_stack([landmarks[ANCHORS, :2], np.ones(len(ANCHORS))]) @ alignment(landmarks, SIZE).T
    np.testing.assert_allclose(placed, CANONICAL * SIZE - 0.5, atol=1e-3)


@pytest.mark.parametrize(("angle", "scale", "shift"), [(0, 1, (40, 60)), (25, 1, (90, 90)), (-15, 1.4, (100, 100))])
def test_crop_follows_the_face(face, angle, scale, shift):
    straight = aligned_crop(*face, SIZE).astype(int)
    turned = aligned_crop(*moved(face, angle, scale, shift), SIZE).astype(int)
    assert np.abs(straight - turned)[4:-4, 4:-4].mean() < 2.5


def test_crop_of_a_large_face_does_not_alias():
    size = 1600
    stripes = ((np.indices((size, size)).sum(0) % 2) * 255).astype(np.uint8)
    landmarks = np.zeros((LANDMARK_COUNT, 3), np.float32)
    landmarks[ANCHORS, :2] = CANONICAL * size
    assert aligned_crop(stripes, landmarks, SIZE).std() < 8


def test_crop_beyond_the_picture_continues_its_edge(face):
    picture, landmarks = face
    out = landmarks.copy()
    out[:, 0] -= 250
    crop = aligned_crop(picture, out, SIZE).astype(int)
    beyond = crop[:, : SIZE // 4]
    assert np.abs(beyond - beyond[:, :1]).max() <= 1
    assert beyond[:, 0].std() > 10
    assert crop[SIZE // 2].std() > 10


def test_colour_and_grey_agree(face):
    picture, landmarks = face
    colour = np.repeat(picture[..., None], 3, 2)
    np.testing.assert_array_equal(aligned_crop(colour, landmarks, SIZE), aligned_crop(picture, landmarks, SIZE))


def test_gain_drops_out(face):
    crop = aligned_crop(*face, SIZE).astype(np.float32)
    assert correlation(normalise_light(crop), normalise_light(crop * 0.4)) > 0.99


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gamma_drops_out(face, gamma):
    crop = aligned_crop(*face, SIZE).astype(np.float32)
    other = 255 * (crop / 255) ** gamma
    assert correlation(normalise_light(crop), normalise_light(other)) > 0.98
    assert correlation(crop, other) < correlation(normalise_light(crop), normalise_light(other))


def test_shadow_leaves_its_edge_alone(face):
    crop = aligned_crop(*face, SIZE).astype(np.float32)
    shaded = crop.copy()
    shaded[:, SIZE // 2 :] *= 0.35
    before, after = normalise_light(crop), normalise_light(shaded)
    away = np.abs(np.arange(SIZE) - SIZE // 2) > 12
    assert correlation(before[:, away], after[:, away]) > 0.97
    assert correlation(crop, shaded) < 0.75


def test_flat_crop_stays_finite():
    assert np.isfinite(normalise_light(np.full((48, 48), 17, np.uint8))).all()


def test_gradient_template():
    x, y = np.meshgrid(np.arange(8.0), np.arange(6.0))
    dx, dy = gradients(3 * x - 2 * y)
    np.testing.assert_allclose(dx[:, 1:-1], 6)
    np.testing.assert_allclose(dy[1:-1], -4)
    np.testing.assert_allclose(dx[:, [0, -1]], 0)
