"""Action units from how far a face has moved from its own rest."""

from __future__ import annotations

import numpy as np
import pytest

from mien.core import relative
from mien.core.head import quaternion_from_matrix
from mien.core.units import ACTION_UNITS, ARKIT, ARKIT_INDEX, AU_INDEX

from .face_helpers import about

REST = np.array([0.15, 0.15, 0.17, 0.17, 0.10, 0.10, -0.05, -0.05, -0.40, -0.60, 0.55, 0.30, -0.02])
NOTHING = np.zeros((1, len(ACTION_UNITS))), np.zeros((1, len(ARKIT)))
STRAIGHT = np.zeros(1)


def refined(change, action_units=NOTHING[0], turn=STRAIGHT):
    units, shapes = relative.refine(action_units, NOTHING[1], REST[None] + change, REST, turn)
    assert units.min() >= 0
    assert units.max() <= 1
    return units[0], shapes[0]


def changed(**by):
    change = np.zeros(relative.MEASURES)
    for name, value in by.items():
        change[getattr(relative, name)] = value
    return change


def points(rng, count=5):
    """Random faces, with the eye corners where eyes are."""
    faces = rng.normal(size=(count, len(relative.POINTS), 3)) * 20 + 200
    faces[:, list(relative.POINTS).index(263)] = (250, 200, 0)
    faces[:, list(relative.POINTS).index(33)] = (150, 200, 0)
    return faces


def test_a_face_at_rest_shows_nothing():
    units, shapes = refined(changed())
    assert not units.any()
    assert not shapes.any()


def test_each_movement_shows_as_its_action_unit():
    for change, unit, shape in (
        (changed(INNER_BROW=-0.05, OUTER_BROW=-0.05), "AU4L", "browDownLeft"),
        (changed(APERTURE=0.04), "AU5R", "eyeWideRight"),
        (changed(LOWER_LID=0.03), "AU6L", "cheekSquintLeft"),
        (changed(APERTURE=-0.10), "AU45R", "eyeBlinkRight"),
        (changed(DROP=0.06), "AU15L", "mouthFrownLeft"),
        (changed(INNER_BROW=-0.05, OUTER_BROW=-0.05, WING=0.02, LIP=0.03), "AU9L", "noseSneerLeft"),
    ):
        units, shapes = refined(change)
        assert units[AU_INDEX[unit]] == pytest.approx(1), unit
        assert shapes[ARKIT_INDEX[shape]] == pytest.approx(1), shape


def test_what_one_movement_brings_along_does_not_count_as_another():
    down = {"INNER_BROW": -0.05, "OUTER_BROW": -0.05}
    for change, unit, wanted in (
        (changed(LOWER_LID=0.03, APERTURE=-0.1), "AU6L", 0),  # lids that close
        (changed(APERTURE=0.02, INNER_BROW=0.1, OUTER_BROW=0.1), "AU5L", 0),  # brows that take the lids along
        (changed(WING=0.02, LIP=0.03, **down), "AU4L", 0.4),  # a wrinkled nose that takes the brows along
    ):
        assert refined(change)[0][AU_INDEX[unit]] == pytest.approx(wanted), unit
    open_jaw = NOTHING[0].copy()
    open_jaw[0, AU_INDEX["AU26"]] = 1
    assert refined(changed(DROP=0.06), open_jaw)[0][AU_INDEX["AU15L"]] == 0


def test_brows_that_draw_together_furrow_though_they_hardly_lower():
    low = {"INNER_BROW": -0.01, "OUTER_BROW": -0.01}
    assert refined(changed(**low))[0][AU_INDEX["AU4L"]] < 0.1
    assert refined(changed(GAP=-0.03, **low))[0][AU_INDEX["AU4L"]] == pytest.approx(1)


def test_one_side_leaves_the_other_alone():
    change = changed()
    change[relative.APERTURE] = (-0.1, 0.0)
    units, _ = refined(change)
    assert units[AU_INDEX["AU45L"]] == pytest.approx(1)
    assert units[AU_INDEX["AU45R"]] == 0


def test_a_lifted_lip_alone_is_no_wrinkled_nose():
    units, _ = refined(changed(WING=0.02, LIP=0.03))
    assert units[AU_INDEX["AU9L"]] == 0


def test_a_pout_that_is_not_narrow_is_no_pucker():
    pout = NOTHING[0].copy()
    pout[0, AU_INDEX["AU18"]] = 0.9
    assert refined(changed(), pout)[0][AU_INDEX["AU18"]] == 0
    assert refined(changed(WIDTH=-0.2), pout)[0][AU_INDEX["AU18"]] == pytest.approx(0.9)


