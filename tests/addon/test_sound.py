"""Sound of takes on the sequencer, listened to: what Blender would play is mixed down, and its clicks are looked up."""

from __future__ import annotations

import json
import os
import subprocess
import wave
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from mien.addon import session, takes, workflow
from mien.addon.ids import TAKE_LIST
from mien.addon.sample_head import append_sample_head
from mien.core.errors import MienError
from mien.core.protocol import TakeStatus
from mien.core.take import TakeHeader, TakeWriter
from mien.core.types import FrameResult
from mien.core.wav import WavWriter, sound_path

from .conftest import make_rig

RATE = 48_000
CLICKS = (0.25, 1.0, 1.75)
SECONDS = 2.0
FPS = 30
MS = 0.001

needs_audio = pytest.mark.skipif(
    not bpy.app.build_options.audaspace,
    reason="this bpy wheel, unlike Blender, was built without sound",
)


def write_sound(path: Path, clicks=CLICKS, rate: int = RATE) -> Path:
    samples = np.zeros(int(SECONDS * rate), np.int16)
    for click in clicks:
        samples[round(click * rate) :][:8] = 20_000
    writer = WavWriter(path, rate)
    writer.write(samples)
    writer.close()
    return path


def make_take(path: Path, *, rate: int = RATE, clicks=CLICKS, with_sound: bool = True, **extra) -> Path:
    """A take of two seconds, and what a live recording would have put beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if with_sound:
        extra["microphone"] = ""
        write_sound(sound_path(path), clicks, rate)
    with TakeWriter(
        path, TakeHeader("Webcam", fps=float(FPS), size=(640, 480), extra={"live": True, **extra})
    ) as writer:
        for i in range(int(SECONDS * FPS)):
            units = np.full(11, 0.5 + 0.5 * np.sin(i / 7.0), np.float32)
            writer.write(FrameResult(i, i / FPS, found=True, confidence=1.0, size=(640, 480), units=units))
    return path


@pytest.fixture
def scene(rig):
    scene = bpy.context.scene
    scene.mien.target = rig
    return scene


@pytest.fixture
def folder(tmp_path):
    """A takes folder of the test's own."""
    folder = tmp_path / "takes"
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(folder)
    return folder


@pytest.fixture
def take(folder):
    return make_take(folder / "Scene 1.mien")


def strips(scene):
    editor = scene.sequence_editor
    return list(editor.strips if hasattr(editor, "strips") else editor.sequences) if editor else []


def heard(scene, tmp_path, end=300) -> np.ndarray:
    """Return the scene times, in seconds from frame 1, of the clicks that Blender plays."""
    mixed = tmp_path / "mixed.wav"
    scene.frame_start, scene.frame_end = 1, end
    assert bpy.ops.sound.mixdown(filepath=str(mixed), container="WAV", codec="PCM", format="S16") == {"FINISHED"}
    with wave.open(str(mixed)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels)[:, 0].astype(int)
    loud = np.flatnonzero(np.abs(samples) > 5_000)
    return loud[np.diff(loud, prepend=-rate) > rate // 100] / rate


def bake(take: Path):
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}


@needs_audio
@pytest.mark.parametrize("fps", [24.0, 25.0, 60.0, 30000 / 1001])
def test_a_baked_take_is_heard_where_it_is_seen(scene, take, tmp_path, fps):
    scene.render.fps = round(fps)
    scene.render.fps_base = round(fps) / fps
    scene.mien.start_frame = 13
    sync = scene.sync_mode
    bake(take)
    assert heard(scene, tmp_path) == pytest.approx(np.array(CLICKS) + 12 / fps, abs=MS)
    (strip,) = strips(scene)
    assert strip.name == "Mien Scene 1"
    assert scene.sync_mode == sync
    assert "Sound on channel 1 of the sequencer" in session.outcome.lines
    assert getattr(bpy.context.workspace, "sequencer_scene", scene) == scene


@needs_audio
def test_a_measured_rate_is_kept(scene, folder, tmp_path):
    """A microphone that runs fast by 0.1 %: told by the header, its clicks stay where they were."""
    bake(make_take(folder / "fast.mien", rate=48_048))
    assert heard(scene, tmp_path) == pytest.approx(CLICKS, abs=MS)


@needs_audio
def test_baked_again_it_is_there_once(scene, take, tmp_path):
    bake(take)
    scene.mien.start_frame = 25
    bake(take)
    assert len(strips(scene)) == 1
    assert heard(scene, tmp_path) == pytest.approx(np.array(CLICKS) + 1.0, abs=MS)
    assert len(bpy.data.sounds) == 1


