"""The colours of every drawing: dark enough to be read on white, and apart for eyes that do not tell red from green."""

from __future__ import annotations

PAPER = "#ffffff"
CARD = "#f3f4f6"
LINE = "#d5d8de"
INK = "#1a1d23"
DIM = "#636a76"
# Blue and orange differ in lightness and hue for every kind of colour blindness (M. Okabe, K. Ito, 2008).
GOOD = "#0b6e4f"
BAD = "#c8401a"
KEY = "#1f5fbf"
SERIES = (KEY, BAD, "#7a4fb5", GOOD, "#b07a00", "#00829b", "#9c2f6e", "#555b66")
