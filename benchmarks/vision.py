"""Time and memory of per-task gradients on this machine, as ratios to one plain backward.

usage: python -m benchmarks vision [KEY=VALUE ...]

{keys}

One training step (forward, the gradients of all tasks, the method; no optimizer) on noise in the published layout:
NYUv2 with MTAN or SegNet (3 tasks, 288 x 384, batch 1), CelebA (40 tasks, 64 x 64, batch 8). The steps take turns in
one process. `plain` is one backward of the summed losses, `list` and `stacked` the usual loops, `torchjd` its
autojac, the rest ours: exact, with a Jacobian of at most bounds= times the shared parameters' bytes, and by features.
`gradients` are the same ratios without the `forward` pass that all begin with. `steps=` picks some besides these two.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchjd.aggregation import Mean
from torchjd.autojac import backward, jac_to_grad

from benchmarks.timing import at_least_one, peak_bytes, take_turns, write_results
from experiments_vision.contract import MultiTaskModel, Objective, Targets
from experiments_vision.errors import VisionError
from experiments_vision.models.registry import make_model
from experiments_vision.objectives.registry import make_objective
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.devices import resolve_device
from mtrl_surgery.jacobian.shared_graph import starts_of, walk
from mtrl_surgery.jacobian.shared_roles import Roles, find_roles
from mtrl_surgery.methods.base import GramianWeighting, LossWeighting
from mtrl_surgery.runs.console import table
from mtrl_surgery.surgery import Surgery


@dataclass
class Arguments:
    """Options of `vision`."""

    case: Annotated[str, "all | mtan | segnet | celeba"] = "all"
    batch: Annotated[int | None, "images; null: the case's own number"] = None
    size: Annotated[list[int], "height, width; empty: as published"] = field(default_factory=list)
    methods: Annotated[list[str], "whose steps to time"] = field(default_factory=lambda: ["cagrad", "samgs"])
    bounds: Annotated[list[float], "Gramian methods whose Jacobian may take so many times P"] = field(
        default_factory=list
    )
    steps: Annotated[list[str], "besides plain; empty: all"] = field(default_factory=list)
    rounds: Annotated[int, "timed, after one that is not"] = 3
    seconds: Annotated[float, "no round starts later than this, but three are always timed"] = 600.0
    memory: Annotated[bool, "also measure the peak of each step"] = True
    device: Annotated[str, "auto | cpu | cuda | cuda:N"] = "auto"
    threads: Annotated[int, "CPU threads"] = 1
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


def main(words: Sequence[str]) -> int:
    """Run the benchmark."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("rounds", "threads"):
        at_least_one(key, getattr(arguments, key))
    if arguments.batch is not None:
        at_least_one("batch", arguments.batch)
    if any(bound <= 0 for bound in arguments.bounds):
        raise VisionError(f"bounds={arguments.bounds}: must be above 0, in units of P")
    if arguments.size and (len(arguments.size) != 2 or min(arguments.size) < 1):
        raise VisionError(f"size={arguments.size}: give height and width, such as size=[96,128]")

    check_choice("case", arguments.case, ["all", *CASES])
    device = resolve_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    size = (arguments.size[0], arguments.size[1]) if arguments.size else None
    names = list(CASES) if arguments.case == "all" else [arguments.case]
    results = {name: _bench(name, make_case(name, arguments.batch, size, device), arguments, device) for name in names}
    if arguments.json is not None:
        write_results(Path(arguments.json), vars(arguments), results)
    return 0


