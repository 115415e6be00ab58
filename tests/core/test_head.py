"""Head pose and gaze: signs, units, and that a blink is no look down."""

from __future__ import annotations

import csv
import itertools
import re

import numpy as np
import pytest

from mien.core.capture import open_source
from mien.core.head import (
    GazeTracker,
    continuous,
    gaze,
    head_pose,
    head_space,
    inverse,
    lids_at_most_shut,
    matrix_from_quaternion,
    multiply,
    product,
    quaternion_from_matrix,
)
from mien.core.landmarks import Face, Landmarker
from mien.core.models import landmark_model
from mien.core.units import ARKIT, ARKIT_INDEX

from .face_helpers import about, face_at, needs_model


@pytest.mark.parametrize("angle", [0, 30, 90, 179.9, 180, -120])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quaternion_and_matrix_are_inverse(axis, angle):
    matrix = about(axis, angle)
    quaternion = quaternion_from_matrix(matrix)
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    assert quaternion[0] >= 0
    np.testing.assert_allclose(matrix_from_quaternion(quaternion), matrix, atol=1e-9)


def test_quaternions_of_many():
    rng = np.random.default_rng(0)
    quaternions = rng.normal(size=(50, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    quaternions *= np.sign(quaternions[:, :1])
    np.testing.assert_allclose(quaternion_from_matrix(matrix_from_quaternion(quaternions)), quaternions, atol=1e-9)


def test_a_product_turns_by_its_second_factor_first():
    one, other = (quaternion_from_matrix(about(axis, angle)) for axis, angle in ((0, 50), (1, -130)))
    both = about(0, 50) @ about(1, -130)
    np.testing.assert_allclose(matrix_from_quaternion(multiply(one, [other, other])), [both, both], atol=1e-9)
    np.testing.assert_allclose(product(one.tolist(), other.tolist()), multiply(one, other), atol=1e-12)
    np.testing.assert_allclose(multiply(inverse(one), one), [1, 0, 0, 0], atol=1e-12)


def test_continuous_quaternions_begin_with_a_positive_w():
    turning = np.array([quaternion_from_matrix(about(1, 170 + 5 * i)) for i in range(10)])
    jumping = turning * np.where(np.arange(10) % 3, 1.0, -1.0)[:, None]
    smooth = continuous(jumping)
    assert smooth[0, 0] > 0
    assert ((smooth[1:] * smooth[:-1]).sum(axis=1) > 0.99).all()
    np.testing.assert_array_equal(np.abs(smooth), np.abs(turning))
    assert continuous(np.zeros((0, 4))).shape == (0, 4)


def test_bad_shapes():
    with pytest.raises(ValueError, match="matrix must be"):
        quaternion_from_matrix(np.eye(4))
    with pytest.raises(ValueError, match="quaternion must be"):
        matrix_from_quaternion(np.zeros(3))


def test_pose_is_in_metres_and_ignores_scale():
    rotation, translation = head_pose(face_at(about(1, 20), (5, 10, -40), scale=1.3))
    np.testing.assert_allclose(translation, (0.05, 0.10, -0.40), atol=1e-6)
    np.testing.assert_allclose(rotation, quaternion_from_matrix(about(1, 20)), atol=1e-6)


def test_positive_turn_about_y_faces_the_actors_left():
    rotation, _ = head_pose(face_at(about(1, 20)))
    forward = matrix_from_quaternion(rotation) @ (0, 0, 1)
    assert forward[0] > 0.3


@pytest.mark.parametrize("rotation", [about(0, 15), about(1, -30), about(2, 40)])
def test_head_space_undoes_the_head(rotation):
    np.testing.assert_allclose(head_space(face_at(rotation)), head_space(face_at()), atol=1e-6)


@pytest.mark.data
def test_head_space_against_the_published_geometry(data):
    """The face landmarker's own metric mesh of the portrait, up to perspective."""
    text = (data / "golden" / "face_blendshapes_in_landmarks.prototxt").read_text()
    landmarks = np.array(re.findall(r"x: (\S+)\s+y: (\S+)\s+z: (\S+)", text), np.float32)
    text = (data / "golden" / "face_geometry_expected_out.pbtxt").read_text()
    mesh = np.array(re.findall(r"vertex_buffer: (\S+)", text), float).reshape(-1, 5)[:, :3]
    matrix = np.array(re.findall(r"packed_data: (\S+)", text), np.float32).reshape(4, 4).T
    size = (820, 1024)  # of the portrait
    face = Face(size, landmarks * np.float32([*size, size[0]]), np.zeros(52, np.float32), matrix)
    points = head_space(face)[:468]
    mesh = (mesh - (mesh[33] + mesh[263]) / 2) / np.linalg.norm(mesh[33] - mesh[263])
    assert np.corrcoef(points[:, 2], mesh[:, 2])[0, 1] > 0.99999
    assert np.abs(points - mesh)[:, :2].mean() < 0.05
    rotation, translation = head_pose(face)
    np.testing.assert_allclose(np.abs(rotation), [1, 0, 0, 0], atol=0.02)  # the portrait faces the camera
    np.testing.assert_allclose(translation, matrix[:3, 3] / 100)


def test_gaze_signs():
    left = gaze(face_at(iris=5, eyeLookOutLeft=0.5, eyeLookInRight=0.5))
    right = gaze(face_at(iris=-5, eyeLookInLeft=0.5, eyeLookOutRight=0.5))
    # The mean of what the iris and what the weights say.
    assert left[0] == pytest.approx((np.arcsin(2.6 * 5 / 30) + 0.305) / 2, abs=1e-3)
    assert left[0] == pytest.approx(-right[0])
    ahead = gaze(face_at())[1]
    assert gaze(face_at(eyeLookUpLeft=0.5, eyeLookUpRight=0.5))[1] == pytest.approx(ahead + 0.305, abs=1e-6)
    assert gaze(face_at(eyeLookDownLeft=0.5, eyeLookDownRight=0.5))[1] == pytest.approx(ahead - 0.305, abs=1e-6)


def test_gaze_does_not_turn_with_the_head():
    np.testing.assert_allclose(gaze(face_at(about(1, 25), iris=4)), gaze(face_at(iris=4)), atol=1e-6)


def blinking(closed: float) -> Face:
    """As the model sees a blink: the lids close and the eyes seem to look down."""
    names = ("eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight")
    return face_at(**dict.fromkeys(names, 0.05 + 0.8 * closed))


def test_a_blink_does_not_move_the_gaze():
    track = GazeTracker()
    lids = np.concatenate([np.zeros(15), np.hanning(8), np.zeros(15)])  # a blink of 0.27 s at 30 a second
    pitch = np.array([track(blinking(lid), i / 30)[0, 1] for i, lid in enumerate(lids)])
    unheld = np.array([gaze(blinking(lid))[1] for lid in lids])
    assert np.ptp(unheld) > 0.4
    assert np.ptp(pitch) < 0.15


def test_a_blink_does_not_lower_the_lids_twice():
    track = GazeTracker()
    lids = np.concatenate([np.zeros(15), np.hanning(8), np.zeros(15)])
    faces = [blinking(lid) for lid in lids]
    for face in faces:
        face.blendshapes[ARKIT_INDEX["eyeLookOutLeft"]] = 0.3
    held = []
    for i, face in enumerate(faces):
        track(face, i / 30)
        held.append(track.hold(face.blendshapes))
    held, seen = np.array(held), np.array([face.blendshapes for face in faces])
    down = [ARKIT_INDEX["eyeLookDownLeft"], ARKIT_INDEX["eyeLookDownRight"]]
    assert seen[:, down].max() > 0.8
    assert held[:, down].max() < 0.3
    others = np.delete(np.arange(52), down)
    np.testing.assert_array_equal(held[:, others], seen[:, others])


@pytest.mark.parametrize("rest", [0.0, 0.3, 0.5])
def test_a_blink_of_lids_that_rest_low_does_not_move_the_gaze_on_a_cameras_clock(rest):
    """Nor one soon after another, one in which the face is lost for a frame, or one after it was away."""
    track = GazeTracker()
    blink = np.concatenate([np.zeros(10), np.hanning(8)])
    lids = rest + (1 - rest) * np.concatenate([np.zeros(15), blink, blink, np.zeros(15)])
    for start in (5000.0, 9000.0):
        pitch = np.array([track(blinking(lid), start + i / 30)[0, 1] for i, lid in enumerate(lids) if i != 28])
        assert np.ptp(pitch) < 0.06


def test_lowered_eyes_are_followed_after_a_blinks_time():
    track = GazeTracker()
    track(blinking(0.0), 0.0)
    pitches = [track(blinking(0.9), i / 30)[0, 1] for i in range(1, 60)]
    assert pitches[5] == pytest.approx(gaze(blinking(0.0))[1])
    assert pitches[-1] == pytest.approx(gaze(blinking(0.9))[1], abs=0.02)
    assert np.abs(np.diff(pitches)).max() < 0.2
    lowered = blinking(0.9).blendshapes
    for i in range(60, 90):
        track(blinking(0.9), i / 30)
        held = track.hold(lowered)
    np.testing.assert_allclose(held, lids_at_most_shut(lowered), atol=0.02)


@pytest.mark.parametrize(
    ("blink", "down", "wanted"), [(1.0, 0.8, 0.3), (0.5, 0.8, 0.65), (0.0, 1.0, 1.0), (1.0, 0.2, 0.2)]
)
def test_a_shut_lid_is_pushed_no_further_down(blink, down, wanted):
    given = face_at(eyeBlinkLeft=blink, eyeLookDownLeft=down, eyeLookDownRight=down).blendshapes
    expected = given.copy()
    expected[ARKIT_INDEX["eyeLookDownLeft"]] = wanted
    np.testing.assert_allclose(lids_at_most_shut(np.stack((given, given))), np.stack((expected, expected)), rtol=1e-6)
    assert given[ARKIT_INDEX["eyeLookDownLeft"]] == np.float32(down)  # the one given stays


@pytest.mark.data
def test_what_an_iphone_says_of_lids_is_kept(data):
    with (data / "arkit" / "dao_arkit.csv").open() as file:
        rows = np.array([[float(row[name]) for name in ARKIT] for row in csv.DictReader(file)])
    assert rows[:, ARKIT_INDEX["eyeBlinkLeft"]].max() > 0.9
    np.testing.assert_array_equal(lids_at_most_shut(rows), rows)


def test_a_wink_does_not_turn_one_eye():
    track = GazeTracker()
    track(face_at(), 0.0)
    eyes = track(face_at(eyeBlinkLeft=0.9), 1 / 30)
    np.testing.assert_array_equal(eyes[0], eyes[1])


@pytest.mark.data
@needs_model
@pytest.mark.parametrize(
    ("clip", "frames", "blinks", "lowered"),
    [
        ("d3.mp4", 245, (48,), (105, 218)),
        ("d9.mp4", 300, (11, 37, 293), ()),
        ("d14.mp4", 115, (66, 94, 108), ()),
        ("woman2.mp4", 30, (9,), ()),
    ],
)
def test_blinks_of_real_faces_do_not_move_the_gaze_but_lowered_eyes_do(data, clip, frames, blinks, lowered):
    """Frames in which the lids are half shut."""
    with open_source(data / "video" / clip) as source, Landmarker(landmark_model()) as landmarker:
        faces = [(landmarker.detect(f.image, f.time), f.time) for f in itertools.islice(source, frames)]
    track = GazeTracker()
    raw = np.degrees([gaze(face)[1] for face, _time in faces])
    pitch = np.degrees([track(face, time)[0, 1] for face, time in faces])
    for at in blinks:
        before = np.median(raw[at - 8 : at - 2])
        assert raw[at - 2 : at + 7].min() < before - 10, at
        assert pitch[at - 2 : at + 7].min() > before - 9, at
    for at in lowered:
        after = at + round(0.6 * 30)
        assert pitch[after] == pytest.approx(raw[after], abs=2.0), at


@pytest.mark.data
@needs_model
def test_signs_on_real_faces(data):
    """Frames of d10 and d3 in which one can see where the eyes look, and turned and nodding heads."""
    seen = {}
    for clip, wanted in {"d10.mp4": (234, 275), "d3.mp4": (275, 324)}.items():
        with open_source(data / "video" / clip) as source, Landmarker(landmark_model()) as landmarker:
            for frame in source:
                face = landmarker.detect(frame.image, frame.time)
                if frame.index in wanted:
                    seen[clip, frame.index] = face
    assert gaze(seen["d10.mp4", 234])[0] < -0.3  # to her right, the picture's left
    assert gaze(seen["d10.mp4", 275])[0] > 0.3
    assert gaze(seen["d3.mp4", 324])[0] > 0.3
    rotation, _ = head_pose(seen["d3.mp4", 275])
    assert (matrix_from_quaternion(rotation) @ (0, 0, 1))[0] > 0.1  # turned to the picture's right, her left
