"""What a label sets off, and expressions of one's own: on the rig, in the preview, on the timeline."""

from __future__ import annotations

import argparse
import sys
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from mien.addon import cli, live, live_properties, live_workflow, markers, preferences, session
from mien.addon.expressions import BASIC
from mien.addon.operators.live import MIEN_OT_live_forget, MIEN_OT_live_learn
from mien.addon.preview import overlay, properties
from mien.addon.preview.particles import wanted
from mien.addon.preview.playback import read_samples
from mien.addon.preview.properties import add_effects
from mien.addon.preview.properties import settings as preview_settings
from mien.addon.rig.puppet import Sample
from mien.addon.takes import hidden_notice
from mien.addon.triggers import ATTACK, DECAY, Trigger, Wearer, triggers_of, troubles_of
from mien.core.record import pack, plain
from mien.core.solve import hidden_spans
from mien.core.take import Take, TakeHeader, TakeWriter
from mien.core.types import FrameResult
from mien.core.units import ARKIT, ARKIT_INDEX, EXPRESSIONS, UNIT_INDEX, UNITS

from .conftest import curves_of, make_rig, needs_worker
from .test_live import device, head, start, until  # noqa: F401

SURPRISE = BASIC["surprise"]


def resting(**units):
    values = [units.get(name, 0.0) for name in UNITS]
    return Sample(values, [0.0] * len(ARKIT), [1.0, 0.0, 0.0, 0.0], [[0.0, 0.0]] * 2)


# --- triggers


def test_an_expression_comes_while_its_label_is_shown_and_goes_after():
    wearer = Wearer([Trigger("smirk", SURPRISE), Trigger("anger", BASIC["anger"])])
    raised = UNIT_INDEX["BrowRaise"]
    sample = resting(BrowRaise=0.2)
    assert wearer(sample, ("neutral", ""), 0.0) is sample
    half = wearer(sample, ("neutral", "smirk"), ATTACK / 2)
    assert half.units[raised] == pytest.approx(0.6)
    full = wearer(sample, ("neutral", "smirk"), 2 * ATTACK)
    assert full.units[raised] == pytest.approx(1.0)
    assert full.arkit[ARKIT_INDEX["eyeWideLeft"]] == pytest.approx(SURPRISE["EyeWide"])
    assert full.units[UNIT_INDEX["BrowFurrow"]] == 0.0
    fading = wearer(sample, ("neutral", ""), 2 * ATTACK + DECAY / 2)
    assert 0.2 < fading.units[raised] < 1.0
    assert wearer(sample, (), 3 * ATTACK + DECAY) is sample


def test_a_weak_trigger_covers_as_much_as_it_says_and_speech_goes_on():
    wearer = Wearer([Trigger("fear", SURPRISE, 0.25)])
    sample = resting(Smile=0.8, JawOpen=0.9, BlinkLeft=1.0)
    wearer(sample, ("fear",), 0.0)
    worn = wearer(sample, ("fear",), 1.0)
    assert worn.units[UNIT_INDEX["Smile"]] == pytest.approx(0.6)
    assert worn.units[UNIT_INDEX["EyeWide"]] == pytest.approx(0.25 * SURPRISE["EyeWide"])
    assert worn.units[UNIT_INDEX["JawOpen"]] == pytest.approx(0.9)
    assert worn.units[UNIT_INDEX["BlinkLeft"]] == pytest.approx(1.0)
    assert (worn.head, worn.eyes) == (sample.head, sample.eyes)


