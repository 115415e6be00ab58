"""Train the expression SVM on histograms, deep features and geometry; print the ablation.

    python -m mien.core.training.expression_svm

Needs `faces` and `expression_net` to have run. Learns from FER2013 Training and muxspace
where a mesh was found; settings and calibration are chosen on FER2013's PublicTest; the
held-out blocks of muxspace are only reported.
"""

from __future__ import annotations

import argparse
import json
import sys

import cv2
import numpy as np
from scipy.optimize import minimize
from sklearn.decomposition import PCA
from sklearn.svm import LinearSVC

from ..datasets import load_expression_set
from ..evaluate import calibration_error
from ..expression import DEEP_CROP, hog_of, softmax
from ..features.deep import DeepNet
from ..features.geometry import GeometryBasis, mesh_of
from ..landmarks import Face
from ..preprocess import aligned_crop
from ..units import EXPRESSIONS
from .expression_net import HELD_OUT_BLOCKS, scores
from .faces import SETS
from .paths import MODELS, data_folder, work_folder

HISTOGRAMS = 160
COMPONENTS = 60


def describe(key: str, net: DeepNet) -> dict[str, np.ndarray]:
    """Return histograms, deep features, logits and meshes of a set's pictures with a face."""
    faces = dict(np.load(work_folder() / f"faces_{key}.npz", allow_pickle=False))
    pictures = load_expression_set(data_folder() / "expression" / SETS[key])
    rows = np.flatnonzero(faces["found"])
    slow = work_folder() / f"histograms_{key}.npz"
    if not slow.is_file():
        parts = (faces["landmarks"][rows], faces["blendshapes"][rows], faces["matrix"][rows])
        np.savez(
            slow,
            hog=np.stack([hog_of(pictures.images[i], faces["landmarks"][i]) for i in rows]).astype(np.float16),
            mesh=np.stack([mesh_of(Face((0, 0), *face)) for face in zip(*parts, strict=True)]),
        )
    kept = np.load(slow, allow_pickle=False)
    crops = [aligned_crop(pictures.images[i], faces["landmarks"][i], DEEP_CROP) for i in rows]
    deep, logits = [], []
    for start in range(0, len(crops), 64):
        features, said = net(np.stack(crops[start : start + 64]))
        deep.append(features)
        logits.append(said)
    return {
        "hog": kept["hog"].astype(np.float32),
        "deep": np.concatenate(deep),
        "logits": np.concatenate(logits),
        "mesh": kept["mesh"],
        "blendshapes": faces["blendshapes"][rows],
        "labels": pictures.labels[rows],
        "held": np.isin(pictures.blocks[rows], HELD_OUT_BLOCKS) if key == "mux" else np.zeros(len(rows), bool),
    }


