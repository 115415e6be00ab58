"""Draw the expression SVM's margins.

    python -m mien.core.training.figures

Needs `expression_svm` to have run, and matplotlib.
"""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np

from ..units import EXPRESSIONS
from .paths import ROOT, work_folder

mpl.use("Agg")
from matplotlib import pyplot


def main() -> int:
    """Write docs/images/expression_margins.png: per class, how far pictures lie from its boundary."""
    with np.load(work_folder() / "expression_margins.npz", allow_pickle=False) as archive:
        margins, truth = archive["margins"], archive["truth"]
    figure, axes = pyplot.subplots(2, 4, figsize=(11, 4.6), sharex=True)
    edges = np.linspace(-2.5, 2.5, 51)
    for label, (name, axis) in enumerate(zip(EXPRESSIONS, axes.flat, strict=False)):
        for rows, text, colour in ((truth != label, "all others", "#9aa3ad"), (truth == label, name, "#d1495b")):
            axis.hist(margins[rows, label], edges, density=True, alpha=0.65, label=text, color=colour)
        axis.axvline(0, color="black", linewidth=1)
        for side in (-1, 1):
            axis.axvline(side, color="black", linewidth=0.7, linestyle=":")
        axis.legend(fontsize=7, loc="upper right")
        axis.set_yticks([])
    axes.flat[-1].axis("off")
    figure.supxlabel("distance from the class's boundary, in margins (PublicTest)", fontsize=9)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "images" / "expression_margins.png", dpi=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
