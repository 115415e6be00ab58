"""Settings of live capture that belong in the .blend file, and the list of takes, which does not."""

from __future__ import annotations

import bpy

from ..core import network
from ..core.protocol import MAX_ADDRESS, MAX_LABEL
from ..core.units import EXPRESSIONS
from . import session
from .ids import LIVE_SETTINGS, PREVIEW, TAKE_LIST
from .preferences import actors_folder
from .properties import BLEND_RELATIVE, is_mesh, tune_live
from .registration import register_classes, unregister_classes

SIZES = {"AUTO": (0, 0), "VGA": (640, 480), "HD": (1280, 720), "FULL_HD": (1920, 1080)}
"""Width and height by name."""

FORMATS = (
    ("livelink", "Live Link Face", "Epic's iPhone app in ARKit mode, UDP port 11111"),
    ("facecap", "Face Cap", "OSC from the iPhone app Face Cap, UDP port 8080"),
    ("vmc", "VMC", "VSeeFace, Warudo and other VTuber programs, UDP port 39539"),
    ("ifacialmocap", "iFacialMocap", "The iPhone apps iFacialMocap and Facemotion3D, UDP port 49983"),
)


def _find_cameras(_self, _context, text):
    return [name for _id, name in session.cameras if text.lower() in name.lower()]


def _find_microphones(_self, _context, text):
    return [name for name in session.microphones if text.lower() in name.lower()]


def _usual_port(chosen):
    return network.FORMATS[chosen.format].PORT


def _port(self):
    return self.own_port or _usual_port(self)


def _set_port(self, port):
    # What is usual follows the format.
    self.own_port = 0 if port == _usual_port(self) else port


class MienLiveTarget(bpy.types.PropertyGroup):
    mesh: bpy.props.PointerProperty(
        name="Head", description="Another mesh that follows the same face", type=bpy.types.Object, poll=is_mesh
    )


def _find_actors(_self, _context, text):
    folder = actors_folder()
    names = sorted(path.stem for path in folder.glob("*.npz")) if folder.is_dir() else []
    return [name for name in names if text.lower() in name.lower()]


def _find_labels(self, _context, text):
    from .workflow import own_names

    # The panel shows those of the scene that a session follows, whatever scene the window shows.
    return [name for name in (*own_names(self.id_data), *EXPRESSIONS) if text.lower() in name.lower()]


def _find_expressions(self, _context, text):
    saved = getattr(self.id_data, PREVIEW).expressions.keys()
    return [name for name in (*saved, *EXPRESSIONS) if text.lower() in name.lower()]


class MienTrigger(bpy.types.PropertyGroup):
    label: bpy.props.StringProperty(
        name="When",
        description="Expression that the face has to show: a basic one, or one of the actor's own",
        search=_find_labels,
        search_options={"SUGGESTION"},
        update=tune_live,
    )
    expression: bpy.props.StringProperty(
        name="Wear",
        description="Expression that the head then wears: a basic one, or one saved in the preview",
        search=_find_expressions,
        search_options={"SUGGESTION"},
        update=tune_live,
    )
    strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far it covers the capture",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=tune_live,
    )


