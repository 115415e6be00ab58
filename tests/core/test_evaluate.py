"""The evaluation commands read what others bring and count right."""

import io
import json
import re
import shutil
import sys
import tarfile
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.core import evaluate
from mien.core.capture import open_source
from mien.core.datasets import BLOCKS, label_index, load_expression_set
from mien.core.errors import MienError
from mien.core.ict_face import IctFace
from mien.core.landmarks import POINTS68, Landmarker
from mien.core.landmarks68 import window_of
from mien.core.models import landmark_model
from mien.core.stills import StillLandmarker
from mien.core.units import ACTION_UNITS, ARKIT, AU_INDEX, EXPRESSIONS

from .face_helpers import needs_model


def write_npz(path, classes=("angry", "happy", "contempt"), labels=(0, 1, 1, 2)):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 48, 48)).astype(np.uint8)
    np.savez(path, images=images, labels=np.array(labels), classes=np.array(classes))
    return path


def test_weights_are_read_whatever_the_case_of_their_names(tmp_path):
    path = tmp_path / "take.csv"
    for rename in (str, lambda name: name[0].upper() + name[1:]):
        names = ["Timecode", *map(rename, ARKIT)]
        rows = [["00:00:01:02.5", *[f"{(i + row) / 60:.3f}" for i in range(52)]] for row in range(3)]
        path.write_text("\n".join(",".join(row) for row in [names, *rows]))
        found = evaluate.load_weights(path)
        assert found.shape == (3, 52)
        assert found[2, ARKIT.index("jawOpen")] == pytest.approx((ARKIT.index("jawOpen") + 2) / 60, abs=1e-3)
    for text, told in (
        ("", "no column EyeBlinkLeft"),
        ("jawOpen\n0.5", "no column EyeBlinkLeft"),
        (",".join(ARKIT), "no frames"),
        (",".join(ARKIT) + "\n" + ",".join(["x"] * 52), "cannot be read"),
        (",".join(ARKIT) + "\n" + ",".join(["55"] * 52), "Weights go from 0 to 1"),
    ):
        path.write_text(text)
        with pytest.raises(MienError, match=told) as error:
            evaluate.load_weights(path)
        assert path.name in error.value.message
    with pytest.raises(MienError, match="no file"):
        evaluate.load_weights(tmp_path / "gone.csv")


@pytest.mark.data
def test_weights_of_a_recording_in_which_the_face_was_lost_or_that_was_cut(data, tmp_path):
    head, *rows = (data / "arkit" / "dao_arkit.csv").read_text().splitlines()
    rows[7] = f"0,{rows[7]}"
    rows = [row if row.startswith("0,") else f"61,{row}" for row in rows]
    (tmp_path / "take.csv").write_text("\n".join([f"BlendShapeCount,{head}", *rows])[:-40])
    assert evaluate.load_weights(tmp_path / "take.csv").shape == (178, 52)


@pytest.mark.data
def test_weights_of_a_real_take(data):
    assert evaluate.load_weights(data / "arkit" / "dao_arkit.csv").shape == (180, 52)


def test_npz_set_is_read_and_other_labels_are_counted(tmp_path):
    assert len(load_expression_set(write_npz(tmp_path / "bytes.npz", classes=(b"angry", b"happy", b"contempt")))) == 3
    found = load_expression_set(write_npz(tmp_path / "small.npz"))
    assert found.name == "small"
    assert [EXPRESSIONS[i] for i in found.labels] == ["anger", "happiness", "happiness"]
    assert found.skipped == {"contempt": 1}


def test_pictures_that_another_set_has_are_left_out(tmp_path):
    whole = load_expression_set(write_npz(tmp_path / "whole.npz"))
    part = load_expression_set(write_npz(tmp_path / "part.npz", labels=(0, 1)))  # the same first two pictures
    rest = whole.without(part)
    assert len(rest) == len(whole) - 2 == 1
    assert np.array_equal(rest.images[0], whole.images[2])
    assert rest.labels.tolist() == whole.labels[2:].tolist()
    with pytest.raises(MienError, match="no picture to score"):
        evaluate.expression(tmp_path / "part.npz", without=tmp_path / "whole.npz")


def test_pictures_of_other_types_and_shapes_are_the_same(tmp_path):
    """What comes of FER2013 by way of pandas or Keras."""
    plain = load_expression_set(write_npz(tmp_path / "x.npz"))
    with np.load(tmp_path / "x.npz") as archive:
        images, labels, classes = (archive[name] for name in ("images", "labels", "classes"))
    for i, other in enumerate(
        (
            {"images": images[..., None]},
            {"images": images[:, None]},  # channels first, as torch has them
            {"images": np.repeat(images[:, None], 3, axis=1)},
            {"images": np.insert(np.repeat(images[:, None], 3, axis=1), 3, 255, axis=1)},
            {"images": np.repeat(images[..., None], 3, axis=3)},
            {"images": np.insert(np.repeat(images[..., None], 3, axis=3), 3, 255, axis=3)},  # opaque
            {"images": images.astype(np.int64)},
            {"images": images.astype(np.float32)},
            {"labels": labels[:, None]},
            {"classes": classes.astype(bytes)},
            {"ids": np.array([{}], object)},  # not read
        )
    ):
        np.savez(tmp_path / f"{i}.npz", **{"images": images, "labels": labels, "classes": classes, **other})
        found = load_expression_set(tmp_path / f"{i}.npz")
        assert found.labels.tolist() == plain.labels.tolist()
        assert np.array_equal(found.images, plain.images)


