"""A run's parts from its settings: the one place that knows how the rooms fit together."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from agents.config import AgentConfig
from agents.policy import Policy, actor_sizes, critic_sizes
from agents.problem import Problem
from agents.sac import SACLearner
from agents.streams import Stream, stream_seed
from cluster.assembly import make_collector, make_session, make_trainer
from cluster.config import ClusterFailure
from cluster.training.collect import CollectSpec
from cluster.training.driver import Trainer, TrainerParts
from cluster.training.limiter import UpdateLimiter
from cluster.training.recorder import Recorder
from cluster.training.schedule import Schedule
from cluster.workers.gauges import Gauges
from envs.build import build_suite
from envs.metaworld_suite import TASK_LISTS
from envs.suite import TaskSuite
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.devices import check_memory, resolve_device, resolve_threads
from mtrl_surgery.jacobian.sharding import Whole
from mtrl_surgery.methods.base import Method
from mtrl_surgery.methods.plugins import load
from mtrl_surgery.methods.registry import make_method
from mtrl_surgery.runs.checkpoint import Checkpoint, CheckpointError, CheckpointStore, check_state
from mtrl_surgery.runs.console import Progress
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.shapes import COUNT, MAPPING, NAMES, Kind, check
from mtrl_surgery.runs.sinks import make_sinks
from mtrl_surgery.settings import TrainSettings, method_label

if TYPE_CHECKING:
    from cluster.training.contracts import Learner
    from cluster.workers.session import RaySession

NETWORKS = ("actor", "critic")
"""Networks with a method of their own; the place here is the key of the METHOD stream."""


def resolve(settings: TrainSettings) -> TrainSettings:
    """Settings with nothing left to the machine: device, threads, protocol and tasks as the run will have them.

    Raises:
        EnvError: the environments cannot be built like that.
        DeviceError: the device is not there.
        SettingsError: `env.tasks` are not those of the set that `env.name` promises.
    """
    suite, env = build_suite(settings.env), settings.env
    named = TASK_LISTS.get(env.name)
    if env.kind == "metaworld" and named is not None and suite.tasks != named:
        raise SettingsError(
            f"env.tasks={list(suite.tasks)} are not the tasks of env.name={env.name}; "
            f"for tasks of your own: env=custom env.tasks=[...]"
        )
    protocol = settings.evaluation.protocol or ("metaworld_plus" if env.kind == "metaworld" else "suite")
    return dataclasses.replace(
        settings,
        env=dataclasses.replace(env, tasks=list(suite.tasks)),
        evaluation=dataclasses.replace(settings.evaluation, protocol=protocol),
        device=resolve_device(settings.device),
        threads=resolve_threads(settings.threads, update_flops(build_problem(suite), agent_config(settings))),
    )


def check_room(settings: TrainSettings) -> None:
    """Refuse a run that this machine has no memory for.

    Args:
        settings: Resolved ones.

    Raises:
        DeviceError: Names the setting that takes most, and the sizes.
    """
    agent, env, suite = agent_config(settings), settings.env, build_suite(settings.env)
    problem = build_problem(suite)
    tasks, learners = problem.num_tasks, settings.learner.num
    actor, critic = (
        sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes(problem, agent)))
        for sizes in (actor_sizes, critic_sizes)
    )
    transition = 4 * (2 * problem.observation_dim + problem.action_dim + 2)
    # Weights, targets, two moments of Adam, the direction, and the gradients of every task.
    networks = 4 * (5 + tasks) * (actor + agent.critics * critic)
    # The backward pass keeps these of one network at a time.
    activations = 4 * tasks * agent.batch_size * sum(agent.hidden_sizes) * agent.critics
    chunk = 2 * transition * tasks * env.copies * settings.cluster.chunk_steps
    check_memory(
        {
            f"agent.replay_capacity={agent.replay_capacity}": transition * tasks * agent.replay_capacity,
            f"agent.hidden_sizes={agent.hidden_sizes} with agent.critics={agent.critics}": networks * learners,
            f"agent.batch_size={agent.batch_size}": activations + transition * tasks * agent.batch_size,
            f"env.copies={env.copies} with cluster.chunk_steps={settings.cluster.chunk_steps}": chunk,
        },
        settings.device,
    )


def update_flops(problem: Problem, config: AgentConfig) -> float:
    """Floating-point operations of one SAC update, those of the matrix products."""
    actor, critic = (
        sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes(problem, config)))
        for sizes in (actor_sizes, critic_sizes)
    )
    # In units of a forward pass, a backward being two: the actor acts on the next observations, then learns (1 + 3);
    # the critics give targets, learn, and hand the actor its gradient by their inputs (1 + 3 + 2).
    products = 4 * actor + 6 * config.critics * critic
    return 2.0 * products * problem.num_tasks * config.batch_size


def build_trainer(settings: TrainSettings, run: RunFolder, checkpoint: Checkpoint | None = None) -> Trainer:
    """A trainer that is ready to `run(checkpoint)`; it closes everything but the run folder itself.

    Args:
        settings: resolved ones.
        run: where it writes.
        checkpoint: where it will go on, for the console and the sinks.

    Raises:
        EnvError, AgentError, MethodError, ClusterError, RunError: an option makes no sense, or Ray or a sink is not
            to be had.
    """
    torch.set_num_threads(settings.threads or resolve_threads(None))
    suite = build_suite(settings.env)
    evaluation, agent = settings.evaluation, settings.agent
    schedule = Schedule(
        total_steps=settings.total_steps,
        chunk_steps=settings.cluster.chunk_steps,
        log_every=settings.log_every,
        checkpoint_every=settings.checkpoint.every,
        evaluate_every=evaluation.every,
        evaluation_episodes=evaluation.episodes,
        final_episodes=evaluation.final_episodes,
        protocol=evaluation.protocol or "metaworld_plus",
    )
    limiter = UpdateLimiter(agent.updates_per_step, agent.warmup_steps, agent.warmup_burst)
    about = made_with(settings, suite)
    if checkpoint is not None and checkpoint.about.get("spaces") != about["spaces"]:
        raise CheckpointError(f"{checkpoint.path} was trained on other spaces than the environments have now")
    start, updates = (checkpoint.step, checkpoint.state["limiter"]["updates"]) if checkpoint else (0, 0)
    sinks = make_sinks(settings.logger, run, purge_step=start if checkpoint else None)
    warmup = agent.warmup_steps if agent.warmup_steps < settings.total_steps and agent.updates_per_step else 0
    shows = settings.logger.console
    progress = Progress(settings.total_steps, start, updates, warmup=warmup) if shows else None
    store = CheckpointStore(run.checkpoints, settings.checkpoint.keep, about)
    try:
        session = make_session(settings.cluster, len(suite.tasks))
    except ClusterFailure as error:
        if settings.cluster.kind != "local" or settings.learner.num > 1:
            raise
        raise ClusterFailure(f"{error} (cluster=inline does without Ray)") from error
    try:
        learner = build_learners(settings, suite, session)
        collector = make_collector(build_collect_spec(settings, suite), settings.cluster, session)
    except BaseException:
        if session is not None:
            session.close()
        raise
    method = method_label(settings)
    gauges = (
        None
        if session is None
        else Gauges(run.path.name, method, len(suite.tasks), settings.env.copies, agent.replay_capacity)
    )
    recorder = Recorder(run, suite.tasks, sinks, progress, gauges)
    return make_trainer(TrainerParts(learner, collector, limiter, recorder, store, schedule), settings.cluster)


def build_learners(settings: TrainSettings, suite: TaskSuite, session: RaySession | None) -> Learner:
    """The agent in this process, or one in each of `learner.num` processes.

    Raises:
        ClusterError: the cluster has no room for them.
    """
    if session is None or settings.learner.num == 1:
        return build_learner(settings, suite)
    from cluster.workers.learners import LearnerGroup  # imports Ray, which must not happen before its session is set up

    factory = partial(build_learner, settings, suite)
    threads = settings.threads or resolve_threads(None)
    return LearnerGroup(factory, settings.learner, session, settings.device, threads)


def build_learner(settings: TrainSettings, suite: TaskSuite, sharding: Whole | None = None) -> SACLearner:
    """The agent, on the run's device, with a method instance each for actor and critic; or one of several alike."""
    load(settings.plugins)  # a learner may be another process
    actor_method, critic_method = (build_method(settings, network, len(suite.tasks)) for network in NETWORKS)
    return SACLearner(
        build_problem(suite),
        agent_config(settings),
        actor_method,
        critic_method,
        settings.seed,
        settings.device,
        settings.diagnostics,
        sharding,
    )