@needs_audio
def test_the_sound_of_a_renamed_head_is_not_doubled(scene, take):
    bake(take)
    scene.mien.target.name = "Renamed"
    bake(take)
    assert len(strips(scene)) == 1
    assert strips(scene)[0]["mien_sound_of"] == "Renamed"


@needs_audio
def test_the_sound_in_a_copied_scene_is_not_doubled(scene, take):
    bake(take)
    bpy.ops.scene.new(type="FULL_COPY")  # whose head has another name
    copied = bpy.context.scene
    assert copied.mien.target not in scene.objects[:]
    bake(take)
    assert [strip["mien_sound_of"] for strip in strips(copied)] == [copied.mien.target.name]
    assert len(strips(scene)) == 1


@needs_audio
def test_a_head_leaves_the_sound_of_one_that_was_renamed(scene, take, folder):
    anna, bob = scene.mien.target, make_rig()
    bake(take)
    scene.mien.target = bob
    bake(make_take(folder / "Bob.mien"))
    bob.name = "Robert"
    scene.mien.target = anna
    bake(make_take(folder / "Anna.mien"))
    assert [(strip.name, strip.mute) for strip in strips(scene)] == [
        ("Mien Scene 1", True),
        ("Mien Bob", False),
        ("Mien Anna", False),
    ]
    # That of one which is no more makes way.
    bpy.data.objects.remove(bob)
    bake(take)
    assert [(strip.name, strip.mute) for strip in strips(scene)] == [
        ("Mien Scene 1", False),
        ("Mien Bob", True),
        ("Mien Anna", True),
    ]


@needs_audio
def test_the_next_take_of_a_head_replaces_the_sound_before(scene, take, folder, tmp_path):
    second = make_take(folder / "Scene 2.mien", clicks=(0.5,))
    bake(take)
    bake(second)
    assert heard(scene, tmp_path) == pytest.approx([0.5], abs=MS)
    assert sorted(strip.mute for strip in strips(scene)) == [False, True]
    assert len({strip.channel for strip in strips(scene)}) == 2
    bake(take)
    assert heard(scene, tmp_path) == pytest.approx(CLICKS, abs=MS)


@needs_audio
def test_a_punched_in_take_is_heard_with_the_one_around_it(scene, take, folder, tmp_path):
    punched = make_take(folder / "punch.mien", clicks=(0.5,), scene_frame=25)
    bake(take)
    bake(punched)
    assert heard(scene, tmp_path) == pytest.approx([*CLICKS[:2], 1.5, CLICKS[2]], abs=MS)


@needs_audio
def test_a_take_that_begins_between_two_frames_is_heard_there(scene, folder, tmp_path):
    bake(make_take(folder / "punch.mien", clicks=(0.5,), scene_frame=25.4))
    assert heard(scene, tmp_path) == pytest.approx([0.5 + 24.4 / 24], abs=MS)


@needs_audio
def test_what_is_on_the_sequencer_stays(scene, take, tmp_path):
    editor = scene.sequence_editor_create()
    collection = editor.strips if hasattr(editor, "strips") else editor.sequences
    music = collection.new_sound("Music", str(write_sound(tmp_path / "music.wav", (0.1,))), 1, 1)
    bake(take)
    assert (music.channel, music.mute) == (1, False)
    assert heard(scene, tmp_path) == pytest.approx([0.1, *CLICKS], abs=MS)


@needs_audio
def test_sound_keeps_off_channels_that_are_muted_or_locked(scene, take):
    editor = scene.sequence_editor_create()
    editor.channels[1].mute = editor.channels[2].lock = True
    bake(take)
    assert [strip.channel for strip in strips(scene)] == [3]


@needs_audio
def test_baked_again_it_keeps_its_channel_where_that_is_free(scene, take, tmp_path):
    bake(take)
    (strip,) = strips(scene)
    strip.channel = 5
    scene.mien.start_frame = 25
    bake(take)
    assert strip.channel == 5
    editor = scene.sequence_editor
    collection = editor.strips if hasattr(editor, "strips") else editor.sequences
    music = collection.new_sound("Music", str(write_sound(tmp_path / "music.wav")), 5, 200)
    scene.mien.start_frame = 210
    bake(take)
    assert (music.channel, strip.channel) == (5, 1)


