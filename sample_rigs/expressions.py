"""The seven basic expressions as weights of the expression units."""

from __future__ import annotations

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"Smile": 0.95, "CheekSquint": 0.55, "JawOpen": 0.14, "BrowRaise": 0.10},
    "sadness": {"Frown": 0.75, "BrowFurrow": 0.30, "BrowRaise": 0.45, "BlinkLeft": 0.22, "BlinkRight": 0.22},
    "surprise": {"BrowRaise": 1.0, "EyeWide": 0.85, "JawOpen": 0.62, "Pucker": 0.15},
    "fear": {"BrowRaise": 0.70, "BrowFurrow": 0.55, "EyeWide": 1.0, "JawOpen": 0.28, "Frown": 0.40},
    "disgust": {"NoseWrinkle": 1.0, "BrowFurrow": 0.35, "CheekSquint": 0.40, "Frown": 0.35},
    "anger": {"BrowFurrow": 1.0, "NoseWrinkle": 0.45, "EyeWide": 0.20, "Frown": 0.45, "CheekSquint": 0.15},
}

POSTER: dict[str, float] = {"Smile": 0.78, "CheekSquint": 0.35, "BrowRaise": 0.20, "JawOpen": 0.10}
"""The face of the poster picture."""
