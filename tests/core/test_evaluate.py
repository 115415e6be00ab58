"""The evaluation commands read what others bring and count right."""

import io
import json
import tarfile

import cv2
import numpy as np
import pytest

from mien.core import evaluate
from mien.core.datasets import BLOCKS, label_index, load_expression_set
from mien.core.errors import MienError
from mien.core.units import ACTION_UNITS, ARKIT, AU_INDEX, EXPRESSIONS


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
    for text in ("", "jawOpen\n0.5", ",".join(ARKIT), ",".join(ARKIT) + "\n" + ",".join(["x"] * 52)):
        path.write_text(text)
        with pytest.raises(MienError, match="ARKit weights"):
            evaluate.load_weights(path)
    with pytest.raises(MienError, match="cannot be opened"):
        evaluate.load_weights(tmp_path / "gone.csv")


@pytest.mark.data
def test_weights_of_a_real_take(data):
    assert evaluate.load_weights(data / "arkit" / "dao_arkit.csv").shape == (180, 52)


def test_npz_set_is_read_and_other_labels_are_counted(tmp_path):
    found = load_expression_set(write_npz(tmp_path / "small.npz"))
    assert found.name == "small"
    assert [EXPRESSIONS[i] for i in found.labels] == ["anger", "happiness", "happiness"]
    assert found.skipped == {"contempt": 1}


def test_tar_set_is_read(tmp_path):
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as archive:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        for name in "ab":
            add(f"{name}.png", cv2.imencode(".png", np.full((20, 30), 90, np.uint8))[1].tobytes())
        add("labels.csv", b"file,expression\na.png,sadness\nb.png,neutral\n")
    found = load_expression_set(path)
    assert [EXPRESSIONS[i] for i in found.labels] == ["sadness", "neutral"]
    assert found.images[0].shape == (20, 30)
    assert set(found.blocks) <= set(range(BLOCKS))


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
    with pytest.raises(MienError, match="no file"):
        load_expression_set(tmp_path / "none.npz")


@pytest.mark.parametrize(("name", "index"), [("Happy", 1), ("neutral", 0), ("sad ", 2), ("contempt", None)])
def test_labels_under_other_names(name, index):
    assert label_index(name) == index


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
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((99, 99, 3), np.uint8))
    points = np.random.default_rng(0).uniform(1, 90, (68, 2)).round(2)
    body = "\n".join(f"{x} {y}" for x, y in points)
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")
    parts = "".join(f"<part name='{i:02d}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(points))
    (tmp_path / "set.xml").write_text(
        f"<dataset><images><image file='a.png'><box top='0' left='0' width='9' height='9'>{parts}</box></image>"
        "</images></dataset>"
    )
    from_xml, from_pts = evaluate.load_landmarks(tmp_path)
    np.testing.assert_allclose(from_xml.points, points, atol=1e-4)
    np.testing.assert_allclose(from_pts.points, points - 1, atol=1e-4)


def test_folder_without_landmarks_is_refused(tmp_path):
    with pytest.raises(MienError, match="no faces"):
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


def test_labelled_photos(data):
    report = evaluate.landmarks(data / "landmarks68")
    assert report.figures["mesh_faces"] >= 19
    assert report.figures["mesh_px"] < 3
    assert report.figures["histograms_window_given_nme"] < 0.1
