"""Networks give at run time what they gave in training, and damaged files are refused."""

import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.features.deep import DeepNet


def test_runtime_equals_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is needed to compare with")
    pytest.importorskip("onnx", reason="onnx is needed to export")
    pytest.importorskip("sklearn", reason="the training package needs scikit-learn")
    from mien.core.training.expression_net import SIZE, ExpressionNet, export

    torch.manual_seed(0)
    net = ExpressionNet(16)
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


def test_missing_and_damaged_networks_are_refused(tmp_path):
    with pytest.raises(MienError, match="missing"):
        DeepNet(tmp_path / "none.onnx", ["features"])
    (tmp_path / "bad.onnx").write_bytes(b"not a network at all")
    with pytest.raises(MienError, match="cannot be read"):
        DeepNet(tmp_path / "bad.onnx", ["features"])


@pytest.fixture(scope="module")
def net():
    from mien.core.models import SHIPPED

    return DeepNet(SHIPPED / "expression_net.onnx", ["features", "logits"])


def test_one_crop_is_a_batch_of_one(net):
    crops = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    batch = net(crops)[1]
    assert batch.shape == (3, 7)
    np.testing.assert_allclose(net(crops[1])[1][0], batch[1], atol=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (0.5, 100), (0.25, 20)])
def test_the_cameras_gain_and_offset_drop_out(net, gain, offset):
    crop = np.random.default_rng(1).integers(0, 128, (48, 48)).astype(np.uint8) * 2
    here, there = net(crop)[0], net(np.round(crop * gain + offset).astype(np.uint8))[0]
    assert np.abs(here - there).max() < 0.05 * np.abs(here).max()
