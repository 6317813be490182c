"""The data sets: what they are, who made them, what their licence allows.

usage: python -m experiments_vision datasets

docs/vision_data.md says where to get each, and in which layout it is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments_vision.data.registry import DATASETS
from experiments_vision.errors import VisionError
from experiments_vision.models.registry import MODELS
from mtrl_surgery.cli.arguments import usage, wants_help
from mtrl_surgery.runs.console import table


def main(words: Sequence[str]) -> int:
    """Print the table."""
    if wants_help(words):
        print(usage(__doc__))
        return 0
    if words:
        raise VisionError(f"cannot read '{words[0]}': datasets takes no words")
    header = ["dataset", "files", "models", "what it is", "licence", "made by"]
    rows = []
    for name, entry in DATASETS.items():
        files = "data_dir=" if entry.needs_data_dir else "none"
        rows.append([name, files, " ".join(MODELS[name]), entry.summary, entry.licence, entry.paper])
    print(table(header, rows))
    return 0
