"""Times a shared-input step beside TorchJD's, as ratios to one plain backward of the summed losses.

    OMP_NUM_THREADS=1 python -m tests.library.compare_torchjd [--repeats 30]

All variants of a model take turns in one process; a time is the CPU time of the one thread, and a ratio that of the
medians. Every step includes the
forward pass.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torchjd.aggregation import Mean, PCGradWeighting
from torchjd.autogram import Engine
from torchjd.autojac import jac_to_grad, mtl_backward

from mtrl_surgery import Surgery


def mlp(num_tasks: int) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    """Three layers of 400; 128 samples."""
    layers = [nn.Linear(64, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU()]
    return nn.Sequential(*layers), nn.ModuleList(nn.Linear(400, 1) for _ in range(num_tasks)), torch.randn(128, 64)


def conv(num_tasks: int) -> tuple[nn.Module, nn.ModuleList, Tensor]:
    """Three convolutions of 32 channels; 16 images of 32 x 32."""
    layers = [nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 32, 3, 2), nn.ReLU()]
    trunk = nn.Sequential(*layers, nn.Flatten())
    return trunk, nn.ModuleList(nn.Linear(288, 1) for _ in range(num_tasks)), torch.randn(16, 3, 32, 32)


def variants(trunk: nn.Module, heads: nn.ModuleList, x: Tensor) -> dict[str, Callable[[], None]]:
    """Name -> one forward and backward."""
    num_tasks, shared = len(heads), list(trunk.parameters())
    ours = {name: Surgery(name, num_tasks) for name in ("ls", "pcgrad", "samgs")}
    small = Surgery("pcgrad", num_tasks, max_jacobian_bytes=num_tasks * max(p.nbytes for p in shared))
    by_features = Surgery("pcgrad", num_tasks)
    hooked = copy.deepcopy(trunk)  # the engine's hooks must not slow the others down
    engine, weighting = Engine(hooked, batch_dim=None), PCGradWeighting()

    def forward() -> tuple[Tensor, list[Tensor]]:
        features = trunk(x)
        return features, [head(features).square().mean() for head in heads]

    def loop() -> None:
        losses = forward()[1]
        rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
        for parameter, columns in zip(shared, zip(*rows, strict=True), strict=True):
            parameter.grad = torch.stack(columns).mean(0)

    def autojac() -> None:
        features, losses = forward()
        mtl_backward(losses, features=features)
        jac_to_grad(shared, Mean())

    def autogram() -> None:
        features = hooked(x)
        losses = torch.stack([head(features).square().mean() for head in heads])
        losses.backward(weighting(engine.compute_gramian(losses)))

    def by_feature() -> None:
        features, losses = forward()
        by_features.backward(losses, features=features)

    return {
        "plain": lambda: sum(forward()[1]).backward(),  # type: ignore[union-attr]
        "ls": lambda: ours["ls"].backward(forward()[1]),
        "pcgrad, features=": by_feature,
        "ls, diagnose=True (Jacobian)": lambda: ours["ls"].backward(forward()[1], diagnose=True),
        "pcgrad": lambda: ours["pcgrad"].backward(forward()[1]),
        "samgs": lambda: ours["samgs"].backward(forward()[1]),
        "pcgrad, room for the largest parameter": lambda: small.backward(forward()[1]),
        "loop of autograd.grad": loop,
        "TorchJD autojac, Mean": autojac,
        "TorchJD autogram, PCGrad": autogram,
    }


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    columns: dict[str, dict[str, float]] = {}
    for model in (mlp, conv):
        for num_tasks in (3, 10):
            torch.manual_seed(0)
            trunk, heads, x = model(num_tasks)
            steps = variants(trunk, heads, x)
            times: dict[str, list[float]] = {name: [] for name in steps}
            for repeat in range(repeats + 3):
                for name, step in steps.items():
                    trunk.zero_grad()
                    heads.zero_grad()
                    start = time.process_time()
                    step()
                    if repeat >= 3:
                        times[name].append(time.process_time() - start)
            plain = median(times["plain"])
            columns[f"{model.__name__} K={num_tasks}"] = {name: median(t) / plain for name, t in times.items()}
            print(f"{model.__name__} K={num_tasks}: plain {1e3 * plain:.2f} ms", flush=True)
    print("| step | " + " | ".join(columns) + " |\n| --- |" + " --- |" * len(columns))
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(f"{column[name]:.2f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