def test_names_are_found_as_the_panel_shows_them():
    scene = bpy.context.scene
    preview_settings(scene).expressions.add().name = "Smirk"
    preview_settings(scene).expressions.add().name = "smirk"
    preview_settings(scene).expressions["smirk"].values.add().name = "Smile"
    preview_settings(scene).expressions.add().name = "Ears Up"
    preview_settings(scene).expressions["Ears Up"].values.add().name = "EarsUp"  # no face's
    for label, expression in (
        ("Happiness", "Anger"),
        ("Lip Bite", "smirk"),
        ("joy", "anger"),
        ("Fear", "SMIRK!"),
        ("Fear", "ears up"),
        ("Fear", "Smirk"),  # a face at rest
    ):
        row = live_workflow.settings(bpy.context).triggers.add()
        row.label, row.expression = label, expression
    live_workflow.settings(bpy.context).triggers.add()  # not filled in yet
    worn = [BASIC["anger"], {"Smile": 0.0}, BASIC["anger"], {"EarsUp": 0.0}, {}]
    assert [trigger.weights for trigger in triggers_of(scene)] == worn
    sample = resting()
    for shown in (("happiness", ""), ("neutral", "lip bite")):
        wearer = Wearer(triggers_of(scene))
        wearer(sample, shown, 0.0)
        assert wearer(sample, shown, 1.0) is not sample
    troubles = troubles_of(scene, ["lip bite"])
    assert [bool(trouble) for trouble in troubles] == [False, False, True, True, True, False, False]
    assert '"joy"' in troubles[2]
    assert '"SMIRK!"' in troubles[3]
    assert '"Ears Up" moves only shape keys without a channel' in troubles[4]


def test_own_expressions_are_suggested_before_live_capture(actors):
    chosen = live_workflow.settings(bpy.context)
    chosen.actor = "Zoë"
    preview_settings(bpy.context.scene).expressions.add().name = "Smirk"
    add_effects(preview_settings(bpy.context.scene))
    row, effect = chosen.triggers.add(), preview_settings(bpy.context.scene).effects["steam"]
    assert "lip bite" not in live_properties._find_labels(row, bpy.context, "")
    actors.mkdir()
    np.savez(actors / "Zoë.npz", names=np.array(["lip bite", "rest"]))
    # The panel shows a session's triggers in every scene.
    elsewhere = SimpleNamespace(scene=bpy.data.scenes.new("Other"))
    for context in (bpy.context, elsewhere):
        assert live_properties._find_labels(row, context, "") == ["lip bite", *EXPRESSIONS]
        assert live_properties._find_expressions(row, context, "") == ["Smirk", *EXPRESSIONS]
        assert properties._find_own(effect, context, "") == ["lip bite"]
    (actors / "Zoë.npz").write_bytes(b"nothing")
    assert live_properties._find_labels(row, bpy.context, "") == [*EXPRESSIONS]


def test_a_bake_tells_which_trigger_names_nothing(rig, take):
    scene = bpy.context.scene
    scene.mien.target = rig
    for label in ("Smirk", "grin"):  # the take knows "smirk"
        row = live_workflow.settings(bpy.context).triggers.add()
        row.label, row.expression = label, "anger"
    for wanted_at_bake in (False, True):
        scene.mien.use_triggers = wanted_at_bake
        bpy.ops.mien.bake_take(filepath=str(take))
        told = [line for line in session.outcome.lines if "trigger" in line]
        assert len(told) == wanted_at_bake
    assert '"grin"' in told[0]


def test_a_bake_tells_where_nothing_can_be_marked_or_set_off(rig, take, tmp_path):
    """A face from a CSV, or over the network, was never in a picture."""
    scene = bpy.context.scene
    scene.mien.target = rig
    unlabelled = tmp_path / "phone.mien"
    with TakeWriter(unlabelled, TakeHeader(source="phone.csv", fps=30.0, size=(0, 0))) as writer:
        for i in range(31):
            units, arkit = np.full(len(UNITS), i / 61), np.full(len(ARKIT), i / 100)
            writer.write(FrameResult(i, i / 30, found=True, confidence=1.0, units=units, arkit=arkit))
    row = live_workflow.settings(bpy.context).triggers.add()
    row.label, row.expression = "surprise", "anger"
    for path, markers_wanted, triggers_wanted, told in (
        (unlabelled, False, False, False),
        (unlabelled, True, False, True),
        (unlabelled, False, True, True),
        (take, True, True, False),
    ):
        scene.mien.use_markers, scene.mien.use_triggers = markers_wanted, triggers_wanted
        assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
        assert any("tells no expressions" in line for line in session.outcome.lines) is told


