"""Learning rates over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from experiments_vision.errors import VisionError
from experiments_vision.settings import OptimizerConfig
from experiments_vision.training.world import World


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of all parameters, shared and own."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    own = {"momentum": config.momentum} if config.name == "sgd" else {}
    kind: Any = kinds[config.name]
    optimizer: torch.optim.Optimizer = kind(parameters, lr=config.lr, weight_decay=config.weight_decay, **own)
    return optimizer


class Rates:
    """The learning rate: constant, falling every so many epochs, or when the validation score stands still.

    Raises:
        VisionError: `plateau` without a validation split.
    """

    def __init__(self, config: OptimizerConfig, optimizer: torch.optim.Optimizer, has_validation: bool) -> None:
        self._config, self._optimizer = config, optimizer
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        if config.schedule == "plateau":
            if not has_validation:
                raise VisionError(
                    "optimizer.schedule=plateau needs a validation split: hold one out by dataset.validation"
                )
            # Any better score counts: torch's relative threshold means nothing where a score changes its sign.
            any_better: dict[str, Any] = {"threshold": 0.0, "threshold_mode": "abs"}
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, "max", config.factor, config.patience, min_lr=config.min_lr, **any_better
            )

    @property
    def rate(self) -> float:
        """The present one."""
        return float(self._optimizer.param_groups[0]["lr"])

    def begin_epoch(self, epoch: int) -> None:
        """Set the rate that depends on the epoch's number (from 0) alone."""
        if self._config.schedule == "step":
            self._set(self._config.lr * self._config.factor ** (epoch // self._config.step_epochs))

    def end_epoch(self, score: float | None, world: World) -> None:
        """Take the validation's score, which the leader has; all processes get the leader's rate."""
        if self._plateau is None:
            return
        if world.leads:
            assert score is not None  # there is a validation split
            self._plateau.step(score)
        rate = torch.tensor(self.rate, dtype=torch.float64, device=self._optimizer.param_groups[0]["params"][0].device)
        world.broadcast(rate)
        self._set(rate.item())

    def state_dict(self) -> dict[str, Any]:
        """The state that the next rate depends on."""
        if self._plateau is None:
            return {}
        return {"best": self._plateau.best, "bad": self._plateau.num_bad_epochs, "rate": self.rate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if self._plateau is not None:
            self._plateau.best, self._plateau.num_bad_epochs = state["best"], state["bad"]
            self._set(state["rate"])

    def _set(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
