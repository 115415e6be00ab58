"""Enter the trained weights in models/models.json, with size and SHA-256.

python -m mien.core.training.catalogue
"""

from __future__ import annotations

import hashlib
import json
import sys

from .paths import MODELS

UNITS_CARD, EXPRESSION_CARD, POINTS_CARD = "action_unit_net-action_units", "expression_net-expression", "landmarks68"
"""Headings of the cards in docs/models.md, as links name them."""

ENTRIES = {
    "action_unit_net": ("action_unit_net.onnx", "128 features of an aligned 112 x 96 px face crop", UNITS_CARD),
    "action_unit_eyes": ("action_unit_eyes.onnx", "48 features of an aligned 80 x 80 px eye", UNITS_CARD),
    "action_unit_mouth": ("action_unit_mouth.onnx", "48 features of an aligned 80 x 80 px mouth", UNITS_CARD),
    "action_units": (
        "action_units.npz",
        "55 expression shapes from those features, histograms and the mesh",
        UNITS_CARD,
    ),
    "expression_net": (
        "expression_net.onnx",
        "256 features and 7 logits of the middle of an aligned face crop, 48 px",
        EXPRESSION_CARD,
    ),
    "expression": ("expression.npz", "probabilities of 7 expression labels (linear SVM)", EXPRESSION_CARD),
    "landmarks68": ("landmarks68.npz", "faces and 68 points by histograms and linear models", POINTS_CARD),
}

LIMIT = 10_000_000
"""Bytes that Mien's own weights may take together."""


def main() -> int:
    """Rewrite the entries of Mien's own models; others stay as they are."""
    path = MODELS / "models.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    kept = [entry for entry in table["models"] if entry["name"] not in ENTRIES]
    own = []
    for name, (file, gives, card) in ENTRIES.items():
        if not (MODELS / file).is_file():
            continue
        content = (MODELS / file).read_bytes()
        own.append(
            {
                "name": name,
                "file": file,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "licence": "GPL-3.0-or-later",
                "author": "Mien",
                "gives": gives,
                "card": f"../docs/models.md#{card}",
                "source": {},
            }
        )
    total = sum(entry["bytes"] for entry in own)
    if total > LIMIT:
        raise SystemExit(f"Mien's weights take {total:,} bytes, more than {LIMIT:,}.")
    table["models"] = kept + own
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(own)} models, {total:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
