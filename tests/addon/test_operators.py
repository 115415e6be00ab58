"""The operators as scripts call them, with a real worker process."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from mien.addon import actions, preferences, session, workflow
from mien.addon.capturing import CaptureJob, take_path
from mien.addon.panels.main import MIEN_PT_further_heads, MIEN_PT_main
from mien.core.errors import MienError
from mien.core.files import PART_SUFFIX
from mien.core.solve import Neutral
from mien.core.take import TakeHeader, TakeWriter
from mien.core.types import FrameResult
from mien.core.units import ARKIT, ARKIT_INDEX, UNITS

from .conftest import curves_of, link_action, make_rig, snapshot
from .panel_text import drawn_by

CAPTURE = """
with TakeWriter(take, TakeHeader(source=str(source), fps=25.0, size=(64, 48))) as writer:
    for i in range(50):
        units = np.full(11, 0.5 - 0.5 * np.cos(i / 8.0))
        writer.write(FrameResult(index=i, time=i / 25.0, found=True, confidence=1.0, units=units))
        if on_progress and i % 10 == 0:
            on_progress(jobs.CaptureProgress("capturing", i, 50, i, 1.0))
return jobs.CaptureSummary(50, 50, 1.96, 0.1, str(take))
"""


@pytest.fixture
def ready(rig, tmp_path):
    """A scene in which pressing Bake would work."""
    source = tmp_path / "actor.mp4"
    source.write_bytes(b"not looked at by the fake worker")
    settings = bpy.context.scene.mien
    settings.target = rig
    settings.source = str(source)
    settings.neutral = "none"
    settings.smoothing = 0.0
    return rig


def takes():
    folder = Path(bpy.context.preferences.addons["mien"].preferences.takes_folder)
    return sorted(folder.glob("*")) if folder.is_dir() else []


@pytest.fixture(autouse=True)
def no_takes():
    for path in takes():
        path.unlink()


def bake_fails() -> str:
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.mien.bake("EXEC_DEFAULT")
    assert session.outcome.failed
    return str(caught.value)


def test_bake(ready, fake_worker):
    fake_worker(CAPTURE)
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    curve = curves_of(ready.data.shape_keys)['key_blocks["Smile"].value', 0]
    for frame in range(1, 48):
        truth = 0.5 - 0.5 * np.cos((frame - 1) / 24 * 25 / 8)
        assert curve.evaluate(frame) == pytest.approx(truth, abs=0.01)
    assert ready.data.shape_keys.animation_data.action.name.startswith("actor")
    assert [path.suffix for path in takes()] == [".mien"]
    assert bpy.context.scene.mien.take == str(takes()[0])
    assert "50 of 50" in session.outcome.lines[1]
    assert not session.outcome.failed


def test_undo_takes_what_is_told_of_a_bake_along(ready, fake_worker):
    fake_worker(CAPTURE)
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.mien.bake("EXEC_DEFAULT")
    assert session.outcome.lines[0] in drawn_by(MIEN_PT_main)
    bpy.ops.ed.undo_push(message="Bake Performance")
    bpy.ops.ed.undo()
    assert not any(text.startswith("Frames ") for text in drawn_by(MIEN_PT_main))


def test_a_take_is_reused_until_the_source_changes(ready, fake_worker):
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    fake_worker('raise MienError("x", "Captured again.", "")')
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    Path(bpy.context.scene.mien.source).write_bytes(b"another performance")
    assert "Captured again" in bake_fails()
    assert len(takes()) == 1


def test_a_take_without_all_models_is_captured_again(ready, fake_worker):
    """They may be whole by now; and so is the take after that."""
    poorer = CAPTURE.replace("size=(64, 48)", "size=(64, 48), extra={'without': ['expression']}")
    assert poorer != CAPTURE
    fake_worker(poorer)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    fake_worker('raise MienError("x", "Captured again.", "")')
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    # What is no take does not stand in the way of one.
    takes()[0].write_bytes(b"")
    assert "Captured again" in bake_fails()


def test_reuse_can_be_turned_off(ready, fake_worker):
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    bpy.context.scene.mien.reuse_take = False
    fake_worker('raise MienError("x", "Captured again.", "")')
    assert "Captured again" in bake_fails()


def test_the_panel_says_what_bake_waits_for(ready):
    settings = bpy.context.scene.mien
    settings.source = ""
    drawn = drawn_by(MIEN_PT_main)
    assert not drawn["Bake"].usable
    assert "Choose a video under Source" in drawn
    settings.target = None
    assert "Choose a head under Target" in drawn_by(MIEN_PT_main)


def test_undo_takes_one_step(ready, fake_worker):
    fake_worker(CAPTURE)
    bpy.ops.ed.undo_push(message="before")
    before = snapshot()
    bpy.ops.mien.bake("EXEC_DEFAULT")
    # Blender pushes the step of operators run from its interface; a script pushes its own.
    bpy.ops.ed.undo_push(message="Bake Performance")
    assert snapshot() != before
    bpy.ops.ed.undo()
    assert snapshot() == before


def test_what_changes_the_scene_can_be_undone():
    from mien.addon.operators import bake, sample_head, take_list, takes

    bakes = (bake.MIEN_OT_bake, takes.MIEN_OT_bake_take, take_list.MIEN_OT_take_bake)
    names = (take_list.MIEN_OT_take_rename, take_list.MIEN_OT_take_delete)
    for cls in (*bakes, *names, sample_head.MIEN_OT_add_sample_head):
        assert "UNDO" in cls.bl_options


def test_errors_of_the_worker_reach_the_user(ready, fake_worker, unchanged):
    unchanged()
    fake_worker('raise MienError("disk-full", "The disk is full.", "Free some space.")')
    assert "The disk is full. Free some space." in bake_fails()
    fake_worker('raise MienError("model-missing", "The model is missing.", "Reinstall.")')
    assert "The model is missing. Reinstall." in bake_fails()
    assert session.outcome.lines == ["The model is missing.", "Reinstall."]
    assert takes() == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_a_killed_worker(ready, fake_worker, unchanged):
    unchanged()
    fake_worker("on_progress(jobs.CaptureProgress('capturing', 3, 50, 3, 1.0))\nos.kill(os.getpid(), signal.SIGKILL)")
    assert "SIGKILL" in bake_fails()


def test_a_worker_that_does_not_start(ready, unchanged):
    unchanged()
    session.worker_command = ["/no/such/python"]
    try:
        assert "worker" in bake_fails()
    finally:
        session.worker_command = None


def test_no_source(ready, unchanged):
    bpy.context.scene.mien.source = ""
    unchanged()
    assert "No source is chosen" in bake_fails()


def test_source_gone(ready, unchanged, tmp_path):
    bpy.context.scene.mien.source = str(tmp_path / "gone.mp4")
    unchanged()
    assert "There is no file" in bake_fails()


def test_a_path_that_cannot_be_looked_at_is_told(ready, unchanged, tmp_path, monkeypatch):
    bpy.context.scene.mien.source = str(tmp_path / ("x" * 300 + ".mp4"))
    unchanged()
    assert "cannot be read" in bake_fails() or sys.platform == "win32"
    # Nor is a folder that may not be read a reason to fail here: its capture tells.
    monkeypatch.setattr(Path, "iterdir", _refuse)
    assert take_path(tmp_path, tmp_path, 24.0) == take_path(tmp_path, tmp_path, 24.0)


def _refuse(_path):
    raise PermissionError(13, "Permission denied")


def test_a_video_with_the_name_of_a_pattern_is_a_video(ready, fake_worker, tmp_path):
    """Its take is of this file alone, so that a neighbour's change captures nothing again."""
    video = tmp_path / "Take #3, 50%.mp4"
    video.write_bytes(b"not looked at by the fake worker")
    bpy.context.scene.mien.source = str(video)
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    fake_worker("raise MienError('x', 'captured again')")
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    assert workflow.chosen_source(bpy.context) == (video, None)