def calibrate(margins: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and offsets for which softmax(margins * slope + offset) is likeliest."""
    count = len(EXPRESSIONS)

    def loss(values):
        probabilities = softmax(margins * np.exp(values[:count]) + values[count:])
        return -np.mean(np.log(probabilities[np.arange(len(truth)), truth] + 1e-9)) + 1e-3 * np.sum(values**2)

    values = minimize(loss, np.zeros(2 * count), method="L-BFGS-B").x
    return np.exp(values[:count]).astype(np.float32), values[count:].astype(np.float32)


def balanced(labels: np.ndarray, power: float = 0.4) -> dict[int, float]:
    """Return class weights that lift rare classes, not all the way."""
    counts = np.bincount(labels, minlength=len(EXPRESSIONS)).astype(float)
    return {i: float((counts.max() / max(n, 1)) ** power) for i, n in enumerate(counts)}


def main(arguments: list[str] | None = None) -> int:
    """Train, report, and write models/expression.npz."""
    parser = argparse.ArgumentParser(description="Train the expression SVM.")
    parser.add_argument("--costs", type=float, nargs="+", default=[0.001, 0.003, 0.01])
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    net = DeepNet(MODELS / "expression_net.onnx", ["features", "logits"])
    sets = {key: describe(key, net) for key in SETS}
    train = {
        key: np.concatenate([sets["fer"][key], sets["mux"][key][~sets["mux"]["held"]]])
        for key in ("hog", "deep", "mesh", "blendshapes", "labels")
    }
    rng = np.random.default_rng(0)
    pca = PCA(HISTOGRAMS, svd_solver="randomized", random_state=0).fit(
        train["hog"][rng.permutation(len(train["hog"]))[:5000]]
    )
    basis = GeometryBasis.fit(train["mesh"], COMPONENTS)

    def blocks(part):
        return {
            "HOG": (part["hog"] - pca.mean_) @ pca.components_.T,
            "deep": part["deep"],
            "geometry": basis.describe(part["mesh"], part["blendshapes"]),
        }

    held = {key: values[sets["mux"]["held"]] for key, values in sets["mux"].items()}
    inputs = {"train": blocks(train), "public": blocks(sets["public"]), "mux": blocks(held)}
    truths = {"public": sets["public"]["labels"], "mux": held["labels"]}
    table, best = [], None
    for chosen in (("HOG",), ("geometry",), ("deep",), ("HOG", "geometry"), ("HOG", "deep", "geometry")):
        x = {name: np.concatenate([part[c] for c in chosen], 1) for name, part in inputs.items()}
        centre, scale = x["train"].mean(0), 1 / (x["train"].std(0) + 1e-3)
        x = {name: (values - centre) * scale for name, values in x.items()}
        fits = []
        for cost in options.costs:
            machine = LinearSVC(C=cost, class_weight=balanced(train["labels"]), max_iter=2000).fit(
                x["train"], train["labels"]
            )
            fits.append((scores(truths["public"], machine.decision_function(x["public"]))[0], cost, machine))
        _, cost, machine = max(fits, key=lambda fit: fit[0])
        margins = {name: machine.decision_function(x[name]) for name in truths}
        slope, offset = calibrate(margins["public"], truths["public"])
        probabilities = {name: softmax(values * slope + offset) for name, values in margins.items()}
        row = {"features": " + ".join(chosen), "size": int(x["train"].shape[1]), "cost": cost}
        for name, truth in truths.items():
            row[f"{name}_accuracy"], row[f"{name}_f1"] = scores(truth, probabilities[name])
            row[f"{name}_calibration_error"] = calibration_error(truth, probabilities[name])
        table.append(row)
        sys.stderr.write(json.dumps(row) + "\n")
        best = (machine, centre, scale, slope, offset, margins)
    network = {"features": "the network's own softmax"}
    for name, part in (("public", sets["public"]), ("mux", held)):
        network[f"{name}_accuracy"], network[f"{name}_f1"] = scores(part["labels"], part["logits"])
    table.append(network)
    sys.stderr.write(json.dumps(network) + "\n")
    machine, centre, scale, slope, offset, margins = best
    temperature = minimize(
        lambda t: (
            -np.mean(
                np.log(
                    softmax(sets["public"]["logits"] / t[0])[np.arange(len(truths["public"])), truths["public"]] + 1e-9
                )
            )
        ),
        [1.0],
        bounds=[(0.2, 5)],
    ).x[0]
    np.savez(
        MODELS / "expression.npz",
        hog_mean=pca.mean_.astype(np.float32),
        hog_axes=pca.components_.astype(np.float16),
        mean=basis.mean,
        axes=basis.axes.astype(np.float16),
        centre=centre.astype(np.float32),
        scale=scale.astype(np.float32),
        weights=machine.coef_.astype(np.float32),
        bias=machine.intercept_.astype(np.float32),
        slope=slope,
        offset=offset,
        temperature=np.float32(temperature),
    )
    (work_folder() / "expression_svm.json").write_text(json.dumps(table, indent=1))
    np.savez(work_folder() / "expression_margins.npz", margins=margins["public"], truth=truths["public"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
