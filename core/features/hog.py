"""Histograms of oriented gradients.

The written definition, which `describe` follows step by step and `reference` spells out:

1. derivatives by [-1 0 1] (`preprocess.gradients`);
2. magnitude, and orientation from 0 to 180 degrees;
3. each pixel votes its magnitude into the two nearest of `BINS` orientations, whose
   centres are at (k + 1/2) 180/BINS degrees, shared in proportion to nearness;
4. cells of `CELL` x `CELL` px do not overlap; four neighbours make a block, blocks step by
   one cell; within a block a vote is weighted by a Gaussian of sigma `SIGMA` about the
   block's centre, and shared between the nearest cells bilinearly;
5. each block is normalised to unit length, cut off at 0.2, and normalised again (L2-Hys).

References
----------
Dalal & Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ..preprocess import gradients

Array = npt.NDArray[np.float32]

BINS = 9
CELL = 8
SIGMA = CELL / 2


@functools.cache
def _descriptor(height: int, width: int):
    import cv2

    if height % CELL or width % CELL or min(height, width) < 2 * CELL:
        raise ValueError(f"picture sides must be multiples of {CELL} and at least {2 * CELL}, got {height}x{width}")
    return cv2.HOGDescriptor(
        (width, height), (2 * CELL, 2 * CELL), (CELL, CELL), (CELL, CELL), BINS, 1, SIGMA, 0, 0.2, False
    )


def length(height: int, width: int) -> int:
    """Return the number of values that describe a picture of this size."""
    return (height // CELL - 1) * (width // CELL - 1) * 4 * BINS


def describe(image: npt.NDArray[np.uint8]) -> Array:
    """Return the histograms of a grey picture, by OpenCV.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
        Sides are multiples of `CELL`.

    Returns
    -------
    ndarray of float32, shape (length(H, W),)
        Blocks column by column, in each the cells column by column, in each `BINS` values.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"image must be (H, W) uint8, got {image.shape} {image.dtype}")
    return _descriptor(*image.shape).compute(np.ascontiguousarray(image)).ravel()


def reference(image: npt.NDArray) -> Array:
    """Return what `describe` does, computed from the definition alone; slow, for tests and docs."""
    dx, dy = gradients(image)
    magnitude = np.hypot(dx, dy)
    place = np.degrees(np.arctan2(dy, dx)) % 180 / (180 / BINS) - 0.5
    lower = np.floor(place).astype(int)
    share = place - lower
    votes = np.zeros((*image.shape, BINS))
    for bins, weight in ((lower % BINS, 1 - share), ((lower + 1) % BINS, share)):
        np.put_along_axis(votes, bins[..., None], np.take_along_axis(votes, bins[..., None], 2) + weight[..., None], 2)
    votes *= magnitude[..., None]

    side = 2 * CELL
    offset = np.arange(side)
    gauss = np.exp(-((offset - CELL) ** 2) / (2 * SIGMA**2))
    # What a pixel near the block's rim would give to a cell beyond it is lost.
    shares = [np.clip(1 - np.abs(offset + 0.5 - (cell + 0.5) * CELL) / CELL, 0, 1) for cell in (0, 1)]
    cells = np.stack(shares) * gauss
    blocks = []
    for left in range(0, image.shape[1] - side + 1, CELL):
        for top in range(0, image.shape[0] - side + 1, CELL):
            block = np.einsum("ay,bx,yxk->bak", cells, cells, votes[top : top + side, left : left + side]).ravel()
            block = block / (np.sqrt(np.sum(block**2)) + 0.1 * block.size)
            block = np.minimum(block, 0.2)
            blocks.append(block / (np.sqrt(np.sum(block**2)) + 1e-3))
    return np.concatenate(blocks).astype(np.float32)
