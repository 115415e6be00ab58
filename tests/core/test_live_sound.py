"""Sound with a live take, through the real worker: network frames for the face, a real sound server for the voice.

At every click the mouth opens, like a clapperboard: so the take tells when the click was seen, and the WAV file when
it was heard.
"""

from __future__ import annotations

import os
import signal
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from mien.core.client import WorkerClient, WorkerDied, default_env
from mien.core.clock import now
from mien.core.protocol import (
    EndTake,
    ListMicrophones,
    LiveFrame,
    LiveStatus,
    Microphones,
    Record,
    SoundStatus,
    StartLive,
    StopLive,
    TakeStatus,
    TuneLive,
)
from mien.core.take import Take
from mien.core.wav import sound_path

from .sound_helpers import JAW, NAME, Actor, SoundServer, Speaker, clicks_in, free_port, need_sound

FRAME = 1 / 30


@pytest.fixture
def server(tmp_path_factory):
    need_sound()
    server = SoundServer(tmp_path_factory.mktemp("pulse"))
    yield server
    server.stop()


@pytest.fixture
def live(server):
    """A worker that is live on the network, with the test's microphone on."""
    speaker = Speaker(server.pipe, every=0.4)
    port = free_port()
    actor = Actor(port, speaker)
    live = Live(default_env() | server.environment, port)
    yield live
    live.client.stop(timeout=2)
    actor.stop()
    speaker.stop()


class Live:
    """The parent's side, with all that it was told."""

    def __init__(self, env: dict[str, str], port: int):
        self.said = []
        self.client = WorkerClient(env=env)
        self.client.start()
        self.client.send(StartLive(1, "network", "livelink", port=port))
        self.client.send(TuneLive(1, microphone=NAME))
        self.until(lambda: self.of(LiveFrame) and self.last(SoundStatus).state == "open")
        # The clocks of both have to settle: each is told by the packet, or block, that was least held up.
        self.wait(1.0)

    def until(self, condition, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it never came: {self.said[-3:]}"
            self.said += self.client.poll()
            time.sleep(0.01)

    def wait(self, seconds: float) -> None:
        end = now() + seconds
        self.until(lambda: now() > end)

    def of(self, kind):
        return [message for message in self.said if isinstance(message, kind)]

    def last(self, kind):
        return (self.of(kind) or [kind(1)])[-1]

    def record(self, take: Path, seconds: float, scene_frame: float | None = None) -> TakeStatus:
        """Record a take; returns how it ended."""
        self.client.send(Record(1, str(take), scene_frame))
        self.wait(seconds)
        self.client.send(EndTake(1))
        self.until(lambda: self.of(TakeStatus) and not self.of(TakeStatus)[-1].recording)
        return self.of(TakeStatus)[-1]


def clapper(take_path: Path) -> np.ndarray:
    """Return by how many seconds each click is heard after it is seen."""
    with Take(take_path) as take:
        jaw = take.column("arkit")[:, JAW]
        seen = (take.times - (jaw - 0.5) / 5.0)[1:][(jaw[1:] > 0.49) & (jaw[:-1] < 0.49)]
    heard = clicks_in(sound_path(take_path))
    # The first and the last may have been only heard or only seen.
    seen = seen[(seen > 0.1) & (seen < take.times[-1] - 0.1)]
    assert len(seen) >= 2
    return np.array([heard[np.abs(heard - moment).argmin()] - moment for moment in seen])


def ends_with_its_take(status: TakeStatus) -> bool:
    """Whether the sound goes on to the moment of EndTake, which a busy machine hears a little late."""
    return status.duration - 0.05 < status.sound < status.duration + 1.0


def test_clicks_are_heard_when_they_are_seen(live, tmp_path):
    """Over three takes, one of them punched in."""
    late = []
    for i in range(3):
        take = tmp_path / f"{i}.mien"
        status = live.record(take, 2.0, scene_frame=40.5 if i == 1 else None)
        assert (status.error, status.sound_error) == (None, None)
        assert ends_with_its_take(status)
        late += clapper(take).tolist()
        with Take(take) as read:
            assert read.header.extra["microphone"] == NAME
    print(f"heard after seen: {np.median(late) * 1000:.1f} ms (median), {max(map(abs, late)) * 1000:.1f} ms (worst)")
    assert len(late) >= 9
    assert max(map(abs, late)) < FRAME
    live.until(lambda: live.last(SoundStatus).level > 0.5)


def test_the_microphone_is_closed_when_it_is_switched_off(live, server, tmp_path):
    assert "Mien" in server.tell("list", "source-outputs")
    live.client.send(Record(1, str(tmp_path / "a.mien")))
    live.wait(1.5)
    live.client.send(TuneLive(1))
    live.until(lambda: live.last(SoundStatus).state == "off")
    assert "Mien" not in server.tell("list", "source-outputs")
    live.wait(0.5)
    live.client.send(EndTake(1))
    live.until(lambda: not live.of(TakeStatus)[-1].recording)
    sound = live.of(TakeStatus)[-1]
    assert 1.0 < sound.sound < sound.duration - 0.3
    status = live.record(tmp_path / "b.mien", 0.5)
    assert (status.sound, status.sound_error) == (0.0, None)
    assert not (tmp_path / "b.wav").exists()


def test_a_take_goes_on_when_the_microphone_goes(live, server, tmp_path):
    live.client.send(Record(1, str(tmp_path / "a.mien")))
    live.wait(1.0)
    server.unplug()
    live.until(lambda: live.last(SoundStatus).state == "lost")
    assert NAME in live.last(SoundStatus).error.message
    live.wait(0.3)
    live.client.send(EndTake(1))
    live.until(lambda: not live.of(TakeStatus)[-1].recording)
    status = live.of(TakeStatus)[-1]
    assert status.error is None
    assert status.sound_error.code == "microphone-gone"
    assert 0.8 < status.sound < status.duration - 1.0
    with Take(tmp_path / "a.mien") as take:
        assert len(take) > 100
    assert live.last(LiveStatus).state == "live"


def test_a_killed_worker_leaves_a_sound_that_plays(live, tmp_path):
    live.client.send(Record(1, str(tmp_path / "a.mien")))
    live.wait(2.0)
    os.kill(live.client._process.pid, signal.SIGKILL)
    live.until(lambda: live.of(WorkerDied))
    with wave.open(str(tmp_path / "a.wav")) as file:
        seconds = file.getnframes() / file.getframerate()
        assert len(file.readframes(file.getnframes())) == 2 * file.getnframes()
    with Take(tmp_path / "a.mien") as take:
        # What had not left the sound server is missing; the last frame may not have come.
        assert abs(seconds - take.duration) < 0.3
    assert seconds > 1.5
    assert np.abs(clapper(tmp_path / "a.mien")).max() < FRAME


def test_a_worker_that_ends_closes_its_take_with_sound(live, tmp_path):
    live.client.send(Record(1, str(tmp_path / "a.mien")))
    live.wait(1.0)
    live.client.send(StopLive(1))
    live.until(lambda: live.last(LiveStatus).state == "stopped")
    status = live.of(TakeStatus)[-1]
    assert not status.recording
    assert ends_with_its_take(status)


def test_microphones_are_listed(live):
    live.client.send(ListMicrophones())
    live.until(lambda: live.of(Microphones))
    assert NAME in live.of(Microphones)[-1].microphones
