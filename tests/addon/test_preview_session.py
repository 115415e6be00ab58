"""What the preview leaves behind (nothing), what it notices, and what it does without a GPU."""

from __future__ import annotations

import gc
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from mien.addon import preview, workflow  # noqa: E402
from mien.addon.operators.preview import (  # noqa: E402
    MIEN_OT_preview_expression_save,
    MIEN_OT_preview_render_take,
    free_name,
)
from mien.addon.operators.takes import MIEN_OT_export_csv  # noqa: E402
from mien.addon.panels.preview import MIEN_PT_preview_expression, MIEN_PT_preview_heads  # noqa: E402
from mien.addon.preview import compose, drawing, engine, looks, overlay, playback, properties, reading  # noqa: E402
from mien.addon.preview.heads import Head, Sample  # noqa: E402
from mien.addon.preview.particles import EFFECTS  # noqa: E402
from mien.addon.rig.targets import find_target  # noqa: E402
from mien.addon.sample_head import append_sample_head  # noqa: E402
from mien.core.errors import MienError  # noqa: E402
from mien.core.units import ARKIT, EXPRESSIONS, UNITS  # noqa: E402

from . import conftest  # noqa: E402
from .conftest import empty_file, run_alone  # noqa: E402
from .panel_text import Layout, drawn_by  # noqa: E402
from .preview_helpers import render, with_gpu  # noqa: E402
from .stand_in import make_worker  # noqa: E402
from .test_sound import write_sound  # noqa: E402

HANDLERS = [name for name in dir(bpy.app.handlers) if isinstance(getattr(bpy.app.handlers, name), list)]


def make_rig(keys=UNITS):
    """The tests' small head, at rest: a new key's value is 1 from Blender 5.2 on."""
    head = conftest.make_rig(keys)
    for key in head.data.shape_keys.key_blocks:
        key.value = 0.0
    return head


@pytest.fixture(autouse=True)
def _as_where_there_is_a_graphics_card(monkeypatch):
    """Here is none without `with_gpu`, and where nothing can be drawn no head is hidden."""
    monkeypatch.setattr(overlay, "lacking", lambda: None)


def handlers() -> dict[str, int]:
    return {name: len(getattr(bpy.app.handlers, name)) for name in HANDLERS}


def memory() -> float:
    """Megabytes that this process holds; in software the GPU's are among them."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def draw_in_place(obj):
    """Do what the draw handler does, apart from the viewport."""
    return overlay.pose_heads([obj], bpy.context.scene)


def on_the_gpu() -> list[str]:
    """Everything alive that owns textures or buffers; whatever of Mien's is on the GPU belongs to one of these."""
    gc.collect()
    owners = (drawing.GpuModel, drawing.Target, Head)
    return sorted(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, owners))


def draw_handlers() -> int:
    """How many of Blender's draw handlers call the preview: each holds a reference to what it calls."""
    return sys.getrefcount(overlay._draw_in_place) + sys.getrefcount(overlay._draw_window)


def viewport():
    """As much of a viewport's context as tells what is shown."""
    return SimpleNamespace(
        scene=bpy.context.scene, view_layer=bpy.context.view_layer, space_data=SimpleNamespace(local_view=None)
    )


def test_on_and_off_200_times(addon):
    make_rig()
    before, calls = handlers(), draw_handlers()
    for _ in range(200):
        preview.start()
        assert draw_handlers() == calls + 2
        preview.stop()
    assert handlers() == before
    assert draw_handlers() == calls
    for _ in range(200):
        preview.start()
        addon.unregister()  # while it runs
        addon.register()
    assert handlers() == before
    assert draw_handlers() == calls
    assert not preview.running()
    addon.unregister()
    names = {getattr(f, "__module__", "") for name in HANDLERS for f in getattr(bpy.app.handlers, name)}
    assert not any(".preview" in name for name in names)
    addon.register()


def test_loads_leave_nothing(addon, tmp_path):
    make_rig()
    path = tmp_path / "head.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    before, calls = handlers(), draw_handlers()

    def job(_depsgraph):
        draw_in_place(bpy.data.objects["Head"])

    for i in range(200):
        bpy.ops.wm.open_mainfile(filepath=str(path))
        preview.start()
        preview.set_sample(bpy.data.objects["Head"].session_uid, [0.5] * 11)
        if i % 10 == 0:  # a context for drawing takes longer than all the rest
            with_gpu(job)
            assert on_the_gpu() == ["GpuModel", "Head"]
    assert draw_handlers() == calls + 2
    empty_file()
    assert not preview.running()
    assert not overlay.samples
    assert on_the_gpu() == []
    assert handlers() == before
    assert draw_handlers() == calls


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory as Linux tells it")
@pytest.mark.parametrize("what", ["on and off", "mesh edit", "key edit", "object delete"])
def test_nothing_is_left_on_the_gpu(what):
    """200 times each, drawn after every change."""
    calls = draw_handlers()

    def cycle(times):
        head = bpy.data.objects.get("Head") or make_rig()
        for _ in range(times):
            preview.start()
            if what == "mesh edit":
                head.data.vertices[0].co.y += 0.001
                head.data.shape_keys.key_blocks[0].points[0].co.y += 0.001
                overlay._state.heads.setdefault(head.session_uid, Head(head.session_uid)).suspect = True
            elif what == "key edit":
                if "More" in head.data.shape_keys.key_blocks:
                    head.shape_key_remove(head.data.shape_keys.key_blocks["More"])
                else:
                    head.shape_key_add(name="More")
            elif what == "object delete":
                copy = head.copy()
                copy.data = head.data.copy()
                bpy.context.collection.objects.link(copy)
                draw_in_place(copy)
                assert on_the_gpu().count("GpuModel") <= 2
                bpy.data.objects.remove(copy)
                overlay._posed_for(viewport())
            draw_in_place(head)
            if what == "on and off":
                preview.stop()

    def job(_depsgraph):
        cycle(20)
        before = memory()
        uploads = overlay.head(bpy.data.objects["Head"]).uploads if preview.running() else 0
        cycle(200)
        if what.endswith("edit"):
            assert overlay.head(bpy.data.objects["Head"]).uploads == uploads + 200
        return memory() - before, on_the_gpu()

    make_rig()
    grown, alive = with_gpu(job)
    assert alive == ([] if what == "on and off" else ["GpuModel", "Head"])
    preview.stop()
    assert on_the_gpu() == []
    assert draw_handlers() == calls
    # Each upload of even this small head is some 0.5 MB of textures: 200 that were kept would be 100 MB.
    assert grown < 20.0, f"{grown:.0f} MB more after 200 times {what}"


def test_undo_200_times():
    head = make_rig()
    name = head.name
    preview.start()
    bpy.ops.ed.undo_push(message="start")
    calls = draw_handlers()
    uid = head.session_uid
    for i in range(200):
        bpy.data.objects[name].location.x = i
        bpy.ops.ed.undo_push(message=f"step {i}")
        bpy.ops.ed.undo()
    assert bpy.data.objects[name].session_uid == uid
    assert with_gpu(lambda _: len(draw_in_place(bpy.data.objects[name]))) == 1
    assert on_the_gpu() == ["GpuModel", "Head"]
    assert draw_handlers() == calls
    preview.stop()
    assert on_the_gpu() == []
    assert not bpy.data.objects[name].hide_get()


def test_a_deleted_head_is_let_go():
    head = make_rig()

    def job(_depsgraph):
        draw_in_place(head)
        return len(overlay._state.heads)

    preview.start()
    assert with_gpu(job) == 1
    bpy.data.objects.remove(head)
    assert with_gpu(lambda _: overlay._posed_for(viewport())) == []
    assert overlay._state.heads == {}


