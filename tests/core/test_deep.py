"""Networks give at run time what they gave in training, and damaged files are refused."""

import numpy as np
import pytest

from mien.core.errors import MienError
from mien.core.expression import DEEP_VIEW
from mien.core.features.deep import DeepNet


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
    crops = np.random.default_rng(0).integers(0, 256, (3, DEEP_VIEW, DEEP_VIEW)).astype(np.uint8)
    batch = net(crops)[1]
    assert batch.shape == (3, 7)
    np.testing.assert_allclose(net(crops[1])[1][0], batch[1], atol=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (0.5, 100), (0.25, 20)])
def test_the_cameras_gain_and_offset_drop_out(net, gain, offset):
    crop = np.random.default_rng(1).integers(0, 128, (DEEP_VIEW, DEEP_VIEW)).astype(np.uint8) * 2
    here, there = net(crop)[0], net(np.round(crop * gain + offset).astype(np.uint8))[0]
    assert np.abs(here - there).max() < 0.05 * np.abs(here).max()
