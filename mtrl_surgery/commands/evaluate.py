"""Success of a checkpoint, task by task.

usage: mtrl-surgery evaluate checkpoint=runs/<run> [episodes=50] [protocol=metaworld_plus] [workers=4] [env.KEY=VALUE]

{keys}
  env.KEY=VALUE                       another environment for the same tasks, such as env.goal_seed=1
                                      for goals that the run never saw

Actions are deterministic and episodes whole. Prints both definitions of success, at any step and at the last step, and
writes runs/<run>/evaluation-<step>-<protocol>.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from envs.evaluation import PROTOCOLS
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.resuming import asked_for
from mtrl_surgery.cli.schema import SettingsError, check_choice, check_least
from mtrl_surgery.cli.trust import check_trusted
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.program import TRAIN, compose, plain
from mtrl_surgery.devices import count_cores
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointError, CheckpointStore, load_checkpoint
from mtrl_surgery.runs.console import table
from mtrl_surgery.runs.durable import write_text
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import (
    TrainSettings,
    check_made_with,
    env_imports,
    settings_from_mapping,
    to_settings,
)

if TYPE_CHECKING:
    from agents.problem import Problem
    from envs.config import EnvConfig
    from envs.evaluation import TaskEvaluation


@dataclasses.dataclass
class OfCheckpoint:
    """The key of every command that reads a checkpoint."""

    checkpoint: Annotated[
        str, PATH, "a run folder (its newest whole checkpoint) or one checkpoint, runs/<run>/checkpoints/step-<n>"
    ] = ""


@dataclasses.dataclass
class Arguments(OfCheckpoint):
    """The command's keys."""

    episodes: Annotated[int, "a task; the mtrl protocol plays one"] = 50
    protocol: Annotated[str | None, "metaworld_plus | mtrl | suite; null: the run's own"] = None
    workers: Annotated[int | None, "processes that share the tasks; null: one a core"] = None
    seed: Annotated[int | None, "of the evaluation's streams; null: the run's own"] = None
    trust: Annotated[bool, "let the run import code that is neither yours nor named here (its env.factory)"] = False


def main(words: Sequence[str]) -> int:
    """Evaluate, print the table, write the JSON."""
    if not words or wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    env_words = [word for word in words if word.startswith(("env=", "env."))]
    arguments = parse([word for word in words if word not in env_words], Arguments)
    check_least({"episodes": (arguments.episodes, 1), "workers": (arguments.workers, 1)})
    if arguments.protocol is not None:
        check_choice("protocol", arguments.protocol, PROTOCOLS)

    run, settings, checkpoint = load_run(arguments)
    env, named = other_env(settings, env_words)
    check_trusted([name for name in env_imports(env) if not _names(named, name)], run.path, arguments.trust, "env")
    arguments.protocol = arguments.protocol or settings.evaluation.protocol or "metaworld_plus"
    arguments.seed = settings.seed if arguments.seed is None else arguments.seed
    rows = evaluate(settings, env, checkpoint, arguments)

    print(f"{checkpoint.path}: step {checkpoint.step:,}, protocol {arguments.protocol}")
    print(success_table(rows))
    text = json.dumps(summary(run, checkpoint, arguments, env, rows), indent=2) + "\n"
    # Goals that the run never saw must not take the place of its own result.
    suffix = "" if env == settings.env else f"-{hashlib.sha256(repr(env).encode()).hexdigest()[:8]}"
    path = run.path / f"evaluation-{checkpoint.step}-{arguments.protocol}{suffix}.json"
    write_text(path, text)
    print(f"written to {path}")
    return 0


def load_run(arguments: OfCheckpoint) -> tuple[RunFolder, TrainSettings, Checkpoint]:
    """The run that `checkpoint=` names, its settings, and the checkpoint, which was made with them.

    Raises:
        SettingsError: the key is missing, or the checkpoint was made with other settings.
        RunError: the path is neither a run folder nor in one.
        CheckpointError: the checkpoint is not whole, or the run has none that is.
    """
    if not arguments.checkpoint:
        raise SettingsError("checkpoint=<run folder or one of its checkpoints> is missing")
    path = Path(arguments.checkpoint)
    one = path.parent.name == "checkpoints"
    run = RunFolder.open(path.parent.parent if one else path)
    checkpoint = load_checkpoint(path, replay=False) if one else CheckpointStore(run.checkpoints, keep=1).newest()
    if checkpoint is None:
        raise CheckpointError(f"checkpoint={path}: the run has no whole checkpoint")
    settings = settings_from_mapping(run.config(), run.path / "config.yaml")
    check_made_with(checkpoint, settings)
    return run, settings, checkpoint


def other_env(settings: TrainSettings, words: Sequence[str]) -> tuple[EnvConfig, Mapping[str, Any]]:
    """The run's environment with the command line's changes, and what the command line names, by key.

    Raises:
        SettingsError: an unknown key, or a value of the wrong type.
    """
    if not words:
        return settings.env, {}
    composed = compose(words)
    named = asked_for(TRAIN, plain, composed, words)
    if any(word.startswith("env=") for word in words):
        return to_settings(composed).env, named
    changes = {key.removeprefix("env."): value for key, value in named.items()}
    return dataclasses.replace(settings.env, **changes), named