def test_rendered_view_lets_go_of_what_is_shown_no_more():
    """Deleted objects and instances; what another view layer still shows is kept for it."""
    head, scene, kept = make_rig(), bpy.context.scene, {}
    other = scene.view_layers.new("Other")

    def draw(layer):
        def job(_depsgraph):
            view = drawing.View(np.eye(4), np.eye(4))
            engine.draw(drawing.Target(16, 16, "RGBA16F"), layer.depsgraph, view, kept, 0.0, {})
            return len(kept)

        layer.update()
        return with_gpu(job)

    layer = bpy.context.view_layer
    assert draw(layer) == 1
    copy, props, empty = head.copy(), bpy.data.collections.new("Props"), bpy.data.objects.new("Props", None)
    copy.data = head.data.copy()
    props.objects.link(copy)
    empty.instance_type, empty.instance_collection = "COLLECTION", props
    for obj in (copy, empty):
        scene.collection.objects.link(obj)
    assert draw(layer) == draw(other) == 3
    empty.hide_set(True, view_layer=layer)
    assert draw(layer) == 3
    uploads = kept[head.session_uid].uploads
    empty.hide_set(True, view_layer=other)
    assert draw(other) == 2
    bpy.data.objects.remove(copy)
    assert (draw(layer), draw(other)) == (2, 1)
    assert kept[head.session_uid].uploads == uploads
    assert on_the_gpu().count("GpuModel") == 1


def test_instances_stand_where_they_are_after_a_change_that_a_script_looked_at():
    prop, props, empty = make_rig(), bpy.data.collections.new("Props"), bpy.data.objects.new("Props", None)
    props.objects.link(prop)
    empty.instance_type, empty.instance_collection = "COLLECTION", props
    empty.location.x = 5.0
    bpy.context.scene.collection.objects.link(empty)

    def look(_scene, depsgraph):
        for update in depsgraph.updates:
            assert update.id.original

    bpy.app.handlers.depsgraph_update_post.append(look)
    prop.location.y = 2.0
    bpy.context.view_layer.update()
    bpy.app.handlers.depsgraph_update_post.remove(look)
    depsgraph = bpy.context.view_layer.depsgraph
    (item,) = with_gpu(lambda _render: list(engine.pose_instances(depsgraph, {}).values()))
    np.testing.assert_allclose(item.head.matrix[:3, 3], (5.0, 2.0, 0.0))


def change_vertex(head):
    head.data.vertices[0].co.x += 0.1
    head.data.shape_keys.key_blocks[0].points[0].co.x += 0.1


def change_key(head):
    head.data.shape_keys.key_blocks[3].points[1].co.z += 0.2


def add_key(head):
    head.shape_key_add(name="More")


def remove_key(head):
    head.shape_key_remove(head.data.shape_keys.key_blocks[-1])


def change_group(head):
    head.vertex_groups.new(name="head").add([0, 1], 1.0, "REPLACE")


def change_weight(head):
    head.vertex_groups["jaw"].add([0], 0.5, "REPLACE")


@pytest.mark.parametrize("change", [change_vertex, change_key, add_key, remove_key, change_group, change_weight])
def test_a_change_is_noticed_and_uploaded(change):
    head = make_rig()
    head.vertex_groups.new(name="jaw").add([0, 1], 1.0, "REPLACE")
    preview.start()

    def uploads(_depsgraph):
        draw_in_place(head)
        return overlay.head(head).uploads

    assert with_gpu(uploads) == 1
    assert with_gpu(uploads) == 1
    change(head)
    head.data.update_tag()
    bpy.context.view_layer.update()
    assert with_gpu(uploads) == 2
    assert with_gpu(uploads) == 2


def swap_bones(rig):
    """In place of one that moves the head comes another: there are as many as before."""
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.data.edit_bones
    bones.remove(bones["jaw"])
    bones.new("chin").tail = (0.0, 0.0, 1.0)
    bpy.ops.object.mode_set(mode="OBJECT")


def undeform_bone(rig):
    rig.data.bones["jaw"].use_deform = False


def replace_armature(rig):
    rig.data = rig.data.copy()
    swap_bones(rig)


@pytest.mark.parametrize("change", [swap_bones, undeform_bone, replace_armature])
def test_a_head_is_read_again_when_other_bones_move_it(change):
    head = make_rig()
    for name in ("head", "jaw"):
        head.vertex_groups.new(name=name).add(range(3), 0.5, "REPLACE")
    preview.start()

    def bones(_depsgraph):
        (item,) = overlay._posed_for(viewport())
        return item.head.gpu.model.bones

    assert with_gpu(bones) == ("head", "jaw")
    change(head.parent)
    bpy.context.view_layer.update()
    assert with_gpu(bones) == ("head",)


def test_a_bone_that_turns_compares_no_coordinates(monkeypatch):
    head, compared, content = make_rig(), [], reading.content
    head.vertex_groups.new(name="head").add(range(3), 1.0, "REPLACE")
    preview.start()
    monkeypatch.setattr(reading, "content", lambda obj: compared.append(obj.name) or content(obj))
    monkeypatch.setattr(engine, "_view_kept", {})
    depsgraph = bpy.context.evaluated_depsgraph_get()
    updated = []

    def note(_scene, depsgraph):
        updated.append(len(depsgraph.updates))
        engine.MienPreviewEngine.view_update(None, None, depsgraph)

    def job(_depsgraph):
        assert len(overlay._posed_for(viewport())) == 1
        assert len(overlay.pose_heads([head], bpy.context.scene, depsgraph, engine._view_kept)) == 1

    bpy.app.handlers.depsgraph_update_post.append(note)
    try:
        with_gpu(job)
        compared.clear()
        for turn in (0.1, 0.2):
            head.parent.pose.bones["head"].rotation_quaternion[1] = turn
            bpy.context.view_layer.update()
            with_gpu(job)
        assert sum(updated)
        assert compared == []
        change_vertex(head)
        bpy.context.view_layer.update()
        with_gpu(job)
        assert len(compared) == 2
        assert [overlay.head(head).uploads, engine._view_kept[head.session_uid].uploads] == [2, 2]
    finally:
        bpy.app.handlers.depsgraph_update_post.remove(note)


def make_painted_head():
    """A head with a material, and the value of that material's roughness."""
    head, material = make_rig(), bpy.data.materials.new("Skin")
    material.use_nodes = True
    head.data.materials.append(material)
    return head, material.node_tree.nodes["Principled BSDF"].inputs["Roughness"]


def edit_value(value):
    value.default_value = 0.25
    bpy.context.view_layer.update()


def key_value(value):
    for frame, rough in ((1, 0.5), (2, 0.25)):
        value.default_value = rough
        value.keyframe_insert("default_value", frame=frame)
    bpy.context.scene.frame_set(2)


def drive_value(value):
    value.driver_add("default_value").driver.expression = "frame / 8"
    bpy.context.scene.frame_set(2)


def undo_value(value):
    value.default_value = 0.25
    bpy.ops.ed.undo_push(message="rough")
    bpy.data.materials["Skin"].node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.75
    bpy.ops.ed.undo_push(message="rougher")
    bpy.context.view_layer.update()
    bpy.ops.ed.undo()


def another_material(_value):
    other = bpy.data.materials.new("Other")
    other.use_nodes = True
    other.node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.25
    bpy.data.objects["Head"].material_slots[0].material = other
    bpy.context.view_layer.update()


@pytest.mark.parametrize("change", [edit_value, key_value, drive_value, undo_value, another_material])
def test_materials_are_read_again_only_when_they_change(change, monkeypatch):
    _head, value = make_painted_head()
    wardrobe, read, count = looks.Wardrobe(), looks.read_look, []
    monkeypatch.setattr(looks, "read_look", lambda material: count.append(material) or read(material))
    bpy.context.view_layer.update()

    def rough():
        count.clear()
        for _ in range(3):  # redraws between which nothing happens
            (look,) = wardrobe.looks_of(bpy.data.objects["Head"])
        return look.roughness

    assert rough() == pytest.approx(0.5)
    assert len(count) == 1
    change(value)
    assert rough() == pytest.approx(0.25)
    assert len(count) == 1
    head = bpy.data.objects["Head"]
    head.data.shape_keys.key_blocks["Smile"].value = 0.3
    head.parent.pose.bones["head"].rotation_quaternion[1] = 0.1
    bpy.context.view_layer.update()
    rough()
    assert count == []


def test_values_alone_upload_nothing():
    head = make_rig()
    preview.start()

    def uploads(_depsgraph):
        draw_in_place(head)
        return overlay.head(head).uploads

    for value in np.linspace(0, 1, 20):
        head.data.shape_keys.key_blocks["Smile"].value = value
        bpy.context.view_layer.update()
        assert with_gpu(uploads) == 1
    assert overlay.head(head).values["Smile"] == 1.0


