"""Directions by name: what turns one meaning into another, made of texts by the guide that follows it.

A direction is the unit vector from the mean of the texts to leave to that of the texts to go to, so it fits any guide
and needs no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Direction:
    """Texts to go to, and texts to leave."""

    towards: Sequence[str]
    away: Sequence[str]


DIRECTIONS: Mapping[str, Direction] = {
    "textoff": Direction(
        ("a picture", "a painting", "a photo"),
        ("a picture of words", "letters and numbers", "a sign with writing", "a page of text"),
    ),
    "sharp": Direction(("a sharp picture", "a picture with fine details"), ("a blurry picture", "a picture in fog")),
}
"""`textoff` after pixray's vector of that name, which is a file for OpenAI's models."""
