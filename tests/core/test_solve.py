"""Solving: no jump, no NaN, no lag; rest taken out, range kept."""

from __future__ import annotations

import dataclasses
import itertools
import types

import numpy as np
import pytest

from mien.core.capture import open_source
from mien.core.head import matrix_from_quaternion, quaternion_from_matrix
from mien.core.pipeline import Pipeline
from mien.core.solve import (
    EASE,
    HOLD,
    MAX_PREDICTION,
    RETURN,
    Neutral,
    Performance,
    SolveOptions,
    Solver,
    hidden_spans,
    solve_take,
)
from mien.core.take import TakeHeader
from mien.core.types import FrameResult
from mien.core.units import ACTION_UNITS, ARKIT, ARKIT_INDEX, UNIT_INDEX, UNITS

from .face_helpers import about, needs_model

JAW = UNIT_INDEX["JawOpen"]
RAW = SolveOptions(smoothing=0.0, neutral="none")
UNSMOOTHED = SolveOptions(smoothing=0.0, neutral="auto")


def result(index, time, units=None, found=True, head=None, eyes=0.0, place=(0.0, 0.0, -0.4)):
    if not found:
        return FrameResult(index, time)
    values = np.zeros(len(UNITS)) if units is None else units
    head = np.eye(3) if head is None else head
    return FrameResult(
        index,
        time,
        found=True,
        confidence=1.0,
        units=values,
        head_rotation=quaternion_from_matrix(head),
        head_translation=place,
        eye_rotations=np.full((2, 2), eyes),
    )


def take_of(results, neutral=None):
    """What `solve_take` needs of a take, from results in memory."""
    results = list(results)
    return types.SimpleNamespace(
        header=TakeHeader("memory", extra={"neutral": neutral.to_dict()} if neutral else {}),
        times=np.array([r.time for r in results]),
        column=lambda name, at=None: np.array(
            [getattr(r, name) if at is None else getattr(r, name)[at] for r in results]
        ),
    )


def jaw(value):
    units = np.zeros(len(UNITS))
    units[JAW] = value
    return units


def gapped(pattern: str, fps=30.0, value=0.8):
    """A face ('x') that comes and goes ('.'), talking all the time, its head turned."""
    for i, mark in enumerate(pattern):
        speech = value * (0.6 + 0.4 * np.sin(i / 5))
        yield result(i, i / fps, jaw(speech), mark == "x", about(1, 30), 0.2)


def steps(performance: Performance) -> float:
    """Largest change of a unit in one frame."""
    return float(np.abs(np.diff(performance.units, axis=0)).max())


def played(results, options=None, neutral=None) -> Performance:
    """Run results through the live solver."""
    solver = Solver(options)
    solver.calibrate(neutral)
    out = [solver.step(r) for r in results]
    return Performance(
        times=np.array([r.time for r in out]),
        found=np.array([r.found for r in out]),
        units=np.array([r.units for r in out]),
        arkit=np.array([r.arkit for r in out]),
        action_units=np.array([r.action_units for r in out]),
        head=np.array([r.head_rotation for r in out]),
        translation=np.array([r.head_translation for r in out]),
        eyes=np.array([r.eye_rotations for r in out]),
    )


PATTERNS = [
    "x" * 30 + "." * 5 + "x" * 30,
    "x" * 30 + "." * 90 + "x" * 30,
    "." * 40 + "x" * 30,
    "x" * 30 + "." * 60,
    "x" * 20 + ".x" * 20 + "..x" * 10,
    "." * 30 + "x.xx.xx" + "." * 30 + "x...x....xx..x.x" * 3,
    "." * 30 + "x" + "." * 40 + "x" + "." * 4 + "x" * 3,
    "x",
    ".",
    "." * 30,
]
TALK = 0.8 * 0.4 / 5  # how fast the made-up speech itself moves, per frame
BOUND = TALK + 0.8 * 1.5 / 30 / min(EASE, RETURN)  # and the steepest ease


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("solve", [lambda r: solve_take(take_of(r), RAW), lambda r: played(r, RAW)])
def test_gaps_are_crossed_without_a_jump(pattern, solve):
    performance = solve(gapped(pattern))
    assert len(performance) == len(pattern)
    assert np.isfinite(performance.units).all()
    if len(pattern) > 1:
        assert steps(performance) <= BOUND * 1.05
        turn = np.abs(np.diff(performance.head, axis=0)).max()
        assert turn <= np.radians(30) / 2 * 1.5 / 30 / min(EASE, RETURN) * 1.1


