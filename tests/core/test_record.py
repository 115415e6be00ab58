"""The frame record: what goes in comes out, closely enough, at every size of picture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mien.core.record import CHANNELS, FRAME_DTYPE, LABELS, decode, neutral, pack, plain, sane, unpack
from mien.core.types import FrameResult
from mien.core.units import ACTION_UNITS, ARKIT, EXPRESSIONS, UNITS

OWN = ("smirk", "Zoë's grin")

TABLE = Path(__file__).parents[2] / "docs" / "take-format.md"


def result(rng, index=7, size=(640, 480), extent=1.0, expression="fear", own=""):
    """A result with every field filled, its face as large as `extent` times the picture."""
    rotation = rng.normal(size=4)
    scale = np.array([*size, max(size)]) * extent
    return FrameResult(
        index=index,
        time=index / 30,
        found=True,
        confidence=rng.random(),
        size=size,
        box=rng.normal(size=4) * 1000,
        landmarks=(rng.random((478, 3)) - [0.1, 0.1, 0.5]) * scale,
        points68=(rng.random((68, 2)) - 0.1) * scale[:2],
        head_rotation=rotation / np.linalg.norm(rotation),
        head_translation=rng.normal(size=3),
        eye_rotations=rng.normal(size=(2, 2)),
        action_units=rng.random(len(ACTION_UNITS)),
        arkit=rng.random(len(ARKIT)),
        units=rng.random(len(UNITS)),
        expression=expression,
        probabilities=rng.dirichlet(np.ones(len(EXPRESSIONS))),
        own=own,
    )


@pytest.mark.parametrize("size", [(16, 16), (320, 240), (640, 480), (1080, 1920), (3840, 2160)])
@pytest.mark.parametrize("extent", [0.05, 1.0, 3.0])
def test_round_trip_is_precise(size, extent):
    rng = np.random.default_rng(1)
    for _ in range(20):
        before = result(rng, size=size, extent=extent)
        after = unpack(pack(before))
        for name in ("index", "time", "found", "size", "expression"):
            assert getattr(after, name) == getattr(before, name)
        for name in ("box", "head_rotation", "head_translation", "eye_rotations"):
            assert np.array_equal(getattr(after, name), getattr(before, name))
        for name in (*CHANNELS, "confidence"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-5)
        points = np.concatenate([before.landmarks[:, :2], before.points68])
        span = max(np.ptp(points, axis=0).max(), np.ptp(before.landmarks[:, 2]))
        # Half a step, and the rounding of float32 itself at these magnitudes.
        allowed = span / 131000 + 2 * np.spacing(np.float32(np.abs(points).max()))
        np.testing.assert_allclose(after.landmarks, before.landmarks, atol=allowed)
        np.testing.assert_allclose(after.points68, before.points68, atol=allowed)


def test_a_face_filling_a_4k_picture_keeps_a_thirtieth_of_a_pixel():
    rng = np.random.default_rng(2)
    landmarks = rng.random((478, 3)) * 3840
    after = unpack(pack(FrameResult(0, 0.0, landmarks=landmarks)))
    assert np.abs(after.landmarks - landmarks).max() < 1 / 30


def test_a_frame_without_a_face_is_exact():
    after = unpack(pack(FrameResult(3, 0.1, size=(4, 5))))
    before = FrameResult(3, 0.1, size=(4, 5))
    for name in before.__slots__:
        assert np.array_equal(getattr(after, name), getattr(before, name)), name


@pytest.mark.parametrize("label", LABELS)
def test_every_label_survives(label):
    assert unpack(pack(FrameResult(0, 0.0, expression=label))).expression == label


@pytest.mark.parametrize("own", ["", *OWN])
def test_an_expression_of_the_actors_own_is_its_place_among_the_names(own):
    record = pack(FrameResult(0, 0.0, own=own), OWN)
    assert record["own"] == ("", *OWN).index(own)
    assert unpack(record, OWN).own == own
    # One that is not among the names is none: it was learnt after the take began.
    assert unpack(pack(FrameResult(0, 0.0, own=own))).own == ""
    with pytest.raises(ValueError, match="own"):
        FrameResult(0, 0.0, own=None)


def test_packing_again_gives_the_same_picture():
    """A take that is read and written again must not drift."""
    before = unpack(pack(result(np.random.default_rng(3))))
    after = before
    for _ in range(5):
        after = unpack(pack(after))
    np.testing.assert_allclose(after.landmarks, before.landmarks, atol=0.01)
    for name in CHANNELS:
        assert np.array_equal(getattr(after, name), getattr(before, name))


def test_columns_equal_single_frames():
    rng = np.random.default_rng(4)
    results = [result(rng, index=i, own=("", *OWN)[i % 3]) for i in range(5)]
    records = np.array([pack(one, OWN) for one in results], FRAME_DTYPE)
    for name in FrameResult.__slots__:
        column = decode(records, name, OWN)
        for i, record in enumerate(records):
            assert np.array_equal(column[i], getattr(unpack(record, OWN), name)), name


@pytest.mark.parametrize(("index", "size"), [(-1, (1, 1)), (2**32, (1, 1)), (0, (65536, 1))])
def test_what_does_not_fit_is_refused(index, size):
    with pytest.raises(ValueError, match="fit"):
        pack(FrameResult(index, 0.0, size=size))


@pytest.mark.parametrize("name", ["nothing", "step", "origin", "__class__"])
def test_unknown_column_is_refused(name):
    with pytest.raises(KeyError):
        decode(neutral(1), name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", np.nan),
        ("found", 2),
        ("expression", len(LABELS)),
        ("own", len(OWN) + 1),
        ("head_rotation", (0, 0, 0, 0)),
        ("head_translation", (0, np.inf, 0)),
        ("box", (np.nan, 0, 0, 0)),
        ("origin", (3e38, 0, 0)),
        ("step", -1),
        ("step", 3e38),
    ],
)
def test_impossible_values_are_noticed(field, value):
    records = neutral(2)
    records[field][1] = value
    assert sane(records, OWN).tolist() == [True, False]
    with pytest.raises(ValueError, match="impossible"):
        unpack(records[1], OWN)


def test_plain_reads_the_same():
    rng = np.random.default_rng(5)
    for label in LABELS:
        record = pack(result(rng, expression=label))
        whole = unpack(record)
        for read in (plain(record.reshape(1)), plain(b"abc" + record.tobytes(), 3)):
            assert (read.time, read.found, read.expression) == (whole.time, whole.found, whole.expression)
            assert read.probability == pytest.approx(whole.probabilities.max(), abs=1e-6)
            assert read.confidence == pytest.approx(whole.confidence, abs=1e-6)
            for mine, theirs in (("head", "head_rotation"), ("eyes", "eye_rotations"), ("units",) * 2, ("arkit",) * 2):
                assert np.array_equal(np.float32(getattr(read, mine)), getattr(whole, theirs)), mine


def test_plain_refuses_what_is_not_sane():
    """The two ways to check a record agree, with one byte after another made wrong."""
    rng = np.random.default_rng(6)
    good = pack(result(rng)).tobytes()
    end = FRAME_DTYPE.fields["landmarks"][1]
    refused = 0
    for at in range(end):
        for value in (0, 127, 128, 255, int(rng.integers(256))):
            data = good[:at] + bytes([value]) + good[at + 1 :]
            if sane(np.frombuffer(data, FRAME_DTYPE))[0]:
                plain(data)
                continue
            refused += 1
            with pytest.raises(ValueError, match="impossible"):
                plain(data)
    assert refused > 50


def test_any_bytes_are_refused_or_a_valid_result():
    rng = np.random.default_rng(5)
    good = np.frombuffer(pack(result(rng)).tobytes(), np.uint8)
    refused = 0
    for _ in range(500):
        damaged = good.copy()
        damaged[rng.integers(0, 324, 4)] = rng.integers(0, 256, 4)
        try:
            unpack(damaged.view(FRAME_DTYPE)[0])
        except ValueError:
            refused += 1
    assert 50 < refused < 450


def test_the_documented_bytes_are_the_record_s():
    section = TABLE.read_text(encoding="utf-8").split("## Record")[1].split("##")[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([a-z]+)(\d+)([^|]*)\| `(\w+)`", section, re.MULTILINE)
    kinds = {"u": "uint", "i": "int", "f": "float"}
    documented = [(name, int(at), int(size), kind, int(bits), dims) for at, size, kind, bits, dims, name in rows]
    actual = []
    for name in FRAME_DTYPE.names:
        dtype, at = FRAME_DTYPE.fields[name][:2]
        dims = "".join(f" \N{MULTIPLICATION SIGN} {n}" for n in dtype.shape) + " "
        actual.append((name, at, dtype.itemsize, kinds[dtype.base.kind], dtype.base.itemsize * 8, dims))
    assert documented == actual
    assert f"The record's {FRAME_DTYPE.itemsize} bytes" in section
    for number, label in enumerate(LABELS):
        assert f"{number} {label or 'none'}" in section
