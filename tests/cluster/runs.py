"""Whole small runs on the real learner: SAC with 16-wide networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agents.config import AgentConfig
from agents.policy import Policy
from agents.problem import Problem
from agents.sac import SACLearner
from cluster.assembly import make_collector, make_trainer
from cluster.config import ClusterConfig
from cluster.training.collect import Collector, CollectSpec
from cluster.training.driver import Trainer, TrainerParts
from cluster.training.limiter import UpdateLimiter
from cluster.training.recorder import Recorder
from cluster.training.schedule import Schedule
from envs.suite import TaskSuite
from mtrl_surgery.jacobian.diagnostics import DiagnosticsConfig
from mtrl_surgery.methods.registry import METHODS, make_method
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointStore
from mtrl_surgery.runs.folder import RunFolder

TINY = AgentConfig(hidden_sizes=[16, 16], batch_size=8, warmup_steps=40, updates_per_step=0.5)
SCHEDULE = Schedule(
    total_steps=150,
    chunk_steps=20,
    log_every=30,
    checkpoint_every=50,
    evaluate_every=60,
    evaluation_episodes=2,
    final_episodes=3,
    protocol="suite",
)


@dataclass
class Setup:
    suite: TaskSuite
    cluster: ClusterConfig = field(default_factory=lambda: ClusterConfig(kind="inline"))
    schedule: Schedule = SCHEDULE
    agent: AgentConfig = field(default_factory=lambda: TINY)
    method: str = "pcgrad"
    seed: int = 5
    copies: int = 2
    keep: int = 100


def make_learner(setup: Setup) -> SACLearner:
    config, suite = METHODS[setup.method].config(), setup.suite
    actor, critic = (make_method(config, len(suite.tasks), setup.seed + network) for network in range(2))
    return SACLearner(problem_of(suite), setup.agent, actor, critic, setup.seed, "cpu", DiagnosticsConfig(every=7))


def problem_of(suite: TaskSuite) -> Problem:
    return Problem(suite.tasks, suite.observation_dim, suite.action_dim, suite.action_mask_KA)


def build(setup: Setup, folder: RunFolder, collector: Collector | None = None) -> Trainer:
    """A trainer with the configured collector, or another one."""
    policy = partial(Policy, problem_of(setup.suite), setup.agent)
    agent = setup.agent
    if collector is None:
        collector = make_collector(CollectSpec(setup.suite, setup.copies, setup.seed, policy), setup.cluster)
    parts = TrainerParts(
        learner=make_learner(setup),
        collector=collector,
        limiter=UpdateLimiter(agent.updates_per_step, agent.warmup_steps, agent.warmup_burst),
        recorder=Recorder(folder, setup.suite.tasks),
        store=CheckpointStore(folder.checkpoints, setup.keep),
        schedule=setup.schedule,
    )
    return make_trainer(parts, setup.cluster)


def train(setup: Setup, out: Path, name: str) -> Path:
    """A whole run; returns its folder."""
    with RunFolder.create(out, name, {"seed": setup.seed}) as folder:
        build(setup, folder).run()
        return folder.path


def resume(setup: Setup, path: Path, checkpoint: Path | None = None) -> None:
    with RunFolder.open(path, writable=True) as folder:
        store = CheckpointStore(folder.checkpoints, setup.keep)
        found: Checkpoint | None = store.newest() if checkpoint is None else store.load(checkpoint)
        assert found is not None
        build(setup, folder).run(found)


def rows_of(path: Path) -> dict[str, bytes]:
    """What a sync run promises to the bit."""
    return {name: (path / f"{name}.jsonl").read_bytes() for name in ("metrics", "evaluations")}