def test_no_target_is_told_before_anything_is_captured(ready, fake_worker, unchanged):
    fake_worker(CAPTURE)
    bpy.context.scene.mien.target = None
    unchanged()
    assert "No head is chosen" in bake_fails()
    assert takes() == []


def test_a_takes_folder_that_cannot_be_made_is_told(ready, fake_worker, unchanged, tmp_path):
    fake_worker(CAPTURE)
    (tmp_path / "file").touch()
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(tmp_path / "file" / "takes")
    unchanged()
    assert "The takes folder" in bake_fails()


def test_a_head_deleted_while_it_is_captured_is_told_and_its_take_kept(ready, fake_worker, monkeypatch):
    fake_worker(CAPTURE)
    asked, wait = workflow.request(bpy.context, "actor"), CaptureJob.wait

    def wait_and_delete(job):
        wait(job)
        bpy.data.objects.remove(ready)

    monkeypatch.setattr(CaptureJob, "wait", wait_and_delete)
    assert "The head was deleted while the performance was captured" in bake_fails()
    (path,) = takes()
    assert session.outcome.lines[1] == f"The take is kept in {path}."
    with pytest.raises(MienError) as caught:
        workflow.bake_take(asked, path)
    assert caught.value.code == "target-gone"


def test_bake_take(ready, fake_worker, tmp_path):
    path = tmp_path / "old.mien"
    with TakeWriter(path, TakeHeader(source="/videos/monday.mov", fps=25.0)) as writer:
        for i in range(26):
            writer.write(FrameResult(index=i, time=i / 25.0, found=True, confidence=1.0, units=np.full(11, i / 25.0)))
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    key = ready.data.shape_keys
    assert key.animation_data.action.name == "monday"
    assert curves_of(key)['key_blocks["Frown"].value', 0].evaluate(13) == pytest.approx(0.5, abs=0.02)
    unseen = "The scene begins at frame 1001: what comes before is not seen. Set Start Frame"
    assert unseen not in session.outcome.lines
    bpy.context.scene.frame_end, bpy.context.scene.frame_start = 1100, 1001
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    assert unseen in session.outcome.lines


