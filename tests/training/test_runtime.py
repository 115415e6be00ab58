"""What runs in the product, without torch, gives what the torch originals give."""

import itertools

import numpy as np
import pytest
import torch

from mien.core.action_unit_model import (
    CLOSE_UP,
    CROP,
    WINDOW,
    LearnedEstimator,
    Regressor,
    eye_crops,
    histograms,
    load_arrays,
    mouth_crop,
)
from mien.core.capture import open_source
from mien.core.expression import DEEP_CROP, DEEP_VIEW, ExpressionClassifier, deep_view, hog_of
from mien.core.features.deep import DeepNet
from mien.core.features.geometry import GeometryBasis, mesh_of
from mien.core.ict_face import IctFace, random_look, random_scene, render
from mien.core.landmarks import Landmarker
from mien.core.models import landmark_model
from mien.core.preprocess import aligned_crop
from mien.core.stills import StillLandmarker
from mien.core.training.action_unit_net import (
    CLOSE_UP_WINDOW,
    COMPONENTS,
    DEEP,
    HEIGHT,
    HISTOGRAM_COMPONENTS,
    LEAK,
    OTHERS,
    PARTS,
    WIDTH,
    ActionUnitNet,
    CloseUpFeatures,
    DeepFeatures,
    Head,
    cut,
)
from mien.core.training.export import export
from mien.core.training.expression_net import ExpressionNet
from mien.core.training.expression_svm import COMBINATIONS, blocks
from mien.core.training.paths import MODELS
from mien.core.training.rasteriser import rasterise
from mien.core.training.synthesis import CLOSE_UP_ROOM
from mien.core.units import LANDMARK_COUNT


@pytest.mark.parametrize(
    ("net", "size", "outputs", "bits", "near"),
    [
        (lambda: ExpressionNet(32), (DEEP_VIEW, DEEP_VIEW), ("features", "logits"), 8, 2e-2),
        (DeepFeatures, (HEIGHT, WIDTH), ("features",), 16, 5e-3),
        (CloseUpFeatures, (CLOSE_UP, CLOSE_UP), ("features",), 16, 5e-3),
    ],
)
def test_networks_equal_torch(tmp_path, net, size, outputs, bits, near):
    torch.manual_seed(0)
    net = net()
    for module in net.modules():  # as after training: statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    pictures = np.random.default_rng(0).integers(0, 256, (4, *size)).astype(np.uint8)
    assert export(net, pictures, tmp_path / "net.onnx", outputs, bits) < 1e-4
    assert (tmp_path / "net.onnx").stat().st_size < 1.15 * bits / 8 * sum(p.numel() for p in net.parameters())
    # What rounding costs.
    with torch.no_grad():
        exact = net.eval()(torch.from_numpy(pictures)[:, None].float() / 255)
    exact = exact if isinstance(exact, tuple) else (exact,)
    for found, wanted in zip(DeepNet(tmp_path / "net.onnx", outputs)(pictures), exact, strict=True):
        np.testing.assert_allclose(found, wanted, atol=near * float(wanted.abs().max()))


def test_a_file_that_differs_from_torch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mien.core.training.export.DeepNet", lambda *_: lambda pictures: (np.zeros((4, 128)),))
    (tmp_path / "net.onnx").write_bytes(b"the one before")
    with pytest.raises(RuntimeError, match="differs from torch"):
        export(DeepFeatures(), np.full((4, HEIGHT, WIDTH), 9, np.uint8), tmp_path / "net.onnx", ("features",))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("net.onnx", b"the one before")]


def test_the_head_equals_torch():
    torch.manual_seed(0)
    head = Head(6, 4).eval()
    arrays = {f"weight{i}": layer.weight.detach().numpy() for i, layer in enumerate(head.layers)}
    arrays |= {f"bias{i}": layer.bias.detach().numpy() for i, layer in enumerate(head.layers)}
    arrays |= {"leak": np.array(LEAK), "off": np.full((2, 4), -0.5), "slope": np.ones((2, 4))}
    frame, rest = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    for known in (0, 1):
        with torch.no_grad():
            wanted = head(*(torch.from_numpy(v)[None] for v in (frame, rest)), torch.full((1, 1), float(known)))
        found = Regressor(arrays)(frame, rest if known else None)
        assert 0 < found.min() < 0.5 < found.max() < 1  # nothing clipped
        np.testing.assert_allclose(found, wanted.numpy()[0] + 0.5, atol=1e-6)


def test_a_head_that_is_silent_still_learns():
    torch.manual_seed(0)
    head = Head(6, 4)
    for layer in head.layers[:2]:
        torch.nn.init.constant_(layer.bias, -100)
    frames = torch.randn(8, 6)
    head(frames, frames, torch.zeros(8, 1)).sum().backward()
    assert all(float(layer.weight.grad.abs().sum()) > 0 for layer in head.layers[:2])


