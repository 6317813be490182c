"""When the tragic triad is measured while training (no torch import: the command line reads this)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


class DiagnosticsError(ValueError):
    """A bad option of the diagnostics; the message names the key, the value and what is allowed."""


@dataclass
class DiagnosticsConfig:
    """Looks at the task gradients: angles, lengths, curvature. They change nothing but the metrics."""

    every: Annotated[int, "updates between two looks; 0: none"] = 100
    curvature: Annotated[
        bool, "also the multi-task curvature: four more backward passes a look, two for each network"
    ] = True

    def validate(self) -> None:
        """Check every option.

        Raises:
            DiagnosticsError: `every` is negative.
        """
        if self.every < 0:
            raise DiagnosticsError(f"diagnostics.every={self.every} must be at least 1, or 0 for no looks")

    def due(self, update: int) -> bool:
        """Whether the update of that number is looked at."""
        return self.every > 0 and update % self.every == 0
