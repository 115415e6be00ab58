"""How the action unit network learns: what counts as wrong, what a batch is made of, and what comes of a seed."""

import argparse

import numpy as np
import pytest
import torch

from mien.core.action_unit_model import eye_crops, load_arrays
from mien.core.ict_face import IctFace, mirrored_shapes, random_look, random_scene, render
from mien.core.landmarks import Landmarker
from mien.core.models import landmark_model
from mien.core.stills import StillLandmarker
from mien.core.training import action_unit_net
from mien.core.training.action_unit_net import (
    AROUND_EYE,
    DOUBLED,
    PEOPLE,
    PER_PERSON,
    PHOTOS,
    RARE,
    SEEN,
    ActionUnitNet,
    Places,
    Trainer,
    batches,
    columns_around_eyes,
    columns_around_mouth,
    cut,
    error,
    eyes_seen,
    main,
    photos,
    weights_of,
)
from mien.core.training.paths import MODELS
from mien.core.training.rasteriser import rasterise
from mien.core.training.synthesis import PICTURE_NAMES, empty_part, is_whole, load
from mien.core.units import ARKIT, EXPRESSIONS, LANDMARK_COUNT

from .training_helpers import Cut, same


def test_what_lies_beyond_what_was_wanted_is_right():
    found = torch.tensor([-0.2, 1.3, 0.5, 0.6, 0.2, 0.3])
    wanted = torch.tensor([0.0, 1.0, 0.4, 0.4, 0.4, 0.0])
    least = torch.tensor([False, False, False, True, True, False])
    torch.testing.assert_close(error(found, wanted), torch.tensor([0.0, 0.0, 0.01, 0.04, 0.04, 0.09]))
    torch.testing.assert_close(error(found, wanted, least), torch.tensor([0.0, 0.0, 0.01, 0.0, 0.04, 0.09]))


def test_batches_hold_people_beside_their_rest_and_photos_beside_none_of_their_own():
    count, first = 400, 40 * PER_PERSON
    neutral = np.arange(count) < 200
    rare = np.where(np.arange(count) >= 380, 1 / 20, 0.0)
    photo_set = {"crops": np.zeros(count), "neutral": neutral, "rare": rare}
    for rows, rest in batches(np.arange(40), photo_set, first, 20, np.random.default_rng(3)):
        assert len(rows) == len(rest) == PEOPLE * SEEN + 2 * DOUBLED + PHOTOS
        persons = rows[: PEOPLE * SEEN].reshape(PEOPLE, SEEN) // PER_PERSON
        assert (persons == persons[:, :1]).all()
        beside = np.flatnonzero(rest[: PEOPLE * SEEN] >= 0)
        assert (rest[beside] // SEEN == beside // SEEN).all()  # the same person's first picture, at rest
        assert (rest[beside] % SEEN == 0).all()
        photos = rows[PEOPLE * SEEN :] - first
        assert neutral[photos[: 2 * DOUBLED]].all()
        assert (photos[2 * DOUBLED :][:RARE] >= 380).all()
        assert len(set(photos[2 * DOUBLED :][:RARE])) == RARE


def test_an_epoch_too_short_for_all_people_does_not_always_show_the_same():
    photo_set = {"crops": np.zeros(40), "neutral": np.ones(40, bool), "rare": np.full(40, 1 / 40)}
    rng = np.random.default_rng(4)
    shown = [
        {int(p) for rows, _ in batches(np.arange(100), photo_set, 100 * PER_PERSON, 4, rng) for p in rows // PER_PERSON}
        for _ in range(8)
    ]
    everyone = set().union(*shown)
    assert sum(person < 100 for person in shown[0]) == 4 * PEOPLE
    assert everyone >= {*range(100)}


@pytest.mark.parametrize("kept", ["eyes", "mouths"])
def test_a_part_that_an_older_version_made_is_made_again(tmp_path, kept):
    path, part = tmp_path / "part0000.npz", empty_part(57, 0)
    assert not is_whole(path)
    np.savez(path, **part)
    assert is_whole(path)
    del part[kept]
    np.savez(path, **part)
    assert not is_whole(path)
    np.savez(tmp_path / "part0001.npz", **{name: values + 1 for name, values in part.items()})
    loaded = load(tmp_path, "crops", "person")
    for name, found in loaded.items():
        np.testing.assert_array_equal(found, np.concatenate([part[name], part[name] + 1]))
    with pytest.raises(SystemExit, match="run synthesis"):
        load(tmp_path, "crops", kept)


def test_an_error_counts_against_how_much_its_column_moves():
    moves = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.5, 2.0])
    weights = weights_of(moves)
    assert float(weights.mean()) == pytest.approx(1)
    torch.testing.assert_close(weights[1] / weights[::2], torch.tensor([4.0, 16.0]), rtol=0.1, atol=0)
    still = weights_of(torch.cat([moves, torch.zeros(4000, 1)], 1))
    assert float(still[3] / still[2]) == pytest.approx(100)