@needs_audio
@pytest.mark.parametrize("locked", ["strip", "channel"])
def test_locked_sound_stays_there(scene, take, locked):
    bake(take)
    (strip,) = strips(scene)
    strip.channel = 5
    (strip if locked == "strip" else scene.sequence_editor.channels[5]).lock = True
    scene.mien.start_frame = 25
    bake(take)
    assert (strip.channel, strip.content_start if hasattr(strip, "content_start") else strip.frame_start) == (5, 1)
    assert 'The sound stays where it is: the strip "Mien Scene 1", or its channel, is locked' in session.outcome.lines


@needs_audio
def test_sound_in_a_meta_strip_stays_there(scene, take):
    bake(take)
    (strip,) = strips(scene)
    editor = scene.sequence_editor
    meta = (editor.strips if hasattr(editor, "strips") else editor.sequences).new_meta("Lines", 5, 1)
    strip.move_to_meta(meta)
    bake(take)
    assert [each.type for each in strips(scene)] == ["META"]
    assert 'The sound stays where it is in the meta strip "Lines"' in session.outcome.lines


@needs_audio
@pytest.mark.parametrize("delay", [40.0, -40.0, 0.5])
def test_a_delay_is_kept_within_a_frame(scene, take, tmp_path, delay):
    scene.mien.start_frame = 25
    scene.mien.sound_delay = delay
    bake(take)
    assert heard(scene, tmp_path) == pytest.approx(np.array(CLICKS) + 1.0 + delay * MS, abs=MS)


@needs_audio
def test_sound_is_an_option(scene, take):
    scene.mien.use_sound = False
    bake(take)
    assert not strips(scene)


def test_a_take_without_sound_touches_no_sequencer(scene, folder):
    path = make_take(folder / "mute.mien", with_sound=False)
    write_sound(sound_path(path))  # somebody else's file of that name
    scene.sequence_editor_clear()
    bake(path)
    assert scene.sequence_editor is None
    assert len(bpy.data.sounds) == 0


@needs_audio
def test_undo_takes_the_sound_along(scene, take):
    bpy.ops.ed.undo_push(message="before")
    bake(take)
    bpy.ops.ed.undo_push(message="Bake Take")
    assert len(strips(bpy.context.scene)) == 1
    bpy.ops.ed.undo()
    assert not strips(bpy.context.scene)


@needs_audio
def test_a_sound_that_cannot_be_read_costs_no_key(scene, take):
    sound_path(take).write_bytes(b"no sound at all")
    scene.sequence_editor_clear()
    bake(take)
    assert scene.sequence_editor is None
    assert scene.mien.target.data.shape_keys.animation_data.action is not None
    assert len(bpy.data.sounds) == 0


@pytest.mark.skipif(bpy.app.build_options.audaspace, reason="this Blender has sound")
def test_a_blender_without_sound_says_so(scene, take):
    bake(take)
    assert any("No sound" in line for line in session.outcome.lines)
    assert scene.mien.target.data.shape_keys.animation_data.action is not None


# --- a video's own sound


@pytest.fixture
def bake_video(fake_worker, folder):
    """Bakes a video of clicks, two seconds long, through a worker that sees a face in it."""

    def bake(video: Path, lead: float | None = 0.0, clicks=CLICKS) -> Path:
        """Have the sound begin so many seconds before the picture; None makes a video without. Returns the take."""
        sound = write_sound(video.with_suffix(".wav"), clicks)
        picture = ["-itsoffset", max(lead or 0.0, 0.0), "-f", "lavfi", "-i", "testsrc=d=2:r=24:s=64x64"]
        audio = ["-itsoffset", max(-lead, 0.0), "-i", sound, "-c:a", "pcm_s16le"] if lead is not None else []
        command = ["ffmpeg", "-y", "-v", "error", *picture, *audio, "-c:v", "mpeg4", "-vsync", "passthrough", video]
        subprocess.run(list(map(str, command)), check=True)
        sound.unlink()
        fake_worker(f"""
            with TakeWriter(take, TakeHeader(source="{video.name}", fps=24.0)) as writer:
                for i in range(48):
                    writer.write(FrameResult(i, i / 24, found=True, confidence=1.0, units=np.full(11, i / 48, "f4")))
            return jobs.CaptureSummary(48, 48, 2.0, 0.1, take)
        """)
        chosen = bpy.context.scene.mien
        chosen.source = str(video)
        assert bpy.ops.mien.bake() == {"FINISHED"}
        return Path(chosen.take)

    return bake


