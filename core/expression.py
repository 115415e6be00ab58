"""Expression labels: a linear SVM on histograms, deep features and geometry together."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .action_unit_model import load_arrays, weights_file
from .errors import MienError
from .features import hog
from .features.deep import DeepNet
from .features.geometry import GeometryBasis, mesh_of
from .landmarks import Face
from .opencv import cv2
from .preprocess import aligned_crop, grey, normalise_light
from .units import EXPRESSIONS, REST

Array = npt.NDArray[np.float32]

HOG_CROP = 64
"""Side of the crop that the histograms describe, px."""

DEEP_CROP = 48
"""Side of the crop in whose middle the network looks, px."""

DEEP_VIEW = 48
"""Side of what the network sees of it, px."""

FEATURES = 528
"""How many numbers `ExpressionClassifier.features` gives."""

LOOSE_FRAME = 64
"""Pictures up to this side, px, are taken to be framed as FER2013 is: see `classify_still`."""

UNSURE = "unsure"

THRESHOLD = 0.4
"""A frame whose likeliest class has a lower probability is called unsure."""


def hog_of(image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike) -> Array:
    """Return the histograms of a face's aligned, light-normalised crop."""
    crop = normalise_light(aligned_crop(image, landmarks, HOG_CROP))
    return hog.describe(np.round((crop + 1) * 127.5).astype(np.uint8))


