"""The success rates that papers report on Meta-World. Most are not comparable with each other: hence the protocol."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Protocol:
    """How numbers were measured.

    Attributes:
        protocol: Its name here.
        environments: Simulators and rewards.
        goals: Which goals.
        horizon: Steps of an episode.
        training: How long.
        evaluation: How many episodes, and what a success is.
        reported: Which summary, over how many seeds.
    """

    protocol: str
    environments: str
    goals: str
    horizon: str
    training: str
    evaluation: str
    reported: str

    def __str__(self) -> str:
        """A sentence."""
        horizon = self.horizon if self.horizon.startswith("not") else f"{self.horizon} steps an episode"
        facts = (self.environments, self.goals, horizon, self.training, self.evaluation, self.reported)
        return f"{self.protocol}: {'; '.join(fact for fact in facts if not fact.startswith('not noted'))}."


@dataclass(frozen=True)
class Published:
    """A printed success rate.

    Attributes:
        benchmark: On which tasks: mt10, mt25 or mt50.
        method: As the paper calls it.
        success: The rate.
        error: Its standard error, if one is printed.
        protocol: How it was measured, see `protocols`.
        source: Who printed it.
        remark: What else is to be known; may be empty.
    """

    benchmark: str
    method: str
    success: float
    error: float | None
    protocol: str
    source: str
    remark: str


@cache
def published(benchmark: str) -> tuple[Published, ...]:
    """A benchmark's rows (mt10, mt25, mt50); none for one that no paper has."""
    rows = (row for row in _lines("metaworld.csv") if row["benchmark"] == benchmark)
    return tuple(
        Published(
            **{**row, "success": float(row["success"]), "error": float(row["error"]) if row["error"] else None}  # type: ignore[arg-type]
        )
        for row in rows
    )


@cache
def benchmarks() -> tuple[str, ...]:
    """Those with published rows."""
    return tuple(dict.fromkeys(row["benchmark"] for row in _lines("metaworld.csv")))


@cache
def protocols() -> dict[str, Protocol]:
    """By name."""
    return {row["protocol"]: Protocol(**row) for row in _lines("protocols.csv")}


def _lines(name: str) -> list[dict[str, str]]:
    text = files("mtrl_surgery.reports.published").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
