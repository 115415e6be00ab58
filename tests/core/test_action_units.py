"""Blendshapes and mesh to action units, action units to expression units."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mien.core.action_units import FROM_ARKIT, BlendshapeEstimator, from_arkit
from mien.core.capture import open_source
from mien.core.fusion import FUSION, fuse
from mien.core.pipeline import Pipeline
from mien.core.units import ACTION_UNITS, ARKIT, ARKIT_INDEX, AU_INDEX, UNIT_INDEX, UNITS

from .face_helpers import face_at, needs_model

ESTIMATOR = BlendshapeEstimator()


def estimate(**shapes) -> dict[str, float]:
    return dict(zip(ACTION_UNITS, ESTIMATOR.estimate(face_at(**shapes)), strict=True))


def test_every_arkit_shape_with_a_facs_meaning_is_used():
    gaze_or_sideways = {name for name in ARKIT if name.startswith("eyeLook")}
    gaze_or_sideways |= {"mouthLeft", "mouthRight", "mouthShrugUpper"}
    unused = {name for i, name in enumerate(ARKIT) if not FROM_ARKIT[:, i].any()}
    assert unused == gaze_or_sideways
    silent = {name for i, name in enumerate(ACTION_UNITS) if not FROM_ARKIT[i].any()}
    assert silent == {"AU23"}


BOTH_SIDES = {
    "browOuterUp": "AU2",
    "browDown": "AU4",
    "eyeWide": "AU5",
    "cheekSquint": "AU6",
    "eyeSquint": "AU7",
    "noseSneer": "AU9",
    "mouthUpperUp": "AU10",
    "mouthSmile": "AU12",
    "mouthDimple": "AU14",
    "mouthFrown": "AU15",
    "mouthLowerDown": "AU16",
    "mouthStretch": "AU20",
    "mouthPress": "AU24",
    "jaw": "AU30",
    "eyeBlink": "AU45",
}
MEANING = {
    "browInnerUp": {"AU1L": 1, "AU1R": 1},
    "mouthShrugLower": {"AU17": 1},
    "mouthPucker": {"AU18": 1},
    "tongueOut": {"AU19": 1},
    "mouthFunnel": {"AU22": 1},
    "jawOpen": {"AU25": 1, "AU26": 1, "AU27": 1},
    "mouthRollLower": {"AU28": 0.5},
    "mouthRollUpper": {"AU28": 0.5},
    "jawForward": {"AU29": 1},
    "cheekPuff": {"AU34L": 1, "AU34R": 1},
    **{shape + side: {unit + side[0]: 1} for shape, unit in BOTH_SIDES.items() for side in ("Left", "Right")},
    "mouthLowerDownLeft": {"AU16L": 1, "AU25": 0.25},
    "mouthLowerDownRight": {"AU16R": 1, "AU25": 0.25},
}
"""What each ARKit shape alone is in FACS; shapes that are not here are nothing."""


def measured(**shapes) -> dict[str, float]:
    """The action units that an iPhone's shapes show, without those that they do not."""
    weights = np.zeros(len(ARKIT))
    weights[[ARKIT_INDEX[name] for name in shapes]] = list(shapes.values())
    return {name: float(value) for name, value in zip(ACTION_UNITS, from_arkit(weights), strict=True) if value}


@pytest.mark.parametrize("shape", ARKIT)
def test_each_arkit_shape_is_its_action_units(shape):
    assert measured(**{shape: 1}) == MEANING.get(shape, {})


def test_a_jaw_drops_before_it_stretches_and_closed_lips_hide_it():
    assert measured(jawOpen=0.35) == pytest.approx({"AU25": 0.525, "AU26": 0.5})
    assert measured(jawOpen=0.8) == pytest.approx({"AU25": 1, "AU26": 1, "AU27": 0.5})
    assert measured(jawOpen=0.7, mouthClose=0.35) == pytest.approx({"AU25": 0.525, "AU26": 0.5})


def test_sides_do_not_mix():
    for i, unit in enumerate(ACTION_UNITS):
        for j, shape in enumerate(ARKIT):
            if FROM_ARKIT[i, j] and shape.endswith(("Left", "Right")) and unit[-1] in "LR":
                assert shape.endswith("Left") == (unit[-1] == "L"), (unit, shape)