def test_coloured_pictures_become_grey_in_little_room(tmp_path):
    labels = np.zeros(100, int)
    plain = load_expression_set(write_npz(tmp_path / "x.npz", labels=labels))
    colour = np.repeat(np.array(plain.images)[..., None], 3, axis=3)
    colour[-1] = (200, 100, 50)
    np.savez(tmp_path / "x.npz", images=colour, labels=labels, classes=np.array(["angry"]))
    tracemalloc.start()
    found = load_expression_set(tmp_path / "x.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found.images[:-1], plain.images[:-1])
    assert (found.images[-1] == 124).all()
    assert peak < 3 * colour.nbytes


def encoded(image):
    return cv2.imencode(".png", image)[1].tobytes()


PICTURE = encoded(np.full((20, 30), 90, np.uint8))


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def write_tar(path, labels, *names, mode="w", more=()):
    """Write a set: the text of labels.csv, a picture under each of these names, and further files."""
    with tarfile.open(path, mode) as archive:
        for name, data in {
            **dict.fromkeys(names, PICTURE),
            **dict(more),
            "labels.csv": labels.encode(errors="surrogateescape"),
        }.items():
            add(archive, name, data)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_set_is_read(tmp_path, mode):
    path = write_tar(
        tmp_path / "photos.x", "file,expression\na.png,sadness\nb.png,neutral\n", "a.png", "b.png", mode=mode
    )
    found = load_expression_set(path)
    assert [EXPRESSIONS[i] for i in found.labels] == ["sadness", "neutral"]
    assert found.images[0].shape == (20, 30)
    assert list(found.blocks) == [0, BLOCKS // 2]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("head", ["file;expression", " File , Expression", "who,expression,file"])
def test_tables_as_other_programs_write_them(tmp_path, head, end):
    values = {"file": ("b.png", "a.png"), "expression": ("sad", "happy"), "who": ("1", "2")}
    split = ";" if ";" in head else ","
    lines = [split.join(values[name.strip().lower()][i] for name in head.split(split)) for i in (0, 1)]
    found = load_expression_set(write_tar(tmp_path / "x.tar", end.join([head, *lines, ""]), "a.png", "b.png"))
    assert [EXPRESSIONS[i] for i in found.labels] == ["sadness", "happiness"]


def test_pictures_keep_the_order_of_their_labels_and_links_are_followed(tmp_path):
    first, second = (encoded(np.full((8, 8), shade, np.uint8)) for shade in (10, 200))
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        for name, data in (
            ("a.png", first),
            ("b.png", second),
            ("labels.csv", b"file,expression\nb.png,sad\nc.png,happy\na.png,anger\n"),
        ):
            add(archive, name, data)
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(link)
    found = load_expression_set(tmp_path / "x.tgz")
    assert [EXPRESSIONS[i] for i in found.labels] == ["sadness", "happiness", "anger"]
    assert [int(image[0, 0]) for image in found.images] == [200, 10, 10]


def test_pictures_in_folders_of_a_tar_are_found(tmp_path):
    text = "\ufefffile,expression\none/a.png,sad\n./two\\a.png,happy\nb.png,anger\na.png,fear\n"
    names = ("one/a.png", "./two/a.png", "one/b.png", "a.png", "old/labels.csv")
    found = load_expression_set(write_tar(tmp_path / "x.tar", text, *names))
    assert [EXPRESSIONS[i] for i in found.labels] == ["sadness", "happiness", "anger", "fear"]
    names = [f"set/{name}" for name in names[:4]]
    found = load_expression_set(write_tar(tmp_path / "y.tar", text, *names))
    assert [EXPRESSIONS[i] for i in found.labels] == ["sadness", "happiness", "anger"]
    assert found.unreadable == ("a.png is there more than once",)


@pytest.mark.parametrize("place", ["1.png", "/set/new/1.png", "./1.png", "../new/1.png"])
def test_a_picture_is_looked_for_beside_its_table_first(tmp_path, place):
    shades = {"set/new/1.png": 10, "set/old/1.png": 200, "1.png": 200}
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, data in (
            ("set/new/labels.csv", f"file,expression\n{place},sad\n".encode()),
            *((name, encoded(np.full((8, 8), shade, np.uint8))) for name, shade in shades.items()),
        ):
            add(archive, name, data)
    assert load_expression_set(tmp_path / "x.tar").images[0].max() == 10


def test_what_cannot_be_read_of_a_tar_is_left_out_and_told(tmp_path):
    rows = "a.png,sad\nb.png,happy\nc.png,happy\nd.png,contempt\nnone.png,contempt\n"
    write_tar(tmp_path / "x.tar", f"file,expression\n{rows}", "a.png", more={"b.png": b"", "d.png": b"no picture"})
    found = load_expression_set(tmp_path / "x.tar")
    assert (len(found), found.skipped) == (1, {"contempt": 2})
    assert found.unreadable == ("c.png is missing", "b.png is not a picture")
    found = load_expression_set(write_tar(tmp_path / "y.tar", "expression\tfile\nsad\ta.png\n\nsad\n", "a.png"))
    assert (len(found), found.unreadable) == (1, ("line 4 of labels.csv lacks a file or an expression",))
    write_tar(tmp_path / "x.tar", f"file,expression\n{rows}", more={"b.png": b"", "d.png": b"no picture"})
    with pytest.raises(MienError, match=r"a\.png is missing; c\.png is missing; b\.png is not a picture\."):
        load_expression_set(tmp_path / "x.tar")


@needs_model
def test_pictures_left_out_are_in_the_report(tmp_path):
    rows = "".join(f"{i}.png,happy\n" for i in range(6))
    report = evaluate.expression(write_tar(tmp_path / "x.tar", f"file,expression\n{rows}a.png,shy\n", "0.png"))
    assert report.figures["skipped"] == {"shy": 1, "that cannot be read": 5}
    assert report.figures["unreadable"] == [f"{i}.png is missing" for i in range(1, 6)]
    text = str(report)
    assert "skipped: 1 shy, 5 that cannot be read\n" in text
    assert "unreadable: 1.png is missing; 2.png is missing; 3.png is missing; and 2 more\n" in text


def test_deep_pictures_that_hold_bytes_are_not_black(tmp_path):
    """What converters make of 8 bits: the same numbers in 16, or these spread over the range."""
    picture = np.random.default_rng(0).integers(0, 256, (9, 9)).astype(np.uint8)
    deep = picture.astype(np.uint16)
    shown = {"a.png": picture, "b.png": deep, "c.png": deep * 257, "d.png": deep << 8}
    rows = "".join(f"{name},sad\n" for name in shown)
    write_tar(tmp_path / "x.tar", f"file,expression\n{rows}", more={name: encoded(p) for name, p in shown.items()})
    for image in load_expression_set(tmp_path / "x.tar").images:
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, picture)


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        ("file,expression\na.png,sad\n", "a.png is there more than once"),
        ("file,expression\nc.png,sad\n", "c.png is missing"),
        ("file,expression\none/a.png\n", "line 2 of labels.csv lacks"),
        ("name,emotion\none/a.png,sad\n", "no columns file and expression"),
        ("file,expression\nlabels.csv,sad\n", "labels.csv is not a picture"),
        ("file,expression\none/\udce9.png,sad\n", "labels.csv is not in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_tar_is_told(tmp_path, labels, wrong):
    with pytest.raises(MienError, match=wrong):
        load_expression_set(write_tar(tmp_path / "x.tar", labels, "one/a.png", "two/a.png"))


def test_what_is_wrong_with_an_npz_is_told(tmp_path):
    images, classes = np.zeros((2, 48, 48), np.uint8), np.array(["happy", "sad"])
    for arrays, wrong in (
        ({"images": images}, "lacks classes, labels"),
        ({"images": images, "labels": [0, -1], "classes": classes}, "from 0 to 1"),
        ({"images": images, "labels": [0, 2], "classes": classes}, "from 0 to 1"),
        ({"images": images, "labels": [0, 0.9], "classes": classes}, "from 0 to 1"),
        ({"images": images, "labels": np.eye(2), "classes": classes}, "from 0 to 1"),
        ({"images": images, "labels": 1, "classes": classes}, "from 0 to 1"),
        ({"images": images[:, :0], "labels": [0, 1], "classes": classes}, "no pictures"),
        ({"images": images[..., None].repeat(2, axis=3), "labels": [0, 1], "classes": classes}, r"give \(n, H, W\) or"),
        ({"images": images.reshape(2, -1), "labels": [0, 1], "classes": classes}, r"\(2, 2304\).*give \(n, H, W\) or"),
        ({"images": images + 0.5, "labels": [0, 1], "classes": classes}, "whole numbers from 0 to 255"),
        ({"images": np.ones((2, 48, 48)), "labels": [0, 1], "classes": classes}, "whole numbers from 0 to 255"),
        ({"images": images.astype(str), "labels": [0, 1], "classes": classes}, "not numbers"),
        ({"images": images.astype("timedelta64[s]"), "labels": [0, 1], "classes": classes}, "not numbers"),
        ({"images": images, "labels": np.zeros(2, "i4,i4"), "classes": classes}, "from 0 to 1"),
        ({"images": images, "labels": [0, 1], "classes": classes.astype(object)}, "saved with pickle"),
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(MienError, match=wrong):
            load_expression_set(tmp_path / "x.npz")
    np.save(tmp_path / "one.npy", images)
    with pytest.raises(MienError, match=r"no \.npz .* a \.tar holds pictures"):
        load_expression_set(tmp_path / "one.npy")


def test_a_set_without_known_labels_is_told(tmp_path):
    path = write_npz(tmp_path / "x.npz", classes=("contempt",), labels=(0, 0))
    with pytest.raises(MienError, match="Labels that Mien does not know: contempt"):
        evaluate.expression(path)
    with pytest.raises(MienError, match="other blocks"):
        evaluate.expression(write_npz(tmp_path / "y.npz"), blocks=[25])


def test_blocks_are_chosen(tmp_path):
    labels = np.arange(40) % 2
    whole = load_expression_set(write_npz(tmp_path / "x.npz", labels=labels))
    part = whole.of_blocks((3, 19))
    rows = [6, 7, 38, 39]
    np.testing.assert_array_equal(part.labels, whole.labels[rows])
    for image, row in zip(part.images, rows, strict=True):
        np.testing.assert_array_equal(image, whole.images[row])
    assert whole.of_blocks(None) is whole


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x93NUMPY"])
def test_unreadable_sets_are_refused(tmp_path, content):
    for name in ("x.npz", "x.tar"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MienError, match="not an expression set"):
            load_expression_set(tmp_path / name)


def test_missing_set_is_refused(tmp_path):
    for read in (load_expression_set, IctFace, lambda path: evaluate.load_identities(path, None)):
        with pytest.raises(MienError, match="no file"):
            read(tmp_path / "none.npz")
        with pytest.raises(MienError, match=f"{tmp_path.name} is a folder"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "index"), [("Happy", 1), ("neutral", 0), ("sad ", 2), ("contempt", None), ("calm", None)]
)
def test_labels_under_other_names(name, index):
    assert label_index(name) == index


def test_labels_of_well_known_sets():
    order = ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger"]
    for names in (
        "NE HA SA SU AF DI AN",  # KDEF
        "NE HA SA SU FE DI AN",  # JAFFE
        "neutral happy sad suprise fear disgust angry",  # copies of FER2013
        "neutral joy sadness surprise scared disgust anger",
    ):
        assert [EXPRESSIONS[label_index(name)] for name in names.split()] == order


def test_expression_report_counts():
    truth = np.array([0, 0, 1, 1])
    probabilities = np.zeros((4, 7))
    probabilities[[0, 1, 2, 3], [0, 1, 1, 1]] = (0.9, 0.9, 0.9, 0.3)
    report = evaluate.expression_report("t", truth, probabilities, probabilities, np.ones(4, bool), {}, 0.4)
    assert report.figures["accuracy"] == pytest.approx(0.75)
    assert report.figures["sure"] == pytest.approx(0.75)
    assert report.figures["classes"]["neutral"]["recall"] == pytest.approx(0.5)
    assert report.figures["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    json.dumps(report.figures)
    assert "happiness" in str(report)


def test_accuracy_and_f1_leave_out_classes_that_are_not_there():
    scores = np.eye(7)[[0, 1, 1, 1]]
    accuracy, f1 = evaluate.accuracy_and_f1(np.array([0, 0, 1, 1]), scores)
    assert accuracy == pytest.approx(0.75)
    assert f1 == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_calibrated_probabilities_have_no_error():
    truth = np.array([0] * 7 + [1] * 3)
    said = np.tile(np.array([0.7, 0.3, 0, 0, 0, 0, 0]), (10, 1))
    assert evaluate.calibration_error(truth, said) == pytest.approx(0)


def test_landmark_files_are_read(tmp_path):
    points = np.random.default_rng(0).uniform(1, 90, (68, 2)).round(2)

    def pts(name, points):
        body = "\n".join(f"{x} {y}" for x, y in points)
        (tmp_path / name).write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")

    for name in ("a.png", "b.PNG"):
        (tmp_path / name).write_bytes(PICTURE)
    pts("a.pts", points)  # the same face as in set.xml
    pts("b.pts", points)
    pts("c.pts", points)  # has no picture
    parts = "".join(f"<part name='{i:02d}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(points))
    (tmp_path / "set.xml").write_text(
        f"<dataset><images><image file='a.png'><box top='0' left='0' width='9' height='9'>{parts}</box></image>"
        "</images></dataset>"
    )
    (from_xml, from_pts), skipped, passed, unreadable = evaluate.load_landmarks(tmp_path)
    assert not passed
    assert unreadable == ["c.pts has no picture of its name beside it"]
    assert skipped == {"without a picture": 1}
    assert (from_xml.picture.name, from_pts.picture.name) == ("a.png", "b.PNG")
    np.testing.assert_allclose(from_xml.points, points, atol=1e-4)
    np.testing.assert_allclose(from_pts.points, points - 1, atol=1e-4)
    for wrong, reason, told in (
        (
            np.where(np.arange(68)[:, None] == 3, np.nan, points),
            "whose points are no face's",
            "points that are no face's",
        ),
        (np.full((68, 2), -1), "whose points are no face's", "points that are no face's"),
        # Some not visible, or one.
        (np.where(np.arange(68)[:, None] < 9, -1, points), "whose points are no face's", "points that are no face's"),
        (np.where(np.arange(68)[:, None] == 3, -1, points), "whose points are no face's", "points that are no face's"),
        (np.where(np.arange(68)[:, None] == 3, 0, points), "whose points are no face's", "points that are no face's"),
        (points[:60], "without 68 points", "60 points, not 68"),
    ):
        pts("b.pts", wrong)
        faces, skipped, passed, unreadable = evaluate.load_landmarks(tmp_path)
        assert (len(faces), skipped) == (1, {"without a picture": 1, reason: 1})
        assert f"b.pts has {told}" in "; ".join(unreadable)
        if (wrong > 0).any():
            (other,) = passed
            assert (other.points > 0).all()
    (tmp_path / "a.pts").unlink()
    (tmp_path / "c.pts").write_text("no points")
    (tmp_path / "d.pts").touch()
    (tmp_path / "set.xml").write_text("<dataset>")
    with pytest.raises(MienError, match=r"set\.xml is no \.xml.*; c\.pts holds no pairs.*; d\.pts holds.* 68 lines"):
        evaluate.load_landmarks(tmp_path)


def test_unseen_points_of_an_xml_are_no_part_of_the_face(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    points = np.random.default_rng(0).uniform(20, 90, (68, 2)).round()
    points[5] = 0
    parts = "".join(f"<part name='{i}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(points))
    corner = "<box left='0' top='0' width='9' height='9'/>"  # of the picture, and a true one
    rows = f"<image file='a.png'><box>{parts}</box>{corner}</image><image file='gone.png'><box>{parts}</box></image>"
    (tmp_path / "set.xml").write_text(f"<images>{rows}</images>")
    face = points[np.arange(68) != 5]
    with pytest.raises(MienError, match=r"set\.xml has points that .* in a\.png; set\.xml: .*gone\.png is missing"):
        evaluate.load_landmarks(tmp_path)
    write_face(tmp_path, points + 200)
    _, skipped, passed, _ = evaluate.load_landmarks(tmp_path)
    assert skipped == {"without a picture": 1, "whose points are no face's": 1, "without 68 points": 1}
    for found, wanted in zip(passed, (face, [[0, 0], [9, 9]]), strict=True):
        np.testing.assert_array_equal(found.points, wanted)


def write_face(folder, points):
    """Write a.png and the a.pts of its face."""
    (folder / "a.png").write_bytes(PICTURE)
    body = "\n".join(f"{x + 1} {y + 1}" for x, y in points)
    (folder / "a.pts").write_text(f"{{\n{body}\n}}\n")


def test_label_files_that_cannot_be_read_are_passed_over_and_told(tmp_path):
    points = np.random.default_rng(0).uniform(1, 90, (68, 2)).round(2)
    write_face(tmp_path, points)
    (tmp_path / "b.pts").touch()
    (tmp_path / "c.xml").write_text("<dataset>")
    other = "<image name='a.png'><box label='face' xtl='1'/></image>"  # as CVAT writes them
    named = "<box left='200' top='9' width='9' height='9'><part name='nose' x='1' y='2'/></box>"
    (tmp_path / "d.xml").write_text(f"<annotations>{other}<image file='a.png'>{named}</image></annotations>")
    faces, skipped, passed, unreadable = evaluate.load_landmarks(tmp_path)
    assert [face.picture.name for face in faces] == ["a.png"]
    assert skipped == {"whose label file cannot be read": 2, "without 68 points": 1}
    assert len(passed) == 1
    assert unreadable == ["c.xml is no .xml, or damaged", "b.pts holds no pairs of numbers between braces"]


def test_pts_as_other_programs_write_them(tmp_path):
    points = np.random.default_rng(0).uniform(1, 90, (68, 2)).round(2)
    write_face(tmp_path, points)
    text = (tmp_path / "a.pts").read_text()
    (tmp_path / "a.pts").unlink()
    (tmp_path / "a.PTS").write_bytes("# José\n".encode("latin-1") + text.replace(" ", ", ").encode())
    (face,), skipped, _, unreadable = evaluate.load_landmarks(tmp_path)
    np.testing.assert_allclose(face.points, points, atol=1e-4)
    assert (skipped, unreadable) == ({}, [])


def test_a_face_labelled_twice_in_other_ways_counts_once(tmp_path):
    """Once from another folder and in whole pixels; and a neighbour is none of it."""
    points = np.random.default_rng(0).uniform(1, 90, (68, 2)).round(2)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_face(tmp_path / "images", points)
    boxes = ""
    for where in (points.round(), points + 40):
        parts = "".join(f"<part name='{i}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(where))
        boxes += f"<box>{parts}</box>"
    (tmp_path / "labels" / "all.xml").write_text(f"<images><image file='../images/a.png'>{boxes}</image></images>")
    (one, other), skipped, *_ = evaluate.load_landmarks(tmp_path)
    np.testing.assert_array_equal(one.points, points.round())
    np.testing.assert_allclose(other.points, points + 40, atol=1e-4)
    assert one.picture == other.picture == (tmp_path / "images" / "a.png").resolve()
    assert skipped == {}


def test_landmark_files_in_folders_and_twice(tmp_path):
    """As 300-W and dlib's version of it come: in folders; all faces in one .xml, and again parts of them."""
    points = np.random.default_rng(0).uniform(1, 90, (68, 2)).round(2)
    body = "\n".join(f"{x} {y}" for x, y in points)
    parts = "".join(f"<part name='{i:02d}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(points))
    for folder in ("indoor", "outdoor"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(PICTURE)
        (tmp_path / folder / "a.pts").write_text(f"{{\n{body}\n}}\n")
    faces, *_ = evaluate.load_landmarks(tmp_path)
    assert sorted(face.picture.parent.name for face in faces) == ["indoor", "outdoor"]
    for name, chosen in (("all.xml", ("indoor", "outdoor")), ("test.xml", ("indoor",))):
        rows = "".join(f"<image file='{folder}/a.png'><box>{parts}</box></image>" for folder in chosen)
        (tmp_path / name).write_text(f"<dataset><images>{rows}</images></dataset>")
    faces, skipped, *_ = evaluate.load_landmarks(tmp_path)
    assert (len(faces), skipped) == (2, {})
    (face,), *_ = evaluate.load_landmarks(tmp_path / "test.xml")
    np.testing.assert_allclose(face.points, points, atol=1e-4)


@pytest.mark.data
def test_a_box_of_a_labelled_face_is_no_other_face(data, tmp_path):
    """dlib's training.xml beside its training_with_face_landmarks.xml, and boxes beside .pts."""
    folder = data / "landmarks68"
    text = next(folder.glob("*.xml")).read_text()
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    whole, skipped, passed, _ = evaluate.load_landmarks(tmp_path)
    assert (len(whole), skipped, passed) == (20, {}, [])
    boxes = re.sub("<part [^>]*/>", "", text)
    for name in ("takeo.ppm", "breakingbad.jpg"):  # these have .pts
        (face,) = [face for face in whole if face.picture.name == name]
        (left, top), (width, height) = face.points.min(0), np.ptp(face.points, axis=0)
        box = f"<box left='{left}' top='{top}' width='{width}' height='{height}'/>"
        boxes = boxes.replace("<images>", f"<images><image file='{name}'>{box}</image>")
    (tmp_path / "boxes.xml").write_text(boxes)
    again, skipped, passed, _ = evaluate.load_landmarks(tmp_path)
    assert (len(again), skipped, passed) == (20, {}, [])
    # Two parts less, and with two corners of the box there are 68 points again.
    fewer = re.sub("<part name='0[01]'[^>]*/>", "", text, count=2)
    shutil.rmtree(tmp_path)
    shutil.copytree(folder, tmp_path, ignore=shutil.ignore_patterns("*.xml", "*.pts"))
    (tmp_path / "fewer.xml").write_text(fewer)
    faces, skipped, passed, _ = evaluate.load_landmarks(tmp_path)
    assert (len(faces), skipped, len(passed)) == (17, {"without 68 points": 1}, 1)


@pytest.mark.data
def test_sets_that_went_through_other_systems(data, tmp_path):
    """imglab on Windows writes backslashes, macOS puts ._name beside files, and folders may be called anything."""
    (tmp_path / "sub").mkdir()
    for picture in (data / "landmarks68").glob("2*.jpg"):
        shutil.copy(picture, tmp_path / "sub")
    text = next((data / "landmarks68").glob("*.xml")).read_text()
    (tmp_path / "set.xml").write_text(text.replace("file='", "file='sub\\"))
    for name in ("._set.xml", "__MACOSX/._a.pts"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X\xff")
    (tmp_path / "a.pts").mkdir()
    faces, skipped, *_ = evaluate.load_landmarks(tmp_path)
    assert (len(faces), skipped) == (18, {})


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_linked_folders_are_read_once(tmp_path):
    for folder in ("store", "set"):
        (tmp_path / folder).mkdir()
    write_face(tmp_path / "store", np.random.default_rng(0).uniform(1, 90, (68, 2)))
    (tmp_path / "set" / "lfpw").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "same").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "store" / "gone").symlink_to(tmp_path / "nowhere")
    faces, skipped, _, unreadable = evaluate.load_landmarks(tmp_path / "set")
    assert [face.picture for face in faces] == [(tmp_path / "store" / "a.png").resolve()]
    assert (skipped, unreadable) == ({}, [])


@pytest.mark.parametrize(("name", "encoding"), [("ž.png", "utf-8"), ("é.png", "utf-8"), ("é.png", "latin-1")])
def test_names_under_imglabs_declaration(tmp_path, name, encoding):
    """It declares ISO-8859-1, whatever bytes the system's names are of."""
    write_face(tmp_path, points := np.random.default_rng(0).uniform(1, 90, (68, 2)))
    (tmp_path / "a.png").rename(tmp_path / name)
    (tmp_path / "a.pts").unlink()
    parts = "".join(f"<part name='{i}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(points))
    text = f"<?xml version='1.0' encoding='ISO-8859-1'?><x><image file='{name}'><box>{parts}</box></image></x>"
    (tmp_path / "set.xml").write_bytes(text.encode(encoding))
    (face,), *_ = evaluate.load_landmarks(tmp_path)
    assert face.picture.name == name


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_landmark_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a.pts").symlink_to("/proc/self/mem")
    with pytest.raises(MienError, match=r"a\.pts cannot be read"):
        evaluate.load_landmarks(tmp_path)


@needs_model
@pytest.mark.data
def test_a_face_labelled_in_part_is_neither_found_nor_wrong(data, tmp_path):
    folder = data / "landmarks68"
    text = next(folder.glob("*.xml")).read_text()
    # A picture of three faces, all of which the detector finds.
    image = re.search(r"<image file='2008_001322\.jpg'.*?</image>", text, re.DOTALL).group()
    shutil.copy(folder / "2008_001322.jpg", tmp_path)
    for less in ("", "<part name='00'[^>]*/>"):
        chosen = re.sub(less, "", image, count=1) if less else image
        (tmp_path / "set.xml").write_text(f"<dataset><images>{chosen}</images></dataset>")
        figures = evaluate.landmarks(tmp_path).figures
        assert figures["faces"] == (2 if less else 3)
        assert figures["detector_false_alarms"] == 0


@needs_model
def test_labels_beyond_the_picture_and_damaged_pictures_are_told(tmp_path):
    write_face(tmp_path, points := np.random.default_rng(0).uniform(2, 18, (68, 2)))
    for suffix in (".pts", ".png"):
        shutil.copy(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    write_face(tmp_path, points + 200)
    figures = evaluate.landmarks(tmp_path).figures
    assert (figures["faces"], figures["skipped"]) == (1, {"whose points do not fit the picture": 1})
    assert figures["unreadable"] == ["a.png is 30 x 20, its points go from 202, 202 to 218, 218"]
    (tmp_path / "a.png").write_bytes(b"no picture")
    told = []
    figures = evaluate.landmarks(tmp_path, lambda done, total: told.append((done, total))).figures
    assert (figures["faces"], figures["skipped"]) == (1, {"whose picture cannot be read": 1})
    assert figures["unreadable"] == ["a.png is not a picture that can be read"]
    assert [row["face"] for row in figures["each"]] == ["b.png 1"]
    assert told[-1] == (2, 2)
    (tmp_path / "b.png").unlink()
    with pytest.raises(MienError, match=r"b\.pts has no picture.*; a\.png is not a picture"):
        evaluate.landmarks(tmp_path)


@needs_model
@pytest.mark.data
def test_labels_of_a_picture_of_another_size_are_not_scored(data, tmp_path):
    folder = data / "landmarks68"
    picture = cv2.imread(str(folder / "takeo.ppm"))
    shutil.copy(folder / "takeo.pts", tmp_path / "a.pts")
    cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(picture, None, fx=0.5, fy=0.5))
    with pytest.raises(MienError, match=r"1 whose points do not fit.*a\.png is 75 x 112, its points go .* 125, 172"):
        evaluate.landmarks(tmp_path)
    (tmp_path / "a.pts").unlink()
    # Of a larger one its points would lie within: there the .xml says what size it was. Its three faces are found.
    text = next(folder.glob("*.xml")).read_text()
    image = re.search(r"<image file='2008_001322\.jpg'.*?</image>", text, re.DOTALL).group()
    boxes = image.replace("2008_001322.jpg", "b.png").replace("width='500' height='375'", "", 1)
    large = cv2.resize(cv2.imread(str(folder / "2008_001322.jpg")), None, fx=1.5, fy=1.5)
    for name in ("2008_001322.jpg", "b.png"):
        cv2.imwrite(str(tmp_path / name), large)
    (tmp_path / "set.xml").write_text(f"<dataset>{image}</dataset>")
    with pytest.raises(MienError, match=r"2008_001322\.jpg is 750 x 562, where it was labelled 500 x 375"):
        evaluate.landmarks(tmp_path)
    shutil.copy(folder / "2008_001322.jpg", tmp_path / "b.png")
    first = re.search(r"<image.*?</box>", boxes, re.DOTALL).group()
    wrong = re.sub(r"(?<= [xy]=')", "9", "".join(re.findall(r"<box.*?</box>", boxes, re.DOTALL)[1:]))
    (tmp_path / "set.xml").write_text(f"<dataset>{first}{wrong}</image></dataset>")
    figures = evaluate.landmarks(tmp_path).figures
    # What is found there may be theirs.
    assert (figures["faces"], figures["detector_recall"], figures["detector_false_alarms"]) == (1, 1, 0)
    assert figures["skipped"] == {"whose points do not fit the picture": 2}


@needs_model
@pytest.mark.data
def test_a_face_with_enough_room_is_found_without_a_margin(data):
    """The detector loses this one, a fifth as wide as the picture, where a margin makes it smaller still."""
    with open_source(data / "video" / "woman2.mp4") as source, Landmarker(landmark_model()) as landmarker:
        stills, picture = StillLandmarker(landmarker), next(iter(source)).image
        wanted = stills.find(picture).landmarks[POINTS68, :2]
        found = evaluate.find_in_grey(stills, cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    assert np.abs(found.landmarks[POINTS68, :2] - wanted).max() < 5


@needs_model
@pytest.mark.data
def test_points_of_a_small_face_lie_where_those_of_a_large_one_do(data):
    with open_source(data / "video" / "d10.mp4") as source, Landmarker(landmark_model()) as landmarker:
        stills, picture = StillLandmarker(landmarker), next(iter(source)).image
        wanted = (stills.find(picture).landmarks[POINTS68, :2] + 0.5) / 4 - 0.5
        small = cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        found = evaluate._mesh_around(stills, small, window_of(wanted))
        x, y, side, _ = np.rint(window_of(wanted)).astype(int)
        tight = cv2.cvtColor(small[y : y + side, x : x + side], cv2.COLOR_RGB2GRAY)
        in_grey = evaluate.find_in_grey(stills, tight).landmarks[POINTS68, :2] + [x, y]
    for points in (found, in_grey):
        assert np.abs((points - wanted).mean(0)).max() < 0.2


def test_folder_without_landmarks_is_refused(tmp_path):
    with pytest.raises(MienError, match="no pictures with 68 points"):
        evaluate.load_landmarks(tmp_path)
    with pytest.raises(MienError, match="no folder"):
        evaluate.load_landmarks(tmp_path / "none")


def test_units_report_compares_estimators():
    rng = np.random.default_rng(0)
    truth = np.zeros((50, len(ACTION_UNITS)))
    truth[:, AU_INDEX["AU26"]] = rng.uniform(0, 1, 50)
    report = evaluate.units_report(truth, {"mien": truth, "blendshapes": np.zeros_like(truth)})
    assert report.figures["channels"]["JawOpen"]["mien_pcc"] == pytest.approx(1)
    assert report.figures["channels"]["AU26"]["blendshapes_pcc"] == 0
    assert report.figures["mien_units_mae"] == pytest.approx(0, abs=1e-6)


def test_people_without_a_rest_count_where_none_is_needed():
    rng = np.random.default_rng(0)
    truth = np.zeros((50, len(ACTION_UNITS)))
    truth[:, AU_INDEX["AU26"]] = rng.uniform(0, 1, 50)
    beside = truth.copy()
    beside[:20] = np.nan
    plain = truth.copy()
    plain[:20] = 0
    channels = evaluate.units_report(truth, {"plain": plain, "beside": beside}).figures["channels"]
    for name in ("JawOpen", "AU26"):
        assert channels[name]["beside_pcc"] == pytest.approx(1)
        assert channels[name]["plain_pcc"] < 0.9
    nobody = evaluate.units_report(truth, {"beside": np.full_like(truth, np.nan)}).figures
    assert np.isnan(nobody["channels"]["AU26"]["beside_mae"])


@pytest.mark.data
def test_identities_are_read_as_what_they_are(data, tmp_path):
    model = IctFace(data / "face3d" / "ict_facekit.npz")
    weights = np.random.default_rng(5).normal(0, 0.7, 80).astype(np.float32)
    head = model.head(weights)
    for arrays in (
        {"identity": weights},
        {"weights": weights[None]},
        {"identity": head},
        {"x": (head - model.neutral)[None]},
        {"identities": weights, "names": np.array([{}], object)},  # not read
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        (found,) = evaluate.load_identities(tmp_path / "x.npz", model)
        np.testing.assert_allclose(found, head, atol=1e-4)
    for scale in (0.005, 0.2, 0.5, 5):  # metres, inches, centimetres, millimetres
        np.savez(tmp_path / "x.npz", identity=np.stack([head, head * scale]))
        with pytest.raises(MienError, match=r"Identity 1 of x\.npz .* a head is about 34 high"):
            evaluate.load_identities(tmp_path / "x.npz", model)
    for wrong in (head[:, [0, 2, 1]] / 200, head[:, [0, 2, 1]], weights * 1e6, (head - model.neutral) * 200):
        np.savez(tmp_path / "x.npz", identity=wrong)
        with pytest.raises(MienError, match="Identity 0"):
            evaluate.load_identities(tmp_path / "x.npz", model)
    for moved in (
        head + np.float32([0, 10, 0]),
        head - head.mean(0) + 60,
        head - model.neutral + np.float32([0, 0, 9]),
    ):
        np.savez(tmp_path / "x.npz", identity=moved)
        (found,) = evaluate.load_identities(tmp_path / "x.npz", model)
        np.testing.assert_allclose(found - found.mean(0), head - head.mean(0), atol=1e-4)
        np.testing.assert_allclose(found.mean(0), model.neutral.mean(0), atol=1e-4)
    for turn in ([-1, 1, 1], [-1, 1, -1], [1, -1, -1]):
        np.savez(tmp_path / "x.npz", identity=np.stack([head, head * np.float32(turn)]))
        with pytest.raises(MienError, match=r"Identity 1 of x\.npz is mirrored, or turned"):
            evaluate.load_identities(tmp_path / "x.npz", model)
    np.savez(tmp_path / "x.npz", identity=np.stack([head - model.neutral, np.zeros_like(head)]) / 200)
    with pytest.raises(MienError, match=r"offsets of x\.npz move no vertex by more than 0\.01"):
        evaluate.load_identities(tmp_path / "x.npz", model)
    # The mode that makes a face larger is the offset that is most like a head.
    np.savez(tmp_path / "x.npz", identity=np.stack([-model.identity[0], np.zeros_like(model.neutral), head]))
    found = evaluate.load_identities(tmp_path / "x.npz", model)
    np.testing.assert_allclose(found, [model.neutral - model.identity[0], model.neutral, head], atol=1e-4)
    np.savez(tmp_path / "x.npz", expression=np.zeros((5, 57)), weights=weights[None])
    with pytest.raises(MienError, match="it holds expression, weights"):
        evaluate.load_identities(tmp_path / "x.npz", model)
    for wrong in (np.zeros(3, "f4,f4"), weights * 1j):
        np.savez(tmp_path / "x.npz", identity=wrong)
        with pytest.raises(MienError, match="not numbers"):
            evaluate.load_identities(tmp_path / "x.npz", model)


@pytest.mark.data
def test_bases_that_do_not_fit_are_told(data, tmp_path):
    with np.load(data / "face3d" / "ict_facekit.npz") as archive:
        arrays = dict(archive)
    for wrong, told in (
        ({"faces": arrays["faces"][:, :3]}, "faces has shape"),
        ({"neutral": arrays["neutral"][:9409]}, "neutral has shape"),
        ({"faces": arrays["faces"] + 9}, "faces name vertices"),
        ({"expression_names": np.char.replace(arrays["expression_names"], "eyeLookUp", "look")}, "eyeLookUp_L"),
        ({"expression": arrays["expression"][:50]}, "expression has shape"),
        ({"faces": arrays["faces"] + 0.5}, "faces are not whole numbers"),
        ({"faces": arrays["faces"].astype(str)}, "faces are not whole numbers"),
        ({"faces": None}, "it lacks faces"),
    ):
        chosen = {name: array for name, array in {**arrays, **wrong}.items() if array is not None}
        np.savez(tmp_path / "x.npz", **chosen)
        with pytest.raises(MienError, match=told):
            IctFace(tmp_path / "x.npz")


@pytest.mark.data
def test_a_base_that_other_programs_saved_is_the_same(data, tmp_path):
    path = data / "face3d" / "ict_facekit.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    other = {
        "faces": arrays["faces"].astype(np.float64),
        "expression_names": arrays["expression_names"].astype(bytes),
        "meta": np.array([{}], object),  # not read
    }
    np.savez(tmp_path / "x.npz", **{**arrays, **other})
    plain, found = IctFace(path), IctFace(tmp_path / "x.npz")
    assert found.names == plain.names
    assert found.triangles.dtype == np.int32
    np.testing.assert_array_equal(found.triangles, plain.triangles)


def test_correlation_is_pearsons():
    a, b = np.random.default_rng(0).normal(size=(2, 40, 3))
    b[:, 2] = 0.5
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)]
    np.testing.assert_allclose(evaluate.correlation(a, b), [*expected, 0], atol=1e-12)


@needs_model
@pytest.mark.data
def test_labelled_photos(data):
    report = evaluate.landmarks(data / "landmarks68")
    assert report.figures["mesh_faces"] >= 19
    assert report.figures["mesh_px"] < 3
    assert report.figures["histograms_window_given_nme"] < 0.085
    assert report.figures["detector_recall"] >= 0.7
    assert report.figures["detector_false_alarms"] <= 2
    # Those that the histograms find are the easier ones.
    assert report.figures["mesh_where_histograms_px"] < report.figures["histograms_px"]
    assert report.figures["mesh_where_histograms_faces"] <= report.figures["histograms_faces"]


@needs_model
@pytest.mark.data
def test_real_expressions_are_told_apart(data, tmp_path):
    with np.load(data / "expression" / "fer2013_publictest.npz", allow_pickle=False) as archive:
        classes = [str(name) for name in archive["classes"]]
        rows = np.concatenate([np.flatnonzero(archive["labels"] == i)[:12] for i in range(len(classes))])
        np.savez(tmp_path / "few.npz", images=archive["images"][rows], labels=archive["labels"][rows], classes=classes)
    figures = evaluate.expression(tmp_path / "few.npz").figures
    assert figures["pictures"] == 84
    assert figures["accuracy"] > 0.5  # by chance 0.14
    assert figures["mesh_found"] > 0.8
    assert figures["classes"]["happiness"]["recall"] > 0.6
    assert figures["classes"]["surprise"]["recall"] > 0.5


@needs_model
@pytest.mark.data
def test_rendered_people_are_read_better_than_by_blendshapes(data, tmp_path):
    np.savez(tmp_path / "people.npz", identity=np.random.default_rng(5).normal(0, 0.7, (3, 80)))
    base = data / "face3d" / "ict_facekit.npz"
    figures = evaluate.units(tmp_path / "people.npz", base).figures
    assert (figures["identities"], figures["pictures"]) == (3, 36)
    assert figures["face_found"] > 0.9
    for rest in ("", "_rest"):
        assert figures[f"mien{rest}_units_pcc"] > max(0.6, figures[f"blendshapes{rest}_units_pcc"] + 0.1)
        assert figures[f"mien{rest}_units_mae"] < 0.5 * figures[f"blendshapes{rest}_units_mae"]
    np.savez(tmp_path / "wrong.npz", identity=np.zeros((3, 81)))
    with pytest.raises(MienError, match="identities of shape"):
        evaluate.units(tmp_path / "wrong.npz", base)
    for nothing in (np.full((2, 80), np.nan), np.zeros((0, 26719, 3))):
        np.savez(tmp_path / "wrong.npz", identity=nothing)
        with pytest.raises(MienError, match="holds no identities"):
            evaluate.units(tmp_path / "wrong.npz", base)
