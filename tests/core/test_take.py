"""The take survives crashes, cuts, flipped bits and full disks."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import tomllib
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.record import FRAME_DTYPE
from mien.core.solve import solve_take
from mien.core.take import APP, PREFIX, VERSION, Take, TakeHeader, TakeWriter, is_take
from mien.core.types import FrameResult
from mien.core.units import ARKIT, UNITS

ROOT = Path(__file__).parents[2]
STRIDE = FRAME_DTYPE.itemsize + 4


def frame(i):
    """A result that can be told from its neighbours."""
    return FrameResult(
        i,
        i / 25,
        found=True,
        confidence=1.0,
        size=(640, 480),
        landmarks=np.full((478, 3), i),
        arkit=np.full(52, (i % 100) / 100),
        expression="happiness" if i % 2 else "",
        own="smirk" if i % 3 == 2 else "",
    )


def write(path, count, **header):
    with TakeWriter(path, TakeHeader(source="clip.mp4", fps=25.0, size=(640, 480), **header)) as writer:
        for i in range(count):
            writer.write(frame(i))
    return path


@pytest.fixture
def take(tmp_path):
    return write(tmp_path / "a.mien", 5)


def fill(writer):
    """Write until the writer refuses; return its reason."""
    try:
        for i in range(1000):
            writer.write(frame(i))
    except MienError as error:
        return error.code
    return None


def start_of(data):
    return PREFIX.size + PREFIX.unpack_from(data)[3]


def reseal(data: bytes, *, major=None, record_size=None, header=None) -> bytes:
    """Change a take's beginning and make its checksum right again."""
    magic, old_major, minor, length, old_size, _crc = PREFIX.unpack_from(data)
    text, rest = data[PREFIX.size : PREFIX.size + length], data[PREFIX.size + length :]
    if header is not None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
    prefix = struct.pack(
        "<8sHHII", magic, major or old_major, minor, len(text), old_size if record_size is None else record_size
    )
    return prefix + struct.pack("<I", zlib.crc32(prefix + text)) + text + rest


def header_of(data):
    return json.loads(data[PREFIX.size : start_of(data)])


def test_what_was_written_is_read(take):
    with Take(take) as reader:
        assert len(reader) == 5
        assert not reader.truncated
        assert reader.version == VERSION
        assert (reader.header.source, reader.header.fps, reader.header.size) == ("clip.mp4", 25.0, (640, 480))
        assert [result.index for result in reader] == [0, 1, 2, 3, 4]
        assert reader[-1].index == 4
        assert reader[3].landmarks[0, 0] == 3
        np.testing.assert_allclose(reader.times, np.arange(5) / 25)
        assert reader.duration == pytest.approx(4 / 25)
        assert reader.damaged.size == 0
        with pytest.raises(IndexError):
            reader[5]
        with pytest.raises(IndexError):
            reader[-6]


def test_columns(take):
    with Take(take) as reader:
        assert reader.column("arkit").shape == (5, 52)
        assert reader.column("arkit").dtype == np.float32
        assert reader.column("landmarks").shape == (5, 478, 3)
        assert reader.column("found").tolist() == [True] * 5
        assert reader.column("expression").tolist() == ["", "happiness", "", "happiness", ""]
        assert reader.column("index").tolist() == [0, 1, 2, 3, 4]
        assert reader.column("time").dtype == np.float64
        with pytest.raises(KeyError):
            reader.column("nothing")


def test_a_take_without_frames(tmp_path):
    with Take(write(tmp_path / "empty.mien", 0)) as reader:
        assert len(reader) == 0
        assert list(reader) == []
        assert reader.times.shape == (0,)
        assert reader.column("arkit").shape == (0, 52)
        assert reader.duration == 0.0


def test_every_cut_in_the_last_two_records_leaves_the_whole_frames(take, tmp_path):
    data = take.read_bytes()
    cut = tmp_path / "cut.mien"
    cut.write_bytes(data)
    start = start_of(data)
    for size in range(len(data), start + 3 * STRIDE - 1, -1):
        os.truncate(cut, size)
        whole, rest = divmod(size - start, STRIDE)
        with Take(cut) as reader:
            assert (len(reader), reader.truncated) == (whole, rest > 0)
            assert reader[whole - 1].index == whole - 1


