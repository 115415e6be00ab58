"""Sources: timing as the file says, and an error with a code for everything that is wrong."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from mien.core.capture import ImageSequence, VideoFile, open_source, read_ahead
from mien.core.capture.loop import LoopSource
from mien.core.capture.video import _next_time
from mien.core.errors import MienError
from mien.core.opencv import cv2
from mien.core.points68 import read_points
from mien.core.types import Frame
from mien.tests.needs import needs_ffmpeg


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def presentation_times(path) -> np.ndarray:
    """Times of a file's pictures from its first, as ffprobe gives them."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time"]
    out = subprocess.run([*command, "-of", "json", str(path)], check=True, capture_output=True, text=True).stdout
    times = np.array([float(frame["best_effort_timestamp_time"]) for frame in json.loads(out)["frames"]])
    return times - times[0]


def picture(width=64, height=48, value=0) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (200, 30, value)  # red on the left
    return image


def write_picture(path, image):
    ok, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert ok
    path.write_bytes(data)


def write_video(path, count=12, size=(64, 48), fps=25.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    for i in range(count):
        writer.write(cv2.cvtColor(picture(*size, value=i), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4")


def code_of(path, **options) -> str:
    with pytest.raises(MienError) as caught:
        with open_source(path, **options) as source:
            list(source)
    assert caught.value.message
    assert caught.value.hint
    return caught.value.code


def test_video_frames_are_rgb_in_order_and_timed(clip):
    with open_source(clip) as source:
        assert (source.name, source.size, source.fps, source.frame_count) == ("clip.mp4", (64, 48), 25.0, 12)
        frames = list(source)
        assert not source.incomplete
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 25)
    red, _, blue = frames[0].image[24, 10]
    assert red > 150 > 60 > blue


def test_video_can_be_read_twice(clip):
    with open_source(clip) as source:
        assert len(list(source)) == len(list(source)) == 12


@pytest.mark.data
@needs_ffmpeg
@pytest.mark.parametrize("name", ["face_noface.mov", "noface_face.mov", "woman2.mp4", "WolfgangLanger_Pexels.mp4"])
def test_times_are_the_files_own(data, name):
    with open_source(data / "video" / name) as source:
        times = np.array([frame.time for frame in source])
    expected = presentation_times(data / "video" / name)
    assert len(times) == len(expected)
    np.testing.assert_allclose(times, expected, atol=1e-3)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_and_late_start_keep_their_timing(tmp_path, suffix):
    path = tmp_path / f"vfr.{suffix}"
    drop = "select='not(mod(n,3))+not(mod(n,7))',setpts=PTS+0.5/TB"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=3:r=25:s=64x48", "-vf", drop, "-vsync", "vfr", path)
    with open_source(path) as source:
        times = np.array([frame.time for frame in source])
        assert not source.incomplete
    np.testing.assert_allclose(times, presentation_times(path), atol=1.5e-3)
    assert len(np.unique(np.diff(times).round(3))) > 1


@needs_ffmpeg
def test_rotation_in_the_metadata_is_honoured(tmp_path):
    flat, turned = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:r=25:s=64x48", flat)
    ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", "rotate=90", turned)
    with open_source(flat) as before, open_source(turned) as after:
        assert (before.size, after.size) == ((64, 48), (48, 64))
        first, second = next(iter(before)).image, next(iter(after)).image
    rotation = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream_side_data=rotation", "-of", "csv=p=0", str(turned)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    np.testing.assert_array_equal(second, np.rot90(first, int(float(rotation)) // 90))  # both count counter-clockwise


@needs_ffmpeg
@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1, 64, 0), lambda picture: picture[:, ::-1]),
        ((1, 0, 0, -1, 0, 48), lambda picture: picture[::-1]),
        ((0, 1, 1, 0, 0, 0), lambda picture: picture.swapaxes(0, 1)),
    ],
)
def test_mirrored_tracks_are_shown_as_players_show_them(tmp_path, matrix, shown):
    """The matrix of a track says where x, y and the first corner go (14496-12, 8.3.2)."""
    flat, mirrored = tmp_path / "flat.mp4", tmp_path / "mirrored.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:r=25:s=64x48", flat)
    data = bytearray(flat.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for place, number in zip((0, 1, 3, 4, 6, 7), matrix, strict=True):
        struct.pack_into(">i", data, at + 4 * place, number << 16)
    mirrored.write_bytes(data)
    with open_source(flat) as before, open_source(mirrored) as after:
        expected, found = shown(next(iter(before)).image), next(iter(after)).image
        assert after.size == found.shape[1::-1]
    np.testing.assert_array_equal(found, expected)


@needs_ffmpeg
@pytest.mark.parametrize(("aspect", "size"), [("4/3", (96, 64)), ("8/9", (72, 72)), ("1/100", (72, 64))])
def test_pixels_are_square(tmp_path, aspect, size):
    path = tmp_path / "anamorphic.mp4"
    ffmpeg("-f", "lavfi", "-i", f"testsrc=d=0.2:r=25:s=72x64,setsar={aspect}", path)
    with open_source(path) as source:
        assert source.size == size
        assert next(iter(source)).image.shape[1::-1] == size


@needs_ffmpeg
@pytest.mark.skipif(sys.platform == "win32", reason="names are bytes on POSIX alone")
def test_a_name_that_is_no_utf8(tmp_path, clip):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    clip.rename(path)
    with open_source(path) as source:
        assert len(list(source)) == len(list(source)) == 12


@needs_ffmpeg
@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names there")
@pytest.mark.parametrize("name", ["10:30.mp4", "file:x.mp4"])
def test_a_name_that_looks_like_a_protocol(tmp_path, clip, monkeypatch, name):
    clip.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with open_source(name) as source:
        assert len(list(source)) == len(list(source)) == 12


@needs_ffmpeg
def test_a_time_lapse_is_whole(tmp_path):
    path = tmp_path / "lapse.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=62:r=0.5:s=64x48", path)
    with open_source(path) as source:
        assert len(list(source)) == 31
        assert not source.incomplete


