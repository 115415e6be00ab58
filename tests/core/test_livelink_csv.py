"""Live Link Face CSV: what is written is read back, and what the app writes becomes a take."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from mien.core import jobs
from mien.core import livelink_csv as llf
from mien.core.action_units import from_arkit
from mien.core.errors import MienError
from mien.core.fusion import fuse
from mien.core.head import quaternion_from_matrix
from mien.core.pictures import heard_in
from mien.core.solve import Performance
from mien.core.take import Take
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


def column(recording, name):
    """One field of every frame, as of a take."""
    return np.array([getattr(result, name) for result in recording])


FIELDS = {
    "time": "times",
    "found": "found",
    "units": "units",
    "arkit": "arkit",
    "action_units": "action_units",
    "head_rotation": "head",
    "head_translation": "translation",
    "eye_rotations": "eyes",
}


def assert_same(recording, performance, atol=2e-5):
    for name, solved in FIELDS.items():
        expected = getattr(performance, solved).astype(float)
        np.testing.assert_allclose(column(recording, name).astype(float), expected, atol=atol, err_msg=name)


def test_round_trip(performance, tmp_path):
    path = tmp_path / "take.csv"
    assert llf.export(performance, path, fps=60) == len(performance)
    back = llf.load(path)
    assert (back.name, back.fps, back.incomplete, back.notices) == ("take.csv", 60.0, False, ())
    assert column(back, "index").tolist() == list(range(90))
    assert_same(back, performance)


def test_a_csv_becomes_a_take_and_a_csv_again(performance, tmp_path):
    path, again = tmp_path / "take.csv", tmp_path / "again.csv"
    llf.export(performance, path, fps=60)
    reports = []
    summary = jobs.capture(path, tmp_path / "a.mien", on_progress=reports.append)
    assert (summary.frames, summary.found, summary.incomplete, summary.notices) == (90, 90, False, ())
    assert (reports[-1].frame, reports[-1].total) == (90, 90)
    with Take(tmp_path / "a.mien") as take:
        assert (take.header.source, take.header.fps, take.header.size) == ("take.csv", 60.0, (0, 0))
        assert_same(take, performance)
        assert set(take.column("confidence")) == {1.0}
        assert llf.export(take, again, fps=60) == 90
    np.testing.assert_allclose(column(llf.load(again), "arkit"), column(llf.load(path), "arkit"), atol=2e-5)


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
    np.testing.assert_allclose(column(back, "arkit")[:, 0], back.times * 60 / 89, atol=1e-4)


@pytest.mark.data
def test_a_real_take(data, tmp_path):
    source = data / "arkit" / "dao_arkit.csv"
    header = source.read_text().splitlines()[0].split(",")
    assert {name.lower() for name in header} == {name.lower() for name in llf.COLUMNS}
    read = llf.load(source, fps=60)
    assert len(read) == 180
    assert read.times[-1] == pytest.approx(179 / 60)
    arkit, eyes = column(read, "arkit"), column(read, "eye_rotations")
    look = arkit[:, ARKIT_INDEX["eyeLookOutLeft"]] - arkit[:, ARKIT_INDEX["eyeLookInLeft"]]
    assert np.corrcoef(look, eyes[:, 0, 0])[0, 1] > 0.999  # yaw is positive to the actor's left
    assert column(read, "units").max() > 0.8
    path = tmp_path / "again.csv"
    jobs.capture(source, tmp_path / "a.mien", fps=60)
    with Take(tmp_path / "a.mien") as take:
        assert llf.export(take, path) == 180
    back = llf.load(path)
    for name, atol in (("arkit", 1e-5), ("eye_rotations", 1e-5), ("head_rotation", 1e-5), ("time", 1e-5)):
        np.testing.assert_allclose(column(back, name), column(read, name), atol=atol)


def write(path, rows, end="\n", encoding="utf-8"):
    path.write_bytes("".join(",".join(row) + end for row in rows).encode(encoding))
    return path


def app_rows(codes):
    return [llf.HEADER, *([code, "61"] + ["0.1"] * 61 for code in codes)]


def times_of(tmp_path, codes, fps=None):
    return llf.load(write(tmp_path / "a.csv", app_rows(codes)), fps).times


def test_times_of_the_app(tmp_path):
    codes = ["23:59:59:58.250", "23:59:59:59.250", "00:00:00:00.250", "00:00:00:00.250", "00:00:00:02.250"]
    for fps in (None, 60):
        times = times_of(tmp_path, codes, fps)
        np.testing.assert_allclose(times, [0, 1 / 60, 2 / 60, 2 / 60 + 0.001, 4 / 60], atol=1e-9)


@pytest.mark.parametrize("fps", [10, 12, 15, 20, 24, 25, 30, 37, 48, 50, 60, 90, 120, 240])
@pytest.mark.parametrize("seconds", [1.5, 5.0])
def test_rate_is_read_off_the_frames(tmp_path, fps, seconds):
    count = round(seconds * fps)
    codes = [llf.timecode(45296.4 + i / fps, fps) for i in range(count)]
    read = llf.load(write(tmp_path / "a.csv", app_rows(codes)))
    np.testing.assert_allclose(read.times, np.arange(count) / fps, atol=2e-3 / fps)
    assert (read.fps, read.notices) == (pytest.approx(fps, rel=1e-3), ())


def test_rate_of_rows_that_are_not_the_timecodes(tmp_path):
    """A phone that records 30 rows a second, and misses some, under a timecode of 60; and the other way round."""
    at = np.delete(np.arange(300) / 29.997, [15, 16, 40, 77, 133, 134, 135, 180])
    times = times_of(tmp_path, [llf.timecode(47584.5277 + t, 60) for t in at])
    np.testing.assert_allclose(times, at, atol=1e-4)
    at = np.arange(300) / 60
    np.testing.assert_allclose(times_of(tmp_path, [llf.timecode(t, 24) for t in at]), at, atol=1e-4)


@pytest.mark.parametrize(("first", "fps"), [("00:00:00:03.000", 60), ("00:00:00:70.000", 71)])
def test_a_recording_too_short_to_tell_its_rate_says_so(tmp_path, first, fps):
    read = llf.load(write(tmp_path / "a.csv", app_rows(["00:00:00:01.000", first])))
    assert f"so {fps} frames a second are assumed" in read.notices[0]
    assert llf.load(tmp_path / "a.csv", fps=120).notices == ()


def test_rates_that_are_not_whole(tmp_path):
    """59.94 counts frames 0 to 59; drop-frame leaves numbers out, so that it keeps up with the clock."""
    codes = [f"00:00:{s:02d}:{f:02d}" for s in range(3) for f in range(60)]
    np.testing.assert_allclose(times_of(tmp_path, codes, 59.94), np.arange(180) / 59.94, atol=1e-9)
    codes = ["00:59:59;28", "00:59:59;29", "01:00:00;00", "01:00:00;01"]  # a tenth minute
    np.testing.assert_allclose(times_of(tmp_path, codes), np.arange(4) * 1.001 / 30, atol=1e-9)
    codes = ["23:58:59;28", "23:58:59;29", "23:59:00;02", "23:59:00;03"]
    np.testing.assert_allclose(times_of(tmp_path, codes, 29.97), np.arange(4) / 29.97, atol=1e-9)
    codes = ["23:59:59;59", "00:00:00;00", "00:00:00;01"]
    np.testing.assert_allclose(times_of(tmp_path, codes, 59.94), np.arange(3) / 59.94, atol=1e-9)


def test_a_clock_that_is_set_back_goes_on(tmp_path):
    codes = ["10:00:00:00", "10:00:00:01", "09:00:00:30", "09:00:00:31"]
    np.testing.assert_allclose(times_of(tmp_path, codes, 60), np.arange(4) / 60, atol=1e-9)


def test_last_row_that_was_cut_is_left_out(tmp_path):
    rows = app_rows(["00:00:00:00.000", "00:00:00:01.000"])
    rows[-1] = rows[-1][:20]
    read = llf.load(write(tmp_path / "a.csv", rows))
    assert (len(read), read.incomplete) == (1, True)
    assert jobs.capture(tmp_path / "a.csv", tmp_path / "a.mien").incomplete


def test_rows_without_a_face(tmp_path):
    """As the app writes them, with and without commas, or without a count that says so."""
    rows = app_rows([f"00:00:00:{i:02d}.000" for i in range(6)])
    rows[2] = [rows[2][0], "0"]
    rows[3] = [rows[3][0], "0", *[""] * 61]
    rows[4] = [rows[4][0], "61", *[""] * 61]
    rows[6] = [rows[6][0], "0"]
    path = write(tmp_path / "a.csv", rows)
    summary = jobs.capture(path, tmp_path / "a.mien")
    assert (summary.frames, summary.found, summary.incomplete) == (6, 2, False)
    with Take(tmp_path / "a.mien") as take:
        assert take.column("found").tolist() == [True, False, False, False, True, False]
        assert take.column("confidence").tolist() == take.column("found").tolist()
        assert not take.column("arkit")[1].any()
        np.testing.assert_allclose(take.times, np.arange(6) / 60)


def test_what_other_programs_make_of_it(tmp_path):
    """A byte order mark, Windows' line ends, spaces, blank lines, columns more, in another order and case, or fewer."""
    names = [name.lower() for name in llf.HEADER if not name.endswith(("EyeYaw", "EyePitch", "EyeRoll", "Count"))]
    row = dict.fromkeys(("comment", *reversed(names), " take "), "0")
    row |= {"comment": '"a, b"', "timecode": "00:00:00:00", "eyelookoutleft": " 0.5", "headyaw": "0.25"}
    lines = [row, [], row.values(), [" "], (row | {"timecode": "00:00:00:01"}).values()]
    path = write(tmp_path / "a.csv", lines, "\r\n", "utf-8-sig")
    read = llf.load(path)
    assert column(read, "arkit")[:, ARKIT_INDEX["eyeLookOutLeft"]].tolist() == [0.5, 0.5]
    assert column(read, "eye_rotations")[0].tolist() == [[pytest.approx(0.305), 0], [0, 0]]  # from the look weights
    assert column(read, "head_rotation")[0, 2] == pytest.approx(np.sin(0.125))


