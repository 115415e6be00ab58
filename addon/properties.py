"""Settings that belong in the .blend file. Nothing here says what is running: see `session`."""

from __future__ import annotations

import math

import bpy

from ..core.units import ESTIMATORS
from .ids import SETTINGS

BLEND_RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()
"""Options of a path that may begin with ``//``; older Blenders take that for granted."""


def is_mesh(_self, obj):
    """Poll of a pointer to a mesh."""
    return obj.type == "MESH"


def tune_live(_self, _context):
    """Update of a setting that a running live session follows."""
    from .live_workflow import tune

    tune()


class MienSettings(bpy.types.PropertyGroup):
    target: bpy.props.PointerProperty(
        name="Head",
        description="Mesh with the shape keys to animate. Its armature, if it has one, gets head, jaw and eyes",
        type=bpy.types.Object,
        poll=is_mesh,
    )
    # Not on the head: looking at a row of an overridden one should not override anything.
    mapping_row: bpy.props.IntProperty(
        name="Shape Key", description="Row of the mapping's list that is shown below it", options={"HIDDEN"}
    )
    source: bpy.props.StringProperty(
        name="Source",
        description="Video of the actor's face; or a folder of pictures, or the first picture of a numbered sequence; "
        "or the CSV of a recording that Live Link Face made on an iPhone",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
    )
    sequence_fps: bpy.props.FloatProperty(
        name="Picture Rate",
        description="Pictures per second of the sequence; a video keeps its own timing",
        default=24.0,
        min=0.01,
        soft_min=1.0,
        max=1000.0,
        soft_max=240.0,
        precision=3,
    )
    timecode_fps: bpy.props.FloatProperty(
        name="Timecode Rate",
        description="Frames per second of the CSV's timecode. 0 reads it off the file; give it where the face then "
        "moves too fast or too slowly, or for 29.97 and 59.94",
        default=0.0,
        min=0.0,
        max=1000.0,
        soft_max=240.0,
        precision=3,
    )

    start_frame: bpy.props.IntProperty(
        name="Start Frame",
        description="Scene frame of the source's first picture. Time is kept: one second of the source is one second "
        "of the scene, whatever their frame rates",
        default=1,
    )
    smoothing: bpy.props.FloatProperty(
        name="Smoothing",
        description="How much jitter is taken out, without delay. 0 keeps every tremor of the capture",
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    neutral: bpy.props.EnumProperty(
        name="Rest Pose",
        description="What counts as the actor's resting face",
        items=(
            (
                "auto",
                "Actor's Own",
                "Put the actor's resting face on the rig's rest: the calibrated one, else as it is found in the clip",
            ),
            ("none", "As Captured", "Use the captured values as they are, relative to an average face"),
        ),
        default="auto",
        update=tune_live,
    )
    level_head: bpy.props.BoolProperty(
        name="Level Head",
        description="Take out the head's mean rotation: for a camera that stood below or beside the actor's face. "
        "With a calibrated face the rotation of that one is taken out already",
        update=tune_live,
    )
    estimator: bpy.props.EnumProperty(
        name="Reading",
        description="What reads the movements off the face",
        items=(
            (
                "combined",
                "Combined",
                "The landmark model, helped by Mien's own network where that one sees nothing: wrinkled nose, "
                "puffed cheeks, jaw forward",
            ),
            (
                "learned",
                "Mien's Network",
                "Mien's own network for brows, lids, nose, cheeks, mouth and jaw; the landmark model finds the face, "
                "and turns head and eyes",
            ),
            ("landmark", "Landmark Model", "The landmark model alone: the fastest"),
        ),
        default=ESTIMATORS[0],
    )
    tolerance: bpy.props.FloatProperty(
        name="Value Tolerance",
        description="Keys are left out as long as each shape key stays this close to the capture at every frame. "
        "0 sets a key on every frame",
        default=0.005,
        min=0.0,
        max=0.5,
        soft_max=0.05,
        step=0.1,
        precision=4,
    )
    rotation_tolerance: bpy.props.FloatProperty(
        name="Angle Tolerance",
        description="Keys are left out as long as each bone's rotation stays this close to the capture at every frame. "
        "0 sets a key on every frame",
        default=math.radians(0.1),
        min=0.0,
        max=math.radians(30.0),
        soft_max=math.radians(2.0),
        subtype="ANGLE",
        precision=3,
    )
    action_mode: bpy.props.EnumProperty(
        name="Action",
        description="Where the keys go",
        items=(
            ("NEW", "New", "Put the keys in a new action; the one in use is kept with a fake user"),
            (
                "CURRENT",
                "Current",
                "Put the keys in the action in use: on the baked channels they replace those between the first and the "
                "last baked frame, everything else stays",
            ),
        ),
        default="NEW",
    )
    action_name: bpy.props.StringProperty(
        name="Name", description="Name of the new action. Leave empty to name it after the source, or after a live take"
    )
    extend_range: bpy.props.BoolProperty(
        name="Extend Scene",
        description="Move the scene's end frame if the performance is longer",
        default=True,
    )
    use_markers: bpy.props.BoolProperty(
        name="Expression Markers",
        description="Set a marker on the timeline wherever the expression changes, the actor's own before a basic one, "
        "or the face is hidden; those of an earlier bake between the first and the last baked frame are replaced",
    )
    use_triggers: bpy.props.BoolProperty(
        name="Triggers",
        description="Have the head wear what the face sets off, as it does live: see Triggers in the panel Live. Off, "
        "the performance is baked as captured",
    )
    reuse_take: bpy.props.BoolProperty(
        name="Reuse Take",
        description="Bake at once from the kept take if this source was captured before and neither it, nor its "
        "place and rate, nor Reading, nor the actor's own expressions, nor Mien have changed since; one captured "
        "without all of Mien's models is not. Turn off to capture again",
        default=True,
    )

    use_shape_keys: bpy.props.BoolProperty(
        name="Shape Keys",
        description="Bake the shape keys whose names tell what they stand for (Mien's 11 units, the 52 ARKit shapes, "
        "and what VRM, Ready Player Me and others call them), or those chosen under Mapping",
        default=True,
    )
    use_head: bpy.props.BoolProperty(
        name="Head", description="Bake the rotation of the bones head and neck", default=True
    )
    use_jaw: bpy.props.BoolProperty(name="Jaw", description="Bake the opening of the bone jaw", default=True)
    use_eyes: bpy.props.BoolProperty(
        name="Eyes",
        description="Bake the gaze on the bones eye.L and eye.R, or on the bones that these look at",
        default=True,
    )
    use_sound: bpy.props.BoolProperty(
        name="Sound",
        description="Put the sound that was recorded with the take, or the video's own, on the sequencer. That of a "
        "CSV is looked for in a video or .wav of the same name beside it",
        default=True,
    )
    sound_delay: bpy.props.FloatProperty(
        name="Delay (ms)",
        description="How much later the sound is played, in milliseconds: for a microphone or camera that is late",
        soft_min=-500.0,
        soft_max=500.0,
        precision=0,
        step=100,
    )
    neck_share: bpy.props.FloatProperty(
        name="Neck",
        description="Part of the head's rotation that the neck takes; both together always make the whole",
        default=0.3,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )

    take: bpy.props.StringProperty(
        name="Take",
        description="What Bake Take, Export CSV and Render Take mean: the take baked last, unless you choose another",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
    )
    origin: bpy.props.StringProperty(
        name="Source of the Take",
        description="What the take was captured from, for its sound",
        subtype="FILE_PATH",
        options={"HIDDEN", *BLEND_RELATIVE},
    )


def register():
    bpy.utils.register_class(MienSettings)
    setattr(bpy.types.Scene, SETTINGS, bpy.props.PointerProperty(type=MienSettings))


def unregister():
    delattr(bpy.types.Scene, SETTINGS)
    bpy.utils.unregister_class(MienSettings)
