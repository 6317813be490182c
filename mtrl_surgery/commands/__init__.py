"""The commands, by name. This table imports nothing heavy: neither torch nor ray nor hydra."""

from __future__ import annotations

from mtrl_surgery.cli.entry import Command

COMMANDS: dict[str, Command] = {
    "train": Command(
        "mtrl_surgery.commands.train", "train SAC with a surgery method, or go on with a run", trains=True
    ),
    "sweep": Command("mtrl_surgery.commands.sweep", "how the runs of `train -m` stand, and their end"),
    "evaluate": Command("mtrl_surgery.commands.evaluate", "success of a checkpoint, task by task"),
    "report": Command("mtrl_surgery.commands.report", "curves, conflicts and statistics of runs, in one HTML file"),
    "dashboard": Command("mtrl_surgery.commands.dashboard", "the same live, in a browser, while runs go on"),
    "record": Command("mtrl_surgery.commands.record", "videos of a checkpoint: one a task, and a mosaic of all"),
    "export": Command("mtrl_surgery.commands.export", "a checkpoint's policy, for use without this package"),
    "methods": Command("mtrl_surgery.commands.methods", "the surgery methods and their options"),
    "completion": Command("mtrl_surgery.commands.completion", "tab completion for bash, zsh and fish"),
}
