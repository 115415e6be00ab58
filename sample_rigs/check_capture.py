"""Does capture find the sample head, and see what it does? Two steps, two Pythons.

``render FOLDER`` (a Python with bpy) draws the head at many angles, units and expressions;
``look FOLDER --model FILE`` (a Python with mediapipe) runs the landmark model over the pictures,
prints what it saw and fails where a face was missed or a unit was not recognised.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXPECTED: dict[str, tuple[tuple[str, ...], float]] = {
    "BrowRaise": (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), 0.4),
    "EyeWide": (("eyeWideLeft", "eyeWideRight"), 0.15),
    "Blinks": (("eyeBlinkLeft", "eyeBlinkRight"), 0.4),
    "CheekSquint": (("eyeSquintLeft", "eyeSquintRight"), 0.1),
    "Smile": (("mouthSmileLeft", "mouthSmileRight"), 0.5),
    "JawOpen": (("jawOpen",), 0.5),
    "Pucker": (("mouthPucker",), 0.5),
}
"""Unit to blendshapes, and how much each must rise above neutral at full weight.

The model's brow-down, nose and frown outputs barely answer to this face; see the printed table.
"""


def render(folder: Path) -> None:
    """Draw the pictures."""
    from math import radians

    import bpy

    from . import render as studio
    from .build_head import BLEND
    from .expressions import EXPRESSIONS
    from .shapes import UNITS

    bpy.ops.wm.open_mainfile(filepath=str(BLEND))
    studio.prepare(5)
    bpy.data.objects["MienCamera"].data.lens = 122.0
    entries = [(name, weights, (0, 0)) for name, weights in EXPRESSIONS.items()]
    entries += [(unit, {unit: 1.0}, (0, 0)) for unit in UNITS]
    entries.append(("Blinks", {"BlinkLeft": 1.0, "BlinkRight": 1.0}, (0, 0)))
    entries += [(f"yaw{yaw:+d}", {}, (0, yaw)) for yaw in (-30, -15, 15, 30)]
    entries += [(f"pitch{pitch:+d}", {}, (pitch, 0)) for pitch in (-20, 20)]
    entries += [("yaw+30 happiness", EXPRESSIONS["happiness"], (0, 30)), ("pitch+20 yaw-20", {}, (20, -20))]
    folder.mkdir(parents=True, exist_ok=True)
    for name, weights, (pitch, yaw) in entries:
        studio.pose(weights, head=(radians(pitch), radians(yaw), 0.0))
        studio.render_frame(folder / f"{name}.png", (300, 300))


def look(folder: Path, model: Path) -> int:
    """Print the model's answers; return how many pictures failed."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)), output_face_blendshapes=True
    )
    seen: dict[str, dict[str, float]] = {}
    failed = 0
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for path in sorted(folder.glob("*.png")):
            result = landmarker.detect(mediapipe.Image.create_from_file(str(path)))
            if not result.face_landmarks:
                print(f"{path.stem:18} NO FACE")
                failed += 1
                continue
            scores = {c.category_name: c.score for c in result.face_blendshapes[0]}
            seen[path.stem] = scores
            top = sorted(scores.items(), key=lambda item: -item[1])
            top = [f"{k} {v:.2f}" for k, v in top if not k.startswith(("_", "eyeLook"))][:6]
            print(f"{path.stem:18} {', '.join(top)}")
    for unit, (names, least) in EXPECTED.items():
        for name in names:
            rise = seen.get(unit, {}).get(name, 0.0) - seen.get("neutral", {}).get(name, 0.0)
            if rise < least:
                print(f"{unit}: {name} rises by {rise:.2f}, expected {least}")
                failed += 1
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("render", "look"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "models" / "face_landmarker.task")
    options = parser.parse_args(arguments)
    if options.step == "render":
        render(options.folder)
        return 0
    return 1 if look(options.folder, options.model) else 0


if __name__ == "__main__":
    sys.exit(main())
