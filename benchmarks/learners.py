"""Check that N learners, each with its share of the batch, are one learner with all of it, for every method.

usage: python -m benchmarks learners [KEY=VALUE ...]

{keys}

Whole SAC updates in float64. The exit code is 1 if any method differs by more than the limit.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from agents.config import AgentConfig
from agents.problem import Problem
from agents.replay import Batch
from agents.sac import SACLearner
from benchmarks.timing import at_least_one, write_results
from benchmarks.variants import config_of, find_entry, with_variants
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.jacobian.sharding import Sharded, Whole
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from mtrl_surgery.runs.console import table

LIMIT = 1e-6
"""Largest difference that passes, as a share of the way that the parameters went."""
OBSERVATION, ACTION = 7, 3


@dataclass
class Arguments:
    """Options of `learners`."""

    learners: Annotated[list[int], "numbers of learners to compare with one"] = field(default_factory=lambda: [2, 3])
    methods: Annotated[list[str], "empty: all"] = field(default_factory=list)
    tasks: Annotated[int, "how many"] = 5
    batch: Annotated[int, "transitions a task, of all learners together"] = 12
    width: Annotated[int, "of each hidden layer"] = 16
    layers: Annotated[int, "hidden ones"] = 2
    updates: Annotated[int, "how many, before they are compared"] = 3
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


@dataclass
class Difference:
    """What N learners differ by from one, after some updates.

    Attributes:
        actor: |theta_N - theta_1| over the way that theta_1 went.
        critic: The same.
        temperature: Largest difference of the log temperatures.
    """

    actor: float
    critic: float
    temperature: float

    @property
    def met(self) -> bool:
        """Whether all are below the limit; NaN is not."""
        return all(difference <= LIMIT for difference in (self.actor, self.critic, self.temperature))


def main(words: Sequence[str]) -> int:
    """Compares in float64, for every method; 1 if any differs by more than the limit."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    for key in ("tasks", "batch", "width", "layers", "updates"):
        at_least_one(key, getattr(arguments, key))
    if not arguments.learners or min(arguments.learners) < 2:
        raise SettingsError(
            f"learners={arguments.learners} must be numbers of at least 2: one is what they are held to"
        )
    for learners in arguments.learners:
        if arguments.batch % learners:
            raise SettingsError(f"batch={arguments.batch} can't be shared out to learners={learners}")
    names = with_variants(dict.fromkeys(find_method(name).name for name in arguments.methods) or METHODS)
    found: dict[int, dict[str, Difference | str]] = {}
    for learners in dict.fromkeys(arguments.learners):
        print(f"{learners} learners: {len(names)} methods", file=sys.stderr)
        found[learners] = compare(arguments, names, learners)
    rows, met = [], True
    for name in names:
        entry = find_entry(name)
        row: list[Any] = [name, entry.needs, entry.origin]
        for differences in found.values():
            one = differences[name]
            met &= isinstance(one, str) or one.met
            row += ["-", "-"] if isinstance(one, str) else [f"{one.actor:.0e}", f"{one.critic:.0e}"]
        rows.append(row)
    columns = [f"{network}, {learners}" for learners in found for network in ("actor", "critic")]
    print(
        f"SAC in float64, {arguments.tasks} tasks, {arguments.batch} transitions a task, {arguments.updates} updates: "
        "how far N learners end from where one does, by the way it went"
    )
    print(table(["method", "needs", "origin", *columns], rows, numbers=range(3, 3 + len(columns))))
    refused = {name: one for name, one in next(iter(found.values())).items() if isinstance(one, str)}
    for name, reason in refused.items():
        print(f"{name} can't run here: {reason}")
    print(f"limit {LIMIT:g}: {'met by all' if met else 'NOT met'}")
    if arguments.json is not None:
        results = {
            n: {name: vars(d) if isinstance(d, Difference) else d for name, d in ds.items()} for n, ds in found.items()
        }
        write_results(Path(arguments.json), vars(arguments), {"limit": LIMIT, "differences": results})
    return 0 if met else 1


def compare(arguments: Arguments, names: list[str], learners: int) -> dict[str, Difference | str]:
    """Method -> what its learners differ by, or why it can't run."""
    return together(_compare, learners, (arguments, names))


