"""The capture job: what becomes of the take however the job ends."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from mien.core import jobs
from mien.core.capture.loop import LoopSource
from mien.core.errors import MienError
from mien.core.take import Take
from mien.core.types import Frame, FrameResult

posix = pytest.mark.skipif(sys.platform == "win32", reason="named pipes and links")


class Pictures:
    """A source without a file."""

    name, size, fps, incomplete, notices = "pictures", (8, 6), 25.0, False, ()

    def __init__(self, count, error_at=None, error=None):
        self.frame_count = count
        self._error_at, self._error = error_at, error
        self.closed = False

    def __iter__(self):
        for i in range(self.frame_count):
            if i == self._error_at:
                raise self._error
            yield Frame(i, i / self.fps, np.zeros((6, 8, 3), np.uint8))

    def close(self):
        self.closed = True


class Faces:
    """A pipeline that finds a face in every frame, or in none."""

    def __init__(self, found=True, notices=()):
        self.found = found
        self.labeller = None
        self.notices = notices
        self.settings = {"estimator": "landmark"}

    def run(self, frames):
        for frame in frames:
            yield FrameResult(frame.index, frame.time, found=self.found, size=(8, 6))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_capture(tmp_path):
    path = tmp_path / "a.mien"
    results, reports = [], []
    summary = jobs.record(Pictures(40), Faces(), path, on_result=results.append, on_progress=reports.append)
    assert (summary.frames, summary.found, summary.take) == (40, 40, str(path))
    assert summary.duration == pytest.approx(39 / 25)
    assert files(tmp_path) == ["a.mien"]
    assert [result.index for result in results] == list(range(40))
    assert (reports[-1].frame, reports[-1].total, reports[-1].seconds_left) == (40, 40, 0.0)
    with Take(path) as take:
        assert len(take) == 40
        assert (take.header.source, take.header.fps, take.header.size) == ("pictures", 25.0, (8, 6))


def test_every_frame_is_in_the_take_before_it_is_told(tmp_path):
    part = tmp_path / "a.mien.part"

    def on_result(result):
        with Take(part) as take:
            assert take[-1].index == result.index

    jobs.record(Pictures(5), Faces(), tmp_path / "a.mien", on_result=on_result)


def test_cancel_leaves_nothing_and_keeps_the_take_from_before(tmp_path):
    path = tmp_path / "a.mien"
    jobs.record(Pictures(3), Faces(), path)
    asked = iter([False] * 4 + [True])
    with pytest.raises(MienError) as caught:
        jobs.record(Pictures(10), Faces(), path, is_cancelled=lambda: next(asked))
    assert caught.value.code == "cancelled"
    assert files(tmp_path) == ["a.mien"]
    with Take(path) as take:
        assert len(take) == 3


def test_a_job_cancelled_before_its_turn_loads_nothing(tmp_path):
    reports = []
    with pytest.raises(MienError) as caught:
        jobs.capture("x", tmp_path / "a.mien", on_progress=reports.append, is_cancelled=lambda: True)
    assert (caught.value.code, reports) == ("cancelled", [])


def test_what_a_capture_had_to_do_without_is_in_its_summary(tmp_path):
    notice = MienError("model-missing", "The model is missing.", "Install it again.")
    source = Pictures(3)
    source.notices = ("Some are left out.",)
    summary = jobs.record(source, Faces(notices=[notice]), tmp_path / "a.mien")
    assert summary.notices == ("Some are left out.", "The model is missing. Install it again.")
    assert summary.to_dict()["notices"] == list(summary.notices)
    with Take(tmp_path / "a.mien") as take:
        assert take.header.extra["estimator"] == "landmark"


@pytest.mark.parametrize(("source", "faces", "code"), [(5, False, "no-face"), (0, True, "no-pictures")])
def test_a_useless_take_is_not_kept(tmp_path, source, faces, code):
    with pytest.raises(MienError) as caught:
        jobs.record(Pictures(source), Faces(faces), tmp_path / "a.mien")
    assert caught.value.code == code
    assert caught.value.hint
    assert files(tmp_path) == []


def test_an_error_keeps_the_frames_so_far_and_says_where(tmp_path):
    source = Pictures(10, error_at=6, error=MienError("video-damaged", "It is damaged.", "Copy it again."))
    with pytest.raises(MienError) as caught:
        jobs.record(source, Faces(), tmp_path / "a.mien")
    assert caught.value.code == "video-damaged"
    assert caught.value.hint.startswith("Copy it again.")
    assert str(tmp_path / "a.mien.part") in caught.value.hint
    with Take(tmp_path / "a.mien.part") as take:
        assert len(take) == 6


def test_an_error_before_the_first_frame_leaves_nothing(tmp_path):
    source = Pictures(10, error_at=0, error=MienError("video-damaged", "It is damaged."))
    with pytest.raises(MienError, match=r"It is damaged\.$"):
        jobs.record(source, Faces(), tmp_path / "a.mien")
    assert files(tmp_path) == []


def test_a_bug_keeps_the_frames_so_far(tmp_path):
    with pytest.raises(ZeroDivisionError):
        jobs.record(Pictures(10, 6, ZeroDivisionError()), Faces(), tmp_path / "a.mien")
    with Take(tmp_path / "a.mien.part") as take:
        assert len(take) == 6


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(MienError) as caught:
        jobs.record(Pictures(3), Faces(), tmp_path / "nowhere" / "a.mien")
    assert caught.value.code == "take-not-written"


def test_a_take_that_cannot_be_replaced(tmp_path):
    place = tmp_path / "a.mien"
    with pytest.raises(MienError) as caught:
        # It comes to be in the way while the capture runs.
        jobs.record(Pictures(3), Faces(), place, on_result=lambda _: place.mkdir(exist_ok=True))
    assert caught.value.code == "take-not-written"
    with Take(tmp_path / "a.mien.part") as take:
        assert len(take) == 3


@posix
def test_a_take_goes_into_a_pipe_and_the_pipe_stays(tmp_path):
    place = tmp_path / "pipe"
    os.mkfifo(place)
    came = []
    reader = threading.Thread(target=lambda: came.append(place.read_bytes()))
    reader.start()
    jobs.record(Pictures(3), Faces(), place)
    reader.join(10)
    assert place.is_fifo()
    (tmp_path / "copy.mien").write_bytes(came[0])
    with Take(tmp_path / "copy.mien") as take:
        assert len(take) == 3
    assert files(tmp_path) == ["copy.mien", "pipe"]


@posix
def test_a_pipe_that_closes_keeps_nothing_and_stays(tmp_path):
    place = tmp_path / "pipe"
    os.mkfifo(place)
    reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(MienError) as caught:
        jobs.record(Pictures(9), Faces(), place, on_result=lambda result: result.index == 3 and os.close(reader))
    assert caught.value.code == "take-not-written"
    assert "kept" not in caught.value.hint
    assert place.is_fifo()


@posix
def test_a_link_stays_and_what_it_points_to_is_the_take(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "a.mien"
    link.symlink_to(tmp_path / "disk" / "b.mien")
    for count in (3, 4):  # once without what it points to
        assert jobs.record(Pictures(count), Faces(), link).take == str(link)
        assert link.is_symlink()
        with Take(tmp_path / "disk" / "b.mien") as take:
            assert len(take) == count
    assert files(tmp_path / "disk") == ["b.mien"]


def test_an_actors_file_that_is_not_there_is_told_before_anything_is_opened(tmp_path):
    reports = []
    with pytest.raises(MienError) as caught:
        jobs.capture("x", tmp_path / "a.mien", on_progress=reports.append, actor=tmp_path / "Zoë.npz")
    assert (caught.value.code, reports) == ("actor-not-found", [])
    assert "Zoë.npz" in caught.value.message


def test_ctrl_c_leaves_nothing(tmp_path):
    def on_result(result):
        if result.index == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.record(Pictures(10), Faces(), tmp_path / "a.mien", on_result=on_result)
    assert files(tmp_path) == []


def test_looping_goes_on_in_time_and_closes_what_it_opened():
    opened = []

    def opener():
        opened.append(Pictures(5))
        return opened[-1]

    with LoopSource(opener, 1.0) as source:
        frames = list(source)
        assert source.frame_count == 25
    assert [frame.index for frame in frames] == list(range(25))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(25) / 25)
    assert len(opened) >= 5
    assert all(source.closed for source in opened)


def test_looping_an_empty_source_ends():
    assert list(LoopSource(lambda: Pictures(0), 10.0)) == []


@pytest.mark.data
def test_the_real_thing(data, tmp_path):
    path = tmp_path / "a.mien"
    summary = jobs.capture(data / "video" / "single_face.mp4", path)
    assert summary.found > 0
    assert summary.to_dict()["take"] == os.fspath(path)
    with Take(path) as take:
        assert len(take) == summary.frames
        assert np.all(np.diff(take.times) > 0)


@pytest.mark.data
def test_a_real_clip_looped(data, tmp_path):
    with Take(jobs.capture(data / "video" / "single_face.mp4", tmp_path / "a.mien", loop=2.0).take) as take:
        assert np.all(np.diff(take.times) > 0)
        assert 1.8 < take.duration < 2.0