def test_a_take_that_shrinks_while_it_is_open_keeps_the_whole_frames(take):
    start = start_of(take.read_bytes())
    with Take(take) as reader:
        os.truncate(take, start + 2 * STRIDE + 10)
        assert reader.column("found").tolist() == [True, True]
        assert [result.index for result in reader] == [0, 1]
        assert reader.truncated


def test_a_take_is_known_by_its_ending_or_by_what_it_begins_with(take, tmp_path):
    left_behind = take.rename(tmp_path / "a.mien.part")
    damaged, film = tmp_path / "b.mien", tmp_path / "film.mp4"
    for path in (damaged, film):
        path.write_bytes(b"\x00\x00\x00\x18ftypmp42")
    told = [is_take(path) for path in (left_behind, damaged, film, tmp_path, tmp_path / "gone.mp4")]
    assert told == [True, True, False, False, False]


def test_every_cut_in_the_header_is_a_clear_error(take, tmp_path):
    data = take.read_bytes()
    cut = tmp_path / "cut.mien"
    cut.write_bytes(data)
    for size in range(start_of(data) - 1, -1, -1):
        os.truncate(cut, size)
        with pytest.raises(MienError) as caught:
            Take(cut)
        assert caught.value.code == ("take-damaged" if size else "not-a-take")


def test_every_changed_byte_of_the_header_is_noticed(take, tmp_path):
    data = take.read_bytes()
    changed = tmp_path / "changed.mien"
    for at in range(start_of(data)):
        changed.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 : start_of(data)])
        with pytest.raises(MienError) as caught:
            Take(changed)
        assert caught.value.code in ("not-a-take", "take-damaged", "take-too-new")