def test_photos_teach_what_their_expression_moves_and_what_it_leaves_alone(monkeypatch):
    names = tuple(str(name) for name in load_arrays(MODELS / "action_units.npz")["shapes"])
    labels = np.arange(len(EXPRESSIONS))
    points = np.random.default_rng(0).uniform(0, 200, (len(labels), LANDMARK_COUNT, 3)).astype(np.float32)
    faces = {
        "landmarks": points,
        "blendshapes": np.full((len(labels), len(ARKIT)), 0.3, np.float32),
        "matrix": np.repeat(np.eye(4, dtype=np.float32)[None], len(labels), 0),
    }
    monkeypatch.setattr(action_unit_net, "real_faces", lambda: (faces, {}, labels))
    told = photos(names)

    def counted(name):
        return {EXPRESSIONS[row] for row in np.flatnonzero(told["counts"][:, names.index(name)])}

    def wanted(name):
        return told["targets"][:, names.index(name)]

    everything = set(EXPRESSIONS)
    assert counted("mouthSmile_L") == everything
    np.testing.assert_allclose(wanted("mouthSmile_L"), (0.3 - 0.03) / 0.89, atol=1e-6)
    # Nothing reads a wrinkled nose or a jaw pushed forward: anger may show either.
    assert counted("noseSneer_L") == everything - {"anger", "fear"}
    assert counted("jawForward") == everything - {"anger"}
    assert wanted("jawForward").max() == 0
    sneering = wanted("noseSneer_R") > 0
    assert [EXPRESSIONS[row] for row in np.flatnonzero(sneering)] == ["disgust"]
    assert (told["least"].any(1) == sneering).all()
    assert counted("mouthPress_L") == {"neutral", "anger"}
    assert counted("cheekSquint_R") == {"neutral", "happiness"}


def test_a_fall_of_the_rate_over_no_epochs_or_more_than_all_is_refused(capsys):
    for fall in ("0", "1.5", "-0.4"):
        with pytest.raises(SystemExit):
            main(["--fall", fall])
        assert "--fall" in capsys.readouterr().err


def test_the_mouth_is_taught_what_moves_around_it_on_either_side(data):
    model = IctFace(data / "face3d" / "ict_facekit.npz")
    names = tuple(name for name in model.names if not name.startswith("Pupil"))
    columns = columns_around_mouth(names).tolist()
    taught = {names[column] for column in columns}
    assert {"jawOpen", "jawForward", "mouthSmile_L", "mouthPress_R", "mouthRollUpper", "cheekPuff_R"} <= taught
    assert not [name for name in taught if name.startswith(("brow", "eye", "cheekSquint", "cheekRaiser", "nose"))]
    assert set(mirrored_shapes(names)[columns]) == set(columns)
    assert ActionUnitNet(names).around_mouth.out_features == len(columns)


def test_each_eye_is_taught_what_moves_on_its_own_side(data):
    """The actor's left eye closes, seen as it is and mirrored."""
    model = IctFace(data / "face3d" / "ict_facekit.npz")
    names = tuple(name for name in model.names if not name.startswith("Pupil"))
    look, scene = random_look(model, np.random.default_rng(3)), random_scene(np.random.default_rng(4), turn=0.0)
    weights = np.zeros((2, len(model.names)), np.float32)
    weights[1, model.index["eyeBlink_L"]] = 1
    pictures = [
        render(model, model.express(model.neutral, w), look, scene, np.random.default_rng(0), rasterise)
        for w in weights
    ]
    with Landmarker(landmark_model()) as landmarker:
        landmarks = StillLandmarker(landmarker).find(pictures[0]).landmarks
    still, closed = (eye_crops(picture, landmarks)[None].astype(int) for picture in pictures)
    shapes = torch.from_numpy(weights[1:, [model.index[name] for name in names]])
    blink, columns = AROUND_EYE.index("eyeBlink"), columns_around_eyes(names)
    for mirrored, place in ((False, 1), (True, 0)):
        moved = [eyes_seen(torch.from_numpy(eyes), torch.tensor([mirrored])) for eyes in (still, closed)]
        changed = (moved[1] - moved[0]).abs().float().mean((0, 2, 3))
        assert changed[place] > 5 * changed[1 - place]
        taught = (shapes[:, torch.from_numpy(mirrored_shapes(names))] if mirrored else shapes)[:, columns]
        assert taught[0, :, blink].tolist() == [float(place == 0), float(place == 1)]


