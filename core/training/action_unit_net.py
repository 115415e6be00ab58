"""Train the action unit network on rendered people and real photos, and export it to ONNX.

    python -m mien.core.training.action_unit_net
    python -m mien.core.training.action_unit_net --ablation

Needs `synthesis` and `faces` to have run. Rendered people have exact weights. Real photos
keep the network honest on skin, hair and lashes that the renders lack: there it follows
the landmark model in the channels which that is good at, and on photos labelled neutral
it learns that the channels which that is blind to are at rest.

Half of the pictures are judged beside another one of the same person at rest, the others
alone. Seeded and resumable: a run that was cut off goes on from its last finished epoch.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import nn

from ..action_unit_model import CLOSE_UP, WINDOW, Describer, histograms
from ..action_units import BlendshapeEstimator
from ..evaluate import correlation
from ..features.geometry import GeometryBasis, mesh_of, mirror, mirrored_points
from ..files import write_arrays
from ..fusion import FUSION, fuse
from ..ict_face import IctFace, ShapeMeaning, arkit_shapes, mirrored_shapes
from ..landmarks import Face
from ..units import ARKIT, AU_INDEX, EXPRESSIONS
from .checkpoint import save
from .export import export
from .faces import labelled_faces
from .layers import Conv, standardised
from .optimizer import Optimizer
from .paths import HELD_OUT_BLOCKS, MODELS, data_folder, work_folder
from .processes import each
from .schedule import course, size_at
from .synthesis import CLOSE_UP_ROOM, PER_PERSON, PICTURE_NAMES, PICTURES, load, pictures_of
from .variation import roughen, shade, soften, uniform_of

HEIGHT, WIDTH = (s.stop - s.start for s in WINDOW)
CLOSE_UP_WINDOW = (slice((CLOSE_UP_ROOM - CLOSE_UP) // 2, (CLOSE_UP_ROOM + CLOSE_UP) // 2),) * 2
"""Rows and columns of a closer look that are seen."""

FEATURES = 128
CLOSE_UP_FEATURES = 48
"""Of each closer look: either eye, the mouth."""

DEEP = FEATURES + 3 * CLOSE_UP_FEATURES
COMPONENTS = 80
HISTOGRAM_COMPONENTS = 64
OTHERS = HISTOGRAM_COMPONENTS + COMPONENTS + len(ARKIT)
"""Numbers that describe a face beside its deep features."""

HIDDEN = 192

LEAK = 0.1
"""Slope of the head's hidden units below 0. Of plain ReLUs two fifths of a layer had fallen silent for all faces,
and a silent one gets no gradient."""

FALL = 0.4
"""Share of the epochs over which the learning rate falls."""

AROUND_EYE = (
    *("browDown", "browInnerUp", "browOuterUp", "cheekRaiser", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide"),
    *("eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "noseSneer"),
)
"""Shapes that a look at one eye shows on its side."""

AROUND_MOUTH_PREFIXES = ("cheekPuff", "jaw", "mouth")
"""How the names of the shapes begin that a look at the mouth shows."""

TRUSTED: dict[str, tuple[float, float]] = {
    "eyeBlink": (0.15, 0.62),
    "eyeLookDown": (0.0, 1.0),
    "eyeLookIn": (0.0, 1.0),
    "eyeLookOut": (0.0, 1.0),
    "eyeLookUp": (0.0, 1.0),
    "jawOpen": (0.03, 0.75),
    "jawLeft": (0.03, 0.25),
    "jawRight": (0.03, 0.25),
    "mouthSmile": (0.03, 0.92),
    "mouthPucker": (0.08, 0.98),
    "mouthFunnel": (0.05, 0.55),
    "mouthUpperUp": (0.05, 0.90),
    "mouthLowerDown": (0.05, 0.75),
    "mouthLeft": (0.03, 0.80),
    "mouthRight": (0.03, 0.80),
    "mouthRollLower": (0.08, 0.75),
    "mouthRollUpper": (0.08, 0.75),
    "browDown": (0.05, 0.85),
    "browInnerUp": (0.05, 0.95),
    "browOuterUp": (0.05, 0.95),
}
"""Blendshapes of the landmark model that are alive on real faces, with the values that they
take at rest and at their strongest: as targets they are stretched to 0..1. The ranges are those
of `action_units`, where they were read off clips."""

AT_REST = (
    *("cheekPuff", "cheekSquint", "cheekRaiser", "noseSneer", "jawForward", "mouthFrown", "mouthDimple"),
    *("mouthStretch", "mouthShrugUpper", "mouthShrugLower", "mouthPress", "eyeWide", "eyeSquint"),
)
"""Shapes that a face labelled neutral does not show."""

NOT_SHOWN = {
    "noseSneer": ("happiness", "sadness", "surprise"),
    "jawForward": ("happiness", "sadness", "surprise", "fear", "disgust"),
}
"""Shapes that photos of these expressions do not show either: else blur, in which FER2013's disgust comes, would say
that the nose is wrinkled, and a wide smile that the jaw is pushed forward."""

AT_WORK: dict[str, dict[str, str]] = {
    "happiness": {"AU6": "cheekSquint"},
    "sadness": {"AU15": "mouthFrown", "AU17": "mouthShrugLower"},
    "surprise": {"AU5": "eyeWide"},
    "fear": {"AU5": "eyeWide", "AU20": "mouthStretch"},
    "disgust": {"AU7": "eyeSquint", "AU15": "mouthFrown", "AU17": "mouthShrugLower"},
    "anger": {"AU7": "eyeSquint", "AU15": "mouthFrown", "AU17": "mouthShrugLower", "AU24": "mouthPress"},
}
"""What an expression moves (Ekman & Friesen, EMFACS, 1983): on photos labelled so, the network follows
`action_units.BlendshapeEstimator` there. On others, what that reads in these channels is often the face's own."""

