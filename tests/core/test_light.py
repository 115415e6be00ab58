"""What Mien reads in a real face stands up to other light."""

import numpy as np
import pytest

from mien.core.action_unit_model import LearnedEstimator
from mien.core.capture import open_source
from mien.core.expression import ExpressionClassifier
from mien.core.fusion import fuse
from mien.core.landmarks import Landmarker
from mien.core.models import landmark_model
from mien.core.stills import StillLandmarker

from .face_helpers import needs_model

pytestmark = [pytest.mark.data, needs_model]


def gain(factor):
    return lambda picture: (picture * factor).astype(np.uint8)


def gamma(power):
    return lambda picture: (255 * (picture / 255) ** power).round().astype(np.uint8)


def shadow(picture):
    """Six tenths of the light are taken from half of the face, over a soft edge."""
    edge = 1 / (1 + np.exp(-12 * np.linspace(-1, 1, picture.shape[1])))
    return (picture * (1 - 0.6 * edge)[None, :, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def read(data):
    """Read units (n, 11) and probabilities (n, 7) of sixteen frames of two people after a change of light."""
    frames = []
    for clip in ("d10.mp4", "woman2.mp4"):
        with open_source(data / "video" / clip) as source:
            frames += [frame.image for frame, _ in zip(source, range(200), strict=False) if frame.index % 25 == 0]
    classifier, estimator = ExpressionClassifier(), LearnedEstimator()
    with Landmarker(landmark_model()) as landmarker:
        stills = StillLandmarker(landmarker)

        def under(light):
            units, probabilities = [], []
            for frame in frames:
                picture = light(frame)
                face = stills.find(picture)
                assert face is not None
                units.append(fuse(estimator.estimate(face, picture)))
                probabilities.append(classifier.classify(face, picture))
            return np.array(units), np.array(probabilities)

        yield under


@pytest.fixture(scope="module")
def usual(read):
    return read(lambda picture: picture)


@pytest.mark.parametrize(
    "light",
    [gain(0.5), gain(0.25), gamma(0.6), gamma(1.6), shadow],
    ids=["half the light", "a quarter", "gamma 0.6", "gamma 1.6", "shadow"],
)
def test_other_light_changes_little(read, usual, light):
    units, probabilities = read(light)
    assert np.abs(units - usual[0]).mean() < 0.03
    assert np.abs(probabilities - usual[1]).max(1).mean() < 0.12
    assert np.mean(probabilities.argmax(1) == usual[1].argmax(1)) > 0.75


def test_the_frames_differ(usual):
    """Else any reader would pass."""
    units, probabilities = usual
    assert units.std(0).mean() > 0.05
    assert len(np.unique(probabilities.argmax(1))) > 1
