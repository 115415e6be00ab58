"""Compare expression labels with those of the PyPI package ``fer`` on the same pictures.

    python -m mien.core.training.fer_comparison fer      where fer and tensorflow are installed
    python -m mien.core.training.fer_comparison table    where Mien is

The first runs fer's own code with the weights in its wheel and keeps what it said, the
second runs `evaluate.expression` and prints both. ``fer`` is no dependency of Mien's: make
an environment of its own with ``pip install tensorflow-cpu "opencv-python-headless<5" pandas
tqdm pillow requests`` and ``pip install --no-deps fer==25.10.3``.

Pictures are FER2013's PublicTest and the held-out blocks of muxspace. These pictures are
cut to the face already, so fer is given the whole picture as the face, without its usual
10 px of margin, which fares better than its own detector; what its detector gives, with the
whole picture where that finds no face, stands in a row of its own.
"""

from __future__ import annotations

import argparse
import sys

import cv2
import numpy as np

from ..datasets import label_index, load_expression_set
from ..files import write_arrays
from ..units import EXPRESSIONS
from .paths import HELD_OUT_BLOCKS, data_folder, work_folder

SETS = {
    "PublicTest": ("fer2013_publictest.npz", None),
    "muxspace held out": ("muxspace_train.tar", HELD_OUT_BLOCKS),
}


_BATCH = 64


def ask_fer() -> None:
    """Write what fer says of every picture to fer_said.npz."""
    from fer.fer import FER

    ways = {
        "float network, whole picture": (FER(use_tflite=False, offsets=(0, 0)), True),
        "quantised network, whole picture": (FER(offsets=(0, 0)), True),
        "quantised network, own detector": (FER(), False),
    }
    said = {}
    for name, (file, blocks) in SETS.items():
        pictures = load_expression_set(data_folder() / "expression" / file).of_blocks(blocks)
        for way, (fer, whole) in ways.items():
            found = []
            for start in range(0, len(pictures), _BATCH):
                part = pictures.images[start : start + _BATCH]
                found += _whole(fer, part) if whole else [_detected(fer, image) for image in part]
                sys.stderr.write(f"\r{name}, {way}: {len(found)} of {len(pictures)}  ")
            probabilities = np.zeros((len(pictures), len(EXPRESSIONS)), np.float32)
            for row, emotions in enumerate(found):
                for word, value in emotions.items():
                    probabilities[row, label_index(word)] = value
            said[f"{name}/{way}"] = probabilities
    write_arrays(work_folder() / "fer_said.npz", **said)


def _whole(fer, images):
    """Return what fer says of pictures that are faces: side by side in one, which it takes as one batch."""
    side = max(max(image.shape) for image in images)
    sheet = np.zeros((side, side * len(images), 3), np.uint8)
    for place, image in enumerate(images):
        sheet[:, place * side : (place + 1) * side] = cv2.resize(image, (side, side))[..., None]
    boxes = [(place * side, 0, side, side) for place in range(len(images))]
    return [face["emotions"] for face in fer.detect_emotions(sheet, face_rectangles=boxes)]


def _detected(fer, image):
    """Return what fer says of the face that it finds, or of the whole picture."""
    faces = fer.detect_emotions(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    return faces[0]["emotions"] if faces else _whole(fer, [image])[0]


def show_table() -> None:
    """Print accuracy and macro-F1 of fer and Mien as a Markdown table."""
    from .. import evaluate

    with np.load(work_folder() / "fer_said.npz", allow_pickle=False) as archive:
        said = dict(archive)
    lines = ["| set | pictures | who | accuracy | macro-F1 |", "|---|--:|---|--:|--:|"]
    for name, (file, blocks) in SETS.items():
        path = data_folder() / "expression" / file
        truth = load_expression_set(path).of_blocks(blocks).labels
        rows = {
            f"fer, {key.split('/')[1]}": evaluate.accuracy_and_f1(truth, values)
            for key, values in said.items()
            if key.startswith(f"{name}/")
        }
        figures = evaluate.expression(path, blocks=blocks).figures
        rows["Mien"] = (figures["accuracy"], figures["macro_f1"])
        lines += [f"| {name} | {len(truth)} | {who} | {a:.3f} | {f1:.3f} |" for who, (a, f1) in rows.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one half."""
    parser = argparse.ArgumentParser(description="Compare with the fer package.")
    parser.add_argument("half", choices=["fer", "table"])
    if parser.parse_args(arguments).half == "fer":
        ask_fer()
    else:
        show_table()
    return 0


if __name__ == "__main__":
    sys.exit(main())
