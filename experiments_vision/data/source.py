"""What every data set is to the rest of the package: a check of its files, and a torch data set a split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from experiments_vision.contract import Place, Split, Targets
from experiments_vision.data.config import DataConfig
from experiments_vision.errors import VisionError

__all__ = ["DataConfig", "DataSource", "Example", "Examples", "Fault", "Tensors"]

Example = tuple[Any, Targets]
"""One example: a model's inputs, and its targets by name."""

_OWN_SEED = 0  # what a data set holds out is the same in every run
_HELD_OUT = 1  # random streams of a data seed: (1,) the held-out examples, (2, epoch, index) augmentation
_PUBLISHED_VALIDATION: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file.

    Attributes:
        path: The file or folder; for a text file with the line, `file:17`.
        what: What is wrong with it, and what was expected.
        fatal: Whether training would fail or mean something else; otherwise it is a warning.
    """

    path: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"

    @classmethod
    def of(cls, path: Path, error: VisionError) -> Fault:
        """What reading a file raised; such messages begin with the path."""
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


@runtime_checkable
class Tensors(Protocol):
    """A split that lies in memory: a loader can take whole batches of it by slicing."""

    def tensors(self) -> tuple[Tensor, Targets]:
        """All inputs [N, ...] and targets [N, ...] in the order of the indices; not to be written to."""
        ...


class DataSource(ABC):
    """A data set on this machine.

    Args:
        config: What to read; `registry.make_source` has seen that the name fits.

    Raises:
        VisionError: for a value of the config that makes no sense here.

    Attributes:
        name: As in the registry.
        collate: What makes a batch of a list of examples; None for torch's default.
        facts: What a benchmark must know of the data, such as `classes`, the number of labels.
        has_validation: Whether the published set has a validation split of its own.
    """

    name: ClassVar[str]
    has_validation: ClassVar[bool] = False
    collate: Callable[[list[Example]], tuple[Any, Targets]] | None = None

    def __init__(self, config: DataConfig) -> None:
        _validate(config, self.has_validation)
        self.config = config
        self.facts: dict[str, Any] = {}

    @property
    def root(self) -> Path:
        """The folder with the data.

        Raises:
            VisionError: if the config has none, or it isn't a folder.
        """
        if self.config.data_dir is None:
            raise VisionError(f"data_dir=None: {self.name} is read from files; give the folder that they are in")
        root = Path(self.config.data_dir).expanduser()
        if not root.is_dir():
            raise VisionError(f"data_dir={self.config.data_dir}: no such folder; {self.name} is read from there")
        return root

    def splits(self) -> tuple[Split, ...]:
        """The splits that `dataset` has."""
        if self.has_validation or self.config.validation > 0:
            return _PUBLISHED_VALIDATION
        return ("train", "test")

    @abstractmethod
    def check(self) -> list[Fault]:
        """Looks at every file; an empty list says that all is well."""

    @abstractmethod
    def dataset(self, split: Split) -> Examples:
        """One split; fails at once if a file is missing, and opens as few as it can.

        Raises:
            VisionError: for a split that isn't there, or files that don't fit together.
        """

    def _intact(self, faults: Sequence[Fault]) -> None:
        """Raises VisionError with the first fatal fault."""
        fatal = [fault for fault in faults if fault.fatal]
        if fatal:
            more = f"; {len(fatal) - 1:,} more faults: run `check`" if len(fatal) > 1 else ""
            raise VisionError(f"{fatal[0]}{more}")

    def _require(self, split: Split) -> None:
        if split not in self.splits():
            hint = "; set validation to hold a share of train out" if split == "val" else ""
            raise VisionError(f"split={split!r}: {self.name} has {', '.join(self.splits())}{hint}")

    def _limited(self, numbers: Sequence[int]) -> Sequence[int]:
        """The first `limit` of a split's example numbers.

        Raises:
            VisionError: if there are none.
        """
        if not numbers:
            raise VisionError(f"data_dir={self.config.data_dir}: a split of {self.name} has no example")
        return numbers[: self.config.limit]

    def _hold_out(self, total: int) -> tuple[list[int], list[int]]:
        """Numbers of the training and the held-out examples, both in rising order; the same in every run.

        Args:
            total: Examples of the published training split.

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


def stream(seed: int, *key: int) -> np.random.Generator:
    """A generator at the start of a named stream; equal names give equal streams, in any process."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _validate(config: DataConfig, has_validation: bool) -> None:
    share = config.validation
    if not 0 <= share < float("inf"):  # NaN fails too
        raise VisionError(f"validation={share}: must be a share in [0, 1), or a count")
    if share >= 1 and share != int(share):
        raise VisionError(f"validation={share}: from 1 on it is a count and must be whole")
    if has_validation and share:
        raise VisionError(f"validation={share}: {config.name} has a validation split of its own; leave it at 0")
    if config.limit is not None and config.limit < 1:
        raise VisionError(f"limit={config.limit}: must be above 0, or null")
    if config.seed < 0:
        raise VisionError(f"seed={config.seed}: must not be negative")