def test_no_timecode_at_all(tmp_path):
    rows = [row[2:] for row in app_rows([""] * 3)]
    for fps, step in ((None, 1 / 60), (24, 1 / 24)):
        np.testing.assert_allclose(llf.load(write(tmp_path / "a.csv", rows), fps).times, np.arange(3) * step)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "csv-not-livelink"),
        ([["a", "b"], ["1", "2"]], "csv-not-livelink"),
        ([llf.HEADER], "csv-damaged"),
        (app_rows(["0:0"]), "csv-damaged"),
        ([llf.HEADER, ["00:00:00:00.000", "61", *["x"] * 61]], "csv-damaged"),
        ([llf.HEADER, ["00:00:00:00.000", "61", *["nan"] * 61]], "csv-damaged"),
        ([llf.HEADER, ["00:00:00:00.000", "61", *["20"] * 61]], "csv-damaged"),
        ([llf.HEADER, ["00:00:00:00.000", "0"]], "csv-no-face"),
        ([["Filename", "Timecode"], ["a", "00:00:00:00"]], "csv-not-livelink"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, rows, code):
    with pytest.raises(MienError) as caught:
        llf.load(write(tmp_path / "a.csv", rows))
    assert caught.value.code == code
    assert caught.value.hint
    with pytest.raises(MienError):
        jobs.capture(tmp_path / "a.csv", tmp_path / "a.mien")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    "cells", [["00:00:00:01", "61", "0.5"], ["1", "61", *["0"] * 61], ["00:00:00:01", "61", *"x" * 61]]
)
def test_the_line_that_is_damaged_is_told(tmp_path, cells):
    rows = app_rows([f"00:00:00:{i:02d}.000" for i in range(3)])
    rows[2] = cells
    with pytest.raises(MienError, match="damaged in line 3"):
        llf.load(write(tmp_path / "a.csv", rows))


