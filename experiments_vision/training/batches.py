"""The examples of every batch, and their way to the device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from experiments_vision.contract import Place, Targets
from experiments_vision.data.source import DataSource, Examples, stream
from experiments_vision.errors import VisionError
from experiments_vision.training.world import World

LabelledBatch = tuple[Any, Targets]

_ORDER = 3  # the name of the stream of an epoch's order, among those of the run's seed


@dataclass(frozen=True)
class Plan:
    """The batches of a run: a pure function of the seed, whatever the workers do, from any update on.

    Each epoch is a new permutation of the training split's examples; what does not fill a last batch waits for another
    epoch, so shapes are fixed. A batch is shared out to the processes, and a share is cut into `accumulate` pieces.

    Raises:
        VisionError: where a batch cannot be filled or cut.
    """

    examples: int
    batch_size: int
    accumulate: int
    epochs: int
    seed: int
    world: World

    def __post_init__(self) -> None:
        if self.batch_size > self.examples:
            raise VisionError(f"batch_size={self.batch_size}: the training split has only {self.examples} examples")
        pieces = self.accumulate * self.world.size
        if self.batch_size % pieces:
            raise VisionError(
                f"batch_size={self.batch_size} must be a multiple of accumulate={self.accumulate} "
                f"times {self.world.size} processes"
            )

    @property
    def updates_per_epoch(self) -> int:
        """The number of whole batches of an epoch."""
        return self.examples // self.batch_size

    @property
    def updates(self) -> int:
        """The number of updates of the whole run."""
        return self.epochs * self.updates_per_epoch

    def order(self, epoch: int) -> np.ndarray:
        """The epoch's examples in the order of the batches."""
        return stream(self.seed, _ORDER, epoch).permutation(self.examples)

    def micro_batches(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Epoch and example numbers of this process's micro-batches, from update `start` to the end of the run."""
        per_epoch = self.updates_per_epoch
        share = self.batch_size // self.world.size
        for epoch in range(start // per_epoch, self.epochs):
            order = self.order(epoch)
            for update in range(start % per_epoch if epoch == start // per_epoch else 0, per_epoch):
                begin = update * self.batch_size + self.world.rank * share
                for numbers in np.split(order[begin : begin + share], self.accumulate):
                    yield epoch, numbers


def in_order(examples: int, batch_size: int) -> Iterator[tuple[int, np.ndarray]]:
    """All examples of a split, as `Plan.micro_batches` gives them; the last batch may be smaller."""
    for begin in range(0, examples, batch_size):
        yield 0, np.arange(begin, min(begin + batch_size, examples))


def load(
    source: DataSource, examples: Examples, chosen: Iterator[tuple[int, np.ndarray]], workers: int, device: torch.device
) -> Iterator[LabelledBatch]:
    """Batches on the device, of the epochs and example numbers that are chosen; `workers` live as long as they do."""
    if (whole := examples.tensors()) is not None:
        inputs, targets = _on(whole, device)
        for _, numbers in chosen:
            rows = torch.from_numpy(numbers).to(device, non_blocking=True)
            yield inputs[rows], {name: value[rows] for name, value in targets.items()}
        return
    answers = _ErrorsAsValues(source, examples)
    places: Any = ([Place(epoch, int(number)) for number in numbers] for epoch, numbers in chosen)
    loader = DataLoader(
        answers,
        batch_sampler=places,
        num_workers=workers,
        collate_fn=answers.collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_interrupts if workers else None,
        generator=torch.Generator(),  # or the loader would draw from the global stream
    )
    for batch in loader:
        if isinstance(batch, VisionError):
            raise batch
        yield _on(batch, device)


class _ErrorsAsValues(Dataset[Any]):
    """Hands a bad file's error over as a value: torch would bury a worker's exception under its traceback."""

    def __init__(self, source: DataSource, examples: Examples) -> None:
        self._examples, self._collate = examples, source.collate or default_collate

    def __getitem__(self, place: Place) -> Any:
        try:
            return self._examples[place]
        except VisionError as error:
            return error

    def collate(self, items: list[Any]) -> Any:
        return next((item for item in items if isinstance(item, VisionError)), None) or self._collate(items)


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the trainer alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on(batch: LabelledBatch, device: torch.device) -> LabelledBatch:
    inputs, targets = batch
    moved: dict[str, Tensor] = {name: value.to(device, non_blocking=True) for name, value in targets.items()}
    return inputs.to(device, non_blocking=True), moved
