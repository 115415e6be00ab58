"""Labels are judged at a steady rate and held; expressions of one's own are learnt beside it."""

from __future__ import annotations

import sys
import threading
import time
from unittest.mock import Mock

import numpy as np
import pytest

from mien.core.actor import MAX_OWN, Actor
from mien.core.capture import open_source
from mien.core.errors import MienError
from mien.core.expression import FEATURES, UNSURE, ExpressionClassifier, PersonalClasses
from mien.core.files import actor_file
from mien.core.labelling import FORGET, INTERVAL, RECENT, Labeller
from mien.core.landmarks import Face, Landmarker
from mien.core.models import landmark_model
from mien.core.units import ARKIT, EXPRESSIONS, LANDMARK_COUNT

from .face_helpers import needs_model

IMAGE = np.zeros((8, 8, 3), np.uint8)


def face_of(mood: float) -> Face:
    """A face whose first blendshape says what it feels."""
    shapes = np.zeros(len(ARKIT), np.float32)
    shapes[0] = mood
    return Face((8, 8), np.zeros((LANDMARK_COUNT, 3), np.float32), shapes, np.eye(4, dtype=np.float32))


HAPPY, ANGRY, OWN = face_of(0.0), face_of(0.5), face_of(1.0)


class Classifier:
    """Reads the mood from the face, with a little noise; counts."""

    def __init__(self):
        self.asked = 0
        self.judged = []
        self.gate = threading.Event()
        self.gate.set()
        self._rng = np.random.default_rng(0)

    def read(self, face, image):
        self.asked += 1
        self.gate.wait(20.0)
        self.judged.append(threading.current_thread())
        features = self._rng.normal(0, 0.05, FEATURES).astype(np.float32)
        features[int(face.blendshapes[0] * 2) :: 3] += 1.0
        result = np.full(len(EXPRESSIONS), 0.02, np.float32)
        result[EXPRESSIONS.index("anger" if features[1] > 0.5 else "happiness")] = 0.88
        return features, result


@pytest.fixture
def classifier():
    return Classifier()


@pytest.fixture
def labeller(classifier):
    labeller = Labeller(classifier)
    yield labeller
    labeller.close()


@pytest.fixture
def threaded(classifier):
    labeller = Labeller(classifier, threaded=True)
    yield labeller
    labeller.close()


def play(labeller, face, seconds, start=0.0, fps=30.0):
    """Show a face for some time; returns the labels and the time after."""
    times = start + np.arange(round(seconds * fps)) / fps
    return [labeller(moment, face, IMAGE) for moment in times], start + len(times) / fps


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.mark.parametrize(("fps", "every"), [(24, 4), (25, 4), (29.97, 5), (30, 5), (60, 10), (5, 1)])
def test_one_frame_in_so_many_is_judged_and_its_label_stands_for_the_rest(labeller, classifier, fps, every):
    labels, _ = play(labeller, HAPPY, 4.0, fps=fps)
    assert len(classifier.judged) == pytest.approx(len(labels) / every, abs=1)
    assert {label.expression for label in labels} == {"happiness"}
    assert all(label.probabilities[EXPRESSIONS.index("happiness")] > 0.8 for label in labels)


def test_the_same_film_gives_the_same_labels():
    runs = []
    for _ in range(2):
        labeller = Labeller(Classifier())
        labels, after = play(labeller, HAPPY, 1.0)
        runs.append(labels + play(labeller, ANGRY, 1.0, after)[0])
    assert [label.expression for label in runs[0]] == [label.expression for label in runs[1]]
    assert runs[0][-1].expression == "anger"


def test_without_a_face_there_is_no_label_and_a_short_loss_forgets_nothing(labeller, classifier):
    _, after = play(labeller, HAPPY, 1.0)
    lost = labeller(after, None, IMAGE)
    assert (lost.expression, lost.probabilities.any(), lost.own) == ("", False, "")
    assert labeller.label.expression == ""
    assert labeller(after + 0.1, HAPPY, IMAGE).expression == "happiness"
    # A face after a longer loss may be another one: it is judged at once and by itself.
    count = len(classifier.judged)
    back = labeller(after + 0.2 + FORGET, ANGRY, IMAGE)
    assert (back.expression, len(classifier.judged)) == ("anger", count + 1)
    assert back.probabilities[EXPRESSIONS.index("anger")] == pytest.approx(0.88)


def test_a_thread_judges_and_no_frame_waits(threaded, classifier):
    classifier.gate.clear()
    first, _ = play(threaded, HAPPY, 1.0)
    assert classifier.judged == []
    assert first[0].expression == ""
    classifier.gate.set()
    until(lambda: threaded.label.expression == "happiness")
    assert threading.current_thread() not in classifier.judged
    # Of what came meanwhile the newest alone was worth a judgement.
    time.sleep(0.5)
    assert len(classifier.judged) <= 2
    threaded.close()
    threaded.close()


