"""The microphone against a real sound server: what is said at a moment is in the file at that moment."""

from __future__ import annotations

import contextlib
import time
import wave

import numpy as np
import pytest

from mien.core import microphone as microphone_module
from mien.core import wav as wav_module
from mien.core.clock import now
from mien.core.errors import MienError
from mien.core.microphone import RATE, Microphone, StreamClock, list_microphones
from mien.core.wav import WavWriter, sound_path

from .sound_helpers import NAME, SoundServer, Speaker, clicks_in, need_sound, off_by

MS = 0.001
FRAME = 1 / 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    need_sound()
    server = SoundServer(tmp_path_factory.mktemp("pulse"))
    yield server
    server.stop()


@pytest.fixture
def speaker(server, monkeypatch):
    """A microphone that clicks four times a second."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    speaker = Speaker(server.pipe)
    yield speaker
    speaker.stop()


@pytest.fixture
def microphone():
    opened = []

    def open_microphone(which=NAME):
        opened.append(Microphone(which))
        return opened[-1]

    yield open_microphone
    for one in opened:
        one.close()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


# --- real sound


def test_clicks_land_where_they_were_made(speaker, microphone, tmp_path):
    """Three takes, punched in and out, on one open microphone."""
    mic = microphone()
    until(lambda: mic.state[0] == "open")
    time.sleep(1.0)
    late = []
    for i in range(3):
        origin = now()
        path = tmp_path / f"{i}.wav"
        time.sleep(0.2)  # a first picture takes a while to be worked on
        mic.begin(path, origin)
        time.sleep(1.3)
        end = now()
        summary = mic.end(end)
        assert summary.error is None
        assert summary.seconds == pytest.approx(end - origin, abs=FRAME)
        late += off_by(path, origin, speaker.clicks).tolist()
        time.sleep(0.1)
    assert len(late) >= 15
    print(f"late by {np.median(late) / MS:.2f} ms (median), {max(map(abs, late)) / MS:.2f} ms (worst)")
    assert max(map(abs, late)) < FRAME


def test_level(speaker, microphone):
    mic = microphone()
    until(lambda: mic.state[0] == "open")
    time.sleep(0.6)
    assert mic.level() == pytest.approx(20_000 / 32_767, abs=0.01)


def test_microphones_are_listed(speaker):
    assert NAME in list_microphones()


def test_lost_sound_is_silence_and_the_rest_stays_in_place(speaker, microphone, tmp_path):
    """A dropout in the middle: what comes after it must not slide forward."""
    mic = microphone()
    until(lambda: mic.state[0] == "open")
    time.sleep(1.5)
    origin = now()
    mic.begin(tmp_path / "a.wav", origin)
    time.sleep(1.5)
    # Away from a click: where in its block a loss happened cannot be known.
    until(lambda: 0.05 < now() - speaker.clicks[-1] < 0.15)
    speaker.lose(0.3)
    time.sleep(4.0)
    assert mic.end(now()).error is None
    late = off_by(tmp_path / "a.wav", origin, speaker.clicks)
    assert np.abs(late).max() < FRAME
    assert (np.diff(clicks_in(tmp_path / "a.wav")) > 0.24).all()


def test_a_microphone_that_goes_away_and_comes_back(server, speaker, microphone, tmp_path, monkeypatch):
    monkeypatch.setattr(microphone_module, "RETRY", 0.1)
    mic = microphone()
    until(lambda: mic.state[0] == "open")
    time.sleep(1.2)
    origin = now()
    mic.begin(tmp_path / "a.wav", origin)
    time.sleep(1.0)
    server.unplug()
    gone = now()
    until(lambda: mic.state[0] == "lost")
    assert mic.state[1].code == "microphone-gone"
    assert NAME in mic.state[1].message
    server.plug()
    again = Speaker(server.pipe)
    until(lambda: mic.state[0] == "open")
    back = now() + 0.1
    time.sleep(1.5)
    summary = mic.end(now())
    again.stop()
    assert summary.error.code == "microphone-gone"
    late = off_by(tmp_path / "a.wav", origin, again.clicks, back - origin)
    assert len(late) >= 5
    assert np.abs(late).max() < FRAME
    before = clicks_in(tmp_path / "a.wav")
    before = before[before < gone - origin]
    assert len(before) >= 3
    made = np.array(speaker.clicks) - origin
    assert np.abs(before[:, None] - made).min(axis=1).max() < FRAME


def test_a_microphone_that_is_not_there(speaker, microphone, tmp_path):
    mic = microphone("No Such Thing")
    until(lambda: mic.state[0] == "lost")
    assert mic.state[1].code == "microphone-gone"
    mic.begin(tmp_path / "a.wav", now())
    summary = mic.end(now())
    assert (summary.seconds, summary.error.code) == (0.0, "microphone-gone")
    assert not (tmp_path / "a.wav").exists()


def test_no_sound_server(microphone, monkeypatch, tmp_path):
    need_sound()
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path / 'nowhere'}")
    monkeypatch.setattr(microphone_module, "_BACKENDS", {"linux": ("PULSEAUDIO",)})
    mic = microphone("")
    until(lambda: mic.state[0] == "lost")
    assert mic.state[1].code in ("microphone-refused", "microphone-none")
    with pytest.raises(MienError, match="No microphone"):
        list_microphones()


def test_a_full_disk(speaker, microphone):
    """The take's other half goes on: only the sound ends, with its reason."""
    mic = microphone()
    until(lambda: mic.state[0] == "open")
    mic.begin("/dev/full", now())
    time.sleep(0.3)
    summary = mic.end(now())
    assert summary.error.code == "disk-full"
    assert mic.state[0] == "open"