def test_a_take_recorded_along_the_timeline_tells_what_it_replaced(ready, tmp_path):
    path = tmp_path / "punch.mien"
    with TakeWriter(path, TakeHeader(source="punch", fps=24.0, extra={"scene_frame": 20})) as writer:
        for i in range(11):
            writer.write(FrameResult(index=i, time=i / 24.0, found=True, confidence=1.0, units=np.full(11, 0.5)))
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    told = 'Recorded along the timeline: keys of frames 20 to 30 of "punch'
    assert any(line.startswith(told) for line in session.outcome.lines)

    # An action that is linked cannot take them: a new one does, where one is asked for.
    key = ready.data.shape_keys
    key.animation_data.action = link_action(bpy.data.actions.new("Linked"), tmp_path)
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    assert key.animation_data.action.library is None
    assert not any(line.startswith("Recorded along") for line in session.outcome.lines)


def values_of(key):
    return {
        where: np.array([tuple(point.co) for point in curve.keyframe_points]) for where, curve in curves_of(key).items()
    }


def test_further_heads_take_the_same_performance(ready, fake_worker):
    fake_worker(CAPTURE)
    teeth, other, broken = make_rig(keys=("Smile", "JawOpen"), bones=()), make_rig(), make_rig(keys=())
    teeth.name, other.name, broken.name = "Teeth", "Other", "Broken"
    bpy.ops.object.select_all(action="DESELECT")
    bpy.context.view_layer.objects.active = None
    teeth.modifiers.new("Armature", "ARMATURE").object = ready.parent
    targets = bpy.context.scene.mien_live.targets
    bpy.ops.mien.live_target_add()
    assert [row.mesh for row in targets] == [teeth]  # it hangs on the target's armature
    for mesh in (other, ready, None, broken):
        targets.add().mesh = mesh
    bpy.data.objects.remove(broken.parent)
    broken.modifiers.clear()

    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    whole = values_of(ready.data.shape_keys)
    np.testing.assert_equal(values_of(other.data.shape_keys), whole)
    np.testing.assert_equal(values_of(other.parent), values_of(ready.parent))
    wanted = {where: keys for where, keys in whole.items() if "Smile" in where[0] or "JawOpen" in where[0]}
    np.testing.assert_equal(values_of(teeth.data.shape_keys), wanted)
    told = 'Broken was left out: Nothing of "Broken" can be moved. "Broken" has no shape keys.'
    assert told in session.outcome.lines
    bones = sum(len(curves_of(each.parent)) for each in (ready, other))
    assert f"{2 * len(UNITS) + 2 + bones} channels" in session.outcome.lines[0]
    owners = [*(each.data.shape_keys for each in (ready, other, teeth)), ready.parent, other.parent]
    if actions.slotted():
        assert len({owner.animation_data.action.name for owner in owners}) == 1