def test_what_is_worn_stays_on_when_triggers_change():
    wearer, sample, wide = Wearer([Trigger("fear", SURPRISE)]), resting(), UNIT_INDEX["EyeWide"]
    for moment in (0.0, 1.0):
        wearer(sample, ("fear",), moment)
    wearer.change([Trigger("anger", BASIC["anger"]), Trigger("fear", SURPRISE, 0.5)])
    assert wearer(sample, ("fear",), 1.0).units[wide] == pytest.approx(SURPRISE["EyeWide"])
    assert wearer(sample, ("fear",), 2.0).units[wide] == pytest.approx(0.5 * SURPRISE["EyeWide"])
    wearer.change([Trigger("fear", BASIC["fear"])])
    assert wearer(sample, ("fear",), 2.0) is sample


def test_a_live_label_sets_off_an_expression_on_the_head_and_particles(device, head):  # noqa: F811
    """The stand-in camera's face is happy all the time."""
    chosen = live_workflow.settings(bpy.context)
    assert bpy.ops.mien.live_trigger_add() == {"FINISHED"}
    chosen.triggers[0].label, chosen.triggers[0].expression = "happiness", "fear"
    chosen.triggers.add().label = "no such label"
    running = start()
    until(lambda: running.label == "happiness")
    assert running.probability == pytest.approx(0.9, abs=1e-3)
    wide = head.data.shape_keys.key_blocks["EyeWide"]
    # The last step of the fade may be too small for the rig to be touched again.
    until(lambda: wide.value == pytest.approx(BASIC["fear"]["EyeWide"], abs=1e-4))

    scene = preview_settings(bpy.context.scene)
    add_effects(scene)
    for rule in scene.effects:
        rule.use = True
    label = overlay.samples[head.session_uid].label
    assert set(wanted(scene.effects, {}, label)) == {"sparkles", "hearts"}

    # It is worn on when another setting changes.
    running.wearer._strengths = [0.7]
    chosen.smoothing = 0.3
    assert running.wearer._strengths == [0.7]

    # An expression that was saved is worn no more once it is removed.
    scene.expressions.add().name = "mine"
    chosen.triggers.add().label = "anger"
    chosen.triggers[-1].expression = "mine"
    assert len(running.wearer._triggers) == 2
    assert bpy.ops.mien.preview_expression_remove(name="mine") == {"FINISHED"}
    assert len(running.wearer._triggers) == 1

    # The strength can be changed meanwhile, and without the trigger the capture is back.
    chosen.triggers[0].strength = 0.0
    until(lambda: wide.value < 0.95)
    assert bpy.ops.mien.live_trigger_remove(index=0) == {"FINISHED"}
    assert running.wearer._triggers == ()
    bpy.ops.mien.live_stop()
    assert head.session_uid not in overlay.samples


def test_particles_follow_an_expression_of_ones_own():
    scene = preview_settings(bpy.context.scene)
    add_effects(scene)
    rule = scene.effects["steam"]
    rule.use, rule.trigger, rule.own = True, "OWN", "smirk"
    assert wanted(scene.effects, {}, "smirk") == {"steam": 1.0}
    assert wanted(scene.effects, {}, "Smirk") == {"steam": 1.0}  # upper and lower case are alike, as for triggers
    assert wanted(scene.effects, {}, "anger") == {}
    rule.own = ""
    assert wanted(scene.effects, {}, "") == {}


# --- expressions of one's own


@pytest.fixture
def actors(tmp_path, monkeypatch):
    monkeypatch.setattr(preferences, "_data_folder", lambda name: tmp_path / name)
    return tmp_path / "actors"


