"""Book-keeping of chunks: each one that was ordered is used, or dropped for a reason, or still in flight."""

from __future__ import annotations

from collections import Counter
from typing import Any

DIED = "worker died"
HUNG = "worker hung"
FAILED = "environment failed"
ENDED = "run ended"
REASONS = (DIED, HUNG, FAILED, ENDED)
"""Why a chunk is dropped. It's ordered again at once, or by the run that goes on."""


class Ledger:
    """Counts chunks of one task each, since this process began to collect."""

    def __init__(self) -> None:
        """Nothing is ordered yet."""
        self.ordered = 0
        self.collected = 0
        self.used = 0
        self.dropped: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """Ordered, and neither used nor dropped yet."""
        return self.ordered - self.used - self.dropped.total()

    def order(self, chunks: int) -> None:
        """Chunks were ordered from a worker."""
        self.ordered += chunks

    def collect(self, chunks: int) -> None:
        """Chunks arrived."""
        self.collected += chunks

    def use(self, chunks: int) -> None:
        """Chunks went into the replay."""
        self.used += chunks

    def drop(self, reason: str, chunks: int) -> None:
        """Chunks will never be used, arrived or not."""
        assert reason in REASONS
        self.dropped[reason] += chunks

    def close(self) -> None:
        """The run ends: what is in flight will not be used by it."""
        self.drop(ENDED, self.in_flight)

    def row(self) -> dict[str, Any]:
        """Columns of health.jsonl."""
        return {
            "chunks_ordered": self.ordered,
            "chunks_collected": self.collected,
            "chunks_used": self.used,
            "chunks_dropped": {reason: count for reason, count in self.dropped.items() if count},
            "chunks_in_flight": self.in_flight,
        }
