"""The whole way of sound through Blender: live, record, bake, and listen to what the timeline plays.

At every click the mouth opens (see `Actor` in tests/core/sound_helpers.py), so on the timeline it must open where
the click is heard.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from mien.addon import live, live_workflow, session

from .conftest import curves_of, make_rig
from .test_sound import heard, needs_audio


def _sound_helpers():
    path = Path(__file__).resolve().parents[1] / "core" / "sound_helpers.py"
    spec = importlib.util.spec_from_file_location("sound_helpers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


studio = _sound_helpers()

FPS = 60
FRAME = 1 / 30


@pytest.fixture
def performing(tmp_path_factory, monkeypatch):
    """A microphone that clicks, and a face that claps along on the port that is returned."""
    studio.need_sound()
    server = studio.SoundServer(tmp_path_factory.mktemp("pulse"))
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    speaker = studio.Speaker(server.pipe, every=0.4)
    port = studio.free_port()
    actor = studio.Actor(port, speaker)
    yield port
    live.stop()
    live.wait_for_end()
    actor.stop()
    speaker.stop()
    server.stop()


def run_for(seconds, condition=lambda: False, patience=60.0):
    """Let Blender's timer tick for some seconds, or until a condition holds."""
    end = time.monotonic() + (seconds or patience)
    while not condition():
        if time.monotonic() > end:
            assert seconds, "it never came"
            return
        live.tick()
        time.sleep(0.004)


@needs_audio
def test_the_mouth_opens_where_the_click_is_heard(performing, tmp_path):
    scene = bpy.context.scene
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(tmp_path / "takes")
    bpy.ops.mien.takes_refresh()
    scene.render.fps = FPS
    scene.mien.target = head = make_rig(keys=("jawOpen",))
    scene.mien.neutral, scene.mien.smoothing, scene.mien.tolerance = "none", 0.0, 0.0
    chosen = live_workflow.settings(bpy.context)
    chosen.source, chosen.format, chosen.port = "network", "livelink", performing

    bpy.ops.mien.live_microphones()
    run_for(0, lambda: studio.NAME in session.microphones)
    bpy.context.preferences.addons["mien"].preferences.microphone = True
    chosen.microphone_name, chosen.countdown = studio.NAME, 1
    assert bpy.ops.mien.live_start() == {"FINISHED"}
    run_for(0, lambda: session.live.counts.applied > 3 and session.live.sound.state == "open")
    run_for(0, lambda: session.live.sound.level > 0.5)
    bpy.ops.mien.live_record()
    run_for(0, lambda: session.live.take is not None)
    run_for(2.5)
    bpy.ops.mien.live_record()
    run_for(0, lambda: not session.live.take.recording)
    assert session.live.take.sound_error is None
    assert any(line.startswith("Sound: ") for line in session.outcome.lines)
    # A second one is punched in at a later frame, over the first.
    scene.frame_set(241)
    bpy.ops.mien.live_record(punch=True)
    run_for(2.0)
    bpy.ops.mien.live_record()
    run_for(0, lambda: not session.live.take.recording)
    bpy.ops.mien.live_stop()

    takes = [item for item in bpy.context.window_manager.mien_takes.items if item.sound]
    assert len(takes) == 2
    scene.mien.start_frame = 31
    for item in sorted(takes, key=lambda item: item.name):
        assert bpy.ops.mien.bake_take(filepath=item.path) == {"FINISHED"}

    curve = curves_of(head.data.shape_keys)['key_blocks["jawOpen"].value', 0]
    value = np.array([curve.evaluate(frame) for frame in range(1, 420)])
    clicks = heard(scene, tmp_path, end=420)
    # From the second frame of an open mouth on, its opening tells how long ago the click was.
    opened = np.flatnonzero((value[1:-1] >= 0.5) & (value[:-2] < 0.5)) + 2
    seen = opened / FPS - (value[opened] - 0.5) / 5.0
    # Where a take begins or ends, a click may be only heard or only seen.
    inside = [(seen > begin + 0.1) & (seen < begin + 1.8) for begin in (30 / FPS, 240 / FPS)]
    seen = seen[inside[0] | inside[1]]
    late = np.array([clicks[np.abs(clicks - moment).argmin()] - moment for moment in seen])
    assert len(late) >= 6
    print(f"heard after seen: {np.median(late) * 1000:.1f} ms (median), {np.abs(late).max() * 1000:.1f} ms (worst)")
    assert np.abs(late).max() < FRAME