AT_LEAST = {"disgust": {"noseSneer_L": 0.4, "noseSneer_R": 0.4}}
"""What photos of an expression show at the least, where nothing reads it: most of disgust wrinkle the nose."""

HELD_OUT = 20
"""Every twentieth person is never trained on: scales and the units' map are fitted on them."""

PEOPLE = 16
SEEN = 8
DOUBLED = 6
PHOTOS = 24
RARE = 8
"""In a batch: people, pictures of each, neutral photos that are seen beside themselves, other photos, and
how many of these are neither neutral nor happy, each of the other expressions as often as the next."""


class Residual(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, width):
        super().__init__()
        self.first = Conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return F.relu(x + self.second(self.first(x)))


class Places(nn.Module):
    """All places of a map (n, channels, ...) as one row; in training, maps of smaller pictures are stretched.

    Parameters
    ----------
    height, width : int
        Of the map of a picture of full size.
    """

    def __init__(self, height: int, width: int):
        super().__init__()
        self.size = (height, width)

    def forward(self, x):
        if self.training and x.shape[2:] != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        return x.flatten(1)


class Features(nn.Module):
    """Small residual network on aligned pictures, (n, 1, H, W), 0..1.

    They are aligned, so that the last convolution's map of places is kept, not averaged.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(standardised(x))


class DeepFeatures(Features):
    """Of the face: (n, 1, 112, 96) to (n, FEATURES)."""

    def __init__(self):
        super().__init__(
            Conv(1, 16, 2, 5),
            Conv(16, 32, 2),
            Residual(32),
            Residual(32),
            Conv(32, 64, 2),
            Residual(64),
            Residual(64),
            Conv(64, 96, 2),
            Residual(96),
            nn.Conv2d(96, 40, 1),
            Places(HEIGHT // 16, WIDTH // 16),
            nn.Linear(40 * (HEIGHT // 16) * (WIDTH // 16), FEATURES),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(inplace=True),
        )


class CloseUpFeatures(Features):
    """Of a closer look: (n, 1, 80, 80) to (n, CLOSE_UP_FEATURES)."""

    def __init__(self):
        super().__init__(
            Conv(1, 16, 2, 5),
            Conv(16, 32, 2),
            Residual(32),
            Conv(32, 48, 2),
            Residual(48),
            Residual(48),
            Conv(48, 64, 2),
            nn.Conv2d(64, 24, 1),
            Places(CLOSE_UP // 16, CLOSE_UP // 16),
            nn.Linear(24 * (CLOSE_UP // 16) ** 2, CLOSE_UP_FEATURES),
            nn.BatchNorm1d(CLOSE_UP_FEATURES),
        )


class Head(nn.Module):
    """Shapes from descriptions (n, length) and those of the same people at rest, where known (n, 1)."""

    def __init__(self, length: int, outputs: int, drop: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(2 * length + 1, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, outputs)]
        )
        self.drop = drop

    def forward(self, description, rest, known):
        x = torch.cat([description, (description - rest) * known, known], 1)
        for layer in self.layers[:2]:
            x = F.dropout(F.leaky_relu(layer(x), LEAK), self.drop, self.training)
        return self.layers[2](x)


class ActionUnitNet(nn.Module):
    """Deep features of the face, of either eye and of the mouth, then the head on these with histograms and geometry.

    In training the picture or the mesh is hidden now and then, so that either works alone.

    Parameters
    ----------
    names : tuple of str
        The shapes.
    """

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.features = DeepFeatures()
        self.eyes = CloseUpFeatures()
        self.mouth = CloseUpFeatures()
        # In training alone: features of a closer look have to tell by themselves what moves there, else the head,
        # which the face's features serve sooner, never comes to ask them.
        self.around_eye = nn.Linear(CLOSE_UP_FEATURES, len(AROUND_EYE))
        self.around_mouth = nn.Linear(CLOSE_UP_FEATURES, len(columns_around_mouth(names)))
        self.head = Head(DEEP + OTHERS, len(names))

    def deep(self, x, eyes, mouth):
        """Return features (n, DEEP).

        Of faces (n, 1, HEIGHT, WIDTH), their eyes (n, 2, CLOSE_UP, CLOSE_UP) and mouths (n, 1, CLOSE_UP, CLOSE_UP).
        """
        eyes = self.eyes(eyes.flatten(0, 1)[:, None]).reshape(len(x), -1)
        return torch.cat([self.features(x), eyes, self.mouth(mouth)], 1).float()

    def forward(self, x, eyes, mouth, histogram, geometry, rest, known):
        """Return shapes (n, outputs), and those that closer looks show by the looks alone.

        These are `AROUND_EYE` of either side (n, 2, shapes), and (n, shapes) around the mouth.
        `rest` (n,) has the row of the batch in which the same person is at rest; `known` (n, 1) 0 or 1.
        """
        features = self.deep(x, eyes, mouth)
        *both, of_mouth = features[:, FEATURES:].split(CLOSE_UP_FEATURES, 1)
        around = self.around_eye(torch.stack(both, 1)), self.around_mouth(of_mouth)
        if self.training:
            hidden = torch.rand(len(x), 1, device=x.device)
            picture = (hidden > 0.08).float()
            features, histogram = features * picture, (histogram + 0.1 * torch.randn_like(histogram)) * picture
            geometry = (geometry + 0.08 * torch.randn_like(geometry)) * (hidden < 0.94)
        description = torch.cat([features, histogram, geometry], 1)
        return self.head(description, description[rest], known), *around


def cut(
    pictures: torch.Tensor,
    rows: slice,
    columns: slice,
    generator: torch.Generator | None,
    mirrored: torch.Tensor | None = None,
    quarters: int = 4,
) -> torch.Tensor:
    """Cut a window out of squares (n, 1, S, S), the alignment shaken a little where a generator is given.

    Where `mirrored` (n,) is true, out of their mirror images. The result has `quarters` fourths of the window's side.
    """
    n, side = len(pictures), pictures.shape[3]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    uniform, shaken = uniform_of(pictures, generator), generator is not None
    angle = uniform(-0.05, 0.05) if shaken else torch.zeros(n)
    scale = torch.exp(uniform(-0.05, 0.05)) if shaken else torch.ones(n)
    shift = (uniform(-0.035, 0.035), uniform(-0.035, 0.035)) if shaken else (torch.zeros(n), torch.zeros(n))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    half_width, half_height = width / side, height / side
    middle_x = (columns.start + columns.stop) / side - 1
    middle_y = (rows.start + rows.stop) / side - 1
    way = 1.0 if mirrored is None else torch.where(mirrored, -1.0, 1.0)
    theta = torch.stack(
        [
            torch.stack([way * cos * half_width, -way * sin * half_height, way * (middle_x + shift[0])], 1),
            torch.stack([sin * half_width, cos * half_height, middle_y + shift[1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, (n, 1, height * quarters // 4, width * quarters // 4), False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def eyes_seen(eyes: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Return the looks at both eyes (n, 2, S, S) of pictures or their mirror images: the same in the other order."""
    return torch.where(mirrored[:, None, None, None], eyes.flip(1), eyes)