def test_what_cannot_be_learnt_is_told(device, head, actors, monkeypatch):  # noqa: F811
    chosen = live_workflow.settings(bpy.context)
    assert not bpy.ops.mien.live_learn.poll()
    start()
    for actor, lesson, said in (
        (" . ", "smirk", "actor has no name"),
        ("Zoë", "  ", "expression has no name"),
        ("Zoë", "Rest", "Record Rest"),
    ):
        chosen.actor, chosen.lesson = actor, lesson
        with pytest.raises(RuntimeError, match=said):
            bpy.ops.mien.live_learn()
        assert session.outcome.failed
    # What is deleted is gone for good.
    asked = []
    window = SimpleNamespace(invoke_confirm=lambda operator, _event: asked.append(operator.name) or {"RUNNING_MODAL"})
    cross = SimpleNamespace(name="smirk")
    told = MIEN_OT_live_forget.invoke(cross, SimpleNamespace(window_manager=window), None)
    assert (asked, told) == (["smirk"], {"RUNNING_MODAL"})
    # So is what is recorded anew.
    window = SimpleNamespace(invoke_confirm=lambda _operator, _event, **words: asked.append(words["message"]))
    button = SimpleNamespace(rest=False, execute=lambda _context: asked.append("recorded"))
    context = SimpleNamespace(scene=bpy.context.scene, window_manager=window)
    with monkeypatch.context() as patch:
        patch.setattr(session.live, "expressions", SimpleNamespace(names=("smirk",)))
        for chosen.lesson in (" smirk ", "grin"):
            MIEN_OT_live_learn.invoke(button, context, None)
    assert asked == ["smirk", '"smirk" is known already.', "recorded"]
    # The stand-in has no classifier: the worker says so.
    chosen.lesson = "smirk"
    assert bpy.ops.mien.live_learn() == {"FINISHED"}
    until(lambda: session.live.expressions.state == "failed")
    assert "not labelled" in session.live.expressions.error.message


@pytest.mark.data
@needs_worker
def test_a_real_face_is_labelled_and_its_own_expression_learnt_beside_the_frames(data, head, actors):  # noqa: F811
    """A clip as camera, the real worker and models: label, lesson, recognition, deletion."""
    libraries = {"cv2", "mediapipe"} & set(sys.modules)  # other tests of this process may have brought them
    chosen = live_workflow.settings(bpy.context)
    chosen.source, chosen.video, chosen.actor = "video", str(data / "video" / "d10.mp4"), "Zoë"
    assert bpy.ops.mien.live_start() == {"FINISHED"}
    running = session.live
    try:
        until(lambda: running.label in EXPRESSIONS, 60)
        assert 0.2 < running.probability <= 1.0
        assert running.expressions.names == ()
        takes_folder = actors.parent / "takes"
        bpy.context.preferences.addons["mien"].preferences.takes_folder = str(takes_folder)
        # Some seconds of the clip are the rest that what follows is told apart from.
        applied = running.counts.applied
        until(lambda: running.counts.applied > applied + 60, 60)
        chosen.lesson, chosen.lesson_seconds = "face of the moment", 1.0
        assert bpy.ops.mien.live_learn() == {"FINISHED"}
        until(lambda: running.expressions.state == "running")
        assert not bpy.ops.mien.live_learn.poll()
        until(lambda: running.expressions.share >= 0.9)
        applied, full = running.counts.applied, live.now()
        until(lambda: running.expressions.state == "done", 10)
        assert live.now() - full < 2.0
        assert running.expressions.names == ("face of the moment",)
        assert running.expressions.knows_rest
        assert [path.name for path in actors.iterdir()] == ["Zoë.npz"]
        until(lambda: running.counts.applied > applied)
        chosen.countdown = 0
        assert bpy.ops.mien.live_record() == {"FINISHED"}
        # The clip comes round to those frames again.
        until(lambda: running.expressions.shown == "face of the moment", 60)
        # The next sample brings it to the preview.
        until(lambda: overlay.samples[head.session_uid].label == "face of the moment", 60)
        assert bpy.ops.mien.live_forget(name="face of the moment") == {"FINISHED"}
        until(lambda: running.expressions.names == () and running.expressions.shown == "")
        # The take tells it by the name that it had, until it was forgotten.
        applied = running.counts.applied
        until(lambda: running.counts.applied > applied + 10, 60)
        assert bpy.ops.mien.live_record() == {"FINISHED"}
        until(lambda: not running.take.recording)
        with Take(next(takes_folder.glob("*.mien"))) as take:
            assert take.header.own == ("face of the moment",)
            own = take.column("own").tolist()
        assert set(own) == {"", "face of the moment"}
        assert own[-1] == ""
        assert {"cv2", "mediapipe"} & set(sys.modules) == libraries
    finally:
        live.stop()
        live.wait_for_end()