def test_a_new_face_stays_new_when_its_first_frame_was_never_judged(threaded, classifier):
    threaded(0.0, HAPPY, IMAGE)
    until(lambda: threaded.label.expression == "happiness")
    # While the old face is judged once more, a second frame of the new one takes the place of its first.
    classifier.gate.clear()
    threaded(INTERVAL, HAPPY, IMAGE)
    until(lambda: classifier.asked == 2)
    back = INTERVAL + FORGET + 0.01
    threaded(back, ANGRY, IMAGE)
    threaded(back + INTERVAL, ANGRY, IMAGE)
    classifier.gate.set()
    until(lambda: threaded.label.expression == "anger")
    assert len(classifier.judged) == 3
    assert threaded.label.probabilities[EXPRESSIONS.index("anger")] == pytest.approx(0.88)


def test_a_thread_that_fails_says_so_and_labels_stop(threaded, classifier, monkeypatch):
    monkeypatch.setattr(classifier, "read", lambda face, image: 1 / 0)
    threaded(0.0, HAPPY, IMAGE)
    until(lambda: threaded.trouble is not None)
    assert "ZeroDivisionError" in threaded.trouble.message
    assert threaded(1.0, HAPPY, IMAGE).expression == ""


def test_a_lesson_ends_with_what_stopped_the_labels(threaded, classifier, monkeypatch, tmp_path):
    threaded.follow(Actor(tmp_path / "a.npz"))
    threaded.learn("smirk", 1.0)
    monkeypatch.setattr(classifier, "read", lambda face, image: 1 / 0)
    threaded(0.0, HAPPY, IMAGE)
    until(lambda: threaded.look_after() or threaded.lesson.state == "failed")
    assert threaded.lesson.error is threaded.trouble


# --- expressions of one's own


def teach(labeller, face, name, start, seconds=1.0):
    labeller.learn(name, seconds)
    _, after = play(labeller, face, seconds + 0.2, start)
    return after


def test_an_expression_is_learnt_told_apart_and_kept(tmp_path, labeller, classifier):
    path = tmp_path / "actors" / "Zoë.npz"
    labeller.follow(Actor(path))
    _, after = play(labeller, HAPPY, 2.0)
    assert not labeller.knows_rest
    began = time.thread_time()
    after = teach(labeller, OWN, "smirk", after)
    assert time.thread_time() - began < 2.0
    assert (labeller.lesson.name, labeller.lesson.state, labeller.lesson.share) == ("smirk", "done", 1.0)
    assert (labeller.names, labeller.knows_rest) == (("smirk",), True)
    labels, after = play(labeller, OWN, 1.0, after)
    assert labels[-1].own == "smirk"
    assert labels[-1].expression in (*EXPRESSIONS, UNSURE)
    labels, after = play(labeller, HAPPY, 1.0, after)
    assert labels[-1].own == ""
    after = teach(labeller, ANGRY, "scowl", after)

    again = Labeller(classifier)
    again.follow(Actor(path))
    assert again.names == ("smirk", "scowl")
    for face, own in ((OWN, "smirk"), (ANGRY, "scowl"), (HAPPY, "")):
        labels, after = play(again, face, 1.0, after)
        assert labels[-1].own == own
    again.forget("smirk")
    assert Actor(path).names == ("scowl",)
    again.follow(None)
    assert (again.names, play(again, ANGRY, 1.0, after)[0][-1].own) == ((), "")
    assert [file.name for file in path.parent.iterdir()] == ["Zoë.npz"]


def test_one_odd_judgement_changes_nothing(tmp_path, labeller):
    labeller.follow(Actor(tmp_path / "a.npz"))
    _, after = play(labeller, HAPPY, 2.0)
    after = teach(labeller, OWN, "smirk", after)
    _, after = play(labeller, HAPPY, 1.0, after)
    labels, after = play(labeller, OWN, INTERVAL, after)
    labels += play(labeller, HAPPY, 1.0, after)[0]
    assert {label.own for label in labels} == {""}


def test_rest_can_be_shown_first_and_is_needed(tmp_path, labeller):
    labeller.follow(Actor(tmp_path / "a.npz"))
    after = teach(labeller, OWN, "smirk", 0.0)
    assert (labeller.lesson.state, labeller.lesson.error.code) == ("failed", "rest-unknown")
    assert labeller.names == ()
    after = teach(labeller, HAPPY, Actor.REST, after)
    assert (labeller.lesson.state, labeller.knows_rest, labeller.names) == ("done", True, ())
    after = teach(labeller, OWN, "smirk", after)
    assert play(labeller, OWN, 1.0, after)[0][-1].own == "smirk"