def columns_around_eyes(names: tuple[str, ...]) -> torch.Tensor:
    """Return where `AROUND_EYE` stand among shapes, (2, k): of the actor's right eye, on the picture's left, first."""
    return torch.tensor([[names.index(name + side) for name in AROUND_EYE] for side in ("_R", "_L")])


def columns_around_mouth(names: tuple[str, ...]) -> torch.Tensor:
    """Return where what a look at the mouth shows stands among shapes, (k,)."""
    return torch.tensor([column for column, name in enumerate(names) if name.startswith(AROUND_MOUTH_PREFIXES)])


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Vary light, sharpness and noise; (n, 1, H, W), 0..1."""
    uniform = uniform_of(x, generator)
    x = soften(x, uniform, 0.3, 0.2)
    x = x.clamp(0, 1) ** torch.exp(uniform(-0.5, 0.5, 1, 1, 1))
    return roughen(shade(x, uniform, 0.3), uniform, generator, 0.04)


def rendered(names: tuple[str, ...], model: IctFace) -> dict[str, np.ndarray]:
    """Return the rendered pictures, `PER_PERSON` rows for each person."""
    wanted = (*PICTURE_NAMES, "weights", "person", "rest", "found", "meshes", "blendshapes")
    arrays = load(work_folder() / "synthesis", *wanted)
    arrays["targets"] = arrays.pop("weights")[:, [model.index[name] for name in names]]
    return arrays


def real_faces() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Return the meshes of real photos, their pictures, and their labels.

    All of muxspace outside its held-out blocks, nine tenths of it neutral or happy, and FER2013's pictures,
    small as they are: all of the other expressions, and every third that is neutral or happy.
    """
    parts = []
    for key in ("mux", "fer"):
        photo_set, faces = labelled_faces(key)
        usable = faces["found"].copy()
        if key == "mux":
            usable &= ~np.isin(photo_set.blocks, HELD_OUT_BLOCKS)
        else:
            common = np.isin(photo_set.labels, [EXPRESSIONS.index(label) for label in ("neutral", "happiness")])
            usable &= ~common | (np.arange(len(common)) % 3 == 0)
        chosen = np.flatnonzero(usable)
        seen = [pictures_of(photo_set.images[i], faces["landmarks"][i]) for i in chosen]
        pictures = {name: np.stack([face[name] for face in seen]) for name in PICTURE_NAMES}
        meshes = {name: faces[name][chosen] for name in ("landmarks", "blendshapes", "matrix")}
        parts.append((meshes, pictures, photo_set.labels[chosen]))
    faces, pictures = (
        {name: np.concatenate([part[k][name] for part in parts]) for name in parts[0][k]} for k in (0, 1)
    )
    return faces, pictures, np.concatenate([labels for _, _, labels in parts])


