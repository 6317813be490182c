"""A checkpoint's policy as files that need nothing of this package.

usage: mtrl-surgery export checkpoint=runs/<run> [out=FOLDER] [format=torchscript]

{keys}

Writes policy.safetensors (the tensors), policy.json (tasks, spaces, normalisation, layers), and policy.pt or
policy.onnx: (observations [N, O] float32, tasks [N] int64) -> deterministic actions [N, A] in [-1, 1].
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError, check_choice
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.evaluate import OfCheckpoint, load_run
from mtrl_surgery.runs.durable import remove, write_text
from mtrl_surgery.shell import install

if TYPE_CHECKING:
    from agents.problem import Problem
    from mtrl_surgery.export.policy import ActorTensors
    from mtrl_surgery.settings import TrainSettings

FORMATS = ("torchscript", "onnx")
VERSION = 1


@dataclasses.dataclass
class Arguments(OfCheckpoint):
    """The command's keys."""

    out: Annotated[str | None, PATH, "a new folder; null: runs/<run>/export-<n>"] = None
    format: Annotated[str, "torchscript | onnx | torchscript,onnx"] = "torchscript"


def main(words: Sequence[str]) -> int:
    """Write the folder, and name its files."""
    if not words or wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    formats = arguments.format.split(",")
    for name in formats:
        check_choice("format", name, FORMATS)
    if "onnx" in formats and importlib.util.find_spec("onnx") is None:
        raise SettingsError(f"format=onnx needs onnx, which is not installed: {install('export')}")

    run, settings, checkpoint = load_run(arguments)
    out = Path(arguments.out) if arguments.out else run.path / f"export-{checkpoint.step}"
    if out.exists():
        raise SettingsError(f"out={out} is there already; name a new folder")

    from mtrl_surgery.assembly import agent_config, trained_problem
    from mtrl_surgery.export.policy import actor_tensors

    problem = trained_problem(settings, checkpoint)
    tensors = actor_tensors(problem, agent_config(settings), checkpoint.state["policy_weights"])
    source = {"run": run.path.name, "checkpoint": checkpoint.path.name, "step": checkpoint.step}
    about = description(settings, problem, tensors) | {"source": source}
    unfinished = out.with_name(f".tmp-{out.name}-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        _write(unfinished, tensors, about, formats)
        unfinished.rename(out)
    finally:
        remove(unfinished)
    print(f"{checkpoint.path}: step {checkpoint.step:,}, {len(problem.tasks)} tasks")
    for path in sorted(out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
    return 0


def description(settings: TrainSettings, problem: Problem, tensors: ActorTensors) -> dict[str, Any]:
    """All that who drives the policy must know, as plain values."""
    from mtrl_surgery import __version__
    from mtrl_surgery.assembly import agent_config

    config = agent_config(settings)
    return {
        "format": VERSION,
        "written_by": f"mtrl-surgery {__version__}",
        "tasks": list(problem.tasks),
        "observation": {
            "size": problem.observation_dim,
            "dtype": "float32",
            "padding": "zeros at the end, where a task's own observation is shorter",
            "normalized": config.observation_normalization == "warmup",
            "clip": tensors.clip if config.observation_normalization == "warmup" else None,
        },
        "action": {
            "size": problem.action_dim,
            "dtype": "float32",
            "range": [-1.0, 1.0],
            "size_of_task": [int(size) for size in problem.action_mask_KA.sum(axis=1)],
            "scaling": "[-1, 1] is to be scaled to the environment's own bounds, where these are others",
        },
        "network": {
            "layers": [list(weight.shape) for weight in tensors.weights_IO],
            "hidden_activation": "relu",
            "output": "means of all action coordinates, then their log standard deviations",
            "task_code": "a row a task of layer0.bias" if config.one_hot else "none: the rows of layer0.bias are equal",
            "log_std": {"min": config.log_std_min, "max": config.log_std_max, "bound": config.log_std_bound},
            "formula": [
                "x = clip((observation - observation.mean) * observation.scale)",
                "x = x @ layer0.weight + layer0.bias[task]",
                "x = relu(x) @ layer<i>.weight + layer<i>.bias, for i = 1, 2, ...",
                "action = tanh(x[: action size]) * action.mask[task]",
            ],
        },
        "environment": dataclasses.asdict(settings.env),
    }


def _write(folder: Path, tensors: ActorTensors, about: dict[str, Any], formats: Sequence[str]) -> None:
    from safetensors.torch import save_file

    save_file(tensors.named(), folder / "policy.safetensors", metadata={"written_by": about["written_by"]})
    write_text(folder / "policy.json", json.dumps(about, indent=2, allow_nan=False) + "\n")
    if "torchscript" in formats:
        from mtrl_surgery.export.policy import write_torchscript

        write_torchscript(tensors, folder / "policy.pt")
    if "onnx" in formats:
        from mtrl_surgery.export.policy import write_onnx

        write_onnx(tensors, folder / "policy.onnx")
