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


def test_missing_and_damaged_networks_are_refused(tmp_path):
    with pytest.raises(MienError, match="missing"):
        DeepNet(tmp_path / "none.onnx", ["features"])
    (tmp_path / "bad.onnx").write_bytes(b"not a network at all")
    with pytest.raises(MienError, match="cannot be read"):
        DeepNet(tmp_path / "bad.onnx", ["features"])


def test_one_crop_is_a_batch_of_one():
    from mien.core.models import SHIPPED

    path = SHIPPED / "expression_net.onnx"
    if not path.is_file():
        pytest.skip("the expression network is not there")
    net = DeepNet(path, ["features", "logits"])
    crops = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    batch = net(crops)[1]
    assert batch.shape == (3, 7)
    np.testing.assert_allclose(net(crops[1])[1][0], batch[1], atol=1e-5)