@pytest.mark.parametrize("bit", [0, 8 * 17 + 3, 8 * 2000 + 1, 8 * (STRIDE - 1) + 7])
@pytest.mark.parametrize("position", [0, 2])
def test_a_flipped_bit_costs_its_frame_only(take, tmp_path, position, bit):
    data = bytearray(take.read_bytes())
    data[start_of(data) + position * STRIDE + bit // 8] ^= 1 << bit % 8
    changed = tmp_path / "changed.mien"
    changed.write_bytes(data)
    with Take(changed) as reader:
        assert len(reader) == 5
        assert not reader.truncated
        assert reader.damaged.tolist() == [position]
        results = list(reader)
        assert [result.found for result in results] == [i != position for i in range(5)]
        assert [result.index for result in results] == [0, 1, 2, 3, 4]
        np.testing.assert_allclose([result.time for result in results], np.arange(5) / 25, atol=1e-9)
        assert not reader[position].found
        np.testing.assert_allclose(reader.times, np.arange(5) / 25, atol=1e-9)
        assert reader.column("found").tolist() == [i != position for i in range(5)]
        assert reader.column("index").tolist() == [0, 1, 2, 3, 4]
        assert np.array_equal(reader.column("head_rotation")[position], [1, 0, 0, 0])
        assert reader.column("landmarks", [7])[:, 0, 0].tolist() == [0 if i == position else i for i in range(5)]


def test_a_damaged_end_is_left_out(take):
    """After a power cut a file can have its length and zeros in place of its last content."""
    data = bytearray(take.read_bytes())
    data[-STRIDE * 2 - 100 :] = bytes(STRIDE * 2 + 100)
    take.write_bytes(data)
    with Take(take) as reader:
        assert len(reader) == 2
        assert reader.truncated


def test_many_damaged_frames(tmp_path):
    path = write(tmp_path / "long.mien", 1200)
    data = bytearray(path.read_bytes())
    start = start_of(data)
    for i in range(10, 1190):
        data[start + i * STRIDE + 400] ^= 1
    path.write_bytes(data)
    with Take(path) as reader:
        assert sum(result.found for result in reader) == 20
        assert np.all(np.diff(reader.times) > 0)


def test_a_checksum_alone_does_not_make_values_possible(take):
    data = bytearray(take.read_bytes())
    at = start_of(data) + STRIDE
    data[at : at + 8] = struct.pack("<d", float("nan"))
    record = bytes(data[at : at + STRIDE - 4])
    data[at + STRIDE - 4 : at + STRIDE] = struct.pack("<I", zlib.crc32(record))
    take.write_bytes(data)
    with Take(take) as reader:
        assert reader.damaged.tolist() == [1]
        assert np.isfinite(reader.times).all()


@pytest.mark.parametrize("wrong", [0.05, 0.04, -1.0, 1e15])
def test_a_time_that_no_frame_can_have_is_damage(tmp_path, wrong):
    """Whatever its checksum says: a performance that goes back in time cannot be solved."""
    path = tmp_path / "a.mien"
    with TakeWriter(path, TakeHeader(source="clip.mp4", fps=25.0)) as writer:
        for i, time_of in enumerate([0.0, 0.04, 0.08, wrong, 0.16]):
            writer.write(FrameResult(i, time_of, found=True))
    with Take(path) as reader:
        assert reader.damaged.tolist() == [3]
        assert reader.times == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])
        assert reader.column("found").ravel().tolist() == [True, True, True, False, True]
        assert [result.found for result in reader] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("times", "damaged", "kept", "cut"),
    [
        ([0, 1, 2, 2], [], [0, 1, 2], True),
        ([0, 1, 2, 1, 1.5], [], [0, 1, 2], True),
        ([0, 1, *range(2, 300), *range(150)], [], range(300), True),  # more than is read at once
        ([0, 1, 2, 1.5, 3], [3], [0, 1, 2, 2.5, 3], False),
        ([5, 1, 2, 3], [0], [0.96, 1, 2, 3], False),
        ([0, 9e6, 2, 3, 2], [1], [0, 1, 2, 3], True),
    ],
)
def test_what_does_not_go_forward_is_damage(tmp_path, times, damaged, kept, cut):
    """The rest is kept, and goes forward, whichever end the damage is at."""
    path = tmp_path / "a.mien"
    with TakeWriter(path, TakeHeader(source="clip.mp4", fps=25.0)) as writer:
        for i, time_of in enumerate(times):
            writer.write(FrameResult(i, float(time_of), found=True))
    with Take(path) as reader:
        frames = list(reader)
        assert (len(reader), reader.truncated) == (len(frames), cut)
        assert reader.column("landmarks").shape[0] == len(frames)
        assert reader.damaged.tolist() == damaged
        assert [frame.time for frame in frames] == reader.times.tolist() == pytest.approx(list(kept))
        assert [i for i, frame in enumerate(frames) if not frame.found] == damaged
        assert len(solve_take(reader)) == len(frames)


def test_what_was_lost_is_told(take):
    with Take(take) as reader:
        assert reader.losses == ()
    data = bytearray(take.read_bytes()[:-5])
    data[start_of(data) + STRIDE + 400] ^= 1
    take.write_bytes(data)
    with Take(take) as reader:
        cut, damaged = reader.losses
        assert "cut off" in cut
        assert damaged.startswith(f"1 of {len(reader)} frames")


def test_no_such_take(tmp_path):
    with pytest.raises(MienError) as caught:
        Take(tmp_path / "missing.mien")
    assert caught.value.code == "take-not-found"


def test_a_folder_is_not_a_take(tmp_path):
    with pytest.raises(MienError) as caught:
        Take(tmp_path)
    assert caught.value.code == "take-unreadable"


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"RIFF....WAVE" * 100, b"\x89MIEN\n\x1a" + b"x" * 5000])
def test_other_files_are_not_takes(tmp_path, content):
    path = tmp_path / "other.mien"
    path.write_bytes(content)
    with pytest.raises(MienError) as caught:
        Take(path)
    assert caught.value.code == "not-a-take"


def test_a_newer_version_is_refused_by_name(take):
    take.write_bytes(reseal(take.read_bytes(), major=VERSION[0] + 1))
    with pytest.raises(MienError) as caught:
        Take(take)
    assert caught.value.code == "take-too-new"
    assert "Update Mien" in caught.value.hint


def test_unknown_header_fields_are_kept(tmp_path):
    extra = {"actor": "Zoë", "slate": {"scene": 3, "take": [1, 2]}}
    path = write(tmp_path / "a.mien", 1, extra=extra)
    with Take(path) as reader:
        assert reader.header.extra == extra


