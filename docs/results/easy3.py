"""Reads easy3 run folders, prints the table, and writes easy3.csv and easy3.png into a folder (needs matplotlib).

usage: python docs/results/easy3.py runs/easy3_* [--out FOLDER]
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib
import yaml
from matplotlib import pyplot

from mtrl_surgery.runs.folder import read_rows

COLOURS = {"ls": "#4477aa", "samgs": "#cc3311"}
Curves = dict[tuple[str, int], dict[int, dict[str, float]]]


def read(folders: list[Path]) -> Curves:
    """(method, seed) -> step -> task -> any-step success."""
    curves: Curves = {}
    for folder in folders:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        curve: dict[int, dict[str, float]] = defaultdict(dict)
        for row in read_rows(folder / "evaluations.jsonl"):
            curve[row["step"]][row["task"]] = row["successes_any"] / row["episodes"]
        if curve:  # a run that has just begun has none
            curves[config["method"]["name"], config["seed"]] = dict(sorted(curve.items()))
    return dict(sorted(curves.items()))


def write_csv(curves: Curves, out: Path) -> None:
    """One row for each method, seed and evaluation."""
    with (out / "easy3.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        tasks = list(next(iter(next(iter(curves.values())).values())))
        writer.writerow(["method", "seed", "step", *tasks, "mean"])
        for (method, seed), curve in curves.items():
            for step, rates in curve.items():
                mean = sum(rates.values()) / len(rates)
                writer.writerow([method, seed, step, *(f"{rates[task]:.2f}" for task in tasks), f"{mean:.3f}"])


def summary(curves: Curves) -> str:
    """A Markdown table: the mean of the last three evaluations, each seed and over seeds."""
    lines = ["| method | seed 0 | seed 1 | seed 2 | mean of 3 seeds |", "| --- | --- | --- | --- | --- |"]
    methods: dict[str, list[float]] = defaultdict(list)
    for (method, _), curve in curves.items():
        last = list(curve.values())[-3:]
        methods[method].append(sum(sum(rates.values()) / len(rates) for rates in last) / len(last))
    for method, values in methods.items():
        cells = " | ".join(f"{value:.3f}" for value in values)
        lines.append(f"| `{method}` | {cells} | {sum(values) / len(values):.3f} |")
    return "\n".join(lines)


def plot(curves: Curves, out: Path) -> None:
    """Mean success over tasks: thin lines are seeds, the thick line is their mean."""
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120)
    for method in dict.fromkeys(method for method, _ in curves):
        seeds = [curve for (name, _), curve in curves.items() if name == method]
        means = [{step: sum(rates.values()) / len(rates) for step, rates in curve.items()} for curve in seeds]
        for mean in means:
            axes.plot(list(mean), list(mean.values()), color=COLOURS.get(method), alpha=0.3, linewidth=1)
        steps = sorted(set.intersection(*(set(mean) for mean in means)))
        average = [sum(mean[step] for mean in means) / len(means) for step in steps]
        axes.plot(steps, average, color=COLOURS.get(method), linewidth=2.5, label=f"{method}, {len(means)} seeds")
    axes.axhline(0.9, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="vector steps", ylabel="success at any step, mean of 3 tasks", ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(out / "easy3.png")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of experiment=easy3")
    parser.add_argument("--out", type=Path, default=Path("easy3_results"), help="default: easy3_results")
    words = parser.parse_args()
    found = read(words.runs)
    words.out.mkdir(parents=True, exist_ok=True)
    write_csv(found, words.out)
    plot(found, words.out)
    print(summary(found))


if __name__ == "__main__":
    main()
