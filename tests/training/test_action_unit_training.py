"""How the action unit network learns: what counts as wrong, and what a batch is made of."""

import numpy as np
import torch

from mien.core.training.action_unit_net import DOUBLED, PEOPLE, PER_PERSON, PHOTOS, RARE, SEEN, batches, error


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