def test_names_that_are_not_unicode_are_kept(tmp_path):
    name = os.fsdecode(b"clip-\xff.mp4")
    with TakeWriter(tmp_path / "a.mien", TakeHeader(source=name)):
        pass
    with Take(tmp_path / "a.mien") as reader:
        assert reader.header.source == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": -1.0},
        {"fps": float("nan")},
        {"size": (1,)},
        {"size": (1.5, 2)},
        {"created": 5},
        {"extra": {"fields": []}},
        {"own": (1,)},
        {"own": ("smirk",) * 256},
    ],
)
def test_impossible_headers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"fps|size|text|extra|own"):
        TakeHeader(source="a", **wrong)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: [],
        lambda header: "text",
        lambda header: {**header, "size": 3},
        lambda header: {**header, "fps": "fast"},
        lambda header: {**header, "fps": 10**400},
        lambda header: {**header, "channels": {}},
        lambda header: {**header, "channels": 5},
        lambda header: {**header, "fields": [["time", "O", []]]},
        lambda header: {**header, "fields": [["time", "<f8", [10**12]]]},
        lambda header: {**header, "fields": [["time", "<f8", [-1]]]},
        lambda header: {**header, "fields": [["time", "<f8", []]] * 2},
        lambda header: {**header, "fields": 7},
        lambda header: {**header, "own": 7},
        lambda header: {**header, "own": [7]},
        lambda header: {**header, "own": ["smirk"] * 256},
        lambda header: {k: v for k, v in header.items() if k != "source"},
        lambda header: b"[" * 100_000,
        lambda header: b'{"source": "\xff"}',
    ],
)
def test_hostile_headers_are_refused(take, change):
    data = take.read_bytes()
    take.write_bytes(reseal(data, header=change(header_of(data))))
    with pytest.raises(MienError) as caught:
        Take(take)
    assert caught.value.code == "take-damaged"


@pytest.mark.parametrize("seed", range(3))
def test_fuzz(take, seed):
    """Whatever a file holds, it is refused with a reason or read as valid results."""
    rng = random.Random(seed)
    whole = take.read_bytes()
    codes, opened = set(), 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(rng.choice([len(data), start_of(whole)]))
            way = rng.randrange(4)
            if way == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif way == 1:
                del data[at : at + rng.randint(1, 30)]
            elif way == 2:
                data[at:at] = rng.randbytes(rng.randint(1, 30))
            else:
                data[at : at + 3] = rng.choice([b"999", b"-1,", b"[],", b'"",', b"{},", b"1e9"])
        if rng.random() < 0.7:
            header = bytes(data[PREFIX.size : start_of(whole)])
            data = reseal(whole, header=header)
        take.write_bytes(data)
        try:
            reader = Take(take)
        except MienError as error:
            codes.add(error.code)
            continue
        opened += 1
        with reader:
            assert len(list(reader)) == len(reader) == len(reader.times)
            for name in FrameResult.__slots__:
                assert len(reader.column(name)) == len(reader)
    assert codes <= {"not-a-take", "take-damaged", "take-too-new"}
    assert opened > 30


@pytest.mark.parametrize("size", [0, 1, STRIDE - 1, 2**32 - 1])
def test_a_wrong_record_size_is_refused(take, size):
    take.write_bytes(reseal(take.read_bytes(), record_size=size))
    with pytest.raises(MienError) as caught:
        Take(take)
    assert caught.value.code == "take-damaged"