@needs_ffmpeg
def test_how_many_pictures_are_to_come_is_told_by_their_pace(tmp_path):
    path = tmp_path / "slow.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=12:r=30:s=64x48", "-vf", "select='not(mod(n,3))'", "-vsync", "vfr", path)
    with open_source(path) as source:
        thought = [source.frame_count for _ in source]
    assert len(thought) == 120
    np.testing.assert_allclose(thought[len(thought) // 4 :], 120, rtol=0.05)


def test_times_grow_where_the_file_says_nothing():
    times = [0.0]
    for stamp in (0.0, 0.0, 0.2, 0.1, float("-inf"), 0.5):
        times.append(_next_time(times[-1], stamp, 0.04))
    assert (np.diff(times) > 0).all()
    assert times[-1] == 0.5


@needs_ffmpeg
def test_stream_without_rate_or_times(tmp_path):
    path = tmp_path / "raw.h264"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=1:r=25:s=64x48", "-f", "h264", path)
    with open_source(path) as source:
        times = [frame.time for frame in source]
    assert len(times) == 25
    assert times[0] == 0
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("size", [(16, 16), (3840, 2160)])
def test_smallest_and_largest_pictures(tmp_path, size):
    with open_source(write_video(tmp_path / "clip.mp4", 2, size)) as source:
        assert [frame.image.shape for frame in source] == [(size[1], size[0], 3)] * 2


def test_one_frame(tmp_path):
    with open_source(write_video(tmp_path / "one.mp4", 1)) as source:
        assert [frame.time for frame in source] == [0.0]
        assert not source.incomplete


def test_file_that_is_not_there(tmp_path):
    assert code_of(tmp_path / "none.mp4") == "source-not-found"
    assert code_of(tmp_path / "none.png") == "source-not-found"
    assert code_of(tmp_path / "none" / "face_%04d.png") == "source-not-found"


def test_empty_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "empty.png").touch()
    assert code_of(tmp_path / "empty.mp4") == "source-empty"
    assert code_of(tmp_path / "empty.png") == "source-empty"


@pytest.mark.parametrize("content", [b"just some text, no video at all", bytes(range(256)) * 20])
def test_file_that_is_no_video(tmp_path, content):
    (tmp_path / "text.mp4").write_bytes(content)
    assert code_of(tmp_path / "text.mp4") == "not-a-video"


def test_cut_before_the_index(clip):
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"moov") - 4])
    assert code_of(clip) == "video-truncated"
    clip.write_bytes(data[:40])
    assert code_of(clip) == "video-truncated"