def build_method(settings: TrainSettings, network: str, num_tasks: int) -> Method[Any]:
    """A fresh method for the actor or the critic, with a stream of its own."""
    seed = stream_seed(settings.seed, Stream.METHOD, NETWORKS.index(network))
    return make_method(settings.method_of[network], num_tasks, seed)


def build_problem(suite: TaskSuite) -> Problem:
    """The suite as the agent sees it."""
    return Problem(suite.tasks, suite.observation_dim, suite.action_dim, suite.action_mask_KA)


def made_with(settings: TrainSettings, suite: TaskSuite) -> dict[str, Any]:
    """The facts of a run in each of its checkpoints: all settings, and the spaces, which only the environments know."""
    sizes = [int(size) for size in suite.action_mask_KA.sum(axis=1)]
    spaces = {"tasks": list(suite.tasks), "observation": suite.observation_dim, "actions": sizes}
    return {"config": settings.to_mapping(), "spaces": spaces}


def trained_problem(settings: TrainSettings, checkpoint: Checkpoint) -> Problem:
    """The tasks that a checkpoint's policy was trained on. Nothing of the environments is built to know that.

    Args:
        settings: The run's.
        checkpoint: One of its checkpoints.

    Raises:
        CheckpointError: It has no policy, or one of another size than its spaces and its agent make.
    """
    check_state(checkpoint, {"policy_weights": np.ndarray})
    problem, config = _problem_of(checkpoint), agent_config(settings)
    sizes = actor_sizes(problem, config)
    normalised = 2 * problem.observation_dim * (config.observation_normalization == "warmup")
    expected = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes)) + normalised
    weights_P = checkpoint.state["policy_weights"]
    if weights_P.shape != (expected,) or not np.isfinite(weights_P).all():
        raise CheckpointError(f"{checkpoint.path}: its policy is none of {expected:,} finite weights")
    return problem