def test_raised_brows_need_brows_above_rest():
    raised = NOTHING[0].copy()
    raised[0, [AU_INDEX["AU1L"], AU_INDEX["AU2L"]]] = 0.8
    assert not refined(changed(), raised)[0][:4].any()
    up, _ = refined(changed(INNER_BROW=0.1, OUTER_BROW=0.1), raised)
    assert up[AU_INDEX["AU1L"]] == up[AU_INDEX["AU2L"]] == pytest.approx(0.8)


def test_one_raised_inner_brow_is_half_of_arkits_shape_for_both():
    for side in ("AU1L", "AU1R"):
        raised = NOTHING[0].copy()
        raised[0, AU_INDEX[side]] = 0.8
        units, shapes = refined(changed(INNER_BROW=0.1), raised)
        assert units[AU_INDEX[side]] == pytest.approx(0.8)
        assert shapes[ARKIT_INDEX["browInnerUp"]] == pytest.approx(0.4)


def test_a_head_turned_far_away_is_left_to_the_model():
    estimated = np.full((1, len(ACTION_UNITS)), 0.3)
    units, _ = refined(changed(INNER_BROW=-0.05, OUTER_BROW=-0.05, APERTURE=-0.1), estimated, np.array([60.0]))
    np.testing.assert_allclose(units, 0.3)


def test_a_tilted_head_has_not_turned():
    rest = about(0, 10)
    for rotation, wanted in (
        (rest, 0),
        (rest @ about(2, 40), 0),  # tilted by itself
        (about(1, 25) @ rest, 25 * np.cos(np.radians(10))),
        (rest @ about(1, 25), 25),
        (rest @ about(0, -50), 50),
        (rest @ about(1, 180), 180),
    ):
        angle = relative.turn(quaternion_from_matrix(rotation), quaternion_from_matrix(rest))
        assert angle == pytest.approx(wanted, abs=0.2)


def test_each_measure_is_of_its_own_points():
    """Points placed by hand, the outer eye corners 100 apart; each measure has another value."""
    up = {
        **{263: 0, 362: 4, 33: 0, 133: 0},  # eye corners
        **{336: 20, 296: 20, 107: 10, 66: 10, 334: 24, 293: 24, 105: 12, 63: 12, 285: 20, 55: 20},  # brows
        **{385: 6, 386: 6, 387: 6, 158: 4, 159: 4, 160: 4},  # upper lids
        **{380: -5, 374: -5, 373: -5, 153: -3, 145: -3, 144: -3},  # lower lids
        **{358: -30, 129: -20, 0: -50, 13: -55, 14: -57, 291: -61, 61: -61},  # nose and mouth
    }
    left = {263: 50, 33: -50, 362: 15, 133: -15, 291: 25, 61: -25, 285: 8, 55: -8}
    face = [(left.get(point, 0), -up[point], 0) for point in relative.POINTS.tolist()]
    np.testing.assert_allclose(
        relative.measure([face], [(1, 0, 0, 0)])[0],
        [0.18, 0.10, 0.22, 0.12, 0.11, 0.07, -0.07, -0.03, -0.26, -0.51, 0.50, 0.16, 0.05],
        atol=1e-9,
    )


def test_measures_do_not_change_with_size_place_or_turn():
    rng = np.random.default_rng(1)
    faces = points(rng)
    straight = np.tile((1.0, 0, 0, 0), (len(faces), 1))
    measured = relative.measure(faces, straight)
    np.testing.assert_allclose(relative.measure(faces * 2.5 + 40, straight), measured, atol=1e-9)
    angle = 0.4
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    flip = np.array([1.0, -1, -1])  # the picture's axes against the head's
    turned = ((faces * flip) @ turn.T) * flip
    rotation = np.tile(quaternion_from_matrix(turn), (len(faces), 1))
    np.testing.assert_allclose(relative.measure(turned, rotation), measured, atol=1e-9)


def test_no_mesh_no_measures():
    nothing = relative.measure(np.zeros((2, len(relative.POINTS), 3)), np.tile((1.0, 0, 0, 0), (2, 1)))
    assert np.isnan(nothing).all()
    with pytest.raises(ValueError, match="points must be"):
        relative.measure(np.zeros((2, 5, 3)), np.tile((1.0, 0, 0, 0), (2, 1)))
