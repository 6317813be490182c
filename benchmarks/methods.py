"""Time the critics' update with every method, as a ratio to the plain update of the summed losses.

usage: python -m benchmarks methods [KEY=VALUE ...]

{keys}

The update is that of the twin critic alone (forward, backward, method, clip, Adam). Targets, actor and sampling are
left out: no method changes them, and they would bring every ratio nearer to one. Our own methods are held to their
targets.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch

from agents.networks import initial_mlp
from benchmarks.timing import at_least_one, beside, write_results
from benchmarks.variants import config_of, find_entry, with_variants
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.devices import count_cores, resolve_device, resolve_threads
from mtrl_surgery.jacobian.grouped import TaskLosses
from mtrl_surgery.jacobian.parameters import FlatParameters
from mtrl_surgery.jacobian.task_mlp import TaskMLP
from mtrl_surgery.jacobian.update import SurgeryOptimizer
from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.ls import LsConfig
from mtrl_surgery.methods.registry import METHODS, MethodEntry, find_method, make_method
from mtrl_surgery.runs.console import table

PLAIN = "plain"
OBSERVATION, ACTION = 39, 4  # Meta-World's


@dataclass
class Arguments:
    """Options of `methods`."""

    tasks: Annotated[list[int], "numbers of tasks to try"] = field(default_factory=lambda: [2, 10, 50])
    methods: Annotated[list[str], "empty: all"] = field(default_factory=list)
    batch: Annotated[int, "transitions a task"] = 128
    width: Annotated[int, "of each of three hidden layers"] = 400
    rounds: Annotated[int, "timed updates of each method, at most"] = 20
    seconds: Annotated[float, "time for each number of tasks: no round starts after it, but three are always timed"] = (
        120.0
    )
    device: Annotated[str, "auto | cpu | cuda | cuda:N"] = "auto"
    threads: Annotated[int | None, "null: all cores"] = None
    json: Annotated[str | None, PATH, "also write the results to this file"] = None
    csv: Annotated[
        str | None, PATH, "also write tasks, method, milliseconds, ratio to this file, for `python -m benchmarks page`"
    ] = None


@dataclass
class Cost:
    """The cost of a method's update, by number of tasks."""

    needs: str
    origin: str
    milliseconds: dict[int, float] = field(default_factory=dict)
    ratio: dict[int, float] = field(default_factory=dict)
    target: dict[int, float] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether every target is; None where there is none."""
        if not self.target:
            return None
        return all(self.ratio.get(tasks, math.inf) <= target for tasks, target in self.target.items())


def target(entry: MethodEntry, tasks: int) -> float | None:
    """The largest ratio that a method of ours may have; None for the others, and where none is set."""
    if entry.origin != "ours":
        return None
    if entry.needs == "losses":
        return 1.05
    return {"gramian": {10: 1.25, 50: 1.4}, "jacobian": {10: 1.4, 50: 1.7}}[entry.needs].get(tasks)


def main(words: Sequence[str]) -> int:
    """Milliseconds of an update with each method, as a ratio to the plain one."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("batch", "width", "rounds"):
        at_least_one(key, getattr(arguments, key))
    for tasks in arguments.tasks:
        at_least_one("tasks", tasks)
    if not arguments.tasks:
        raise SettingsError("tasks=[] names no number of tasks")
    entries = [find_method(name) for name in dict.fromkeys(arguments.methods)] or list(METHODS.values())
    rows = {label: find_entry(label) for label in with_variants(entry.name for entry in entries)}

    device = resolve_device(arguments.device)
    torch.set_num_threads(resolve_threads(arguments.threads or count_cores()))
    plain = Cost("losses", "ours")
    costs = {label: Cost(entry.needs, entry.origin) for label, entry in rows.items()}
    for tasks in dict.fromkeys(arguments.tasks):
        print(f"{tasks} tasks: {len(rows)} methods, about {arguments.seconds:g} s or less", file=sys.stderr)
        _measure(arguments, tasks, device, rows, plain, costs)
    print(
        f"update of SAC's critics, 3x{arguments.width}, {arguments.batch} transitions a task, {device}, "
        f"{torch.get_num_threads()} threads; medians of ratios to the plain updates of the summed losses "
        "before and after: "
        + ", ".join(f"{milliseconds:.1f} ms at K={tasks}" for tasks, milliseconds in plain.milliseconds.items())
    )
    print(_table(list(dict.fromkeys(arguments.tasks)), costs))
    if arguments.csv is not None:
        _write_csv(Path(arguments.csv), plain, costs)
    if arguments.json is not None:
        methods = {name: {**asdict(cost), "met": cost.met} for name, cost in costs.items()}
        results = {"plain_milliseconds": plain.milliseconds, "methods": methods}
        write_results(Path(arguments.json), vars(arguments), results)
    return 0


