"""Gradient surgery in a plain PyTorch loop: three regressions of different scale on one trunk.

Run it with `python examples/library.py`; `--method` takes any name of `python -m mtrl_surgery methods`.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import mtrl_surgery


def main() -> None:
    """Trains, and prints the losses as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="samgs")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    targets = [(inputs @ torch.randn(8, 1)).sin() * scale for scale in (0.3, 1.0, 10.0)]

    trunk = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh())
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in targets)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=3e-3)
    surgery = mtrl_surgery.Surgery(arguments.method, num_tasks=len(targets))

    def losses() -> list[torch.Tensor]:
        features = trunk(inputs)
        return [nn.functional.mse_loss(head(features), target) for head, target in zip(heads, targets, strict=True)]

    for step in range(arguments.steps):
        optimizer.zero_grad()
        batch = losses()
        surgery.backward(batch)
        optimizer.step()
        if surgery.method.needs_losses_after_step:
            surgery.observe(losses())
        if step % 20 == 0 or step + 1 == arguments.steps:
            surgery.check()
            rate = surgery.diagnostics().get("conflict_rate", torch.tensor(torch.nan))
            values = "  ".join(f"{loss.item():8.4f}" for loss in batch)
            print(f"step {step:4d}  losses {values}  conflict rate {rate.item():.2f}")


if __name__ == "__main__":
    main()
