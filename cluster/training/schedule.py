"""When things happen in a run, by vector steps alone: never by the clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Lengths and intervals in vector steps. Whatever is due happens at the end of the chunk that reaches it.

    Attributes:
        total_steps: Length of the run.
        chunk_steps: Length T of a chunk.
        log_every: Between two rows of metrics.
        checkpoint_every: Between two checkpoints; one more is written at the end.
        evaluate_every: Between two evaluations while training; 0: only at the end.
        evaluation_episodes: Episodes a task while training.
        final_episodes: Episodes a task at the end.
        protocol: Evaluation protocol, a key of `envs.evaluation.PROTOCOLS`.
    """

    total_steps: int
    chunk_steps: int = 100
    log_every: int = 1_000
    checkpoint_every: int = 10_000
    evaluate_every: int = 10_000
    evaluation_episodes: int = 10
    final_episodes: int = 50
    protocol: str = "metaworld_plus"

    def chunk_length(self, start: int) -> int:
        """Vector steps of the chunk that starts after `start` steps.

        Chunks end at the multiples of `chunk_steps` and at the end of the run, so a run that goes on after its end
        comes back to the old grid.
        """
        return max(0, min(self.chunk_steps - start % self.chunk_steps, self.total_steps - start))

    def logs(self, before: int, now: int) -> bool:
        """Whether metrics are due when the steps go from `before` to `now`."""
        return now >= self.total_steps > before or _crosses(self.log_every, before, now)

    def checkpoints(self, before: int, now: int) -> bool:
        """Whether a checkpoint is due."""
        return now >= self.total_steps > before or _crosses(self.checkpoint_every, before, now)

    def episodes(self, before: int, now: int) -> int:
        """Evaluation episodes a task that are due; 0 for no evaluation."""
        if now >= self.total_steps > before:
            return self.final_episodes
        return self.evaluation_episodes if _crosses(self.evaluate_every, before, now) else 0


def _crosses(every: int, before: int, now: int) -> bool:
    return every > 0 and now // every > before // every
