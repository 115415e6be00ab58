"""The histograms are what they are said to be."""

import cv2
import numpy as np
import pytest

from mien.core.features.hog import BINS, describe, length, reference


def texture(seed, height=64, width=64):
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (16, 16)])
def test_opencv_follows_the_written_definition(height, width):
    picture = texture(1, height, width)
    found = describe(picture)
    assert found.shape == (length(height, width),)
    np.testing.assert_allclose(found, reference(picture), atol=5e-4)


def test_stripes_fill_one_bin():
    stripes = np.tile((np.arange(64) // 4 % 2 * 255).astype(np.uint8), (64, 1))
    cells = describe(stripes).reshape(-1, BINS)
    # Vertical stripes: orientation 0, which lies between the first and the last bin.
    assert cells[:, [0, -1]].sum() / cells.sum() > 0.99


def test_brightness_offset_drops_out():
    picture = texture(2) // 2
    np.testing.assert_allclose(describe(picture), describe(picture + 60), atol=1e-6)


def test_quarter_turn_turns_the_bins():
    picture = texture(4)
    before = describe(picture).reshape(-1, BINS).sum(0)
    after = describe(np.ascontiguousarray(np.rot90(picture))).reshape(-1, BINS).sum(0)
    # 90 degrees are four and a half bins, so a bin's votes land in the middle between two.
    smooth = (before + np.roll(before, 1)) / 2
    assert np.corrcoef(np.roll(smooth, BINS // 2), after)[0, 1] > 0.6


@pytest.mark.parametrize("shape", [(60, 64), (8, 64), (64, 64, 3)])
def test_wrong_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=r"picture sides|image must"):
        describe(np.zeros(shape, np.uint8))


def test_wrong_type_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        describe(np.zeros((64, 64), np.float32))