# --- markers


def test_changes_of_the_label():
    fps = 30
    names = ["Neutral"] * 30 + [""] * 6 + ["smirk"] * 30 + ["Fear"] * 3 + ["smirk"] * 20 + [""] * 30
    times = np.arange(len(names)) / fps
    assert markers.changes(times, names) == [(0.0, "Neutral"), (pytest.approx(36 / fps), "smirk")]
    assert markers.changes(times[:3], ["", "", ""]) == []
    assert markers.changes(times[:2], ["Anger", "Anger"]) == [(0.0, "Anger")]


@pytest.mark.parametrize(
    ("expression", "own", "name"),
    [("anger", "", "Anger"), ("anger", "lip bite", "lip bite"), ("unsure", "", ""), ("", "", ""), ("", "grin", "grin")],
)
def test_an_expression_of_ones_own_goes_before_the_basic_label(expression, own, name):
    assert markers.name_of(expression, own) == name


def test_a_hidden_face_is_marked(rig, tmp_path):
    path = tmp_path / "cup.mien"
    with TakeWriter(path, TakeHeader(source="cup.mp4", fps=24.0)) as writer:
        for i in range(60):
            sure = 0.1 if 20 <= i < 40 else 1.0
            writer.write(FrameResult(i, i / 24, found=True, confidence=sure, expression="anger"))
    scene = bpy.context.scene
    scene.mien.target, scene.render.fps, scene.mien.use_markers = rig, 24, True
    assert bpy.ops.mien.bake_take(filepath=str(path)) == {"FINISHED"}
    found = sorted((marker.frame, marker.name) for marker in scene.timeline_markers)
    assert found == [(1, "Anger"), (21, "Hidden"), (41, "Anger")]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        # Unsure after the hand goes: what was shown before goes on, not the hand.
        (["Anger"] * 30 + [""] * 30, [(0, "Anger"), (10, "Hidden"), (20, "Anger")]),
        (["Anger"] * 15 + ["Fear"] * 45, [(0, "Anger"), (10, "Hidden"), (20, "Fear")]),
        ([""] * 40 + ["Fear"] * 20, [(10, "Hidden"), (20, "Visible"), (40, "Fear")]),
        ([""] * 60, [(10, "Hidden"), (20, "Visible")]),
    ],
)
def test_a_hidden_face_is_marked_where_the_bake_tells_it_and_so_is_its_end(names, told):
    found = markers.changes(np.arange(60) / 30, names, [(10 / 30, 19 / 30)])
    assert found == [(pytest.approx(frame / 30), name) for frame, name in told]


def test_a_moment_of_doubt_is_neither_told_nor_marked(tmp_path):
    path = tmp_path / "fly.mien"
    with TakeWriter(path, TakeHeader(source="fly.mp4", fps=24.0)) as writer:
        for i in range(60):
            writer.write(FrameResult(i, i / 24, found=True, confidence=0.1 if i == 20 else 1.0))
    with Take(path) as take:
        hidden = hidden_spans(take)
        assert (markers.changes_in(take, hidden), hidden_notice(hidden)) == ([], [])