def test_small_pictures_show_the_same_window():
    rows, columns = slice(8, 24), slice(4, 28)
    pictures = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (2, 1, 32, 32)).astype(np.float32))
    mirrored = torch.tensor([False, True])
    small = cut(pictures, rows, columns, None, mirrored, quarters=2)
    assert small.shape == (2, 1, 8, 12)
    means = torch.nn.functional.avg_pool2d(cut(pictures, rows, columns, None, mirrored), 2)
    torch.testing.assert_close(small, means, atol=1e-5, rtol=0)


def test_the_places_of_a_small_picture_are_stretched_to_those_of_a_full_one():
    whole = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    assert torch.equal(Places(4, 6)(whole), whole.flatten(1))
    across = torch.tensor([0.0, 2.0]).expand(1, 1, 3, 2)
    stretched = Places(6, 4)(across).reshape(6, 4)
    torch.testing.assert_close(stretched, torch.tensor([0.0, 0.5, 1.5, 2.0]).expand(6, 4))


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    """A training of two short epochs on three people, the last held out, and 60 photos, all of noise."""
    mean = load_arrays(MODELS / "action_units.npz")["mean"]

    def noise(rng, arrays):
        count = len(arrays["crops"])
        for name in PICTURE_NAMES:
            arrays[name] = rng.integers(0, 256, arrays[name].shape, np.uint8)
        arrays["meshes"] = (mean + rng.normal(0, 0.05, (count, len(mean)))).astype(np.float32)
        arrays["blendshapes"] = rng.uniform(0, 1, arrays["blendshapes"].shape).astype(np.float32)
        return arrays

    part = noise(np.random.default_rng(0), {n: v[: 3 * PER_PERSON] for n, v in empty_part(57, 0).items()})
    part["person"], part["found"] = np.repeat([0, 1, 19], PER_PERSON), np.ones(3 * PER_PERSON, bool)
    part["weights"] = np.random.default_rng(1).uniform(0, 1, part["weights"].shape).astype(np.float32)
    photos = noise(np.random.default_rng(2), {n: v[:60] for n, v in empty_part(57, 0).items()})

    def photos_of(names):
        shape = (60, len(names))
        return {
            **{name: photos[name] for name in (*PICTURE_NAMES, "meshes", "blendshapes")},
            "targets": np.full(shape, 0.3, np.float32),
            "counts": np.ones(shape, np.float32),
            "least": np.zeros(shape, bool),
            "neutral": np.arange(60) < 20,
            "rare": np.where(np.arange(60) < 20, 0, 1 / 40),
        }

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # there equal is not always equal
    monkeypatch.setattr(action_unit_net, "photos", photos_of)
    monkeypatch.setattr(action_unit_net, "data_folder", lambda: data)
    folder = tmp_path / "work"
    (folder / "synthesis").mkdir(parents=True)
    np.savez(folder / "synthesis" / "part0000.npz", **part)
    monkeypatch.setattr(action_unit_net, "work_folder", lambda: folder)

    def run(name, seed=11):
        short = {"epochs": 2, "steps": 2, "rate": 2e-3, "fall": 0.4, "real": 0.5, "units": 1.0, "threads": 1}
        short |= {"small_quarters": 2, "small_epochs": 1}  # the first epoch sees pictures of half the side
        torch.seed()  # what came before must not matter
        trainer = Trainer(argparse.Namespace(**short, seed=seed, checkpoint=f"{name}.pt"))
        trainer.run()
        both = trainer.net.state_dict() | trainer.average.state_dict()  # the average's names begin with "module."
        return {name: value.clone() for name, value in both.items()}

    return run


def test_a_seed_gives_the_same_weights_again_and_after_a_cut(train, monkeypatch):
    whole = train("whole")
    assert all(bool(torch.isfinite(value).all()) for value in whole.values())
    assert same(whole, train("again"))
    assert not same(whole, train("other", seed=12))
    epoch_of, begun = Trainer._epoch, []

    def cut(self, epoch, *arguments):
        begun.append(epoch)
        if begun == [0, 1]:
            raise Cut
        return epoch_of(self, epoch, *arguments)

    monkeypatch.setattr(Trainer, "_epoch", cut)
    with pytest.raises(Cut):
        train("cut")
    assert same(whole, train("cut"))
    assert begun == [0, 1, 1]