def _names(named: Mapping[str, Any], name: str) -> bool:
    """Whether the command line names what would be imported."""
    return named.get("env.factory") == name or any(f"{name}:" in task for task in named.get("env.tasks") or ())


def evaluate(
    settings: TrainSettings, env: EnvConfig, checkpoint: Checkpoint, arguments: Arguments
) -> list[TaskEvaluation]:
    """Play the episodes of every task.

    Raises:
        SettingsError: the environment has other tasks or spaces than the checkpoint's policy.
        EnvironmentFailure: a simulator raised.
    """
    from cluster.config import ClusterConfig, count_workers
    from envs.build import build_suite
    from mtrl_surgery.assembly import build_collect_spec, build_problem, trained_problem

    suite = build_suite(env)
    here = build_problem(suite)
    trained = trained_problem(settings, checkpoint)
    if _spaces(here) != _spaces(trained):
        raise SettingsError(
            f"checkpoint={checkpoint.path} was trained on {_describe(trained)}, but env has {_describe(here)}"
        )
    spec = build_collect_spec(settings, suite)
    if arguments.seed is not None:
        spec = dataclasses.replace(spec, seed=arguments.seed)
    cluster = ClusterConfig(kind="local", workers=arguments.workers or count_cores())
    if count_workers(cluster, len(suite.tasks)) == 1:
        return _evaluate_here(spec, checkpoint, arguments)
    return _evaluate_on_ray(spec, cluster, checkpoint, arguments)


def summary(
    run: RunFolder, checkpoint: Checkpoint, arguments: Arguments, env: EnvConfig, rows: Sequence[TaskEvaluation]
) -> dict[str, Any]:
    """Everything about the evaluation, as plain values."""
    return {
        "run": run.path.name,
        "checkpoint": checkpoint.path.name,
        "step": checkpoint.step,
        "protocol": arguments.protocol,
        "seed": arguments.seed,
        "env": dataclasses.asdict(env),
        "mean_success_any": fmean(row.successes_any / row.episodes for row in rows),
        "mean_success_last": fmean(row.successes_last / row.episodes for row in rows),
        "tasks": [dataclasses.asdict(row) | {"mean_return": fmean(row.returns)} for row in rows],
    }


def success_table(rows: Sequence[TaskEvaluation]) -> str:
    """A row a task, with counts, and the mean of the rates."""
    cells, rates = [], []
    for row in rows:
        counts = (row.successes_any, row.successes_last)
        rates.append([count / row.episodes for count in counts])
        shown = (*(f"{rate:.2f}" for rate in rates[-1]), *(f"{count}/{row.episodes}" for count in counts))
        cells.append((row.name, *shown, f"{fmean(row.returns):.1f}"))
    mean = ("mean", *(f"{fmean(column):.2f}" for column in zip(*rates, strict=True)), "", "", "")
    header = ("task", "any step", "last step", "any", "last", "mean return")
    return table(header, [*cells, mean], numbers=(1, 2, 3, 4, 5))


def _evaluate_here(spec: Any, checkpoint: Checkpoint, arguments: Arguments) -> list[TaskEvaluation]:
    import torch

    from envs.evaluation import evaluate_task

    torch.set_num_threads(1)
    policy = spec.policy_factory()
    policy.load(checkpoint.state["policy_weights"])
    rows = []
    for task, name in enumerate(spec.suite.tasks):
        print(f"{name} ({task + 1} of {len(spec.suite.tasks)})", file=sys.stderr)
        protocol = str(arguments.protocol)
        rows.append(evaluate_task(spec.suite, task, policy.mode, arguments.episodes, protocol, spec.seed))
    return rows


def _evaluate_on_ray(spec: Any, cluster: Any, checkpoint: Checkpoint, arguments: Arguments) -> list[TaskEvaluation]:
    from cluster.assembly import make_collector
    from cluster.config import ClusterFailure
    from cluster.training.collect import EvaluationOrder

    weights = checkpoint.state["policy_weights"]
    order = EvaluationOrder(checkpoint.step, 0, weights, arguments.episodes, str(arguments.protocol))
    print(f"{len(spec.suite.tasks)} tasks on {cluster.workers} workers", file=sys.stderr)
    try:
        collector = make_collector(spec, cluster)
    except ClusterFailure as error:
        raise ClusterFailure(f"{error} (workers=1 does without Ray)") from error
    try:
        collector.start(None)
        collector.evaluate(order)
        while not (evaluated := collector.evaluations()):
            time.sleep(0.1)
    finally:
        collector.close()
    return evaluated[0].tasks


def _spaces(problem: Problem) -> tuple[Any, ...]:
    return problem.tasks, problem.observation_dim, problem.action_dim, problem.action_mask_KA.tolist()


def _describe(problem: Problem) -> str:
    return f"{', '.join(problem.tasks)} ({problem.observation_dim} observations, {problem.action_dim} actions)"
