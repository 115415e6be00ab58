"""Train the expression SVM on histograms, deep features and geometry; print the ablation.

    python -m mien.core.training.expression_svm

Needs `faces` and `expression_net` to have run. Learns from FER2013 Training
and muxspace where a mesh was found. Costs are chosen and probabilities calibrated on FER2013's
PublicTest without the photos that training has, too; the network's share (``--share``) was
chosen there. The held-out blocks of muxspace are only reported.
"""

from __future__ import annotations

import argparse
import json
import sys

import cv2
import numpy as np
from scipy.optimize import minimize
from sklearn.decomposition import PCA

from ..evaluate import accuracy_and_f1, calibration_error
from ..expression import DEEP_CROP, deep_view, hog_of, softmax
from ..features.deep import DeepNet
from ..features.geometry import GeometryBasis, mesh_of
from ..files import write_arrays
from ..landmarks import Face
from ..preprocess import aligned_crop
from ..units import EXPRESSIONS
from .faces import SETS, labelled_faces, made_of_faces
from .paths import HELD_OUT_BLOCKS, MODELS, work_folder

HISTOGRAMS = 160
COMPONENTS = 60
SAME_PHOTO = 0.95
"""Correlation of two aligned faces of 24 px above which they are one photo: nearly all of 40 such pairs were."""
COMBINATIONS = (("HOG",), ("geometry",), ("deep",), ("HOG", "geometry"), ("HOG", "deep", "geometry"))


def describe(key: str, net: DeepNet) -> dict[str, np.ndarray]:
    """Return histograms, deep features, logits and meshes of a set's pictures with a face."""
    pictures, faces = labelled_faces(key)
    rows = np.flatnonzero(faces["found"])

    def make():
        parts = (faces["landmarks"][rows], faces["blendshapes"][rows], faces["matrix"][rows])
        return {
            "hog": np.stack([hog_of(pictures.images[i], faces["landmarks"][i]) for i in rows]).astype(np.float16),
            "mesh": np.stack([mesh_of(Face((0, 0), *face)) for face in zip(*parts, strict=True)]),
        }

    kept = made_of_faces(work_folder() / f"histograms_{key}.npz", [key], make)
    crops = np.stack([aligned_crop(pictures.images[i], faces["landmarks"][i], DEEP_CROP) for i in rows])
    deep, logits = [], []
    for start in range(0, len(rows), 64):
        features, said = net(np.stack([deep_view(crop) for crop in crops[start : start + 64]]))
        deep.append(features)
        logits.append(said)
    return {
        "crops": crops,
        "hog": kept["hog"].astype(np.float32),
        "deep": np.concatenate(deep),
        "logits": np.concatenate(logits),
        "mesh": kept["mesh"],
        "blendshapes": faces["blendshapes"][rows],
        "labels": pictures.labels[rows],
        "held": np.isin(pictures.blocks[rows], HELD_OUT_BLOCKS) if key == "mux" else np.zeros(len(rows), bool),
    }