# --- the clock of a stream


def arrivals(seconds, drift=0.0, seed=0, late=0.004):
    """Yield (moment, samples so far) of blocks that come late by chance, now and then very."""
    rng = np.random.default_rng(seed)
    for block in range(1, int(seconds / 0.02)):
        delay = rng.exponential(late) + (0.1 if rng.random() < 0.02 else 0.0)
        yield 100.0 + 0.02 * block * (1.0 - drift) + delay, 960 * block


def test_late_blocks_do_not_count():
    clock = StreamClock(RATE)
    assert not any(clock.arrived(*block) for block in arrivals(30))
    assert clock.base == pytest.approx(100.0, abs=MS)
    assert clock.sample(110.0) == pytest.approx(480_000, abs=MS * RATE)


def test_the_clock_follows_a_drifting_device():
    clock = StreamClock(RATE)
    assert not any(clock.arrived(*block) for block in arrivals(600, drift=200e-6))
    # A fast device has given 0.12 s more by then than its rate says.
    assert clock.base == pytest.approx(100.0 - 0.12, abs=4 * MS)


@pytest.mark.parametrize("lost", [0.02, 0.1, 2.0])
def test_a_loss_is_found_and_measured(lost):
    clock = StreamClock(RATE)
    counted = found = 0
    for moment, samples in arrivals(40, seed=1):
        missing = lost if moment > 120 else 0.0
        jump = clock.arrived(moment, samples + counted - round(missing * RATE))
        counted += round(jump * RATE)
        found += jump
    assert found == pytest.approx(lost, abs=2 * MS)


def test_a_busy_second_is_no_loss():
    clock = StreamClock(RATE)
    for moment, samples in arrivals(40):
        assert not clock.arrived(max(moment, 121.3) if moment > 120 else moment, samples)


# --- sound that is late, or that waits


class Fed(Microphone):
    """A microphone whose device is the test."""

    def _device(self):
        self._settling, self._low = [], np.inf
        self._last_block = now()
        return contextlib.nullcontext()

    def give(self, moment, samples):
        self._incoming.put((moment, samples.tobytes()))


@pytest.fixture
def fed():
    mic = Fed()
    yield mic
    mic.close()


@pytest.mark.parametrize("late", [0.05, 0.2, 0.5])
def test_blocks_that_were_late_for_seconds_leave_no_trace(fed, tmp_path, late):
    """Nothing tells lateness from a loss until it ends: then what was put in goes out again, and no more than that."""
    rng = np.random.default_rng(0)
    origin = now()
    fed.begin(tmp_path / "a.wav", origin)
    moment = 0.0
    for block in range(1, 2001):
        moment = max(moment, block * 0.02 + rng.uniform(0, 0.003) + (late if 600 < block <= 750 else 0.0))
        fed.give(origin + moment, np.full(960, block, np.int16))
    assert fed.end(origin + 40.0, timeout=20).seconds == pytest.approx(40.0, abs=FRAME)
    with wave.open(str(tmp_path / "a.wav")) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")[17 * RATE :]
    spoken = 1 + np.arange(17 * RATE, 17 * RATE + len(heard)) // 960
    assert np.abs(heard - spoken).max() * 0.02 <= FRAME