def test_a_further_head_is_taken_out_again():
    targets, heads = bpy.context.scene.mien_live.targets, [make_rig() for _ in range(3)]
    for mesh in heads:
        targets.add().mesh = mesh
    assert bpy.ops.mien.live_target_remove(index=1) == {"FINISHED"}
    assert [row.mesh for row in targets] == [heads[0], heads[2]]


def test_all_on_the_targets_armature_are_added_at_once(ready, fake_worker):
    fake_worker(CAPTURE)
    teeth, eye, hidden, other = (make_rig(keys=("JawOpen",), bones=()) for _ in range(4))
    teeth.name, eye.name, hidden.name = "Teeth", "Eye", "Backup"
    twin = bpy.data.objects.new("Twin", ready.data)  # whose keys are the target's
    bpy.context.collection.objects.link(twin)
    for mesh in (teeth, eye, hidden, twin):
        mesh.parent = ready.parent
    hidden.hide_set(True)
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    assert "Teeth, Eye could move along: add them under Further Heads" in session.outcome.lines
    assert "Add 2 on Its Armature" in drawn_by(MIEN_PT_further_heads)
    bpy.ops.mien.live_target_add(along=True)
    assert [row.mesh for row in bpy.context.scene.mien_live.targets] == [teeth, eye]
    assert "Add 2 on Its Armature" not in drawn_by(MIEN_PT_further_heads)
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    assert not any("could move along" in line for line in session.outcome.lines)
    assert curves_of(teeth.data.shape_keys)
    assert not curves_of(other.data.shape_keys)


def test_what_further_heads_cannot_take_is_told(ready, fake_worker, tmp_path):
    fake_worker(CAPTURE)
    teeth, villain = make_rig(keys=("JawOpen", "Smile"), bones=()), make_rig()
    teeth.name, villain.name = "Teeth", "Villain"
    teeth.modifiers.new("Armature", "ARMATURE").object = ready.parent
    for name in ("JawOpen", "Smile"):
        teeth.data.shape_keys.key_blocks[name].driver_add("value")
    for bone in villain.parent.pose.bones:
        bone.driver_add("rotation_quaternion")
    for mesh in (villain, teeth):
        bpy.context.scene.mien_live.targets.add().mesh = mesh
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    lines = session.outcome.lines
    assert "Villain: Drivers hold neck, head, jaw, eye.L, eye.R: not baked" in lines
    assert any(line.startswith("Teeth: Drivers hold every shape key") for line in lines)

    # An action of another file cannot take keys, and the rest is baked all the same.
    linked = link_action(villain.data.shape_keys.animation_data.action, tmp_path)
    villain.data.shape_keys.animation_data.action = linked
    bpy.context.scene.mien.action_mode = "CURRENT"
    own = ready.data.shape_keys.animation_data.action
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    assert ready.data.shape_keys.animation_data.action == own
    told = f'Villain was left out: its action "{linked.name}" is linked'
    assert told in session.outcome.lines