@needs_audio
@pytest.mark.parametrize("kind", ["mov", "mkv"])
@pytest.mark.parametrize("lead", [None, 0.0, 0.5, -0.5])
def test_a_video_brings_its_own_sound(scene, tmp_path, bake_video, kind, lead):
    """Also where it begins before the first picture, or after it: Blender knows nothing of that."""
    scene.mien.start_frame = 25
    bake_video(tmp_path / f"actor.{kind}", lead)
    if lead is None:
        assert not strips(scene)
        assert len(bpy.data.sounds) == 0
        return
    assert heard(scene, tmp_path) == pytest.approx(np.array(CLICKS) + 1.0 - lead, abs=2 * MS)


@needs_audio
def test_a_take_keeps_the_sound_of_its_video(scene, folder, tmp_path, bake_video):
    take = bake_video(tmp_path / "actor.mov")
    bake(take)
    assert heard(scene, tmp_path) == pytest.approx(CLICKS, abs=2 * MS)
    renamed = takes.rename(take, "Happy")
    workflow.take_moved(take, renamed)
    scene.mien.start_frame = 25
    bake(renamed)
    assert heard(scene, tmp_path) == pytest.approx(np.array(CLICKS) + 1.0, abs=2 * MS)
    bake(make_take(folder / "mute.mien", with_sound=False))
    assert workflow.heard_of(scene, Path(scene.mien.take)) is None
    assert workflow.heard_of(scene, renamed) is None  # another was baked since


# --- the command line


@needs_audio
@pytest.mark.parametrize("more", [(), ("--no-sound",)])
def test_the_command_line_bakes_a_take_with_its_sound(mien_command, take, tmp_path, more):
    out = tmp_path / "out.blend"
    command = [*mien_command, "bake", take, "--out", out, "--start", "25", "--json", *more]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["take"], told["capture"], told["bake"]["start"]) == (str(take), None, 25)
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    scene = bpy.context.scene
    if more:
        assert not strips(scene)
    else:
        assert heard(scene, tmp_path) == pytest.approx(np.array(CLICKS) + 24 / scene.render.fps, abs=MS)


# --- the files


def listed(name):
    known = getattr(bpy.context.window_manager, TAKE_LIST)
    return next(item for item in known.items if item.name == name)


def choose(name):
    known = getattr(bpy.context.window_manager, TAKE_LIST)
    known.active = [item.name for item in known.items].index(name)


def test_the_list_tells_which_takes_have_sound(take, folder):
    make_take(folder / "mute.mien", with_sound=False)
    bpy.ops.mien.takes_refresh()
    assert listed("Scene 1").sound
    assert not listed("mute").sound


def test_sound_goes_where_its_take_goes(scene, take):
    if bpy.app.build_options.audaspace:
        bake(take)
    bpy.ops.mien.takes_refresh()
    choose("Scene 1")
    assert bpy.ops.mien.take_rename(name="Happy") == {"FINISHED"}
    assert takes.sound_of(take.with_name("Happy.mien")) == take.with_name("Happy.wav")
    assert not sound_path(take).exists()
    if bpy.app.build_options.audaspace:
        assert Path(bpy.data.sounds[0].filepath) == take.with_name("Happy.wav")
    assert bpy.ops.mien.take_delete() == {"FINISHED"}
    bin_folder = take.parent / takes.BIN
    assert (bin_folder / "Happy.mien").exists()
    assert (bin_folder / "Happy.wav").exists()
    assert not take.with_name("Happy.wav").exists()


def test_a_rename_never_takes_over_another_sound(take):
    write_sound(take.with_name("Other.wav"), ())
    before = take.with_name("Other.wav").read_bytes()
    with pytest.raises(MienError, match="already"):
        takes.rename(take, "Other")
    assert take.with_name("Other.wav").read_bytes() == before
    assert takes.sound_of(take) is not None


def test_a_rename_that_fails_half_way_leaves_take_and_sound_together(take, monkeypatch):
    replace, moves = os.replace, []

    def fail_once(*where):
        moves.append(where)
        if len(moves) == 2:
            raise PermissionError(13, "in use")
        replace(*where)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(MienError) as error:
        takes.rename(take, "Happy")
    assert error.value.code == "take-not-moved"
    assert sorted(path.name for path in take.parent.iterdir()) == ["Scene 1.mien", "Scene 1.wav"]
    assert takes.sound_of(take) is not None