def test_a_lesson_without_a_face_or_an_actor_is_given_up(tmp_path, labeller, monkeypatch):
    labeller.learn("smirk", 1.0)
    assert (labeller.lesson.state, labeller.lesson.error.code) == ("failed", "actor-none")
    labeller.follow(Actor(tmp_path / "a.npz"))
    monkeypatch.setattr("mien.core.labelling._PATIENCE", -0.99)
    labeller.learn("smirk", 1.0)
    assert labeller.lesson.state == "running"
    until(lambda: labeller.look_after() or labeller.lesson.state != "running")
    assert (labeller.lesson.state, labeller.lesson.error.code) == ("failed", "lesson-no-face")


def test_what_cannot_be_learnt_is_told_in_words(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rest, own = rng.normal(0, 1, (2, RECENT, FEATURES)).astype(np.float32)
    actor = Actor(tmp_path / "a.npz")
    actor.learn("smirk", list(own), list(rest))
    with pytest.raises(MienError, match="Too few frames"):
        actor.learn("short", list(own[:3]))
    with pytest.raises(MienError, match="no name"):
        actor.learn("  ", list(own))
    for i in range(1, MAX_OWN):
        actor.learn(f"{i}", list(own[i : i + 5]))
    with pytest.raises(MienError, match="already"):
        actor.learn("one more", list(own))
    actor.learn("smirk", list(own))  # one that is known is replaced
    actor.learn(Actor.REST, list(rest))  # and so is the resting face
    assert len(actor.names) == MAX_OWN
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(MienError, match="cannot be saved"):
        Actor(blocked / "a.npz").learn("smirk", list(own), list(rest))
    # A lesson that cannot be saved leaves the file, and nothing beside it.
    before = actor.path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(MienError, match="cannot be saved"):
        Actor(actor.path, afresh=True).learn("smirk", list(own), list(rest))
    assert actor.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "file"]


def test_a_file_of_other_models_or_damaged_is_refused_and_can_be_begun_anew(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rest, own = rng.normal(0, 1, (2, 30, FEATURES)).astype(np.float32)
    path = tmp_path / "a.npz"
    Actor(path).learn("smirk", list(own), list(rest))
    with monkeypatch.context() as patch:
        patch.setattr("mien.core.actor.fingerprint", lambda: "another")
        with pytest.raises(MienError, match="another version") as caught:
            Actor(path)
        assert "smirk" in caught.value.hint
    with monkeypatch.context() as patch:
        patch.setattr("mien.core.actor.MAX_OWN", 0)
        with pytest.raises(MienError, match="more than"):
            Actor(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MienError, match="cannot be read") as caught:
        Actor(path)
    assert "Record" in caught.value.hint
    anew = Actor(path, afresh=True)
    anew.learn("grin", list(own), list(rest))
    assert Actor(path).names == ("grin",)


def test_what_a_lesson_replaces_is_kept_beside_it(tmp_path):
    rng = np.random.default_rng(0)
    rest, own = rng.normal(0, 1, (2, 30, FEATURES)).astype(np.float32)
    path = tmp_path / "J. Doe.npz"
    for content in (b"of another time", b"of yet another"):
        path.write_bytes(content)
        actor = Actor(path, afresh=True)
        actor.learn("grin", list(own), list(rest))
        actor.learn("smirk", list(own[::-1]))
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file != path}
    assert kept == {"J. Doe.old1": b"of another time", "J. Doe.old2": b"of yet another"}
    assert Actor(path).names == ("grin", "smirk")


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_a_link_to_an_actors_file_stays_one(tmp_path):
    rng = np.random.default_rng(0)
    rest, own = rng.normal(0, 1, (2, 30, FEATURES)).astype(np.float32)
    path, link = tmp_path / "J. Doe.npz", tmp_path / "Linked.npz"
    Actor(path).learn("grin", list(own), list(rest))
    link.symlink_to(path)
    Actor(link).learn("pout", list(own), list(rest))
    assert link.is_symlink()
    assert Actor(path).names == ("grin", "pout")
    Actor(link, afresh=True).learn("wink", list(own), list(rest))
    assert link.is_symlink()
    assert Actor(path).names == ("wink",)
    assert PersonalClasses.load(tmp_path / "J. Doe.old1").names == ["grin", "pout"]