def _problem_of(checkpoint: Checkpoint) -> Problem:
    sizes = Kind(lambda value: type(value) is list and all(map(COUNT.holds, value)), "a list of whole numbers")
    where, shape = f"{checkpoint.path}: its spaces", {"tasks": NAMES, "observation": COUNT, "actions": sizes}
    check(checkpoint.about, {"spaces": MAPPING}, str(checkpoint.path), ("spaces",))
    spaces = checkpoint.about["spaces"]
    check(spaces, shape, where, shape)
    actions, most = spaces["actions"], len(checkpoint.state["policy_weights"].ravel())
    if not actions or len(actions) != len(spaces["tasks"]) or max(spaces["observation"], *actions) > most:
        raise CheckpointError(f"{where} are not those of its policy")
    action_mask_KA = (np.arange(max(actions)) < np.array(actions)[:, None]).astype(np.float32)
    return Problem(tuple(spaces["tasks"]), spaces["observation"], max(actions), action_mask_KA)


def agent_config(settings: TrainSettings) -> AgentConfig:
    """The agent's options; `env.one_hot` overrules the preset where it is set."""
    if settings.env.one_hot is None:
        return settings.agent
    return dataclasses.replace(settings.agent, one_hot=settings.env.one_hot)


def build_collect_spec(settings: TrainSettings, suite: TaskSuite) -> CollectSpec:
    """The order that rollout workers get; it is pickled to them."""
    policy_factory = partial(Policy, build_problem(suite), agent_config(settings))
    return CollectSpec(suite, settings.env.copies, settings.seed, policy_factory)
