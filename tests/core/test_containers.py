"""What containers tell of the sound's beginning and of how much they show, on files of FFmpeg's own making."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from mien.core import containers
from mien.core.capture import open_source
from mien.tests.needs import needs_ffmpeg

pytestmark = needs_ffmpeg

PICTURE = ["-f", "lavfi", "-i", "testsrc=d=3:r=25:s=64x48"]
KINDS = {
    "mp4": ["-c:v", "libx264", "-bf", "2", "-c:a", "aac"],
    "mov": ["-c:v", "mpeg4", "-c:a", "pcm_s16le"],
    "mkv": ["-c:v", "libx264", "-bf", "2", "-c:a", "pcm_s16le"],
    "webm": ["-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"],
    "ts": ["-c:v", "libx264", "-bf", "2", "-c:a", "aac"],
}
PRIMING = 0.0225
"""Seconds of silence that encoders put first, which few containers tell."""


def ffmpeg(*arguments):
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def make(path, *more, sound=3.0, picture=PICTURE):
    """Three seconds of pictures, and sound of its own length."""
    ffmpeg(*picture, "-f", "lavfi", "-i", f"sine=r=48000:d={sound}", *KINDS[path.suffix[1:]], *more, path)
    return path


def shift(path, whole, seconds):
    """Have a file's pictures come later, or its sound where that is less than 0."""
    offsets = (["-itsoffset", seconds], []) if seconds > 0 else ([], ["-itsoffset", -seconds])
    ffmpeg(*offsets[0], "-i", whole, *offsets[1], "-i", whole, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    return path


def pictures(path):
    """Return how many pictures a file was thought to have, how many it gave, and whether some were missed."""
    with open_source(path) as source:
        return source.frame_count, sum(1 for _ in source), source.incomplete


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.0, 0.5, -0.5, 8.0])
def test_the_lead_of_the_sound(tmp_path, kind, seconds):
    path = make(tmp_path / f"whole.{kind}")
    if seconds:
        path = shift(tmp_path / f"shifted.{kind}", path, seconds)
    lead = containers.read(path).sound_lead
    assert lead == pytest.approx(seconds, abs=0.002 if kind in ("mov", "mkv") else PRIMING)
    assert containers.sound_lead(path) == lead


@pytest.mark.data
def test_a_real_video_with_late_sound(data):
    assert containers.sound_lead(data / "video" / "face_noface.mov") == pytest.approx(-2.43, abs=0.001)


@pytest.mark.parametrize("kind", [*KINDS, "avi"])
def test_without_sound_nothing_leads(tmp_path, kind):
    path = tmp_path / f"mute.{kind}"
    codec = KINDS.get(kind, [])[:2]
    ffmpeg(*PICTURE, *codec, path)
    assert containers.sound_lead(path) == 0.0
    assert pictures(path) == (75, 75, False)


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe+delay_moov", "faststart"])
def test_fragments(tmp_path, flags):
    path = make(tmp_path / "a.mp4", "-g", "10", "-movflags", flags, sound=6)
    assert pictures(path) == (75, 75, False)
    assert containers.sound_lead(path) == pytest.approx(0.0, abs=0.081)  # without an edit list, B frames are waited for
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    assert pictures(path)[2]


def test_a_camcorders_transport_stream(tmp_path):
    """Four bytes before each packet; and the clock wraps."""
    path = make(tmp_path / "a.ts", "-output_ts_offset", 2**33 / 90_000 - 1.5)
    contents = containers.read(path)
    assert contents.seconds == pytest.approx(3.0)
    assert contents.sound_lead == pytest.approx(0.0, abs=PRIMING)
    data = path.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.with_suffix(".mts").write_bytes(b"".join(bytes(4) + packet for packet in packets))
    assert containers.read(path.with_suffix(".mts")) == contents


def test_pictures_that_cannot_be_decoded_do_not_count(tmp_path):
    """A transport stream that begins between two whole pictures."""
    path = make(tmp_path / "a.ts", "-g", "25", "-b:v", "1M")
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 188 // 6 * 188 :])
    assert pictures(path) == (50, 50, False)
    assert 0.3 < containers.sound_lead(path) < 0.9


# --- how much is shown


@pytest.mark.parametrize("rate", ["25", "30000/1001", "60"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize(("start", "length"), [(0, 1.234), (0.333, 9), (1.37, 1)])
def test_trimmed_without_encoding_again(tmp_path, rate, b_frames, start, length):
    """What an edit list leaves out is in the file, but not shown."""
    picture = ["-f", "lavfi", "-i", f"testsrc=d=3:r={rate}:s=64x48"]
    whole = make(tmp_path / "whole.mp4", "-bf", b_frames, "-g", 37, picture=picture)
    path = tmp_path / "trimmed.mp4"
    ffmpeg("-ss", start, "-i", whole, "-t", length, "-c", "copy", path)
    expected, found, incomplete = pictures(path)
    assert found == expected
    assert not incomplete
    assert abs(containers.sound_lead(path)) < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_sound_may_be_longer_than_the_picture(tmp_path, kind):
    assert pictures(make(tmp_path / f"a.{kind}", sound=9)) == (75, 75, False)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("sound", [3, 9])
def test_a_cut_is_told(tmp_path, kind, sound):
    path = make(tmp_path / f"a.{kind}", *(["-movflags", "faststart"] if kind == "mp4" else []), sound=sound)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 4])
    expected, found, incomplete = pictures(path)
    assert found < expected
    assert incomplete


def test_a_cut_is_told_where_only_the_size_tells(tmp_path):
    """Matroska with its tags, and so the picture's length, in the part that is missing or not at all."""
    path = make(tmp_path / "a.mkv", sound=9)
    data = path.read_bytes().replace(b"DURATION", b"NOTHING ")
    path.write_bytes(data)
    assert not pictures(path)[2]
    path.write_bytes(data[: len(data) // 4])
    assert pictures(path)[2]


def test_matroska_that_was_never_closed(tmp_path):
    """As browsers record it, and as a crash leaves it: no sizes, no length."""
    path = make(tmp_path / "a.webm", "-live", "1", "-f", "webm")
    assert not pictures(path)[2]
    assert containers.sound_lead(path) == pytest.approx(0.0, abs=PRIMING)


# --- whatever comes


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_survived(tmp_path, kind):
    data = make(tmp_path / f"a.{kind}").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / f"b.{kind}"
    for _ in range(150):
        broken = bytearray(data[: random.integers(1, len(data))] if random.random() < 0.5 else data)
        for at in random.integers(0, len(broken), random.integers(0, 60)):
            broken[at] = random.integers(256)
        for at in random.integers(0, min(len(broken), 4096), random.integers(0, 30)):
            broken[at] = random.choice([0, 1, 127, 255])
        path.write_bytes(broken)
        lead = containers.sound_lead(path)
        assert np.isfinite(lead)


@pytest.mark.parametrize("data", [b"", b"\0", b"G" * 400, b"\x1a\x45\xdf\xa3", b"\0\0\0\x08moov" * 50, b"\0\0\0\0moov"])
def test_what_is_no_video(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    assert containers.sound_lead(path) == 0.0
    assert containers.sound_lead(tmp_path / "none") == 0.0


def test_boxes_that_nest_without_end(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join((8 * left).to_bytes(4, "big") + b"moov" for left in range(3000, 0, -1)))
    assert containers.read(path) is None
