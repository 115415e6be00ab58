"""Paths that the user sets."""

from __future__ import annotations

import bpy
import pytest

from mien.addon import live_workflow
from mien.addon.preferences import default_takes_folder, takes_folder


@pytest.fixture
def preferences():
    return bpy.context.preferences.addons["mien"].preferences


@pytest.mark.skipif(bpy.app.version < (4, 5, 0), reason="older Blenders take it for granted")
def test_paths_of_a_file_may_be_relative_to_it(preferences):
    scene, obj = bpy.context.scene, bpy.data.objects.new("Head", None)
    for owner, name in (
        (scene.mien, "source"),
        (scene.mien, "take"),
        (scene.mien, "origin"),
        (scene.mien_live, "video"),
        (obj.mien_preview, "take"),
    ):
        assert owner.bl_rna.properties[name].is_path_supports_blend_relative, name
    assert not preferences.bl_rna.properties["takes_folder"].is_path_supports_blend_relative


@pytest.mark.filterwarnings("ignore:.*does not support blend relative")
def test_the_takes_folder_belongs_to_no_file(preferences, tmp_path):
    preferences.takes_folder = "//takes"
    assert preferences.takes_folder == ""
    assert takes_folder() == default_takes_folder()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    preferences.takes_folder = "//takes"
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert takes_folder() == tmp_path / "takes"


def test_another_takes_folder_is_listed_soon(preferences, tmp_path):
    if bpy.app.timers.is_registered(live_workflow.refresh_takes):
        bpy.app.timers.unregister(live_workflow.refresh_takes)
    preferences.takes_folder = str(tmp_path)
    assert bpy.app.timers.is_registered(live_workflow.refresh_takes)
