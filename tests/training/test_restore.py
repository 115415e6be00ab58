"""Training goes on from shipped weights: what was folded and rounded answers as it did, and can learn again."""

import numpy as np
import pytest
import torch

from mien.core.action_unit_model import CLOSE_UP, load_arrays
from mien.core.training.action_unit_net import HEIGHT, WIDTH, CloseUpFeatures, DeepFeatures
from mien.core.training.export import export
from mien.core.training.expression_net import ExpressionNet
from mien.core.training.paths import MODELS
from mien.core.training.restore import layers_of, main, restore
from mien.core.training.synthesis import PICTURE_NAMES, empty_part


def trained(net):
    """As after training: statistics, slopes and offsets that are not those of a new network."""
    torch.manual_seed(3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                values.uniform_(low, high)
    return net.eval()


@pytest.fixture
def pictures():
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (64, 1, HEIGHT, WIDTH)).astype(np.float32))


@pytest.mark.parametrize(("kind", "size"), [(DeepFeatures, (HEIGHT, WIDTH)), (CloseUpFeatures, (CLOSE_UP, CLOSE_UP))])
def test_a_restored_network_answers_alike_and_is_ready_to_learn(tmp_path, pictures, kind, size):
    net, again, pictures = trained(kind()), kind(), pictures[:, :, : size[0], : size[1]]
    export(net, np.zeros((1, *size), np.uint8), tmp_path / "net.onnx", ("features",))
    restore(again, layers_of(tmp_path / "net.onnx"), pictures)
    with torch.no_grad():
        wanted = net(pictures)
        size = float(wanted.abs().max())
        torch.testing.assert_close(again.eval()(pictures), wanted, atol=5e-3 * size, rtol=0)
        # Statistics of the batch are those that it was given: the first step of training sees the same network.
        torch.testing.assert_close(again.train()(pictures), wanted, atol=2e-2 * size, rtol=0)


@pytest.mark.parametrize(("bits", "near"), [(16, 5e-3), (8, 2e-2)])
def test_an_expression_network_is_restored_with_its_gates(tmp_path, pictures, bits, near):
    net, again = trained(ExpressionNet(16)), ExpressionNet(16)
    export(net, np.zeros((1, 40, 40), np.uint8), tmp_path / "net.onnx", ("features", "logits"), bits)
    small = pictures[:, :, :40, :40]
    restore(again, layers_of(tmp_path / "net.onnx"), small)
    with torch.no_grad():
        for found, wanted in zip(again.eval()(small), net(small), strict=True):
            torch.testing.assert_close(found, wanted, atol=near * float(wanted.abs().max()), rtol=0)
    with pytest.raises(RuntimeError, match="size"):
        restore(ExpressionNet(24), layers_of(tmp_path / "net.onnx"), small)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with rendered people; noise will do."""
    part, rng = empty_part(57, 0), np.random.default_rng(1)
    part["found"][:400] = True
    for name in PICTURE_NAMES:
        part[name] = rng.integers(0, 256, part[name].shape, np.uint8)
    (tmp_path / "synthesis").mkdir()
    np.savez(tmp_path / "synthesis" / "part0000.npz", **part)
    monkeypatch.setenv("MIEN_WORK", str(tmp_path))
    return tmp_path


def test_missing_checkpoints_are_made_of_the_shipped_weights_and_others_kept(work):
    (work / "expression_net.pt").write_bytes(b"weeks of work")
    assert main([]) == 0
    assert (work / "expression_net.pt").read_bytes() == b"weeks of work"
    state, arrays = torch.load(work / "action_unit_net.pt", weights_only=True), load_arrays(MODELS / "action_units.npz")
    for i in range(3):
        torch.testing.assert_close(state["net"][f"head.layers.{i}.weight"].numpy(), np.float32(arrays[f"weight{i}"]))
    for name, values in state["net"].items():
        torch.testing.assert_close(state["average"][f"module.{name}"], values)
    for name, values in state["components"].items():
        np.testing.assert_array_equal(values.numpy(), arrays[name])
