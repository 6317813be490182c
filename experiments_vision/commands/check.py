"""Look at every file of a data set before any training: what is missing, of the wrong shape, or damaged.

usage: python -m experiments_vision check dataset=nyuv2 data_dir=~/data/nyuv2 [labels=label_7] [lines=50]

{keys}

Exit code 0: nothing wrong, or warnings only; 1: training would fail, or mean something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from experiments_vision.data.registry import DATASETS, DataConfig
from experiments_vision.errors import VisionError
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.cli.words import PATH


@dataclass
class Arguments:
    """Options of `check`."""

    dataset: Annotated[str | None, "nyuv2 | cityscapes | celeba | qm9 | multidigits"] = None
    data_dir: Annotated[
        str | None, PATH, "the folder with the files in their published layout (docs/vision_data.md)"
    ] = None
    labels: Annotated[str, "Cityscapes: label_2 | label_7 | label_19 | label"] = "label_7"
    lines: Annotated[int, "how many files to name at most"] = 50


def main(words: Sequence[str]) -> int:
    """Check, and print what was found."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    if arguments.dataset is None:
        raise VisionError(f"dataset= is missing; choices: {', '.join(DATASETS)}")
    check_choice("dataset", arguments.dataset, DATASETS)
    if arguments.lines < 1:
        raise VisionError(f"lines={arguments.lines} must be at least 1")
    from experiments_vision.data.report import is_fatal, report
    from experiments_vision.data.source import make_source

    source = make_source(DataConfig(arguments.dataset, arguments.data_dir, labels=arguments.labels))
    faults = source.check()
    print(report(arguments.dataset, faults, arguments.lines))
    return 1 if is_fatal(faults) else 0