def test_a_head_without_an_action_is_not_baked_into_anothers(ready, fake_worker):
    fake_worker(CAPTURE)
    villain = make_rig()
    walk = bpy.data.actions.new("Villain Walk")
    villain.data.shape_keys.animation_data_create().action = walk
    bpy.context.scene.mien_live.targets.add().mesh = villain
    bpy.context.scene.mien.action_mode = "CURRENT"
    bpy.context.scene.mien.action_name = "Hero"
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    assert ready.data.shape_keys.animation_data.action.name == "Hero"
    assert villain.data.shape_keys.animation_data.action == walk
    assert curves_of(villain.data.shape_keys)


@pytest.mark.skipif(not actions.slotted(), reason="actions have no slots")
def test_of_heads_that_share_a_slot_the_first_ones_keys_stand(ready, fake_worker):
    fake_worker(CAPTURE)
    teeth = make_rig(keys=("JawOpen",), bones=())
    row = teeth.mien_shapes.add()
    row.name, row.channel, row.strength = "JawOpen", "JawOpen", 0.5
    bpy.context.scene.mien.action_mode = "CURRENT"
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    before = values_of(ready.data.shape_keys)
    first = ready.data.shape_keys.animation_data
    data = teeth.data.shape_keys.animation_data_create()
    data.action, data.action_slot = first.action, first.action_slot
    bpy.context.scene.mien_live.targets.add().mesh = teeth
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    np.testing.assert_equal(values_of(ready.data.shape_keys), before)


def test_of_several_heads_all_or_none_are_baked(ready, fake_worker, unchanged):
    fake_worker(CAPTURE)
    other = make_rig()
    other.name = "Other"
    bpy.context.scene.mien_live.targets.add().mesh = other
    bpy.context.scene.mien.action_mode = "CURRENT"
    assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
    for curve in curves_of(other.data.shape_keys).values():
        curve.lock = True
    unchanged()
    with pytest.raises(RuntimeError, match="is locked"):
        bpy.ops.mien.bake("EXEC_DEFAULT")


def test_a_bake_tells_where_the_face_is_hidden(ready, tmp_path):
    path = tmp_path / "cup.mien"
    with TakeWriter(path, TakeHeader(source="cup.mov", fps=25.0)) as writer:
        for i in range(50):
            sure = 0.2 if 10 <= i < 20 or 30 <= i < 45 else 0.95
            writer.write(FrameResult(index=i, time=i / 25.0, found=True, confidence=sure))
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    assert any("hidden at 0.4-0.8, 1.2-1.8 s:" in line for line in session.outcome.lines)
    with TakeWriter(path, TakeHeader(source="cup.mov", fps=25.0)) as writer:
        for i in range(200):
            sure = 0.2 if i % 20 < 8 else 0.95
            writer.write(FrameResult(index=i, time=i / 25.0, found=True, confidence=sure))
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    assert any("3.2-3.5 s and 5 more:" in line for line in session.outcome.lines)


def test_bake_take_that_is_none(ready, tmp_path, unchanged):
    path = tmp_path / "x.mien"
    path.write_text("hello")
    unchanged()
    with pytest.raises(RuntimeError, match="not a Mien take"):
        bpy.ops.mien.bake_take(filepath=str(path))


def test_a_take_without_a_face(ready, tmp_path, unchanged):
    path = tmp_path / "x.mien"
    with TakeWriter(path, TakeHeader(source="x")) as writer:
        for i in range(5):
            writer.write(FrameResult(index=i, time=i / 25.0))
    unchanged()
    with pytest.raises(RuntimeError, match="No face"):
        bpy.ops.mien.bake_take(filepath=str(path))


def test_export_csv(ready, fake_worker, tmp_path):
    assert not bpy.ops.mien.export_csv.poll()
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    path = tmp_path / "out.csv"
    assert bpy.ops.mien.export_csv(filepath=str(path)) == {"FINISHED"}
    assert "JawOpen" in path.read_text(encoding="utf-8").splitlines()[0]
    with pytest.raises(RuntimeError, match=r"below a file\.csv cannot be written"):
        bpy.ops.mien.export_csv(filepath=str(path / "below a file.csv"))


