"""The commands of the supervised benchmarks, by name; nothing heavy is imported here."""

from __future__ import annotations

from mtrl_surgery.cli.entry import Command

COMMANDS: dict[str, Command] = {
    "train": Command(
        "experiments_vision.commands.train", "train a network on a data set, or go on with a run", trains=True
    ),
    "table": Command("experiments_vision.commands.table", "the papers' tables from run folders, with published rows"),
    "report": Command("experiments_vision.commands.report", "one HTML file with figures, and the papers' tables"),
    "dashboard": Command("experiments_vision.commands.dashboard", "the runs live, in a browser"),
    "check": Command("experiments_vision.commands.check", "look at every file of a data set before any training"),
    "datasets": Command("experiments_vision.commands.datasets", "the data sets: what they are, who made them"),
    "toy": Command(
        "experiments_vision.commands.toy", "two-dimensional problems: trajectories, figures, table", trains=True
    ),
}
