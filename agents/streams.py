"""The learner's random streams, spawned by name from the seed of the run (docs/architecture.md)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """Purposes whose streams the learner spawns; the environments' are in `envs.streams`."""

    LEARNER = 3
    METHOD = 4
    INITIAL_WEIGHTS = 5


def stream_seed(seed: int, purpose: Stream, *key: int) -> int:
    """A 63-bit seed for the named stream."""
    words = np.random.SeedSequence(seed, spawn_key=(int(purpose), *key)).generate_state(1, dtype=np.uint64)
    return int(words[0]) >> 1


def torch_generator(seed: int, purpose: Stream, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of the named stream."""
    return torch.Generator(device).manual_seed(stream_seed(seed, purpose, *key))
