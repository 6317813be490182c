"""Drives Meta-World with what `mtrl-surgery export` wrote: `python drive_exported_policy.py FOLDER [STEPS]`."""

import json
import sys
from pathlib import Path

import metaworld
import torch

folder, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 500
tasks = json.loads((folder / "policy.json").read_text())["tasks"]
policy = torch.jit.load(folder / "policy.pt")
for index, name in enumerate(tasks):
    benchmark = metaworld.MT1(name, seed=0)
    env = benchmark.train_classes[name]()
    env.set_task(benchmark.train_tasks[0])
    obs, succeeded = env.reset()[0], False
    for _ in range(steps):
        action = policy(torch.as_tensor(obs, dtype=torch.float32)[None], torch.tensor([index]))
        obs, _, _, _, info = env.step(action[0].numpy())
        succeeded |= bool(info["success"])
    print(f"{name}: {'success' if succeeded else 'no success'}")