def _compare(sharding: Whole, asked: tuple[Arguments, list[str]]) -> dict[str, Difference | str]:
    """In every process; the first also is the one learner that all are compared with."""
    torch.set_default_dtype(torch.float64)
    arguments, names = asked
    found: dict[str, Difference | str] = {}
    for name in names:
        try:
            mine = build_agent(arguments, name, sharding)
        except MethodError as error:  # some methods have no defaults to run with: the same in every process
            found[name] = str(error)
            continue
        whole = build_agent(arguments, name, None)
        start = {network: getattr(whole, network).parameters.vector_P.clone() for network in ("actor", "critic")}
        generator = torch.Generator().manual_seed(0)
        for _ in range(arguments.updates):
            batch, noise_2KBA = random_batch(arguments, generator)
            mine.step(*share(batch, noise_2KBA, sharding))
            if sharding.rank == 0:
                whole.step(batch, noise_2KBA)
        if sharding.rank == 0:
            found[name] = _difference(whole, mine, start)
    return found


class Sizes(Protocol):
    """The sizes of an agent and a batch."""

    tasks: int
    batch: int
    width: int
    layers: int


def build_agent(arguments: Sizes, name: str, sharding: Whole | None) -> SACLearner:
    """An agent of these sizes, in torch's default dtype.

    Raises:
        MethodError: the method has no defaults.
    """
    tasks = arguments.tasks
    problem = Problem(tuple(f"task{k}" for k in range(tasks)), OBSERVATION, ACTION, np.ones((tasks, ACTION)))
    config = AgentConfig(
        hidden_sizes=[arguments.width] * arguments.layers, batch_size=arguments.batch, replay_capacity=arguments.batch
    )
    methods = [make_method(config_of(name), tasks, network) for network in range(2)]
    agent = SACLearner(problem, config, methods[0], methods[1], 0, "cpu", sharding=sharding)
    for parameters in (agent.critic.parameters, agent.target):
        list(parameters.views().values())[-1].fill_(-10.0)  # losses above zero, which some methods ask for
    return agent


def random_batch(arguments: Sizes, generator: Any) -> tuple[Batch, Tensor]:
    """Transitions whose rewards differ between tasks, and the noise for the actions."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tasks, batch = arguments.tasks, arguments.batch
    scale_K1 = torch.logspace(0, 1, tasks)[:, None]
    return (
        Batch(
            normal(tasks, batch, OBSERVATION),
            normal(tasks, batch, ACTION).tanh(),
            normal(tasks, batch, OBSERVATION),
            normal(tasks, batch).abs() * scale_K1,
            torch.zeros(tasks, batch),
        ),
        normal(2, tasks, batch, ACTION),
    )


def share(batch: Batch, noise_2KBA: Tensor, sharding: Whole) -> tuple[Batch, Tensor]:
    """This learner's part of a joined batch."""
    own = slice(sharding.rank, None, sharding.size)
    return type(batch)(*(part_KB[:, own] for part_KB in batch)), noise_2KBA[:, :, own]


def _difference(whole: SACLearner, mine: SACLearner, start: dict[str, Tensor]) -> Difference:
    def relative(network: str) -> float:
        one, many = (getattr(agent, network).parameters.vector_P for agent in (whole, mine))
        return float((many - one).norm() / (one - start[network]).norm())

    apart = float((whole.log_temperature - mine.log_temperature).abs().max())
    return Difference(relative("actor"), relative("critic"), apart)


AnswerT = TypeVar("AnswerT")


def together(work: Callable[[Sharded, Any], AnswerT], learners: int, arguments: Any) -> AnswerT:
    """Calls a function in N processes that gloo joins over the loopback interface, one thread each.

    Args:
        work: Called with what joins the processes, and the arguments; it and its answer are pickled.
        learners: N, at least 1.
        arguments: For all of them.

    Returns:
        The first process's answer.

    Raises:
        RuntimeError: a process failed; its traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_join, args=(work, rank, learners, arguments, folder, answers))
            for rank in range(learners)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        if any(codes):
            raise RuntimeError(f"of {learners} learners' processes some failed: exit codes {codes}")
        answer: AnswerT = answers.get()
    return answer


def _join(work: Any, rank: int, learners: int, arguments: Any, folder: str, answers: Any) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # nothing listens beyond this machine

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=learners)
    assert dist.group.WORLD is not None
    answer = work(Sharded(dist.group.WORLD), arguments)
    if rank == 0:
        answers.put(answer)
    dist.barrier()
    dist.destroy_process_group()