@needs_ffmpeg
def test_cut_in_the_middle_reads_what_is_there(tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    noise = "testsrc=d=2:r=25:s=320x240,noise=alls=40:allf=t"
    ffmpeg("-f", "lavfi", "-i", noise, "-movflags", "faststart", whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    with open_source(cut) as source:
        frames = list(source)
        assert source.incomplete
    assert 10 < len(frames) < 50
    assert (np.diff([frame.time for frame in frames]) > 0).all()


@needs_ffmpeg
def test_damage_in_the_middle_is_stepped_over(tmp_path):
    path = tmp_path / "damaged.mp4"
    noise = "testsrc=d=2:r=25:s=320x240,noise=alls=40:allf=t"
    ffmpeg("-f", "lavfi", "-i", noise, "-g", "5", "-movflags", "faststart", path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = np.random.default_rng(0).bytes(len(data) // 10)
    path.write_bytes(data)
    with open_source(path) as source:
        times = [frame.time for frame in source]
    assert times[-1] == pytest.approx(49 / 25, abs=0.1)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "wav", "mp3"])
def test_sound_without_picture(tmp_path, suffix):
    path = tmp_path / f"sound.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", path)
    assert code_of(path) == "video-no-picture"


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp3", "m4a"])
def test_the_cover_of_a_record_is_no_film(tmp_path, suffix):
    cover, path = tmp_path / "cover.png", tmp_path / f"sound.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.04:r=25:s=64x48", "-frames:v", "1", cover)
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "sine=d=1",
        "-i",
        cover,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-disposition:v",
        "attached_pic",
        path,
    )
    assert code_of(path) == "video-no-picture"


@needs_ffmpeg
def test_ogg_may_hold_pictures(tmp_path):
    path = tmp_path / "film.ogv"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.4:r=25:s=64x48", "-c:v", "libtheora", path)
    with open_source(path) as source:
        assert len(list(source)) == 10


@needs_ffmpeg
def test_unknown_codec(tmp_path):
    path = tmp_path / "odd.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:r=25:s=64x48", "-c:v", "libx264", path)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert code_of(path) == "video-codec"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_file_that_may_not_be_read(clip, monkeypatch):
    clip.chmod(0)
    try:
        clip.open("rb").close()
    except PermissionError:
        assert code_of(clip) == "source-unreadable"
    else:  # root may read everything
        monkeypatch.setattr("pathlib.Path.open", _refuse)
        assert code_of(clip) == "source-unreadable"


def _refuse(*_):
    raise PermissionError(13, "Permission denied")


