"""The user's choices about a run's records."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Annotated

from mtrl_surgery.runs.errors import RunError
from mtrl_surgery.shell import install

SINKS = ("tensorboard", "wandb", "none")
WANDB_MODES = ("online", "offline", "disabled")


@dataclass
class LoggerConfig:
    """Where metrics go besides the run folder, which always has them."""

    name: Annotated[str, "tensorboard | wandb | none"] = "tensorboard"
    project: Annotated[str, "Weights & Biases project"] = "mtrl-surgery"
    entity: Annotated[str | None, "Weights & Biases user or team; null: the account's default"] = None
    mode: Annotated[str, "Weights & Biases: online | offline | disabled"] = "online"
    console: Annotated[bool, "show a line of progress"] = True

    def validate(self) -> None:
        """Checks every option.

        Raises:
            RunError: An unknown value, or a package that is not installed; names the key and the choices.
        """
        for key, choices in (("name", SINKS), ("mode", WANDB_MODES)):
            if getattr(self, key) not in choices:
                raise RunError(f"logger.{key}={getattr(self, key)!r} is unknown; choices: {', '.join(choices)}")
        if self.name == "wandb" and importlib.util.find_spec("wandb") is None:
            raise RunError(f"logger=wandb needs wandb, which is not installed: {install('wandb')}")


@dataclass
class CheckpointConfig:
    """When checkpoints are written, besides the one at the end and on Ctrl-C and SIGTERM."""

    every: Annotated[int, "vector steps from one checkpoint to the next"] = 10_000
    keep: Annotated[int, "newest whole checkpoints that stay on disk"] = 2

    def validate(self) -> None:
        """Checks every option.

        Raises:
            RunError: A value that makes no sense; names the key and what is allowed.
        """
        for key in ("every", "keep"):
            if getattr(self, key) < 1:
                raise RunError(f"checkpoint.{key}={getattr(self, key)} must be at least 1")
