"""What runs in the product, without torch, gives what the torch originals give."""

import numpy as np
import torch

from mien.core.action_unit_model import Regressor
from mien.core.features.deep import DeepNet
from mien.core.ict_face import IctFace, random_look, random_scene, render
from mien.core.training.action_unit_net import HEIGHT, WIDTH, DeepFeatures, Head, export_features
from mien.core.training.expression_net import SIZE, ExpressionNet, Together, export
from mien.core.training.rasteriser import rasterise


def test_expression_networks_equal_torch(tmp_path):
    torch.manual_seed(0)
    net = Together([ExpressionNet(16), ExpressionNet(24)])
    for module in net.modules():  # as after training: statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    assert export(net, tmp_path / "net.onnx", SIZE, ("features", "logits")) < 1e-4
    assert export(net, tmp_path / "half.onnx", SIZE, ("features", "logits"), half=True) < 1e-4
    assert (tmp_path / "half.onnx").stat().st_size < 0.65 * (tmp_path / "net.onnx").stat().st_size
    crops = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE)).astype(np.uint8)
    whole, half = (DeepNet(tmp_path / name, ["logits"])(crops)[0] for name in ("net.onnx", "half.onnx"))
    np.testing.assert_allclose(half, whole, atol=5e-3 * np.abs(whole).max())


def test_action_unit_net_equals_torch(tmp_path):
    torch.manual_seed(0)
    net = DeepFeatures()
    for module in net.modules():  # as after training: statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    pictures = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH)).astype(np.uint8)
    assert export_features(net, pictures, tmp_path / "net.onnx") < 1e-4
    assert (tmp_path / "net.onnx").stat().st_size < 2.2 * sum(p.numel() for p in net.parameters())

    head = Head(6, 4).eval()
    arrays = {f"weight{i}": layer.weight.detach().numpy() for i, layer in enumerate(head.layers)}
    arrays |= {f"bias{i}": layer.bias.detach().numpy() for i, layer in enumerate(head.layers)}
    arrays |= {"off": np.zeros((2, 4)), "slope": np.ones((2, 4))}
    frame, rest = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    for known in (0, 1):
        with torch.no_grad():
            wanted = head(*(torch.from_numpy(v)[None] for v in (frame, rest)), torch.full((1, 1), float(known)))
        found = Regressor(arrays)(frame, rest if known else None)
        np.testing.assert_allclose(found, wanted.clamp(0, 1).numpy()[0], atol=1e-6)


def test_training_draws_the_same_pictures(data):
    model = IctFace(data / "face3d" / "ict_facekit.npz")
    rng = np.random.default_rng(6)
    scene, look = random_scene(rng), random_look(model, rng)
    plain, fast = (
        render(model, model.neutral, look, scene, np.random.default_rng(0), *draw) for draw in ((), (rasterise,))
    )
    # Depths of touching triangles may round either way.
    assert (np.abs(plain.astype(int) - fast) > 1).mean() < 1e-3