def test_undo_keeps_the_head():
    head = make_rig()
    name = head.name
    bpy.ops.ed.undo_push(message="before")
    preview.start()
    assert with_gpu(lambda _: draw_in_place(bpy.data.objects[name]))
    bpy.data.objects[name].data.shape_keys.key_blocks["Smile"].value = 0.7
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert preview.running()
    assert with_gpu(lambda _: draw_in_place(bpy.data.objects[name]))
    assert bpy.data.objects[name].hide_get()
    preview.stop()
    assert not bpy.data.objects[name].hide_get()


def test_the_real_head_hides_and_comes_back(tmp_path):
    head = make_rig()
    preview.start()
    assert head.hide_get()
    chosen = properties.settings(bpy.context.scene)
    chosen.placement = "WINDOW"
    assert not head.hide_get()
    chosen.placement = "IN_PLACE"
    assert head.hide_get()
    # A file saved meanwhile opens with its head in sight.
    path = tmp_path / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    assert head.hide_get()
    properties.head_settings(head).show = False
    assert not head.hide_get()
    preview.stop()
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert not bpy.data.objects["Head"].hide_get()
    assert not preview.running()


def undone_to_the_preview(after):
    """Undo to a step made while the preview ran, past what was done `after` it: whether that hid the head; the head."""
    name = make_rig().name
    bpy.ops.ed.undo_push(message="before")
    preview.start()
    bpy.data.objects[name].location.x = 1.0
    bpy.ops.ed.undo_push(message="while the preview runs")
    preview.stop()
    after(bpy.data.objects[name])
    bpy.ops.ed.undo_push(message="after it")
    bpy.data.objects[name].location.x = 3.0
    bpy.ops.ed.undo_push(message="at the end")
    bpy.ops.ed.undo()
    hidden = bpy.data.objects[name].hide_get()
    bpy.ops.ed.undo()
    assert bpy.data.objects[name].location.x == 1.0
    return hidden, bpy.data.objects[name]


def test_an_undo_after_the_preview_shows_what_it_hid(tmp_path):
    hidden, head = undone_to_the_preview(lambda head: None)
    assert not hidden
    assert not head.hide_get()
    bpy.ops.ed.redo()
    assert not bpy.data.objects["Head"].hide_get()
    bpy.ops.ed.undo()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert not bpy.data.objects["Head"].hide_get()


def test_an_undo_leaves_hidden_what_the_user_hid_after_the_preview():
    hidden, head = undone_to_the_preview(lambda head: head.hide_set(True))
    assert hidden
    assert not head.hide_get()


def test_a_file_recovered_from_an_auto_save_opens_with_its_heads_in_sight(tmp_path):
    make_rig()
    preview.start()
    before_save = bpy.app.handlers.save_pre
    before_save.remove(overlay._before_save)  # an auto-save asks nobody
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    finally:
        before_save.append(overlay._before_save)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert not bpy.data.objects["Head"].hide_get()


def test_a_scene_copied_while_the_preview_runs_hides_no_head_after_it():
    head = make_rig()
    preview.start()
    copy = bpy.context.scene.copy()
    assert head.hide_get(view_layer=copy.view_layers[0])
    preview.stop()
    assert not head.hide_get(view_layer=copy.view_layers[0])
    assert not head.hide_get()


@pytest.mark.parametrize("turned", [False, True])
def test_a_head_comes_back_selected_unless_the_user_turned_to_another_object(turned):
    head, objects = make_rig(), bpy.context.view_layer.objects
    objects.active = head
    head.select_set(True)
    preview.start()
    if turned:
        objects.active = head.parent
    preview.stop()
    assert head.select_get() != turned


@pytest.mark.parametrize("mode", ["EDIT", "SCULPT", "VERTEX_PAINT", "WEIGHT_PAINT", "TEXTURE_PAINT"])
def test_a_head_that_is_worked_on_is_left_to_blender(mode):
    head = make_rig()
    bpy.context.view_layer.objects.active = head
    bpy.ops.object.mode_set(mode=mode)
    preview.start()
    assert not head.hide_get()
    assert overlay._posed_for(viewport()) == []
    assert not bpy.app.timers.is_registered(overlay.place_heads)
    bpy.ops.object.mode_set(mode="OBJECT")
    overlay.place_heads()
    assert head.hide_get()
    if mode != "SCULPT":  # which Blender refuses for what is hidden
        bpy.ops.object.mode_set(mode=mode)
        assert overlay._posed_for(viewport()) == []
        assert bpy.app.timers.is_registered(overlay.place_heads)
        overlay.place_heads()
        assert not head.hide_get()
        bpy.ops.object.mode_set(mode="OBJECT")
    properties.settings(bpy.context.scene).placement = "WINDOW"
    bpy.ops.object.mode_set(mode=mode)
    assert len(with_gpu(lambda _: overlay._posed_for(viewport()))) == 1
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_head_that_the_user_hid_stays_hidden():
    head = make_rig()
    head.hide_set(True)
    preview.start()
    preview.stop()
    assert head.hide_get()


def test_what_the_preview_hides_counts_as_seen():
    """And what the scene shows, whichever the window shows."""
    head, scene = make_rig(), bpy.context.scene
    teeth = add_part(head)
    scene.mien.target = head
    preview.start()
    assert teeth.hide_get()
    assert workflow.heads_along(scene) == [teeth]
    bpy.context.window.scene = bpy.data.scenes.new("Other")
    assert workflow.heads_along(scene) == [teeth]
    preview.stop()
    teeth.hide_set(True, view_layer=scene.view_layers[0])
    assert workflow.heads_along(scene) == []


def test_a_head_that_the_preview_hides_gets_bones():
    head = bpy.context.scene.mien.target = conftest.make_rig(bones=())
    preview.start()
    assert head.hide_get()
    assert bpy.ops.mien.add_head_bones() == {"FINISHED"}
    preview.stop()
    head.hide_set(True)
    assert not bpy.ops.mien.add_head_bones.poll()


def test_a_head_that_is_hidden_in_one_view_layer_alone_stays_so():
    head, layer = make_rig(), bpy.context.scene.view_layers.new("Other")
    head.hide_set(True, view_layer=layer)
    preview.start()
    assert head.hide_get()
    bpy.context.view_layer.name = "Renamed"
    preview.stop()
    assert not head.hide_get()
    assert head.hide_get(view_layer=layer)


def test_a_head_that_comes_while_the_preview_runs_is_hidden_soon():
    preview.start()
    head = make_rig()
    overlay_seen = with_gpu(lambda _: overlay._posed_for(viewport()))
    assert len(overlay_seen) == 1
    assert bpy.app.timers.is_registered(overlay.place_heads)
    overlay.place_heads()
    assert head.hide_get()
    preview.stop()
    assert not bpy.app.timers.is_registered(overlay.place_heads)
    assert not head.hide_get()


def test_edit_mode_leaves_the_head_as_it_was():
    head = make_rig()
    head.data.uv_layers.new()
    head.data.color_attributes.new("Colour", "BYTE_COLOR", "POINT")
    bpy.context.view_layer.objects.active = head
    with_gpu(lambda _: draw_in_place(head))
    kept = overlay.head(head)
    uploads = kept.uploads
    bpy.ops.object.mode_set(mode="EDIT")
    kept.suspect = True
    with_gpu(lambda _: draw_in_place(head))
    assert kept.uploads == uploads
    # One that is met there for the first time is drawn, too.
    cache = {}
    with_gpu(lambda _: overlay.pose_heads([head], bpy.context.scene, cache=cache))
    assert cache[head.session_uid].uploads == 1
    bpy.ops.object.mode_set(mode="OBJECT")


def test_samples():
    preview.set_sample(7, np.linspace(0, 1, 11), {"head": (1, 0, 0, 0)}, "sadness")
    assert overlay.samples[7].weights[UNITS[-1]] == 1.0
    preview.set_sample(7, np.zeros(52))
    assert set(overlay.samples[7].weights) == set(ARKIT)
    with pytest.raises(ValueError, match="11 or 52"):
        preview.set_sample(7, np.zeros(3))
    preview.clear_sample(7)
    assert overlay.samples == {}


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_bad_pictures_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        preview.set_picture(bad)