def deep_view(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the middle eleven twelfths of a `DEEP_CROP`, (`DEEP_VIEW`, `DEEP_VIEW`): as much as training showed."""
    inset = DEEP_CROP // 24
    return cv2.resize(crop[inset:-inset, inset:-inset], (DEEP_VIEW, DEEP_VIEW), interpolation=cv2.INTER_LINEAR)


def softmax(scores: npt.NDArray) -> npt.NDArray:
    """Return probabilities along the last axis."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class ExpressionClassifier:
    """Probabilities of the seven labels for one frame; keeps no memory.

    Averages what the SVM and the network's own last layer say, both calibrated.

    Parameters
    ----------
    folder : path, optional
        Holds ``expression_net.onnx`` and ``expression.npz``; the shipped ones if not given.

    Raises
    ------
    MienError
        ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        arrays = load_arrays(weights_file("expression", folder))
        self._net = DeepNet(weights_file("expression_net", folder), ["features", "logits"])
        self._hog_mean = arrays["hog_mean"].astype(np.float32)
        self._hog_axes = arrays["hog_axes"].astype(np.float32)
        self._basis = GeometryBasis(arrays["mean"], arrays["axes"].astype(np.float32))
        self._centre, self._scale = arrays["centre"], arrays["scale"]
        self._weights, self._bias = arrays["weights"], arrays["bias"]
        self._slope, self._offset = arrays["slope"], arrays["offset"]
        self._temperature, self._share = float(arrays["temperature"]), float(arrays["share"])

    def read(self, face: Face, image: npt.NDArray[np.uint8]) -> tuple[Array, Array]:
        """Return features and probabilities of one frame, for one call of the network.

        Parameters
        ----------
        face : Face
        image : ndarray of uint8, shape (H, W, 3) RGB or (H, W) grey

        Returns
        -------
        features : ndarray of float32, shape (d,)
            Histograms, deep features and geometry, standardised: what the SVM and
            `PersonalClasses` learn from.
        probabilities : ndarray of float32, shape (7,)
            In the order of `EXPRESSIONS`.
        """
        deep, logits = self._net(deep_view(aligned_crop(image, face.landmarks, DEEP_CROP)))
        features = self._features(face, image, deep[0])
        return features, self._joined(features, self._network_says(logits))

    def features(self, face: Face, image: npt.NDArray[np.uint8]) -> Array:
        """Return the features alone, see `read`."""
        return self.read(face, image)[0]

    def classify(self, face: Face, image: npt.NDArray[np.uint8]) -> Array:
        """Return the probabilities alone, see `read`."""
        return self.read(face, image)[1]

    def classify_still(self, image: npt.NDArray[np.uint8], face: Face | None = None) -> Array:
        """Return probabilities (7,) of a single picture that is cut to a face.

        Several views are averaged, each with its mirror image: the face aligned by its mesh,
        and the picture as it is where there is no mesh or the picture is hardly larger than
        the network's crop, so that its framing is that of FER2013. The network looks at two
        views, or four of a small picture with a mesh, where `classify` has one.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3) RGB or (H, W) grey
        face : Face, optional
            Its mesh; judged by the network alone without it.
        """
        views = []
        if face is not None:
            views.append(aligned_crop(image, face.landmarks, DEEP_CROP))
        if face is None or max(image.shape[:2]) <= LOOSE_FRAME:
            views.append(cv2.resize(grey(image), (DEEP_CROP, DEEP_CROP), interpolation=cv2.INTER_AREA))
        views = [deep_view(view) for view in views]
        deep, logits = self._net(np.stack([turned for view in views for turned in (view, view[:, ::-1])]))
        said = self._network_says(logits)
        if face is None:
            return said
        return self._joined(self._features(face, image, deep[:2].mean(0)), said)

    def _features(self, face, image, deep):
        histograms = self._hog_axes @ (hog_of(image, face.landmarks) - self._hog_mean)
        geometry = self._basis.describe(mesh_of(face), face.blendshapes)
        return (np.concatenate([histograms, deep, geometry]) - self._centre) * self._scale

    def _network_says(self, logits):
        return softmax(logits / self._temperature).mean(0).astype(np.float32)

    def _joined(self, features, network):
        margins = features @ self._weights.T + self._bias
        machine = softmax(margins * self._slope + self._offset)
        return ((1 - self._share) * machine + self._share * network).astype(np.float32)


def label_of(probabilities: npt.NDArray, threshold: float = THRESHOLD) -> str:
    """Return the likeliest label, or ``"unsure"`` where none reaches the threshold."""
    best = int(np.argmax(probabilities))
    return EXPRESSIONS[best] if probabilities[best] >= threshold else UNSURE


class ExpressionTracker:
    """Holds a label steady through a film.

    Probabilities are averaged over about `window` seconds, and a new label must lead the
    old one by `lead` before it takes over.

    Parameters
    ----------
    window : float
        Time constant of the average, s.
    lead : float
        In probability, 0..1.
    """

    def __init__(self, window: float = 0.5, lead: float = 0.15):
        self._window, self._lead = window, lead
        self.reset()

    def reset(self) -> None:
        """Forget the past, as after the face was lost."""
        self._time: float | None = None
        self._mean = np.zeros(len(EXPRESSIONS), np.float32)
        self._label = UNSURE

    def update(self, time: float, probabilities: npt.ArrayLike) -> tuple[str, Array]:
        """Return the label and the averaged probabilities after one more frame.

        Parameters
        ----------
        time : float
            Seconds; a step back starts anew.
        probabilities : array, shape (7,)
        """
        values = np.asarray(probabilities, np.float32)
        if values.shape != (len(EXPRESSIONS),):
            raise ValueError(f"probabilities must be ({len(EXPRESSIONS)},), got {values.shape}")
        if self._time is None or time < self._time:
            self.reset()
            self._mean = values.copy()
        else:
            keep = math.exp(-(time - self._time) / self._window)
            self._mean = keep * self._mean + (1 - keep) * values
        self._time = time
        challenger = label_of(self._mean)
        held = float(self._mean[EXPRESSIONS.index(self._label)]) if self._label != UNSURE else 0.0
        # The held label stays until another leads it, or until it is clearly unlikely itself.
        if self._label == UNSURE or float(self._mean.max()) >= held + self._lead or held < THRESHOLD - self._lead:
            self._label = challenger
        return self._label, self._mean.copy()


class PersonalClasses:
    """Expressions of one's own, learnt from a few seconds each.

    One linear SVM per class against everything else that this actor has shown. With a
    single class there must be frames of the actor's rest as well.

    Attributes
    ----------
    names : list of str
    """

    FORMAT = 1

    LEAST = 5
    """Frames of which an expression can be learnt."""

    def __init__(self):
        self._samples: dict[str, Array] = {}
        self._weights: dict[str, Array] = {}
        self._centre: Array | None = None
        self._scale: Array | None = None

    REST = REST
    """Name under which frames that belong to no class are given."""

    @property
    def names(self) -> list[str]:
        """Names of the classes, without rest."""
        # A copy: another thread may learn one meanwhile.
        return [name for name in list(self._samples) if name != self.REST]

    def learn(self, name: str, features: npt.ArrayLike, limit: int = 150, rest: npt.ArrayLike | None = None) -> None:
        """Add or replace a class, and rest if it is given, and learn all of them anew; where it raises, nothing.

        Parameters
        ----------
        name : str
            The class, or `REST`.
        features : array, shape (n, FEATURES)
            `ExpressionClassifier.features` of at least `LEAST` frames; of more than `limit`,
            evenly spaced ones are taken.
        limit : int
        rest : array, shape (n, FEATURES), optional
            The same of frames that belong to no class.

        Raises
        ------
        MienError
            ``class-too-short`` or ``class-name-empty``.
        ValueError
            For what `load` would refuse.
        """
        name = name.strip()
        if not name:
            raise MienError("class-name-empty", "The expression has no name.", "Type a name first.")
        lessons = {name: features} if rest is None else {name: features, self.REST: rest}
        samples = {lesson: self._frames(lesson, shown, limit) for lesson, shown in lessons.items()}
        self._samples |= samples
        self._fit()

    def _frames(self, name: str, features: npt.ArrayLike, limit: int) -> Array:
        """Return at most `limit` frames to learn from, or raise as `learn`."""
        samples = np.asarray(features, np.float32)
        if samples.ndim != 2 or len(samples) < self.LEAST:
            raise MienError(
                "class-too-short",
                f"Too few frames with a face to learn {name!r}.",
                "Hold the look for a second or two.",
            )
        # Not `>`, which is false for what is no number.
        if samples.shape[1] != FEATURES or not np.abs(samples).max() <= np.finfo(np.float16).max:
            raise ValueError(f"features must be finite and (n, {FEATURES}), got {samples.shape}")
        return samples[np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)]

    def forget(self, name: str) -> None:
        """Remove a class; one that is not there is fine."""
        self._samples.pop(name, None)
        self._fit()

    def _fit(self) -> None:
        self._weights = {}
        if len(self._samples) < 2:
            return
        joined = np.concatenate(list(self._samples.values()))
        self._centre = joined.mean(0)
        self._scale = 1 / (joined.std(0) + 0.1 * joined.std() + 1e-6)
        normal = (joined - self._centre) * self._scale / math.sqrt(joined.shape[1])
        start = 0
        for name, samples in self._samples.items():
            truth = -np.ones(len(joined), np.float32)
            truth[start : start + len(samples)] = 1
            start += len(samples)
            if name != self.REST:
                self._weights[name] = linear_svm(normal, truth)

    def scores(self, features: npt.ArrayLike) -> dict[str, float]:
        """Return each class's margin for one frame's features; above 0 is inside."""
        if not self._weights:
            return {}
        normal = (np.asarray(features, np.float32) - self._centre) * self._scale
        normal = np.append(normal / math.sqrt(len(normal)), 1.0)
        return {name: float(weights @ normal) for name, weights in self._weights.items()}

    def label(self, features: npt.ArrayLike) -> str | None:
        """Return the class whose margin is largest and above 0, or None."""
        scores = self.scores(features)
        best = max(scores, key=scores.get, default=None)
        return best if best is not None and scores[best] > 0 else None

    def save(self, path: str | os.PathLike[str], **beside: npt.ArrayLike) -> None:
        """Write the classes as an ``.npz`` without pickles, and what else is to stand there.

        Raises
        ------
        OSError
        """
        names = list(self._samples)
        arrays = {f"samples{i}": self._samples[name].astype(np.float16) for i, name in enumerate(names)}
        with open(path, "wb") as file:  # to a bare name numpy adds an ending
            np.savez_compressed(
                file, format=np.int32(self.FORMAT), names=np.array(names, dtype=np.str_), **arrays, **beside
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PersonalClasses:
        """Read what `save` wrote of `FEATURES` numbers a frame.

        Raises
        ------
        MienError
            ``model-missing`` or ``model-damaged``.
        """
        arrays = load_arrays(path)
        result = cls()
        try:
            if int(arrays["format"]) != cls.FORMAT:
                raise ValueError("unknown format")
            for i, name in enumerate(arrays["names"]):
                samples = arrays[f"samples{i}"].astype(np.float32)
                if samples.ndim != 2 or len(samples) < cls.LEAST or samples.shape[1] != FEATURES:
                    raise ValueError("samples of another shape")
                if not np.isfinite(samples).all():
                    raise ValueError("samples that are no numbers")
                result._samples[str(name)] = samples
            result._fit()
        except (KeyError, TypeError, ValueError) as error:
            raise MienError(
                "model-damaged", f"{Path(path).name} holds no expressions Mien can read.", "Record them again."
            ) from error
        return result


def linear_svm(samples: npt.NDArray, truth: npt.NDArray, cost: float = 10.0, rounds: int = 60) -> Array:
    """Return the weights (d + 1,) of a linear SVM, the bias last.

    Parameters
    ----------
    samples : ndarray, shape (n, d)
    truth : ndarray, shape (n,)
        -1 or 1. The rarer side counts for more, so that both weigh the same.
    cost : float
        Penalty on a sample inside the margin.
    rounds : int
        Passes over the samples.

    Notes
    -----
    Dual coordinate descent for the squared hinge loss: no matrix larger than the samples,
    and a fraction of a second for some hundred of them.

    References
    ----------
    Hsieh et al., A dual coordinate descent method for large-scale linear SVM, ICML 2008.
    """
    x = np.column_stack([samples, np.ones(len(samples))]).astype(np.float64) * np.asarray(truth)[:, None]
    share = {sign: len(truth) / (2 * max(np.sum(truth == sign), 1)) for sign in (-1, 1)}
    slack = np.array([1 / (2 * cost * share[int(sign)]) for sign in truth])
    curvature = np.einsum("nd,nd->n", x, x) + slack
    duals = np.zeros(len(x))
    weights = np.zeros(x.shape[1])
    order = np.random.default_rng(0)
    for _ in range(rounds):
        largest = 0.0
        for i in order.permutation(len(x)):
            gradient = x[i] @ weights - 1 + slack[i] * duals[i]
            step = max(duals[i] - gradient / curvature[i], 0.0) - duals[i]
            if step:
                duals[i] += step
                weights += step * x[i]
                largest = max(largest, abs(step) * curvature[i])
        if largest < 1e-3:
            break
    return weights.astype(np.float32)