def photos(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return pictures of real photos with targets and a mask of those that count."""
    faces, pictures, labels = real_faces()
    blendshapes = faces["blendshapes"]
    targets = np.zeros((len(labels), len(names)), np.float32)
    counts = np.zeros((len(labels), len(names)), np.float32)
    base = [name[:-2] if name[-2:] in ("_L", "_R") else name for name in names]
    for column, shape in enumerate(ARKIT):
        for name in arkit_shapes(shape):
            if name in names and base[names.index(name)] in TRUSTED:
                low, high = TRUSTED[base[names.index(name)]]
                targets[:, names.index(name)] = np.clip((blendshapes[:, column] - low) / (high - low), 0, 1)
                counts[:, names.index(name)] = 1
    seen = [Face((0, 0), *face) for face in zip(faces["landmarks"], blendshapes, faces["matrix"], strict=True)]
    for row, label in enumerate(labels):
        at_work = AT_WORK.get(EXPRESSIONS[label], {})
        units = BlendshapeEstimator().estimate(seen[row]) if at_work else None
        for unit, shape in at_work.items():
            sides = [("", "")] if unit in AU_INDEX else [("L", "_L"), ("R", "_R")]
            for short, side in sides:
                column = names.index(shape + side)
                targets[row, column], counts[row, column] = units[AU_INDEX[unit + short]], 1
    least = np.zeros(targets.shape, bool)
    for label, shapes in AT_LEAST.items():
        rows = labels == EXPRESSIONS.index(label)
        for name, value in shapes.items():
            column = names.index(name)
            targets[rows, column], counts[rows, column], least[rows, column] = value, 1, True
    neutral = labels == EXPRESSIONS.index("neutral")
    for column, name in enumerate(base):
        if name in NOT_SHOWN:
            counts[np.isin(labels, [EXPRESSIONS.index(label) for label in NOT_SHOWN[name]]), column] = 1
        if name in AT_REST:
            counts[neutral, column] = 1
    common = np.isin(labels, [EXPRESSIONS.index(label) for label in ("neutral", "happiness")])
    rare = np.where(common, 0.0, 1 / np.bincount(labels)[labels])
    return {
        **pictures,
        "targets": targets,
        "counts": counts,
        "least": least,
        "neutral": neutral,
        "rare": rare / rare.sum(),
        "meshes": np.stack([mesh_of(face) for face in seen]),
        "blendshapes": blendshapes,
    }


@contextlib.contextmanager
def _describing(arrays: dict[str, np.ndarray]):
    """Open what describes pictures, their meshes and blendshapes, as they are and mirrored, for `described`."""
    describer, twins = Describer(arrays), mirrored_points(arrays["mean"])

    def describe(job: tuple[np.ndarray, ...]) -> np.ndarray:
        seen, *plain = job
        values = np.empty((2, len(seen), OTHERS), np.float32)
        for k, geometry in enumerate((plain, mirror(*plain, twins))):
            pictures = seen if k == 0 else seen[:, :, ::-1]
            for row, (picture, mesh, shapes) in enumerate(zip(pictures, *geometry, strict=True)):
                values[k, row] = describer.join(np.zeros(0), histograms(np.ascontiguousarray(picture)), mesh, shapes)
        return values

    yield describe


def described(
    crops: np.ndarray, meshes: np.ndarray, blendshapes: np.ndarray, arrays: dict[str, np.ndarray], processes: int
) -> torch.Tensor:
    """Return what the head sees beside deep features, of every picture and of its mirror image.

    Parameters
    ----------
    crops, meshes, blendshapes : ndarray, shape (n, ...)
    arrays : dict of str to ndarray
        From `components`.
    processes : int

    Returns
    -------
    Tensor, shape (2, n, OTHERS)
        As they are and mirrored.
    """
    parts = (slice(start, start + 2000) for start in range(0, len(crops), 2000))
    jobs = ((crops[part, *WINDOW], meshes[part], blendshapes[part]) for part in parts)
    return torch.from_numpy(np.concatenate([*each(functools.partial(_describing, arrays), jobs, processes)], 1))


def components(crops: np.ndarray, meshes: np.ndarray, usable: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return what `Describer` needs: principal components of meshes and histograms of 8,000 of the usable rows."""
    some = np.random.default_rng(seed).permutation(usable)[:8000]
    basis = GeometryBasis.fit(meshes[some], COMPONENTS)
    found = np.stack([histograms(np.ascontiguousarray(crops[i][WINDOW])) for i in some])
    mean = found.mean(0)
    _, vectors = np.linalg.eigh(np.cov(found.T))
    axes = vectors[:, : -HISTOGRAM_COMPONENTS - 1 : -1].T
    axes = axes / ((found - mean) @ axes.T).std(0)[:, None]
    return {
        "mean": basis.mean,
        "axes": basis.axes.astype(np.float16),
        "histogram_mean": mean.astype(np.float16),
        "histogram_axes": axes.astype(np.float16),
        "features": np.array(DEEP),
        "leak": np.array(LEAK),
    }


def batches(people: np.ndarray, photo_set: dict, first_photo: int, steps: int, rng: np.random.Generator):
    """Yield rows of pictures, and for each the place in the batch of the same face at rest, or -1.

    Each batch begins with `PEOPLE` times `SEEN` pictures of a person, the first at rest, half of the others
    judged beside it. Then come photos; `DOUBLED` neutral ones are judged beside themselves, and of the others
    half beside one of these, another person: else a real face beside its rest would always be one at rest.
    """
    neutral, photos = np.flatnonzero(photo_set["neutral"]), len(photo_set["neutral"])
    # Where an epoch is too short for all people, the next one shows others.
    for chosen in np.resize(rng.permutation(people), steps * PEOPLE).reshape(steps, PEOPLE):
        rows, rest = [], []
        for person in chosen:
            calm = PICTURES * rng.integers(PER_PERSON // PICTURES)
            others = rng.permutation(np.delete(np.arange(PER_PERSON), calm))[: SEEN - 1]
            at = len(rows)
            rows += [person * PER_PERSON + calm, *(person * PER_PERSON + others)]
            rest += [at if rng.random() < 0.5 else -1, *np.where(rng.random(SEEN - 1) < 0.5, at, -1)]
        calm = first_photo + rng.choice(neutral, DOUBLED, replace=False)
        at = len(rows)
        others = (rng.choice(photos, RARE, replace=False, p=photo_set["rare"]), rng.choice(photos, PHOTOS - RARE))
        rows += [*calm, *calm, *(first_photo + np.concatenate(others))]
        strangers = np.where(rng.random(PHOTOS) < 0.5, at + rng.integers(0, DOUBLED, PHOTOS), -1)
        rest += [*[-1] * DOUBLED, *range(at, at + DOUBLED), *strangers]
        yield np.array(rows), np.array(rest)


def shares_of_units(names: tuple[str, ...]) -> np.ndarray:
    """Return what a full shape gives to each unit, limits aside; shape (outputs, 11)."""
    little = 0.01
    return ShapeMeaning(names).action_units(little * np.eye(len(names))) @ FUSION.T / little


def weights_of(shown: torch.Tensor) -> torch.Tensor:
    """Return the weights of columns (n, k), 1 on average: an error counts against how much its column moves at all.

    As it does in a correlation.
    """
    spread = shown.var(0)
    # What never moves in a small set does not outweigh all the rest.
    weights = 1 / spread.clamp(min=max(0.01 * float(spread.max()), 1e-6))
    return weights / weights.mean()


def error(found: torch.Tensor, wanted: torch.Tensor, least: torch.Tensor | None = None) -> torch.Tensor:
    """Return squared errors; what lies beyond the end of the scale that was wanted is right.

    Where `least` is true so is all that lies above what was wanted.
    """
    free = wanted >= 1 if least is None else (wanted >= 1) | least
    low = torch.where(wanted <= 0, found.clamp(min=0), found)
    return (torch.where(free, torch.minimum(low, wanted), low) - wanted) ** 2


class Trainer:
    """Data, network and checkpoint."""

    def __init__(self, options: argparse.Namespace):
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        self.options = options
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = IctFace(data_folder() / "face3d" / "ict_facekit.npz")
        self.names = tuple(name for name in model.names if not name.startswith("Pupil"))
        self.people, self.real = rendered(self.names, model), photos(self.names)
        self.first_photo = len(self.people["crops"])
        joined = {
            key: np.concatenate([self.people.pop(key), self.real.pop(key)])
            for key in (*PICTURE_NAMES, "targets", "meshes", "blendshapes")
        }
        self.crops, self.eyes, self.mouths = (self._tensor(joined[key]) for key in PICTURE_NAMES)
        self.targets = self._tensor(joined["targets"])
        self.least = self._tensor(np.pad(self.real["least"], ((self.first_photo, 0), (0, 0))))
        exact = np.repeat(self.people["found"][:, None], len(self.names), 1)
        self.counts = self._tensor(np.concatenate([exact, options.real * self.real["counts"]]).astype(np.float32))
        persons = np.arange(self.first_photo // PER_PERSON)
        # By the number that seeds a person, whichever parts are there.
        held = self.people["person"][::PER_PERSON] % HELD_OUT == HELD_OUT - 1
        complete = self.people["found"].reshape(-1, PER_PERSON).all(1)
        self.training, self.held_out = persons[~held & complete], persons[held & complete]
        rows = (self.training[:, None] * PER_PERSON + np.arange(PER_PERSON)).ravel()
        usable = np.concatenate([rows, np.arange(self.first_photo, len(self.crops))])
        self.checkpoint, self.state = work_folder() / options.checkpoint, None
        if self.checkpoint.is_file():
            self.state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            self.components = {name: array.cpu().numpy() for name, array in self.state["components"].items()}
            if self.components["features"] != DEEP or self.components.get("leak") != LEAK:
                raise SystemExit(f"{self.checkpoint} is an older network's: delete it, and run restore.")
        else:
            self.components = components(joined["crops"], joined["meshes"], usable, options.seed)
        seen = (joined[key] for key in ("crops", "meshes", "blendshapes"))
        self.others = described(*seen, self.components, options.threads).to(self.device)
        self.twin = self._tensor(mirrored_shapes(self.names))
        self.gaze = self._tensor(np.array([name.startswith("eyeLook") for name in self.names]))
        self.shares = self._tensor(shares_of_units(self.names))
        exact = self.targets[: self.first_photo]
        self.shape_weights = weights_of(exact)
        self.unit_weights = weights_of((exact @ self.shares).clamp(0, 1))
        eyes, mouth = (of(self.names).to(self.device) for of in (columns_around_eyes, columns_around_mouth))
        columns = ((eyes, eyes[0]), (mouth, mouth))  # both eyes are weighed alike
        self.around = [(shown, weights_of(exact[:, weighed])) for shown, weighed in columns]
        self.net = ActionUnitNet(self.names).to(self.device, memory_format=torch.channels_last)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
        )

    def run(self) -> None:
        """Train to the last epoch, from the checkpoint if there is one."""
        options = self.options
        answers = (self.net.around_eye, self.net.around_mouth, self.net.head.layers[-1])
        optimizer = Optimizer(self.net, [layer.weight for layer in answers])
        rate = course(options.steps, options.epochs, options.fall)
        first = 0
        parts = {"net": self.net, "average": self.average, "optimizer": optimizer}
        if self.state is not None:
            # Without an optimizer: a checkpoint of `restore`.
            for name in self.state.keys() & parts.keys():
                parts[name].load_state_dict(self.state[name])
            first = self.state["epoch"]
        for epoch in range(first, options.epochs):
            began = time.monotonic()
            loss = self._epoch(epoch, optimizer, rate)
            alone, beside = self.correlations()
            sys.stderr.write(
                f"\repoch {epoch + 1}/{options.epochs} loss {loss:.5f} held-out people: mean PCC of units "
                f"{alone.mean():.3f} (lowest {alone.min():.3f}), rest known {beside.mean():.3f} ({beside.min():.3f}); "
                f"{time.monotonic() - began:.0f} s\n"
            )
            state = {name: part.state_dict() for name, part in parts.items()}
            arrays = {name: torch.from_numpy(array) for name, array in self.components.items()}
            save({**state, "epoch": epoch + 1, "components": arrays}, self.checkpoint)

    def _epoch(self, epoch: int, optimizer: Optimizer, rate: Callable[[int], float]) -> float:
        options, device = self.options, self.device
        self.net.train()
        torch.manual_seed(options.seed * 100_003 + epoch)
        generator = torch.Generator(device).manual_seed(options.seed * 100_003 + epoch)
        rng = np.random.default_rng([options.seed, epoch])
        quarters = size_at(epoch, options.small_quarters, 4, options.small_epochs, 1)
        began, total = time.monotonic(), torch.zeros((), device=device)
        for step, (rows, rest) in enumerate(batches(self.training, self.real, self.first_photo, options.steps, rng)):
            n = len(rows)
            # A person is mirrored or not, with its rest.
            sides = np.repeat(rng.random(PEOPLE) < 0.5, SEEN)
            sides = np.concatenate([sides, np.zeros(2 * DOUBLED, bool), rng.random(PHOTOS) < 0.5])
            index, rest, mirrored = (self._tensor(values) for values in (rows, rest, sides))
            crops, mouths = (_light(pictures[index])[:, None] for pictures in (self.crops, self.mouths))
            x = augment(cut(crops, *WINDOW, generator, mirrored, quarters), generator)
            mouths = augment(cut(mouths, *CLOSE_UP_WINDOW, generator, mirrored, quarters), generator)
            eyes = _light(eyes_seen(self.eyes[index], mirrored)).flatten(0, 1)[:, None]
            eyes = augment(cut(eyes, *CLOSE_UP_WINDOW, generator, quarters=quarters), generator)
            y, count, least = self.targets[index], self.counts[index], self.least[index]
            y = torch.where(mirrored[:, None], y[:, self.twin], y)
            count = torch.where(mirrored[:, None], count[:, self.twin], count)
            twice = slice(n - PHOTOS - DOUBLED, n - PHOTOS)
            y[twice] = y[twice] * self.gaze  # a face beside itself has not moved
            count[twice] = torch.maximum(count[twice], torch.full_like(count[twice], options.real))
            others = self.others[mirrored.long(), index]
            with torch.autocast(device, torch.bfloat16):
                found, *around = self.net(
                    x.contiguous(memory_format=torch.channels_last),
                    eyes.reshape(n, 2, *eyes.shape[2:]),
                    mouths,
                    others[:, :HISTOGRAM_COMPONENTS],
                    others[:, HISTOGRAM_COMPONENTS:],
                    rest.clamp(min=0),
                    (rest >= 0)[:, None].float(),
                )
            found = found.float()
            loss = (count * error(found, y, least)).mean()
            taught = [
                (found, y, self.shape_weights),
                (found @ self.shares, (y @ self.shares).clamp(0, 1), options.units * self.unit_weights),
                *((said, y[:, columns], weights) for said, (columns, weights) in zip(around, self.around, strict=True)),
            ]
            exact = slice(PEOPLE * SEEN)
            for said, wanted, weights in taught:
                loss = loss + (weights * error(said[exact].float(), wanted[exact])).mean()
            optimizer.descend(loss, options.rate * rate(epoch * options.steps + step))
            self.average.update_parameters(self.net)
            total += loss.detach()
            if step % 10 == 9:
                speed = (step + 1) * n / (time.monotonic() - began)
                sys.stderr.write(f"\repoch {epoch + 1}/{options.epochs} {step + 1}/{options.steps} {speed:.0f}/s ")
        return float(total) / options.steps

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)

    @torch.no_grad()
    def describe(self, rows: np.ndarray) -> torch.Tensor:
        """Return descriptions (n, length) of pictures as they are."""
        net, parts = self.average.module.eval(), []
        for part in np.array_split(rows, -(-len(rows) // 256)):
            index = self._tensor(part)
            x = _light(self.crops[index][:, None, *WINDOW]).contiguous(memory_format=torch.channels_last)
            eyes = _light(self.eyes[index][:, :, *CLOSE_UP_WINDOW])
            mouths = _light(self.mouths[index][:, None, *CLOSE_UP_WINDOW])
            parts.append(torch.cat([net.deep(x, eyes, mouths), self.others[0, index]], 1))
        return torch.cat(parts)

    @torch.no_grad()
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return raw shapes of all pictures of persons given by `rows`, (2, n, outputs).

        By the one picture, and beside the person's rest in the other scene, under other light and from another side.
        """
        said = self.describe(rows)
        calm, head = said[_other_rest(len(rows))], self.average.module.head.eval()
        known = torch.ones(len(rows), 1, device=self.device)
        return torch.stack([head(said, calm, share * known) for share in (0.0, 1.0)]).cpu().numpy()

    def held_rows(self) -> np.ndarray:
        """Return the rows of the people held out."""
        return (self.held_out[:, None] * PER_PERSON + np.arange(PER_PERSON)).ravel()

    def truth(self, rows: np.ndarray) -> np.ndarray:
        """Return the shapes (n, outputs) that pictures given by `rows` show."""
        return self.targets[self._tensor(rows)].cpu().numpy()

    def correlations(self) -> list[np.ndarray]:
        """Return each unit's PCC on the people held out, by one picture and beside a rest."""
        rows, meaning = self.held_rows(), ShapeMeaning(self.names)
        truth = fuse(meaning.action_units(self.truth(rows)))
        guesses = np.clip(self.predict(rows), 0, 1)
        return [correlation(fuse(meaning.action_units(guess)), truth) for guess in guesses]


def _light(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.float() / 255


def _other_rest(count: int) -> np.ndarray:
    """Return for rows of whole persons the row of the rest in the other scene."""
    place = np.arange(count)
    scene = place % PER_PERSON // PICTURES
    return place // PER_PERSON * PER_PERSON + (scene + 1) % (PER_PERSON // PICTURES) * PICTURES


def scales(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return for each shape what to take off and the slope of the rest, (2, outputs).

    Chosen for the smallest sum of squared and absolute error, each relative to what they were: what is
    taken off keeps a face at rest at 0.
    """
    result = np.zeros((2, guess.shape[1]), np.float32)
    for column, (said, real) in enumerate(zip(guess.T, truth.T, strict=True)):
        best, first = np.inf, None
        for off in (0.0, 0.01, 0.02, 0.03, 0.04, 0.05):
            above = np.maximum(said - off, 0)
            for slope in np.arange(0.8, 1.31, 0.02):
                wrong = np.clip(slope * above, 0, 1) - real
                errors = np.array([np.mean(wrong**2), np.mean(np.abs(wrong))])
                first = np.maximum(errors, 1e-9) if first is None else first
                if (errors / first).sum() < best:
                    best, result[:, column] = (errors / first).sum(), (off, slope)
    return result


def fit_fusion(action_units: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the non-negative shares (11, a) that bring estimated action units (n, a) to true units (n, 11)."""
    return np.stack([nnls(action_units.astype(np.float64), column)[0] for column in truth.T]).astype(np.float32)


def arrays_of(trainer: Trainer) -> dict[str, np.ndarray]:
    """Return everything that follows the deep features, for ``action_units.npz``."""
    arrays = {"shapes": np.array(trainer.names), **trainer.components}
    for i, layer in enumerate(trainer.average.module.head.layers):
        arrays[f"weight{i}"] = layer.weight.detach().cpu().numpy().astype(np.float16)
        arrays[f"bias{i}"] = layer.bias.detach().cpu().numpy()
    rows = trainer.held_rows()
    truth = trainer.truth(rows)
    # [what, rest known or not, shape]
    arrays["off"], arrays["slope"] = np.stack([scales(said, truth) for said in trainer.predict(rows)], 1)
    return arrays


def write(trainer: Trainer, folder: Path) -> None:
    """Write the convolutional parts as ONNX, and what comes after them as arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    net, some = trainer.average.module, torch.from_numpy(trainer.held_rows()[:8])
    gaps = [
        export(part, pictures.cpu().numpy(), folder / f"{name}.onnx", ("features",))
        for part, pictures, name in (
            (net.features, trainer.crops[some][:, *WINDOW], "action_unit_net"),
            (net.eyes, trainer.eyes[some][:, 0, *CLOSE_UP_WINDOW], "action_unit_eyes"),
            (net.mouth, trainer.mouths[some][:, *CLOSE_UP_WINDOW], "action_unit_mouth"),
        )
    ]
    sys.stderr.write(f"torch and runtime differ by at most {max(gaps):.1e}\n")
    write_arrays(folder / "action_units.npz", **arrays_of(trainer))


PARTS = {
    "face": slice(0, FEATURES),
    "eyes": slice(FEATURES, FEATURES + 2 * CLOSE_UP_FEATURES),
    "mouth": slice(FEATURES + 2 * CLOSE_UP_FEATURES, DEEP),
    "deep": slice(0, DEEP),
    "HOG": slice(DEEP, DEEP + HISTOGRAM_COMPONENTS),
    "geometry": slice(DEEP + HISTOGRAM_COMPONENTS, None),
}
"""Of a description; the deep features are those of the face and of the closer looks."""


def ablation(trainer: Trainer, epochs: int = 6) -> dict[str, dict[str, float]]:
    """Train a head for each choice of features; return mean PCC of units on the people held out.

    Beside it that of units by the hand-set map and by non-negative shares fitted to the action units.
    """
    people = trainer.training[:: -(-len(trainer.training) // 2500)]  # enough to tell the choices apart
    rows = (people[:, None] * PER_PERSON + np.arange(PER_PERSON)).ravel()
    seen, held = (trainer.describe(some).cpu() for some in (rows, trainer.held_rows()))
    wanted, truth = torch.from_numpy(trainer.truth(rows)), trainer.truth(trainer.held_rows())
    meaning = ShapeMeaning(trainer.names)
    units = fuse(meaning.action_units(truth))
    table = {}
    pairs = (["HOG", "geometry"], ["deep", "geometry"], ["deep", "HOG"])
    single = (["HOG"], ["geometry"], ["eyes"], ["mouth"], ["face"], ["deep"])
    for parts in (*single, *pairs, ["face", "HOG", "geometry"], ["deep", "HOG", "geometry"]):
        torch.manual_seed(trainer.options.seed)
        generator = torch.Generator().manual_seed(trainer.options.seed)
        columns = torch.cat([torch.arange(seen.shape[1])[PARTS[part]] for part in parts])
        x, z = seen[:, columns], held[:, columns]
        head = Head(len(columns), len(trainer.names))
        optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=0.02)
        steps = len(rows) // 256
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, course(steps, epochs, FALL))
        calm = torch.from_numpy(_other_rest(len(rows)))
        for _ in range(epochs):
            for chosen in torch.randperm(len(rows), generator=generator)[: steps * 256].reshape(steps, 256):
                known = (torch.rand(256, 1, generator=generator) < 0.5).float()
                loss = error(head(x[chosen], x[calm[chosen]], known), wanted[chosen]).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
        head.eval()
        line = {}
        for name, known in (("one frame", 0.0), ("rest known", 1.0)):
            with torch.no_grad():
                said = head(z, z[_other_rest(len(z))], torch.full((len(z), 1), known)).numpy()
            found = fuse(meaning.action_units(np.clip(said, 0, 1)))
            line[name] = float(correlation(found, units).mean())
        table[" + ".join(parts)] = line
        sys.stderr.write(f"{' + '.join(parts)}: {line}\n")
    rows = trainer.held_rows()
    half = len(rows) // PER_PERSON // 2 * PER_PERSON  # fitted on half of these people, compared on the others
    for name, said in zip(("one frame", "rest known"), trainer.predict(rows), strict=True):
        said = meaning.action_units(np.clip(said, 0, 1))
        shares = fit_fusion(said[:half], units[:half])
        for kind, found in (("set by hand", fuse(said[half:])), ("fitted", np.clip(said[half:] @ shares.T, 0, 1))):
            table.setdefault(f"units {kind}", {})[name] = float(correlation(found, units[half:]).mean())
            table[f"units {kind}"][f"{name}, MAE"] = float(np.abs(found - units[half:]).mean())
    return table


def main(arguments: list[str] | None = None) -> int:
    """Train, then export to models/; or print the ablation of the trained network as JSON."""
    parser = argparse.ArgumentParser(description="Train Mien's action unit network.")
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--steps", type=int, default=200, help="batches in an epoch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--fall", type=float, default=FALL, help="share of the epochs over which the rate falls")
    parser.add_argument("--real", type=float, default=0.5, help="weight of real photos' targets")
    parser.add_argument("--units", type=float, default=1.0, help="weight of the 11 units beside the shapes")
    parser.add_argument("--small-quarters", type=int, choices=(2, 3, 4), default=4, help="side of the first pictures")
    parser.add_argument("--small-epochs", type=int, default=0, help="over which pictures grow to their size")
    parser.add_argument("--threads", type=int, default=1, help="of torch; processes that describe the pictures")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--checkpoint", default="action_unit_net.pt")
    parser.add_argument("--folder", type=Path, default=MODELS, help="where the weights go")
    parser.add_argument("--ablation", action="store_true")
    options = parser.parse_args(arguments)
    if not 0 < options.fall <= 1:
        parser.error("--fall must lie above 0 and be 1 at most")
    trainer = Trainer(options)
    trainer.run()
    if options.ablation:
        sys.stdout.write(json.dumps(ablation(trainer), indent=1) + "\n")
    else:
        write(trainer, options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
