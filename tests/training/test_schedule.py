"""How the learning rate runs, and how the pictures grow."""

import numpy as np

from mien.core.training.schedule import course, size_at


def test_the_rate_rises_for_an_epoch_and_falls_over_the_share_asked_for():
    for fall, level in ((0.4, 6), (0.8, 2)):
        rate = course(10, 10, fall)
        said = np.array([rate(step) for step in range(100)])
        np.testing.assert_allclose(said[9 : 10 * level], 1, atol=2e-3)
        assert said[0] == 0.1
        assert (np.diff(said[10 * level :]) < 0).all()
        assert said[-1] < 2e-3


def test_pictures_grow_in_equal_stages():
    sides = [size_at(epoch, 24, 48, 9) for epoch in range(12)]
    assert sides == [24] * 3 + [32] * 3 + [40] * 3 + [48] * 3
    assert [size_at(epoch, 40, 48, 2) for epoch in range(3)] == [40, 40, 48]
    assert {size_at(epoch, 48, 48, 2) for epoch in range(3)} == {48}
    assert size_at(0, 40, 48, 0) == 48
    assert [size_at(epoch, 2, 4, 4, step=1) for epoch in range(6)] == [2, 2, 3, 3, 4, 4]