def test_a_take_of_another_minor_version_is_read_by_name(tmp_path):
    """As if written by a Mien with another order of channels, fewer of them, and a field that is not known here."""
    labels = ["", "smirk", "happiness"]
    arkit = ["tongueOut", "jawOpen", "newShape"]
    fields = [
        ["expression", "|u1", []],
        ["time", "<f8", []],
        ["index", "<u4", []],
        ["found", "|u1", []],
        ["arkit", "<u2", [3]],
        ["heart_rate", "<f4", [2]],
        ["head_rotation", "<f4", [4]],
    ]
    dtype = np.dtype([(name, form, tuple(shape)) for name, form, shape in fields])
    channels = {"arkit": arkit, "expression": labels}
    header = {"source": "x", "fps": 30, "size": [4, 4], "created": "", "app": "mien 1.9", "mood": "odd"}
    text = json.dumps({**header, "fields": fields, "channels": channels}).encode()
    prefix = struct.pack("<8sHHII", b"\x89MIEN\r\n\x1a", 1, 7, len(text), dtype.itemsize + 4)
    body = b""
    for i in range(3):
        record = np.zeros((), dtype)
        record["time"], record["index"], record["found"], record["expression"] = i / 30, i, 1, i
        record["arkit"] = (0, 65535 * i // 2, 65535)
        record["head_rotation"] = (0, 0, 0, 1)
        body += record.tobytes() + struct.pack("<I", zlib.crc32(record.tobytes()))
    path = tmp_path / "other.mien"
    path.write_bytes(prefix + struct.pack("<I", zlib.crc32(prefix + text)) + text + body)
    with Take(path) as reader:
        assert reader.version == (1, 7)
        assert reader.header.extra == {"mood": "odd"}
        assert [result.expression for result in reader] == ["", "", "happiness"]
        np.testing.assert_allclose(reader.column("arkit")[:, ARKIT.index("jawOpen")], [0, 0.5, 1], atol=1e-4)
        assert reader.column("arkit").sum() == pytest.approx(1.5, abs=1e-3)
        assert not reader.column("units").any()
        assert reader.column("units").shape == (3, len(UNITS))
        assert np.array_equal(reader[0].head_rotation, [0, 0, 0, 1])


def test_the_actors_own_expressions_are_told_by_the_header_s_names(tmp_path):
    with Take(write(tmp_path / "a.mien", 6, own=("wink", "smirk"))) as reader:
        assert reader.header.own == ("wink", "smirk")
        assert [result.own for result in reader] == ["", "", "smirk"] * 2
        assert (reader[2].own, reader[3].own) == ("smirk", "")
        assert reader.column("own").tolist() == ["", "", "smirk"] * 2
    # Learnt after the take began: the frames cannot tell of it.
    with Take(write(tmp_path / "b.mien", 6, own=("wink",))) as reader:
        assert reader.column("own").tolist() == [""] * 6
        assert not len(reader.damaged)


def test_a_place_beyond_the_names_is_damage(tmp_path):
    path = write(tmp_path / "a.mien", 4, own=("wink", "smirk"))
    data = path.read_bytes()
    path.write_bytes(reseal(data, header={**header_of(data), "own": ["wink"]}))
    with Take(path) as reader:
        assert reader.damaged.tolist() == [2]
        assert reader.column("own").tolist() == [""] * 4


def test_a_take_from_before_own_expressions_is_read(take):
    """As version 1.0 wrote it: no `own`, neither in the header nor in the records."""
    data = take.read_bytes()
    header = header_of(data)
    del header["own"]
    header["fields"] = [field for field in header["fields"] if field[0] != "own"]
    at = FRAME_DTYPE.fields["own"][1]
    body = b""
    for i in range(start_of(data), len(data), STRIDE):
        record = data[i : i + at] + data[i + at + 1 : i + STRIDE - 4]
        body += record + struct.pack("<I", zlib.crc32(record))
    take.write_bytes(reseal(data[: start_of(data)] + body, header=header, record_size=STRIDE - 1))
    with Take(take) as reader:
        assert reader.header.own == ()
        assert [result.own for result in reader] == [""] * 5
        assert [result.expression for result in reader] == ["", "happiness", "", "happiness", ""]
        assert reader[3].landmarks[0, 0] == 3
        np.testing.assert_allclose(reader.column("arkit")[:, 0], np.arange(5) / 100, atol=1e-4)
        assert not len(reader.damaged)


def test_the_take_can_be_read_while_it_is_written(tmp_path):
    with TakeWriter(tmp_path / "a.mien", TakeHeader(source="x")) as writer:
        for i in range(3):
            writer.write(frame(i))
            with Take(tmp_path / "a.mien") as reader:
                assert len(reader) == i + 1


def test_a_long_take_is_not_loaded(tmp_path):
    path = write(tmp_path / "long.mien", 3000)
    tracemalloc.start()
    try:
        with Take(path) as reader:
            assert reader[2999].index == 2999
            assert sum(result.found for result in reader) == 3000
            assert reader.column("units").shape == (3000, 11)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 10e6
    assert peak < 5e6


def test_all_columns_but_the_points_come_with_the_first(take):
    with Take(take) as reader:
        times = reader.times
    for name in set(FrameResult.__slots__) - {"landmarks", "points68"}:
        assert len(reader.column(name)) == len(times)
    assert not len(reader.damaged)
    assert reader.losses == ()
    with pytest.raises(ValueError, match="closed"):
        reader.column("landmarks")


def test_a_device_that_is_full_refuses_the_header():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(MienError) as caught:
        TakeWriter("/dev/full", TakeHeader(source="x"))
    assert caught.value.code == "disk-full"


FILL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from core.take import TakeHeader, TakeWriter
from core.types import FrameResult
from core.errors import MienError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
writer = TakeWriter(sys.argv[2], TakeHeader(source="x"))
try:
    for i in range(1000):
        writer.write(FrameResult(i, i / 30))
except MienError as error:
    print(error.code, writer.frames, "kept in" in error.hint)
writer.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_no_room_left_keeps_the_frames_so_far(tmp_path):
    path = tmp_path / "a.mien"
    command = [sys.executable, "-c", FILL, str(ROOT), str(path), "50000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    code, frames, told = done.stdout.split()
    assert (code, told) == ("disk-full", "True"), done.stderr
    with Take(path) as reader:
        # The part of a record that still fitted was taken back.
        assert (len(reader), reader.truncated) == (int(frames), False)
        assert len(reader) > 5


def test_a_full_disk_keeps_the_frames_so_far(tmp_path):
    """A real file system without space, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a small tmpfs here")
    try:
        with TakeWriter(disk / "a.mien", TakeHeader(source="x")) as writer:
            code = fill(writer)
        assert code == "disk-full"
        with Take(disk / "a.mien") as reader:
            assert len(reader) == writer.frames > 5
            assert reader[len(reader) - 1].index == len(reader) - 1
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_missing_folder_is_a_clear_error(tmp_path):
    with pytest.raises(MienError) as caught:
        TakeWriter(tmp_path / "nowhere" / "a.mien", TakeHeader(source="x"))
    assert caught.value.code == "take-not-written"


WRITE_FOR_EVER = """
import sys
sys.path.insert(0, sys.argv[1])
from core.take import TakeHeader, TakeWriter
from core.types import FrameResult
writer = TakeWriter(sys.argv[2], TakeHeader(source="x"))
i = 0
while True:
    writer.write(FrameResult(i, i / 30))
    i += 1
    print(i, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("moment", range(5))
def test_a_killed_writer_leaves_every_frame_that_it_reported(tmp_path, moment):
    path = tmp_path / "a.mien"
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(ROOT), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.readline()
        time.sleep(0.05 + 0.013 * moment)
        process.send_signal(signal.SIGKILL)
        reported = 1 + process.stdout.read().count(b"\n")
    with Take(path) as reader:
        # One more may have been written and not yet reported.
        assert len(reader) in (reported, reported + 1)
        assert [result.index for result in reader] == list(range(len(reader)))


def test_the_documented_prefix_is_the_file_s(take):
    text = (ROOT / "docs" / "take-format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \|", text.split("## File")[1].split("##")[0], re.MULTILINE)
    sizes = [struct.calcsize(f"<{part}") for part in ("8s", "H", "H", "I", "I", "I")]
    assert [int(size) for _at, size in rows] == sizes
    assert [int(at) for at, _size in rows] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert sum(sizes) == PREFIX.size
    assert f"{STRIDE} in all" in text
    assert f"now {STRIDE} |" in text
    keys = set(re.findall(r"^\| `(\w+)` \|", text.split("## JSON header")[1].split("##")[0], re.MULTILINE))
    assert keys == set(header_of(take.read_bytes()))


def test_the_app_s_version_is_the_package_s():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert APP == f"mien {project['version']}"
