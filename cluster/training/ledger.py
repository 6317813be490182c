"""Book-keeping of chunks: each one that was ordered is used, or dropped for a reason, or still in flight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

DIED = "worker died"
HUNG = "worker hung"
FAILED = "environment failed"
ENDED = "run ended"
"""Why a chunk is dropped. It's ordered again at once, or by the run that goes on."""


@dataclass
class Ledger:
    """Counts chunks of one task each, since this process began to collect.

    Attributes:
        ordered: From a worker.
        collected: Arrived.
        used: Went into the replay.
        dropped: Will never be used, arrived or not, by reason.
    """

    ordered: int = 0
    collected: int = 0
    used: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        """Ordered, and neither used nor dropped yet."""
        return self.ordered - self.used - self.dropped.total()

    def close(self) -> None:
        """The run ends: what is in flight will not be used by it."""
        self.dropped[ENDED] += self.in_flight

    def row(self) -> dict[str, Any]:
        """Columns of health.jsonl."""
        return {
            "chunks_ordered": self.ordered,
            "chunks_collected": self.collected,
            "chunks_used": self.used,
            "chunks_dropped": {reason: count for reason, count in self.dropped.items() if count},
            "chunks_in_flight": self.in_flight,
        }