def test_estimates_stay_in_range_and_grow():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = ESTIMATOR.estimate(face_at(**dict(zip(ARKIT, rng.random(52), strict=True))))
        assert values.shape == (len(ACTION_UNITS),)
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1
    for shape, unit in {"eyeBlinkLeft": "AU45L", "jawOpen": "AU26", "mouthSmileRight": "AU12R"}.items():
        grown = [estimate(**{shape: weight})[unit] for weight in np.linspace(0, 1, 11)]
        assert (np.diff(grown) >= 0).all()
        assert grown[0] == 0
        assert grown[-1] == 1


def test_live_range_of_real_faces_is_full_range():
    """Weights as read on frames where the eye is shut, open at rest, and the mouth wide open."""
    assert estimate(eyeBlinkLeft=0.64)["AU45L"] == 1
    assert estimate(eyeBlinkLeft=0.14)["AU45L"] == 0
    assert estimate(jawOpen=0.93)["AU27"] == pytest.approx(1)
    assert estimate(jawOpen=0.55, mouthClose=0.49)["AU26"] < 0.1  # lips closed over a dropped jaw


def test_no_smile_no_duchenne_squint():
    assert estimate(eyeSquintLeft=0.9)["AU6L"] == 0
    assert estimate(eyeSquintLeft=0.7, mouthSmileLeft=0.7)["AU6L"] == 1


def test_a_smile_is_no_nose_wrinkle():
    assert estimate(mouthUpperUpLeft=0.7, mouthSmileLeft=0.9)["AU9L"] == 0
    assert estimate(mouthUpperUpLeft=0.8, browDownLeft=0.7)["AU9L"] > 0.9


def test_mouth_corners_below_the_lips_are_a_frown():
    face = face_at()
    low = face.landmarks.copy()
    low[[61, 291], 1] += 0.045 * 90  # y runs down; the eyes' outer corners are 90 px apart
    frown = ESTIMATOR.estimate(type(face)(face.size, low, face.blendshapes, face.matrix))
    assert frown[AU_INDEX["AU15L"]] == pytest.approx(1, abs=1e-3)
    assert ESTIMATOR.estimate(face)[AU_INDEX["AU15L"]] == 0


def test_from_arkit_of_batches_and_bad_shapes():
    arkit = np.random.default_rng(1).random((4, 5, 52))
    values = from_arkit(arkit)
    assert values.shape == (4, 5, len(ACTION_UNITS))
    np.testing.assert_allclose(values[2, 3], from_arkit(arkit[2, 3]), atol=1e-6)
    with pytest.raises(ValueError, match="arkit must be"):
        from_arkit(np.zeros(51))


@pytest.mark.data
def test_golden_blendshapes_frown_with_the_brows(data):
    """The published portrait: brows down 0.9 and no smile reads as AU4."""
    text = (data / "golden" / "face_blendshapes_out.prototxt").read_text()
    scores = dict(zip(re.findall(r'label: "(\w+)"', text), map(float, re.findall(r"score: (\S+)", text)), strict=True))
    scores.pop("_neutral")
    values = estimate(**{name: value for name, value in scores.items() if name in ARKIT_INDEX})
    units = dict(zip(UNITS, fuse(np.array(list(values.values()))), strict=True))
    assert max(units, key=units.get) == "BrowFurrow"
    assert units["BrowFurrow"] > 0.9


# --- fusion


def test_fusion_is_one_matrix_with_limits():
    assert FUSION.shape == (len(UNITS), len(ACTION_UNITS))
    rng = np.random.default_rng(0)
    values = rng.random((100, len(ACTION_UNITS))).astype(np.float32)
    np.testing.assert_allclose(fuse(values), np.clip(values @ FUSION.T, 0, 1), atol=1e-6)
    assert not fuse(np.zeros(len(ACTION_UNITS))).any()


