"""The papers' figures: paths over the contours, loss space, surfaces, curves over time, and an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments_vision.toy.measures import WINDOW, curves, grid
from experiments_vision.toy.problems import Array, Problem
from experiments_vision.toy.run import MethodRun, ToyResult

_STARTS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#5a5a5a")
"""The colour of each start in every figure; the colour-blind tell them apart too (Okabe and Ito)."""
_PARETO, _OPTIMUM = "#111111", "#d00000"
_POINTS = 800  # of a path: more are not seen
_DPI = 130
_COLUMNS = 4  # panels side by side


def draw(result: ToyResult, folder: Path) -> None:
    """Write `surfaces.png`, every method's `<method>_{paths,losses,curves}.png`, and what the settings ask for besides.

    Several methods are also shown side by side, in `paths.png` and `losses.png`; `gif` asks for `<method>.gif`, which
    takes half a minute each.
    """
    _save(surfaces(result), folder / "surfaces.png")
    shown = {f"{run.config.name}_": [run] for run in result.runs} | ({"": result.runs} if len(result.runs) > 1 else {})
    for name, runs in shown.items():
        _save(paths(result, runs), folder / f"{name}paths.png")
        _save(loss_space(result, runs), folder / f"{name}losses.png")
    for run in result.runs:
        _save(over_time(result, run), folder / f"{run.config.name}_curves.png")
        if result.settings.gif:
            animate(result, run, folder / f"{run.config.name}.gif")


def paths(result: ToyResult, runs: Sequence[MethodRun]) -> Figure:
    """The starts' paths over the contours of L1 + L2, a panel a method."""
    figure, axes = _panels(result, runs)
    for ax, run in zip(axes, runs, strict=True):
        _contours(ax, result)
        for start, theta_TP in enumerate(_thinned(run).swapaxes(0, 1)):
            _path(ax, theta_TP, _colour(start))
        ax.label_outer()
    _legend(figure, axes[0])
    return figure


def loss_space(result: ToyResult, runs: Sequence[MethodRun]) -> Figure:
    """The paths of the two losses, with the Pareto front, a panel a method."""
    figure, axes = _panels(result, runs)
    front_MK, optima_NK = result.targets.front_MK, _losses(result.problem, result.targets.optima_NP)
    for ax, run in zip(axes, runs, strict=True):
        ax.plot(*front_MK.T, color=_PARETO, linewidth=3.0, label="Pareto front", zorder=2)
        for start, losses_TK in enumerate(_losses(result.problem, _thinned(run)).swapaxes(0, 1)):
            _path(ax, losses_TK, _colour(start))
        _stars(ax, optima_NK)
        ax.set(xlabel="$L_1$", ylabel="$L_2$")
        ax.label_outer()
        ax.grid(alpha=0.25)
    _legend(figure, axes[0])
    return figure


def surfaces(result: ToyResult) -> Figure:
    """L1, L2 and their sum in three dimensions."""
    grid_GP = grid(160, 160)
    losses_GK = _losses(result.problem, grid_GP)
    shown = (("$L_1$", losses_GK[..., 0]), ("$L_2$", losses_GK[..., 1]), ("$L_1 + L_2$", losses_GK.sum(axis=-1)))
    figure = _figure(13.0, 4.6)
    for number, (title, height_G) in enumerate(shown, start=1):
        ax: Any = figure.add_subplot(1, 3, number, projection="3d")
        ax.plot_surface(grid_GP[..., 0], grid_GP[..., 1], height_G, cmap="viridis", rcount=120, ccount=120, linewidth=0)
        ax.set(xlabel="$x$", ylabel="$y$", title=title)
        ax.view_init(elev=28, azim=-118)
        ax.tick_params(labelsize=8)
    return figure


def over_time(result: ToyResult, run: MethodRun) -> Figure:
    """Cosine and magnitude similarity of the gradients, and the multi-task curvature, over the steps."""
    found = curves(result.problem, run.descent)
    figure = _figure(8.0, 7.0)
    shown = (
        ("cosine", "cosine of the gradients"),
        ("magnitude_similarity", "magnitude similarity"),
        ("curvature", "curvature / squared norm"),
    )
    top: Any = None
    for number, (key, label) in enumerate(shown, start=1):
        top = figure.add_subplot(3, 1, number, sharex=top)
        for start, value_L in enumerate(found[key].T):
            x, y = result.settings.points[start]
            # Dashes, since a start's mirror image runs on the very same curve.
            style = (0, (4, 3)) if start % 2 else "solid"
            top.plot(found["step"], value_L, color=_colour(start), linestyle=style, label=f"({x:g}, {y:g})")
        top.set_ylabel(label)
        top.grid(alpha=0.25)
        if key == "curvature":
            top.set_yscale("symlog", linthresh=1.0)
            top.yaxis.get_major_locator().set_params(numticks=6)
            top.set_xlabel("step")
        else:
            top.set_ylim((-1.05, 1.05) if key == "cosine" else (-0.03, 1.03))
            top.tick_params(labelbottom=False)
    figure.suptitle(f"{run.config.name} on {result.settings.problem}")
    handles, labels = top.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, title="start", fontsize=9)
    return figure


