"""Training the expression models: the same seed gives the same weights, cut off or not."""

import json

import cv2
import numpy as np
import pytest
import torch

from mien.core.training import expression_net, expression_svm
from mien.core.training.faces import made_of_faces
from mien.core.units import EXPRESSIONS

from .training_helpers import Cut, same


@pytest.fixture
def crops(monkeypatch, tmp_path):
    """A cache of 160 pictures, so that no data is needed; the network narrow, two short epochs."""
    rng = np.random.default_rng(0)
    arrays = {}
    for key, count in (("fer", 96), ("mux", 64), ("public", 8)):
        for kind in ("", "_aligned"):
            arrays[f"{key}{kind}"] = rng.integers(0, 256, (count, 48, 48)).astype(np.uint8)
        arrays[f"{key}_labels"] = np.arange(count) % len(EXPRESSIONS)
        arrays[f"{key}_blocks"] = np.arange(count) * 20 // count

    def train(folder, seed=7):
        folder.mkdir(exist_ok=True)
        made_of_faces(folder / "expression_crops.npz", expression_net.SETS, lambda: arrays)
        monkeypatch.setattr(expression_net, "work_folder", lambda: folder)
        short = ["--width", "16", "--epochs", "2", "--batch", "32", "--small-epochs", "1"]
        chosen = expression_net.options([*short, "--seed", str(seed)])
        torch.seed()  # what came before must not matter
        return {name: value.clone() for name, value in expression_net.train(chosen).state_dict().items()}

    return train


def gap(a, b):
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


def test_a_seed_gives_the_same_weights_again_and_after_a_cut(crops, tmp_path, monkeypatch, capsys):
    whole = crops(tmp_path / "a")
    assert same(whole, crops(tmp_path / "b"))
    assert gap(whole, crops(tmp_path / "c", seed=8)) > 1e-3

    order = expression_net.epoch_order

    def cut(*arguments):
        if arguments[-2] == 1:
            raise Cut
        return order(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(expression_net, "epoch_order", cut)
        with pytest.raises(Cut):
            crops(tmp_path / "d")
    capsys.readouterr()
    assert same(whole, crops(tmp_path / "d"))
    assert "resuming after epoch 1" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "d" / "expression_net.json").read_text())["history"]) == 2


def test_pictures_are_blended_as_their_targets_are():
    # Each picture is its own target's number, so one tells what share of which neighbour was laid over the other.
    numbers = torch.arange(64.0)
    generator = torch.Generator().manual_seed(5)
    x, y, mixed = expression_net.blend(
        numbers[:, None, None, None].expand(-1, 1, 4, 4), torch.eye(64), generator, frequency=0.5
    )
    assert 16 < mixed.sum() < 48
    assert torch.equal(y[~mixed], torch.eye(64)[~mixed])
    assert torch.allclose(x.mean((1, 2, 3)), y @ numbers, atol=1e-4)
    assert torch.allclose(y.sum(1), torch.ones(64))
    assert (y.argmax(1) == torch.arange(64)).all()
    assert y.max(1).values.min() < 0.7


def test_the_network_s_word_is_not_taken_on_blended_pictures(crops, tmp_path):
    crops(tmp_path)
    state = torch.load(tmp_path / "expression_net.pt", weights_only=True)
    asked = state["times_said"].sum()
    # Two epochs of 4 batches of 32, of which about half are blended.
    assert 64 < asked < 224


def test_a_checkpoint_of_another_network_is_told(crops, tmp_path):
    crops(tmp_path)
    state = torch.load(tmp_path / "expression_net.pt", weights_only=True)
    del state["model"]["body.10.first.0.weight"]
    torch.save(state, tmp_path / "expression_net.pt")
    with pytest.raises(SystemExit, match="another network's"):
        crops(tmp_path)


def test_a_restored_network_goes_on_or_stays_as_it_is(crops, tmp_path):
    """Without more epochs nothing would be learnt, and yet a file written that is not the shipped one."""
    crops(tmp_path)
    state = torch.load(tmp_path / "expression_net.pt", weights_only=True)
    del state["optimizer"]
    torch.save(state, tmp_path / "expression_net.pt")
    with pytest.raises(SystemExit, match="ask for more"):
        crops(tmp_path)


def test_weights_are_averaged_with_an_earlier_cycle(crops, tmp_path):
    first, second = crops(tmp_path / "a"), crops(tmp_path / "b", seed=8)
    model = expression_net.ExpressionNet(16)
    model.load_state_dict(second)
    expression_net.mean_with(model, tmp_path / "a" / "expression_net.pt", 0.25)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * first[name] + 0.75 * second[name])


def test_copies_of_a_photo_are_known_in_another_light_and_file():
    rng = np.random.default_rng(4)
    noise = rng.uniform(0, 255, (8, 48, 48)).astype(np.float32)
    photos = np.stack([cv2.normalize(cv2.GaussianBlur(n, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX) for n in noise])
    known, others = photos[:4].astype(np.uint8), photos[4:].astype(np.uint8)
    stored = [cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0) for p in known]
    darker = (0.6 * known + 20).astype(np.uint8)
    moved = np.roll(known, 1, 2)
    found = expression_svm.photo_copies(np.concatenate([known, stored, darker, moved, others]), known)
    assert found.tolist() == [True] * 16 + [False] * 4


def test_machines_are_those_of_liblinear():
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(3)
    labels = np.arange(700) % len(EXPRESSIONS)
    x = rng.normal(size=(700, 12)) + rng.normal(size=(len(EXPRESSIONS), 12))[labels]
    lifts = expression_svm.balanced(labels[:600], 1.0)
    weights, bias = expression_svm.fit_machines(x[:600], labels[:600], 0.05, lifts)
    known = LinearSVC(C=0.05, class_weight=lifts, max_iter=20000, tol=1e-6).fit(x[:600], labels[:600])
    np.testing.assert_allclose(weights, known.coef_, atol=0.01 * np.abs(known.coef_).max())
    np.testing.assert_allclose(bias, known.intercept_, atol=0.01 * np.abs(known.coef_).max())