def test_a_file_with_any_byte_wrong_is_refused_in_words_or_read(tmp_path):
    """What is wrong may be the archive, a compressed stream or a header within: each has errors of its own."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    Actor(path).learn("smirk", list(rng.normal(0, 1, (6, FEATURES))), list(rng.normal(0, 1, (6, FEATURES))))
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            Actor(path)
        except MienError:
            refused += 1
    assert refused > len(whole) / 7 / 2


def test_a_lesson_that_fails_teaches_nothing(tmp_path):
    rng = np.random.default_rng(0)
    actor = Actor(tmp_path / "a.npz")
    with pytest.raises(MienError, match="Too few frames"):
        actor.learn("smirk", list(rng.normal(0, 1, (3, FEATURES))), list(rng.normal(0, 1, (9, FEATURES))))
    assert (actor.knows_rest, actor.names) == (False, ())


def test_a_lesson_that_could_not_be_read_again_is_refused(tmp_path):
    """In the file it would take the others with it."""
    path = tmp_path / "a.npz"
    good, rest = np.random.default_rng(0).normal(0, 1, (2, 9, FEATURES))
    odd = np.where(np.arange(FEATURES) == 7, np.nan, good)
    for bad in (odd, good * 1e6, good[:, :100]):
        for lesson in ((bad, rest), (good, bad)):
            actor = Actor(path)
            with pytest.raises(ValueError, match="features must be finite"):
                actor.learn("grin", *lesson)
            assert (actor.knows_rest, actor.names) == (False, ())
    actor.learn("smirk", good, rest)
    with pytest.raises(ValueError, match="features must be finite"):
        actor.learn("grin", odd)
    assert actor.names == Actor(path).names == ("smirk",)


def test_time_without_the_face_is_no_part_of_a_lesson(tmp_path, labeller):
    labeller.follow(Actor(tmp_path / "a.npz"))
    _, after = play(labeller, HAPPY, 2.0)
    labeller.learn("smirk", 1.0)
    _, after = play(labeller, OWN, 0.5, after)
    labeller(after, None, IMAGE)
    _, after = play(labeller, OWN, 0.2, after + 2.0)
    assert (labeller.lesson.state, labeller.lesson.share) == ("running", pytest.approx(0.7, abs=0.1))
    play(labeller, OWN, 0.5, after)
    assert labeller.lesson.state == "done"


def test_names_become_file_names():
    assert actor_file("Zoë / take 2") == "Zoë _ take 2.npz"
    with pytest.raises(MienError, match="no name"):
        actor_file(" .. ")


@needs_model
@pytest.mark.data
def test_a_real_face_is_labelled_and_a_look_of_its_own_learnt(data, tmp_path):
    """The shipped models on a real clip: a gasp is learnt from some of its frames and found in others."""
    classifier = ExpressionClassifier()
    with open_source(data / "video" / "d10.mp4") as source, Landmarker(landmark_model()) as landmarker:
        shots = [
            (frame, landmarker.detect(frame.image, frame.time)) for frame, _ in zip(source, range(220), strict=False)
        ]
    labeller = Labeller(classifier)
    labels = [labeller(frame.time, face, frame.image) for frame, face in shots]
    shown = [label.expression for label in labels]
    smile = [ARKIT.index(f"mouthSmile{side}") for side in ("Left", "Right")]
    smiles = [label for (_, face), label in zip(shots, labels, strict=True) if face.blendshapes[smile].min() > 0.55]
    assert len(smiles) > 10
    assert np.mean([label.expression == "happiness" for label in smiles]) > 0.8
    assert shown.count("surprise") > 20  # the gasps
    assert all(abs(label.probabilities.sum() - 1) < 1e-3 for label in labels)

    jaw = ARKIT.index("jawOpen")
    gasps = [shot for shot in shots if shot[1].blendshapes[jaw] > 0.4]
    others = [shot for shot in shots if shot[1].blendshapes[jaw] < 0.1]
    assert min(len(gasps), len(others)) > 20
    features = [[classifier.features(face, frame.image) for frame, face in group] for group in (gasps, others)]
    actor = Actor(tmp_path / "actor.npz")
    began = time.thread_time()
    actor.learn("gasp", features[0][::2], features[1][::2])
    assert time.thread_time() - began < 2.0
    assert np.mean([actor.label(one) == "gasp" for one in features[0][1::2]]) > 0.8
    assert np.mean([actor.label(one) == "" for one in features[1][1::2]]) > 0.8


def test_names_can_be_asked_for_while_another_thread_learns(tmp_path, monkeypatch):
    """A live session asks for them in every step, the lesson ends on the label's thread."""
    actor, features, failed = Actor(tmp_path / "Zoë.npz"), np.zeros((5, FEATURES), np.float32), []
    monkeypatch.setattr(actor, "_save", lambda: None)
    actor.learn(actor.REST, features)
    monkeypatch.setattr(actor._classes, "_fit", lambda: None)
    done = threading.Event()

    def ask():
        try:
            while not done.is_set():
                assert len(actor.names) <= 10
        except RuntimeError as error:
            failed.append(error)

    asking, interval = threading.Thread(target=ask), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        asking.start()
        for i in range(5000):
            actor.learn(str(i % 10), features)
            actor.forget(str((i + 5) % 10))
    finally:
        sys.setswitchinterval(interval)
        done.set()
        asking.join()
    assert not failed