def test_nothing_reaches_stderr(tmp_path, capfd):
    (tmp_path / "bad.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 100)
    code_of(tmp_path / "bad.mp4")
    assert capfd.readouterr().err == ""


# --- pictures


def test_folder_in_natural_order(tmp_path):
    for number in (10, 9, 1):
        write_picture(tmp_path / f"face{number}.png", picture(value=number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    with open_source(tmp_path, fps=10) as source:
        frames = list(source)
        assert (source.size, source.fps, source.frame_count, source.incomplete) == ((64, 48), 10, 3, False)
    assert [frame.image[0, 0, 2] for frame in frames] == [1, 9, 10]
    assert [frame.time for frame in frames] == [0, 0.1, 0.2]


@pytest.mark.parametrize("name", ["face_%04d.png", "face_####.png", "face_0003.png"])
def test_numbered_sequence(tmp_path, name):
    for number in (3, 4, 6):
        write_picture(tmp_path / f"face_{number:04d}.png", picture(value=number))
    write_picture(tmp_path / "other_0001.png", picture())
    with open_source(tmp_path / name, fps=10) as source:
        frames = list(source)
        assert source.notices == ()
    assert [frame.image[0, 0, 2] for frame in frames] == [3, 4, 6]
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.1, 0.3])  # the missing one leaves a gap


def test_pictures_beyond_a_jump_are_told_and_a_pattern_has_them(tmp_path):
    for number in (3, 4, 900, 901):
        write_picture(tmp_path / f"face_{number:04d}.png", picture(value=number % 256))
    first = tmp_path / "face_0003.png"
    for opened in (open_source(first), LoopSource(lambda: open_source(first), 1)):
        with opened as source:
            (told,) = source.notices
        assert "end with face_0004.png: 2 of" in told
        assert told.endswith("from face_0900.png on, are left out. To have all of that name, give face_####.png.")
    assert read_points(first, "histograms").notices == (told,)
    with open_source(tmp_path / "face_####.png", fps=1) as source:
        assert [frame.time for frame in source] == [0, 1, 897, 898]
        assert source.notices == ()


def test_sequence_begins_with_the_picture_given(tmp_path):
    for number in (8, 9, 10, 11):
        write_picture(tmp_path / f"f{number}.png", picture(value=number))
    with open_source(tmp_path / "f9.png") as source:
        assert [frame.image[0, 0, 2] for frame in source] == [9, 10, 11]
        assert source.fps == 24


def test_one_picture_with_any_name(tmp_path):
    path = tmp_path / "gesicht ä.png"
    write_picture(path, picture())
    with open_source(path) as source:
        assert len(list(source)) == source.frame_count == 1


def test_folder_or_pattern_without_pictures(tmp_path):
    assert code_of(tmp_path) == "no-pictures"
    assert code_of(tmp_path / "face_%04d.png") == "no-pictures"


@pytest.mark.parametrize("name", ["face_0001.exr", "face_####.EXR", "face.tga", "a.heic"])
def test_pictures_that_would_be_a_video_of_one_frame_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not looked at")
    assert code_of(tmp_path / name) == "picture-format"


def test_a_video_may_have_any_character_in_its_name(tmp_path):
    with open_source(write_video(tmp_path / "Take #3, 50%d.mp4")) as source:
        assert source.fps == 25.0
    assert code_of(tmp_path / "Take #4.mp4") == "source-not-found"


def test_pictures_of_differing_size(tmp_path):
    write_picture(tmp_path / "a1.png", picture())
    write_picture(tmp_path / "a2.png", picture(32, 32))
    assert code_of(tmp_path) == "picture-size"


def test_names_with_superscript_digits(tmp_path):
    for name in ("x5\u00b23.png", "x1.png"):
        write_picture(tmp_path / name, picture())
    with ImageSequence(tmp_path) as source:
        assert source.frame_count == 2


def test_a_picture_that_claims_to_be_too_large(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert code_of(tmp_path / "huge.png") == "picture-unreadable"


def test_picture_that_cannot_be_read(tmp_path):
    (tmp_path / "a1.png").write_bytes(b"not a png")
    assert code_of(tmp_path / "a1.png") == "picture-unreadable"


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_bad_rate(tmp_path, fps):
    write_picture(tmp_path / "a1.png", picture())
    assert code_of(tmp_path, fps=fps) == "bad-fps"


def test_grey_deep_and_transparent_pictures_become_rgb(tmp_path):
    cases = {
        "grey.png": np.zeros((48, 64), np.uint8),
        "deep.png": np.full((48, 64, 3), 40000, np.uint16),
        "clear.png": np.zeros((48, 64, 4), np.uint8),
    }
    for name, image in cases.items():
        (tmp_path / name).write_bytes(cv2.imencode(".png", image)[1])
        (frame,) = ImageSequence(tmp_path / name)
        assert frame.image.shape == (48, 64, 3)


# --- decoding ahead


def frames(count):
    for i in range(count):
        yield Frame(i, i / 10, picture())


def test_read_ahead_gives_the_same_frames(clip):
    with VideoFile(clip) as source:
        assert [frame.index for frame in read_ahead(source)] == list(range(12))


def test_read_ahead_passes_errors_on_after_the_frames_before():
    def broken():
        yield from frames(2)
        raise MienError("picture-size", "x")

    reader = read_ahead(broken())
    assert [next(reader).index, next(reader).index] == [0, 1]
    with pytest.raises(MienError):
        next(reader)


def test_read_ahead_stops_when_closed():
    taken = []

    def endless():
        for frame in frames(10**9):
            taken.append(frame.index)
            yield frame

    reader = read_ahead(endless(), depth=2)
    next(reader)
    reader.close()
    count = len(taken)
    time.sleep(0.05)
    assert len(taken) == count < 10


def test_sniffing_survives_hostile_boxes(tmp_path):
    path = tmp_path / "odd.mp4"
    start = struct.pack(">I4s", 16, b"ftyp") + b"isomisom"
    for length in (0, 1, 7, 0xFFFFFFFF):
        path.write_bytes(start + struct.pack(">I4s", length, b"free") + b"\0" * 8)
        assert code_of(path) in ("video-truncated", "not-a-video")