def photo_copies(crops: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which faces are on a photo that another set has, too, cut or stored in another way, shape (n,).

    FER2013 has many photos more than once, and its test sets share some with its training set.

    Parameters
    ----------
    crops, others : ndarray of uint8, shape (n, s, s) and (m, s, s)
        Aligned crops.
    """

    def normal(pictures):
        small = np.stack([cv2.resize(picture, (24, 24), interpolation=cv2.INTER_AREA) for picture in pictures])
        flat = small.reshape(len(small), -1).astype(np.float32)
        flat -= flat.mean(1, keepdims=True)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)

    known = normal(others)
    return np.concatenate([(part @ known.T).max(1) > SAME_PHOTO for part in np.array_split(normal(crops), 16)])


def blocks(part: dict[str, np.ndarray], mean: np.ndarray, axes: np.ndarray, basis: GeometryBasis) -> dict:
    """Return the kinds of features of a set's pictures, each (n, d); `mean` and `axes` are those of the histograms."""
    return {
        "HOG": (part["hog"] - mean) @ axes.T,
        "deep": part["deep"],
        "geometry": basis.describe(part["mesh"], part["blendshapes"]),
    }


def _surprise(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean negative logarithm of the true class's probability."""
    return float(-np.mean(np.log(probabilities[np.arange(len(truth)), truth] + 1e-9)))


def calibrate(margins: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slopes and offsets for which softmax(margins * slope + offset) is likeliest."""
    count = len(EXPRESSIONS)

    def loss(values):
        probabilities = softmax(margins * np.exp(values[:count]) + values[count:])
        return _surprise(probabilities, truth) + 1e-3 * np.sum(values**2)

    values = minimize(loss, np.zeros(2 * count), method="L-BFGS-B").x
    return np.exp(values[:count]).astype(np.float32), values[count:].astype(np.float32)


def temperature_of(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the number by which logits are divided so that their softmax is likeliest."""
    return float(minimize(lambda t: _surprise(softmax(logits / t[0]), truth), [1.0], bounds=[(0.2, 5)]).x[0])


def balanced(labels: np.ndarray, power: float) -> dict[int, float]:
    """Return class weights that lift rare classes, all the way at a power of 1."""
    counts = np.bincount(labels, minlength=len(EXPRESSIONS)).astype(float)
    return {i: float((counts.max() / max(n, 1)) ** power) for i, n in enumerate(counts)}


def fit_machines(
    x: np.ndarray, labels: np.ndarray, cost: float, class_weights: dict[int, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (7, d) and biases (7,) of one linear SVM per label against the others.

    Notes
    -----
    Squared hinge loss, bias among the penalised weights: what liblinear's LinearSVC
    minimises, here for all labels at once by L-BFGS, minutes faster on 35,000 pictures.
    """
    classes = len(EXPRESSIONS)
    x = np.column_stack([x, np.ones(len(x))]).astype(np.float32)
    truth = np.where(labels[:, None] == np.arange(classes), 1, -1).astype(np.float32)
    # liblinear weighs a sample by its side of the boundary: the others of a class count once.
    lift = np.array([class_weights[i] for i in range(classes)], np.float32)
    weight = cost * np.where(truth > 0, lift, 1)

    def objective(flat):
        w = flat.reshape(classes, -1)
        slack = np.maximum(1 - truth * (x @ w.T.astype(np.float32)), 0)
        pull = weight * slack
        value = 0.5 * np.sum(w**2) + np.sum(pull * slack, dtype=np.float64)
        return value, (w - 2 * ((pull * truth).T @ x)).ravel()

    start = np.zeros(classes * x.shape[1])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-7})
    w = found.x.reshape(classes, -1).astype(np.float32)
    return w[:, :-1], w[:, -1]


def main(arguments: list[str] | None = None) -> int:
    """Train, report, and write models/expression.npz."""
    parser = argparse.ArgumentParser(description="Train the expression SVM.")
    parser.add_argument("--costs", type=float, nargs="+", default=[0.0003, 0.001, 0.003])
    parser.add_argument("--balance", type=float, default=0.4, help="how far rare classes are lifted, 0 to 1")
    parser.add_argument("--share", type=float, default=0.7, help="of the network's own softmax in the answer")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    net = DeepNet(MODELS / "expression_net.onnx", ["features", "logits"])
    sets = {key: describe(key, net) for key in SETS}
    train = {
        key: np.concatenate([sets["fer"][key], sets["mux"][key][~sets["mux"]["held"]]])
        for key in ("crops", "hog", "deep", "mesh", "blendshapes", "labels")
    }
    rng = np.random.default_rng(0)
    pca = PCA(HISTOGRAMS, svd_solver="randomized", random_state=0).fit(
        train["hog"][rng.permutation(len(train["hog"]))[:5000]]
    )
    basis = GeometryBasis.fit(train["mesh"], COMPONENTS)

    tests = {"public": sets["public"], "mux": {k: v[sets["mux"]["held"]] for k, v in sets["mux"].items()}}
    truths = {name: part["labels"] for name, part in tests.items()}
    new = {name: ~photo_copies(part["crops"], train["crops"]) for name, part in tests.items()}
    sys.stderr.write(f"photos that training has not: {', '.join(f'{k} {v.mean():.1%}' for k, v in new.items())}\n")
    kinds = (pca.mean_, pca.components_, basis)
    inputs = {"train": blocks(train, *kinds), **{name: blocks(part, *kinds) for name, part in tests.items()}}
    chosen_by = truths["public"][new["public"]]
    lifts = balanced(train["labels"], options.balance)
    table = []

    def report(features, probabilities, **more):
        row = {"features": features, **more}
        for name, truth in truths.items():
            row[f"{name}_accuracy"], row[f"{name}_f1"] = accuracy_and_f1(truth, probabilities[name])
            row[f"{name}_calibration_error"] = calibration_error(truth, probabilities[name])
        fresh = new["public"]
        row["public_new_accuracy"], row["public_new_f1"] = accuracy_and_f1(
            truths["public"][fresh], probabilities["public"][fresh]
        )
        row["public_new_calibration_error"] = calibration_error(truths["public"][fresh], probabilities["public"][fresh])
        table.append(row)
        sys.stderr.write(json.dumps(row) + "\n")

    for chosen in COMBINATIONS:
        x = {name: np.concatenate([part[c] for c in chosen], 1) for name, part in inputs.items()}
        centre, scale = x["train"].mean(0), 1 / (x["train"].std(0) + 1e-3)
        x = {name: ((values - centre) * scale).astype(np.float32) for name, values in x.items()}
        fits = []
        for cost in options.costs:
            weights, bias = fit_machines(x["train"], train["labels"], cost, lifts)
            accuracy = accuracy_and_f1(chosen_by, x["public"][new["public"]] @ weights.T + bias)[0]
            fits.append((accuracy, cost, weights, bias))
        _, cost, weights, bias = max(fits, key=lambda fit: fit[0])
        margins = {name: x[name] @ weights.T + bias for name in truths}
        slope, offset = calibrate(margins["public"][new["public"]], chosen_by)
        learnt = {name: softmax(values * slope + offset) for name, values in margins.items()}
        report(" + ".join(chosen), learnt, size=int(x["train"].shape[1]), cost=cost)

    # From here on the last combination, all features.
    temperature = temperature_of(tests["public"]["logits"][new["public"]], chosen_by)
    network = {name: softmax(part["logits"] / temperature) for name, part in tests.items()}
    report("the network's own softmax", network)

    share = options.share
    both = {name: (1 - share) * learnt[name] + share * network[name] for name in truths}
    report("both, averaged", both, share=share)
    write_arrays(
        MODELS / "expression.npz",
        hog_mean=pca.mean_.astype(np.float32),
        hog_axes=pca.components_.astype(np.float16),
        mean=basis.mean,
        axes=basis.axes.astype(np.float16),
        centre=centre.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=weights,
        bias=bias,
        slope=slope,
        offset=offset,
        temperature=np.float32(temperature),
        share=np.float32(share),
    )
    (work_folder() / "expression_svm.json").write_text(json.dumps(table, indent=1))
    write_arrays(work_folder() / "expression_margins.npz", margins=margins["public"], truth=truths["public"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