@pytest.fixture
def take(tmp_path):
    """Two seconds: neutral, from 1 s on surprise, from 1.5 s on a smirk as well."""
    path = tmp_path / "a.mien"
    with TakeWriter(path, TakeHeader(source="a.mp4", fps=30.0, size=(64, 48), own=("smirk",))) as writer:
        for i in range(61):
            told = {"expression": "neutral" if i < 30 else "surprise", "own": "" if i < 45 else "smirk"}
            units, arkit = np.full(len(UNITS), i / 61), np.full(len(ARKIT), i / 100)
            writer.write(FrameResult(i, i / 30, found=True, confidence=1.0, units=units, arkit=arkit, **told))
    return path


def test_a_bake_sets_markers_when_asked(rig, take):
    scene = bpy.context.scene
    scene.mien.target = rig
    scene.render.fps = 24
    markers_of_others = {(10, "Cue"), (20, "Surprise"), (30, "smirk")}
    for frame, name in markers_of_others:
        scene.timeline_markers.new(name, frame=frame)

    def bake():
        assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
        return sorted((marker.frame, marker.name) for marker in scene.timeline_markers)

    assert bake() == sorted(markers_of_others)
    scene.mien.use_markers = True
    told = {(1, "Neutral"), (25, "Surprise"), (37, "smirk")}
    for _ in range(2):  # a second bake replaces the first one's
        assert bake() == sorted(markers_of_others | told)
    # One that was moved is the user's own; those of a bake elsewhere stay.
    next(marker for marker in scene.timeline_markers if marker.frame == 25).frame = 26
    assert bake() == sorted(markers_of_others | told | {(26, "Surprise")})
    scene.mien.start_frame = 101
    elsewhere = {(frame + 100, name) for frame, name in told}
    assert bake() == sorted(markers_of_others | told | {(26, "Surprise")} | elsewhere)
    scene.mien.start_frame = 1
    for marker in list(scene.timeline_markers):
        if marker.frame < 100:
            scene.timeline_markers.remove(marker)
    assert bake() == sorted(told | elsewhere)
    # So is one to which a camera was bound.
    cut = next(marker for marker in scene.timeline_markers if marker.frame == 25)
    cut.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    assert bake() == sorted([*told, *elsewhere, (25, "Surprise")])
    assert [marker.frame for marker in scene.timeline_markers if marker.camera] == [25]


def test_particles_of_a_baked_head_follow_the_markers_of_its_bake(rig, take):
    scene = bpy.context.scene
    scene.mien.target, scene.mien.use_markers = rig, True
    scene.timeline_markers.new("Anger", frame=30)  # somebody else's
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    told = [overlay.label_of(rig, None, scene, frame) for frame in (0, 1, 24, 25, 36, 37, 90)]
    assert told == ["", "neutral", "neutral", "surprise", "surprise", "smirk", "smirk"]
    other = make_rig()
    assert overlay.label_of(other, None, scene, 30) == ""  # a head that was never baked

    # Each character has its own, and a bake of the one leaves the other's alone.
    scene.mien.target = other
    scene.mien.use_markers = False
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    assert overlay.label_of(other, None, scene, 30) == ""
    scene.mien.use_markers, scene.mien.start_frame = True, 11
    scene.mien_live.targets.add().mesh = make_rig()
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    for shown_by in (other, scene.mien_live.targets[0].mesh):
        told = [overlay.label_of(shown_by, None, scene, frame) for frame in (10, 11, 34, 35)]
        assert told == ["", "neutral", "neutral", "surprise"]
    assert overlay.label_of(rig, None, scene, 25) == "surprise"
    rig.name = "Renamed"
    assert overlay.label_of(rig, None, scene, 25) == "surprise"
    # Under another name, too, it keeps them from the other's bake, and they make way for its own.
    scene.mien.start_frame = 1
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    assert overlay.label_of(rig, None, scene, 25) == "surprise"
    count = len(scene.timeline_markers)
    scene.mien.target = rig
    scene.mien_live.targets.clear()
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    assert len(scene.timeline_markers) == count