def animate(result: ToyResult, run: MethodRun, path: Path, frames: int = 80) -> None:
    """The paths as they grow, over the contours and in loss space, as a GIF of eight seconds."""
    theta_TSP = run.descent.theta_TSP
    step_F = np.linspace(0, len(theta_TSP) - 1, frames).astype(np.int64)
    theta_FSP, losses_FSK = theta_TSP[step_F], _losses(result.problem, theta_TSP[step_F])
    figure = _figure(8.6, 4.3)
    left, right = figure.subplots(1, 2)
    _contours(left, result)
    right.plot(*result.targets.front_MK.T, color=_PARETO, linewidth=3.0)
    shown_MK = np.concatenate((losses_FSK.reshape(-1, 2), result.targets.front_MK))
    low, high = shown_MK.min(axis=0), shown_MK.max(axis=0)
    (x_low, y_low), (x_high, y_high) = low - 0.05 * (high - low), high + 0.05 * (high - low)
    right.set(xlabel="$L_1$", ylabel="$L_2$", xlim=(x_low, x_high), ylim=(y_low, y_high))
    right.grid(alpha=0.25)
    drawn = []
    for ax, points_FSK in ((left, theta_FSP), (right, losses_FSK)):
        for start in range(points_FSK.shape[1]):
            (line,) = ax.plot([], [], color=_colour(start), linewidth=1.8)
            (head,) = ax.plot([], [], "o", color=_colour(start), markersize=6, markeredgecolor="white")
            drawn.append((line, head, points_FSK[:, start]))
    title = figure.suptitle("")

    def show(frame: int) -> list[Any]:
        for line, head, points_FK in drawn:
            line.set_data(*points_FK[: frame + 1].T)
            head.set_data(*points_FK[frame : frame + 1].T)
        title.set_text(f"{run.config.name} on {result.settings.problem}: step {step_F[frame]:,}")
        return []

    animation = FuncAnimation(figure, show, frames=frames)
    animation.save(path, PillowWriter(fps=10), dpi=75)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever the user's matplotlib is set to
    return figure


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")


def _panels(result: ToyResult, runs: Sequence[MethodRun]) -> tuple[Figure, list[Any]]:
    columns = min(len(runs), _COLUMNS)
    rows = -(-len(runs) // columns)
    figure = _figure(3.9 * columns + 0.8, 4.1 * rows + 0.7)
    cells = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    axes = cells[: len(runs)]
    for ax in cells[len(runs) :]:
        ax.set_axis_off()
    for ax, run in zip(axes, runs, strict=True):
        ax.set_title(f"{run.config.name} on {result.settings.problem}" if len(runs) == 1 else run.config.name)
    return figure, axes


def _legend(figure: Figure, ax: Any) -> None:
    handles, labels = ax.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    for label, marker in (("start", "o"), ("end", "X")):
        named[label] = Line2D([], [], color="#666666", marker=marker, markersize=7, linestyle="none")
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _contours(ax: Any, result: ToyResult) -> None:
    grid_GP = grid(250, 250)
    sum_G = _losses(result.problem, grid_GP).sum(axis=-1)
    # Levels by rank: the upper half is a tenth as high as the lower one is deep.
    levels = np.unique(np.quantile(sum_G, np.linspace(0.0, 1.0, 26)))
    pale = ListedColormap(colormaps["Blues_r"](np.linspace(0.5, 1.0, 256)))  # so that every path stands out
    ax.contourf(grid_GP[..., 0], grid_GP[..., 1], sum_G, levels=levels, cmap=pale, zorder=0)
    ax.contour(grid_GP[..., 0], grid_GP[..., 1], sum_G, levels=levels, colors="#8a94a0", linewidths=0.35, zorder=1)
    ax.plot(*result.targets.pareto_MP.T, color=_PARETO, linewidth=3.0, label="Pareto set", zorder=2)
    _stars(ax, result.targets.optima_NP)
    ax.set(xlabel="$x$", ylabel="$y$", xlim=WINDOW[0], ylim=WINDOW[1], aspect="equal")


def _stars(ax: Any, points_NK: Array) -> None:
    look = {"color": _OPTIMUM, "markersize": 11, "markeredgecolor": "white", "linestyle": "none", "zorder": 7}
    ax.plot(*points_NK.T, "*", label="least L1 + L2", **look)


def _path(ax: Any, points_TK: Array, colour: str) -> None:
    ax.plot(*points_TK.T, color=colour, linewidth=1.8, zorder=3)
    ax.plot(*points_TK[0], "o", color=colour, markersize=6, markeredgecolor="white", zorder=4)
    ax.plot(*points_TK[-1], "X", color=colour, markersize=8, markeredgecolor="white", zorder=6)


def _thinned(run: MethodRun) -> Array:
    theta_TSP = run.descent.theta_TSP
    return theta_TSP[np.unique(np.linspace(0, len(theta_TSP) - 1, _POINTS).astype(np.int64))]


def _losses(problem: Problem, theta_P: Array) -> Array:
    return problem.losses_and_jacobian(theta_P)[0]


def _colour(start: int) -> str:
    return _STARTS[start % len(_STARTS)]
