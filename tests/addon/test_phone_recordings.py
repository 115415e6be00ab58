"""A recording of Live Link Face goes onto the sample head: with the real worker, and without a model or a picture."""

from __future__ import annotations

import json
import subprocess
import wave

import bpy
import numpy as np
import pytest

from mien.addon import session
from mien.addon.ids import TAKE_LIST
from mien.addon.panels.main import MIEN_PT_main
from mien.addon.sample_head import append_sample_head
from mien.core.action_units import from_arkit
from mien.core.fusion import fuse
from mien.core.livelink_csv import COLUMNS, HEADER, timecode
from mien.core.take import Take
from mien.core.units import ARKIT, ARKIT_INDEX, UNITS

from .conftest import curves_of
from .panel_text import drawn_by

RATE, SECONDS = 30, 4
LOST = range(60, 66)


def jaw(seconds):
    """The weight `jawOpen`."""
    return 0.3 - 0.3 * np.cos(seconds * 3.0)


def opened(seconds):
    """The unit that follows from it, as for a phone on the network."""
    weights = np.zeros(len(ARKIT), np.float32)
    weights[ARKIT_INDEX["jawOpen"]] = jaw(seconds)
    return fuse(from_arkit(weights))[UNITS.index("JawOpen")]


@pytest.fixture(autouse=True)
def no_models(monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_MODELS", str(tmp_path / "none"))


@pytest.fixture
def recording(tmp_path):
    """Four seconds from the phone, 30 rows a second under a timecode of 60: the jaw goes, the head turns, gets lost."""
    lines = [",".join(HEADER)]
    for i in range(RATE * SECONDS):
        values = dict.fromkeys(COLUMNS, 0.0) | {"JawOpen": jaw(i / RATE), "HeadYaw": 0.3 * i / RATE / SECONDS}
        cells = ["0"] if i in LOST else ["61", *(f"{value:.10f}" for value in values.values())]
        lines.append(",".join([timecode(43200.2 + i / RATE, 60), *cells]))
    path = tmp_path / "MySlate_7_iPhone.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def settings(recording, tmp_path):
    settings = bpy.context.scene.mien
    settings.target, _rig = append_sample_head(bpy.context)
    settings.source = str(recording)
    settings.neutral, settings.smoothing = "none", 0.0
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(tmp_path / "takes")
    return settings


def jaw_of(head):
    return curves_of(head.data.shape_keys)['key_blocks["JawOpen"].value', 0]


def head_at(rig, frame):
    bpy.context.scene.frame_set(frame)
    return rig.pose.bones["head"].matrix.to_quaternion()


def test_it_is_baked_onto_the_sample_head(settings):
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    assert not session.outcome.failed
    assert "Face in 114 of 120 pictures (95%)" in session.outcome.lines
    curve = jaw_of(settings.target)
    for frame in range(1, 24 * SECONDS):
        if abs((frame - 1) / 24 - 2.1) > 0.15:  # where the face is lost
            assert curve.evaluate(frame) == pytest.approx(opened((frame - 1) / 24), abs=0.03)
    assert settings.target.data.shape_keys.animation_data.action.name == "MySlate_7_iPhone"
    before, after = (head_at(settings.target.parent, frame) for frame in (1, 96))
    assert before.rotation_difference(after).angle == pytest.approx(0.3 * 95 / 24 / SECONDS, abs=0.01)

    with Take(settings.take) as take:
        assert (take.header.source, take.header.fps) == ("MySlate_7_iPhone.csv", RATE)
        assert take.times[-1] == pytest.approx(SECONDS - 1 / RATE, abs=1e-4)
    bpy.ops.mien.takes_refresh()
    (listed,) = getattr(bpy.context.window_manager, TAKE_LIST).items
    assert (listed.name[:17], listed.frames) == ("MySlate_7_iPhone-", 120)
    assert bpy.ops.mien.take_bake() == {"FINISHED"}


def test_its_rate_is_asked_for_and_obeyed(settings):
    drawn = drawn_by(MIEN_PT_main)
    assert "timecode_fps" in drawn
    assert "sequence_fps" not in drawn
    bpy.ops.mien.bake("EXEC_DEFAULT")
    first = settings.take
    settings.timecode_fps = 59.94
    bpy.ops.mien.bake("EXEC_DEFAULT")
    assert settings.take != first
    with Take(settings.take) as take:
        assert take.times[-1] == pytest.approx((SECONDS - 1 / RATE) * 60 / 59.94, abs=1e-4)
    settings.timecode_fps = 24.0
    with pytest.raises(RuntimeError, match="frames up to 58, too many for 24"):
        bpy.ops.mien.bake("EXEC_DEFAULT")


def test_another_table_is_refused(settings, recording, unchanged):
    recording.write_text("kind,index\nV,0\n")
    unchanged()
    with pytest.raises(RuntimeError, match="not a Live Link Face CSV"):
        bpy.ops.mien.bake("EXEC_DEFAULT")
    assert any("named after the take" in line for line in session.outcome.lines)


@pytest.mark.skipif(
    not bpy.app.build_options.audaspace, reason="this bpy wheel, unlike Blender, was built without sound"
)
def test_the_film_beside_it_is_heard(settings, recording, tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(np.full(96_000, 9_000, "<i2").tobytes())
    film = recording.with_suffix(".MOV")
    sources = ["-f", "lavfi", "-i", "testsrc=d=2:r=24:s=64x64", "-i", tmp_path / "sound.wav"]
    subprocess.run(["ffmpeg", "-v", "error", *sources, "-c:v", "mpeg4", "-c:a", "pcm_s16le", film], check=True)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    assert "Sound on channel 1 of the sequencer" in session.outcome.lines
    editor = bpy.context.scene.sequence_editor
    (strip,) = editor.strips if hasattr(editor, "strips") else editor.sequences
    assert bpy.path.abspath(strip.sound.filepath) == str(film)


def test_from_the_command_line(mien_command, recording, tmp_path):
    out = tmp_path / "out.blend"
    chosen = ["--out", out, "--json", "--rest", "none", "--smoothing", 0, "--scene-fps", 24]
    command = list(map(str, [*mien_command, "bake", recording, *chosen]))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["capture"]["frames"], told["capture"]["found"], told.get("sheet")) == (120, 114, None)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".blend", ".csv", ".mien"]
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    assert jaw_of(bpy.data.objects["MienHead"]).evaluate(25) == pytest.approx(opened(1.0), abs=0.03)
