"""The keys `sweep.*`, which stand beside `-m` and are no part of any run's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from mtrl_surgery.cli.arguments import parse
from mtrl_surgery.cli.schema import check_least
from mtrl_surgery.cli.words import PATH

PREFIX = "sweep."


@dataclass
class SweepOptions:
    """How the runs of a sweep are done."""

    cpus: Annotated[float | None, "CPUs that a run holds; null: what its own settings take"] = None
    gpus: Annotated[float | None, "the same of GPUs; a part of one lets several runs share it"] = None
    parallel: Annotated[int | None, "runs at once; null: as many as there is room for"] = None
    retries: Annotated[
        int, "times in a row that a run may be lost without a new checkpoint before it counts as failed"
    ] = 3
    max_failures: Annotated[int | None, "failed runs after which no other is started; null: all are tried"] = None
    address: Annotated[
        str | None, "null: a Ray of its own on this machine; HOST:PORT, or auto on a node: join a cluster"
    ] = None
    wait_for_nodes: Annotated[bool, "start although no node has room for a run yet: an autoscaler will bring one"] = (
        False
    )
    folder: Annotated[str | None, PATH, "where the sweep keeps its table; null: <out>/.sweeps/<name>"] = None
    report: Annotated[bool, "end with a report on the runs"] = True

    def validate(self) -> None:
        """Check every option.

        Raises:
            SettingsError: a value makes no sense; names the key and what is allowed.
        """
        check_least(
            {
                "sweep.cpus": (self.cpus, 0),
                "sweep.gpus": (self.gpus, 0),
                "sweep.parallel": (self.parallel, 1),
                "sweep.retries": (self.retries, 0),
                "sweep.max_failures": (self.max_failures, 1),
            }
        )


@dataclass
class _Words:
    sweep: SweepOptions = field(default_factory=SweepOptions)


def split(words: Sequence[str]) -> tuple[SweepOptions, list[str]]:
    """The sweep's own options, and the words of its runs.

    Raises:
        SettingsError: an option is unknown, or its value makes no sense.
    """
    options = parse([word for word in words if word.startswith(PREFIX)], _Words).sweep
    options.validate()
    return options, [word for word in words if not word.startswith(PREFIX)]