def test_a_rate_too_low_for_the_frames_is_refused(tmp_path):
    with pytest.raises(MienError, match="frames up to 59, too many for 30") as caught:
        times_of(tmp_path, ["00:00:00:59", "00:00:01:00"], 30)
    assert caught.value.code == "bad-fps"


def test_an_actors_expressions_need_pictures(performance, tmp_path):
    actor, path = tmp_path / "Zoë.npz", tmp_path / "take.csv"
    actor.touch()
    llf.export(performance, path)
    summary = jobs.capture(path, tmp_path / "a.mien", actor=actor)
    assert summary.notices == ("The actor's own expressions are not labelled: a CSV has no pictures.",)


def test_the_sound_of_a_recording_lies_beside_it(tmp_path):
    table, film = tmp_path / "Take 1.CSV", tmp_path / "film.mp4"
    assert (heard_in(table), heard_in(film), heard_in(tmp_path)) == (None, film, None)
    for name in ("Take 2.mov", "take.wav", "Take 1.jpg", "Take 1.MOV"):
        (tmp_path / name).touch()
    assert heard_in(table) == tmp_path / "Take 1.MOV"
    (tmp_path / "Take 1.wav").touch()
    assert heard_in(table) == tmp_path / "Take 1.wav"
    assert heard_in(tmp_path / "none" / "a.csv") is None


def test_paths_that_do_not_work(performance, tmp_path):
    binary = tmp_path / "film.csv"
    binary.write_bytes(bytes(range(256)) * 100)
    for call, code in (
        (lambda: llf.load(tmp_path / "none.csv"), "csv-not-found"),
        (lambda: llf.load(tmp_path), "csv-not-read"),
        (lambda: llf.load(binary), "csv-not-read"),
        (lambda: llf.export(performance, tmp_path / "none" / "a.csv"), "csv-not-written"),
        (lambda: llf.export(performance, tmp_path / "a.csv", fps=0), "bad-fps"),
    ):
        with pytest.raises(MienError) as caught:
            call()
        assert caught.value.code == code