def test_a_take_whose_first_picture_waited_has_its_sound_from_the_start(fed, tmp_path):
    origin = now()
    for block in range(1, 2001):
        fed.give(origin + block * 0.02, np.full(960, block, np.int16))
    until(lambda: fed._count == 2000 * 960)
    fed.begin(tmp_path / "a.wav", origin + 10.0)
    fed.give(origin + 40.02, np.full(960, 2001, np.int16))
    assert fed.end(origin + 40.0).seconds == pytest.approx(30.0, abs=FRAME)
    with wave.open(str(tmp_path / "a.wav")) as file:
        heard = np.frombuffer(file.readframes(RATE), "<i2")
    assert heard[0] == pytest.approx(501, abs=1)


def test_a_disk_that_hangs_once_loses_no_sound(fed, tmp_path, monkeypatch):
    monkeypatch.setattr(microphone_module, "SILENCE", 1.0)
    written = WavWriter.rewrite
    hang = iter([2.0])

    def rewrite(self, first, samples):
        if self.samples > RATE // 2:
            time.sleep(next(hang, 0.0))
        written(self, first, samples)

    monkeypatch.setattr(WavWriter, "rewrite", rewrite)
    origin = now()
    fed.begin(tmp_path / "a.wav", origin)
    for block in range(1, 201):
        time.sleep(max(origin + block * 0.02 - now(), 0.0))
        fed.give(now(), np.ones(960, np.int16))
    summary = fed.end(origin + 3.9, timeout=20)
    assert summary.error is None
    assert summary.seconds == pytest.approx(3.9, abs=FRAME)
    with wave.open(str(tmp_path / "a.wav")) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert heard.mean() > 0.97


# --- files


def test_a_wav_is_whole_after_every_write(tmp_path):
    writer = WavWriter(tmp_path / "a.wav", RATE)
    for count in range(1, 5):
        writer.write(np.full(100, count, np.int16))
        with wave.open(str(tmp_path / "a.wav")) as file:
            assert (file.getnframes(), file.getframerate()) == (100 * count, RATE)
    writer.rewrite(150, np.full(10, 9, np.int16))
    writer.rate = 48_002
    writer.close()
    writer.close()
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getframerate() == 48_002
        samples = np.frombuffer(file.readframes(1000), "<i2")
    assert samples.tolist() == [1] * 100 + [2] * 50 + [9] * 10


def test_a_wav_that_cannot_be_written(tmp_path):
    with pytest.raises(MienError) as error:
        WavWriter(tmp_path / "nowhere" / "a.wav", RATE)
    assert error.value.code == "sound-not-written"
    with pytest.raises(MienError) as error:
        WavWriter("/dev/full", RATE)
    assert error.value.code == "disk-full"


def test_a_wav_that_would_be_longer_than_wavs_can_be_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(wav_module, "_LIMIT", 100)
    writer = WavWriter(tmp_path / "a.wav", RATE)
    writer.write(np.ones(50, np.int16))
    with pytest.raises(MienError) as error:
        writer.write(np.ones(1, np.int16))
    writer.close()
    assert error.value.code == "sound-too-long"
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getnframes() == 50


def test_a_wav_that_cannot_be_cut(tmp_path, monkeypatch):
    writer = WavWriter(tmp_path / "a.wav", RATE)
    writer.write(np.zeros(100, np.int16))
    file = writer._file
    # Truncating what is open for reading alone fails as a bad disk does.
    with open(tmp_path / "a.wav", "rb") as read_only:
        monkeypatch.setattr(writer, "_put", lambda offset, data: None)
        monkeypatch.setattr(writer, "_file", read_only)
        with pytest.raises(MienError) as error:
            writer.cut(50)
    file.close()
    assert error.value.code == "sound-not-written"


def test_the_sound_lies_beside_its_take(tmp_path):
    assert sound_path(tmp_path / "My take 1.2.mien") == tmp_path / "My take 1.2.wav"
