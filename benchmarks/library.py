"""Time and memory of `Surgery` in a plain PyTorch loop, beside a loop over the losses and TorchJD.

usage: python -m benchmarks library [KEY=VALUE ...]

{keys}

Ratios to a step of one plain backward of the summed losses, forward pass included, no optimizer; each step has a plain
one right before and after it. In the cases `rows-...` each row of a joint batch belongs to one task and the losses are
means over its rows; in the others all tasks read the same rows. `surgery` is a step with a watched model and
`unwatched` one without, `list` the usual loop over `torch.autograd.grad`, `autojac` and `autogram` are TorchJD's.
`MiB` is the most that a step holds above what was there before.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torchjd.aggregation import Mean, PCGradWeighting
from torchjd.autogram import Engine
from torchjd.autojac import backward, jac_to_grad

from benchmarks.timing import at_least_one, beside, peak_bytes, write_results
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import check_choice
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.runs.console import table
from mtrl_surgery.surgery import Surgery

Losses = Callable[[nn.Module], list[Tensor]]


class Residual(nn.Module):
    """Two convolutions with group norm beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()),
            *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.GroupNorm(8, outputs)),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / stride, W / stride]."""
        return torch.relu(self.layers(x) + self.shortcut(x))


class Heads(nn.Module):
    """A trunk and a linear head a task, side by side."""

    def __init__(self, trunk: nn.Module, width: int, tasks: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, ...] -> [B, 1] a task."""
        features = self.trunk(x)
        return [head(features) for head in self.heads]


def _mlp(width: int, outputs: int) -> nn.Module:
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(39, width), nn.ReLU(), *hidden, nn.Linear(width, outputs))


def _resnet() -> nn.Module:
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.GroupNorm(8, 16), nn.ReLU(), *blocks, *last)


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(128, 4))


def _cnn() -> nn.Module:
    layers = [nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


def _rows(make: Callable[[], nn.Module], rows: int, *shape: int) -> Callable[[int], tuple[nn.Module, Losses]]:
    """A case whose K tasks have `rows` rows each of one batch."""

    def case(tasks: int) -> tuple[nn.Module, Losses]:
        model, x = make(), torch.randn(tasks * rows, *shape)
        with torch.no_grad():
            aim = torch.randn_like(model(x))

        def losses(model: nn.Module) -> list[Tensor]:
            error = (model(x) - aim).square()
            return [part.mean() for part in error.split(rows)]

        return model, losses

    return case


def _shared(
    make: Callable[[], nn.Module], width: int, rows: int, *shape: int
) -> Callable[[int], tuple[nn.Module, Losses]]:
    """A case whose K tasks read the same rows."""

    def case(tasks: int) -> tuple[nn.Module, Losses]:
        model, x = Heads(make(), width, tasks), torch.randn(rows, *shape)
        return model, lambda model: [(out - task).square().mean() for task, out in enumerate(model(x))]

    return case


CASES = {
    "rows-mlp": _rows(lambda: _mlp(256, 4), 128, 39),
    "rows-resnet": _rows(_resnet, 4, 3, 32, 32),
    "rows-transformer": _rows(_transformer, 4, 16, 128),
    "cnn": _shared(_cnn, 288, 16, 3, 32, 32),
    "mlp": _shared(lambda: _mlp(400, 400), 400, 128, 39),
}


@dataclass
class Arguments:
    """Options of `library`."""

    cases: Annotated[list[str], "; ".join(CASES)] = field(default_factory=lambda: list(CASES))
    tasks: Annotated[list[int], "numbers of tasks to try"] = field(default_factory=lambda: [3, 10])
    methods: Annotated[list[str], "whose steps to time"] = field(
        default_factory=lambda: ["ls", "pcgrad", "cagrad", "samgs"]
    )
    rounds: Annotated[int, "timed, after three that are not"] = 15
    seconds: Annotated[float, "for each case: no round starts later, but three are always timed"] = 120.0
    threads: Annotated[int, "CPU threads"] = 1
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


def main(words: Sequence[str]) -> int:
    """Run the benchmark."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    at_least_one("rounds", arguments.rounds)
    at_least_one("threads", arguments.threads)
    for case in arguments.cases:
        check_choice("cases", case, CASES)
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {}
    for case in arguments.cases:
        for tasks in arguments.tasks:
            results[f"{case} K={tasks}"] = _measure(case, tasks, arguments)
            print(f"{case} K={tasks}: plain {results[f'{case} K={tasks}']['plain']['ms']:.2f} ms", flush=True)
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    print(
        table(["step", *results], [[name, *(_cell(result.get(name)) for result in results.values())] for name in names])
    )
    if arguments.json is not None:
        write_results(Path(arguments.json), asdict(arguments), results)
    return 0


def _cell(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['ratio']:.2f} ({found['MiB']:.0f} MiB)"


def _measure(case: str, tasks: int, arguments: Arguments) -> dict[str, dict[str, float]]:
    torch.manual_seed(0)
    model, losses = CASES[case](tasks)
    steps = _steps(model, losses, tasks, arguments.methods, case.startswith("rows"))
    plain = steps.pop("plain")
    found = beside(plain, steps, arguments.rounds, 3, "cpu", arguments.seconds, clock=time.process_time)
    result = {"plain": {"ms": found.reference, "ratio": 1.0, "MiB": peak_bytes(plain, "cpu") / 2**20}}
    for name, step in steps.items():
        result[name] = {
            "ms": found.milliseconds[name],
            "ratio": found.ratio[name],
            "MiB": peak_bytes(step, "cpu") / 2**20,
        }
    return result


def _steps(
    model: nn.Module, losses: Losses, tasks: int, methods: Sequence[str], by_rows: bool
) -> dict[str, Callable[[], object]]:
    """Name -> forward pass and gradients; each has a model of its own."""

    def step(run: Callable[[nn.Module], object]) -> Callable[[], object]:
        own = copy.deepcopy(model)

        def whole() -> None:
            own.zero_grad()
            run(own)

        return whole

    def of(method: str, watch: bool, **options: Any) -> Callable[[], object]:
        own = copy.deepcopy(model)
        surgery = Surgery(method, tasks, model=own if watch else None, **options)

        def whole() -> None:
            own.zero_grad()
            surgery.backward(losses(own))

        return whole

    def listed(own: nn.Module) -> None:
        shared = list((own.trunk if isinstance(own, Heads) else own).parameters())
        found = losses(own)
        rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in found]
        for parameter, columns in zip(shared, zip(*rows, strict=True), strict=True):
            parameter.grad = torch.stack(columns).mean(0)

    def autojac(own: nn.Module) -> None:
        shared = list((own.trunk if isinstance(own, Heads) else own).parameters())
        backward(losses(own), inputs=shared)
        jac_to_grad(shared, Mean())

    watched = copy.deepcopy(model)  # its hooks must not slow the others down
    engine = Engine(watched.trunk if isinstance(watched, Heads) else watched, batch_dim=None)

    def autogram() -> None:
        watched.zero_grad()
        found = torch.stack(losses(watched))
        found.backward(PCGradWeighting()(engine.compute_gramian(found)))

    steps: dict[str, Callable[[], object]] = {"plain": step(lambda own: torch.stack(losses(own)).sum().backward())}
    steps |= {f"surgery {name}": of(name, by_rows) for name in methods}
    if by_rows:
        steps["surgery pcgrad, least memory"] = of("pcgrad", True, max_jacobian_bytes=1)
        steps["unwatched pcgrad"] = of("pcgrad", False)
    return steps | {"list": step(listed), "autojac Mean": step(autojac), "autogram PCGrad": autogram}