def test_every_unit_reaches_one_by_its_own_action_units_alone():
    for unit in UNITS:
        own = FUSION[UNIT_INDEX[unit]] > 0
        assert own.any()
        assert fuse(own.astype(float))[UNIT_INDEX[unit]] == pytest.approx(1, abs=1e-6)


def test_both_sides_count_alike_and_blinks_are_their_own():
    for unit in UNITS:
        if unit.startswith("Blink"):
            continue
        for i, name in enumerate(ACTION_UNITS):
            if name.endswith("L"):
                assert FUSION[UNIT_INDEX[unit], i] == FUSION[UNIT_INDEX[unit], AU_INDEX[name[:-1] + "R"]]
    left = np.zeros(len(ACTION_UNITS))
    left[AU_INDEX["AU45L"]] = 1
    assert dict(zip(UNITS, fuse(left), strict=True)) == {unit: float(unit == "BlinkLeft") for unit in UNITS}


@pytest.mark.parametrize(
    ("unit", "full", "against"),
    [
        ("EyeWide", ("AU5L", "AU5R"), ("AU45L", "AU45R")),
        ("Frown", ("AU15L", "AU15R", "AU17"), ("AU12L", "AU12R")),
        ("CheekSquint", ("AU7L", "AU7R"), ("AU45L", "AU45R")),
        ("NoseWrinkle", ("AU10L", "AU10R"), ("AU12L", "AU12R")),
        ("Smile", ("AU12L", "AU12R"), ("AU15L", "AU15R")),
        ("Pucker", ("AU18",), ("AU28",)),
    ],
)
def test_what_cannot_be_seen_together_is_kept_apart(unit, full, against):
    values = np.zeros(len(ACTION_UNITS))
    values[[AU_INDEX[name] for name in full]] = 1
    alone = fuse(values)[UNIT_INDEX[unit]]
    values[[AU_INDEX[name] for name in against]] = 1
    assert fuse(values)[UNIT_INDEX[unit]] < alone - 0.2


@pytest.mark.parametrize("half", ["AU1", "AU2"])
def test_inner_and_outer_brows_are_half_a_raise_each(half):
    values = np.zeros(len(ACTION_UNITS))
    values[[AU_INDEX[half + side] for side in "LR"]] = 1
    assert fuse(values)[UNIT_INDEX["BrowRaise"]] == pytest.approx(0.5)


def test_fusion_of_bad_shapes():
    with pytest.raises(ValueError, match="action_units must be"):
        fuse(np.zeros(5))


# --- on real faces


@pytest.mark.data
@needs_model
def test_expressions_that_can_be_seen(data):
    """Frames picked by eye; each names units that must and must not show."""
    wanted = {
        ("d18.mp4", 88): ({"JawOpen": 0.9}, {"Smile": 0.2, "Frown": 0.2, "BlinkLeft": 0.2}),
        ("d18.mp4", 95): ({"BlinkLeft": 0.8, "BlinkRight": 0.8}, {"EyeWide": 0.1}),
        ("d18.mp4", 125): ({"Smile": 0.7, "JawOpen": 0.6, "CheekSquint": 0.6}, {"Pucker": 0.1, "Frown": 0.1}),
        ("d18.mp4", 174): ({"Frown": 0.6}, {"Smile": 0.05, "JawOpen": 0.1}),
        ("d9.mp4", 124): ({"Pucker": 0.8}, {"Smile": 0.1, "JawOpen": 0.1}),
        ("d9.mp4", 298): ({"Smile": 0.9, "CheekSquint": 0.3}, {"Frown": 0.05, "NoseWrinkle": 0.15}),
        ("d9.mp4", 484): ({"BrowRaise": 0.6}, {"BrowFurrow": 0.1}),
    }
    for clip in sorted({clip for clip, _ in wanted}):
        with open_source(data / "video" / clip) as source, Pipeline() as pipeline:
            results = {frame.index: pipeline.step(frame) for frame in source}
        for (name, index), (present, absent) in wanted.items():
            if name == clip:
                units = dict(zip(UNITS, results[index].units, strict=True))
                for unit, least in present.items():
                    assert units[unit] >= least, (clip, index, unit, units)
                for unit, most in absent.items():
                    assert units[unit] <= most, (clip, index, unit, units)