@pytest.mark.filterwarnings("ignore:.*blend relative")
def test_a_csv_is_put_beside_the_file_where_its_path_begins_there(ready, fake_worker, tmp_path):
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    assert bpy.ops.mien.export_csv(filepath="//out.csv") == {"FINISHED"}
    assert (tmp_path / "out.csv").is_file()


def test_a_csv_of_a_take_has_the_neutral_face_that_was_calibrated_for_it(ready, tmp_path):
    def frames(jaw):
        arkit = np.zeros(len(ARKIT))
        arkit[ARKIT_INDEX["jawOpen"]] = jaw
        return [FrameResult(i, i / 25.0, found=True, confidence=1.0, arkit=arkit) for i in range(25)]

    path, table = tmp_path / "a.mien", tmp_path / "a.csv"
    header = TakeHeader(source="x", fps=25.0, extra={"neutral": Neutral.of(frames(0.2)).to_dict()})
    with TakeWriter(path, header) as writer:
        for result in frames(0.4):
            writer.write(result)
    bpy.context.scene.mien.take, bpy.context.scene.mien.neutral = str(path), "auto"
    assert bpy.ops.mien.export_csv(filepath=str(table)) == {"FINISHED"}
    with table.open(encoding="utf-8", newline="") as file:
        jaws = [float(row["JawOpen"]) for row in csv.DictReader(file)]
    assert jaws == pytest.approx([(0.4 - 0.2) / (1 - 0.2)] * len(jaws))


def test_cancel_ends_the_worker_and_keeps_nothing(tmp_path, fake_worker):
    import time

    fake_worker(
        "open(str(take) + files.PART_SUFFIX, 'w').close()\n"
        "on_progress(jobs.CaptureProgress('capturing', 3, 50, 3, 1.0))\n"
        "time.sleep(60)"
    )
    job = CaptureJob(tmp_path / "a.mp4", tmp_path / "a.mien", command=session.worker_command)
    job.start()
    client = job._client
    pid = client.pid
    deadline = time.monotonic() + 20
    while job.poll() and job.progress is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert job.progress.frame == 3
    started = time.monotonic()
    job.cancel()
    assert time.monotonic() - started < 10.0  # the worker sleeps for a minute
    assert not job.poll()
    assert job.error.code == "cancelled"
    assert not client.alive
    assert pid
    assert list(tmp_path.glob("*.mien*")) == []
    job.cancel()  # again: nothing


def test_cancel_leaves_a_file_that_another_program_holds(tmp_path, fake_worker, monkeypatch):
    """Windows lets nobody delete what a virus scanner looks at."""

    def refuse(*_args, **_how):
        raise PermissionError(13, "in use")

    fake_worker("time.sleep(60)")
    job = CaptureJob(tmp_path / "a.mp4", tmp_path / "a.mien", command=session.worker_command)
    job.start()
    monkeypatch.setattr(Path, "unlink", refuse)
    job.cancel()
    assert job.error.code == "cancelled"


def test_a_cancelled_capture_keeps_its_frames_for_bake_take(ready, fake_worker, tmp_path):
    import time

    from mien.addon.operators.bake import MIEN_OT_bake

    unfinished = CAPTURE.replace("TakeWriter(take,", "TakeWriter(str(take) + files.PART_SUFFIX,")
    fake_worker(unfinished.replace("return jobs", "time.sleep(60)\nreturn jobs"))
    job = CaptureJob(tmp_path / "a.mp4", tmp_path / "a.mien", command=session.worker_command)
    job.start()
    part = tmp_path / f"a.mien{PART_SUFFIX}"
    deadline = time.monotonic() + 20
    while job.poll() and (job.progress is None or job.progress.frame < 40) and time.monotonic() < deadline:
        time.sleep(0.02)
    session.job = job
    operator = SimpleNamespace(_job=job, _end=lambda: setattr(session, "job", None))
    MIEN_OT_bake.cancel(operator, None)  # its window was closed
    assert str(part) in " ".join(session.outcome.lines)
    session.outcome = None
    MIEN_OT_bake.cancel(operator, None)  # its file was: `session.stop` came first
    assert session.outcome is None
    said = []
    operator.report = lambda _kind, text: said.append(text)
    assert MIEN_OT_bake._conclude(operator) == {"CANCELLED"}
    assert str(part) in said[0]
    assert str(part) in " ".join(session.outcome.lines)
    assert not session.outcome.failed
    assert bpy.ops.mien.bake_take(filepath=str(part)) == {"FINISHED"}
    assert curves_of(ready.data.shape_keys)