class MienLiveSettings(bpy.types.PropertyGroup):
    source: bpy.props.EnumProperty(
        name="Source",
        description="Where the face comes from",
        items=(
            ("camera", "Camera", "A webcam on this machine"),
            ("video", "Video", "A video file, played as if it were a camera"),
            ("network", "Network", "An iPhone app or another program that sends a face over UDP"),
        ),
        default="camera",
    )
    camera: bpy.props.StringProperty(
        name="Camera",
        description="Name of the camera, or its number, counted from 0. Leave empty for the first one",
        search=_find_cameras,
        search_options={"SUGGESTION"},
    )
    size: bpy.props.EnumProperty(
        name="Resolution",
        description="What is asked of the camera; it gives the nearest that it has. 640 x 480 is enough for a face",
        items=(
            ("AUTO", "Camera's Own", "Leave it to the camera"),
            ("VGA", "640 x 480", "Fast, and enough where the face fills a third of the picture"),
            ("HD", "1280 x 720", "For a face farther away"),
            ("FULL_HD", "1920 x 1080", "For a face far away; many cameras give fewer pictures a second"),
        ),
        default="VGA",
    )
    fps: bpy.props.IntProperty(
        name="Rate",
        description="Pictures per second asked of the camera. 0 leaves it to the camera",
        default=30,
        min=0,
        max=240,
    )
    mirror: bpy.props.BoolProperty(
        name="Mirror",
        description="Exchange left and right, so that the character acts as a mirror does",
    )
    video: bpy.props.StringProperty(
        name="Video",
        description="Video that is played in place of a camera, again and again",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
    )
    format: bpy.props.EnumProperty(name="Format", description="What the other program sends", items=FORMATS)
    own_port: bpy.props.IntProperty(
        name="Own Port", description="Port where it is not the format's usual one, else 0", options={"HIDDEN"}
    )
    port: bpy.props.IntProperty(
        name="Port",
        description="UDP port to listen on, the format's usual one unless you set another; 0 brings that back",
        min=0,
        max=65535,
        get=_port,
        set=_set_port,
    )
    phone: bpy.props.StringProperty(
        name="Phone",
        description="Address of the phone, which has to be asked to send; the app shows it",
        maxlen=MAX_ADDRESS,
    )
    smoothing: bpy.props.FloatProperty(
        name="Smoothing",
        description="How much jitter is taken out while live; more smoothing lags more. Takes are not affected",
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=tune_live,
    )
    prediction: bpy.props.FloatProperty(
        name="Prediction",
        description="Milliseconds by which movements are carried on, against lag; too many overshoot",
        default=0.0,
        min=0.0,
        max=100.0,
        update=tune_live,
    )
    show_picture: bpy.props.BoolProperty(
        name="Picture",
        description="Show what the camera sees, with the face that was found",
        default=True,
        update=tune_live,
    )
    countdown: bpy.props.IntProperty(
        name="Countdown",
        description="Seconds from Record to the first recorded frame. Punch In and Play Timeline begin at once",
        default=3,
        min=0,
        max=30,
    )
    play_timeline: bpy.props.BoolProperty(
        name="Play Timeline",
        description="Play the timeline while recording, at once and without a countdown; the take then belongs to the "
        "frames that it was played with",
    )
    microphone_name: bpy.props.StringProperty(
        name="Device",
        description="Name of the microphone. Leave empty for the system's default one",
        search=_find_microphones,
        search_options={"SUGGESTION"},
        maxlen=256,
        update=tune_live,
    )
    targets: bpy.props.CollectionProperty(
        type=MienLiveTarget,
        name="Further Heads",
        description="Further heads that follow the same face, at bake and live",
    )

    actor: bpy.props.StringProperty(
        name="Actor",
        description="Whose face it is: expressions of the actor's own are kept under this name. Leave empty for none",
        search=_find_actors,
        search_options={"SUGGESTION"},
        update=tune_live,
    )
    lesson: bpy.props.StringProperty(
        name="Expression", description="Name of the expression that is recorded next", maxlen=MAX_LABEL
    )
    lesson_seconds: bpy.props.FloatProperty(
        name="Seconds",
        description="How long the expression is shown while Mien learns it. Vary it a little, and turn the head",
        default=3.0,
        min=1.0,
        max=30.0,
        subtype="TIME_ABSOLUTE",
    )
    triggers: bpy.props.CollectionProperty(
        type=MienTrigger, name="Triggers", description="What the head wears while the face shows an expression"
    )

    send_livelink: bpy.props.BoolProperty(
        name="Live Link Face",
        description="Send the live face as the app Live Link Face does, to Unreal Engine",
        update=tune_live,
    )
    livelink_host: bpy.props.StringProperty(
        name="Address",
        description="Address of the machine that receives, in digits",
        default="127.0.0.1",
        maxlen=MAX_ADDRESS,
        update=tune_live,
    )
    livelink_port: bpy.props.IntProperty(
        name="Port", description="UDP port that Unreal listens on", default=11111, min=1, max=65535, update=tune_live
    )
    send_vmc: bpy.props.BoolProperty(
        name="VMC", description="Send the live face to VTuber programs such as VSeeFace and Warudo", update=tune_live
    )
    vmc_host: bpy.props.StringProperty(
        name="Address",
        description="Address of the machine that receives, in digits",
        default="127.0.0.1",
        maxlen=MAX_ADDRESS,
        update=tune_live,
    )
    vmc_port: bpy.props.IntProperty(
        name="Port",
        description="UDP port that the program listens on",
        default=39539,
        min=1,
        max=65535,
        update=tune_live,
    )
    vmc_blends: bpy.props.EnumProperty(
        name="Model",
        description="What the receiving model understands",
        items=(
            ("arkit", "Perfect Sync", "Models with the 52 ARKit shapes"),
            ("vrm", "Standard", "VRM models with the standard expressions"),
        ),
        update=tune_live,
    )


class MienTake(bpy.types.PropertyGroup):
    """A take on disk, as the list shows it; its name is the file's without the suffix."""

    path: bpy.props.StringProperty(name="File", description="Where the take is kept", subtype="FILE_PATH")
    frames: bpy.props.IntProperty(name="Frames", description="Frames in the take")
    duration: bpy.props.FloatProperty(name="Duration", description="Seconds from the first frame to the last")
    sound: bpy.props.BoolProperty(name="Sound", description="Whether sound was recorded with the take")


class MienTakeList(bpy.types.PropertyGroup):
    """The takes folder as it was read last; see `takes`."""

    items: bpy.props.CollectionProperty(type=MienTake, name="Takes", description="The takes in the takes folder")
    active: bpy.props.IntProperty(name="Active Take", description="The take that the list's own buttons mean")


CLASSES = (MienLiveTarget, MienTrigger, MienLiveSettings, MienTake, MienTakeList)


def register():
    register_classes(CLASSES)
    setattr(bpy.types.Scene, LIVE_SETTINGS, bpy.props.PointerProperty(type=MienLiveSettings))
    setattr(bpy.types.WindowManager, TAKE_LIST, bpy.props.PointerProperty(type=MienTakeList))


def unregister():
    delattr(bpy.types.WindowManager, TAKE_LIST)
    delattr(bpy.types.Scene, LIVE_SETTINGS)
    unregister_classes(CLASSES)
