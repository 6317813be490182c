"""Videos of a checkpoint's policy: one a task, and a mosaic of all.

usage: mtrl-surgery record checkpoint=runs/<run> [tasks=[reach-v3,...]] [episodes=1] [camera=corner2] [format=mp4,gif]

{keys}

The episodes are those of `evaluate`: deterministic and whole. The files go to <out>/step-<n>/, or step-<n>-2 and so on
where that is taken. Needs the `record` extra and, for MuJoCo, EGL, OSMesa or GLFW: each is tried.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from envs.evaluation import PROTOCOLS
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError, check_choice, check_least
from mtrl_surgery.cli.trust import check_trusted
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.evaluate import OfCheckpoint, load_run, success_table
from mtrl_surgery.devices import count_cores
from mtrl_surgery.runs.durable import remove, write_text
from mtrl_surgery.settings import TrainSettings, env_imports
from mtrl_surgery.videos.backends import RenderingError, find_backend
from mtrl_surgery.videos.frames import FORMATS, check_encoder

if TYPE_CHECKING:
    from mtrl_surgery.runs.checkpoint import Checkpoint
    from mtrl_surgery.videos.filming import Shooting


@dataclasses.dataclass
class Arguments(OfCheckpoint):
    """The command's keys."""

    tasks: Annotated[list[str], "names of the run's tasks; []: all"] = dataclasses.field(default_factory=list)
    episodes: Annotated[int, "a task, one after the other"] = 1
    protocol: Annotated[str | None, "metaworld_plus | mtrl | suite; null: the run's own"] = None
    seed: Annotated[int | None, "of the evaluation's streams; null: the run's own"] = None
    size: Annotated[list[int], "width and height of a frame in pixels"] = dataclasses.field(
        default_factory=lambda: [480, 480]
    )
    every: Annotated[int, "steps from one frame to the next; half as many frames take half the time"] = 4
    fps: Annotated[float, "frames a second of the videos: with every=4 Meta-World plays at its real speed"] = 20.0
    camera: Annotated[
        str | None, "Meta-World's: corner2, corner, corner3, corner4, topview, behindGripper, gripperPOV; null: corner2"
    ] = None
    format: Annotated[str, "mp4 | gif | mp4,gif"] = "mp4,gif"
    mosaic: Annotated[bool, "also one video of all tasks"] = True
    out: Annotated[str | None, PATH, "where the recording's folder goes; null: runs/<run>/videos"] = None
    workers: Annotated[int | None, "processes that share the tasks; null: one a core"] = None
    trust: Annotated[bool, "let the run import code that is neither yours nor named here (its env.factory)"] = False


def main(words: Sequence[str]) -> int:
    """Film, print the table, name the files."""
    if not words or wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    _check(arguments)
    check_encoder()

    run, settings, checkpoint = load_run(arguments)
    check_trusted(env_imports(settings.env), run.path, arguments.trust, "env")
    backend = _backend(settings)
    from mtrl_surgery.videos.filming import film, free_folder, write_mosaic

    out = Path(arguments.out) if arguments.out else run.path / "videos"
    step = f"step-{checkpoint.step:09d}"
    # The files get their place when all are done, so that a folder of videos is whole.
    unfinished = out / f".tmp-{step}-{os.getpid()}"
    shooting, tasks = _plan(settings, checkpoint, arguments, unfinished)
    unfinished.mkdir(parents=True)
    try:
        rows = film(shooting, tasks, arguments.workers or count_cores(), backend)
        if arguments.mosaic and len(tasks) > 1:
            write_mosaic(shooting, tasks)
        for task in tasks:
            shooting.tiles(task).unlink()
        about = {
            "run": run.path.name,
            "checkpoint": checkpoint.path.name,
            "protocol": shooting.protocol,
            "seed": shooting.seed,
            "camera": shooting.camera,
            "renderer": backend,
            "steps_per_frame": shooting.every,
            "fps": shooting.fps,
            "tasks": [dataclasses.asdict(row) for row in rows],
        }
        write_text(unfinished / "recording.json", json.dumps(about, indent=2) + "\n")
        folder = free_folder(out / step)
        unfinished.rename(folder)
    finally:
        remove(unfinished)

    print(f"{checkpoint.path}: step {checkpoint.step:,}, protocol {shooting.protocol}")
    print(success_table(rows))
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    return 0


def _check(arguments: Arguments) -> None:
    least = {"episodes": 1, "every": 1, "workers": 1, "seed": 0}
    check_least({key: (getattr(arguments, key), one) for key, one in least.items()})
    if not 0.1 <= arguments.fps <= 240:
        raise SettingsError(f"fps={arguments.fps:g} must be between 0.1 and 240")
    if len(arguments.size) != 2 or any(side % 2 or not 64 <= side <= 4096 for side in arguments.size):
        raise SettingsError(f"size={arguments.size} must be [width,height], both even and between 64 and 4096")
    if arguments.protocol is not None:
        check_choice("protocol", arguments.protocol, PROTOCOLS)
    for name in arguments.format.split(","):
        check_choice("format", name, FORMATS)


def _backend(settings: TrainSettings) -> str | None:
    """MuJoCo's way to draw here; None where none works and the tasks may need none."""
    try:
        backend = find_backend()
    except RenderingError as error:
        if settings.env.kind == "metaworld":
            raise
        print(f"{error}\ntasks that draw without MuJoCo can still be recorded", file=sys.stderr)
        return None
    print(f"MuJoCo draws with {backend}", file=sys.stderr)
    return backend


def _plan(
    settings: TrainSettings, checkpoint: Checkpoint, arguments: Arguments, folder: Path
) -> tuple[Shooting, list[int]]:
    from envs.build import build_suite
    from envs.rendering import CAMERAS, drawable_suite
    from mtrl_surgery.assembly import build_collect_spec, trained_problem
    from mtrl_surgery.videos.filming import Shooting
    from mtrl_surgery.videos.frames import tile_size

    if arguments.camera is not None:
        if settings.env.kind != "metaworld":
            raise SettingsError(f"camera={arguments.camera}: only Meta-World's tasks have a choice of cameras")
        check_choice("camera", arguments.camera, CAMERAS)
    suite = build_suite(settings.env)
    trained_problem(settings, checkpoint)
    spec = build_collect_spec(settings, suite)
    names = spec.suite.tasks
    for name in arguments.tasks:
        check_choice("tasks", name, names)
    tasks = [index for index, name in enumerate(names) if name in arguments.tasks or not arguments.tasks]
    size = arguments.size[0], arguments.size[1]
    shooting = Shooting(
        suite=drawable_suite(spec.suite, settings.env),
        policy_factory=spec.policy_factory,
        weights_P=checkpoint.state["policy_weights"],
        episodes=arguments.episodes,
        protocol=arguments.protocol or settings.evaluation.protocol or "metaworld_plus",
        seed=settings.seed if arguments.seed is None else arguments.seed,
        camera=arguments.camera or "corner2",
        size=size,
        tile=tile_size(len(tasks), size),
        every=arguments.every,
        fps=arguments.fps,
        formats=tuple(arguments.format.split(",")),
        folder=folder,
    )
    return shooting, tasks
