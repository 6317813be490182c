"""What the user chooses about a run's records."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl_surgery.runs.errors import RunError

SINKS = ("tensorboard", "wandb", "none")
WANDB_MODES = ("online", "offline", "disabled")


@dataclass
class LoggerConfig:
    """Where metrics go besides the run folder, which always has them."""

    name: str = "tensorboard"  # tensorboard | wandb | none
    project: str = "mtrl-surgery"  # Weights & Biases project
    entity: str | None = None  # Weights & Biases user or team; null: the account's default
    mode: str = "online"  # Weights & Biases: online | offline | disabled
    console: bool = True  # show a line of progress

    def validate(self) -> None:
        """Checks every option.

        Raises:
            RunError: An unknown value; names the key and the choices.
        """
        for key, choices in (("name", SINKS), ("mode", WANDB_MODES)):
            if getattr(self, key) not in choices:
                raise RunError(f"logger.{key}={getattr(self, key)!r} is unknown; choices: {', '.join(choices)}")


@dataclass
class CheckpointConfig:
    """When checkpoints are written, besides the one at the end and on Ctrl-C and SIGTERM."""

    every: int = 10_000  # vector steps from one checkpoint to the next
    keep: int = 2  # newest whole checkpoints that stay on disk

    def validate(self) -> None:
        """Checks every option.

        Raises:
            RunError: A value that makes no sense; names the key and what is allowed.
        """
        for key in ("every", "keep"):
            if getattr(self, key) < 1:
                raise RunError(f"checkpoint.{key}={getattr(self, key)} must be at least 1")