def test_markers_of_a_copied_scene_are_those_of_the_head_that_was_copied_with_it(rig, take):
    scene = bpy.context.scene
    scene.mien.target, scene.mien.use_markers = rig, True
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    count = len(scene.timeline_markers)
    bpy.ops.scene.new(type="FULL_COPY")
    copied = bpy.context.scene
    twin = copied.mien.target
    assert twin != rig
    assert overlay.label_of(twin, None, copied, 25) == "surprise"
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    assert len(copied.timeline_markers) == len(scene.timeline_markers) == count
    # A copy in the same scene leaves the head's markers to it.
    double = rig.copy()
    scene.collection.objects.link(double)
    assert overlay.label_of(double, None, scene, 25) == ""
    assert overlay.label_of(rig, None, scene, 25) == "surprise"


def test_the_preview_plays_a_take_with_what_each_frame_expresses(rig, take):
    scene = bpy.context.scene
    scene.render.fps = 30
    labels = [sample.label for sample in read_samples(take, rig, scene)]
    assert labels == ["neutral"] * 30 + ["surprise"] * 15 + ["smirk"] * 16


# --- triggers at bake


def test_a_bake_wears_what_was_set_off_live(rig, take):
    """Frame by frame the head is baked as the live rig wore it, fades included; unasked it is as captured."""
    scene = bpy.context.scene
    chosen = live_workflow.settings(bpy.context)
    for label, expression, strength in (("smirk", "anger", 1.0), ("surprise", "fear", 0.5)):
        row = chosen.triggers.add()
        row.label, row.expression, row.strength = label, expression, strength
    scene.render.fps = 30
    scene.mien.target, scene.mien.smoothing, scene.mien.neutral, scene.mien.tolerance = rig, 0.0, "none", 0.0
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    captured = baked(rig)
    np.testing.assert_allclose(captured["Smile"], np.arange(61) / 61, atol=1e-4)
    scene.mien.use_triggers = True
    assert bpy.ops.mien.bake_take(filepath=str(take)) == {"FINISHED"}
    worn = baked(rig)
    played = [sample.weights["BrowFurrow"] for sample in read_samples(take, rig, scene)]
    np.testing.assert_allclose(played, worn["BrowFurrow"], atol=1e-4)

    wearer = Wearer(triggers_of(scene))
    with Take(take) as reader:
        live_samples = [wearer(plain(pack(one).reshape(1)), (one.expression, one.own), one.time) for one in reader]
    for name in UNITS:
        expected = [sample.units[UNIT_INDEX[name]] for sample in live_samples]
        np.testing.assert_allclose(worn[name], expected, atol=1e-4)
    # Fear, worn by half, over anger.
    assert worn["BrowFurrow"][60] == pytest.approx(0.5 + 0.5 * BASIC["fear"]["BrowFurrow"], abs=1e-3)
    assert worn["EyeWide"][44] == pytest.approx(0.5 * 44 / 61 + 0.5 * BASIC["fear"]["EyeWide"], abs=1e-3)
    assert captured["EyeWide"][20] == pytest.approx(worn["EyeWide"][20], abs=1e-4)


def baked(mesh):
    """Values of the 61 baked frames, by shape key."""
    curves = curves_of(mesh.data.shape_keys)
    return {name: [curves[f'key_blocks["{name}"].value', 0].evaluate(1 + i) for i in range(61)] for name in UNITS}


def test_the_command_line_offers_them():
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    args = parser.parse_args(["--markers", "--estimator", "landmark", "--actor", "Zoë.npz"])
    assert (args.markers, args.estimator, str(args.actor)) == (True, "landmark", "Zoë.npz")
    given = parser.parse_args(["--trigger", "happiness=fear", "--trigger", "a = b: c= anger:0.5"]).trigger
    assert given == [("happiness", "fear", 1.0), ("a = b: c", "anger", 0.5)]
    assert (parser.parse_args([]).estimator, parser.parse_args([]).actor) == ("combined", None)


@pytest.mark.parametrize("wrong", ["happiness", "=fear", "happiness=rage", "happiness=fear:2", "happiness=fear:much"])
def test_a_trigger_that_says_nothing_is_refused(wrong, capsys):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--trigger", wrong])
    assert "--trigger" in capsys.readouterr().err