def test_a_sample_does_not_touch_the_keys():
    head = make_rig()
    preview.start()
    preview.set_sample(head.session_uid, {"Smile": 0.8})

    def job(_depsgraph):
        draw_in_place(head)
        return overlay.head(head).values["Smile"]

    assert with_gpu(job) == pytest.approx(0.8)
    assert head.data.shape_keys.key_blocks["Smile"].value == 0.0


def test_a_head_with_another_modifier_is_read_anew_only_when_told(monkeypatch):
    """As Blender has it while it follows the scene; of shape keys and bones where values stand in for the scene's."""
    head = make_rig()
    head.modifiers.new("Smooth", "SMOOTH")
    chosen, cache = bpy.context.scene.mien_preview, {}

    def smile(live=None, strength=0.0, suspect=False):
        chosen.expression, chosen.strength = "happiness", strength
        if suspect:
            cache[head.session_uid].suspect = True

        def job(depsgraph):
            (item,) = overlay.pose_heads(engine.meshes(depsgraph), bpy.context.scene, depsgraph, cache, live or {})
            return item.head.values.get("Smile"), item.head.uploads

        return with_gpu(job)

    assert smile() == (None, 1)
    assert smile() == (None, 1)
    assert smile(suspect=True) == (None, 2)
    assert smile({head.session_uid: Sample({"Smile": 0.75})}) == (0.75, 3)
    assert smile(strength=1.0) == (pytest.approx(0.9), 3)
    assert smile({head.session_uid: Sample(label="anger")}) == (None, 4)  # a label alone moves nothing


@pytest.mark.parametrize("what", ["head", "armature", "bone"])
def test_what_is_scaled_to_nothing_stops_no_other(what, tmp_path):
    heads = make_rig(), make_rig()
    material = bpy.data.materials.new("Glass")
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Alpha"].default_value = 0.5
    heads[0].data.materials.append(material)
    heads[0].vertex_groups.clear()
    heads[0].vertex_groups.new(name="head").add(range(len(heads[0].data.vertices)), 1.0, "REPLACE")
    preview.start()
    assert len(with_gpu(lambda _: overlay._posed_for(viewport()))) == 2
    armature = heads[0].find_armature()
    for thing in {"head": [heads[0]], "armature": [armature], "bone": armature.pose.bones}[what]:
        thing.scale = (0.0, 0.0, 0.0)
    bpy.context.view_layer.update()
    posed = with_gpu(lambda _: overlay._posed_for(viewport()))
    assert [item.obj for item in posed] == list(heads if what == "bone" else heads[1:])
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.collection.objects.link(camera)
    bpy.context.scene.camera, camera.location = camera, (0.0, 0.0, 5.0)
    render(tmp_path / "a.png", 16, 16)  # raises where the engine reports an error


@pytest.mark.parametrize(
    "inherits",
    [
        {},
        {"use_inherit_rotation": False},
        {"use_local_location": False},
        *({"inherit_scale": how} for how in ("FIX_SHEAR", "ALIGNED", "AVERAGE", "NONE")),
    ],
)
def test_a_bone_of_a_sample_moves_as_the_pose_would(inherits):
    head, rig = append_sample_head(bpy.context)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
        for name, value in inherits.items():
            setattr(bone.bone, name, value)
    rig.pose.bones["neck"].scale = (1.2, 0.9, -1.1)
    rig.pose.bones["head"].location = (0.01, 0.02, 0.03)
    bpy.context.view_layer.update()
    turns = {"neck": (0.98, 0.1, 0.05, 0.0), "head": (0.95, 0.0, 0.3, 0.1), "jaw": (0.99, 0.1, 0.0, 0.0)}
    turns = {name: tuple(np.array(q) / np.linalg.norm(q)) for name, q in turns.items()}
    names = tuple(bone.name for bone in rig.pose.bones)
    ours = reading.read_bones(head, names, turns)
    for name, q in turns.items():
        rig.pose.bones[name].rotation_quaternion = q
    bpy.context.view_layer.update()
    assert np.allclose(ours, reading.read_bones(head, names), atol=1e-5)


@pytest.mark.parametrize("turned", ["jaw", "neck"])
def test_bones_that_no_sample_turns_keep_their_constraints(turned):
    head, rig = append_sample_head(bpy.context)
    names = tuple(bone.name for bone in rig.pose.bones)
    free = reading.read_bones(head, names)
    held = rig.pose.bones["head"].constraints.new("LIMIT_ROTATION")
    held.owner_space, held.use_limit_x, held.min_x, held.max_x = "LOCAL", True, 0.5, 0.5
    bpy.context.view_layer.update()
    assert not np.allclose(free, reading.read_bones(head, names), atol=0.1)
    rig.pose.bones[turned].rotation_mode = "QUATERNION"
    turns = {turned: (np.cos(0.15), 0.0, 0.0, np.sin(0.15))}
    ours = reading.read_bones(head, names, turns)
    rig.pose.bones[turned].rotation_quaternion = turns[turned]
    bpy.context.view_layer.update()
    assert np.allclose(ours, reading.read_bones(head, names), atol=1e-5)


def test_a_head_that_cannot_be_read_stops_no_other(monkeypatch, tmp_path):
    """It is told, shown as Blender has it, and drawn again once it can be; no render passes it over in silence."""
    bad, good = make_rig(), make_rig()
    preview.start()
    assert bad.hide_get()
    assert good.hide_get()
    read, tries, broken = reading.read_mesh, [], True

    def fails(obj, *args):
        tries.append(obj)
        if broken and obj == bad:
            raise KeyError("no such bone")
        return read(obj, *args)

    monkeypatch.setattr(reading, "read_mesh", fails)

    def drawn():
        posed = []
        with_gpu(lambda _: overlay.guarded(lambda: posed.extend(overlay._posed_for(viewport()))))
        overlay.place_heads()
        return [item.obj for item in posed]

    assert drawn() == [good]
    assert overlay.problem == "Head is left out, for it cannot be read: 'no such bone'"
    assert not bad.hide_get()
    assert good.hide_get()
    assert drawn() == [good]
    assert tries.count(bad) == 1  # what has not changed is not read at each redraw
    bpy.context.scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    with pytest.raises(RuntimeError, match="Head is left out, for it cannot be read"):
        render(tmp_path / "a.png", 16, 16)
    broken = False
    add_key(bad)
    assert drawn() == [bad, good]
    assert overlay.problem is None
    assert drawn() == [bad, good]
    assert bad.hide_get()


def test_a_failing_graphics_card_is_told_once():
    head = make_rig()
    preview.start()
    calls = []

    def fails():
        calls.append(1)
        raise RuntimeError("the driver is gone")

    overlay.guarded(fails)
    overlay.guarded(fails)
    assert calls == [1]  # it does not try again at every redraw
    assert bpy.app.timers.is_registered(overlay.place_heads)
    overlay.place_heads()
    assert not head.hide_get()  # what is not drawn is not hidden
    assert overlay.problem == "The preview cannot draw on this machine: the driver is gone"


WITHOUT_GPU = """
from mien.addon import bake
from mien.addon.preview import overlay
from mien.addon.rig.targets import find_target
head = conftest.make_rig()
assert bpy.ops.mien.preview() == {"FINISHED"}
print("LINE", overlay.problem)
assert not head.hide_get()
overlay._draw_in_place()  # what a viewport would call: it neither raises nor tries
assert bpy.ops.mien.preview_expression(name="happiness") == {"FINISHED"}
summary = bake.bake_into_scene(
    bpy.context.scene, find_target(head), conftest.make_performance(20), bake.BakeOptions())
assert summary.channels > 0
assert bpy.ops.mien.preview() == {"FINISHED"}
assert not head.hide_get()
mien.unregister()
"""


def test_without_a_gpu_there_is_one_clear_line_and_the_rest_works():
    """A Blender that has no GPU context, in its own process."""
    done = run_alone(WITHOUT_GPU)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "LINE The preview cannot draw on this machine: Blender runs without a window here" in done.stdout


def test_a_head_too_large_for_the_card_is_told():
    model = SimpleNamespace(slopes=range(4096 * 40_000))
    with pytest.raises(MienError, match="texture of 4096 x 40000"):
        with_gpu(lambda _: drawing.check_size(model))