@pytest.mark.parametrize("pattern", PATTERNS[:4])
def test_recorded_faces_keep_their_values_when_nothing_is_smoothed(pattern):
    raw = list(gapped(pattern))
    performance = solve_take(take_of(raw), RAW)
    for row, r in zip(performance.units, raw, strict=True):
        if r.found:
            np.testing.assert_allclose(row, r.units, atol=1e-6)
    np.testing.assert_array_equal(performance.found, [r.found for r in raw])


@pytest.mark.parametrize("fps", [30, 4])
@pytest.mark.parametrize(
    ("pattern", "spans"),
    [
        ("", []),
        ("sssssssss", []),
        ("ssshhhhhhsss", [(3, 8)]),
        ("shssssss", []),  # a moment
        ("hhhhh...............hhhhhss", [(0, 4), (20, 24)]),
        ("ss....ss", []),  # lost is not hidden
    ],
)
def test_where_a_face_is_hidden(pattern, spans, fps):
    """s is seen, h hidden, a dot no face."""
    results = [
        dataclasses.replace(result(i, i / fps, found=kind != "."), confidence={"s": 0.9, "h": 0.2, ".": 0.0}[kind])
        for i, kind in enumerate(pattern)
    ]
    assert hidden_spans(take_of(results)) == [pytest.approx((a / fps, b / fps)) for a, b in spans]


def test_a_glimpse_of_a_hidden_face_does_not_part_the_stretch():
    results = [
        dataclasses.replace(result(i, i / 30, found=True), confidence=0.9 if i in (5, 12) else 0.2) for i in range(13)
    ]
    assert hidden_spans(take_of(results)) == [pytest.approx((0, 11 / 30))]


def test_long_gap_reaches_neutral():
    pattern = "x" * 30 + "." * 90 + "x" * 30
    for performance in (solve_take(take_of(gapped(pattern)), RAW), played(gapped(pattern), RAW)):
        middle = 30 + round((HOLD + EASE) * 30) + 3
        np.testing.assert_allclose(performance.units[middle], 0, atol=1e-6)
        np.testing.assert_allclose(performance.head[middle], [1, 0, 0, 0], atol=1e-6)
        np.testing.assert_allclose(performance.eyes[middle], 0, atol=1e-6)


@pytest.mark.parametrize("blip", ["x", "xx", "x.x"])
def test_what_looks_like_a_face_for_a_moment_is_none(blip):
    """In face_noface.mov a title passes for a face in one frame, and turned the head by 52 degrees."""
    gone = "." * 30
    without = solve_take(take_of(gapped("x" * 30 + gone + "." * len(blip) + gone)))
    blipped = solve_take(take_of(gapped("x" * 30 + gone + blip + gone)))
    np.testing.assert_array_equal(blipped.units, without.units)
    np.testing.assert_array_equal(blipped.head, without.head)
    assert not blipped.found[30:].any()


@pytest.mark.parametrize("fps", [4, 6])
def test_single_faces_count_where_pictures_are_few(fps):
    pattern = "xxxx.x.xxxxx"
    performance = solve_take(take_of(gapped(pattern, fps)), RAW)
    assert performance.found.tolist() == [mark == "x" for mark in pattern]


@pytest.mark.parametrize("pattern", ["x", "." * 20 + "x" + "." * 20, "x....x....x....x", "x" * 4 + "." * 20 + "x" * 30])
def test_short_sightings_count_where_they_are_all_there_is(pattern):
    performance = solve_take(take_of(gapped(pattern)), RAW)
    assert performance.found.tolist() == [mark == "x" for mark in pattern]


def test_live_pose_is_held_briefly():
    performance = played(gapped("x" * 30 + "." * 30), RAW)
    held = performance.units[29 : 29 + int(HOLD * 30), JAW]
    np.testing.assert_allclose(held, held[0], atol=1e-6)
    assert performance.units[40, JAW] < held[0]


STEADY = "x" * 120
ONE_LOST = [STEADY[:at] + "." + STEADY[at + 1 :] for at in (57, 58, 59, 60)]
FLICKERING = ["xxxx." * 24, "x." * 60, ".x" * 60]


@pytest.mark.parametrize("pattern", ONE_LOST + FLICKERING)
def test_a_face_that_is_lost_for_a_frame_shows_its_blink(pattern):
    lids = [result(i, i / 30, jaw(max(1 - abs(i - 60) / 3, 0)), mark == "x") for i, mark in enumerate(pattern)]
    peak = played(lids, SolveOptions(0.5, "none")).units[:, JAW].max()
    assert peak > (0.6 if pattern in ONE_LOST else 0.4)