def _bench(name: str, case: Case, arguments: Arguments, device: str) -> dict[str, Any]:

    steps = make_steps(case, arguments.methods, arguments.bounds)
    for chosen in arguments.steps:
        check_choice("steps", chosen, steps)
    if arguments.steps:
        steps = {step: run for step, run in steps.items() if step in (FORWARD, PLAIN, *arguments.steps)}
    shared_bytes = sum(tensor.nbytes for tensor in case.roles().shared)
    laps = take_turns(
        steps, arguments.rounds, 1, device, arguments.seconds,
        before=case.model.zero_grad,
        clock=time.perf_counter if device.startswith("cuda") else time.process_time,
        say=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    case.model.zero_grad()
    medians = {step: statistics.median(lap) / 1e3 for step, lap in laps.items()}
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


@dataclass
class Case:
    """A network with a batch.

    Attributes:
        model: In train mode.
        objective: Whose losses.
        inputs, targets: The batch.
        by_features: Whether all shared parameters are behind the model's features; where they are not, only methods
            that weight the tasks work there.
    """

    model: MultiTaskModel
    objective: Objective
    inputs: Tensor
    targets: Targets
    by_features: bool

    def forward(self) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The losses of one pass, and the features."""
        outputs = self.model(self.inputs)
        return self.objective.losses(outputs.tasks, self.targets), outputs.features

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.objective.tasks)

    def roles(self) -> Roles:
        """Which parameters the tasks share, and which are their own."""
        losses, _ = self.forward()
        return find_roles(walk(starts_of(losses)), range(self.num_tasks), self.num_tasks, None, None, None)


def _faces(generator: torch.Generator, batch: int, height: int, width: int, tasks: int) -> tuple[Tensor, Targets]:
    labels_BK = torch.randint(0, 2, (batch, tasks), generator=generator).float()
    return torch.rand(batch, 3, height, width, generator=generator), {"attributes": labels_BK}


def _rooms(generator: torch.Generator, batch: int, height: int, width: int, tasks: int) -> tuple[Tensor, Targets]:
    normal = F.normalize(torch.randn(batch, 3, height, width, generator=generator), dim=1)
    return torch.rand(batch, 3, height, width, generator=generator), {
        "label": torch.randint(-1, 13, (batch, height, width), generator=generator),
        "depth": torch.rand(batch, 1, height, width, generator=generator) + 0.1,
        "normal": normal,
    }


@dataclass(frozen=True)
class CaseEntry:
    """A case before it is made: names, the published image, the batch that a CPU can take."""

    dataset: str
    network: str
    size: tuple[int, int]
    batch: int
    by_features: bool
    draw: Callable[[torch.Generator, int, int, int, int], tuple[Tensor, Targets]]


CASES: dict[str, CaseEntry] = {
    "mtan": CaseEntry("nyuv2", "mtan", (288, 384), 1, False, _rooms),
    "segnet": CaseEntry("nyuv2", "segnet", (288, 384), 1, True, _rooms),
    "celeba": CaseEntry("celeba", "convnet", (64, 64), 8, True, _faces),
}


def make_case(name: str, batch: int | None, size: tuple[int, int] | None, device: str) -> Case:
    """A case of `CASES`, always with the same numbers.

    Args:
        name: Its name.
        batch: Images; None for the case's own number.
        size: Height and width; None for the published ones.
        device: Where.

    Raises:
        VisionError: in the first forward pass, for a size that the network cannot take.
    """
    entry = CASES[name]
    model: nn.Module = make_model(entry.network, entry.dataset, 0).to(device)
    objective = make_objective(entry.dataset)
    height, width = size or entry.size
    generator = torch.Generator().manual_seed(0)
    inputs, targets = entry.draw(generator, batch or entry.batch, height, width, len(objective.tasks))
    assert isinstance(model, MultiTaskModel)
    moved = {key: value.to(device) for key, value in targets.items()}
    return Case(model.train(), objective, inputs.to(device), moved, entry.by_features)


Step = Callable[[], object]

FORWARD, PLAIN, LIST, STACKED, TORCHJD = "forward", "plain", "list", "stacked", "torchjd"


def make_steps(case: Case, methods: Sequence[str], bounds: Sequence[float] = ()) -> dict[str, Step]:
    """Name -> a step; the gradients of the shared parameters and of the tasks' own are made by all of them.

    `forward` is what all begin with. `plain` is one backward of the summed losses. `list` asks autograd for one loss's
    gradients after the other, of losses in a list; `stacked` of the elements of a stacked tensor, as published code
    does. `torchjd` is its autojac with the mean of the rows, the cheapest aggregator. The rest are `Surgery`, whose
    step also solves the method.

    Args:
        case: The network.
        methods: Ours, by name.
        bounds: A variant of each Gramian method whose Jacobian may take so many times P, for each of these.

    Raises:
        MethodError: for an unknown method.
        VisionError: for a loss weighting, which needs no task's gradients.
    """
    roles = case.roles()
    shared = roles.shared

    def plain() -> None:
        losses, _ = case.forward()
        torch.stack(losses).sum().backward()

    def loop(losses: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        pairs = zip(losses, roles.own, strict=True)
        return [torch.autograd.grad(loss, [*shared, *own], retain_graph=True, allow_unused=True) for loss, own in pairs]

    def torchjd() -> None:
        losses, _ = case.forward()
        for loss, own in zip(losses, roles.own, strict=True):
            for parameter, grad in zip(own, torch.autograd.grad(loss, own, retain_graph=True), strict=True):
                parameter.grad = grad
        backward(losses, inputs=shared)
        jac_to_grad(shared, Mean())

    steps: dict[str, Step] = {
        FORWARD: case.forward,
        PLAIN: plain,
        LIST: lambda: loop(case.forward()[0]),
        STACKED: lambda: loop(torch.stack(case.forward()[0]).unbind()),
        TORCHJD: torchjd,
    }
    for method in methods:
        if isinstance(Surgery(method, case.num_tasks).method, LossWeighting):
            raise VisionError(f"methods={method}: a loss weighting makes no task's gradients; name others")
        steps[method] = _step(case, Surgery(method, case.num_tasks), False)
        weighs = isinstance(Surgery(method, case.num_tasks).method, GramianWeighting)
        for bound in bounds if weighs else ():
            room = int(bound * sum(p.nbytes for p in shared))
            steps[f"{method} bound={bound:g}"] = _step(
                case, Surgery(method, case.num_tasks, max_jacobian_bytes=room), False
            )
        if case.by_features or weighs:
            steps[f"{method} features="] = _step(case, Surgery(method, case.num_tasks), True)
    return steps


def _step(case: Case, surgery: Surgery, features: bool) -> Step:
    def step() -> None:
        losses, found = case.forward()
        surgery.backward(losses, features=found if features else None)

    return step