def test_expressions_are_kept_with_the_file():
    head = make_rig()
    preview.start()
    bpy.context.scene.mien_preview.strength = 0.0
    preview.set_sample(head.session_uid, {"Smile": 0.5})
    assert bpy.ops.mien.preview_expression_save(name="Smirk") == {"FINISHED"}
    preview.clear_sample()
    chosen = bpy.context.scene.mien_preview
    assert overlay.expression(chosen) == {"Smile": pytest.approx(0.5)}
    assert bpy.ops.mien.preview_expression(name="Smirk", strength=0.8) == {"FINISHED"}
    assert chosen.strength == pytest.approx(0.8)
    bpy.ops.mien.preview_expression(name="Smirk")
    assert chosen.strength == 0.0
    assert bpy.ops.mien.preview_expression(own=1) == {"FINISHED"}  # its hot key
    assert (chosen.expression, chosen.strength) == ("Smirk", 1.0)
    assert bpy.ops.mien.preview_expression(own=2) == {"CANCELLED"}
    assert bpy.ops.mien.preview_expression_remove(name="Smirk") == {"FINISHED"}
    assert len(chosen.expressions) == 0


def test_names_that_users_give_are_drawn_as_they_are(monkeypatch):
    """Blender would draw an expression or a head called Camera in the language of its interface."""
    head = make_rig()
    head.name = "Camera"
    bpy.context.scene.mien_preview.expressions.add().name = "Light"
    drawn = {}

    def note(_layout, *_what, text="", translate=True, **_more):
        drawn[text] = translate
        return SimpleNamespace()

    monkeypatch.setattr(Layout, "prop", note)
    monkeypatch.setattr(Layout, "operator", note)
    for panel in (MIEN_PT_preview_expression, MIEN_PT_preview_heads):
        drawn_by(panel)
    assert not drawn["Light"]
    assert not drawn["Camera"]
    assert drawn["Happiness"]


def test_a_hot_key_decides_for_no_button_after_it():
    """Called as buttons and keys do it, which fills in what they leave open from the last run."""
    head = make_rig()
    preview.start()
    chosen = bpy.context.scene.mien_preview
    preview.set_sample(head.session_uid, {"Smile": 0.5})
    bpy.ops.mien.preview_expression_save(name="Smirk")
    wear = bpy.ops.mien.preview_expression
    wear("INVOKE_DEFAULT", own=1, strength=0.5)
    wear("INVOKE_DEFAULT", name="anger")
    assert (chosen.expression, chosen.strength) == ("anger", 1.0)
    wear("INVOKE_DEFAULT", own=1)
    assert chosen.expression == "Smirk"


def test_what_is_worn_can_be_taken_off_without_the_preview():
    """Renders show it, too."""
    make_rig()
    for operator in (bpy.ops.mien.preview_expression, bpy.ops.mien.preview_expression_save):
        with pytest.raises(RuntimeError, match="Start the preview first"):
            operator(name="anger")
    preview.start()
    bpy.ops.mien.preview_expression(name="anger")
    preview.stop()
    assert bpy.ops.mien.preview_expression(name="fear") == {"CANCELLED"}
    assert bpy.ops.mien.preview_expression(name="anger") == {"FINISHED"}
    assert bpy.context.scene.mien_preview.strength == 0.0


def test_no_expression_is_replaced_unasked():
    assert free_name(["Smirk"]) == "Expression"
    assert free_name(["Expression", "Expression 2", "Smirk"]) == "Expression 3"
    head = make_rig()
    preview.start()
    preview.set_sample(head.session_uid, {"Smile": 0.5})
    proposed = []
    dialog = SimpleNamespace(invoke_props_dialog=lambda operator: proposed.append(operator.name))
    context = SimpleNamespace(scene=bpy.context.scene, window_manager=dialog)
    bpy.ops.mien.preview_expression_save(name="Expression")
    MIEN_OT_preview_expression_save.invoke(SimpleNamespace(name="Expression"), context, None)
    assert proposed == ["Expression 2"]
    assert bpy.ops.mien.preview_expression_save(name="Happiness") == {"CANCELLED"}  # as a basic one's button reads


@pytest.mark.parametrize(("operator", "ending"), [(MIEN_OT_preview_render_take, ".mp4"), (MIEN_OT_export_csv, ".csv")])
def test_a_file_is_named_after_the_take_and_not_after_the_last_file(operator, ending):
    bpy.context.scene.mien.take = "/takes/tuesday.mien"
    proposed = []
    browser = SimpleNamespace(fileselect_add=lambda asked: proposed.append(asked.filepath))
    context = SimpleNamespace(scene=bpy.context.scene, window_manager=browser)
    for last in ("", f"/out/monday{ending}"):
        operator.invoke(SimpleNamespace(filepath=last, filename_ext=ending), context, None)
    assert proposed == [f"tuesday{ending}", f"/out/tuesday{ending}"]