def test_the_cancel_button_ends_the_capture_and_its_operator(tmp_path, fake_worker):
    from mien.addon.operators.bake import MIEN_OT_bake

    fake_worker("time.sleep(60)")
    job = CaptureJob(tmp_path / "a.mp4", tmp_path / "a.mien", command=session.worker_command)
    job.start()
    session.job = job
    session.timer = bpy.context.window_manager.event_timer_add(0.1, window=bpy.context.window)
    operator = SimpleNamespace(_job=job, _conclude=lambda: {"CANCELLED"}, _end=lambda: MIEN_OT_bake._end(operator))
    assert bpy.ops.mien.cancel() == {"FINISHED"}
    assert job.error.code == "cancelled"
    assert MIEN_OT_bake.modal(operator, bpy.context, SimpleNamespace(type="TIMER", value="NOTHING")) == {"CANCELLED"}
    assert (session.job, session.timer) == (None, None)
    assert bpy.ops.mien.bake.poll()


@pytest.mark.parametrize("playing", [True, False])
def test_esc_stops_the_timeline_before_the_capture(playing):
    from mien.addon.operators.bake import MIEN_OT_bake

    job = SimpleNamespace(running=True)
    job.cancel = lambda: setattr(job, "running", False)
    operator = SimpleNamespace(_job=job, _end=lambda: None, _conclude=lambda: {"CANCELLED"})
    context = SimpleNamespace(screen=SimpleNamespace(is_animation_playing=playing))
    ended = MIEN_OT_bake.modal(operator, context, SimpleNamespace(type="ESC", value="PRESS"))
    assert (ended, job.running) == (({"PASS_THROUGH"}, True) if playing else ({"CANCELLED"}, False))


def test_a_capture_that_ends_while_blender_renders_waits_for_it(monkeypatch):
    from mien.addon.operators import bake

    rendering = [True]
    app = SimpleNamespace(is_job_running=lambda kind: kind == "RENDER" and rendering[0])
    monkeypatch.setattr(bake, "bpy", SimpleNamespace(app=app))
    job = SimpleNamespace(running=False, poll=lambda: False)
    operator = SimpleNamespace(_job=job, _end=lambda: None, _conclude=lambda: {"FINISHED"})
    tick = SimpleNamespace(type="TIMER", value="NOTHING")
    monkeypatch.setattr(session, "job", job)
    assert bake.MIEN_OT_bake.modal(operator, None, tick) == {"PASS_THROUGH"}
    assert not bpy.ops.mien.bake.poll()  # another one would take its place
    rendering[0] = False
    assert bake.MIEN_OT_bake.modal(operator, None, tick) == {"FINISHED"}


def test_no_take_is_baked_while_blender_renders(ready, fake_worker, monkeypatch):
    from mien.addon.operators import bake
    from mien.addon.operators.take_list import MIEN_OT_take_bake
    from mien.addon.operators.takes import MIEN_OT_bake_take

    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    path = bpy.context.scene.mien.take
    bpy.ops.mien.takes_refresh()
    assert MIEN_OT_bake_take.poll(bpy.context)
    assert MIEN_OT_take_bake.poll(bpy.context)
    before = snapshot()
    monkeypatch.setattr(bake, "bpy", SimpleNamespace(app=SimpleNamespace(is_job_running=lambda kind: kind == "RENDER")))
    for operator in (bpy.ops.mien.bake_take, bpy.ops.mien.take_bake):
        with pytest.raises(RuntimeError, match="Blender renders: wait for it"):
            operator()
    assert "Blender renders: wait for it" in bake_fails()  # its take is there already
    said = []
    asked = SimpleNamespace(filepath=path, report=lambda _kind, text: said.append(text))
    assert MIEN_OT_bake_take.execute(asked, bpy.context) == {"CANCELLED"}  # chosen while the render began
    assert "Blender renders: wait for it" in said[0]
    assert snapshot() == before


