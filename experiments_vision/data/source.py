"""The base of every data set: a check of its files, and a torch data set a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from experiments_vision.contract import SPLITS, Place, Split, Targets
from experiments_vision.data.registry import DATASETS, DataConfig
from experiments_vision.errors import VisionError
from mtrl_surgery.runs.console import Progress

Example = tuple[Any, Targets]
"""One example: a model's inputs, and its targets by name."""

Job = TypeVar("Job")
Result = TypeVar("Result")

_OWN_SEED = 0  # what a data set holds out is the same in every run
_HELD_OUT = 1  # random streams of a data seed: (1,) the held-out examples, (2, epoch, index) augmentation
_SILENT_S = 2.0  # a short check says nothing
_AHEAD = 8  # files a thread takes at a time


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file: what it is, and what was expected."""

    path: str  # the file or folder; for a text file with the line, `file:17`
    what: str
    fatal: bool = True  # training would fail or mean something else; otherwise it is a warning

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"

    @classmethod
    def of(cls, path: Path, error: VisionError) -> Fault:
        """The fault that reading a file raised; such messages begin with the path."""
        return cls(str(path), str(error).removeprefix(f"{path}: "))


class Examples(Dataset[Example], ABC):
    """One split. A loader's sampler yields places; an example is a pure function of its place."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, place: Place) -> Example:
        """The example at `place.index`, augmented for `place.epoch`.

        Raises:
            VisionError: for a damaged file, with its path.
        """

    def tensors(self) -> tuple[Tensor, Targets] | None:
        """All inputs [N, ...] and targets [N, ...] of a split that lies in memory, to slice and not to write to."""
        return None


class DataSource(ABC):
    """A data set on this machine.

    `facts` is what a benchmark must know of the data, such as `classes`, the number of labels.

    Raises:
        VisionError: for a value of the config that makes no sense here.
    """

    name: ClassVar[str]
    has_validation: ClassVar[bool] = False  # whether the published set has a validation split of its own
    collate: Callable[[list[Example]], tuple[Any, Targets]] | None = None
    """The function that makes a batch of a list of examples; None for torch's default."""

    def __init__(self, config: DataConfig) -> None:
        share = config.validation
        if not 0 <= share < float("inf"):  # NaN fails too
            raise VisionError(f"validation={share}: must be a share in [0, 1), or a count")
        if share >= 1 and share != int(share):
            raise VisionError(f"validation={share}: from 1 on it is a count and must be whole")
        if self.has_validation and share:
            raise VisionError(f"validation={share}: {self.name} has a validation split of its own; leave it at 0")
        if config.limit is not None and config.limit < 1:
            raise VisionError(f"limit={config.limit}: must be above 0, or null")
        if config.seed < 0:
            raise VisionError(f"seed={config.seed}: must not be negative")
        self.config = config
        self.facts: dict[str, Any] = {}

    @property
    def root(self) -> Path:
        """The folder with the data.

        Raises:
            VisionError: if it isn't there.
        """
        root = None if self.config.data_dir is None else Path(self.config.data_dir).expanduser()
        if root is None or not root.is_dir():
            raise VisionError(f"data_dir={self.config.data_dir}: no such folder; {self.name} is read from there")
        return root

    def splits(self) -> tuple[Split, ...]:
        """The splits that `dataset` has."""
        return SPLITS if self.has_validation or self.config.validation > 0 else ("train", "test")

    @abstractmethod
    def check(self) -> list[Fault]:
        """Look at every file; an empty list says that all is well."""

    def dataset(self, split: Split) -> Examples:
        """One split; fails at once if a file is missing, and opens as few as it can.

        Raises:
            VisionError: for a split that isn't there, or files that don't fit together.
        """
        if split not in self.splits():
            hint = "; set validation to hold a share of train out" if split == "val" else ""
            raise VisionError(f"split={split!r}: {self.name} has {', '.join(self.splits())}{hint}")
        return self._examples(split)

    @abstractmethod
    def _examples(self, split: Split) -> Examples:
        """The split, which is there."""

    def _intact(self, faults: Sequence[Fault]) -> None:
        """Raise VisionError with the first fatal fault."""
        fatal = [fault for fault in faults if fault.fatal]
        if fatal:
            more = f"; {len(fatal) - 1:,} more faults: run `check`" if len(fatal) > 1 else ""
            raise VisionError(f"{fatal[0]}{more}")

    def _limited(self, numbers: Sequence[int]) -> Sequence[int]:
        """The first `limit` of a split's example numbers.

        Raises:
            VisionError: if there are none.
        """
        if not numbers:
            raise VisionError(f"data_dir={self.config.data_dir}: a split of {self.name} has no example")
        return numbers[: self.config.limit]

    def _hold_out(self, total: int) -> tuple[list[int], list[int]]:
        """Numbers of the training and the held-out examples, both rising, of `total`; the same in every run.

        Raises:
            VisionError: if none would be left to train on, or none to hold out.
        """
        share = self.config.validation
        if share == 0:
            return list(range(total)), []
        held = round(share * total) if share < 1 else int(share)
        if not 0 < held < total:
            raise VisionError(f"validation={share}: holds out {held} of {total} training examples of {self.name}")
        order = stream(_OWN_SEED, _HELD_OUT).permutation(total)
        return sorted(order[held:].tolist()), sorted(order[:held].tolist())


def make_source(config: DataConfig) -> DataSource:
    """The source of `config.name`.

    Raises:
        VisionError: for an unknown name, a `data_dir` that is missing, or another value that makes no sense.
    """
    if config.name not in DATASETS:
        raise VisionError(f"dataset={config.name}: unknown; choose from {', '.join(DATASETS)}")
    entry = DATASETS[config.name]
    if entry.needs_data_dir and config.data_dir is None:
        raise VisionError(f"data_dir=null: {config.name} is read from files; give their folder (docs/vision_data.md)")
    if not entry.needs_data_dir and config.data_dir is not None:
        raise VisionError(f"data_dir={config.data_dir}: {config.name} is read from no folder; leave it out")
    module, _, class_name = entry.source.partition(":")
    source: DataSource = getattr(import_module(f"experiments_vision.data.{module}"), class_name)(config)
    return source


def stream(seed: int, *key: int) -> np.random.Generator:
    """A generator at the start of a named stream; equal names give equal streams, in any process."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def progress(name: str, total: int, unit: str) -> Progress:
    """The line of a check that takes its time."""
    return Progress(total, updates=None, unit=unit, measure=None, name=name, silent_s=_SILENT_S)


def scan(name: str, jobs: Sequence[Job], look: Callable[[Job], Result], threads: int | None = None) -> list[Result]:
    """`[look(job) for job in jobs]`, a file each, by a thread a core: reading and decoding let go of Python's lock."""
    line = progress(name, len(jobs), "files")
    results: list[Result] = []
    with ThreadPool(threads) as pool:
        for result in pool.imap(look, jobs, chunksize=_AHEAD):
            results.append(result)
            line.update(len(results))
    line.close()
    return results