def add_part(head, key="JawOpen", name="Teeth"):
    """A mesh with one shape key on a head's armature, as teeth and brows are; it comes before the head."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(0.2, 0, 0.4), (0.3, 0, 0.4), (0.3, 0, 0.5), (0.2, 0, 0.5)], [], [(0, 1, 2, 3)])
    part = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.unlink(head)
    for obj in (part, head):
        bpy.context.collection.objects.link(obj)
    part.shape_key_add(name="Basis")
    for point in part.shape_key_add(name=key).data:
        point.co.z += 0.3
    part.data.shape_keys.key_blocks[key].value = 0.0
    part.vertex_groups.new(name="head").add(range(4), 1.0, "REPLACE")
    part.modifiers.new("Armature", "ARMATURE").object = head.parent
    part.parent = head.parent
    return part


@pytest.mark.parametrize("chosen_as_target", [True, False])
def test_parts_of_a_face_are_no_faces(chosen_as_target):
    """Light, portrait, particles and Save Expression go by the target, else by what has most channels."""
    head = make_rig(UNITS[:1]) if chosen_as_target else make_rig()
    teeth, scene = add_part(head), bpy.context.scene
    if chosen_as_target:
        scene.mien.target = head
        teeth.shape_key_add(name="Smile")
    assert overlay.heads_of(scene) == [teeth, head]
    other = make_rig()  # on an armature of its own
    chosen = scene.mien_preview
    chosen.use_particles = True
    chosen.effects["tears"].use, chosen.effects["tears"].trigger = True, "ALWAYS"

    def job(_depsgraph):
        posed, alone = overlay._posed_for(viewport()), overlay.pose_heads([head, other], scene)
        assert [item.obj for item in posed if overlay.effects_of(chosen, item)] == [head, other]
        same = [compose.lighting_for(chosen, None, each).pack() for each in (posed, alone)]
        same += [overlay.portrait(each, 0.8).view for each in (posed, alone)]
        return same

    light, light_alone, view, view_alone = with_gpu(job)
    assert np.array_equal(light, light_alone)
    assert np.array_equal(view, view_alone)
    head.data.shape_keys.key_blocks[1].value = 0.7
    bpy.context.view_layer.objects.active = head.parent
    preview.start()
    assert bpy.ops.mien.preview_expression_save(name="Grin") == {"FINISHED"}
    assert chosen.expressions["Grin"].values.keys() == ["BrowRaise"]


def test_particles_are_off_until_asked_for():
    head = make_rig()
    bpy.ops.mien.preview()
    chosen = bpy.context.scene.mien_preview
    assert not chosen.use_particles
    kept = Head(head.session_uid)
    kept.values = {"Smile": 0.9}
    item = compose.Posed(kept, head, face=True)
    rule = chosen.effects["hearts"]
    rule.use, rule.trigger, rule.unit, rule.threshold = True, "UNIT", "Smile", 0.6
    assert overlay.effects_of(chosen, item) == {}
    chosen.use_particles = True
    assert overlay.effects_of(chosen, item) == {"hearts": 1.0}
    for name in ("mouthSmileLeft", "mouthSmileRight"):  # on a head with ARKit's shapes, and the other way round
        rule.unit = name
        assert overlay.effects_of(chosen, item) == {"hearts": 1.0}
    rule.unit, kept.values = "Smile", {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.4}
    assert overlay.effects_of(chosen, item) == {"hearts": 1.0}
    kept.values["mouthSmileRight"] = 0.2
    assert overlay.effects_of(chosen, item) == {}
    kept.values = {"Smile": 0.5}
    assert overlay.effects_of(chosen, item) == {}
    rule.trigger = "LABEL"
    assert overlay.effects_of(chosen, item) == {}
    item.label = "happiness"
    assert overlay.effects_of(chosen, item) == {"hearts": 1.0}
    item.label = "unsure"
    assert overlay.effects_of(chosen, item) == {}


def test_particles_are_listed_once_they_are_asked_for():
    """Whether or not the preview ever ran in the scene."""
    chosen = bpy.context.scene.mien_preview
    assert len(chosen.effects) == 0
    chosen.use_particles = True
    assert chosen.effects.keys() == list(EFFECTS)
    chosen.effects["tears"].use = True
    chosen.use_particles = False
    chosen.use_particles = True
    assert chosen.effects["tears"].use


def test_live_capture_sets_particles_off_and_shows_its_picture(tmp_path):
    """The real worker with a camera that is a stand-in; it labels every face as happy."""
    from mien.addon import live, live_workflow, session

    head = make_rig()
    bpy.context.scene.mien.target = head
    bpy.ops.mien.preview()
    chosen = bpy.context.scene.mien_preview
    chosen.use_particles = chosen.effects["hearts"].use = True
    posed = with_gpu(lambda _: draw_in_place(head))
    assert overlay.effects_of(chosen, posed[0]) == {}
    assert live_workflow.tuning_of(bpy.context.scene).picture == 0  # no window, and the preview shows none
    chosen.background = "CAMERA"
    assert live_workflow.tuning_of(bpy.context.scene).picture == 320
    session.worker_command, _gone = make_worker(tmp_path)
    try:
        assert bpy.ops.mien.live_start() == {"FINISHED"}
        end = time.monotonic() + 60
        while compose.camera.size is None or not session.live.label:
            assert time.monotonic() < end, "no picture, or no label"
            live.tick()
            time.sleep(0.004)
        assert compose.camera.size == (320, 240)
        posed = with_gpu(lambda _: draw_in_place(head))
        assert posed[0].label == "happiness"
        assert overlay.effects_of(chosen, posed[0]) == {"hearts": 1.0}
        assert posed[0].head.values["Smile"] == pytest.approx(head.data.shape_keys.key_blocks["Smile"].value)
        assert posed[0].head.values["Smile"] > 0.0
    finally:
        live.stop()
        live.wait_for_end()
        session.worker_command = None
    assert compose.camera.size is None  # no face of before on a stream
    posed = with_gpu(lambda _: draw_in_place(head))
    assert overlay.effects_of(chosen, posed[0]) == {}


def write_take(path, smile, label="", count=24, jaw=0.0):
    from mien.core.take import TakeHeader, TakeWriter
    from mien.core.types import FrameResult

    with TakeWriter(path, TakeHeader("test", 24.0, (64, 48), "2026-01-01T00:00:00+00:00")) as writer:
        for i in range(count):
            units = np.zeros(11)
            units[UNITS.index("Smile")], units[UNITS.index("JawOpen")] = smile, jaw
            probabilities = np.zeros(7)
            if label:
                probabilities[EXPRESSIONS.index(label)] = 1.0
            writer.write(
                FrameResult(
                    i,
                    i / 24,
                    found=True,
                    confidence=1.0,
                    size=(64, 48),
                    box=(10, 10, 20, 20),
                    units=units,
                    expression=label,
                    probabilities=probabilities,
                )
            )


def test_each_head_has_its_own_source(tmp_path):
    """One plays a take, one another, one follows the scene: together, at each frame of the scene."""
    heads = [make_rig() for _ in range(3)]
    bpy.context.scene.mien.neutral = "none"
    for head, smile, label in ((heads[0], 0.8, "happiness"), (heads[1], 0.3, "sadness")):
        path = tmp_path / f"{label}.mien"
        write_take(path, smile, label)
        chosen = properties.head_settings(head)
        chosen.take, chosen.source, chosen.start = str(path), "TAKE", 5
    heads[2].data.shape_keys.key_blocks["Smile"].value = 0.55
    preview.start()

    def job(_depsgraph):
        posed = overlay.pose_heads(heads, bpy.context.scene)
        return [(item.head.values["Smile"], item.label) for item in posed]

    bpy.context.scene.frame_set(12)
    (first, happy), (second, sad), (third, none) = with_gpu(job)
    assert (first, second, third) == pytest.approx((0.8, 0.3, 0.55), abs=0.02)
    assert (happy, sad, none) == ("happiness", "sadness", "")
    preview.set_sample(heads[0].session_uid, {}, label="anger")  # as a live session does beside its rig
    assert with_gpu(job)[0] == (pytest.approx(0.8, abs=0.02), "happiness")
    preview.clear_sample(heads[0].session_uid)
    assert heads[0].data.shape_keys.key_blocks["Smile"].value == 0.0  # nothing is baked
    properties.head_settings(heads[1]).take = str(tmp_path / "gone.mien")
    (first, _), (second, _), _ = with_gpu(job)
    assert (first, second) == (pytest.approx(0.8, abs=0.02), 0.0)
    assert "gone.mien" in playback.trouble_of(heads[1])


def performance(count=12, fps=24.0):
    from mien.core.solve import Performance

    units = np.zeros((count, 11), np.float32)
    units[:, UNITS.index("JawOpen")] = np.linspace(0, 1, count)
    head = np.tile(np.float32((1, 0, 0, 0)), (count, 1))
    return Performance(
        times=np.arange(count) / fps,
        found=np.ones(count, bool),
        units=units,
        arkit=np.zeros((count, 52), np.float32),
        action_units=np.zeros((count, 44), np.float32),
        head=head,
        translation=np.zeros((count, 3), np.float32),
        eyes=np.zeros((count, 2, 2), np.float32),
    )


def test_a_take_plays_as_it_bakes():
    rig = find_target(make_rig()).rig
    samples = playback.samples_of(performance(), rig, 24.0)
    assert len(samples) == 12
    assert samples[-1].weights["JawOpen"] == pytest.approx(1.0, abs=1e-3)
    assert samples[0].bones["jaw"] == pytest.approx((1, 0, 0, 0), abs=1e-3)
    assert samples[-1].bones["jaw"][0] < 0.999


def test_a_head_plays_its_take_as_the_scene_would_bake_it(tmp_path):
    head = make_rig()
    write_take(tmp_path / "a.mien", 0.8)
    chosen, scene = properties.head_settings(head), bpy.context.scene
    chosen.take, chosen.source = str(tmp_path / "a.mien"), "TAKE"
    everything = playback.sample_of(head, scene, 1)
    assert "Smile" in everything.weights
    assert "jaw" in everything.bones
    scene.mien.use_shape_keys = scene.mien.use_jaw = False  # noticed though the take is the same
    less = playback.sample_of(head, scene, 1)
    assert less.weights == {}
    assert set(less.bones) == set(everything.bones) - {"jaw"}


def test_what_is_laid_on_a_face_is_mixed_as_blender_mixes_keys(tmp_path):
    """A take and an expression as what is keyed: within the keys' ranges, muted ones not, a pinned one alone."""
    head, scene = make_rig(), bpy.context.scene
    blocks, chosen = head.data.shape_keys.key_blocks, properties.head_settings(head)
    blocks["Smile"].slider_max, blocks["Frown"].slider_min, blocks["JawOpen"].mute = 0.5, 0.3, True
    write_take(tmp_path / "a.mien", 0.8, jaw=0.6)
    scene.mien.neutral = "none"
    chosen.take, chosen.source = str(tmp_path / "a.mien"), "TAKE"

    def shown():
        (posed,) = with_gpu(lambda _: overlay.pose_heads([head], scene))
        assert posed.head.values == overlay.face_of(head)
        return {name: round(value, 2) for name, value in posed.head.values.items() if value}

    assert shown() == {"Smile": 0.5, "Frown": 0.3}
    scene.mien_preview.expression, scene.mien_preview.strength = "happiness", 1.0
    assert shown() == {"BrowRaise": 0.12, "CheekSquint": 0.7, "Smile": 0.5, "Frown": 0.3}
    head.active_shape_key_index, head.show_only_shape_key = blocks.find("Pucker"), True
    assert shown() == {"Pucker": 1.0}