def test_disabling_mien_ends_the_timer_of_a_capture():
    """Blender drops the operator then, without a word to it."""
    manager = bpy.context.window_manager
    session.timer = manager.event_timer_add(0.1, window=bpy.context.window)
    session.stop()
    assert session.timer is None
    session.end_timer()  # again: nothing


def test_polls_never_wait(tmp_path, fake_worker):
    import time

    fake_worker("time.sleep(3.0)\nraise MienError('x', 'x')")
    job = CaptureJob(tmp_path / "a.mp4", tmp_path / "a.mien", command=session.worker_command)
    job.start()
    longest = 0.0
    while True:
        started = time.monotonic()
        running = job.poll()
        if not running:
            break  # the last one reaps the worker
        longest = max(longest, time.monotonic() - started)
        time.sleep(0.01)
    assert longest < 1.0  # a wait for the worker would be longer, and a busy machine's pauses are not


def test_the_take_of_a_source_is_found_again_and_only_of_that(tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"1")
    first = take_path(video, tmp_path)
    assert first == take_path(video, tmp_path)
    assert first.name.startswith("a-")
    video.write_bytes(b"22")
    assert take_path(video, tmp_path) != first

    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a0001.png").write_bytes(b"1")
    one = take_path(folder / "a0001.png", tmp_path, 24.0)
    assert one != take_path(folder / "a0001.png", tmp_path, 25.0)
    (folder / "a0002.png").write_bytes(b"1")
    assert one != take_path(folder / "a0001.png", tmp_path, 24.0)


def test_the_chosen_actors_file_goes_with_the_capture(ready, fake_worker, tmp_path, monkeypatch):
    """A take that was captured without it, or before more was learnt, is not the take that is wanted."""
    monkeypatch.setattr(preferences, "_data_folder", lambda name: tmp_path / name)
    fake_worker('(open(take + ".txt", "w").write(str(more["actor"])))\n' + CAPTURE.strip())

    def told():
        assert bpy.ops.mien.bake("EXEC_DEFAULT") == {"FINISHED"}
        return Path(bpy.context.scene.mien.take + ".txt").read_text()

    assert told() == "None"
    bpy.context.scene.mien_live.actor = "Zoë"
    assert told() == "None"  # nothing was learnt yet
    assert any("No expressions of Zoë" in line for line in session.outcome.lines)
    assert len(takes()) == 2
    file = tmp_path / "actors" / "Zoë.npz"
    file.parent.mkdir()
    for content in (b"1", b"22"):
        file.write_bytes(content)
        assert told() == str(file)
        assert not any("No expressions" in line for line in session.outcome.lines)
    assert len(takes()) == 6


def test_odd_names_make_takes_too(tmp_path):
    for name in ("..", "a:b?.mp4", "é—ü", "x" * 300, "顔" * 84, "𠮷" * 62, ""):
        path = take_path(tmp_path / name, tmp_path)
        assert path.parent == tmp_path
        assert len(path.name) < 120
        path.with_name(path.name + PART_SUFFIX).touch()


def test_cancel_without_a_capture_cannot_be_called():
    assert not bpy.ops.mien.cancel.poll()


def test_a_second_rig_in_the_same_scene(fake_worker, ready):
    """Two heads, one source: the second bake leaves the first head alone."""
    fake_worker(CAPTURE)
    bpy.ops.mien.bake("EXEC_DEFAULT")
    first = ready.data.shape_keys.animation_data.action
    other = make_rig(keys=UNITS)
    bpy.context.scene.mien.target = other
    bpy.ops.mien.bake("EXEC_DEFAULT")
    assert ready.data.shape_keys.animation_data.action == first
    assert other.data.shape_keys.animation_data.action not in (None, first)
