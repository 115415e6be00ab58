"""Live Link Face CSV: what is written is read back, and what the app writes is read."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from mien.core import livelink_csv as llf
from mien.core.action_units import from_arkit
from mien.core.errors import MienError
from mien.core.fusion import fuse
from mien.core.head import quaternion_from_matrix
from mien.core.solve import Performance
from mien.core.units import ARKIT, ARKIT_INDEX

from .face_helpers import about


@pytest.fixture
def performance():
    rng = np.random.default_rng(0)
    count = 90
    arkit = rng.random((count, len(ARKIT))).astype(np.float32)
    units = from_arkit(arkit)
    heads = [quaternion_from_matrix(about(1, 20 * np.sin(i / 9)) @ about(0, 10 * np.cos(i / 7))) for i in range(count)]
    return Performance(
        times=np.arange(count) / 60,
        found=np.ones(count, bool),
        units=fuse(units),
        arkit=arkit,
        action_units=units,
        head=np.array(heads, np.float32),
        translation=np.zeros((count, 3), np.float32),
        eyes=rng.uniform(-0.4, 0.4, (count, 2, 2)).astype(np.float32),
    )


def test_round_trip(performance, tmp_path):
    path = tmp_path / "take.csv"
    assert llf.export(performance, path, fps=60) == len(performance)
    back = llf.load(path)
    for field in dataclasses.fields(Performance):
        np.testing.assert_allclose(
            getattr(back, field.name).astype(float), getattr(performance, field.name).astype(float), atol=2e-5
        )


def test_header_and_cells_are_the_apps(performance, tmp_path):
    path = tmp_path / "take.csv"
    llf.export(performance, path)
    rows = list(csv.reader(path.open()))
    assert len(rows[0]) == 63
    assert rows[0][:5] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft"]
    assert rows[0][16:20] == ["JawForward", "JawRight", "JawLeft", "JawOpen"]
    assert rows[0][53:57] == ["TongueOut", "HeadYaw", "HeadPitch", "HeadRoll"]
    assert rows[0][-1] == "RightEyeRoll"
    assert rows[1][:2] == ["00:00:00:00.000", "61"]
    assert rows[61][0] == "00:00:01:00.000"


def test_signs_of_the_angles(performance, tmp_path):
    """Turned to the actor's left, nodding down, top leaning to the actor's right; eyes left and up."""
    heads = [np.eye(3), about(1, 20), about(0, 20), about(2, 20)]
    few = {field.name: getattr(performance, field.name)[:4] for field in dataclasses.fields(Performance)}
    few["head"] = np.array([quaternion_from_matrix(head) for head in heads], np.float32)
    few["eyes"] = np.tile(np.float32([0.2, 0.1]), (4, 2, 1))
    path = tmp_path / "take.csv"
    llf.export(Performance(**few), path)
    rows = list(csv.DictReader(path.open()))
    assert float(rows[1]["HeadYaw"]) == pytest.approx(np.radians(20), abs=1e-5)
    assert float(rows[2]["HeadPitch"]) == pytest.approx(-np.radians(20), abs=1e-5)
    assert float(rows[3]["HeadRoll"]) == pytest.approx(-np.radians(20), abs=1e-5)
    assert float(rows[0]["LeftEyeYaw"]) == pytest.approx(-0.2, abs=1e-5)
    assert float(rows[0]["LeftEyePitch"]) == pytest.approx(-0.1, abs=1e-5)


@pytest.mark.parametrize(
    ("seconds", "fps", "text"),
    [
        (0.0, 60, "00:00:00:00.000"),
        (1.5, 60, "00:00:01:30.000"),
        (3661.25, 24, "01:01:01:06.000"),
        (0.999999999, 30, "00:00:01:00.000"),
        (0.1, 24, "00:00:00:02.400"),
    ],
)
def test_timecode(seconds, fps, text):
    assert llf.timecode(seconds, fps) == text


def test_resampling_keeps_the_shape(performance, tmp_path):
    path = tmp_path / "take.csv"
    smooth = dataclasses.replace(
        performance, arkit=np.tile((np.arange(90) / 89.0)[:, None], (1, len(ARKIT))).astype(np.float32)
    )
    assert llf.export(smooth, path, fps=24) == 36
    back = llf.load(path, fps=24)
    np.testing.assert_allclose(back.arkit[:, 0], back.times * 60 / 89, atol=1e-4)


@pytest.mark.data
def test_a_real_take(data, tmp_path):
    source = data / "arkit" / "dao_arkit.csv"
    header = source.read_text().splitlines()[0].split(",")
    assert {name.lower() for name in header} == {name.lower() for name in llf.COLUMNS}
    take = llf.load(source, fps=60)
    assert len(take) == 180
    assert take.times[-1] == pytest.approx(179 / 60)
    path = tmp_path / "again.csv"
    llf.export(take, path)
    back = llf.load(path)
    np.testing.assert_allclose(back.arkit, take.arkit, atol=1e-6)
    np.testing.assert_allclose(back.eyes, take.eyes, atol=1e-5)
    np.testing.assert_allclose(back.head, take.head, atol=1e-5)
    look = take.arkit[:, ARKIT_INDEX["eyeLookOutLeft"]] - take.arkit[:, ARKIT_INDEX["eyeLookInLeft"]]
    assert np.corrcoef(look, take.eyes[:, 0, 0])[0, 1] > 0.999  # yaw is positive to the actor's left
    assert take.units.max() > 0.8


def write(path, rows):
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return path


def app_rows(codes):
    return [llf.HEADER, *([code, "61"] + ["0.1"] * 61 for code in codes)]


def test_times_of_the_app(tmp_path):
    codes = ["23:59:59:58.250", "23:59:59:59.250", "00:00:00:00.250", "00:00:00:00.250", "00:00:00:02.250"]
    times = llf.load(write(tmp_path / "a.csv", app_rows(codes)), fps=60).times
    np.testing.assert_allclose(times, [0, 1 / 60, 2 / 60, 2 / 60 + 0.001, 4 / 60], atol=1e-9)


def test_rate_is_read_off_the_frames(tmp_path):
    codes = [f"00:00:{s:02d}:{f:02d}.000" for s in range(4) for f in range(30)]
    times = llf.load(write(tmp_path / "a.csv", app_rows(codes))).times
    np.testing.assert_allclose(times, np.arange(120) / 30, atol=1e-9)


def test_last_row_that_was_cut_is_left_out(tmp_path):
    rows = app_rows(["00:00:00:00.000", "00:00:00:01.000"])
    rows[-1] = rows[-1][:20]
    assert len(llf.load(write(tmp_path / "a.csv", rows))) == 1


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "csv-not-livelink"),
        ([["a", "b"], ["1", "2"]], "csv-not-livelink"),
        ([llf.HEADER], "csv-damaged"),
        (app_rows(["0:0"]), "csv-damaged"),
        ([llf.HEADER, ["00:00:00:00.000", "61", *["x"] * 61]], "csv-damaged"),
        ([llf.HEADER, ["00:00:00:00.000", "61", *["nan"] * 61]], "csv-damaged"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, rows, code):
    with pytest.raises(MienError) as caught:
        llf.load(write(tmp_path / "a.csv", rows))
    assert caught.value.code == code


def test_paths_that_do_not_work(performance, tmp_path):
    for call, code in (
        (lambda: llf.load(tmp_path / "none.csv"), "csv-not-found"),
        (lambda: llf.load(tmp_path), "csv-not-read"),
        (lambda: llf.export(performance, tmp_path / "none" / "a.csv"), "csv-not-written"),
        (lambda: llf.export(performance, tmp_path / "a.csv", fps=0), "bad-fps"),
    ):
        with pytest.raises(MienError) as caught:
            call()
        assert caught.value.code == code
