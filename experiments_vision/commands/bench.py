"""Time and memory of per-task gradients on this machine, as ratios to one plain backward.

usage: python -m experiments_vision bench [KEY=VALUE ...]

{keys}

One training step (forward, the gradients of all tasks, the method; no optimizer) on noise in the published layout:
NYUv2 with MTAN or SegNet (3 tasks, 288 x 384, batch 1), CelebA (40 tasks, 64 x 64, batch 8). The steps take turns in
one process. `plain` is one backward of the summed losses, `list` and `stacked` the usual loops, `torchjd` its
autojac, the rest ours: exact, with chunk_size, with a Jacobian of at most bounds= times the shared parameters' bytes,
and by features. `gradients` are the same ratios without the `forward` pass that all begin with. `steps=` picks some
besides these two.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from experiments_vision.errors import VisionError
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.cli.tables import table
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.bench.common import at_least_one, write_results

if TYPE_CHECKING:
    from experiments_vision.bench.cases import Case


@dataclass
class BenchArguments:
    """Options of `bench`."""

    case: Annotated[str, "all | mtan | segnet | celeba"] = "all"
    batch: Annotated[int | None, "images; null: the case's own number"] = None
    size: Annotated[list[int], "height, width; empty: as published"] = field(default_factory=list)
    methods: Annotated[list[str], "whose steps to time"] = field(default_factory=lambda: ["cagrad", "samgs"])
    chunks: Annotated[list[int], "values of chunk_size to time"] = field(default_factory=lambda: [1])
    bounds: Annotated[list[float], "Gramian methods whose Jacobian may take so many times P"] = field(
        default_factory=list
    )
    steps: Annotated[list[str], "besides plain; empty: all"] = field(default_factory=list)
    rounds: Annotated[int, "timed, after one that is not"] = 3
    seconds: Annotated[float, "no round but the first starts later than this"] = 600.0
    memory: Annotated[bool, "also measure the peak of each step"] = True
    device: Annotated[str, "auto | cpu | cuda | cuda:N"] = "auto"
    threads: Annotated[int, "CPU threads"] = 1
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


def main(words: Sequence[str]) -> int:
    """Run the benchmark."""
    if wants_help(words):
        print(usage(__doc__, BenchArguments))
        return 0
    arguments = parse(words, BenchArguments)
    for key in ("rounds", "threads"):
        at_least_one(key, getattr(arguments, key))
    if arguments.batch is not None:
        at_least_one("batch", arguments.batch)
    for chunk in arguments.chunks:
        at_least_one("chunks", chunk)
    if any(bound <= 0 for bound in arguments.bounds):
        raise VisionError(f"bounds={arguments.bounds}: must be above 0, in units of P")
    if arguments.size and (len(arguments.size) != 2 or min(arguments.size) < 1):
        raise VisionError(f"size={arguments.size}: give height and width, such as size=[96,128]")
    import torch

    from experiments_vision.bench.cases import CASES, make_case
    from mtrl_surgery.devices import resolve_device

    check_choice("case", arguments.case, ["all", *CASES])
    device = resolve_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    size = (arguments.size[0], arguments.size[1]) if arguments.size else None
    names = list(CASES) if arguments.case == "all" else [arguments.case]
    results = {name: _bench(name, make_case(name, arguments.batch, size, device), arguments, device) for name in names}
    if arguments.json is not None:
        write_results(Path(arguments.json), vars(arguments), results)
    return 0


def _bench(name: str, case: Case, arguments: BenchArguments, device: str) -> dict[str, Any]:
    from experiments_vision.bench.measure import peak_bytes, take_turns
    from experiments_vision.bench.steps import FORWARD, LIST, PLAIN, make_steps

    steps = make_steps(case, arguments.methods, arguments.chunks, arguments.bounds)
    for chosen in arguments.steps:
        check_choice("steps", chosen, steps)
    if arguments.steps:
        steps = {step: run for step, run in steps.items() if step in (FORWARD, PLAIN, *arguments.steps)}
    shared_bytes = sum(tensor.nbytes for tensor in case.roles().shared)
    laps = take_turns(steps, case.model.zero_grad, arguments.rounds, arguments.seconds, device)
    medians = {step: statistics.median(lap) for step, lap in laps.items()}
    peaks: dict[str, int] = {}
    for step, run in steps.items() if arguments.memory else ():
        peaks[step] = peak_bytes(run, device)
        case.model.zero_grad()
    found = {
        step: {
            "seconds": medians[step],
            "of_plain": medians[step] / medians[PLAIN],
            "of_list": medians[step] / medians[LIST] if LIST in medians else None,
            "gradients_of_plain": (medians[step] - medians[FORWARD]) / (medians[PLAIN] - medians[FORWARD]),
            "gradients_of_list": (
                (medians[step] - medians[FORWARD]) / (medians[LIST] - medians[FORWARD]) if LIST in medians else None
            ),
            "peak_bytes": peaks.get(step),
            "above_plain_in_P": (peaks[step] - peaks[PLAIN]) / shared_bytes if peaks else None,
        }
        for step in steps
    }
    shape = " x ".join(str(n) for n in case.inputs.shape)
    print(
        f"{name}: {case.num_tasks} tasks, inputs {shape}, {device}; P is {shared_bytes / 1e6:.1f} MB of shared "
        f"parameters; plain takes {medians[PLAIN]:.3f} s; medians of {len(laps[PLAIN])} rounds"
    )
    print(_table(found) + "\n")
    return {"rounds": len(laps[PLAIN]), "shared_bytes": shared_bytes, "inputs": list(case.inputs.shape), "steps": found}


def _table(found: Mapping[str, Mapping[str, float | None]]) -> str:
    rows = [
        [
            step,
            _number(row["of_plain"], "{:.2f}"),
            _number(row["of_list"], "{:.2f}"),
            _number(row["gradients_of_plain"], "{:.2f}"),
            _number(row["gradients_of_list"], "{:.2f}"),
            _number(None if row["peak_bytes"] is None else row["peak_bytes"] / 1e6, "{:.0f}"),
            _number(row["above_plain_in_P"], "{:+.2f}"),
        ]
        for step, row in found.items()
    ]
    header = ["step", "of plain", "of list", "gradients of plain", "of list", "peak MB", "above plain, in P"]
    return table(header, rows, numbers=range(1, 7))


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else style.format(value)