def test_export_puts_the_sound_beside_the_file(scene, take, tmp_path):
    scene.mien.take = str(take)
    assert bpy.ops.mien.export_csv(filepath=str(tmp_path / "a.csv")) == {"FINISHED"}
    assert (tmp_path / "a.wav").read_bytes() == sound_path(take).read_bytes()
    (tmp_path / "b.wav").write_bytes(b"somebody else's")
    assert bpy.ops.mien.export_csv(filepath=str(tmp_path / "b.csv")) == {"FINISHED"}
    assert (tmp_path / "b.wav").read_bytes() == b"somebody else's"
    # Also where Blender asked whether the table may be replaced: it asked for that alone.
    assert bpy.ops.mien.export_csv(filepath=str(tmp_path / "b.csv")) == {"FINISHED"}
    assert (tmp_path / "b.wav").read_bytes() == b"somebody else's"
    assert bpy.ops.mien.export_csv(filepath=str(tmp_path / "c.csv"), sound=False) == {"FINISHED"}
    assert not (tmp_path / "c.wav").exists()


@pytest.fixture
def stage():
    """A head before a camera, in a scene that renders in no time."""
    head = append_sample_head(bpy.context)[0]
    scene = bpy.context.scene
    scene.render.fps, scene.render.resolution_x, scene.render.resolution_y = 10, 32, 32
    scene.mien.target, scene.mien.start_frame = head, 13
    return scene


def clicks_of(film: Path) -> np.ndarray:
    """Return the times of the clicks in a film."""
    import aud

    played = aud.Sound.file(str(film))
    samples, rate = played.data()[:, 0], played.specs[0]
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    return loud[np.diff(loud, prepend=-rate) > rate // 10] / rate


@needs_audio
def test_a_film_of_a_take_has_its_sound(stage, folder, tmp_path):
    """Its own alone, and nothing of it is left in the file."""
    bake(make_take(folder / "other.mien", clicks=(0.6,)))
    for with_sound in (True, False):
        take = make_take(folder / f"{with_sound}.mien")
        stage.mien.take, stage.mien.use_sound = str(take), with_sound
        film = tmp_path / f"{with_sound}.mp4"
        assert bpy.ops.mien.preview_render_take(filepath=str(film)) == {"FINISHED"}
        assert (b"mp4a" in film.read_bytes()) is with_sound
        if with_sound:
            assert clicks_of(film) == pytest.approx(CLICKS, abs=0.05)
    assert len(strips(stage)) == 1
    assert len(bpy.data.sounds) == 1
    assert len(bpy.data.scenes) == 1


@needs_audio
@pytest.mark.parametrize("lead", [None, 0.0, 0.5])
def test_a_film_of_a_video_has_the_videos_sound(stage, folder, tmp_path, bake_video, lead):
    bake_video(tmp_path / "actor.mov", lead)
    film = tmp_path / "film.mp4"
    assert bpy.ops.mien.preview_render_take(filepath=str(film)) == {"FINISHED"}
    assert (b"mp4a" in film.read_bytes()) is (lead is not None)
    if lead is not None:
        expected = np.array(CLICKS) - lead
        assert clicks_of(film) == pytest.approx(expected[expected > 0], abs=0.05)
    stage.mien.take = str(make_take(folder / "live.mien", with_sound=False))
    assert bpy.ops.mien.preview_render_take(filepath=str(film)) == {"FINISHED"}
    assert b"mp4a" not in film.read_bytes()


# --- while live


def test_the_microphone_is_off_unless_it_is_switched_on():
    from mien.addon import live_workflow

    chosen = live_workflow.settings(bpy.context)
    assert live_workflow.tuning_of(bpy.context.scene).microphone is None
    bpy.context.preferences.addons["mien"].preferences.microphone = True
    assert live_workflow.tuning_of(bpy.context.scene).microphone == ""
    chosen.microphone_name = " Headset "
    assert live_workflow.tuning_of(bpy.context.scene).microphone == "Headset"


def test_what_went_wrong_with_the_sound_is_told(take):
    from mien.addon import live_workflow

    error = MienError("microphone-gone", "Headset gives no more sound.", "Check its cable.")
    status = TakeStatus(1, str(take), False, 60, 60, duration=2.0, sound=1.2, sound_error=error)
    live_workflow.on_take(SimpleNamespace(timeline=None), status)
    assert session.outcome.lines == [
        "Take Scene 1: 60 frames, 2.0 s",
        "Sound: 1.2 s",
        "Headset gives no more sound.",
        "Check its cable.",
    ]
    assert not session.outcome.failed
    assert listed("Scene 1").sound