def test_a_frame_and_its_mirror_image_are_described_as_in_training(tmp_path, data):
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    names = ("mouthSmile_L", "mouthSmile_R")
    net = ActionUnitNet(names)
    for module in net.modules():  # as after training: no part's features are all but constant
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.momentum = 1.0
    with torch.no_grad():
        net.deep(
            torch.rand(32, 1, HEIGHT, WIDTH),
            torch.rand(32, 2, CLOSE_UP, CLOSE_UP),
            torch.rand(32, 1, CLOSE_UP, CLOSE_UP),
        )
    net.eval()
    for part, size, name in (
        (net.features, (HEIGHT, WIDTH), "action_unit_net.onnx"),
        (net.eyes, (CLOSE_UP, CLOSE_UP), "action_unit_eyes.onnx"),
        (net.mouth, (CLOSE_UP, CLOSE_UP), "action_unit_mouth.onnx"),
    ):
        export(part, np.zeros((1, *size), np.uint8), tmp_path / name, ("features",))
    with open_source(data / "video" / "d10.mp4") as source, Landmarker(landmark_model()) as landmarker:
        picture = next(iter(source)).image
        face = StillLandmarker(landmarker).find(picture)
    length, cells = 3 * LANDMARK_COUNT, len(histograms(np.zeros((HEIGHT, WIDTH), np.uint8)))
    arrays = {f"{kind}{i}": np.zeros((1, 1)) for kind in ("weight", "bias") for i in range(3)}
    np.savez(
        tmp_path / "action_units.npz",
        **arrays,
        leak=np.array(LEAK),
        off=np.zeros((2, 2)),
        slope=np.ones((2, 2)),
        shapes=np.array(names),
        features=np.array(DEEP),
        mean=rng.normal(size=length).astype(np.float32),
        axes=np.zeros((COMPONENTS, length), np.float16),
        histogram_mean=np.zeros(cells, np.float16),
        histogram_axes=np.zeros((HISTOGRAM_COMPONENTS, cells), np.float16),
    )
    said = LearnedEstimator(tmp_path).describe(face, picture)
    assert said.shape == (2, DEEP + OTHERS)
    crop, mouth = (
        torch.from_numpy(seen)[None, None].float() / 255
        for seen in (aligned_crop(picture, face.landmarks, CROP), mouth_crop(picture, face.landmarks, CLOSE_UP_ROOM))
    )
    eyes = eye_crops(picture, face.landmarks, CLOSE_UP_ROOM)[:, *CLOSE_UP_WINDOW]
    for view, mirrored in enumerate((False, True)):
        seen = np.ascontiguousarray(eyes[::-1] if mirrored else eyes)
        turned = torch.tensor([mirrored])
        with torch.no_grad():
            wanted = net.deep(
                cut(crop, *WINDOW, None, turned),
                torch.from_numpy(seen)[None].float() / 255,
                cut(mouth, *CLOSE_UP_WINDOW, None, turned),
            )
        for name in ("face", "eyes", "mouth"):
            size = float(wanted[0, PARTS[name]].abs().max())
            np.testing.assert_allclose(said[view, PARTS[name]], wanted[0, PARTS[name]], atol=0.015 * size, err_msg=name)
            assert np.abs(said[0, PARTS[name]] - said[1, PARTS[name]]).max() > 0.1 * size, name


def test_an_expression_is_described_as_the_svm_learnt_it(data):
    arrays, classifier = load_arrays(MODELS / "expression.npz"), ExpressionClassifier()
    net = DeepNet(MODELS / "expression_net.onnx", ["features", "logits"])
    with open_source(data / "video" / "d10.mp4") as source, Landmarker(landmark_model()) as landmarker:
        shots = [(landmarker.detect(frame.image, frame.time), frame.image) for frame in itertools.islice(source, 3)]
    crops = [deep_view(aligned_crop(picture, face.landmarks, DEEP_CROP)) for face, picture in shots]
    part = {
        "hog": np.stack([hog_of(picture, face.landmarks) for face, picture in shots]),
        "deep": net(np.stack(crops))[0],
        "mesh": np.stack([mesh_of(face) for face, _ in shots]),
        "blendshapes": np.stack([face.blendshapes for face, _ in shots]),
    }
    basis = GeometryBasis(arrays["mean"], arrays["axes"].astype(np.float32))
    kinds = blocks(part, arrays["hog_mean"], arrays["hog_axes"].astype(np.float32), basis)
    wanted = (np.concatenate([kinds[kind] for kind in COMBINATIONS[-1]], 1) - arrays["centre"]) * arrays["scale"]
    found = np.stack([classifier.features(face, picture) for face, picture in shots])
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert np.abs(found[0] - found[2]).max() > 0.1


def test_training_draws_the_same_pictures(data):
    model = IctFace(data / "face3d" / "ict_facekit.npz")
    rng = np.random.default_rng(6)
    scene, look = random_scene(rng), random_look(model, rng)
    plain, fast = (
        render(model, model.neutral, look, scene, np.random.default_rng(0), *draw) for draw in ((), (rasterise,))
    )
    # Depths of touching triangles may round either way.
    assert (np.abs(plain.astype(int) - fast) > 1).mean() < 1e-3