def change_jaw_angle(rig):
    rig["mien_jaw_open_angle"] = 1.0
    rig.update_tag()  # as the panel that edits it does


def change_rest(rig):
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones["jaw"].roll += 0.5
    bpy.ops.object.mode_set(mode="OBJECT")


def drive_jaw(rig):
    rig.driver_add('pose.bones["jaw"].rotation_quaternion', 0)


@pytest.mark.parametrize("change", [change_jaw_angle, change_rest, drive_jaw])
def test_a_head_that_plays_a_take_notices_a_change_of_its_rig(change, tmp_path, monkeypatch):
    head, searched = make_rig(), []
    write_take(tmp_path / "a.mien", 0.8, jaw=0.5)
    chosen, name = properties.head_settings(head), head.parent.name
    chosen.take, chosen.source = str(tmp_path / "a.mien"), "TAKE"
    bpy.context.view_layer.update()
    bpy.ops.ed.undo_push(message="before")

    def jaw():
        return playback.sample_of(bpy.data.objects["Head"], bpy.context.scene, 12).bones.get("jaw")

    before = jaw()
    find = playback.find_target
    monkeypatch.setattr(playback, "find_target", lambda *args, **more: searched.append(1) or find(*args, **more))
    for frame in range(1, 10):
        bpy.context.scene.frame_set(frame)
        assert jaw() == before
    assert not searched
    change(bpy.data.objects[name])
    bpy.context.view_layer.update()
    assert jaw() != before
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert jaw() == before


def test_a_head_plays_its_take_once_its_rig_has_left_edit_mode(tmp_path):
    head, scene = make_rig(), bpy.context.scene
    write_take(tmp_path / "a.mien", 0.8)
    bpy.context.view_layer.objects.active = head.parent
    bpy.ops.object.mode_set(mode="EDIT")
    chosen = properties.head_settings(head)
    chosen.take, chosen.source = str(tmp_path / "a.mien"), "TAKE"
    assert playback.sample_of(head, scene, 5) is None
    assert playback.trouble_of(head) == '"Rig" is in Edit Mode.'
    bpy.ops.object.mode_set(mode="OBJECT")
    assert playback.sample_of(head, scene, 5) is not None
    assert playback.trouble_of(head) == ""


@pytest.mark.parametrize("film", [False, True])
def test_render_take_keeps_the_frames_of_a_bake_and_the_name(tmp_path, film, capfd):
    head = append_sample_head(bpy.context)[0]
    head.modifiers.new("Smooth", "SMOOTH").show_viewport = False
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 110, 90, 30
    write_take(tmp_path / "a.mien", 0.8, count=3)
    scene.mien.take, scene.mien.target, scene.mien.start_frame = str(tmp_path / "a.mien"), head, 5
    rendered = []

    def note(scene, *_):
        render = scene.render
        sides = [side * render.resolution_percentage // 100 for side in (render.resolution_x, render.resolution_y)]
        rendered.append((scene.frame_current, *sides))

    bpy.app.handlers.render_post.append(note)
    try:
        with_gpu(lambda _: None)
        rendered.clear()
        assert bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "shot {a}.010"), film=film) == {"FINISHED"}
    finally:
        bpy.app.handlers.render_post.remove(note)
    files = sorted(path.name for path in tmp_path.glob("shot*"))
    if film:
        assert rendered == [(5, 34, 28), (6, 34, 28), (7, 34, 28)]  # of 33 by 27, as a film has even sides
        assert files == ["shot {a}.010.mp4"]
    else:
        assert rendered == [(5, 33, 27), (6, 33, 27), (7, 33, 27)]
        assert files == ["shot {a}.010_0005.png", "shot {a}.010_0006.png", "shot {a}.010_0007.png"]
    assert "Without the modifiers Smooth" in "".join(capfd.readouterr())


@pytest.mark.parametrize("film", [False, True])
def test_a_take_renders_to_files(tmp_path, film):
    head = append_sample_head(bpy.context)[0]
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = 32, 40
    crop_to(scene.render, (0.1, 0.57), (0.1, 0.61))  # 15 by 20 pixels; Blender makes no film of odd sides
    before = len(bpy.data.scenes)
    samples = playback.samples_of(performance(3), find_target(head).rig, 24.0)
    assert playback.share_done(1) == 1.0
    name = playback.begin(
        bpy.context, head, {head.session_uid: samples}, tmp_path / ("a.mp4" if film else "a_##"), film=film
    )
    assert playback.share_done(1) == pytest.approx(1 / 3)
    bpy.ops.render.render(animation=True, scene=name)
    playback.finish()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == (["a.mp4"] if film else ["a_01.png", "a_02.png", "a_03.png"])
    assert all(path.stat().st_size > 200 for path in tmp_path.iterdir())
    assert len(bpy.data.scenes) == before
    assert engine._kept == {}
    assert head.data.shape_keys.key_blocks["JawOpen"].value == 0.0


def crop_to(render, across, up):
    render.use_border = render.use_crop_to_border = True
    (render.border_min_x, render.border_max_x), (render.border_min_y, render.border_max_y) = across, up


@pytest.mark.parametrize(
    ("region", "kept"),
    [((0.1, 0.61), (3, 19)), ((0.1, 0.57), (3, 19)), ((0.55, 1.0), (16, 32)), ((0.0, 0.01), (0, 2))],
)
def test_a_film_of_a_render_region_has_even_sides(region, kept, tmp_path):
    head, scene = make_rig(), bpy.context.scene
    scene.camera, render = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")), scene.render
    render.resolution_x = render.resolution_y = 32
    crop_to(render, region, region)
    name = playback.begin(bpy.context, head, {head.session_uid: [Sample()]}, tmp_path / "a.mp4", film=True)
    left, low, right, high = compose.render_border(bpy.data.scenes[name].render, 32, 32)
    playback.finish()
    assert (left, right) == (low, high) == kept


def as_in_a_window(monkeypatch, start):
    """Have Render Take call `start` in place of Blender's render, as where there is a window."""
    from mien.addon.operators import preview as operators

    app = SimpleNamespace(background=False, timers=bpy.app.timers)
    ops = SimpleNamespace(render=SimpleNamespace(render=start))
    monkeypatch.setattr(operators, "bpy", SimpleNamespace(app=app, path=bpy.path, ops=ops))


def choose_take(tmp_path):
    """A head and a take of three frames, ready for Render Take."""
    head = append_sample_head(bpy.context)[0]
    write_take(tmp_path / "a.mien", 0.8, count=3)
    settings = bpy.context.scene.mien
    settings.take, settings.target = str(tmp_path / "a.mien"), head


def test_a_takes_render_moves_all_that_a_bake_would(monkeypatch, tmp_path, capfd):
    """Further heads, and what hangs on the same armature; nothing of another character."""
    head, scene = make_rig(), bpy.context.scene
    brows, hair, other = add_part(head, "Smile", "Brows"), add_part(head, name="Hair"), make_rig()
    hair.shape_key_clear()
    for part in (brows, hair):
        part.modifiers.new("Smooth", "SMOOTH")
    write_take(tmp_path / "a.mien", 0.8, "happiness", count=3, jaw=0.5)
    scene.mien.take, scene.mien.target, scene.mien.neutral = str(tmp_path / "a.mien"), head, "none"
    scene.mien_live.targets.add().mesh = brows
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    as_in_a_window(monkeypatch, lambda *_args, **_options: {"RUNNING_MODAL"})
    assert bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a.mp4")) == {"FINISHED"}
    played = {obj.name: playback.at(2).get(obj.session_uid) for obj in (head, brows, hair, other)}
    assert played[other.name] is None
    assert played[brows.name].weights == {"Smile": pytest.approx(0.8, abs=0.02)}
    assert played[hair.name].weights == {}
    assert played[head.name].bones == played[brows.name].bones == played[hair.name].bones
    assert played[head.name].bones["jaw"][0] < 0.999
    assert "Brows, Hair: Without the modifiers Smooth" in "".join(capfd.readouterr())
    playback.finish()