@pytest.mark.parametrize(("lost", "within"), [(1, 0.3), (2, 0.6), (4, 1.7)])
@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_the_value_of_a_face_that_flickers_arrives(lost, within, smoothing):
    """Once it is there when the face moves, and once when the face came after a long time."""
    pattern = ("." * lost + "x") * 40
    moved = [result(i, i / 30, jaw(0.9 * (i >= 60)), mark == "x") for i, mark in enumerate(pattern)]
    came = [result(i, i / 30, jaw(0.9), mark == "x" and i >= 60) for i, mark in enumerate(pattern)]
    for results, start in ((moved, 2.0), (came, 2.0 + RETURN)):
        performance = played(results, SolveOptions(smoothing, "none"))
        there = performance.times[performance.units[:, JAW] > 0.8]
        assert there[0] - start < within
        assert performance.units[performance.times > there[0], JAW].min() > 0.8


def test_a_pattern_that_looks_like_a_face_for_a_frame_moves_next_to_nothing():
    once = [result(i, i / 30, jaw(1.0), i == 60) for i in range(120)]
    once[0] = result(0, 0.0, jaw(0.0))
    assert 0.01 < played(once, RAW).units[:, JAW].max() < 0.05


def test_a_face_that_flickers_as_it_comes_is_eased_in():
    for mark in ("x", "x.", "xx.", "x..", "x...", "x...."):
        coming = [result(i, i / 30, jaw(0.8), m == "x") for i, m in enumerate("." * 30 + mark * 30)]
        assert steps(played(coming, RAW)) <= (BOUND - TALK) * 1.05


def test_no_face_at_all_is_neutral():
    performance = solve_take(take_of(gapped("." * 10)))
    assert not performance.units.any()
    np.testing.assert_array_equal(performance.head, np.tile([1, 0, 0, 0], (10, 1)))


def test_recording_without_frames():
    def column(name, at=None):
        field = np.asarray(getattr(FrameResult(0, 0.0), name))
        return np.zeros((0, *(field if at is None else field[at]).shape))

    take = types.SimpleNamespace(header=TakeHeader("memory"), times=np.zeros(0), column=column)
    assert len(solve_take(take)) == 0