def _write_csv(path: Path, plain: Cost, costs: Mapping[str, Cost]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("tasks", "method", "milliseconds", "ratio"))
        for tasks, milliseconds in plain.milliseconds.items():
            writer.writerow((tasks, PLAIN, f"{milliseconds:.2f}", "1.00"))
            for name, cost in costs.items():
                if tasks in cost.ratio:
                    writer.writerow((tasks, name, f"{cost.milliseconds[tasks]:.2f}", f"{cost.ratio[tasks]:.2f}"))
    print(f"written to {path}")


def _measure(
    arguments: Arguments,
    tasks: int,
    device: str,
    rows: Mapping[str, MethodEntry],
    plain: Cost,
    costs: Mapping[str, Cost],
) -> None:
    """Time all methods at one number of tasks, and fill in their costs."""
    plain_update = _update(arguments, make_method(LsConfig(reduction="sum"), tasks, 0), device)
    updates: dict[str, Callable[[], object]] = {}
    periods: dict[str, int] = {}
    for name, entry in rows.items():
        bound = target(entry, tasks)
        if bound is not None:
            costs[name].target[tasks] = bound
        try:
            method = make_method(config_of(name), tasks, 0)
            update = _update(arguments, method, device)
            update()
        except MethodError as error:  # some methods have no defaults to run with, or take only some numbers of tasks
            costs[name].failed[tasks] = str(error)
            print(f"{name} can't run with {tasks} tasks: {error}", file=sys.stderr)
        else:
            updates[name], periods[name] = _several(update, method.period), method.period
    timed = beside(plain_update, updates, arguments.rounds, 1, device, arguments.seconds, periods)
    plain.milliseconds[tasks] = timed.reference
    for name, milliseconds in timed.milliseconds.items():
        costs[name].milliseconds[tasks] = milliseconds
        costs[name].ratio[tasks] = timed.ratio[name]
    print(f"{tasks} tasks: timed {timed.rounds} rounds", file=sys.stderr)


def _several(update: Callable[[], object], count: int) -> Callable[[], object]:
    """Some updates in a row: all that a method does once in a while is then in one lap."""

    def lap() -> None:
        for _ in range(count):
            update()

    return lap


def _update(arguments: Arguments, method: AnyMethod, device: str) -> Callable[[], object]:
    """An update of critics of their own, on a fixed batch."""
    parameters, task_losses = _critics(arguments, method.num_tasks, device)
    optimizer = SurgeryOptimizer(parameters, method, learning_rate=3e-4, eps=1e-5, max_grad_norm=1.0)
    return lambda: optimizer.step(task_losses, 0)


def _critics(arguments: Arguments, tasks: int, device: str) -> tuple[FlatParameters, TaskLosses]:
    """Twin critics of Meta-World's shapes with one-hot task codes, and their regression to random targets."""
    generator = torch.Generator().manual_seed(0)
    sizes = [OBSERVATION + tasks + ACTION, *[arguments.width] * 3, 1]
    critics = TaskMLP(initial_mlp(2, sizes, "he_uniform", generator, device))
    code_KBK = torch.eye(tasks)[:, None].expand(-1, arguments.batch, -1)
    input_KBX = torch.randn(tasks, arguments.batch, OBSERVATION + ACTION, generator=generator)
    x_KBI = torch.cat([input_KBX, code_KBK], dim=-1).to(device)
    target_KB = torch.randn(tasks, arguments.batch, generator=generator).to(device)

    def task_losses(theta: torch.Tensor) -> torch.Tensor:
        return (critics(x_KBI, theta)[..., 0] - target_KB).square().mean(-1).sum(0)

    return critics.parameters, task_losses


def _table(all_tasks: list[int], costs: Mapping[str, Cost]) -> str:
    def ratios(values: Mapping[int, float]) -> list[str]:
        return [f"{values[tasks]:.2f}" if tasks in values else "-" for tasks in all_tasks]

    rows: list[list[Any]] = [
        [name, cost.needs, cost.origin, *ratios(cost.ratio), " ".join(ratios(cost.target)), _MET[cost.met]]
        for name, cost in costs.items()
    ]
    header = ["method", "needs", "origin", *(f"K={tasks}" for tasks in all_tasks), "target", "met"]
    return table(header, rows, numbers=range(3, 3 + len(all_tasks)))


_MET = {True: "yes", False: "no", None: "-"}