def test_a_takes_render_moves_no_namesake_of_its_head(monkeypatch, tmp_path):
    """A character that is linked, and beside it its override, by the same names."""
    head, character = make_rig(), bpy.data.collections.new("Character")
    bpy.context.scene.collection.children.link(character)
    for obj in (head, head.parent):
        bpy.context.scene.collection.objects.unlink(obj)
        character.objects.link(obj)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    empty_file()
    scene = bpy.context.scene
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, found):
        found.collections = ["Character"]
    linked = found.collections[0]
    scene.collection.children.link(linked)
    linked.override_hierarchy_create(scene, bpy.context.view_layer, do_fully_editable=True)
    extra, head = sorted((obj for obj in scene.objects if obj.type == "MESH"), key=lambda obj: obj.library is None)
    assert extra.name == head.name
    head.data = head.data.copy()  # with keys of its own
    write_take(tmp_path / "a.mien", 0.8, count=3)
    scene.mien.take, scene.mien.target, scene.mien.neutral = str(tmp_path / "a.mien"), head, "none"
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    as_in_a_window(monkeypatch, lambda *_args, **_options: {"RUNNING_MODAL"})
    assert bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a.mp4")) == {"FINISHED"}
    live = playback.at(2)
    playback.finish()
    assert overlay.sample_for(head, scene, 2, live).weights["Smile"] == pytest.approx(0.8, abs=0.02)
    assert overlay.sample_for(extra, scene, 2, live) is None
    preview.set_sample(head.session_uid, {"Smile": 0.5})
    assert overlay.sample_for(head, scene, 2).weights == {"Smile": 0.5}
    assert overlay.sample_for(extra, scene, 2) is None


@pytest.mark.parametrize("film", [False, True])
def test_a_takes_render_goes_by_no_output_settings_of_the_scene(film, tmp_path):
    choose_take(tmp_path)
    render, head = bpy.context.scene.render, bpy.context.scene.mien.target
    render.use_overwrite, render.use_placeholder, render.use_multiview = False, True, True
    render.image_settings.color_mode = "BW"
    name = playback.begin(bpy.context, head, {head.session_uid: [Sample()]}, tmp_path / "a", film=film)
    mine = bpy.data.scenes[name].render
    assert (mine.use_overwrite, mine.use_placeholder, mine.use_multiview) == (True, False, False)
    assert mine.image_settings.color_mode == ("RGB" if film else "RGBA")
    playback.finish()
    assert (render.use_overwrite, render.use_placeholder, render.use_multiview) == (False, True, True)
    assert render.image_settings.color_mode == "BW"


def test_a_takes_render_that_shows_nothing_is_told(monkeypatch, tmp_path, capfd):
    choose_take(tmp_path)
    as_in_a_window(monkeypatch, lambda *_args, **_options: {"CANCELLED"})
    bpy.context.scene.mien.target.hide_render = True
    bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a"), film=False)
    assert "is hidden in renders: turn on Renders" in "".join(capfd.readouterr())
    bpy.context.view_layer.use = False
    with pytest.raises(RuntimeError, match="No view layer of the scene is rendered"):
        bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a"), film=False)
    assert bpy.data.scenes.keys() == ["Scene"]


def test_a_takes_render_is_over_when_no_job_runs_any_more(monkeypatch, tmp_path):
    """Also where Blender tells no end: of a film that it cannot open for writing."""
    choose_take(tmp_path)
    as_in_a_window(monkeypatch, lambda *_args, **_options: {"RUNNING_MODAL"})
    assert bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a.mp4")) == {"FINISHED"}
    assert bpy.app.timers.is_registered(playback.look_for_end)
    assert playback.look_for_end()  # Blender still ends another job
    engine._before_render(bpy.context.scene)
    assert playback.look_for_end()
    engine._before_render(bpy.data.scenes["Mien Preview Render"])
    with monkeypatch.context() as patched:
        app = SimpleNamespace(is_job_running=lambda kind: kind == "RENDER")
        patched.setattr(playback, "bpy", SimpleNamespace(app=app))
        assert playback.look_for_end()
    assert playback.busy()
    assert playback.look_for_end() is None
    assert not playback.busy()
    assert bpy.data.scenes.keys() == ["Scene"]


def test_a_film_that_cannot_be_written_is_told_before_anything_is_rendered(tmp_path):
    choose_take(tmp_path)
    film = tmp_path / "film.mp4"
    film.mkdir()  # nobody, not even root, can write a file there
    with pytest.raises(RuntimeError, match=r"film\.mp4 cannot be written: .*\. Close the film where it is open"):
        bpy.ops.mien.preview_render_take(filepath=str(film))
    assert not playback.busy()
    assert bpy.data.scenes.keys() == ["Scene"]


def test_a_film_of_before_is_kept_until_it_is_rendered_anew(tmp_path):
    head = append_sample_head(bpy.context)[0]
    samples = playback.samples_of(performance(3), find_target(head).rig, 24.0)
    old, new = tmp_path / "old.mp4", tmp_path / "folder" / "new.mp4"
    old.write_bytes(b"before")
    for film in (old, new):
        playback.begin(bpy.context, head, {head.session_uid: samples}, film, film=True)
        playback.finish()
    assert old.read_bytes() == b"before"
    assert not new.exists()


@pytest.mark.parametrize("how", ["refused", "fails"])
def test_a_render_that_does_not_begin_leaves_nothing(how, monkeypatch, tmp_path):
    choose_take(tmp_path)

    def start(*_args, **_options):
        assert playback.busy()
        if how == "fails":
            raise RuntimeError(f"Error: {how}\n")
        return {"CANCELLED"}

    as_in_a_window(monkeypatch, start)
    if how == "fails":
        with pytest.raises(RuntimeError, match=r"^Error: fails\s*$"):  # a line, and no traceback
            bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a.mp4"))
    else:
        assert bpy.ops.mien.preview_render_take(filepath=str(tmp_path / "a.mp4")) == {"CANCELLED"}
    assert not playback.busy()
    assert len(bpy.data.scenes) == 1


def test_a_file_saved_during_a_takes_render_opens_without_its_scene(tmp_path):
    head = append_sample_head(bpy.context)[0]
    samples = playback.samples_of(performance(3), find_target(head).rig, 24.0)
    name = playback.begin(bpy.context, head, {head.session_uid: samples}, tmp_path / "a.mp4", film=True)
    bpy.data.scenes[name].use_fake_user = True  # as if a window showed it: a scene that nothing uses is not saved
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert [scene.name for scene in bpy.data.scenes] == ["Scene"]
    assert not playback.busy()


@pytest.mark.parametrize("ended", [True, False])
def test_an_undo_brings_no_scene_of_a_takes_render_back(ended, tmp_path):
    """To a step that was made while the take was rendered; an undo ends the render itself, too."""
    head = append_sample_head(bpy.context)[0]
    samples, name = playback.samples_of(performance(3), find_target(head).rig, 24.0), head.name
    heard = write_sound(tmp_path / "a.wav")
    bpy.ops.ed.undo_push(message="before")
    playback.begin(bpy.context, head, {head.session_uid: samples}, tmp_path / "a.mp4", film=True, heard=heard)
    assert len(bpy.data.sounds) == 1
    bpy.data.objects[name].location.x = 1.0
    bpy.ops.ed.undo_push(message="while it renders")
    if ended:
        playback.finish()
    bpy.data.objects[name].location.x = 2.0
    bpy.ops.ed.undo_push(message="after it")
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo, bpy.ops.ed.undo, bpy.ops.ed.undo):
        step()
        assert bpy.data.scenes.keys() == ["Scene"]
        assert bpy.context.scene.name == "Scene"
        assert not len(bpy.data.sounds)
        assert not playback.busy()


def test_no_window_is_left_in_the_scene_of_a_takes_render(tmp_path):
    head = append_sample_head(bpy.context)[0]
    samples = playback.samples_of(performance(3), find_target(head).rig, 24.0)
    name = playback.begin(bpy.context, head, {head.session_uid: samples}, tmp_path / "a.mp4", film=True)
    for window in bpy.context.window_manager.windows:
        window.scene = bpy.data.scenes[name]
    playback.finish()
    assert bpy.data.scenes.keys() == ["Scene"]
    assert {window.scene.name for window in bpy.context.window_manager.windows} <= {"Scene"}