def test_quaternions_stay_on_one_side():
    turning = [result(i, i / 30, head=about(1, 6.0 * i)) for i in range(120)]  # two whole turns
    for performance in (solve_take(take_of(turning), RAW), played(turning, RAW)):
        assert (np.sum(performance.head[1:] * performance.head[:-1], axis=1) > 0.9).all()
        np.testing.assert_allclose(np.linalg.norm(performance.head, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(matrix_from_quaternion(performance.head[25]), about(1, 150), atol=1e-5)


def test_smoothing_is_none_at_0_and_grows():
    rng = np.random.default_rng(0)
    noisy = [result(i, i / 30, jaw(np.clip(0.5 + rng.normal(0, 0.02), 0, 1))) for i in range(200)]
    jitter = []
    for smoothing in (0.0, 0.25, 0.5, 0.75, 1.0):
        options = SolveOptions(smoothing, "none")
        jitter.append(solve_take(take_of(noisy), options).units[:, JAW].std())
        if smoothing == 0.5:
            assert played(noisy, options).units[:, JAW].std() < 0.7 * jitter[0]
    assert jitter[0] == pytest.approx(0.02, rel=0.2)
    assert all(a > b for a, b in itertools.pairwise(jitter))
    assert jitter[2] < 0.5 * jitter[0]


def test_a_blink_survives_smoothing():
    """Lids that close for 0.13 s still close, in a recording, at the same frame."""
    blink = UNIT_INDEX["BlinkLeft"]
    lids = np.zeros(60)
    lids[28:33] = 0.5, 1, 1, 1, 0.5
    raw = []
    for i, lid in enumerate(lids):
        units = np.zeros(len(UNITS))
        units[blink] = lid
        raw.append(result(i, i / 30, units))
    recorded = solve_take(take_of(raw), SolveOptions(0.5, "none")).units[:, blink]
    assert recorded.max() > 0.9
    assert recorded.argmax() == 30
    assert played(raw, SolveOptions(0.5, "none")).units[:, blink].max() > 0.8


@pytest.mark.parametrize(("mesh", "wanted"), [(1.0, 0.37), (0.0, 0.85)])
def test_lids_of_captured_faces_are_no_more_than_shut(mesh, wanted):
    """Takes of before have both as the landmark model says them; what a phone sent has no mesh, and stays."""
    arkit = np.zeros(len(ARKIT))
    arkit[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeLookDownLeft"]]] = 0.9, 0.85
    points = mesh * np.random.default_rng(0).random((478, 3))
    results = [dataclasses.replace(result(i, i / 30), arkit=arkit, landmarks=points) for i in range(10)]
    for performance in (solve_take(take_of(results), RAW), played(results, RAW)):
        np.testing.assert_allclose(performance.arkit[:, ARKIT_INDEX["eyeLookDownLeft"]], wanted, atol=1e-6)


def test_rest_becomes_0_and_full_stays_1():
    values = np.concatenate([np.full(60, 0.2), np.linspace(0.2, 1.0, 30), np.full(30, 1.0)])
    raw = [result(i, i / 30, jaw(v)) for i, v in enumerate(values)]
    out = solve_take(take_of(raw), UNSMOOTHED).units[:, JAW]
    assert out[0] == pytest.approx(0, abs=1e-6)
    assert out[-1] == pytest.approx(1)
    np.testing.assert_allclose(out[60:90], (values[60:90] - 0.2) / 0.8, atol=1e-5)


@pytest.mark.parametrize(("count", "shown"), [(1, 0.4), (20, 0.4), (40, 0.0)])
def test_a_picture_or_a_moment_shows_no_rest(count, shown):
    performance = solve_take(take_of([result(i, i / 30, jaw(0.4)) for i in range(count)]))
    assert performance.units[:, UNITS.index("JawOpen")] == pytest.approx(np.full(count, shown), abs=0.01)


def test_a_face_that_smiles_throughout_still_smiles():
    raw = [result(i, i / 30, jaw(0.9)) for i in range(60)]
    assert solve_take(take_of(raw), UNSMOOTHED).units[:, JAW].min() > 0.7


@pytest.mark.parametrize(
    "solve", [lambda r, rest: solve_take(take_of(r, rest), UNSMOOTHED), lambda r, rest: played(r, UNSMOOTHED, rest)]
)
def test_a_calibrated_head_and_gaze_are_straight_ahead(solve):
    tilt = about(0, 20)  # a camera below the face
    rest = Neutral.of([result(0, 0.0, head=tilt, eyes=0.1)])
    turned = [result(i, i / 30, head=tilt @ about(1, 15), eyes=0.15) for i in range(30)]
    performance = solve(turned, rest)
    np.testing.assert_allclose(matrix_from_quaternion(performance.head[-1]), about(1, 15), atol=1e-5)
    np.testing.assert_allclose(performance.eyes[-1], 0.05, atol=1e-6)


def test_eyes_look_straight_ahead_where_they_rest():
    looks = np.repeat([0.1, 0.3], (60, 30))
    raw = [result(i, i / 30, eyes=look) for i, look in enumerate(looks)]
    eyes = solve_take(take_of(raw), UNSMOOTHED).eyes
    np.testing.assert_allclose(eyes, np.broadcast_to(looks[:, None, None] - 0.1, eyes.shape), atol=1e-6)


def test_live_rest_is_found_and_comes_in_slowly():
    raw = [result(i, i / 30, jaw(0.3)) for i in range(600)]
    out = played(raw, UNSMOOTHED).units[:, JAW]
    assert out[0] == pytest.approx(0.3)
    assert out[-1] == pytest.approx(0, abs=0.01)
    assert np.abs(np.diff(out)).max() < 0.006


def test_prediction_carries_no_jump_far_on():
    raw = [result(i, i / 30, jaw(0.5 * (i >= 30))) for i in range(60)]
    out = played(raw, dataclasses.replace(RAW, prediction=MAX_PREDICTION)).units[:, JAW]
    assert out.max() == pytest.approx(0.5 + 0.15)
    assert out[-1] == pytest.approx(0.5, abs=0.01)


def test_level_head_takes_the_mean_tilt_out():
    tilt = about(0, 20)  # a camera below the face
    swing = [about(1, 10 * np.sin(i / 10)) for i in range(378)]
    raw = [result(i, i / 30, head=tilt @ turn) for i, turn in enumerate(swing)]
    level = SolveOptions(0.0, "none", level_head=True)
    heads = matrix_from_quaternion(solve_take(take_of(raw), level).head)
    np.testing.assert_allclose(heads, swing, atol=0.02)
    live = matrix_from_quaternion(played(raw, level).head)
    np.testing.assert_allclose(live[-1], swing[-1], atol=0.12)
    assert np.abs(np.diff(live, axis=0)).max() < 0.1


def test_frames_out_of_order_are_given_as_the_one_before():
    solver = Solver(RAW)
    solver.step(result(0, 0.0, jaw(0.1)))
    first = solver.step(result(1, 1.0, jaw(0.5)))
    again = solver.step(result(2, 1.0, jaw(0.9)))
    np.testing.assert_array_equal(first.units, again.units)


def test_reset_forgets():
    solver = Solver(SolveOptions(1.0, "none"))
    for i in range(30):
        solver.step(result(i, i / 30, jaw(0.0)))
    solver.reset()
    assert solver.step(result(0, 0.0, jaw(0.8))).units[JAW] == pytest.approx(0.8)


def test_bad_options():
    with pytest.raises(ValueError, match="smoothing"):
        SolveOptions(smoothing=1.5)
    with pytest.raises(ValueError, match="neutral"):
        SolveOptions(neutral="maybe")


def test_performance_checks_its_arrays():
    good = dict(
        times=np.arange(2.0),
        found=np.ones(2, bool),
        units=np.zeros((2, len(UNITS)), np.float32),
        arkit=np.zeros((2, len(ARKIT)), np.float32),
        action_units=np.zeros((2, len(ACTION_UNITS)), np.float32),
        head=np.tile(np.float32([1, 0, 0, 0]), (2, 1)),
        translation=np.zeros((2, 3), np.float32),
        eyes=np.zeros((2, 2, 2), np.float32),
    )
    assert len(Performance(**good)) == 2
    with pytest.raises(ValueError, match="units must have shape"):
        Performance(**good | {"units": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="finite"):
        Performance(**good | {"eyes": np.full((2, 2, 2), np.nan)})
    with pytest.raises(ValueError, match="grow"):
        Performance(**good | {"times": np.zeros(2)})


@pytest.mark.data
@needs_model
def test_blinks_of_a_real_face_are_no_looks_down(data):
    with open_source(data / "video" / "d10.mp4") as source, Pipeline() as pipeline:
        results = list(pipeline.run(itertools.islice(source, 360)))
    shapes = solve_take(take_of(results)).arkit
    blink, down = shapes[:, ARKIT_INDEX["eyeBlinkLeft"]], shapes[:, ARKIT_INDEX["eyeLookDownLeft"]]
    shut = np.flatnonzero(blink > 0.8)
    assert len(shut) > 4
    assert down[shut].max() < 0.35  # an iPhone: 0.33
    # Around them she looks down less than when she does so with open eyes.
    near = np.unique(np.clip(shut[:, None] + np.arange(-6, 7), 0, len(down) - 1))
    assert down[near].max() < down[blink < 0.4].max()


@pytest.mark.data
@needs_model
def test_a_tilted_head_reads_as_an_upright_one(data):
    """d3 opens her eyes wide; the same meshes are tilted by 30 degrees."""
    with open_source(data / "video" / "d3.mp4") as source, Pipeline() as pipeline:
        upright = list(pipeline.run(itertools.islice(source, 150)))
    tilt = about(2, 30)
    tilted = [
        dataclasses.replace(
            r,
            landmarks=(r.landmarks * (1, -1, -1)) @ tilt.T * (1, -1, -1),
            head_rotation=quaternion_from_matrix(tilt @ matrix_from_quaternion(r.head_rotation)),
        )
        for r in upright
    ]

    def shown(results):
        solver = Solver(SolveOptions(0.0))
        solver.calibrate(Neutral.of(upright[60:80]))
        return np.array([solver.step(r).units for r in results])

    wanted, got = shown(upright), shown(tilted)
    wide = UNIT_INDEX["EyeWide"]
    assert np.percentile(wanted[:, wide], 95) > 0.8
    assert np.abs(got - wanted).max() < 0.05


@pytest.mark.data
@needs_model
@pytest.mark.parametrize("name", ["face_noface.mov", "noface_face.mov"])
def test_face_that_leaves_or_enters(data, name):
    with open_source(data / "video" / name) as source, Pipeline() as pipeline:
        raw = [pipeline.step(frame) for frame in source]
    found = np.array([r.found for r in raw])
    assert 0.3 < found.mean() < 0.6
    both = found[1:] & found[:-1]
    own = np.abs(np.diff([r.units for r in raw], axis=0)).max(axis=1)[both].max()
    step = np.diff([r.time for r in raw]).max()
    bound = own + 1.5 * step / min(EASE, RETURN)
    for performance in (solve_take(take_of(raw)), played(raw)):
        assert np.isfinite(performance.units).all()
        assert steps(performance) <= bound
        gone = performance.units[~found]
        assert (gone.max(axis=1) < 1e-3).mean() > 0.5  # mostly neutral while away
