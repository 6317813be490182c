"""One colour a method, whatever else is in the figure: by its name, so that two reports agree.

Colours are told apart with the common colour-vision deficiencies and on light and dark paper (after Okabe and Ito, and
Tol); what shares a colour differs in its dash and its marker.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

COLOURS = (
    "#0072b2",  # blue
    "#d55e00",  # vermilion
    "#009e73",  # green
    "#cc79a7",  # pink
    "#e69f00",  # orange
    "#56b4e9",  # sky
    "#8c6bb1",  # violet
    "#a6761d",  # brown
    "#7f7f7f",  # grey
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross")

VALUES = (
    "#5b5fc7", "#3f8fd2", "#2aa8a1", "#54b06a", "#a3ab38", "#d99a2b", "#df6f3a", "#c94a5c", "#a3469b",
)  # fmt: skip
"""Of groups that are no methods: in the order of the rainbow, legible on light and dark paper."""

ORDER = (
    "ls", "samgs", "pcgrad", "cagrad", "nashmtl", "famo", "imtl", "mgda", "stl",
    "alignedmtl", "upgrad", "graddrop", "dwa", "uw", "scaleinvls", "rlw", "gradnorm", "moco",
    "dbmtl", "config", "crmogm", "dualproj", "excessmtl", "fairgrad", "gls", "gradvac", "imtl_l",
    "pcd", "sdmgrad", "stch", "torchjd",
)  # fmt: skip
"""Each method's place; the first nine have the colours to themselves as solid lines. New ones are added at the end."""


class Style(NamedTuple):
    """How a group is drawn."""

    colour: str
    dash: str
    marker: str


def style(method: str, variant: int = 0) -> Style:
    """The look of a method; other options of the same method (`variant` 1, 2, ...) have its colour and another dash."""
    place = ORDER.index(method) if method in ORDER else zlib.crc32(method.encode()) % (len(COLOURS) * len(DASHES))
    band = place // len(COLOURS) + variant
    return Style(COLOURS[place % len(COLOURS)], DASHES[band % len(DASHES)], MARKERS[band % len(MARKERS)])


def value_style(place: int, count: int) -> Style:
    """The look of the group at a place among so many that are the values of a key."""
    spread = place * (len(VALUES) - 1) // max(1, count - 1) if count <= len(VALUES) else place % len(VALUES)
    band = 0 if count <= len(VALUES) else place // len(VALUES)
    return Style(VALUES[spread], DASHES[band % len(DASHES)], MARKERS[band % len(MARKERS)])


def faint(colour: str, alpha: float = 0.16) -> str:
    """The same colour, see-through."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
